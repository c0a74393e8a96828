//! The operations of this folder, in sled statements.

use crate::engine::sled::keys::money as keys;
use crate::engine::sled::record::{Record, decode};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error};
use crate::money::ledger::Account;
use crate::money::ledger::sled::{Posted, post, refund_key, signed};
use crate::money::once::sled as once;
use crate::money::once::sled::Subject;
use crate::money::outbox::EventBody;
use crate::money::outbox::sled::emit;
use crate::money::payment::{PayMode, PaymentState, sled as payment};
use crate::money::refund::{PaymentRefunded, Refund, RefundDraft, RefundTo};
use crate::money::reversal::sled as reversal;
use crate::{PaymentId, StoreError};

impl Record for Refund {
    const KIND: &'static str = "refund";
    const SCHEMA: u8 = 1;
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
    payment::put(txn, &payment);
    emit(txn, now, EventBody::refunded(&payment, amount, number))?;
    if let Some(once) = once {
        once::keep(txn, by, &once, u64::from(number));
    }
    Ok(PaymentRefunded::Done(payment, refund))
}
