//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn user_get(&self, id: UserId) -> Result<Option<User>, StoreError> {
        todo!()
    }

    pub(crate) async fn user_by_name(&self, name: &str) -> Result<Option<User>, StoreError> {
        todo!()
    }

    pub(crate) async fn user_by_look(&self, look: &str) -> Result<Option<User>, StoreError> {
        todo!()
    }

    pub(crate) async fn looks_enter(
        &self,
        look: fn(&str) -> String,
        limit: usize,
    ) -> Result<LooksStep, StoreError> {
        todo!()
    }

    pub(crate) async fn user_by_identity(
        &self,
        group: u32,
        number: &str,
    ) -> Result<Option<User>, StoreError> {
        todo!()
    }

    pub(crate) async fn users_list(
        &self,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<User>, StoreError> {
        todo!()
    }

    pub(crate) async fn user_register(&self, draft: UserDraft) -> Result<UserMade, StoreError> {
        todo!()
    }

    pub(crate) async fn user_update(
        &self,
        id: UserId,
        change: UserChange,
    ) -> Result<Option<User>, StoreError> {
        todo!()
    }

    pub(crate) async fn number_add(&self, draft: NumberDraft) -> Result<NumberAdded, StoreError> {
        todo!()
    }

    pub(crate) async fn user_set_rights(
        &self,
        id: UserId,
        rights: Rights,
    ) -> Result<Option<User>, StoreError> {
        todo!()
    }

    pub(crate) async fn user_set_active(&self, id: UserId, active: bool) -> Result<bool, StoreError> {
        todo!()
    }
}
