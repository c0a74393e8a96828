//! A payment as a row.

use tokio_postgres::Row;

use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, Json, Text, int};
use crate::money::payment::{
    Currency, PayMode, Payment, PaymentReceipt, PaymentRefusal, PaymentStart, PaymentState, Redirect,
    RedirectMethod,
};
use crate::{PaymentId, StoreError, UserId};

/// What [`read`] needs, of a table or subquery named `payment`.
macro_rules! payment_columns {
    () => {
        "payment.id, payment.user_id, payment.state, payment.reason, payment.amount, payment.currency, \
         payment.mode, payment.order_name, payment.gateway, payment.plugin_digest, payment.description, \
         payment.callback_url, payment.callback_key, payment.frontend_url, payment.created_at, \
         payment.window_ends_at, payment.paid_at, payment.ended_at, payment.reference, payment.redirect_method, \
         payment.redirect_url, payment.redirect_fields, payment.plugin_state, payment.start_message, \
         payment.claims, payment.asked, payment.attempts, payment.check_at, payment.late_question, \
         payment.receipt_number, payment.receipt_card_pan, payment.receipt_card_hash, payment.receipt_fee, \
         payment.receipt_code, payment.receipt_message, payment.refunded, payment.refunds, payment.refusal_code, \
         payment.refusal_text, payment.refusal_field, payment.uncredited, payment.imported"
    };
}
pub(crate) use payment_columns;

const PUT: &str = "
    insert into payment (
        id, user_id, state, reason, amount, currency, mode, order_name, gateway, plugin_digest, description,
        callback_url, callback_key, frontend_url, created_at, window_ends_at, paid_at, ended_at, reference,
        redirect_method, redirect_url, redirect_fields, plugin_state, start_message, claims, asked, attempts,
        check_at, late_question, receipt_number, receipt_card_pan, receipt_card_hash, receipt_fee, receipt_code,
        receipt_message, refunded, refunds, refusal_code, refusal_text, refusal_field, uncredited, imported
    ) values (
        $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
        $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37,
        $38, $39, $40, $41, $42
    ) on conflict (id) do update set
        state = excluded.state, reason = excluded.reason, description = excluded.description,
        callback_key = excluded.callback_key, frontend_url = excluded.frontend_url, paid_at = excluded.paid_at,
        ended_at = excluded.ended_at, reference = excluded.reference, redirect_method = excluded.redirect_method,
        redirect_url = excluded.redirect_url, redirect_fields = excluded.redirect_fields,
        plugin_state = excluded.plugin_state, start_message = excluded.start_message, claims = excluded.claims,
        asked = excluded.asked, attempts = excluded.attempts, check_at = excluded.check_at,
        late_question = excluded.late_question, receipt_number = excluded.receipt_number,
        receipt_card_pan = excluded.receipt_card_pan, receipt_card_hash = excluded.receipt_card_hash,
        receipt_fee = excluded.receipt_fee, receipt_code = excluded.receipt_code,
        receipt_message = excluded.receipt_message, refunded = excluded.refunded, refunds = excluded.refunds,
        refusal_code = excluded.refusal_code, refusal_text = excluded.refusal_text,
        refusal_field = excluded.refusal_field, uncredited = excluded.uncredited";

impl PaymentState {
    pub(crate) fn column(self) -> &'static str {
        match self {
            PaymentState::Created => "created",
            PaymentState::Pending => "pending",
            PaymentState::Paid => "paid",
            PaymentState::Failed => "failed",
            PaymentState::Cancelled => "cancelled",
            PaymentState::Expired => "expired",
            PaymentState::Refunded => "refunded",
        }
    }

    fn from_column(column: &str) -> Option<PaymentState> {
        use PaymentState::{Cancelled, Created, Expired, Failed, Paid, Pending, Refunded};
        let states = [Created, Pending, Paid, Failed, Cancelled, Expired, Refunded];
        states.into_iter().find(|state| state.column() == column)
    }
}

