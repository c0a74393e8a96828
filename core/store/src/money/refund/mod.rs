//! Refunds: parts of a payment, or all of it, that are given back.

pub(crate) mod sled;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, on_engine};
use crate::money::once::Once;
use crate::money::payment::Payment;
use crate::{PaymentId, Store, StoreError, Timestamp, UserId};

/// Where refunded money goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefundTo {
    /// Back to the payer by the gateway, which the operator has done or sees to.
    Gateway,
    /// To the payer's wallet.
    Wallet,
    /// Back to the payer by the gateway, which is asked to: see [`crate::Reversal`]. The whole payment only.
    Reverse,
}

#[derive(Debug, Clone)]
pub struct RefundDraft {
    pub payment: PaymentId,
    /// Rial, at least 1; `None` for all that is left.
    pub amount: Option<u64>,
    pub to: RefundTo,
    /// Who ordered it.
    pub by: UserId,
    pub note: String,
    pub now: Timestamp,
    pub once: Option<Once>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    pub payment: PaymentId,
    /// From 1.
    pub number: u32,
    pub amount: u64,
    pub to: RefundTo,
    pub by: UserId,
    pub note: String,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentRefunded {
    Done(Payment, Refund),
    Repeated(Payment, Refund),
    KeyReused,
    /// Only what is paid can be given back. As it is now.
    NotPaid(Payment),
    /// No more than this is left of what was paid.
    TooMuch {
        left: u64,
    },
    /// The payer's wallet does not have it any more.
    Overdraft {
        available: u64,
    },
    /// What charged the wallet cannot be refunded to it.
    InWallet,
    /// A gateway reverses a payment as a whole or not at all.
    NotWhole,
    TooLarge,
    Missing,
}

impl Store {
    /// Gives back a part or all of what was paid. The last part makes it Refunded.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn payment_refund(&self, draft: RefundDraft) -> Result<PaymentRefunded, StoreError> {
        on_engine!(self, payment_refund(draft).await)
    }

    /// The parts of a payment that were given back, in their order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn payment_refunds(&self, id: PaymentId) -> Result<Vec<Refund>, StoreError> {
        on_engine!(self, read payment_refunds(id))
    }
}
