//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn import_users(&self, users: Vec<ImportedUser>) -> Result<(), StoreError> {
        todo!()
    }

    pub(crate) async fn user_merged_into(&self, old: UserId) -> Result<Option<UserId>, StoreError> {
        todo!()
    }
}
