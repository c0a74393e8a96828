//! Spending from a wallet: at once, or held first and then captured or voided.
//!
//! A spend moves Held -> Captured | Voided | Expired, or is Captured from the start, never back. Invariants: state and
//! money change together. A hold is captured once, for its amount or less, and the rest is returned in the same
//! posting. No spend takes more than the wallet holds.

pub(crate) mod postgres;
pub(crate) mod rules;
pub(crate) mod sled;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, boxed, on_engine};
use crate::money::once::Once;
use crate::{PaymentId, SpendId, Store, StoreError, Timestamp, UserId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SpendState {
    Held,
    Captured,
    Voided,
    /// Held money that went back, because nobody captured it in time.
    Expired,
}

#[derive(Debug, Clone)]
pub struct SpendDraft {
    pub user: UserId,
    /// Rial, 1 to 2^63 - 1.
    pub amount: u64,
    /// Hold the money only, until it is captured or voided.
    pub hold: bool,
    /// When held money goes back by itself.
    pub expires_at: Option<Timestamp>,
    /// The client's id of what is paid for; may be empty.
    pub order: String,
    /// Refuse a spend of an order that has one, unless that one was given back, or that a payment paid without charging
    /// the wallet.
    pub unique_order: bool,
    pub description: String,
    pub now: Timestamp,
    pub once: Option<Once>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spend {
    pub id: SpendId,
    pub user: UserId,
    pub state: SpendState,
    /// It began as a hold.
    pub hold: bool,
    /// Rial that left the wallet at creation.
    pub amount: u64,
    /// Rial captured by the merchant.
    pub captured: u64,
    /// The wallet's balance after creation.
    pub balance: u64,
    pub order: String,
    pub description: String,
    pub created_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// When held money goes back by itself; holds of earlier versions never do.
    pub expires_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpendMade {
    Done(Spend),
    /// A repeat of an earlier request with this idempotency key.
    Repeated(Spend),
    /// The idempotency key was used for another request.
    KeyReused,
    /// The user's order has this spend.
    OrderTaken(Spend),
    /// The user's order is paid, by this payment, which did not charge the wallet.
    OrderPaid(PaymentId),
    /// The wallet holds only this much.
    Overdraft {
        available: u64,
    },
    TooLarge,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpendEnded {
    /// By this call, or by an earlier one that asked for the same. With what the wallet has now, in rial.
    Done(Spend, u64),
    /// It ended otherwise before. As it is now.
    Was(Spend),
    /// Only this much is held.
    TooMuch {
        held: u64,
    },
    TooLarge,
    Missing,
}

impl Store {
    /// Takes money out of a wallet, or holds it.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn spend_create(&self, draft: SpendDraft) -> Result<SpendMade, StoreError> {
        on_engine!(self, spend_create(draft).await)
    }

    /// Captures held money: all of it, or `amount` of it with the rest returned.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn spend_capture(
        &self,
        id: SpendId,
        amount: Option<u64>,
        now: Timestamp,
    ) -> Result<SpendEnded, StoreError> {
        on_engine!(self, spend_capture(id, amount, now).await)
    }

    /// Returns held money to the wallet.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn spend_void(&self, id: SpendId, now: Timestamp) -> Result<SpendEnded, StoreError> {
        on_engine!(self, spend_void(id, now).await)
    }

    /// Gives held money back whose time is over, the longest overdue first, at most `limit`. The spends afterwards.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    #[boxed]
    pub async fn holds_expire(&self, now: Timestamp, limit: usize) -> Result<Vec<Spend>, StoreError> {
        on_engine!(self, holds_expire(now, limit).await)
    }

    /// Open holds that expire, the next one first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn holds(&self, limit: usize) -> Result<Vec<Spend>, StoreError> {
        on_engine!(self, read holds(limit))
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn spend_get(&self, id: SpendId) -> Result<Option<Spend>, StoreError> {
        on_engine!(self, read spend_get(id))
    }

    /// A user's spends, newest first, at most `limit`; with `before`, those older than it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn spends_of(
        &self,
        user: UserId,
        before: Option<SpendId>,
        limit: usize,
    ) -> Result<Vec<Spend>, StoreError> {
        on_engine!(self, read spends_of(user, before, limit))
    }
}
