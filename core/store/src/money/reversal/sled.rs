//! Reversals: refunds that the payment's own gateway is asked to carry out.
//!
//! The refund is booked first; then the gateway is asked until it gives a clear answer. A reversal moves
//! Open -> Done | Refused, never back, and an open one is in the index of open ones, so that a process that starts anew
//! goes on asking. One for each payment, because gateways reverse a payment as a whole. A refusal leaves the refund
//! booked: the payer is owed the money, by another way. Not here: what to ask and what an answer means.

use serde::{Deserialize, Serialize};

use crate::engine::sled::record::{Record, decode};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{error, keys::money as keys};
use crate::{PaymentId, Store, StoreError, Timestamp};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reversal {
    pub payment: PaymentId,
    /// Who carried the payment.
    pub gateway: String,
    pub state: ReversalState,
    /// How often the gateway was asked.
    pub asked: u32,
    /// After some question nobody knew whether it was carried out: only a clear answer ends it.
    pub doubtful: bool,
    /// When to ask (again), while it is open.
    pub ask_at: Timestamp,
    pub ordered_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReversalState {
    Open,
    Done,
    /// With the gateway's code, or ours.
    Refused(String),
}

/// What a question came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReversalStep {
    Done,
    Refused(String),
    AskAgain { at: Timestamp, doubtful: bool },
}

impl Record for Reversal {
    const KIND: &'static str = "reversal";
    const SCHEMA: u8 = 1;
}

impl Store {
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn reversal_get(&self, payment: PaymentId) -> Result<Option<Reversal>, StoreError> {
        let bytes = self.tree.get(keys::reversal(payment)).map_err(error::read)?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }

    /// Open reversals, oldest payments first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn reversals_open(&self, limit: usize) -> Result<Vec<Reversal>, StoreError> {
        let mut open = Vec::new();
        for entry in self.tree.scan_prefix(keys::REVERSALS_OPEN).take(limit) {
            let (key, _) = entry.map_err(error::read)?;
            let payment = keys::payment_of_reversal(&key).map(|id| self.reversal_get(id)).transpose()?;
            open.extend(payment.flatten());
        }
        Ok(open)
    }

    /// Notes what a question came to; the reversal as it stands then. One that has ended stays as it is.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn reversal_step(
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

/// Orders a reversal, in the change that books its refund.
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
