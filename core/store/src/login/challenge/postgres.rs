//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn challenge_open(&self, draft: ChallengeDraft) -> Result<ChallengeOpened, StoreError> {
        todo!()
    }

    pub(crate) async fn challenge_pending(
        &self,
        number: &str,
        from: u64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        todo!()
    }

    pub(crate) async fn accounts_of_number(&self, number: &str) -> Result<Vec<UserId>, StoreError> {
        todo!()
    }

    pub(crate) async fn challenge_release(&self, number: &str, id: u64) -> Result<bool, StoreError> {
        todo!()
    }

    pub(crate) async fn challenge_resend_at(
        &self,
        number: &str,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        todo!()
    }

    pub(crate) async fn challenge_forget(&self, number: &str) -> Result<bool, StoreError> {
        todo!()
    }

    pub(crate) async fn challenge_allow_resend(
        &self,
        number: &str,
        id: u64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        todo!()
    }

    pub(crate) async fn login_with_challenge(&self, draft: LoginDraft) -> Result<LoginOutcome, StoreError> {
        todo!()
    }

    pub(crate) async fn challenges_purge(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<PurgeStep, StoreError> {
        todo!()
    }
}
