//! The ledger: double entry in whole rial, appended to and never changed.
//!
//! A posting moves money between accounts and sums to zero. It has a unique key (`payment:7`), so that what it
//! stands for happens at most once. Each posting carries the hash of the one before it, and each of its entries
//! the account's balance after it and the number of the posting that moved the account before: the history of an
//! account is a list that is walked backwards, without an index of its own. Balances are kept beside the postings
//! and are provable from them: [`Store::ledger_verify`] recomputes everything and names the first difference.
//!
//! Postings are kept in blocks of [`BLOCK_POSTINGS`], because the engine's work is per key and not per byte: the
//! number of the first one, then each posting's length (u32, big-endian) and its record. A posting with a key of
//! its own is from a version before blocks and read where it is.
//!
//! Invariants: a user's wallet and held money are never negative; arithmetic that would overflow refuses the
//! posting; a refused posting writes nothing. Posting is a part of larger changes (see `payment` and `spend`), so
//! that a state and the money it stands for change together or not at all.

pub(crate) mod sled;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, on_engine};
use crate::{Store, StoreError, Timestamp, UserId};

/// Where money is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Account {
    /// What a user can spend. Never negative.
    Wallet(UserId),
    /// What is set aside of a user's money until it is captured or voided. Never negative.
    Held(UserId),
    /// What the shop earned.
    Merchant,
    /// What a gateway took from payers and owes to the shop, counted downwards: the other side of every payment.
    Gateway(String),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Account::Wallet(user) => write!(f, "wallet of user {user}"),
            Account::Held(user) => write!(f, "held money of user {user}"),
            Account::Merchant => f.write_str("merchant"),
            Account::Gateway(name) => write!(f, "gateway {name}"),
        }
    }
}

/// One account's part in a posting. Amounts are rial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub account: Account,
    /// Positive: to the account. Never 0.
    pub amount: i64,
    /// The account's balance with this entry.
    pub balance: i64,
    /// The posting that moved the account before; 0 when this is the first.
    pub previous: u64,
}

/// One movement of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    /// From 1, without a gap.
    pub number: u64,
    /// What it stands for: `payment:7`, `spend:3`. Unique.
    pub key: String,
    pub at: Timestamp,
    pub entries: Vec<Entry>,
    /// The hash of the posting before it; zeros for the first.
    pub previous_hash: [u8; 32],
    /// BLAKE3 over everything above.
    pub hash: [u8; 32],
}

/// A line of a user's wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalletEntry {
    /// The posting's number, which also names the line.
    pub number: u64,
    pub key: String,
    pub at: Timestamp,
    /// Rial; negative when it went out.
    pub amount: i64,
    /// Rial, with this line.
    pub balance: i64,
}

/// What a user has, in rial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalletBalance {
    pub available: u64,
    pub held: u64,
}

/// What a whole check of the ledger found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerReport {
    pub postings: u64,
    pub accounts: u64,
    pub payments: u64,
    /// What all users together have, held money included, in rial.
    pub users_total: i64,
    /// The hash of the last posting: keep it elsewhere, and a later check can show that nothing before it changed.
    pub head: [u8; 32],
    /// The first thing that is not as the rest says it must be.
    pub difference: Option<String>,
}

impl Store {
    /// What a user has: two look-ups, however long the history.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn wallet_balance(&self, user: UserId) -> Result<WalletBalance, StoreError> {
        on_engine!(self, read wallet_balance(user))
    }

    /// An account's balance in rial; 0 for one that was never used.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn account_balance(&self, account: &Account) -> Result<i64, StoreError> {
        on_engine!(self, read account_balance(account))
    }

    /// The lines of a user's wallet, newest first, at most `limit`; with `from`, those from this posting on
    /// backwards. A `from` that never moved this wallet gives none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
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
    pub async fn posting_by_key(&self, key: &str) -> Result<Option<Posting>, StoreError> {
        on_engine!(self, read posting_by_key(key))
    }

    /// Makes one posting from the merchant to a user's wallet, for measuring the ledger alone; false when the key
    /// was used before.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn ledger_probe(
        &self,
        key: String,
        user: UserId,
        amount: u64,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        on_engine!(self, ledger_probe(key, user, amount, at).await)
    }

    /// Recomputes the whole ledger and compares it with everything that is kept beside it: the chain of hashes,
    /// the balance of each account, the keys, the payments and the spends. Reads everything; meant for a store
    /// that nothing else writes to meanwhile.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`]. What cannot be understood is the report's difference.
    pub async fn ledger_verify(&self) -> Result<LedgerReport, StoreError> {
        on_engine!(self, read ledger_verify())
    }
}
