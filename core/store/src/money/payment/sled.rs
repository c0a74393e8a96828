//! Payments: from request to credited wallet.
//!
//! A payment moves Created -> Pending -> Paid | Failed | Cancelled | Expired, and Paid -> Refunded, never back.
//! Amount, currency, order, gateway and the plugin's digest are fixed when it is made. Invariants: settling changes
//! the state and posts the credit in one change, and the payment's id is the posting's key, so that a payment is
//! credited once, whatever repeats; an order of a user has one open payment; a gateway's reference belongs to one
//! payment, and so does its receipt number; refunds never sum to more than was paid.
//!
//! An open payment is in its gateway's queue by the instant at which somebody should look at it next, so that a
//! process that starts anew finds what the one before it left unfinished, and no gateway stands in another's way.
//! Not here: what to ask a gateway and what an answer means (`chelseru-domain`), and any protocol.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::engine::sled::record::{Record, decode, decode_u64, encode_u64};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{error, keys::money as keys};
use crate::money::ledger::{Account, Posted, payment_key, post, refund_key, signed};
use crate::money::once::{self, Once, Subject};
use crate::money::outbox::{EventBody, emit};
use crate::money::reversal;
use crate::{Store, StoreError, Timestamp, UserId};

/// The public number of a payment, from 1. Knowing it gives no right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PaymentId(pub u64);

impl fmt::Display for PaymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

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
    pub claim: Option<PaymentClaim>,
    /// The gateway may have been asked to confirm it, with or without an answer.
    pub asked: bool,
    /// Looks without a clear answer, for growing delays.
    pub attempts: u32,
    pub check_at: Timestamp,
    pub receipt: Option<PaymentReceipt>,
    /// Rial given back so far, in how many parts.
    pub refunded: u64,
    pub refunds: u32,
}

impl Record for Payment {
    const KIND: &'static str = "payment";
    const SCHEMA: u8 = 1;
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
    /// Not pending: paid before, or ended otherwise. Nothing was done. As it is now.
    Was(Payment),
    /// The receipt number stands for another payment. Nothing was credited; the payment failed.
    ReceiptReused(Payment),
    /// The wallet cannot hold that much. Nothing was done.
    TooLarge,
    Missing,
}

/// Where refunded money goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefundTo {
    /// Back to the payer by the gateway, which the operator has done or sees to.
    Gateway,
    /// To the payer's wallet.
    Wallet,
    /// Back to the payer by the gateway, which is asked to: see [`crate::Reversal`]. The whole payment only.
    Reverse,
}

#[derive(Debug, Clone)]
pub struct RefundDraft {
    pub payment: PaymentId,
    /// Rial, at least 1; `None` for all that is left.
    pub amount: Option<u64>,
    pub to: RefundTo,
    /// Who ordered it.
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
}

impl Record for Refund {
    const KIND: &'static str = "refund";
    const SCHEMA: u8 = 1;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentRefunded {
    Done(Payment, Refund),
    Repeated(Payment, Refund),
    KeyReused,
    /// Only what is paid can be given back. As it is now.
    NotPaid(Payment),
    /// No more than this is left of what was paid.
    TooMuch {
        left: u64,
    },
    /// The payer's wallet does not have it any more.
    Overdraft {
        available: u64,
    },
    /// What charged the wallet cannot be refunded to it.
    InWallet,
    /// A gateway reverses a payment as a whole or not at all.
    NotWhole,
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
        self.change(move |txn| create(txn, draft)).await
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
        self.change(move |txn| {
            let Some(mut payment) = get(txn, id)? else { return Ok(PaymentStep::Missing) };
            if payment.state != PaymentState::Created {
                return Ok(PaymentStep::Was(payment));
            }
            let reference = keys::reference(&payment.gateway, &start.reference);
            if txn.get(&reference)?.is_some() {
                end(txn, &mut payment, PaymentState::Failed, "reference_reused", now)?;
                return Ok(PaymentStep::Was(payment));
            }
            txn.put(reference, encode_u64(id.0));
            payment.state = PaymentState::Pending;
            payment.start = Some(start);
            reschedule(txn, &mut payment, check_at);
            put(txn, &payment);
            Ok(PaymentStep::Done(payment))
        })
        .await
    }

