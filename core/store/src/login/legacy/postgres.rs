//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn legacy_session(
        &self,
        user: UserId,
        token: u128,
    ) -> Result<Option<SessionId>, StoreError> {
        todo!()
    }

    pub(crate) async fn legacy_session_open(&self, draft: LegacyDraft) -> Result<LegacyOpened, StoreError> {
        todo!()
    }

    pub(crate) async fn legacy_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        todo!()
    }
}
