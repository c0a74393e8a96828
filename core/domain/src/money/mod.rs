//! Money: amounts, payments by gateways, and wallets.
//!
//! A payment brings money from a gateway into a wallet, or settles an order. API keys and staff spend from wallets.
//! Invariants: an amount is a whole number of rial; a payment credits the ledger at most once, and only after the
//! gateway's own confirmation; a wallet is never below zero.
//!
//! Not here: gateway protocols (plugins) and the ledger's records (the store). Reading order: `amount`, `foreign`,
//! `payment`, `wallet`, `alone`, `correction`.

pub mod alone;
mod amount;
pub mod correction;
mod foreign;
pub mod payment;
mod test_bank;
pub mod wallet;

pub use amount::{Currency, Money, MoneyError, currency_name, format, to_json};
pub use foreign::{ExactRial, ForeignAmountError, WholeRial};
pub use test_bank::{BankDecision, BankSession, BankState, TestBank};
