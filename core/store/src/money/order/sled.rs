//! The operations of this folder, in sled statements.

use crate::engine::sled::keys::money as keys;
use crate::engine::sled::record::decode_u64;
use crate::engine::sled::txn::Txn;
use crate::money::payment::{PayMode, Payment, PaymentState};
use crate::money::spend::Spend;
use crate::{PaymentId, SpendId, StoreError, UserId};

/// What is kept of one user's order: 0 for none.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OrderEntry {
    /// The payment that is open.
    pub(crate) open: u64,
    /// The newest payment that is paid.
    pub(crate) paid: u64,
}

impl OrderEntry {
    /// Earlier versions kept the open payment alone.
    fn read(bytes: &[u8]) -> Result<OrderEntry, StoreError> {
        match bytes.split_at_checked(8) {
            Some((open, [])) => Ok(OrderEntry { open: decode_u64("order", open)?, paid: 0 }),
            Some((open, paid)) => {
                Ok(OrderEntry { open: decode_u64("order", open)?, paid: decode_u64("order", paid)? })
            }
            None => Err(StoreError::Record { kind: "order", reason: format!("{} bytes", bytes.len()) }),
        }
    }

    pub(crate) fn get(txn: &Txn, key: &[u8]) -> Result<OrderEntry, StoreError> {
        txn.get(key)?.map_or(Ok(OrderEntry::default()), |bytes| OrderEntry::read(&bytes))
    }

    pub(crate) fn put(self, txn: &mut Txn, key: sled::IVec) {
        if self == OrderEntry::default() {
            txn.delete(key);
        } else {
            txn.put(key, [self.open.to_be_bytes(), self.paid.to_be_bytes()].concat().into());
        }
    }
}

/// Notes that an order's payment was paid, or given back as a whole.
pub(crate) fn paid(txn: &mut Txn, payment: &Payment, is_paid: bool) -> Result<(), StoreError> {
    if payment.order.is_empty() {
        return Ok(());
    }
    let key = keys::order(payment.user, &payment.order);
    let mut entry = OrderEntry::get(txn, &key)?;
    match is_paid {
        true => entry.paid = entry.paid.max(payment.id.0),
        false if entry.paid == payment.id.0 => {
            let others = |other: &Payment| other.id != payment.id && other.state == PaymentState::Paid;
            entry.paid =
                newest_of_order(txn, payment.user, &payment.order, others)?.map_or(0, |other| other.0);
        }
        false => return Ok(()),
    }
    entry.put(txn, key);
    Ok(())
}

/// The newest payment that paid a user's order without charging the wallet.
pub(crate) fn paid_directly(txn: &Txn, user: UserId, order: &str) -> Result<Option<PaymentId>, StoreError> {
    if OrderEntry::get(txn, &keys::order(user, order))?.paid == 0 {
        return Ok(None);
    }
    let direct = |payment: &Payment| payment.state == PaymentState::Paid && payment.mode == PayMode::Direct;
    newest_of_order(txn, user, order, direct)
}

/// The newest payment of a user's order for which `fits` holds.
fn newest_of_order(
    txn: &Txn,
    user: UserId,
    order: &str,
    fits: impl Fn(&Payment) -> bool,
) -> Result<Option<PaymentId>, StoreError> {
    let (of_order, of_user) = (keys::ordered_as(order), keys::payments_of(user));
    let mut at_most = u64::MAX;
    // Many users may have an order of this name, and a user many payments. Each index skips what the other lacks.
    while let Some(id) = last_at_most(txn, &of_order, at_most)? {
        let Some(candidate) = last_at_most(txn, &of_user, id)? else { break };
        at_most = candidate;
        if candidate < id {
            continue;
        }
        let found = txn.get_record::<Payment>(&keys::payment(PaymentId(id)))?;
        if found.is_some_and(|found| found.order == order && fits(&found)) {
            return Ok(Some(PaymentId(id)));
        }
        let Some(next) = id.checked_sub(1) else { break };
        at_most = next;
    }
    Ok(None)
}

/// The largest number, up to `id`, of an index's keys that begin with `prefix`.
fn last_at_most(txn: &Txn, prefix: &[u8], id: u64) -> Result<Option<u64>, StoreError> {
    let first = [prefix, &0u64.to_be_bytes()].concat();
    let last = [prefix, &id.to_be_bytes()].concat();
    let key = txn.last_key_of(&first, &last)?;
    Ok(key.and_then(|key| key[prefix.len()..].first_chunk().map(|number| u64::from_be_bytes(*number))))
}

/// The spend of a user's order, unless it was given back.
pub(crate) fn spent(txn: &Txn, user: UserId, order: &str) -> Result<Option<Spend>, StoreError> {
    let Some(id) = txn.get(&keys::spend_order(user, order))? else { return Ok(None) };
    txn.get_record(&keys::spend(SpendId(decode_u64("order", &id)?)))
}