    /// Notes what a callback said, before the gateway is asked; keeps what an earlier one said unless this one says
    /// more. Also notes that the gateway may have been asked.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn payment_asking(
        &self,
        id: PaymentId,
        claim: Option<PaymentClaim>,
    ) -> Result<PaymentStep, StoreError> {
        self.change(move |txn| {
            let Some(mut payment) = get(txn, id)? else { return Ok(PaymentStep::Missing) };
            if payment.state != PaymentState::Pending {
                return Ok(PaymentStep::Was(payment));
            }
            let says_more = |claim: &PaymentClaim| claim.receipt.is_some() || !claim.cancelled;
            let known = payment.claim.as_ref().is_some_and(says_more);
            let claim = claim.filter(|claim| {
                !known
                    || claim.receipt.is_some()
                        && payment.claim.as_ref().is_some_and(|known| known.receipt.is_none())
            });
            if claim.is_some() || !payment.asked {
                payment.claim = claim.or(payment.claim);
                payment.asked = true;
                put(txn, &payment);
            }
            Ok(PaymentStep::Done(payment))
        })
        .await
    }

    /// Pending -> Paid and the credit, as one change.
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
        self.change(move |txn| settle(txn, id, receipt, now)).await
    }

    /// Created or Pending -> an end without money.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    ///
    /// # Panics
    ///
    /// Never here: the change panics, and undoes itself, for a state that is no such end.
    pub async fn payment_end(
        &self,
        id: PaymentId,
        state: PaymentState,
        reason: String,
        now: Timestamp,
    ) -> Result<PaymentStep, StoreError> {
        self.change(move |txn| {
            assert!(
                matches!(state, PaymentState::Failed | PaymentState::Cancelled | PaymentState::Expired),
                "an end without money"
            );
            let Some(mut payment) = get(txn, id)? else { return Ok(PaymentStep::Missing) };
            if !payment.state.is_open() {
                return Ok(PaymentStep::Was(payment));
            }
            end(txn, &mut payment, state, &reason, now)?;
            Ok(PaymentStep::Done(payment))
        })
        .await
    }

    /// Counts a look without a clear answer, and says when to look next. `not_asked` takes back what
    /// [`Store::payment_asking`] noted: the question certainly never arrived, and none before it did.
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
        self.change(move |txn| {
            let Some(mut payment) = get(txn, id)? else { return Ok(PaymentStep::Missing) };
            if !payment.state.is_open() {
                return Ok(PaymentStep::Was(payment));
            }
            payment.attempts = payment.attempts.saturating_add(1);
            payment.asked &= !not_asked;
            reschedule(txn, &mut payment, at);
            put(txn, &payment);
            Ok(PaymentStep::Done(payment))
        })
        .await
    }

    /// Gives back a part or all of what was paid. The last part makes it Refunded.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn payment_refund(&self, draft: RefundDraft) -> Result<PaymentRefunded, StoreError> {
        self.change(move |txn| refund(txn, draft)).await
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn payment_get(&self, id: PaymentId) -> Result<Option<Payment>, StoreError> {
        let bytes = self.tree.get(keys::payment(id)).map_err(error::read)?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }

    /// The payment that a gateway calls so.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn payment_by_reference(
        &self,
        gateway: &str,
        reference: &str,
    ) -> Result<Option<Payment>, StoreError> {
        match self.tree.get(keys::reference(gateway, reference)).map_err(error::read)? {
            Some(bytes) => self.payment_get(PaymentId(decode_u64("reference", &bytes)?)),
            None => Ok(None),
        }
    }

    /// A user's payments, newest first, at most `limit`; with `before`, those that are older than it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn payments_of(
        &self,
        user: UserId,
        before: Option<PaymentId>,
        limit: usize,
    ) -> Result<Vec<Payment>, StoreError> {
        let first = keys::payment_of(user, PaymentId(0));
        let entries = match before {
            Some(before) => self.tree.range(first..keys::payment_of(user, before)),
            None => self.tree.range(first..=keys::payment_of(user, PaymentId(u64::MAX))),
        };
        let mut payments = Vec::new();
        for entry in entries.rev().take(limit) {
            let (key, _) = entry.map_err(error::read)?;
            if let Some(id) = keys::last_number(&key) {
                payments.extend(self.payment_get(PaymentId(id))?);
            }
        }
        Ok(payments)
    }

    /// A gateway's open payments that should be looked at by now, the longest overdue first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn payments_due(
        &self,
        gateway: &str,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Payment>, StoreError> {
        let first = keys::due(gateway, Timestamp::default(), PaymentId(0));
        let last = keys::due(gateway, now, PaymentId(u64::MAX));
        let mut payments = Vec::new();
        for entry in self.tree.range(first..=last).take(limit) {
            let (key, _) = entry.map_err(error::read)?;
            if let Some(id) = keys::last_number(&key) {
                payments.extend(self.payment_get(PaymentId(id))?);
            }
        }
        Ok(payments)
    }

    /// How many open payments a gateway has, counted up to `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub fn payments_open(&self, gateway: &str, limit: usize) -> Result<usize, StoreError> {
        let mut open = 0;
        for entry in self.tree.scan_prefix(keys::open_of(gateway)).take(limit) {
            entry.map_err(error::read)?;
            open += 1;
        }
        Ok(open)
    }

    /// The names of the gateways that have open payments.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub fn payments_open_gateways(&self) -> Result<Vec<String>, StoreError> {
        let mut names: Vec<String> = Vec::new();
        let mut from = b"$g".to_vec();
        // One look per gateway, however many payments each has.
        while let Some(entry) = self.tree.range::<&[u8], _>(from.as_slice()..b"$h".as_slice()).next() {
            let (key, _) = entry.map_err(error::read)?;
            let name = key[2..].split(|byte| *byte == 0).next().unwrap_or_default();
            names.push(String::from_utf8_lossy(name).into_owned());
            from = [b"$g", name, &[1]].concat();
        }
        Ok(names)
    }

    /// The parts of a payment that were given back, in their order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn payment_refunds(&self, id: PaymentId) -> Result<Vec<Refund>, StoreError> {
        let mut refunds = Vec::new();
        for entry in self.tree.range(keys::refund(id, 0)..=keys::refund(id, u32::MAX)) {
            let (_, value) = entry.map_err(error::read)?;
            refunds.push(decode(&value)?);
        }
        Ok(refunds)
    }
}

