//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn reversal_decide(
        &self,
        payment: PaymentId,
        decision: ReversalDecision,
        by: UserId,
        now: Timestamp,
    ) -> Result<ReversalDecided, StoreError> {
        todo!()
    }

    pub(crate) async fn reversal_get(&self, payment: PaymentId) -> Result<Option<Reversal>, StoreError> {
        todo!()
    }

    pub(crate) async fn reversals_open(&self, limit: usize) -> Result<Vec<Reversal>, StoreError> {
        todo!()
    }

    pub(crate) async fn reversals_undecided(&self, limit: usize) -> Result<Vec<Reversal>, StoreError> {
        todo!()
    }

    pub(crate) async fn reversal_step(
        &self,
        payment: PaymentId,
        step: ReversalStep,
        now: Timestamp,
    ) -> Result<Option<Reversal>, StoreError> {
        todo!()
    }
}
