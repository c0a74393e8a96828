//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn password_of(&self, user: UserId) -> Result<Option<String>, StoreError> {
        todo!()
    }

    pub(crate) async fn password_guard(
        &self,
        guards: Vec<Guard>,
        now: Timestamp,
    ) -> Result<GuardOutcome, StoreError> {
        todo!()
    }

    pub(crate) async fn guards_clear(&self, keys: Vec<[u8; 32]>) -> Result<(), StoreError> {
        todo!()
    }

    pub(crate) async fn login_with_password(
        &self,
        draft: PasswordLoginDraft,
    ) -> Result<PasswordLogin, StoreError> {
        todo!()
    }

    pub(crate) async fn password_set(
        &self,
        user: UserId,
        checked: Option<String>,
        hash: String,
        except: Option<SessionId>,
        now: Timestamp,
    ) -> Result<PasswordSet, StoreError> {
        todo!()
    }

    pub(crate) async fn password_reset(&self, draft: ResetDraft) -> Result<ResetOutcome, StoreError> {
        todo!()
    }

    pub(crate) async fn reset_token_put(&self, user: UserId, token: ResetToken) -> Result<bool, StoreError> {
        todo!()
    }

    pub(crate) async fn reset_token_fits(
        &self,
        user: UserId,
        mac: [u8; 32],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        todo!()
    }

    pub(crate) async fn password_reset_by_token(
        &self,
        user: UserId,
        mac: [u8; 32],
        hash: String,
        now: Timestamp,
    ) -> Result<PasswordSet, StoreError> {
        todo!()
    }

    pub(crate) async fn guards_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        todo!()
    }
}
