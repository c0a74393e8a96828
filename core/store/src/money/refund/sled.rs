//! The operations of this folder, in sled statements.

use std::time::Duration;

use serde::Deserialize;

use crate::engine::sled::keys::money as keys;
use crate::engine::sled::record::{Record, decode};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error};
use crate::money::find::sled as find;
use crate::money::ledger::sled::post;
use crate::money::ledger::{Posted, refund_key};
use crate::money::once::{Subject, sled as once};
use crate::money::order::sled as order;
use crate::money::outbox::EventBody;
use crate::money::outbox::sled::emit;
use crate::money::payment::{Payment, PaymentState, sled as payment};
use crate::money::refund::rules::{Booking, UndoInto, UndoRefused, book, matches, undo_posting, undone};
use crate::money::refund::{
    PaymentRefunded, Refund, RefundDraft, RefundQuery, RefundState, RefundTo, RefundsFound,
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
    let (id, by, now, once) = (draft.payment, draft.by, draft.now, draft.once.clone());
    let Some(payment) = payment::get(txn, id)? else { return Ok(PaymentRefunded::Missing) };
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
    let Booking { legs, mut refund, payment } = match book(payment, draft) {
        Ok(booking) => booking,
        Err(refused) => return Ok(*refused),
    };
    let (amount, number) = (refund.amount, refund.number);
    match post(txn, refund_key(id, number), &legs, &payment.order, now)? {
        Posted::Done { .. } => {}
        Posted::Overdraft { available } => return Ok(PaymentRefunded::Overdraft { available }),
        Posted::TooLarge => return Ok(PaymentRefunded::TooLarge),
        Posted::Before => panic!("refunds are numbered in the same change"),
    }
    enter(txn, &mut refund, payment.user)?;
    if refund.to == RefundTo::Reverse {
        reversal::order(txn, &payment, now);
    }
    if payment.state == PaymentState::Refunded {
        find::move_state(txn, &payment, PaymentState::Paid);
        order::paid(txn, &payment, false)?;
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
    enter_at(txn, refund, user);
    Ok(())
}

/// Stores a refund and enters it into the indexes at its position.
pub(crate) fn enter_at(txn: &mut Txn, refund: &Refund, user: UserId) {
    let (position, names) = (refund.position, name(refund));
    txn.put(keys::refund_position(position), names.clone());
    txn.put(positioned(keys::refunds_of(user), position), names.clone());
    txn.put(positioned(keys::refunds_in(refund.state as u8), position), names);
    txn.put_record(keys::refund(refund.payment, refund.number), refund);
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
    let before = std::mem::replace(&mut refund.state, state);
    state_moved(txn, refund, before);
}

/// Moves a refund in the index of states, after its state changed from `before`.
fn state_moved(txn: &mut Txn, refund: &Refund, before: RefundState) {
    txn.delete(positioned(keys::refunds_in(before as u8), refund.position));
    txn.put(positioned(keys::refunds_in(refund.state as u8), refund.position), name(refund));
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
    let (key, legs) = match undo_posting(payment, &refund, into) {
        Ok(posting) => posting,
        Err(refused) => return Ok(Err(refused)),
    };
    match post(txn, key, &legs, &payment.order, now)? {
        Posted::Done { .. } => {}
        Posted::TooLarge => return Ok(Err(UndoRefused::TooLarge)),
        Posted::Before | Posted::Overdraft { .. } => {
            panic!("a refund is taken back once, and a credit overdraws nothing")
        }
    }
    let before = (payment.state, refund.state);
    undone(payment, &mut refund, into, by, now);
    state_moved(txn, &refund, before.1);
    if into == UndoInto::Origin {
        find::move_state(txn, payment, before.0);
        order::paid(txn, payment, true)?;
        emit(txn, now, EventBody::refund_undone(payment, refund.amount, number))?;
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

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;
    use crate::engine::sled::record::encode;
    use crate::money::refund::RefundUndone;

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
