//! The operations of this folder, in sled statements.

use serde::Deserialize;

use crate::engine::sled::keys::money as keys;
use crate::engine::sled::record::{Record, decode, decode_u64, encode_u64};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error};
use crate::money::find::sled as find;
use crate::money::ledger::sled::post;
use crate::money::ledger::{Posted, payment_key};
use crate::money::once::{Subject, sled as once};
use crate::money::order::sled::{self as order, OrderEntry};
use crate::money::outbox::EventBody;
use crate::money::outbox::sled::emit;
use crate::money::payment::rules::Claimed;
use crate::money::payment::{
    CheckedLater, Currency, KeptClaim, PayMode, Payment, PaymentAsked, PaymentClaim, PaymentCreated,
    PaymentDraft, PaymentReceipt, PaymentRefusal, PaymentSettled, PaymentStart, PaymentState, PaymentStep,
};
use crate::{Due, PaymentId, StoreError, Timestamp, UserId};

impl Record for Payment {
    const KIND: &'static str = "payment";
    const SCHEMA: u8 = 3;
    const SCHEMA_OLDEST: u8 = 1;

    fn decode_older(schema: u8, body: &[u8]) -> Result<Self, postcard::Error> {
        // The second version lacked the last field only.
        if schema == 2 {
            return postcard::from_bytes(&[body, &[0]].concat());
        }
        // The first version stored one claim, and had none of the last five fields.
        #[derive(Deserialize)]
        struct First {
            id: PaymentId,
            user: UserId,
            state: PaymentState,
            reason: String,
            amount: u64,
            currency: Currency,
            mode: PayMode,
            order: String,
            gateway: String,
            plugin: String,
            description: String,
            callback_url: String,
            frontend_url: Option<String>,
            created_at: Timestamp,
            window_ends_at: Timestamp,
            paid_at: Option<Timestamp>,
            ended_at: Option<Timestamp>,
            start: Option<PaymentStart>,
            claim: Option<PaymentClaim>,
            asked: bool,
            attempts: u32,
            check_at: Timestamp,
            receipt: Option<PaymentReceipt>,
            refunded: u64,
            refunds: u32,
        }
        let first: First = postcard::from_bytes(body)?;
        Ok(Payment {
            id: first.id,
            user: first.user,
            state: first.state,
            reason: first.reason,
            amount: first.amount,
            currency: first.currency,
            mode: first.mode,
            order: first.order,
            gateway: first.gateway,
            plugin: first.plugin,
            description: first.description,
            callback_url: first.callback_url,
            frontend_url: first.frontend_url,
            created_at: first.created_at,
            window_ends_at: first.window_ends_at,
            paid_at: first.paid_at,
            ended_at: first.ended_at,
            start: first.start,
            claims: first.claim.into_iter().map(|claim| KeptClaim { claim, vouched: false }).collect(),
            asked: first.asked,
            attempts: first.attempts,
            check_at: first.check_at,
            receipt: first.receipt,
            refunded: first.refunded,
            refunds: first.refunds,
            callback_key: String::new(),
            refusal: None,
            uncredited: false,
            late_question: false,
            imported: false,
        })
    }
}

impl Sled {
    pub(crate) async fn payment_create(&self, draft: PaymentDraft) -> Result<PaymentCreated, StoreError> {
        self.change(move |txn| create(txn, draft)).await
    }

    pub(crate) async fn payment_known(
        &self,
        asked: PaymentAsked,
    ) -> Result<Option<PaymentCreated>, StoreError> {
        self.change(move |txn| known(txn, &asked)).await
    }

