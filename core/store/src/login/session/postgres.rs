//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn session_gate_of_token(
        &self,
        user: UserId,
        session: SessionId,
        binding: Option<u64>,
        now: Timestamp,
    ) -> Result<SessionGate, StoreError> {
        todo!()
    }

    pub(crate) async fn session_gate(
        &self,
        user: UserId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<SessionGate, StoreError> {
        todo!()
    }

    pub(crate) async fn sessions_before(
        &self,
        before: Option<(UserId, SessionId)>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        todo!()
    }

    pub(crate) async fn session_get(
        &self,
        user: UserId,
        id: SessionId,
    ) -> Result<Option<Session>, StoreError> {
        todo!()
    }

    pub(crate) async fn sessions_of(
        &self,
        user: UserId,
        before: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        todo!()
    }

    pub(crate) async fn session_touch_many(
        &self,
        touches: Vec<(UserId, SessionId, Timestamp)>,
    ) -> Result<usize, StoreError> {
        todo!()
    }

    pub(crate) async fn refresh_rotate(&self, draft: RefreshDraft) -> Result<RefreshOutcome, StoreError> {
        todo!()
    }

    pub(crate) async fn session_revoke(&self, user: UserId, id: SessionId) -> Result<bool, StoreError> {
        todo!()
    }

    pub(crate) async fn sessions_revoke_all(
        &self,
        user: UserId,
        except: Option<SessionId>,
    ) -> Result<Vec<SessionId>, StoreError> {
        todo!()
    }

    pub(crate) async fn sessions_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        todo!()
    }
}
