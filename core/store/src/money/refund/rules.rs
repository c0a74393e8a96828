//! Judging and booking refunds, on the records alone.

use crate::money::ledger::{Account, refund_moved_key, refund_undone_key, signed};
use crate::money::payment::{PayMode, Payment, PaymentState};
use crate::money::refund::{
    PaymentRefunded, Refund, RefundDraft, RefundQuery, RefundState, RefundTo, RefundUndone,
};
use crate::{Timestamp, UserId};

/// A refund that its payment allows: the legs of its posting, and what is stored once they are posted.
pub(crate) struct Booking {
    pub(crate) legs: [(Account, i64); 2],
    pub(crate) refund: Refund,
    /// The payment afterwards.
    pub(crate) payment: Payment,
}

/// Books a refund on a payment, or returns why not.
///
/// # Panics
///
/// For an amount of 0: a defect, because no such amount is accepted.
pub(crate) fn book(mut payment: Payment, draft: RefundDraft) -> Result<Booking, Box<PaymentRefunded>> {
    assert!(draft.amount != Some(0), "amounts are checked when they come in");
    let RefundDraft { amount, to, by, note, now, .. } = draft;
    if payment.imported {
        return Err(Box::new(PaymentRefunded::Imported(payment)));
    }
    if payment.state != PaymentState::Paid {
        return Err(Box::new(PaymentRefunded::NotPaid(payment)));
    }
    let left = payment.amount - payment.refunded;
    let amount = amount.unwrap_or(left);
    if amount > left {
        return Err(Box::new(PaymentRefunded::TooMuch { left }));
    }
    if to == RefundTo::Reverse && amount != payment.amount {
        return Err(Box::new(PaymentRefunded::NotWhole));
    }
    let wallet = Account::Wallet(payment.user);
    let gateway = Account::Gateway(payment.gateway.clone());
    let (from, into) = match (payment.mode, to) {
        (PayMode::Charge, RefundTo::Gateway | RefundTo::Reverse) => (wallet, gateway),
        (PayMode::Charge, RefundTo::Wallet) => return Err(Box::new(PaymentRefunded::InWallet)),
        (PayMode::Direct, RefundTo::Gateway | RefundTo::Reverse) => (Account::Merchant, gateway),
        (PayMode::Direct, RefundTo::Wallet) => (Account::Merchant, wallet),
    };
    payment.refunds += 1;
    payment.refunded += amount;
    if payment.refunded == payment.amount {
        payment.state = PaymentState::Refunded;
        payment.ended_at = Some(now);
    }
    let refund = Refund {
        payment: payment.id,
        number: payment.refunds,
        amount,
        to,
        by,
        note,
        at: now,
        undone: None,
        position: 0,
        state: if to == RefundTo::Reverse { RefundState::Open } else { RefundState::Done },
    };
    Ok(Booking { legs: [(from, -signed(amount)), (into, signed(amount))], refund, payment })
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

/// The posting that takes a refund back: its key and its legs.
pub(crate) fn undo_posting(
    payment: &Payment,
    refund: &Refund,
    into: UndoInto,
) -> Result<(String, [(Account, i64); 2]), UndoRefused> {
    let (id, number) = (payment.id, refund.number);
    let (to, key) = match (payment.mode, into) {
        (PayMode::Charge, UndoInto::Origin) => (Account::Wallet(payment.user), refund_undone_key(id, number)),
        (PayMode::Direct, UndoInto::Origin) => (Account::Merchant, refund_undone_key(id, number)),
        (PayMode::Direct, UndoInto::Wallet) => (Account::Wallet(payment.user), refund_moved_key(id, number)),
        (PayMode::Charge, UndoInto::Wallet) => return Err(UndoRefused::InWallet),
    };
    let gateway = Account::Gateway(payment.gateway.clone());
    Ok((key, [(to, signed(refund.amount)), (gateway, -signed(refund.amount))]))
}

/// Notes in a refund and its payment what [`undo_posting`] posted.
pub(crate) fn undone(payment: &mut Payment, refund: &mut Refund, into: UndoInto, by: UserId, now: Timestamp) {
    match into {
        UndoInto::Wallet => {
            refund.to = RefundTo::Wallet;
            refund.state = RefundState::Done;
        }
        UndoInto::Origin => {
            refund.undone = Some(RefundUndone { by, at: now });
            refund.state = RefundState::Undone;
            payment.refunded -= refund.amount;
            payment.state = PaymentState::Paid;
            payment.ended_at = payment.paid_at;
        }
    }
}

/// What a query says beyond its index.
pub(crate) fn matches(query: &RefundQuery, refund: &Refund, payment: &Payment) -> bool {
    query.user.is_none_or(|user| payment.user == user)
        && query.state.is_none_or(|state| refund.state == state)
        && query.to.is_none_or(|to| refund.to == to)
        && query.gateway.as_ref().is_none_or(|gateway| payment.gateway == *gateway)
        && query.by.is_none_or(|by| refund.by == by)
        && query.from.is_none_or(|from| refund.at >= from)
        && query.until.is_none_or(|until| refund.at < until)
}
