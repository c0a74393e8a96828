//! Payments: from request to credited wallet.
//!
//! A payment moves Created -> Pending -> Paid | Failed | Cancelled | Expired, and Paid -> Refunded. One step goes back:
//! a payment that ended without money becomes Paid when its gateway says that it took the money after all ("late").
//! Amount, currency, order, gateway and the plugin's digest are fixed when it is made. Invariants: settling changes the
//! state and posts the credit in one change, and the payment's id is the posting's key, so that a payment is credited
//! once, whatever repeats; an order of a user has one open payment; a gateway's reference belongs to one payment, and
//! so does its receipt number; refunds never sum to more than was paid.
//!
//! An open payment is in its gateway's queue by the instant at which somebody should look at it next, so that a
//! process that starts anew finds what the one before it left unfinished, and no gateway stands in another's way.
//! Not here: what to ask a gateway and what an answer means (`chelseru-domain`), and any protocol.

pub(crate) mod sled;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, on_engine};
use crate::money::once::Once;
use crate::{PaymentId, Store, StoreError, Timestamp, UserId};

/// The unit a client's amounts are in. The ledger counts rial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Currency {
    /// Toman: ten rial.
    Irt,
    /// Rial.
    Irr,
}

/// What a payment does when it is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayMode {
    /// Credits the payer's wallet.
    Charge,
    /// Goes to the merchant.
    Direct,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PaymentState {
    /// The gateway was not asked yet, or its answer is still to come. Nobody was sent to a bank page.
    Created,
    /// The payer was sent to the gateway.
    Pending,
    Paid,
    Failed,
    Cancelled,
    Expired,
    /// Paid, and all of it given back.
    Refunded,
}

impl PaymentState {
    /// Whether the payment may still be paid.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, PaymentState::Created | PaymentState::Pending)
    }
}

/// How a payer gets to the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// The browser posts the fields as a form; otherwise it just opens the address.
    pub post: bool,
    pub url: String,
    pub fields: Vec<(String, String)>,
}

/// What the gateway answered when the payment was made known to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentStart {
    /// The gateway's name of the payment: an authority, a payment code. At most 512 bytes.
    pub reference: String,
    pub redirect: Redirect,
    /// The plugin's own, handed back at every later call.
    pub state: Vec<u8>,
    /// The gateway's words, shown to the client.
    pub message: String,
}

/// What a callback said. Never trusted, but some gateways need it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentClaim {
    /// The callback said that the payer cancelled or was refused.
    pub cancelled: bool,
    /// The gateway's number of the receipt, when the callback named one.
    pub receipt: Option<String>,
    /// The plugin's own.
    pub data: Vec<u8>,
}

/// A claim as a payment keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptClaim {
    pub claim: PaymentClaim,
    /// It came with the payment's [`Payment::callback_key`], which only the gateway and the payer's browser know. It is
    /// never pushed out by one that did not.
    pub vouched: bool,
}

/// Claims that a payment keeps. Anybody can post one, so they are bounded: the oldest one without a callback key goes
/// first.
pub const CLAIMS_MAX: usize = 8;

/// Why a gateway did not take a payment, in its own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRefusal {
    pub code: String,
    pub text: String,
    /// The field of the request that it refuses, as it spells it.
    pub field: Option<String>,
}

/// What the gateway answered when it was sure that the payment is paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentReceipt {
    /// The gateway's number of the receipt. Unique per gateway.
    pub number: String,
    /// Masked.
    pub card_pan: String,
    pub card_hash: String,
    pub fee_rial: Option<u64>,
    /// The gateway's own code and words.
    pub code: String,
    pub message: String,
}

