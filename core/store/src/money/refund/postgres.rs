//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn payment_refund(&self, draft: RefundDraft) -> Result<PaymentRefunded, StoreError> {
        todo!()
    }

    pub(crate) async fn refunds_find(
        &self,
        query: &RefundQuery,
        before: Option<u64>,
        limit: usize,
        looks: usize,
    ) -> Result<RefundsFound, StoreError> {
        todo!()
    }

    pub(crate) async fn payment_refunds(&self, id: PaymentId) -> Result<Vec<Refund>, StoreError> {
        todo!()
    }
}