    pub(crate) async fn payment_started(
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
            payment.started(start);
            reschedule(txn, &mut payment, check_at);
            put(txn, &payment);
            Ok(PaymentStep::Done(payment))
        })
        .await
    }

    pub(crate) async fn payment_claimed(
        &self,
        id: PaymentId,
        claim: Option<KeptClaim>,
        asking: Option<Timestamp>,
    ) -> Result<PaymentStep, StoreError> {
        self.change(move |txn| {
            let Some(mut payment) = get(txn, id)? else { return Ok(PaymentStep::Missing) };
            if !payment.takes_claims() {
                return Ok(PaymentStep::Was(payment));
            }
            let claimed = payment.claimed(claim.clone(), asking);
            if let Claimed::Recheck(at) = claimed {
                txn.put(keys::open(&payment.gateway, id), sled::IVec::default());
                reschedule(txn, &mut payment, at);
            }
            if claimed != Claimed::Nothing {
                put(txn, &payment);
            }
            Ok(PaymentStep::Done(payment))
        })
        .await
    }

    pub(crate) async fn payment_late_answered(&self, id: PaymentId) -> Result<PaymentStep, StoreError> {
        self.change(move |txn| {
            let Some(mut payment) = get(txn, id)? else { return Ok(PaymentStep::Missing) };
            if !payment.late_question {
                return Ok(PaymentStep::Was(payment));
            }
            payment.late_question = false;
            txn.delete(keys::open(&payment.gateway, id));
            txn.delete(keys::due(&payment.gateway, payment.check_at, id));
            put(txn, &payment);
            Ok(PaymentStep::Done(payment))
        })
        .await
    }

    pub(crate) async fn payment_claims_denied(
        &self,
        id: PaymentId,
        denied: Vec<PaymentClaim>,
    ) -> Result<PaymentStep, StoreError> {
        self.change(move |txn| {
            let Some(mut payment) = get(txn, id)? else { return Ok(PaymentStep::Missing) };
            payment.claims.retain(|kept| !denied.contains(&kept.claim));
            put(txn, &payment);
            Ok(PaymentStep::Done(payment))
        })
        .await
    }

    pub(crate) async fn payment_uncredited(
        &self,
        gateway: String,
        reference: String,
        listed: Option<u64>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.change(move |txn| {
            let known = match txn.get(&keys::reference(&gateway, &reference))? {
                Some(bytes) => get(txn, PaymentId(decode_u64("reference", &bytes)?))?,
                None => None,
            };
            if known.as_ref().is_some_and(|payment| payment.uncredited) {
                return Ok(false);
            }
            emit(txn, now, EventBody::uncredited(&gateway, &reference, listed, known.as_ref()))?;
            if let Some(mut payment) = known {
                payment.uncredited = true;
                put(txn, &payment);
            }
            Ok(true)
        })
        .await
    }

    pub(crate) async fn payment_settle(
        &self,
        id: PaymentId,
        receipt: PaymentReceipt,
        claim: Option<PaymentClaim>,
        now: Timestamp,
    ) -> Result<PaymentSettled, StoreError> {
        self.change(move |txn| settle(txn, id, receipt, claim, now)).await
    }

    pub(crate) async fn payment_end(
        &self,
        id: PaymentId,
        state: PaymentState,
        reason: String,
        refusal: Option<PaymentRefusal>,
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
            payment.refusal.clone_from(&refusal);
            end(txn, &mut payment, state, &reason, now)?;
            Ok(PaymentStep::Done(payment))
        })
        .await
    }

    pub(crate) async fn payment_check_later(
        &self,
        id: PaymentId,
        checked: CheckedLater,
    ) -> Result<PaymentStep, StoreError> {
        self.change(move |txn| {
            let Some(mut payment) = get(txn, id)? else { return Ok(PaymentStep::Missing) };
            if !payment.state.is_open() && !payment.late_question {
                return Ok(PaymentStep::Was(payment));
            }
            payment.unanswered(&checked);
            reschedule(txn, &mut payment, checked.at);
            put(txn, &payment);
            Ok(PaymentStep::Done(payment))
        })
        .await
    }

    pub(crate) fn payment_get(&self, id: PaymentId) -> Result<Option<Payment>, StoreError> {
        let bytes = self.tree.get(keys::payment(id)).map_err(error::read)?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }

    pub(crate) fn payment_by_reference(
        &self,
        gateway: &str,
        reference: &str,
    ) -> Result<Option<Payment>, StoreError> {
        match self.tree.get(keys::reference(gateway, reference)).map_err(error::read)? {
            Some(bytes) => self.payment_get(PaymentId(decode_u64("reference", &bytes)?)),
            None => Ok(None),
        }
    }

    pub(crate) fn payments_of(
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

    pub(crate) fn payments_due(
        &self,
        gateway: &str,
        due: Due,
        limit: usize,
    ) -> Result<Vec<Payment>, StoreError> {
        let entries = due.spans().map(|(first, last)| {
            let first = keys::due(gateway, first, PaymentId(0));
            self.tree.range(first..=keys::due(gateway, last, PaymentId(u64::MAX)))
        });
        let mut payments = Vec::new();
        for entry in entries.into_iter().flatten().take(limit) {
            let (key, _) = entry.map_err(error::read)?;
            if let Some(id) = keys::last_number(&key) {
                payments.extend(self.payment_get(PaymentId(id))?);
            }
        }
        Ok(payments)
    }

    pub(crate) fn payments_open(&self, gateway: &str, limit: usize) -> Result<usize, StoreError> {
        let mut open = 0;
        for entry in self.tree.scan_prefix(keys::open_of(gateway)).take(limit) {
            entry.map_err(error::read)?;
            open += 1;
        }
        Ok(open)
    }

    pub(crate) fn payments_open_gateways(&self) -> Result<Vec<String>, StoreError> {
        let mut names: Vec<String> = Vec::new();
        let mut from = b"$g".to_vec();
        // One look-up per gateway, however many payments each has.
        while let Some(entry) = self.tree.range::<&[u8], _>(from.as_slice()..b"$h".as_slice()).next() {
            let (key, _) = entry.map_err(error::read)?;
            let name = key[2..].split(|byte| *byte == 0).next().unwrap_or_default();
            names.push(String::from_utf8_lossy(name).into_owned());
            from = [b"$g", name, &[1]].concat();
        }
        Ok(names)
    }
}

