//! The operations of this folder, in sled statements.

use crate::engine::sled::keys::money as keys;
use crate::engine::sled::record::{Record, decode};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error};
use crate::money::reversal::{Reversal, ReversalState, ReversalStep};
use crate::{PaymentId, StoreError, Timestamp};

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
        let mut open = Vec::new();
        for entry in self.tree.scan_prefix(keys::REVERSALS_OPEN).take(limit) {
            let (key, _) = entry.map_err(error::read)?;
            let payment = keys::payment_of_reversal(&key).map(|id| self.reversal_get(id)).transpose()?;
            open.extend(payment.flatten());
        }
        Ok(open)
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
            if reversal.state != ReversalState::Open {
                return Ok(Some(reversal));
            }
            reversal.asked += 1;
            reversal.updated_at = now;
            match step {
                ReversalStep::Done => reversal.state = ReversalState::Done,
                ReversalStep::Refused(reason) => reversal.state = ReversalState::Refused(reason),
                ReversalStep::AskAgain { at, doubtful } => {
                    reversal.ask_at = at;
                    reversal.doubtful |= doubtful;
                }
            }
            if reversal.state != ReversalState::Open {
                txn.delete(keys::reversal_open(payment));
            }
            txn.put_record(keys::reversal(payment), &reversal);
            Ok(Some(reversal))
        })
        .await
    }
}

/// Opens a reversal in the change that books its refund.
pub(crate) fn order(txn: &mut Txn, payment: PaymentId, gateway: &str, now: Timestamp) {
    let reversal = Reversal {
        payment,
        gateway: gateway.to_owned(),
        state: ReversalState::Open,
        asked: 0,
        doubtful: false,
        ask_at: now,
        ordered_at: now,
        updated_at: now,
    };
    txn.put_record(keys::reversal(payment), &reversal);
    txn.put(keys::reversal_open(payment), sled::IVec::default());
}
