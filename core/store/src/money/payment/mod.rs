//! Payments: from request to credited wallet.
//!
//! A payment moves Created -> Pending -> Paid | Failed | Cancelled | Expired, and Paid -> Refunded. One transition
//! reopens an end: a payment that ended without money becomes Paid when its gateway reports that it took the money
//! after all ("late"). Amount, currency, order, gateway and the plugin's digest are fixed at creation. Invariants:
//! settling changes the state and posts the credit in one change, and the payment's id is the posting's key, so a
//! payment is credited once. An order of a user has at most one open payment and, if the draft asks for it, at most one
//! paid one. A gateway's reference belongs to one payment, and so does its receipt number. Refunds never exceed what
//! was paid.
//!
//! An open payment is in its gateway's queue, at the instant of its next check. A restarted process therefore finds
//! unfinished payments, and gateways do not delay each other. Not here: what to ask a gateway, what an answer means
//! (`chelseru-domain`), and any protocol.

pub(crate) mod postgres;
mod rules;
pub(crate) mod sled;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, boxed, on_engine};
use crate::money::once::Once;
use crate::{Due, PaymentId, SpendId, Store, StoreError, Timestamp, UserId};

/// The unit of a client's amounts. The ledger counts rial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Currency {
    /// Toman: ten rial.
    Irt,
    /// Rial.
    Irr,
}

/// What a paid payment does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayMode {
    /// Credits the payer's wallet.
    Charge,
    /// Pays the merchant.
    Direct,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PaymentState {
    /// The gateway was not asked yet, or has not answered yet. The payer was not redirected.
    Created,
    /// The payer was redirected to the gateway.
    Pending,
    Paid,
    Failed,
    Cancelled,
    Expired,
    /// Paid and fully refunded.
    Refunded,
}

impl PaymentState {
    /// Returns true when the payment may still be paid.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, PaymentState::Created | PaymentState::Pending)
    }
}

/// Whether a question about a payment may have reached its gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    MayBeHeard,
    /// It certainly never arrived, and none before it did.
    Unheard,
}

/// A check without a clear answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedLater {
    /// When to check again.
    pub at: Timestamp,
    pub question: Question,
    /// A claim that is not stored yet.
    pub claim: Option<KeptClaim>,
    /// Claims whose question failed. They are tried last from now on.
    pub failed: Vec<PaymentClaim>,
}

impl CheckedLater {
    /// Only the time of the next check is new.
    #[must_use]
    pub fn at(at: Timestamp) -> CheckedLater {
        CheckedLater { at, question: Question::MayBeHeard, claim: None, failed: Vec::new() }
    }
}

/// How a browser reaches the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "bool", into = "bool")]
pub enum RedirectMethod {
    /// It opens the address.
    Get,
    /// It posts the fields as a form.
    Post,
}

/// Records say whether the fields are posted.
impl From<bool> for RedirectMethod {
    fn from(post: bool) -> Self {
        if post { RedirectMethod::Post } else { RedirectMethod::Get }
    }
}

impl From<RedirectMethod> for bool {
    fn from(method: RedirectMethod) -> Self {
        method == RedirectMethod::Post
    }
}

/// How a payer reaches the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    pub method: RedirectMethod,
    pub url: String,
    pub fields: Vec<(String, String)>,
}

/// The gateway's answer when the payment was registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentStart {
    /// The gateway's id of the payment: an authority, a payment code. At most 512 bytes.
    pub reference: String,
    pub redirect: Redirect,
    /// Opaque state of the plugin, passed to every later call.
    pub state: Vec<u8>,
    /// The gateway's message, shown to the client.
    pub message: String,
}

/// The content of a callback. Never trusted, but some gateways need it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentClaim {
    /// The callback says that the payer cancelled or was refused.
    pub cancelled: bool,
    /// The gateway's receipt number, if the callback named one.
    pub receipt: Option<String>,
    /// Opaque data of the plugin.
    pub data: Vec<u8>,
}

