//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn once_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        todo!()
    }
}