fn known(txn: &Txn, asked: &PaymentAsked) -> Result<Option<PaymentCreated>, StoreError> {
    let PaymentAsked { user, mode, order: name, unique_order, now, once } = asked;
    if let Some(once) = once {
        match once::look(txn, *user, once, *now)? {
            Subject::New => {}
            Subject::Known(id) => {
                if let Some(payment) = get(txn, PaymentId(id))?.filter(Payment::answers_repeats) {
                    return Ok(Some(PaymentCreated::Repeated(payment)));
                }
            }
            Subject::Other => return Ok(Some(PaymentCreated::KeyReused)),
        }
    }
    if name.is_empty() {
        return Ok(None);
    }
    let entry = OrderEntry::get(txn, &keys::order(*user, name))?;
    if *unique_order {
        // A payment that was paid late may have left another one open, which would take the money again.
        if let Some(paid) = get(txn, PaymentId(entry.paid))? {
            return Ok(Some(PaymentCreated::OrderPaid(paid)));
        }
        if *mode == PayMode::Direct
            && let Some(spend) = order::spent(txn, *user, name)?
        {
            return Ok(Some(PaymentCreated::OrderSpent(spend.id)));
        }
    }
    Ok(get(txn, PaymentId(entry.open))?.map(PaymentCreated::OrderOpen))
}