/// A claim as stored with a payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptClaim {
    pub claim: PaymentClaim,
    /// It came with the payment's [`Payment::callback_key`], which only the gateway and the payer's browser know. A
    /// claim without the key never displaces it.
    pub vouched: bool,
}

/// Claims stored per payment. Anybody can post one, so they are bounded: the oldest one without a callback key is
/// dropped first.
pub const CLAIMS_MAX: usize = 8;

/// Why a gateway did not take a payment, in its own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRefusal {
    pub code: String,
    pub text: String,
    /// The refused field of the request, in the gateway's spelling.
    pub field: Option<String>,
}

/// The gateway's confirmation that the payment is paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentReceipt {
    /// The gateway's receipt number. Unique per gateway.
    pub number: String,
    /// Masked.
    pub card_pan: String,
    pub card_hash: String,
    pub fee_rial: Option<u64>,
    /// The gateway's own code and message.
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
    /// The client's id of what is paid for; may be empty.
    pub order: String,
    /// Refuse a payment of an order that is paid.
    pub unique_order: bool,
    pub gateway: String,
    /// See [`Payment::plugin`].
    pub plugin: String,
    pub description: String,
    pub callback_url: String,
    /// See [`Payment::callback_key`].
    pub callback_key: String,
    pub frontend_url: Option<String>,
    pub now: Timestamp,
    /// When the gateway stops accepting money for it.
    pub window_ends_at: Timestamp,
    /// When to check it if nothing happens.
    pub check_at: Timestamp,
    pub once: Option<Once>,
}

impl PaymentDraft {
    pub(crate) fn asked(&self) -> PaymentAsked {
        PaymentAsked {
            user: self.user,
            mode: self.mode,
            order: self.order.clone(),
            unique_order: self.unique_order,
            now: self.now,
            once: self.once.clone(),
        }
    }
}

/// What decides whether a request for a payment is answered by what is there already. See [`PaymentDraft`].
#[derive(Debug, Clone)]
pub struct PaymentAsked {
    pub user: UserId,
    pub mode: PayMode,
    pub order: String,
    pub unique_order: bool,
    pub now: Timestamp,
    pub once: Option<Once>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    pub id: PaymentId,
    pub user: UserId,
    pub state: PaymentState,
    /// Why it ended, as a stable word; empty while it is open.
    pub reason: String,
    /// Rial.
    pub amount: u64,
    pub currency: Currency,
    pub mode: PayMode,
    pub order: String,
    pub gateway: String,
    /// The plugin that began it: `NAME@DIGEST`. Records of older versions have the digest alone, imported ones nothing.
    pub plugin: String,
    pub description: String,
    pub callback_url: String,
    pub frontend_url: Option<String>,
    pub created_at: Timestamp,
    pub window_ends_at: Timestamp,
    pub paid_at: Option<Timestamp>,
    /// When it reached its present end.
    pub ended_at: Option<Timestamp>,
    pub start: Option<PaymentStart>,
    /// Claims of callbacks, oldest first; at most [`CLAIMS_MAX`].
    pub claims: Vec<KeptClaim>,
    /// The gateway may have been asked to confirm it, with or without an answer. True from its start at the gateway on,
    /// so that no question has to be recorded before it is asked; false once it is certain that none was heard.
    pub asked: bool,
    /// Checks without a clear answer, for growing delays.
    pub attempts: u32,
    pub check_at: Timestamp,
    pub receipt: Option<PaymentReceipt>,
    /// Rial refunded so far, and the number of refunds.
    pub refunded: u64,
    pub refunds: u32,
    /// The unguessable part of the callback address; empty for payments older than it.
    pub callback_key: String,
    /// Why the gateway did not take it.
    pub refusal: Option<PaymentRefusal>,
    /// The gateway lists it as paid, and the missing credit was reported.
    pub uncredited: bool,
    /// It ended without money, and a later question may have confirmed it. It is open again until the gateway answers
    /// clearly.
    pub late_question: bool,
    /// It ended in the program that it was imported from. Its money is inside the user's opening balance, so it has no
    /// posting, and nothing about it changes any more.
    pub imported: bool,
}

