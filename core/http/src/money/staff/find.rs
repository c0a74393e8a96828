//! `staff/payments/`, its totals and its export: payments found by any of their attributes.

use std::fmt::Write;
use std::sync::Arc;

use chelseru_domain::clock::{read_time, rest_format};
use chelseru_domain::ids::UserId;
use chelseru_domain::login::identity::Caller;
use chelseru_domain::money::payment::{Payment, PaymentId, PaymentQuery, state_name, state_of};
use chelseru_domain::money::{self, Currency, Money as Amount};
use chelseru_domain::{PhoneNumber, Timestamp};
use http::header::{HeaderValue, LINK};
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::staff;

use crate::csv::cell;
use crate::money::Money;
use crate::money::input::{PAGE, failed};
use crate::money::payment::payment_json;
use crate::page::{CURSOR, Cursor, link, page, start};
use crate::reply::{Failure, Reply, sentence};
use crate::request::{Access, Context, Request, number};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

/// Rows of one export; the next ones are at its `Link`.
const EXPORT_MAX: usize = 10_000;
const CSV: &str = "text/csv; charset=utf-8";

const FILTERS: &[Field] = &[
    CURSOR,
    Field("id", Is::MayInteger, "The payment's number."),
    Field("user", Is::MayText, "The payer: an account's number, a phone number or a user name."),
    Field("order_id", Is::MayText, "The client's reference, exactly."),
    Field("authority", Is::MayText, "The gateway's reference, exactly."),
    Field("ref_id", Is::MayText, "The gateway's receipt number, exactly."),
    Field("state", Is::MayText, "A state of payments."),
    Field("gateway", Is::MayText, "A gateway's name."),
    Field("from", Is::MayText, "Made at this time or later: 2026-11-26 or 2026-11-26T12:00:00Z."),
    Field("until", Is::MayText, "Made before this time."),
    Field("amount", Is::MayText, "Exactly this amount, in the configured currency."),
    Field("amount_min", Is::MayText, "At least this amount."),
    Field("amount_max", Is::MayText, "At most this amount."),
];

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/staff/payments/",
        name: "Staff Payments",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "staff_payment_list",
            call: call!(list),
            about: About {
                summary: "Find payments, newest first; staff only",
                parameters: FILTERS,
                fields: &[],
                answers: &[(200, "Page<Payment>"), (403, "Not staff."), (404, "An invalid cursor.")],
            },
        }],
    },
    Route {
        path: "/staff/payments/totals/",
        name: "Staff Payment Totals",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "staff_payment_totals",
            call: call!(totals),
            about: About {
                summary: "Count and sum the payments that a query finds; staff only",
                parameters: FILTERS,
                fields: &[],
                answers: &[(200, "PaymentTotals"), (403, "Not staff."), (404, "An invalid cursor.")],
            },
        }],
    },
    Route {
        path: "/staff/payments/export/",
        name: "Staff Payment Export",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "staff_payment_export",
            call: call!(export),
            about: About {
                summary: "The payments that a query finds as CSV; staff only",
                parameters: FILTERS,
                fields: &[],
                answers: &[
                    (200, "A table. A Link header names the next part when there is one."),
                    (403, "Not staff."),
                    (404, "An invalid cursor."),
                ],
            },
        }],
    },
];

/// `GET staff/payments/`.
async fn list(money: Arc<Money>, request: Request<Caller>) -> Answer {
    staff(&money, &request, &request.caller).await?;
    let (payments, next) = found(&money, &request, PAGE).await?;
    let mut results = Vec::with_capacity(payments.len());
    for payment in &payments {
        results.push(payment_json(&money, &request, payment).await?);
    }
    Ok(page(&request, next.map(|next| Cursor::Next(next.0)), None, &results))
}

/// `GET staff/payments/totals/`.
async fn totals(money: Arc<Money>, request: Request<Caller>) -> Answer {
    staff(&money, &request, &request.caller).await?;
    let query = query(&money, &request).await?;
    let before = start(&request)?.map(PaymentId);
    let totals = money.payments.totals(&query, before).await.map_err(|error| failed(&request, &error))?;
    let unit = money.currency;
    let body = json!({
        "payments": totals.payments,
        "amount": sum(totals.amount, unit),
        "paid": totals.paid,
        "paid_amount": sum(totals.paid_amount, unit),
        "refunded_amount": sum(totals.refunded_amount, unit),
        "currency": money::currency_name(unit),
        "next": totals.next.map(|next| link(&request, Cursor::Next(next.0))),
    });
    Ok(Reply::json(StatusCode::OK, &body))
}

/// A sum in a currency; `null` when it is larger than any amount.
pub(super) fn sum(rial: u128, unit: Currency) -> Value {
    u64::try_from(rial).map_or(Value::Null, |rial| money::to_json(rial, unit))
}

/// `GET staff/payments/export/`.
async fn export(money: Arc<Money>, request: Request<Caller>) -> Answer {
    staff(&money, &request, &request.caller).await?;
    let (payments, next) = found(&money, &request, EXPORT_MAX).await?;
    let mut text = String::from(
        "id,user,state,reason,amount_rial,refunded_rial,currency,pay_mode,order_id,gateway,authority,ref_id,created_at,paid_at\r\n",
    );
    payments.iter().for_each(|payment| row(&mut text, payment));
    Ok(table(&request, "payments.csv", text, next.map(|next| next.0)))
}

