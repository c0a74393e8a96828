//! One payment: ask its bank now, and decide about a reversal that the gateway refuses.

use std::sync::Arc;

use chelseru_domain::login::identity::Caller;
use chelseru_domain::money::payment::{PaymentId, ReversalDecided, ReversalDecision};
use http::StatusCode;

use super::{record, staff};
use crate::fields::{Fields, Text};
use crate::money::Money;
use crate::money::input::{failed, too_large};
use crate::money::payment::payment_json;
use crate::money::refund::reverse;
use crate::reply::{Failure, Reply};
use crate::request::{Access, Request, not_found};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/staff/payments/{id}/ask/",
        name: "Staff Payment Ask",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "staff_payment_ask",
            call: call!(ask),
            about: About {
                summary: "Ask the gateway about a payment now; staff only",
                parameters: &[],
                fields: &[],
                answers: &[(200, "Payment"), (403, "Not staff."), (404, "No such payment.")],
            },
        }],
    },
    Route {
        path: "/staff/payments/{id}/reversal/",
        name: "Staff Payment Reversal",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "staff_reversal_decide",
            call: call!(decide),
            about: About {
                summary: "Decide about a reversal that the gateway refuses; staff only",
                parameters: &[],
                fields: &[Field("action", Is::Text, "retry, undo, wallet or paid_outside.")],
                answers: &[
                    (200, "Payment"),
                    (403, "Not staff."),
                    (404, "The payment has no reversal to decide about."),
                    (409, "The gateway is still asked, or the wallet holds no more."),
                ],
            },
        }],
    },
];

const ACTION: Text = Text { chars_max: 20 };

/// `POST staff/payments/{id}/ask/`.
async fn ask(money: Arc<Money>, request: Request<Caller>) -> Answer {
    staff(&money, &request, &request.caller).await?;
    let id = PaymentId(request.id("id")?);
    let asked = money.payments.ask(money.gateways.as_ref(), id).await;
    let payment = asked.map_err(|error| failed(&request, &error))?.ok_or_else(not_found)?;
    Ok(Reply::json(StatusCode::OK, &payment_json(&money, &request, &payment).await?))
}

/// `POST staff/payments/{id}/reversal/`: `action` is `retry` (ask the gateway again), `undo` (the payment is paid
/// again), `wallet` (the payer gets it in the wallet) or `paid_outside` (the payer got it by another way).
async fn decide(money: Arc<Money>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let actor = staff(&money, &context, &caller).await?;
    let id = PaymentId(context.id("id")?);
    let action = fields.required("action", ACTION);
    let decision = match action.as_deref() {
        Some("retry") => ReversalDecision::AskAgain,
        Some("undo") => ReversalDecision::Undo,
        Some("wallet") => ReversalDecision::ToWallet,
        Some("paid_outside") => ReversalDecision::PaidOutside,
        Some(_) => return Err(Failure::field("action", "Must be retry, undo, wallet or paid_outside.")),
        None => return Err(fields.finish().err().unwrap_or_else(Failure::internal)),
    };
    let decided = money.payments.decide_reversal(id, decision, actor.user).await;
    match decided.map_err(|error| failed(&context, &error))? {
        ReversalDecided::Done(_) => {}
        ReversalDecided::Open => {
            let text =
                "The gateway is still asked. `paid_outside` ends that; anything else waits for its answer.";
            return Err(Failure::detail(StatusCode::CONFLICT, "reversal_open", text));
        }
        ReversalDecided::InWallet => {
            return Err(Failure::field(
                "action",
                "This payment charged the wallet; `undo` returns it there.",
            ));
        }
        ReversalDecided::TooLarge => return Err(too_large()),
        ReversalDecided::Missing => return Err(not_found()),
    }
    record(
        &money,
        &context,
        actor,
        format!("payment {id}"),
        format!("reversal: {}", action.unwrap_or_default()),
    );
    if decision == ReversalDecision::AskAgain {
        reverse(&money, &context, id).await?;
    }
    let payment =
        money.payments.get(id).await.map_err(|error| failed(&context, &error))?.ok_or_else(not_found)?;
    Ok(Reply::json(StatusCode::OK, &payment_json(&money, &context, &payment).await?))
}
