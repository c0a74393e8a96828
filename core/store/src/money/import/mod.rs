//! Money that comes from another program: opening balances and payments for the record.
//!
//! Invariants: the money of an imported payment is inside its user's opening balance, so it has no posting of its own
//! and nothing about it changes any more; an open payment is not one of them, it is settled like every other. A wallet
//! is never negative: what a user owed is a debt with an account of its own.

pub(crate) mod postgres;
pub(crate) mod sled;

use crate::engine::{Engine, boxed, on_engine};
use crate::{Payment, Store, StoreError, Timestamp, UserId};

/// What a user had, or owed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpeningBalance {
    /// Names the posting: `import:wallet:7`. Unique.
    pub key: String,
    pub user: UserId,
    /// Rial; negative for a debt. Not 0.
    pub amount: i64,
    pub at: Timestamp,
}

impl Store {
    /// Posts opening balances against [`Account::Import`](crate::Account::Import). A key that was posted before is not
    /// posted again. Returns the number of postings.
    ///
    /// # Errors
    ///
    /// [`StoreError::Record`] when a balance would leave 64 bits; those of every change: see [`StoreError`].
    #[boxed]
    pub async fn import_balances(&self, balances: Vec<OpeningBalance>) -> Result<usize, StoreError> {
        on_engine!(self, import_balances(balances).await)
    }

    /// Stores payments under their ids. A reference that another payment of the gateway has stays that payment's.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    #[boxed]
    pub async fn import_payments(&self, payments: Vec<Payment>) -> Result<(), StoreError> {
        on_engine!(self, import_payments(payments).await)
    }
}
