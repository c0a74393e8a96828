//! Money: payments, wallets and the ledger behind them.

pub(crate) mod correction;
pub(crate) mod find;
pub(crate) mod import;
pub(crate) mod ledger;
pub(crate) mod order;
pub(crate) mod outbox;
pub(crate) mod payment;
pub(crate) mod refund;
pub(crate) mod reversal;
pub(crate) mod spend;

pub(crate) mod moving;
pub(crate) mod once;
