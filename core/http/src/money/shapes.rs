//! Shapes of the answers of money.

use serde_json::{Value, json};

use crate::openapi::shape::{
    list, maybe, maybe_name, maybe_time, object, or_null, reference, text, time, whole,
};

pub(crate) fn shapes() -> Value {
    let unit = || json!({"enum": ["IRT", "IRR"]});
    let state =
        || json!({"enum": ["created", "pending", "paid", "failed", "cancelled", "expired", "refunded"]});
    json!({
        "Amount": {
            "type": ["number", "string"],
            "description": "In the unit of `currency`, exactly; text where a JSON number would not be exact everywhere.",
        },
        "PaymentStarted": object(json!({"details": object(json!({
            "id": whole(), "currency": unit(), "amount": reference("Amount"), "gateway_title": text(),
            "gateway_url": {"type": "string", "description": "Where to send the payer."},
            "gateway_method": {"enum": ["GET", "POST"]},
            "gateway_form_url": {"type": ["string", "null"], "description": "Where the bank takes gateway_fields."},
            "gateway_fields": list(object(json!({"name": text(), "value": text()}))),
            "callback_url": text(), "authority": text(), "status_code": {"const": 100}, "message": text(),
            "data": object(json!({"authority": text(), "code": {"const": 100}, "message": text()})),
        }))})),
        "PaymentResult": object(json!({"details": object(json!({
            "is_pay": {"enum": [0, 1]}, "status_code": maybe_name(), "message": text(), "card_hash": maybe("string"),
            "card_pan": maybe("string"), "ref_id": maybe_name(),
            "data_verify": or_null(object(json!({
                "code": maybe_name(), "message": text(), "card_hash": text(), "card_pan": text(), "ref_id": maybe_name(),
                "fee": {"type": ["integer", "null"], "description": "In rial."},
            }))),
            "id": whole(), "state": state(), "amount": reference("Amount"), "currency": unit(),
            "paid_at": maybe_time(),
        }))})),
        "PaymentOutcome": object(json!({
            "details": object(json!({"is_pay": {"enum": [0, 1]}, "state": state()})),
        })),
        "Payment": object(json!({
            "id": whole(), "user": whole(), "state": state(), "reason": text(), "amount": reference("Amount"),
            "currency": unit(), "amount_rial": whole(), "refunded": reference("Amount"),
            "pay_mode": {"enum": [1, 2], "description": "1 charges the wallet, 2 only pays."},
            "order_id": text(), "description": text(), "gateway_title": text(), "authority": maybe("string"),
            "ref_id": maybe_name(), "card_pan": maybe("string"), "created_at": time(), "paid_at": maybe_time(),
            "ended_at": maybe_time(), "reversal": or_null(reference("Reversal")),
        })),
        "Reversal": object(json!({
            "state": {"enum": ["open", "done", "refused"]}, "reason": maybe("string"),
            "asked": {"type": "integer", "description": "How often the gateway was asked."}, "updated_at": time(),
        })),
        "StaffRefund": staff_refund(),
        "Refunded": object(json!({
            "refund": object(json!({
                "number": whole(), "amount": reference("Amount"), "currency": unit(),
                "to": {"enum": ["payer", "payer_outside", "wallet"]}, "created_at": time(),
            })),
            "payment": reference("Payment"),
        })),
        "Wallet": object(json!({
            "user": whole(), "balance": reference("Amount"), "held": reference("Amount"), "currency": unit(),
            "balance_rial": whole(),
        })),
        "WalletEntry": object(json!({
            "id": whole(), "kind": text(), "subject": maybe("string"), "direction": {"enum": ["in", "out"]},
            "amount": reference("Amount"), "balance": reference("Amount"), "currency": unit(), "created_at": time(),
        })),
        "Spend": object(json!({
            "id": whole(), "user": whole(), "state": {"enum": ["held", "captured", "voided", "expired"]},
            "amount": reference("Amount"), "captured": reference("Amount"), "balance_after": reference("Amount"),
            "currency": unit(), "order_id": text(), "description": text(), "created_at": time(), "ended_at": maybe_time(),
            "expires_at": maybe_time(),
        })),
        "PaymentTotals": totals("payments", ["paid", "paid_amount", "refunded_amount"]),
        "RefundTotals": totals("refunds", ["standing", "standing_amount"]),
        "Correction": object(json!({
            "number": whole(), "user": whole(), "direction": {"enum": ["in", "out"]}, "amount": reference("Amount"),
            "balance_after": reference("Amount"), "currency": unit(), "reason": text(), "created_at": time(),
        })),
    })
}

/// Counts, and sums that are `null` when no amount is so large.
fn totals<const N: usize>(counted: &str, more: [&str; N]) -> Value {
    let mut fields = json!({
        "amount": or_null(reference("Amount")),
        "currency": {"enum": ["IRT", "IRR"]},
        "next": {
            "type": ["string", "null"],
            "description": "Where to go on when not all of them were counted.",
        },
    });
    fields[counted] = whole();
    for name in more {
        fields[name] = if name.ends_with("amount") { or_null(reference("Amount")) } else { whole() };
    }
    object(fields)
}

fn staff_refund() -> Value {
    object(json!({
        "payment": whole(), "number": whole(), "user": whole(),
        "state": {"enum": ["open", "done", "refused", "undone"]},
        "to": {"enum": ["payer", "payer_outside", "wallet"]}, "amount": reference("Amount"),
        "currency": {"enum": ["IRT", "IRR"]},
        "amount_rial": whole(), "order_id": text(), "gateway_title": text(), "note": text(),
        "ordered_by": whole(), "created_at": time(), "undone_by": maybe("integer"), "undone_at": maybe_time(),
    }))
}