impl Payment {
    /// Returns true when it ended without money at a gateway that knows it, so it may still turn out to be paid.
    #[must_use]
    pub fn may_be_late(&self) -> bool {
        let without_money =
            matches!(self.state, PaymentState::Failed | PaymentState::Cancelled | PaymentState::Expired);
        without_money && self.start.is_some() && !self.imported
    }

    /// The payment with a claim that is not stored yet.
    #[must_use]
    pub fn with_claim(mut self, claim: Option<KeptClaim>) -> Payment {
        if let Some(claim) = claim {
            self.keep_claim(claim);
        }
        self
    }

    /// Returns true when the payment already stores this claim, with the payment's key if this one has it.
    #[must_use]
    pub fn has_claim(&self, claim: &KeptClaim) -> bool {
        self.claims.iter().any(|kept| kept.claim == claim.claim && kept.vouched >= claim.vouched)
    }

    /// Stores a claim as the newest one. False when it changes nothing.
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

    /// Counts claims as the oldest ones: tried last, and the first to be dropped. Those with the payment's key keep
    /// their place before all others.
    pub(crate) fn put_behind(&mut self, failed: &[PaymentClaim]) {
        // A stable sort.
        self.claims.sort_by_key(|kept| !failed.contains(&kept.claim));
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentCreated {
    Created(Payment),
    /// A repeat of an earlier request with this idempotency key.
    Repeated(Payment),
    /// The idempotency key was used for another request.
    KeyReused,
    /// The user's order already has this open payment.
    OrderOpen(Payment),
    /// The user's order is paid, by this payment. Another one may be open.
    OrderPaid(Payment),
    /// The user's order is paid from the wallet, by this spend, and the payment would not charge the wallet.
    OrderSpent(SpendId),
}

/// The result of a payment's step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentStep {
    Done(Payment),
    /// It is not in the state the step starts from; nothing changed. As it is now.
    Was(Payment),
    Missing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentSettled {
    /// Credited by this call.
    Now(Payment),
    /// Already paid, or unknown to its gateway. Nothing changed. As it is now.
    Was(Payment),
    /// The receipt number belongs to another payment of the gateway, or, when a claim had named it, of another entry
    /// with the same plugin: entries can be renamed, and two of them may use one account. Nothing was credited. A
    /// pending payment failed, unless a claim had named the number: then the claim is dropped.
    ReceiptReused(Payment),
    /// The wallet cannot hold that much. Nothing changed.
    TooLarge,
    Missing,
}

impl Store {
    /// Creates a payment. The idempotency key, the open order and the payment are one change.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn payment_create(&self, draft: PaymentDraft) -> Result<PaymentCreated, StoreError> {
        on_engine!(self, payment_create(draft).await)
    }

    /// What [`Store::payment_create`] would return without creating a payment: a repeat, or why the order takes none.
    /// `None` when it would create one.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn payment_known(&self, asked: PaymentAsked) -> Result<Option<PaymentCreated>, StoreError> {
        on_engine!(self, payment_known(asked).await)
    }