/// A payment before it exists.
#[derive(Debug, Clone)]
pub struct PaymentDraft {
    pub user: UserId,
    /// Rial, 1 to 2^63 - 1.
    pub amount: u64,
    pub currency: Currency,
    pub mode: PayMode,
    /// The client's name of what is paid for; empty when it has none.
    pub order: String,
    pub gateway: String,
    pub plugin_digest: String,
    pub description: String,
    pub callback_url: String,
    /// See [`Payment::callback_key`].
    pub callback_key: String,
    pub frontend_url: Option<String>,
    pub now: Timestamp,
    /// From here on the gateway takes no money for it any more.
    pub window_ends_at: Timestamp,
    /// When to look at it if nothing happens.
    pub check_at: Timestamp,
    pub once: Option<Once>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    pub id: PaymentId,
    pub user: UserId,
    pub state: PaymentState,
    /// Why it ended as it did, as a word; empty while it is open.
    pub reason: String,
    /// Rial.
    pub amount: u64,
    pub currency: Currency,
    pub mode: PayMode,
    pub order: String,
    pub gateway: String,
    pub plugin_digest: String,
    pub description: String,
    pub callback_url: String,
    pub frontend_url: Option<String>,
    pub created_at: Timestamp,
    pub window_ends_at: Timestamp,
    pub paid_at: Option<Timestamp>,
    /// When it came to its present end.
    pub ended_at: Option<Timestamp>,
    pub start: Option<PaymentStart>,
    /// What callbacks said, the oldest first; at most [`CLAIMS_MAX`].
    pub claims: Vec<KeptClaim>,
    /// The gateway may have been asked to confirm it, with or without an answer.
    pub asked: bool,
    /// Looks without a clear answer, for growing delays.
    pub attempts: u32,
    pub check_at: Timestamp,
    pub receipt: Option<PaymentReceipt>,
    /// Rial given back so far, in how many parts.
    pub refunded: u64,
    pub refunds: u32,
    /// The unguessable part of the callback's address; empty for a payment that was made before there was one.
    pub callback_key: String,
    /// Why the gateway did not take it.
    pub refusal: Option<PaymentRefusal>,
    /// The gateway lists it as paid, and it was reported that it is not credited.
    pub uncredited: bool,
    /// It ended without money, and a question after that may have confirmed it: it is among the open ones again until
    /// the gateway answers clearly.
    pub late_question: bool,
}

impl Payment {
    /// Whether it ended without money, at a gateway that knows it, and so may still turn out to be paid.
    #[must_use]
    pub fn may_be_late(&self) -> bool {
        let without_money =
            matches!(self.state, PaymentState::Failed | PaymentState::Cancelled | PaymentState::Expired);
        without_money && self.start.is_some()
    }

    /// Whether the payment keeps this claim.
    #[must_use]
    pub fn has_claim(&self, claim: &PaymentClaim) -> bool {
        self.claims.iter().any(|kept| kept.claim == *claim)
    }

    /// Keeps a claim as the newest one. False when it changes nothing.
    pub(crate) fn keep_claim(&mut self, claim: KeptClaim) -> bool {
        if let Some(at) = self.claims.iter().position(|kept| kept.claim == claim.claim) {
            let vouched = claim.vouched && !self.claims[at].vouched;
            self.claims[at].vouched |= vouched;
            return vouched;
        }
        if self.claims.len() >= CLAIMS_MAX {
            let unvouched = self.claims.iter().position(|kept| !kept.vouched);
            match unvouched {
                Some(at) => drop(self.claims.remove(at)),
                None if claim.vouched => drop(self.claims.remove(0)),
                None => return false,
            }
        }
        self.claims.push(claim);
        true
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentCreated {
    Created(Payment),
    /// The same request was made before with this idempotency key.
    Repeated(Payment),
    /// The idempotency key was used for another request.
    KeyReused,
    /// The user's order has this open payment.
    OrderOpen(Payment),
}

/// What became of a step of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentStep {
    Done(Payment),
    /// It is not in the state the step starts from; nothing was done. As it is now.
    Was(Payment),
    Missing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentSettled {
    /// Credited by this very call.
    Now(Payment),
    /// Paid before, or not known to its gateway. Nothing was done. As it is now.
    Was(Payment),
    /// The receipt number stands for another payment. Nothing was credited; a pending payment failed.
    ReceiptReused(Payment),
    /// The wallet cannot hold that much. Nothing was done.
    TooLarge,
    Missing,
}

impl Store {
    /// Makes a payment. The idempotency key, the open order and the payment are one change.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn payment_create(&self, draft: PaymentDraft) -> Result<PaymentCreated, StoreError> {
        on_engine!(self, payment_create(draft).await)
    }

    /// The gateway knows the payment: Created -> Pending. A reference that another payment of the gateway has
    /// fails this one.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn payment_started(
        &self,
        id: PaymentId,
        start: PaymentStart,
        check_at: Timestamp,
        now: Timestamp,
    ) -> Result<PaymentStep, StoreError> {
        on_engine!(self, payment_started(id, start, check_at, now).await)
    }

