//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn wallet_balance(&self, user: UserId) -> Result<WalletBalance, StoreError> {
        todo!()
    }

    pub(crate) async fn account_balance(&self, account: &Account) -> Result<i64, StoreError> {
        todo!()
    }

    pub(crate) async fn wallet_entries(
        &self,
        user: UserId,
        from: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<WalletEntry>, Option<u64>), StoreError> {
        todo!()
    }

    pub(crate) async fn posting_by_key(&self, key: &str) -> Result<Option<Posting>, StoreError> {
        todo!()
    }

    pub(crate) async fn ledger_probe(
        &self,
        key: String,
        user: UserId,
        amount: u64,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        todo!()
    }

    pub(crate) async fn ledger_verify(&self) -> Result<LedgerReport, StoreError> {
        todo!()
    }
}