fn create(txn: &mut Txn, draft: PaymentDraft) -> Result<PaymentCreated, StoreError> {
    assert!((1..=i64::MAX as u64).contains(&draft.amount), "amounts are checked when they come in");
    let PaymentDraft { user, order, now, once, .. } = draft;
    if let Some(once) = &once {
        match once::look(txn, user, once, now)? {
            Subject::New => {}
            Subject::Known(id) => {
                if let Some(payment) = get(txn, PaymentId(id))? {
                    return Ok(PaymentCreated::Repeated(payment));
                }
            }
            Subject::Other => return Ok(PaymentCreated::KeyReused),
        }
    }
    if !order.is_empty()
        && let Some(bytes) = txn.get(&keys::order(user, &order))?
        && let Some(open) = get(txn, PaymentId(decode_u64("order", &bytes)?))?
    {
        return Ok(PaymentCreated::OrderOpen(open));
    }
    let id = PaymentId(txn.next(keys::PAYMENT_SEQUENCE)?);
    let mut payment = Payment {
        id,
        user,
        state: PaymentState::Created,
        reason: String::new(),
        amount: draft.amount,
        currency: draft.currency,
        mode: draft.mode,
        order,
        gateway: draft.gateway,
        plugin_digest: draft.plugin_digest,
        description: draft.description,
        callback_url: draft.callback_url,
        frontend_url: draft.frontend_url,
        created_at: now,
        window_ends_at: draft.window_ends_at,
        paid_at: None,
        ended_at: None,
        start: None,
        claim: None,
        asked: false,
        attempts: 0,
        check_at: draft.check_at,
        receipt: None,
        refunded: 0,
        refunds: 0,
    };
    if !payment.order.is_empty() {
        txn.put(keys::order(user, &payment.order), encode_u64(id.0));
    }
    txn.put(keys::payment_of(user, id), sled::IVec::default());
    txn.put(keys::open(&payment.gateway, id), sled::IVec::default());
    reschedule(txn, &mut payment, draft.check_at);
    put(txn, &payment);
    if let Some(once) = once {
        once::keep(txn, user, &once, id.0);
    }
    Ok(PaymentCreated::Created(payment))
}

fn settle(
    txn: &mut Txn,
    id: PaymentId,
    receipt: PaymentReceipt,
    now: Timestamp,
) -> Result<PaymentSettled, StoreError> {
    let Some(mut payment) = get(txn, id)? else { return Ok(PaymentSettled::Missing) };
    if payment.state != PaymentState::Pending {
        return Ok(PaymentSettled::Was(payment));
    }
    if !receipt.number.is_empty() {
        let key = keys::receipt(&payment.gateway, &receipt.number);
        if txn.get(&key)?.is_some() {
            end(txn, &mut payment, PaymentState::Failed, "receipt_reused", now)?;
            return Ok(PaymentSettled::ReceiptReused(payment));
        }
        txn.put(key, encode_u64(id.0));
    }
    let to = match payment.mode {
        PayMode::Charge => Account::Wallet(payment.user),
        PayMode::Direct => Account::Merchant,
    };
    let amount = signed(payment.amount);
    let legs = [(to, amount), (Account::Gateway(payment.gateway.clone()), -amount)];
    match post(txn, payment_key(id), &legs, now)? {
        Posted::Done { .. } => {}
        Posted::TooLarge => {
            // Left pending: the money is the gateway's to keep or give back, and a person has to look.
            txn.delete(keys::receipt(&payment.gateway, &receipt.number));
            return Ok(PaymentSettled::TooLarge);
        }
        Posted::Before | Posted::Overdraft { .. } => {
            panic!("a pending payment has no posting, and a credit overdraws nothing")
        }
    }
    payment.receipt = Some(receipt);
    payment.paid_at = Some(now);
    end(txn, &mut payment, PaymentState::Paid, "", now)?;
    Ok(PaymentSettled::Now(payment))
}