    /// Created -> Pending: the gateway knows the payment. A reference that another payment of the gateway has fails
    /// this one.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn payment_started(
        &self,
        id: PaymentId,
        start: PaymentStart,
        check_at: Timestamp,
        now: Timestamp,
    ) -> Result<PaymentStep, StoreError> {
        on_engine!(self, payment_started(id, start, check_at, now).await)
    }

    /// Stores a callback's claim before the gateway is asked. With `asking` it also records that the gateway may have
    /// been asked, and for an ended payment when to check again if no answer comes. A paid payment, or one unknown to
    /// its gateway, stays unchanged.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn payment_claimed(
        &self,
        id: PaymentId,
        claim: Option<KeptClaim>,
        asking: Option<Timestamp>,
    ) -> Result<PaymentStep, StoreError> {
        on_engine!(self, payment_claimed(id, claim, asking).await)
    }

    /// Removes a payment that ended without money from the open ones again: the gateway answered clearly, or the
    /// question certainly never arrived.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn payment_late_answered(&self, id: PaymentId) -> Result<PaymentStep, StoreError> {
        on_engine!(self, payment_late_answered(id).await)
    }

    /// Drops claims that the gateway denies.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn payment_claims_denied(
        &self,
        id: PaymentId,
        denied: Vec<PaymentClaim>,
    ) -> Result<PaymentStep, StoreError> {
        on_engine!(self, payment_claims_denied(id, denied).await)
    }

    /// Records that a gateway lists a payment as paid that is not credited, and writes an event, once per payment of
    /// ours. Returns true for the first call.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn payment_uncredited(
        &self,
        gateway: String,
        reference: String,
        listed: Option<u64>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        on_engine!(self, payment_uncredited(gateway, reference, listed, now).await)
    }

    /// Pending -> Paid and the credit, in one change. A payment that ended without money is paid late; `reason` names
    /// its previous end (`after_failed`, `after_cancelled`, `after_expired`). `claim` is the one that named the
    /// receipt; anybody can post a claim, so it ends nothing.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn payment_settle(
        &self,
        id: PaymentId,
        receipt: PaymentReceipt,
        claim: Option<PaymentClaim>,
        now: Timestamp,
    ) -> Result<PaymentSettled, StoreError> {
        on_engine!(self, payment_settle(id, receipt, claim, now).await)
    }

    /// Created or Pending -> an end without money.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    ///
    /// # Panics
    ///
    /// Panics unless `state` is Failed, Cancelled or Expired; the writer catches it and rolls back.
    #[boxed]
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

    /// Counts a check without a clear answer, and sets the next check. [`Question::Unheard`] undoes what
    /// [`Store::payment_started`] or [`Store::payment_claimed`] recorded. A claim that was asked about before it was
    /// stored is stored in the same change, and those whose question failed are put behind the others. A payment that
    /// has ended, without a late question, stays unchanged.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn payment_check_later(
        &self,
        id: PaymentId,
        checked: CheckedLater,
    ) -> Result<PaymentStep, StoreError> {
        on_engine!(self, payment_check_later(id, checked).await)
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn payment_get(&self, id: PaymentId) -> Result<Option<Payment>, StoreError> {
        on_engine!(self, read payment_get(id))
    }

    /// The payment with a gateway's reference.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn payment_by_reference(
        &self,
        gateway: &str,
        reference: &str,
    ) -> Result<Option<Payment>, StoreError> {
        on_engine!(self, read payment_by_reference(gateway, reference))
    }

    /// A user's payments, newest first, at most `limit`; with `before`, those older than it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn payments_of(
        &self,
        user: UserId,
        before: Option<PaymentId>,
        limit: usize,
    ) -> Result<Vec<Payment>, StoreError> {
        on_engine!(self, read payments_of(user, before, limit))
    }

    /// A gateway's due open payments, longest overdue first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn payments_due(
        &self,
        gateway: &str,
        due: Due,
        limit: usize,
    ) -> Result<Vec<Payment>, StoreError> {
        on_engine!(self, read payments_due(gateway, due, limit))
    }

    /// Counts a gateway's open payments up to `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    #[boxed]
    pub async fn payments_open(&self, gateway: &str, limit: usize) -> Result<usize, StoreError> {
        on_engine!(self, read payments_open(gateway, limit))
    }

    /// The names of the gateways with open payments.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    #[boxed]
    pub async fn payments_open_gateways(&self) -> Result<Vec<String>, StoreError> {
        on_engine!(self, read payments_open_gateways())
    }
}
