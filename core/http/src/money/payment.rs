//! `payment/` and `payment/{id}/`: payments, for their payers and for staff.

use std::sync::Arc;

use chelseru_domain::clock::rest_format;
use chelseru_domain::login::identity::Caller;
use chelseru_domain::money;
use chelseru_domain::money::payment::{PayMode, Payment, PaymentId, Reversal, ReversalState, state_name};
use http::StatusCode;
use serde_json::{Value, json};

use super::Money;
use super::input::{PAGE, actor, failed, number_or_text};
use crate::page::{CURSOR, Cursor, page, start};
use crate::reply::{Failure, Reply};
use crate::request::{Access, Context, Request};
use crate::route::{About, Answer, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/payment/",
        name: "Payment List",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "payment_list",
            call: call!(list),
            about: About {
                summary: "List the caller's payments, newest first",
                parameters: &[CURSOR],
                fields: &[],
                answers: &[(200, "Page<Payment>")],
            },
        }],
    },
    Route {
        path: "/payment/{id}/",
        name: "Payment Instance",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "payment_get",
            call: call!(get),
            about: About {
                summary: "Get one of the caller's payments",
                parameters: &[],
                fields: &[],
                answers: &[(200, "Payment")],
            },
        }],
    },
];

/// `GET payment/`: the caller's own, newest first.
async fn list(money: Arc<Money>, request: Request<Caller>) -> Answer {
    let before = start(&request)?.map(PaymentId);
    let found = money.payments.list(request.caller.user_id, before, PAGE + 1);
    let mut payments = found.await.map_err(|error| failed(&request, &error))?;
    let more = payments.len() > PAGE;
    payments.truncate(PAGE);
    let next = payments.last().filter(|_| more).map(|payment| Cursor::Next(payment.id.0));
    let mut results = Vec::with_capacity(payments.len());
    for payment in &payments {
        results.push(payment_json(&money, &request, payment).await?);
    }
    Ok(page(&request, next, None, &results))
}

/// `GET payment/{id}/`: the caller's own, or any for staff.
async fn get(money: Arc<Money>, request: Request<Caller>) -> Answer {
    let actor = actor(&money, &request, &request.caller).await?;
    let id = request.id("id").map_err(|_| payment_missing())?;
    let payment = money.payments.get(PaymentId(id)).await.map_err(|error| failed(&request, &error))?;
    match payment.filter(|payment| actor.sees(payment.user)) {
        Some(payment) => Ok(Reply::json(StatusCode::OK, &payment_json(&money, &request, &payment).await?)),
        None => Err(payment_missing()),
    }
}

fn payment_missing() -> Failure {
    Failure::detail(StatusCode::NOT_FOUND, "payment_not_found", "No Payment matches the given query.")
}

/// A payment, with the state of its reversal, if any.
pub(crate) async fn payment_json(
    money: &Money,
    context: &Context,
    payment: &Payment,
) -> Result<Value, Failure> {
    let reversal = match payment.refunds {
        0 => None,
        _ => money.payments.reversal(payment.id).await.map_err(|error| failed(context, &error))?,
    };
    Ok(payment_shown(payment, reversal.as_ref()))
}

/// A payment with its reversal.
pub(crate) fn payment_shown(payment: &Payment, reversal: Option<&Reversal>) -> Value {
    let start = payment.start.as_ref();
    let receipt = payment.receipt.as_ref();
    json!({
        "id": payment.id.0,
        "user": payment.user.0,
        "state": state_name(payment.state),
        "reason": payment.reason.split(':').next().unwrap_or_default(),
        "amount": money::to_json(payment.amount, payment.currency),
        "currency": money::currency_name(payment.currency),
        "amount_rial": payment.amount,
        "refunded": money::to_json(payment.refunded, payment.currency),
        "pay_mode": if payment.mode == PayMode::Charge { 1 } else { 2 },
        "order_id": payment.order,
        "description": payment.description,
        "gateway_title": payment.gateway,
        "authority": start.map(|start| start.reference.as_str()),
        "ref_id": receipt.map(|receipt| number_or_text(&receipt.number)),
        "card_pan": receipt.map(|receipt| receipt.card_pan.as_str()),
        "created_at": rest_format(payment.created_at),
        "paid_at": payment.paid_at.map(rest_format),
        "ended_at": payment.ended_at.map(rest_format),
        "reversal": reversal.map(reversal_json),
    })
}

/// A reversal's state, and the code of the gateway's refusal.
fn reversal_json(reversal: &Reversal) -> Value {
    let (state, reason) = match &reversal.state {
        ReversalState::Open => ("open", None),
        ReversalState::Done => ("done", None),
        ReversalState::Refused(reason) => ("refused", Some(reason)),
    };
    json!({
        "state": state, "reason": reason, "asked": reversal.asked,
        "updated_at": rest_format(reversal.updated_at),
    })
}
