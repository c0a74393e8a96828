//! Events in the form for receivers and operators.

use chelseru_store::{CreditFacts, DeliveryState, Event, EventBody, EventReport, PayMode, PaymentFacts};
use serde_json::{Value, json};

use super::public_id;
use crate::clock::rest_format;
use crate::money;
use crate::money::payment;

/// Every event kind, as used in configurations and by receivers.
pub const KINDS: &[&str] = &EventBody::KINDS;

/// The body that an endpoint receives.
#[must_use]
pub fn body(event: &Event) -> Value {
    let data = match &event.body {
        EventBody::PaymentEnded(payment) => payment_json(payment),
        EventBody::PaymentRefunded { payment, amount, number } => {
            let mut data = payment_json(payment);
            data["refund"] = json!({
                "number": number,
                "amount": money::to_json(*amount, payment.currency),
                "amount_rial": amount,
            });
            data
        }
        EventBody::WalletChanged { user, amount, balance, posting, order } => json!({
            "user": user.0, "amount_rial": amount, "balance_rial": balance, "posting": posting, "order_id": order,
        }),
        EventBody::SpendCaptured { spend, user, held, captured, order } => json!({
            "spend": spend.0, "user": user.0, "order_id": order, "held_rial": held, "captured_rial": captured,
        }),
        EventBody::PaymentUncredited { gateway, reference, listed, payment } => json!({
            "gateway": gateway, "authority": reference, "listed_rial": listed,
            "payment": payment.as_ref().map(payment_json),
        }),
        EventBody::ReversalRefused { payment, code } => {
            let mut data = payment_json(payment);
            data["reversal"] = json!({"state": "refused", "reason": code});
            data
        }
        EventBody::RefundUndone { payment, amount, number } => {
            let mut data = payment_json(payment);
            data["refund"] = json!({
                "number": number,
                "amount": money::to_json(*amount, payment.currency),
                "amount_rial": amount,
            });
            data
        }
        EventBody::HoldExpired { spend, user, amount, order } => json!({
            "spend": spend.0, "user": user.0, "order_id": order, "amount_rial": amount,
        }),
        EventBody::Test => json!({}),
        EventBody::CreditLow(CreditFacts { provider, amount, unit, min }) => json!({
            "provider": provider, "amount": amount, "unit": unit, "credit_min": min,
        }),
    };
    json!({"type": event.body.kind(), "timestamp": rest_format(event.at), "data": data})
}

fn payment_json(payment: &PaymentFacts) -> Value {
    json!({
        "id": payment.id.0,
        "user": payment.user.0,
        "state": payment::state_name(payment.state),
        "reason": payment.reason,
        "amount": money::to_json(payment.amount, payment.currency),
        "currency": money::currency_name(payment.currency),
        "amount_rial": payment.amount,
        "refunded_rial": payment.refunded,
        "order_id": payment.order,
        "pay_mode": if payment.mode == PayMode::Charge { 1 } else { 2 },
        "gateway": payment.gateway,
        "authority": payment.reference,
        "ref_id": payment.receipt,
    })
}

/// An event with its deliveries, for operators.
#[must_use]
pub fn report_json(report: &EventReport) -> Value {
    let deliveries = report.deliveries.iter().map(|(endpoint, delivery)| {
        let state = match delivery.state {
            DeliveryState::Pending => "pending",
            DeliveryState::Delivered => "delivered",
            DeliveryState::Dead => "dead",
        };
        json!({
            "endpoint": endpoint, "state": state, "attempts": delivery.attempts, "error": delivery.error,
            "due_at": (state == "pending").then(|| rest_format(delivery.due_at)),
        })
    });
    let mut event = body(&report.event);
    event["id"] = public_id(&report.event).into();
    event["deliveries"] = deliveries.collect();
    event
}