fn refund(txn: &mut Txn, draft: RefundDraft) -> Result<PaymentRefunded, StoreError> {
    assert!(draft.amount != Some(0), "amounts are checked when they come in");
    let RefundDraft { payment: id, amount, to, by, note, now, once } = draft;
    let Some(mut payment) = get(txn, id)? else { return Ok(PaymentRefunded::Missing) };
    if let Some(once) = &once {
        match once::look(txn, by, once, now)? {
            Subject::New => {}
            Subject::Known(number) => {
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                if let Some(refund) = txn.get_record::<Refund>(&keys::refund(id, number))? {
                    return Ok(PaymentRefunded::Repeated(payment, refund));
                }
            }
            Subject::Other => return Ok(PaymentRefunded::KeyReused),
        }
    }
    if payment.state != PaymentState::Paid {
        return Ok(PaymentRefunded::NotPaid(payment));
    }
    let left = payment.amount - payment.refunded;
    let amount = amount.unwrap_or(left);
    if amount > left {
        return Ok(PaymentRefunded::TooMuch { left });
    }
    if to == RefundTo::Reverse && amount != payment.amount {
        return Ok(PaymentRefunded::NotWhole);
    }
    let wallet = Account::Wallet(payment.user);
    let gateway = Account::Gateway(payment.gateway.clone());
    let (from, into) = match (payment.mode, to) {
        (PayMode::Charge, RefundTo::Gateway | RefundTo::Reverse) => (wallet, gateway),
        (PayMode::Charge, RefundTo::Wallet) => return Ok(PaymentRefunded::InWallet),
        (PayMode::Direct, RefundTo::Gateway | RefundTo::Reverse) => (Account::Merchant, gateway),
        (PayMode::Direct, RefundTo::Wallet) => (Account::Merchant, wallet),
    };
    let number = payment.refunds + 1;
    let legs = [(from, -signed(amount)), (into, signed(amount))];
    match post(txn, refund_key(id, number), &legs, now)? {
        Posted::Done { .. } => {}
        Posted::Overdraft { available } => return Ok(PaymentRefunded::Overdraft { available }),
        Posted::TooLarge => return Ok(PaymentRefunded::TooLarge),
        Posted::Before => panic!("refunds are numbered in the same change"),
    }
    let refund = Refund { payment: id, number, amount, to, by, note, at: now };
    txn.put_record(keys::refund(id, number), &refund);
    if to == RefundTo::Reverse {
        reversal::order(txn, id, &payment.gateway, now);
    }
    payment.refunds = number;
    payment.refunded += amount;
    if payment.refunded == payment.amount {
        payment.state = PaymentState::Refunded;
        payment.ended_at = Some(now);
    }
    put(txn, &payment);
    emit(txn, now, EventBody::refunded(&payment, amount, number))?;
    if let Some(once) = once {
        once::keep(txn, by, &once, u64::from(number));
    }
    Ok(PaymentRefunded::Done(payment, refund))
}

/// Brings an open payment to its end and takes it out of everything that open ones are in.
fn end(
    txn: &mut Txn,
    payment: &mut Payment,
    state: PaymentState,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    payment.state = state;
    reason.clone_into(&mut payment.reason);
    payment.ended_at = Some(now);
    if !payment.order.is_empty() {
        txn.delete(keys::order(payment.user, &payment.order));
    }
    txn.delete(keys::open(&payment.gateway, payment.id));
    txn.delete(keys::due(&payment.gateway, payment.check_at, payment.id));
    put(txn, payment);
    emit(txn, now, EventBody::ended(payment))
}

fn reschedule(txn: &mut Txn, payment: &mut Payment, at: Timestamp) {
    txn.delete(keys::due(&payment.gateway, payment.check_at, payment.id));
    payment.check_at = at;
    txn.put(keys::due(&payment.gateway, at, payment.id), sled::IVec::default());
}

fn get(txn: &Txn, id: PaymentId) -> Result<Option<Payment>, StoreError> {
    txn.get_record(&keys::payment(id))
}

fn put(txn: &mut Txn, payment: &Payment) {
    txn.put_record(keys::payment(payment.id), payment);
}
