//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn spend_create(&self, draft: SpendDraft) -> Result<SpendMade, StoreError> {
        todo!()
    }

    pub(crate) async fn spend_capture(
        &self,
        id: SpendId,
        amount: Option<u64>,
        now: Timestamp,
    ) -> Result<SpendEnded, StoreError> {
        todo!()
    }

    pub(crate) async fn spend_void(&self, id: SpendId, now: Timestamp) -> Result<SpendEnded, StoreError> {
        todo!()
    }

    pub(crate) async fn holds_expire(&self, now: Timestamp, limit: usize) -> Result<Vec<Spend>, StoreError> {
        todo!()
    }

    pub(crate) async fn holds(&self, limit: usize) -> Result<Vec<Spend>, StoreError> {
        todo!()
    }

    pub(crate) async fn spend_get(&self, id: SpendId) -> Result<Option<Spend>, StoreError> {
        todo!()
    }

    pub(crate) async fn spends_of(
        &self,
        user: UserId,
        before: Option<SpendId>,
        limit: usize,
    ) -> Result<Vec<Spend>, StoreError> {
        todo!()
    }
}