    /// Keeps what a callback said, before the gateway is asked. With `asking` it also notes that the gateway may have
    /// been asked; of a payment that has ended, with the instant at which to look again should nothing be heard. A
    /// payment that is paid, or that its gateway does not know, is left as it is.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn payment_claimed(
        &self,
        id: PaymentId,
        claim: Option<KeptClaim>,
        asking: Option<Timestamp>,
    ) -> Result<PaymentStep, StoreError> {
        on_engine!(self, payment_claimed(id, claim, asking).await)
    }

    /// Takes a payment that ended without money out of the open ones again: the gateway answered clearly, or the
    /// question certainly never arrived.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn payment_late_answered(&self, id: PaymentId) -> Result<PaymentStep, StoreError> {
        on_engine!(self, payment_late_answered(id).await)
    }

    /// Drops claims that the gateway denies.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn payment_claims_denied(
        &self,
        id: PaymentId,
        denied: Vec<PaymentClaim>,
    ) -> Result<PaymentStep, StoreError> {
        on_engine!(self, payment_claims_denied(id, denied).await)
    }

    /// Notes that a gateway lists a payment as paid that is not credited, and tells of it as an event: once for a
    /// payment of ours. Says whether this call was the first.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn payment_uncredited(
        &self,
        gateway: String,
        reference: String,
        listed: Option<u64>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        on_engine!(self, payment_uncredited(gateway, reference, listed, now).await)
    }

    /// Pending -> Paid and the credit, as one change. A payment that ended without money is paid late: `reason` says
    /// what it was before (`after_failed`, `after_cancelled`, `after_expired`).
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn payment_settle(
        &self,
        id: PaymentId,
        receipt: PaymentReceipt,
        now: Timestamp,
    ) -> Result<PaymentSettled, StoreError> {
        on_engine!(self, payment_settle(id, receipt, now).await)
    }

    /// Created or Pending -> an end without money.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    ///
    /// # Panics
    ///
    /// Panics unless `state` is Failed, Cancelled or Expired; the writer catches it and rolls back.
    pub async fn payment_end(
        &self,
        id: PaymentId,
        state: PaymentState,
        reason: String,
        refusal: Option<PaymentRefusal>,
        now: Timestamp,
    ) -> Result<PaymentStep, StoreError> {
        on_engine!(self, payment_end(id, state, reason, refusal, now).await)
    }

    /// Counts a look without a clear answer, and says when to look next. `not_asked` takes back what
    /// [`Store::payment_claimed`] noted: the question certainly never arrived, and none before it did.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn payment_check_later(
        &self,
        id: PaymentId,
        at: Timestamp,
        not_asked: bool,
    ) -> Result<PaymentStep, StoreError> {
        on_engine!(self, payment_check_later(id, at, not_asked).await)
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn payment_get(&self, id: PaymentId) -> Result<Option<Payment>, StoreError> {
        on_engine!(self, read payment_get(id))
    }

    /// The payment that a gateway calls so.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn payment_by_reference(
        &self,
        gateway: &str,
        reference: &str,
    ) -> Result<Option<Payment>, StoreError> {
        on_engine!(self, read payment_by_reference(gateway, reference))
    }

    /// A user's payments, newest first, at most `limit`; with `before`, those that are older than it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn payments_of(
        &self,
        user: UserId,
        before: Option<PaymentId>,
        limit: usize,
    ) -> Result<Vec<Payment>, StoreError> {
        on_engine!(self, read payments_of(user, before, limit))
    }

    /// A gateway's open payments that should be looked at by now, the longest overdue first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn payments_due(
        &self,
        gateway: &str,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Payment>, StoreError> {
        on_engine!(self, read payments_due(gateway, now, limit))
    }

    /// How many open payments a gateway has, counted up to `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub async fn payments_open(&self, gateway: &str, limit: usize) -> Result<usize, StoreError> {
        on_engine!(self, read payments_open(gateway, limit))
    }

    /// The names of the gateways that have open payments.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub async fn payments_open_gateways(&self) -> Result<Vec<String>, StoreError> {
        on_engine!(self, read payments_open_gateways())
    }
}