fn create(txn: &mut Txn, draft: PaymentDraft) -> Result<PaymentCreated, StoreError> {
    if let Some(known) = known(txn, &draft.asked())? {
        return Ok(known);
    }
    let (user, once) = (draft.user, draft.once.clone());
    let id = PaymentId(txn.next(keys::PAYMENT_SEQUENCE)?);
    let check_at = draft.check_at;
    let mut payment = Payment::created(id, draft);
    if !payment.order.is_empty() {
        let order = keys::order(user, &payment.order);
        OrderEntry { open: id.0, ..OrderEntry::get(txn, &order)? }.put(txn, order);
    }
    find::enter(txn, &payment)?;
    txn.put(keys::payment_of(user, id), sled::IVec::default());
    txn.put(keys::open(&payment.gateway, id), sled::IVec::default());
    reschedule(txn, &mut payment, check_at);
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
    claim: Option<PaymentClaim>,
    now: Timestamp,
) -> Result<PaymentSettled, StoreError> {
    let Some(mut payment) = get(txn, id)? else { return Ok(PaymentSettled::Missing) };
    let late = payment.may_be_late();
    if payment.state != PaymentState::Pending && !late {
        return Ok(PaymentSettled::Was(payment));
    }
    if !receipt.number.is_empty() {
        let key = keys::receipt(&payment.gateway, &receipt.number);
        let used = match claim {
            Some(_) => is_used(txn, &payment, &receipt.number)?,
            None => txn.get(&key)?.is_some(),
        };
        if used {
            if let Some(claim) = claim {
                payment.claims.retain(|kept| kept.claim != claim);
                put(txn, &payment);
                return Ok(PaymentSettled::ReceiptReused(payment));
            }
            if late {
                return Ok(PaymentSettled::ReceiptReused(payment));
            }
            end(txn, &mut payment, PaymentState::Failed, "receipt_reused", now)?;
            return Ok(PaymentSettled::ReceiptReused(payment));
        }
        txn.put(key, encode_u64(id.0));
    }
    match post(txn, payment_key(id), &payment.credit(), &payment.order, now)? {
        Posted::Done { .. } => {}
        Posted::TooLarge => {
            // Left pending: the gateway may keep or return the money, and a person has to look.
            txn.delete(keys::receipt(&payment.gateway, &receipt.number));
            return Ok(PaymentSettled::TooLarge);
        }
        Posted::Before | Posted::Overdraft { .. } => {
            panic!("a pending payment has no posting, and a credit overdraws nothing")
        }
    }
    let before = payment.state;
    payment.paid(receipt, now);
    ended(txn, &payment, before, now)?;
    Ok(PaymentSettled::Now(payment))
}

/// Whether a receipt's number belongs to a payment of the same provider, whatever its entry was called then.
fn is_used(txn: &Txn, payment: &Payment, number: &str) -> Result<bool, StoreError> {
    let mut last = b"$y".to_vec();
    // One look-up for each entry that ever had a receipt.
    while let Some(key) = txn.last_key_of(b"$x", &last)? {
        let gateway = key[2..].split(|byte| *byte == 0).next().unwrap_or_default();
        last = [b"$x", gateway].concat();
        let gateway = String::from_utf8_lossy(gateway);
        if let Some(bytes) = txn.get(&keys::receipt(&gateway, number))? {
            let of = get(txn, PaymentId(decode_u64("receipt", &bytes)?))?;
            if gateway == payment.gateway || of.is_none_or(|of| of.shares_receipts(payment)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Ends a payment.
fn end(
    txn: &mut Txn,
    payment: &mut Payment,
    state: PaymentState,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let before = payment.state;
    payment.end(state, reason, now);
    ended(txn, payment, before, now)
}

/// Stores a payment that ended, and removes it from every index of open ones.
fn ended(txn: &mut Txn, payment: &Payment, before: PaymentState, now: Timestamp) -> Result<(), StoreError> {
    if !payment.order.is_empty() {
        // A payment that is paid late may find another open payment for its order.
        let order = keys::order(payment.user, &payment.order);
        let mut entry = OrderEntry::get(txn, &order)?;
        if entry.open == payment.id.0 {
            entry.open = 0;
        }
        if payment.state == PaymentState::Paid {
            entry.paid = entry.paid.max(payment.id.0);
        }
        entry.put(txn, order);
    }
    find::move_state(txn, payment, before);
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

pub(crate) fn get(txn: &Txn, id: PaymentId) -> Result<Option<Payment>, StoreError> {
    txn.get_record(&keys::payment(id))
}

pub(crate) fn put(txn: &mut Txn, payment: &Payment) {
    txn.put_record(keys::payment(payment.id), payment);
}
