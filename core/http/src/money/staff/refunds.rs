//! `staff/refunds/` and its export: refunds found by any of their attributes.

use std::fmt::Write;
use std::sync::Arc;

use chelseru_domain::clock::rest_format;
use chelseru_domain::login::identity::Caller;
use chelseru_domain::money;
use chelseru_domain::money::payment::{
    Payment, PaymentId, Refund, RefundQuery, RefundState, RefundTo, RefundsFound,
};
use http::StatusCode;
use serde_json::{Value, json};

use super::find::{number_of, sum, table, text_of, time_of, user_of};
use super::staff;
use crate::csv::cell;
use crate::money::Money;
use crate::money::input::{PAGE, failed};
use crate::money::refund::to_name;
use crate::page::{CURSOR, Cursor, link, page, start};
use crate::reply::{Failure, Reply};
use crate::request::{Access, Context, Request};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

/// Rows of one export; the next ones are at its `Link`.
const EXPORT_MAX: usize = 10_000;

const FILTERS: &[Field] = &[
    CURSOR,
    Field("payment", Is::MayInteger, "The payment's number."),
    Field("user", Is::MayText, "The payer: an account's number, a phone number or a user name."),
    Field("state", Is::MayText, "open, done, refused or undone."),
    Field("to", Is::MayText, "payer, payer_outside or wallet."),
    Field("gateway", Is::MayText, "A gateway's name."),
    Field("by", Is::MayText, "Who ordered it: an account's number, a phone number or a user name."),
    Field("from", Is::MayText, "Booked at this time or later: 2026-11-26 or 2026-11-26T12:00:00Z."),
    Field("until", Is::MayText, "Booked before this time."),
];

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/staff/refunds/",
        name: "Staff Refunds",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "staff_refund_list",
            call: call!(list),
            about: About {
                summary: "Find refunds, newest first; staff only",
                parameters: FILTERS,
                fields: &[],
                answers: &[(200, "Page<StaffRefund>"), (403, "Not staff."), (404, "An invalid cursor.")],
            },
        }],
    },
    Route {
        path: "/staff/refunds/totals/",
        name: "Staff Refund Totals",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "staff_refund_totals",
            call: call!(totals),
            about: About {
                summary: "Count and sum the refunds that a query finds; staff only",
                parameters: FILTERS,
                fields: &[],
                answers: &[(200, "RefundTotals"), (403, "Not staff."), (404, "An invalid cursor.")],
            },
        }],
    },
    Route {
        path: "/staff/refunds/export/",
        name: "Staff Refund Export",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "staff_refund_export",
            call: call!(export),
            about: About {
                summary: "The refunds that a query finds as CSV; staff only",
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

/// `GET staff/refunds/`.
async fn list(money: Arc<Money>, request: Request<Caller>) -> Answer {
    staff(&money, &request, &request.caller).await?;
    let RefundsFound { refunds, next } = found(&money, &request, PAGE).await?;
    let results: Vec<Value> = refunds.iter().map(|(refund, payment)| refund_json(refund, payment)).collect();
    Ok(page(&request, next.map(Cursor::Next), None, &results))
}

/// `GET staff/refunds/totals/`.
async fn totals(money: Arc<Money>, request: Request<Caller>) -> Answer {
    staff(&money, &request, &request.caller).await?;
    let query = query(&money, &request).await?;
    let totals = money.payments.refund_totals(&query, start(&request)?).await;
    let totals = totals.map_err(|error| failed(&request, &error))?;
    let body = json!({
        "refunds": totals.refunds,
        "amount": sum(totals.amount, money.currency),
        "standing": totals.standing,
        "standing_amount": sum(totals.standing_amount, money.currency),
        "currency": money::currency_name(money.currency),
        "next": totals.next.map(|next| link(&request, Cursor::Next(next))),
    });
    Ok(Reply::json(StatusCode::OK, &body))
}

/// `GET staff/refunds/export/`.
async fn export(money: Arc<Money>, request: Request<Caller>) -> Answer {
    staff(&money, &request, &request.caller).await?;
    let RefundsFound { refunds, next } = found(&money, &request, EXPORT_MAX).await?;
    let mut text = String::from(
        "payment,number,user,state,to,amount_rial,order_id,gateway,note,ordered_by,created_at,undone_by,undone_at\r\n",
    );
    refunds.iter().for_each(|(refund, payment)| row(&mut text, refund, payment));
    Ok(table(&request, "refunds.csv", text, next))
}

/// At most `limit` refunds. A page that is looked for in vain ends early; an export goes on.
async fn found(money: &Money, context: &Context, limit: usize) -> Result<RefundsFound, Failure> {
    let wrong = |error: &dyn std::fmt::Display| failed(context, error);
    let query = query(money, context).await?;
    let mut all = RefundsFound { refunds: Vec::new(), next: start(context)? };
    loop {
        let rest = limit - all.refunds.len();
        let found =
            money.payments.find_refunds(&query, all.next, rest).await.map_err(|error| wrong(&error))?;
        all.refunds.extend(found.refunds);
        all.next = found.next;
        if all.next.is_none() || all.refunds.len() >= limit || limit == PAGE {
            return Ok(all);
        }
        tokio::task::yield_now().await;
    }
}

async fn query(money: &Money, context: &Context) -> Result<RefundQuery, Failure> {
    let state = text_of(context, "state").map(|name| match name.as_str() {
        "open" => Ok(RefundState::Open),
        "done" => Ok(RefundState::Done),
        "refused" => Ok(RefundState::Refused),
        "undone" => Ok(RefundState::Undone),
        _ => Err(Failure::field("state", "Must be open, done, refused or undone.")),
    });
    let to = text_of(context, "to").map(|name| match name.as_str() {
        "payer" => Ok(RefundTo::Reverse),
        "payer_outside" => Ok(RefundTo::Gateway),
        "wallet" => Ok(RefundTo::Wallet),
        _ => Err(Failure::field("to", "Must be payer, payer_outside or wallet.")),
    });
    Ok(RefundQuery {
        payment: number_of(context, "payment")?.map(PaymentId),
        user: user_of(money, context, "user").await?,
        state: state.transpose()?,
        to: to.transpose()?,
        gateway: text_of(context, "gateway"),
        by: user_of(money, context, "by").await?,
        from: time_of(context, "from")?,
        until: time_of(context, "until")?,
    })
}

fn state_name(state: RefundState) -> &'static str {
    match state {
        RefundState::Open => "open",
        RefundState::Done => "done",
        RefundState::Refused => "refused",
        RefundState::Undone => "undone",
    }
}

pub(crate) fn refund_json(refund: &Refund, payment: &Payment) -> Value {
    json!({
        "payment": payment.id.0,
        "number": refund.number,
        "user": payment.user.0,
        "state": state_name(refund.state),
        "to": to_name(refund.to),
        "amount": money::to_json(refund.amount, payment.currency),
        "currency": money::currency_name(payment.currency),
        "amount_rial": refund.amount,
        "order_id": payment.order,
        "gateway_title": payment.gateway,
        "note": refund.note,
        "ordered_by": refund.by.0,
        "created_at": rest_format(refund.at),
        "undone_by": refund.undone.map(|undone| undone.by.0),
        "undone_at": refund.undone.map(|undone| rest_format(undone.at)),
    })
}

/// One line of the table. Amounts are rial, so that a table may hold both units.
fn row(text: &mut String, refund: &Refund, payment: &Payment) {
    let undone_by = refund.undone.map(|undone| undone.by.to_string()).unwrap_or_default();
    let undone_at = refund.undone.map(|undone| rest_format(undone.at)).unwrap_or_default();
    // Writing to a text does not fail.
    let _ = write!(
        text,
        "{},{},{},{},{},{},{},{},{},{},{},{undone_by},{undone_at}\r\n",
        payment.id,
        refund.number,
        payment.user,
        state_name(refund.state),
        to_name(refund.to),
        refund.amount,
        cell(&payment.order),
        cell(&payment.gateway),
        cell(&refund.note),
        refund.by,
        rest_format(refund.at),
    );
}
