//! The operations of this folder, in sled statements.

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
use crate::money::refund::{PaymentRefunded, Refund, RefundDraft, RefundTo, RefundUndone};
use crate::money::reversal::sled as reversal;
use crate::{PaymentId, StoreError, Timestamp, UserId};

impl Record for Refund {
    const KIND: &'static str = "refund";
    const SCHEMA: u8 = 2;
    const SCHEMA_OLDEST: u8 = 1;

    fn decode_older(_schema: u8, body: &[u8]) -> Result<Self, postcard::Error> {
        // The first shape knew nothing of being taken back.
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
        Ok(Refund { payment, number, amount, to, by, note, at, undone: None })
    }
}

impl Sled {
    pub(crate) async fn payment_refund(&self, draft: RefundDraft) -> Result<PaymentRefunded, StoreError> {
        self.change(move |txn| refund(txn, draft)).await
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
    let refund = Refund { payment: id, number, amount, to, by, note, at: now, undone: None };
    txn.put_record(keys::refund(id, number), &refund);
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
        UndoInto::Wallet => refund.to = RefundTo::Wallet,
        UndoInto::Origin => {
            refund.undone = Some(RefundUndone { by, at: now });
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
