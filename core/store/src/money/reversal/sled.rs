//! The operations of this folder, in sled statements.

use crate::engine::sled::keys::money as keys;
use crate::engine::sled::record::{Record, decode};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error};
use crate::money::outbox::EventBody;
use crate::money::outbox::sled::emit;
use crate::money::payment::{Payment, sled as payment};
use crate::money::refund::rules::{UndoInto, UndoRefused};
use crate::money::refund::{RefundState, sled as refund};
use crate::money::reversal::{Reversal, ReversalDecided, ReversalDecision, ReversalState, ReversalStep};
use crate::{PaymentId, StoreError, Timestamp, UserId};

impl Record for Reversal {
    const KIND: &'static str = "reversal";
    const SCHEMA: u8 = 1;
}

impl Sled {
    pub(crate) fn reversal_get(&self, payment: PaymentId) -> Result<Option<Reversal>, StoreError> {
        let bytes = self.tree.get(keys::reversal(payment)).map_err(error::read)?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }

    pub(crate) fn reversals_open(&self, limit: usize) -> Result<Vec<Reversal>, StoreError> {
        self.reversals_of(keys::REVERSALS_OPEN, limit)
    }

    pub(crate) fn reversals_undecided(&self, limit: usize) -> Result<Vec<Reversal>, StoreError> {
        let mut refused = self.reversals_of(keys::REVERSALS_REFUSED, limit)?;
        refused.extend(self.reversals_of(keys::REVERSALS_OPEN, limit - refused.len())?);
        refused.sort_by_key(|reversal| reversal.payment);
        Ok(refused)
    }

    fn reversals_of(&self, index: &[u8], limit: usize) -> Result<Vec<Reversal>, StoreError> {
        let mut found = Vec::new();
        for entry in self.tree.scan_prefix(index).take(limit) {
            let (key, _) = entry.map_err(error::read)?;
            let payment = keys::payment_of_reversal(&key).map(|id| self.reversal_get(id)).transpose()?;
            found.extend(payment.flatten());
        }
        Ok(found)
    }

    pub(crate) async fn reversal_decide(
        &self,
        payment: PaymentId,
        decision: ReversalDecision,
        by: UserId,
        now: Timestamp,
    ) -> Result<ReversalDecided, StoreError> {
        self.change(move |txn| decide(txn, payment, decision, by, now)).await
    }

    pub(crate) async fn reversal_step(
        &self,
        payment: PaymentId,
        step: ReversalStep,
        now: Timestamp,
    ) -> Result<Option<Reversal>, StoreError> {
        self.change(move |txn| {
            let Some(mut reversal) = txn.get_record::<Reversal>(&keys::reversal(payment))? else {
                return Ok(None);
            };
            if !reversal.takes(&step) {
                return Ok(Some(reversal));
            }
            reversal.stepped(step, now);
            if reversal.state != ReversalState::Open {
                txn.delete(keys::reversal_open(payment));
            }
            if let Some(payment) = payment::get(txn, payment)? {
                match &reversal.state {
                    ReversalState::Open => {}
                    ReversalState::Done => {
                        txn.delete(keys::reversal_refused(payment.id));
                        refund::reversal_moved(txn, &payment, RefundState::Done)?;
                    }
                    ReversalState::Refused(code) => {
                        txn.put(keys::reversal_refused(payment.id), sled::IVec::default());
                        refund::reversal_moved(txn, &payment, RefundState::Refused)?;
                        emit(txn, now, EventBody::reversal_refused(&payment, code))?;
                    }
                }
            }
            txn.put_record(keys::reversal(payment), &reversal);
            Ok(Some(reversal))
        })
        .await
    }
}

fn decide(
    txn: &mut Txn,
    id: PaymentId,
    decision: ReversalDecision,
    by: UserId,
    now: Timestamp,
) -> Result<ReversalDecided, StoreError> {
    let Some(mut reversal) = txn.get_record::<Reversal>(&keys::reversal(id))? else {
        return Ok(ReversalDecided::Missing);
    };
    let Some(mut payment) = payment::get(txn, id)? else { return Ok(ReversalDecided::Missing) };
    let is_open = match reversal.state {
        ReversalState::Done => return Ok(ReversalDecided::Missing),
        ReversalState::Open => true,
        ReversalState::Refused(_) => false,
    };
    let into = match decision {
        ReversalDecision::PaidOutside => {
            refund::paid_outside(txn, &payment)?;
            None
        }
        _ if is_open => return Ok(ReversalDecided::Open),
        ReversalDecision::AskAgain => {
            reversal.asked_again(now);
            txn.put_record(keys::reversal(id), &reversal);
            txn.put(keys::reversal_open(id), sled::IVec::default());
            txn.delete(keys::reversal_refused(id));
            refund::reversal_moved(txn, &payment, RefundState::Open)?;
            return Ok(ReversalDecided::Done(payment));
        }
        ReversalDecision::Undo => Some(UndoInto::Origin),
        ReversalDecision::ToWallet => Some(UndoInto::Wallet),
    };
    if let Some(into) = into
        && let Err(refused) = refund::undo(txn, &mut payment, into, by, now)?
    {
        return Ok(match refused {
            UndoRefused::InWallet => ReversalDecided::InWallet,
            UndoRefused::TooLarge => ReversalDecided::TooLarge,
            UndoRefused::Missing => ReversalDecided::Missing,
        });
    }
    txn.delete(keys::reversal_open(id));
    txn.delete(keys::reversal_refused(id));
    txn.delete(keys::reversal(id));
    Ok(ReversalDecided::Done(payment))
}

/// Opens a reversal in the change that books its refund.
pub(crate) fn order(txn: &mut Txn, payment: &Payment, now: Timestamp) {
    txn.put_record(keys::reversal(payment.id), &Reversal::ordered(payment, now));
    txn.put(keys::reversal_open(payment.id), sled::IVec::default());
}
