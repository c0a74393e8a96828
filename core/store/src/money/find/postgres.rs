//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn payments_find(
        &self,
        query: &PaymentQuery,
        before: Option<PaymentId>,
        limit: usize,
        looks: usize,
    ) -> Result<PaymentsFound, StoreError> {
        todo!()
    }
}
