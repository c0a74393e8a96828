//! Events: their kinds, as configurations and receivers name them, and how the changes make them.

use crate::money::outbox::{Attempt, Delivery, DeliveryState, EventBody, PaymentFacts};
use crate::money::payment::{Payment, PaymentState};
use crate::money::spend::Spend;

impl EventBody {
    /// Every kind there is, as configurations and receivers name them.
    pub const KINDS: [&'static str; 14] = [
        "payment.paid",
        "payment.failed",
        "payment.cancelled",
        "payment.expired",
        "payment.refunded",
        "payment.uncredited",
        "payment.reversal_refused",
        "payment.refund_undone",
        "wallet.credited",
        "wallet.debited",
        "wallet.captured",
        "wallet.hold_expired",
        "webhook.test",
        "sms.credit_low",
    ];

    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            EventBody::PaymentEnded(payment) => match payment.state {
                PaymentState::Paid | PaymentState::Refunded => "payment.paid",
                PaymentState::Cancelled => "payment.cancelled",
                PaymentState::Expired => "payment.expired",
                PaymentState::Failed | PaymentState::Created | PaymentState::Pending => "payment.failed",
            },
            EventBody::PaymentRefunded { .. } => "payment.refunded",
            EventBody::PaymentUncredited { .. } => "payment.uncredited",
            EventBody::WalletChanged { amount, .. } if *amount > 0 => "wallet.credited",
            EventBody::WalletChanged { .. } => "wallet.debited",
            EventBody::SpendCaptured { .. } => "wallet.captured",
            EventBody::ReversalRefused { .. } => "payment.reversal_refused",
            EventBody::RefundUndone { .. } => "payment.refund_undone",
            EventBody::HoldExpired { .. } => "wallet.hold_expired",
            EventBody::Test => "webhook.test",
            EventBody::CreditLow(_) => "sms.credit_low",
        }
    }

    pub(crate) fn refunded(payment: &Payment, amount: u64, number: u32) -> EventBody {
        EventBody::PaymentRefunded { payment: facts(payment), amount, number }
    }

    pub(crate) fn ended(payment: &Payment) -> EventBody {
        EventBody::PaymentEnded(facts(payment))
    }

    pub(crate) fn uncredited(
        gateway: &str,
        reference: &str,
        listed: Option<u64>,
        payment: Option<&Payment>,
    ) -> EventBody {
        let (gateway, reference) = (gateway.to_owned(), reference.to_owned());
        EventBody::PaymentUncredited { gateway, reference, listed, payment: payment.map(facts) }
    }

    pub(crate) fn reversal_refused(payment: &Payment, code: &str) -> EventBody {
        EventBody::ReversalRefused { payment: facts(payment), code: code.to_owned() }
    }

    pub(crate) fn refund_undone(payment: &Payment, amount: u64, number: u32) -> EventBody {
        EventBody::RefundUndone { payment: facts(payment), amount, number }
    }

    pub(crate) fn hold_expired(spend: &Spend) -> EventBody {
        let (spend, order) = (spend, spend.order.clone());
        EventBody::HoldExpired { spend: spend.id, user: spend.user, amount: spend.amount, order }
    }

    pub(crate) fn captured(spend: &Spend) -> EventBody {
        EventBody::SpendCaptured {
            spend: spend.id,
            user: spend.user,
            held: spend.amount,
            captured: spend.captured,
            order: spend.order.clone(),
        }
    }
}

fn facts(payment: &Payment) -> PaymentFacts {
    PaymentFacts {
        id: payment.id,
        user: payment.user,
        state: payment.state,
        reason: payment.reason.clone(),
        amount: payment.amount,
        refunded: payment.refunded,
        currency: payment.currency,
        mode: payment.mode,
        order: payment.order.clone(),
        gateway: payment.gateway.clone(),
        reference: payment.start.as_ref().map(|start| start.reference.clone()),
        receipt: payment.receipt.as_ref().map(|receipt| receipt.number.clone()),
    }
}

impl Delivery {
    /// Counts an attempt at a pending delivery.
    pub(crate) fn attempted(&mut self, attempt: Attempt) {
        self.attempts = self.attempts.saturating_add(1);
        match attempt {
            Attempt::Delivered => {
                self.state = DeliveryState::Delivered;
                self.error.clear();
            }
            Attempt::Failed { error, again_at: Some(at) } => {
                self.error = error;
                self.due_at = at;
            }
            Attempt::Failed { error, again_at: None } => {
                self.error = error;
                self.state = DeliveryState::Dead;
            }
        }
    }
}
