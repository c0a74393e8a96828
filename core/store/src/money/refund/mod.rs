//! Refunds: parts of a payment, or all of it, returned.
//!
//! Each refund has a position: the microsecond in which it was booked, or the next one that no other refund has. The
//! indexes of all refunds, of a user's and of a state's end in it, so a list is one walk, newest first.

pub(crate) mod postgres;
pub(crate) mod rules;
pub(crate) mod sled;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, boxed, on_engine};
use crate::money::once::Once;
use crate::money::payment::Payment;
use crate::{PaymentId, Store, StoreError, Timestamp, UserId};

/// Where refunded money goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefundTo {
    /// To the payer through the gateway; the operator has done it or will.
    Gateway,
    /// To the payer's wallet.
    Wallet,
    /// To the payer through the gateway, which is asked to reverse (see [`crate::Reversal`]). The whole payment only.
    Reverse,
}

#[derive(Debug, Clone)]
pub struct RefundDraft {
    pub payment: PaymentId,
    /// Rial, at least 1; `None` for everything left.
    pub amount: Option<u64>,
    pub to: RefundTo,
    /// The staff user who ordered it.
    pub by: UserId,
    pub note: String,
    pub now: Timestamp,
    pub once: Option<Once>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    pub payment: PaymentId,
    /// From 1.
    pub number: u32,
    pub amount: u64,
    pub to: RefundTo,
    pub by: UserId,
    pub note: String,
    pub at: Timestamp,
    /// It was taken back, because the payer did not get it.
    pub undone: Option<RefundUndone>,
    /// Its place among all refunds.
    pub position: u64,
    pub state: RefundState,
}

/// Where the money of a refund is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefundState {
    /// The gateway is asked to return it.
    Open,
    /// With the payer: returned by the gateway, credited to the wallet, or booked as paid outside.
    Done,
    /// The gateway does not return it, and nobody decided about it yet.
    Refused,
    /// Taken back.
    Undone,
}

/// What refunds must have to be found. Nothing set: all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RefundQuery {
    pub payment: Option<PaymentId>,
    /// The payer.
    pub user: Option<UserId>,
    pub state: Option<RefundState>,
    pub to: Option<RefundTo>,
    pub gateway: Option<String>,
    /// Who ordered it.
    pub by: Option<UserId>,
    /// Booked at this instant or later.
    pub from: Option<Timestamp>,
    /// Booked before this instant.
    pub until: Option<Timestamp>,
}

/// A part of what a query finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundsFound {
    /// Newest first, each with its payment.
    pub refunds: Vec<(Refund, Payment)>,
    /// There may be more: go on before this position.
    pub next: Option<u64>,
}

/// Who took a refund back, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundUndone {
    pub by: UserId,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentRefunded {
    Done(Payment, Refund),
    Repeated(Payment, Refund),
    KeyReused,
    /// Only a paid payment can be refunded. As it is now.
    NotPaid(Payment),
    /// It was imported: the program it comes from was paid, and nothing about it changes here.
    Imported(Payment),
    /// Only this much is left of what was paid.
    TooMuch {
        left: u64,
    },
    /// The payer's wallet no longer holds it.
    Overdraft {
        available: u64,
    },
    /// This payment was credited to the wallet; refund it with `to=gateway`.
    InWallet,
    /// A gateway reverses a payment as a whole or not at all.
    NotWhole,
    TooLarge,
    Missing,
}

impl Store {
    /// Refunds a part or all of a payment. The last part makes it Refunded.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn payment_refund(&self, draft: RefundDraft) -> Result<PaymentRefunded, StoreError> {
        on_engine!(self, payment_refund(draft).await)
    }

    /// Refunds that a query finds, newest first, those before the position `before`: at most `limit`, and looking at no
    /// more than `looks` index entries.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn refunds_find(
        &self,
        query: &RefundQuery,
        before: Option<u64>,
        limit: usize,
        looks: usize,
    ) -> Result<RefundsFound, StoreError> {
        on_engine!(self, read refunds_find(query, before, limit, looks))
    }

    /// The refunds of a payment, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn payment_refunds(&self, id: PaymentId) -> Result<Vec<Refund>, StoreError> {
        on_engine!(self, read payment_refunds(id))
    }
}