/// Stores a payment, a new one or one that exists.
pub(crate) async fn put(sql: &Sql, payment: &Payment) -> Result<(), StoreError> {
    let Payment { start, receipt, refusal, .. } = payment;
    let start = start.as_ref();
    let redirect = start.map(|start| &start.redirect);
    let receipt = receipt.as_ref();
    let refusal = refusal.as_ref();
    sql.run(
        PUT,
        &[
            &int(payment.id.0),
            &int(payment.user.0),
            &payment.state.column(),
            &Text(&payment.reason),
            &int(payment.amount),
            &match payment.currency {
                Currency::Irr => "irr",
                Currency::Irt => "irt",
            },
            &match payment.mode {
                PayMode::Charge => "charge",
                PayMode::Direct => "direct",
            },
            &Text(&payment.order),
            &Text(&payment.gateway),
            &Text(&payment.plugin),
            &Text(&payment.description),
            &Text(&payment.callback_url),
            &Text(&payment.callback_key),
            &payment.frontend_url.as_deref().map(Text),
            &At(payment.created_at),
            &At(payment.window_ends_at),
            &payment.paid_at.map(At),
            &payment.ended_at.map(At),
            &start.map(|start| Text(&start.reference)),
            &redirect.map(|redirect| match redirect.method {
                RedirectMethod::Get => "get",
                RedirectMethod::Post => "post",
            }),
            &redirect.map(|redirect| Text(&redirect.url)),
            &redirect.map(|redirect| Json(&redirect.fields)),
            &start.map(|start| start.state.as_slice()),
            &start.map(|start| Text(&start.message)),
            &Json(&payment.claims),
            &payment.asked,
            &int(u64::from(payment.attempts)),
            &At(payment.check_at),
            &payment.late_question,
            &receipt.map(|receipt| Text(&receipt.number)),
            &receipt.map(|receipt| Text(&receipt.card_pan)),
            &receipt.map(|receipt| Text(&receipt.card_hash)),
            &receipt.and_then(|receipt| receipt.fee_rial).map(int),
            &receipt.map(|receipt| Text(&receipt.code)),
            &receipt.map(|receipt| Text(&receipt.message)),
            &int(payment.refunded),
            &int(u64::from(payment.refunds)),
            &refusal.map(|refusal| Text(&refusal.code)),
            &refusal.map(|refusal| Text(&refusal.text)),
            &refusal.and_then(|refusal| refusal.field.as_deref()).map(Text),
            &payment.uncredited,
            &payment.imported,
        ],
    )
    .await?;
    Ok(())
}

/// A payment of a row with [`payment_columns`].
pub(crate) fn read(row: &Row) -> Result<Payment, StoreError> {
    let state = PaymentState::from_column(row.get("state")).ok_or_else(|| StoreError::Record {
        kind: "payment",
        reason: format!("its state {} is none", row.get::<_, &str>("state")),
    })?;
    Ok(Payment {
        id: PaymentId(row.uint("id")),
        user: UserId(row.uint("user_id")),
        state,
        reason: row.text("reason"),
        amount: row.uint("amount"),
        currency: if row.get::<_, &str>("currency") == "irr" { Currency::Irr } else { Currency::Irt },
        mode: if row.get::<_, &str>("mode") == "charge" { PayMode::Charge } else { PayMode::Direct },
        order: row.text("order_name"),
        gateway: row.text("gateway"),
        plugin: row.text("plugin_digest"),
        description: row.text("description"),
        callback_url: row.text("callback_url"),
        frontend_url: row.text_opt("frontend_url"),
        created_at: row.at("created_at"),
        window_ends_at: row.at("window_ends_at"),
        paid_at: row.at_opt("paid_at"),
        ended_at: row.at_opt("ended_at"),
        start: start(row)?,
        claims: row.json("claims")?,
        asked: row.get("asked"),
        attempts: row.uint32("attempts"),
        check_at: row.at("check_at"),
        receipt: receipt(row),
        refunded: row.uint("refunded"),
        refunds: row.uint32("refunds"),
        callback_key: row.text("callback_key"),
        refusal: refusal(row),
        uncredited: row.get("uncredited"),
        late_question: row.get("late_question"),
        imported: row.get("imported"),
    })
}

fn start(row: &Row) -> Result<Option<PaymentStart>, StoreError> {
    let Some(reference) = row.text_opt("reference") else { return Ok(None) };
    let redirect = Redirect {
        method: RedirectMethod::from(row.get::<_, &str>("redirect_method") == "post"),
        url: row.text("redirect_url"),
        fields: row.json("redirect_fields")?,
    };
    let (state, message) = (row.get("plugin_state"), row.text("start_message"));
    Ok(Some(PaymentStart { reference, redirect, state, message }))
}

fn receipt(row: &Row) -> Option<PaymentReceipt> {
    Some(PaymentReceipt {
        number: row.text_opt("receipt_number")?,
        card_pan: row.text("receipt_card_pan"),
        card_hash: row.text("receipt_card_hash"),
        fee_rial: row.uint_opt("receipt_fee"),
        code: row.text("receipt_code"),
        message: row.text("receipt_message"),
    })
}

fn refusal(row: &Row) -> Option<PaymentRefusal> {
    Some(PaymentRefusal {
        code: row.text_opt("refusal_code")?,
        text: row.text("refusal_text"),
        field: row.text_opt("refusal_field"),
    })
}
