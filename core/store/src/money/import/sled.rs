//! Statements of sled.

use crate::StoreError;
use crate::engine::sled::Sled;
use crate::engine::sled::keys::money as keys;
use crate::engine::sled::record::encode_u64;
use crate::engine::sled::txn::Txn;
use crate::money::find::sled as find;
use crate::money::import::OpeningBalance;
use crate::money::ledger::sled::post;
use crate::money::ledger::{Account, Posted};
use crate::money::order::sled::OrderEntry;
use crate::money::payment::{Payment, PaymentState, sled as payment};

impl Sled {
    pub(crate) async fn import_balances(&self, balances: Vec<OpeningBalance>) -> Result<usize, StoreError> {
        self.change(move |txn| {
            let mut posted = 0;
            for OpeningBalance { key, user, amount, at } in balances {
                let account = if amount < 0 { Account::Debt(user) } else { Account::Wallet(user) };
                let name = key.clone();
                match post(txn, key, &[(account, amount), (Account::Import, -amount)], "", at)? {
                    Posted::Done { .. } => posted += 1,
                    Posted::Before => {}
                    Posted::Overdraft { .. } | Posted::TooLarge => {
                        let reason = format!("{name}: {amount} rial are too much for an account");
                        return Err(StoreError::Record { kind: "opening balance", reason });
                    }
                }
            }
            Ok(posted)
        })
        .await
    }

    pub(crate) async fn import_payments(&self, payments: Vec<Payment>) -> Result<(), StoreError> {
        self.change(move |txn| payments.iter().try_for_each(|payment| put(txn, payment))).await
    }
}

/// Stores a payment under its id, and enters it into every index.
pub(crate) fn put(txn: &mut Txn, payment: &Payment) -> Result<(), StoreError> {
    let Payment { id, user, gateway, .. } = payment;
    txn.put(keys::payment_of(*user, *id), sled::IVec::default());
    if let Some(start) = &payment.start {
        claim(txn, keys::reference(gateway, &start.reference), id.0)?;
    }
    if let Some(receipt) = payment.receipt.as_ref().filter(|receipt| !receipt.number.is_empty()) {
        claim(txn, keys::receipt(gateway, &receipt.number), id.0)?;
    }
    find::enter(txn, payment)?;
    find::move_state(txn, payment, PaymentState::Created);
    if !payment.order.is_empty() {
        let order = keys::order(*user, &payment.order);
        let mut entry = OrderEntry::get(txn, &order)?;
        match payment.state {
            PaymentState::Paid => entry.paid = entry.paid.max(id.0),
            state if state.is_open() => entry.open = id.0,
            _ => {}
        }
        entry.put(txn, order);
    }
    if payment.state.is_open() || payment.late_question {
        txn.put(keys::open(gateway, *id), sled::IVec::default());
        txn.put(keys::due(gateway, payment.check_at, *id), sled::IVec::default());
    }
    payment::put(txn, payment);
    Ok(())
}

/// Writes a name of a payment, unless another payment has it.
fn claim(txn: &mut Txn, key: sled::IVec, id: u64) -> Result<(), StoreError> {
    if txn.get(&key)?.is_none() {
        txn.put(key, encode_u64(id));
    }
    Ok(())
}