/// A table to save, with the address of its next part.
pub(super) fn table(context: &Context, name: &str, text: String, next: Option<u64>) -> Reply {
    let mut reply = Reply::text(StatusCode::OK, CSV, text);
    if let Ok(file) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        reply = reply.with(header::CONTENT_DISPOSITION, file);
    }
    if let Some(next) = next {
        let next = format!("<{}>; rel=\"next\"", link(context, Cursor::Next(next)));
        if let Ok(next) = HeaderValue::from_str(&next) {
            reply = reply.with(LINK, next);
        }
    }
    reply
}

/// One line of the table. Amounts are rial, so that a table may hold both units.
fn row(text: &mut String, payment: &Payment) {
    let reference = payment.start.as_ref().map_or("", |start| start.reference.as_str());
    let receipt = payment.receipt.as_ref().map_or("", |receipt| receipt.number.as_str());
    let mode = if payment.mode == money::payment::PayMode::Charge { 1 } else { 2 };
    let time = |at: Option<Timestamp>| at.map(rest_format).unwrap_or_default();
    // Writing to a text does not fail.
    let _ = write!(
        text,
        "{},{},{},{},{},{},{},{mode},{},{},{},{},{},{}\r\n",
        payment.id,
        payment.user,
        state_name(payment.state),
        cell(&payment.reason),
        payment.amount,
        payment.refunded,
        money::currency_name(payment.currency),
        cell(&payment.order),
        cell(&payment.gateway),
        cell(reference),
        cell(receipt),
        rest_format(payment.created_at),
        time(payment.paid_at),
    );
}

/// What the request's filters find, at most `limit`.
async fn found(
    money: &Money,
    context: &Context,
    limit: usize,
) -> Result<(Vec<Payment>, Option<PaymentId>), Failure> {
    let query = query(money, context).await?;
    let wrong = |error: &dyn std::fmt::Display| failed(context, error);
    let mut before = start(context)?.map(PaymentId);
    let mut payments = Vec::new();
    loop {
        let found = money.payments.find(&query, before, limit - payments.len()).await;
        let found = found.map_err(|error| wrong(&error))?;
        payments.extend(found.payments);
        // A page that is looked for in vain ends early; an export goes on.
        if found.next.is_none() || payments.len() >= limit || limit == PAGE {
            return Ok((payments, found.next));
        }
        before = found.next;
    }
}

async fn query(money: &Money, context: &Context) -> Result<PaymentQuery, Failure> {
    let text = |name: &str| text_of(context, name);
    let state = text("state").map(|name| {
        state_of(&name).ok_or_else(|| Failure::field("state", format!("\"{name}\" is no state of payments.")))
    });
    let amount = |name: &'static str| {
        let read = |text: String| {
            let amount = Amount::parse(&text, money.currency);
            amount.map(Amount::rial).map_err(|error| Failure::field(name, sentence(&error)))
        };
        text(name).map(read).transpose()
    };
    Ok(PaymentQuery {
        id: number_of(context, "id")?.map(PaymentId),
        reference: text("authority"),
        receipt: text("ref_id"),
        user: user_of(money, context, "user").await?,
        order: text("order_id"),
        gateway: text("gateway"),
        state: state.transpose()?,
        amount: amount("amount")?,
        amount_min: amount("amount_min")?,
        amount_max: amount("amount_max")?,
        from: time_of(context, "from")?,
        until: time_of(context, "until")?,
    })
}

pub(super) fn text_of(context: &Context, name: &str) -> Option<String> {
    context.query(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

pub(super) fn time_of(context: &Context, name: &'static str) -> Result<Option<Timestamp>, Failure> {
    let read = |text: String| {
        read_time(&text).ok_or_else(|| Failure::field(name, "Write 2026-11-26 or 2026-11-26T12:00:00Z."))
    };
    text_of(context, name).map(read).transpose()
}

pub(super) fn number_of(context: &Context, name: &'static str) -> Result<Option<u64>, Failure> {
    let Some(text) = context.query(name).filter(|text| !text.trim().is_empty()) else { return Ok(None) };
    number(text.trim()).map(Some).ok_or_else(|| Failure::field(name, "A number is required."))
}

/// The user that a parameter names: by the account's number, a phone number or a user name.
pub(super) async fn user_of(
    money: &Money,
    context: &Context,
    name: &'static str,
) -> Result<Option<UserId>, Failure> {
    let Some(text) = context.query(name).filter(|text| !text.trim().is_empty()) else { return Ok(None) };
    let text = text.trim();
    if let Some(id) = number(text)
        && PhoneNumber::parse(text).is_err()
    {
        return Ok(Some(UserId(id)));
    }
    let found = money.identity.user_find(text).await.map_err(|error| failed(context, &error))?;
    let unknown = || Failure::field(name, "No account has this number or name.");
    found.map(|user| Some(user.id)).ok_or_else(unknown)
}
