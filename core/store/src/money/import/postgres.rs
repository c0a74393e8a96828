//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn import_balances(&self, balances: Vec<OpeningBalance>) -> Result<usize, StoreError> {
        todo!()
    }

    pub(crate) async fn import_payments(&self, payments: Vec<Payment>) -> Result<(), StoreError> {
        todo!()
    }
}
