//! The operations of this folder, in sled statements.

use std::time::Duration;

use serde::Deserialize;

use crate::engine::sled::keys::money as keys;
use crate::engine::sled::record::{Record, decode};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error};
use crate::money::find::sled as find;
use crate::money::ledger::Account;
use crate::money::ledger::sled::{Posted, post, refund_key, refund_moved_key, refund_undone_key, signed};
use crate::money::once::sled as once;
use crate::money::once::sled::Subject;
use crate::money::outbox::EventBody;
use crate::money::outbox::sled::emit;
use crate::money::payment::{PayMode, Payment, PaymentState, sled as payment};
use crate::money::refund::{
    PaymentRefunded, Refund, RefundDraft, RefundQuery, RefundState, RefundTo, RefundUndone, RefundsFound,
};
use crate::money::reversal::{Reversal, ReversalState, sled as reversal};
use crate::{PaymentId, StoreError, Timestamp, UserId};

/// Refunds that one step of building the indexes covers.
const BUILD_STEP: usize = 500;
/// What a clock may have been wrong by.
const CLOCK_SLACK: Duration = Duration::from_secs(72 * 60 * 60);

impl Record for Refund {
    const KIND: &'static str = "refund";
    const SCHEMA: u8 = 3;
    const SCHEMA_OLDEST: u8 = 1;

    fn decode_older(schema: u8, body: &[u8]) -> Result<Self, postcard::Error> {
        // The second shape lacked position and state, which `enter_older` finds out.
        if schema == 2 {
            return postcard::from_bytes(&[body, &[0, RefundState::Done as u8]].concat());
        }
        // The first shape knew nothing of being taken back either.
        #[derive(Deserialize)]
        struct First {
            payment: PaymentId,
            number: u32,
            amount: u64,
            to: RefundTo,
            by: UserId,
            note: String,
            at: Timestamp,
        }
        let First { payment, number, amount, to, by, note, at } = postcard::from_bytes(body)?;
        let (position, state) = (0, RefundState::Done);
        Ok(Refund { payment, number, amount, to, by, note, at, undone: None, position, state })
    }
}

impl Sled {
    pub(crate) async fn payment_refund(&self, draft: RefundDraft) -> Result<PaymentRefunded, StoreError> {
        self.change(move |txn| refund(txn, draft)).await
    }

    pub(crate) fn refunds_find(
        &self,
        query: &RefundQuery,
        before: Option<u64>,
        limit: usize,
        looks: usize,
    ) -> Result<RefundsFound, StoreError> {
        let mut found = RefundsFound { refunds: Vec::new(), next: None };
        if let Some(id) = query.payment {
            return self.refunds_find_of(query, id, before, limit);
        }
        // The index of the fewest: what waits for somebody, then one user's, then one state's.
        let prefix = match (query.state, query.user) {
            (Some(state @ (RefundState::Open | RefundState::Refused)), _) => keys::refunds_in(state as u8),
            (_, Some(user)) => keys::refunds_of(user),
            (Some(state), None) => keys::refunds_in(state as u8),
            (None, None) => keys::REFUND_POSITIONS.to_vec(),
        };
        let first = query.from.map_or(0, Timestamp::as_micros);
        // Positions run ahead of time after the clock was turned back, by no more than that.
        let last = query.until.map_or(u64::MAX, |until| until.plus(CLOCK_SLACK).as_micros());
        let last = before.map_or(last, |before| last.min(before.saturating_sub(1)));
        if first > last || before == Some(0) {
            return Ok(found);
        }
        let range = positioned(prefix.clone(), first)..=positioned(prefix, last);
        let mut at = last;
        for (looked, entry) in self.tree.range(range).rev().enumerate() {
            if found.refunds.len() == limit || looked == looks {
                found.next = Some(at);
                break;
            }
            let (key, value) = entry.map_err(error::read)?;
            at = keys::last_number(&key).unwrap_or_default();
            let Some((id, number)) = named(&value) else { continue };
            let refund = self.record::<Refund>(&keys::refund(id, number))?;
            let payment = self.record::<Payment>(&keys::payment(id))?;
            let both = refund.zip(payment);
            found.refunds.extend(both.filter(|(refund, payment)| matches(query, refund, payment)));
        }
        Ok(found)
    }

