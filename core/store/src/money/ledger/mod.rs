//! The ledger: double entry in whole rial, append-only.
//!
//! A posting moves money between accounts and sums to zero. It has a unique key (`payment:7`), so each event is
//! posted at most once. Each posting carries the hash of the one before it in its chain, which is the chain of all
//! postings on sled and that of the user's postings on PostgreSQL. Each of its entries carries the account's balance
//! after it and the number of the account's previous posting. Balances are stored beside the postings and can be
//! recomputed from them: [`Store::ledger_verify`] recomputes everything and names the first difference.
//!
//! On sled an account's history is a linked list, walked backwards without an index, and postings are stored in blocks
//! of `BLOCK_POSTINGS`, because the engine's work is per key and not per byte: the number of the first one, then each
//! posting's length (u32, big-endian) and its record. A posting with its own key comes from a version before blocks
//! and is read in place.
//!
//! Invariants: a user's wallet and held money are never negative. Arithmetic that would overflow refuses the posting.
//! A refused posting writes nothing. Posting is part of larger changes (see `payment` and `spend`), so a state and
//! its money change together or not at all.

pub(crate) mod postgres;
mod rules;
pub(crate) mod sled;

use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use self::rules::{
    Posted, capture_key, check_legs, correction_key, payment_key, refund_key, refund_moved_key,
    refund_undone_key, signed, spend_key, void_key,
};
use crate::engine::{Engine, boxed, on_engine};
use crate::{Store, StoreError, Timestamp, UserId};

/// An account of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Account {
    /// Money a user can spend. Never negative.
    Wallet(UserId),
    /// A user's money set aside until it is captured or voided. Never negative.
    Held(UserId),
    /// Earnings of the shop.
    Merchant,
    /// What a gateway took from payers and owes to the shop, as a negative balance: the other side of every payment.
    Gateway(String),
    /// What users had before an import, counted downwards: the other side of every opening balance.
    Import,
    /// What a user owed at an import, counted downwards.
    Debt(UserId),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Account::Wallet(user) => write!(f, "wallet of user {user}"),
            Account::Held(user) => write!(f, "held money of user {user}"),
            Account::Merchant => f.write_str("merchant"),
            Account::Gateway(name) => write!(f, "gateway {name}"),
            Account::Import => f.write_str("import"),
            Account::Debt(user) => write!(f, "debt of user {user}"),
        }
    }
}

/// One account's part in a posting. Amounts are rial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub account: Account,
    /// Positive: to the account. Never 0.
    pub amount: i64,
    /// The account's balance after this entry.
    pub balance: i64,
    /// The account's previous posting; 0 for the first.
    pub previous: u64,
}

/// One movement of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    /// From 1. Without a gap on sled; on PostgreSQL it rises within a user's chain.
    pub number: u64,
    /// What it books: `payment:7`, `spend:3`. Unique.
    pub key: String,
    pub at: Timestamp,
    pub entries: Vec<Entry>,
    /// The hash of the previous posting of the chain; zeros for the first.
    pub previous_hash: [u8; 32],
    /// BLAKE3 over what the posting is; see the engine.
    pub hash: [u8; 32],
}

/// A line of a user's wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalletEntry {
    /// The posting's number, which also identifies the line.
    pub number: u64,
    pub key: String,
    /// The amount was set aside and not spent.
    pub is_hold: bool,
    pub at: Timestamp,
    /// Rial; negative for outgoing money.
    pub amount: i64,
    /// Rial, after this line.
    pub balance: i64,
}

/// A user's balance in rial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalletBalance {
    pub available: u64,
    pub held: u64,
}

/// The result of a full ledger check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerReport {
    pub postings: u64,
    pub accounts: u64,
    pub payments: u64,
    /// Balance of all users together, held money included, in rial.
    pub users_total: i64,
    /// The hash of the last posting; on PostgreSQL the hash of the ends of all users' chains. Keep it elsewhere, and a
    /// later check can prove that nothing before it changed.
    pub head: [u8; 32],
    /// The first inconsistency.
    pub difference: Option<String>,
}

impl Store {
    /// A user's balance: two look-ups, whatever the length of the history.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn wallet_balance(&self, user: UserId) -> Result<WalletBalance, StoreError> {
        on_engine!(self, read wallet_balance(user))
    }

    /// An account's balance in rial; 0 for an unused one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn account_balance(&self, account: &Account) -> Result<i64, StoreError> {
        on_engine!(self, read account_balance(account))
    }

    /// The lines of a user's wallet, newest first, at most `limit`; with `from`, backwards from this posting. A
    /// `from` that never moved this wallet returns none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn wallet_entries(
        &self,
        user: UserId,
        from: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<WalletEntry>, Option<u64>), StoreError> {
        on_engine!(self, read wallet_entries(user, from, limit))
    }

    /// A posting by its key.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn posting_by_key(&self, key: &str) -> Result<Option<Posting>, StoreError> {
        on_engine!(self, read posting_by_key(key))
    }

    /// Posts from the merchant to a user's wallet, for measuring the ledger alone; false when the key is a duplicate.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn ledger_probe(
        &self,
        key: String,
        user: UserId,
        amount: u64,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        on_engine!(self, ledger_probe(key, user, amount, at).await)
    }

    /// Recomputes the whole ledger and compares it with all derived data: the hash chain, the balance of each
    /// account, the keys, the payments and the spends. Reads everything; use it on a store without concurrent writes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`]. An unreadable record is reported as the difference.
    #[boxed]
    pub async fn ledger_verify(&self) -> Result<LedgerReport, StoreError> {
        on_engine!(self, read ledger_verify())
    }
}