    /// [`Sled::refunds_find`] among the refunds of one payment, which are few.
    fn refunds_find_of(
        &self,
        query: &RefundQuery,
        id: PaymentId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<RefundsFound, StoreError> {
        let mut found = RefundsFound { refunds: Vec::new(), next: None };
        let Some(payment) = self.record::<Payment>(&keys::payment(id))? else { return Ok(found) };
        let mut refunds = self.payment_refunds(id)?;
        refunds.retain(|refund| {
            before.is_none_or(|before| refund.position < before) && matches(query, refund, &payment)
        });
        let rest = refunds.len().saturating_sub(limit);
        found.next = (rest > 0).then(|| refunds[rest].position);
        found.refunds = refunds.drain(rest..).rev().map(|refund| (refund, payment.clone())).collect();
        Ok(found)
    }

    /// Builds the indexes of refunds in one step, from a payment on; returns how many refunds it read. A step takes
    /// whole payments, so that its position is a payment's number.
    pub(crate) fn build_refunds(&self, from: u64) -> Result<u64, StoreError> {
        let read = |first, last, limit| -> Result<Vec<Refund>, StoreError> {
            let entries = self.tree.range(first..=last).take(limit);
            entries.map(|entry| decode(&entry.map_err(error::read)?.1)).collect()
        };
        let end = keys::refund(PaymentId(u64::MAX), u32::MAX);
        let mut refunds = read(keys::refund(PaymentId(from), 0), end, BUILD_STEP)?;
        let mut next: sled::IVec = keys::INDEXES_ALL.into();
        if let Some(last) = refunds.last() {
            next = keys::indexes_from_refunds(PaymentId(last.payment.0 + 1));
            let (first, end) = (last.number + 1, keys::refund(last.payment, u32::MAX));
            let rest = read(keys::refund(last.payment, first), end, usize::MAX)?;
            refunds.extend(rest);
        }
        let count = refunds.len() as u64;
        self.change_blocking(move |txn| {
            for refund in refunds {
                enter_older(txn, refund)?;
            }
            txn.put(keys::INDEXES.into(), next);
            Ok(())
        })?;
        Ok(count)
    }

    pub(crate) fn payment_refunds(&self, id: PaymentId) -> Result<Vec<Refund>, StoreError> {
        let mut refunds = Vec::new();
        for entry in self.tree.range(keys::refund(id, 0)..=keys::refund(id, u32::MAX)) {
            let (_, value) = entry.map_err(error::read)?;
            refunds.push(decode(&value)?);
        }
        Ok(refunds)
    }
}

fn refund(txn: &mut Txn, draft: RefundDraft) -> Result<PaymentRefunded, StoreError> {
    assert!(draft.amount != Some(0), "amounts are checked when they come in");
    let RefundDraft { payment: id, amount, to, by, note, now, once } = draft;
    let Some(mut payment) = payment::get(txn, id)? else { return Ok(PaymentRefunded::Missing) };
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
    if payment.imported {
        return Ok(PaymentRefunded::Imported(payment));
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
    match post(txn, refund_key(id, number), &legs, &payment.order, now)? {
        Posted::Done { .. } => {}
        Posted::Overdraft { available } => return Ok(PaymentRefunded::Overdraft { available }),
        Posted::TooLarge => return Ok(PaymentRefunded::TooLarge),
        Posted::Before => panic!("refunds are numbered in the same change"),
    }
    let state = if to == RefundTo::Reverse { RefundState::Open } else { RefundState::Done };
    let mut refund =
        Refund { payment: id, number, amount, to, by, note, at: now, undone: None, position: 0, state };
    enter(txn, &mut refund, payment.user)?;
    if to == RefundTo::Reverse {
        reversal::order(txn, id, &payment.gateway, now);
    }
    payment.refunds = number;
    payment.refunded += amount;
    if payment.refunded == payment.amount {
        payment.state = PaymentState::Refunded;
        payment.ended_at = Some(now);
        find::move_state(txn, &payment, PaymentState::Paid);
        find::order_paid(txn, &payment, false)?;
    }
    payment::put(txn, &payment);
    emit(txn, now, EventBody::refunded(&payment, amount, number))?;
    if let Some(once) = once {
        once::keep(txn, by, &once, u64::from(number));
    }
    Ok(PaymentRefunded::Done(payment, refund))
}

/// Notes what became of the newest refund's reversal.
pub(crate) fn reversal_moved(txn: &mut Txn, payment: &Payment, state: RefundState) -> Result<(), StoreError> {
    let key = keys::refund(payment.id, payment.refunds);
    if let Some(mut refund) = txn.get_record::<Refund>(&key)? {
        move_state(txn, &mut refund, state);
        txn.put_record(key, &refund);
    }
    Ok(())
}

/// Stores a new refund and enters it into the indexes.
fn enter(txn: &mut Txn, refund: &mut Refund, user: UserId) -> Result<(), StoreError> {
    let mut position = refund.at.as_micros().max(1);
    while txn.get(&keys::refund_position(position))?.is_some() {
        position += 1;
    }
    refund.position = position;
    let names = name(refund);
    txn.put(keys::refund_position(position), names.clone());
    txn.put(positioned(keys::refunds_of(user), position), names.clone());
    txn.put(positioned(keys::refunds_in(refund.state as u8), position), names);
    txn.put_record(keys::refund(refund.payment, refund.number), refund);
    Ok(())
}

/// Enters a refund that was stored without its indexes. What its reversal says is its state.
fn enter_older(txn: &mut Txn, mut refund: Refund) -> Result<(), StoreError> {
    if refund.position != 0 && txn.get(&keys::refund_position(refund.position))?.is_some() {
        return Ok(());
    }
    let Some(payment) = payment::get(txn, refund.payment)? else { return Ok(()) };
    // A reversal belongs to its payment's newest refund.
    let reversal = match refund.to == RefundTo::Reverse && refund.number == payment.refunds {
        true => txn.get_record::<Reversal>(&keys::reversal(refund.payment))?,
        false => None,
    };
    refund.state = match (refund.undone, reversal.map(|reversal| reversal.state)) {
        (Some(_), _) => RefundState::Undone,
        (None, Some(ReversalState::Open)) => RefundState::Open,
        (None, Some(ReversalState::Refused(_))) => RefundState::Refused,
        (None, Some(ReversalState::Done) | None) => RefundState::Done,
    };
    enter(txn, &mut refund, payment.user)
}

/// The caller stores the record.
fn move_state(txn: &mut Txn, refund: &mut Refund, state: RefundState) {
    txn.delete(positioned(keys::refunds_in(refund.state as u8), refund.position));
    refund.state = state;
    txn.put(positioned(keys::refunds_in(state as u8), refund.position), name(refund));
}

fn positioned(prefix: Vec<u8>, position: u64) -> sled::IVec {
    [prefix.as_slice(), &position.to_be_bytes()].concat().into()
}

/// A refund as the value of its index entries.
fn name(refund: &Refund) -> sled::IVec {
    [refund.payment.0.to_be_bytes().as_slice(), &refund.number.to_be_bytes()].concat().into()
}

/// Reads [`name`].
fn named(value: &[u8]) -> Option<(PaymentId, u32)> {
    let (payment, number) = value.split_first_chunk::<8>()?;
    let number = number.first_chunk::<4>()?;
    Some((PaymentId(u64::from_be_bytes(*payment)), u32::from_be_bytes(*number)))
}

/// What a query says beyond its index.
fn matches(query: &RefundQuery, refund: &Refund, payment: &Payment) -> bool {
    query.user.is_none_or(|user| payment.user == user)
        && query.state.is_none_or(|state| refund.state == state)
        && query.to.is_none_or(|to| refund.to == to)
        && query.gateway.as_ref().is_none_or(|gateway| payment.gateway == *gateway)
        && query.by.is_none_or(|by| refund.by == by)
        && query.from.is_none_or(|from| refund.at >= from)
        && query.until.is_none_or(|until| refund.at < until)
}

/// Takes the newest refund back, in the change that ends its reversal: the money returns to where it came from, or goes
/// to the payer's wallet. `Err` holds why nothing was done.
pub(crate) fn undo(
    txn: &mut Txn,
    payment: &mut Payment,
    into: UndoInto,
    by: UserId,
    now: Timestamp,
) -> Result<Result<(), UndoRefused>, StoreError> {
    let (id, number) = (payment.id, payment.refunds);
    let Some(mut refund) = txn.get_record::<Refund>(&keys::refund(id, number))? else {
        return Ok(Err(UndoRefused::Missing));
    };
    let gateway = Account::Gateway(payment.gateway.clone());
    let (to, key) = match (payment.mode, into) {
        (PayMode::Charge, UndoInto::Origin) => (Account::Wallet(payment.user), refund_undone_key(id, number)),
        (PayMode::Direct, UndoInto::Origin) => (Account::Merchant, refund_undone_key(id, number)),
        (PayMode::Direct, UndoInto::Wallet) => (Account::Wallet(payment.user), refund_moved_key(id, number)),
        (PayMode::Charge, UndoInto::Wallet) => return Ok(Err(UndoRefused::InWallet)),
    };
    let legs = [(to, signed(refund.amount)), (gateway, -signed(refund.amount))];
    match post(txn, key, &legs, &payment.order, now)? {
        Posted::Done { .. } => {}
        Posted::TooLarge => return Ok(Err(UndoRefused::TooLarge)),
        Posted::Before | Posted::Overdraft { .. } => {
            panic!("a refund is taken back once, and a credit overdraws nothing")
        }
    }
    match into {
        UndoInto::Wallet => {
            refund.to = RefundTo::Wallet;
            move_state(txn, &mut refund, RefundState::Done);
        }
        UndoInto::Origin => {
            refund.undone = Some(RefundUndone { by, at: now });
            move_state(txn, &mut refund, RefundState::Undone);
            payment.refunded -= refund.amount;
            payment.state = PaymentState::Paid;
            payment.ended_at = payment.paid_at;
            find::move_state(txn, payment, PaymentState::Refunded);
            find::order_paid(txn, payment, true)?;
            emit(txn, now, EventBody::refund_undone(payment, refund.amount, number))?;
        }
    }
    txn.put_record(keys::refund(id, number), &refund);
    payment::put(txn, payment);
    Ok(Ok(()))
}

/// Notes that the payer got the newest refund outside.
pub(crate) fn paid_outside(txn: &mut Txn, payment: &Payment) -> Result<(), StoreError> {
    let key = keys::refund(payment.id, payment.refunds);
    if let Some(mut refund) = txn.get_record::<Refund>(&key)? {
        refund.to = RefundTo::Gateway;
        move_state(txn, &mut refund, RefundState::Done);
        txn.put_record(key, &refund);
    }
    Ok(())
}

/// Where money of a refund that the payer did not get goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UndoInto {
    Origin,
    Wallet,
}

/// Why a refund was not taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UndoRefused {
    /// The payment charged the wallet: taking back returns it there.
    InWallet,
    TooLarge,
    Missing,
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;
    use crate::engine::sled::record::encode;

    /// A refund as the version before the indexes stored it.
    #[derive(Serialize, Deserialize)]
    struct Second {
        payment: PaymentId,
        number: u32,
        amount: u64,
        to: RefundTo,
        by: UserId,
        note: String,
        at: Timestamp,
        undone: Option<RefundUndone>,
    }

    impl Record for Second {
        const KIND: &'static str = "refund";
        const SCHEMA: u8 = 2;
    }

    #[test]
    fn a_refund_of_the_version_before_has_no_position_yet() {
        let at = Timestamp::from_secs(5);
        let (payment, by, note) = (PaymentId(7), UserId(1), "late".to_owned());
        let undone = Some(RefundUndone { by, at });
        let old = Second { payment, number: 2, amount: 30, to: RefundTo::Reverse, by, note, at, undone };
        let refund = decode::<Refund>(&encode(&old)).unwrap();
        assert_eq!((refund.payment, refund.number, refund.to), (payment, 2, RefundTo::Reverse));
        assert_eq!((refund.undone, refund.position), (undone, 0));
    }
}
