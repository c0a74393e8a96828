//! `operator/v1/payments/...` and `operator/v1/wallets/{id}/`: found and asked about as in the console.

use std::sync::Arc;

use chelseru_domain::ids::UserId;
use chelseru_domain::money::payment::{PaymentId, PaymentQuery, PaymentState, state_of};
use chelseru_domain::operator::role::{PaymentAsk, PaymentRead, UserRead, WalletRead};
use http::StatusCode;
use serde_json::Value;

use super::{Filters, NO_ROLE, NO_TOKEN, PAGE, failed, read, route};
use crate::console::Console;
use crate::money::payment::payment_shown;
use crate::money::wallet::wallet_json;
use crate::page::{CURSOR, Cursor, page, start};
use crate::reply::{Failure, Reply};
use crate::request::{ByOperator, Context, Request, not_found};
use crate::route::{About, Answer, Field, Is, Operation, Route, Verb, call};

const ONE: &[(u16, &str)] = &[(200, "Payment"), (401, NO_TOKEN), (403, NO_ROLE)];

pub(crate) const ROUTES: &[Route] = &[
    route(
        "/operator/v1/payments/",
        "Operator Payment List",
        &[read(
            "operator_payment_list",
            "Find payments by any of their attributes, newest first",
            &[
                CURSOR,
                Field("id", Is::MayInteger, "Only this one."),
                Field("user", Is::MayText, "Of this user: a number, a name or an account number."),
                Field("order", Is::MayText, "Of this order."),
                Field("authority", Is::MayText, "With this reference of the gateway."),
                Field("receipt", Is::MayText, "With this receipt."),
                Field("gateway", Is::MayText, "By this gateway."),
                Field("state", Is::MayText, "In this state."),
                Field("amount_min", Is::MayInteger, "Of at least this many rial."),
                Field("amount_max", Is::MayInteger, "Of at most this many rial."),
                Field("from", Is::MayText, "Made on this day or later: 2026-11-26 or 1405/09/05."),
                Field("until", Is::MayText, "Made before this day."),
            ],
            &[(200, "Page<Payment>"), (401, NO_TOKEN), (403, NO_ROLE), (404, "An invalid cursor.")],
            call!(list),
        )],
    ),
    route(
        "/operator/v1/payments/{id}/",
        "Operator Payment",
        &[read("operator_payment", "Show a payment", &[], ONE, call!(one))],
    ),
    route(
        "/operator/v1/payments/{id}/ask/",
        "Operator Payment Ask",
        &[Operation {
            verb: Verb::Post,
            id: "operator_payment_ask",
            call: call!(ask),
            about: About {
                summary: "Ask the gateway about a payment now",
                parameters: &[],
                fields: &[],
                answers: ONE,
            },
        }],
    ),
    route(
        "/operator/v1/wallets/{id}/",
        "Operator Wallet",
        &[read(
            "operator_wallet",
            "Show the wallet of a user",
            &[],
            &[(200, "Wallet"), (401, NO_TOKEN), (403, NO_ROLE)],
            call!(wallet),
        )],
    ),
];

const STATES: [&str; 7] = ["created", "pending", "paid", "failed", "cancelled", "expired", "refunded"];

async fn list(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<PaymentRead>(&request).await?;
    let users = console.allow::<UserRead>(&request).await?;
    let states: Vec<(&str, PaymentState)> =
        STATES.iter().filter_map(|word| Some((*word, state_of(word)?))).collect();
    let mut filters = Filters::new(&request);
    let query = PaymentQuery {
        id: filters.number("id").map(PaymentId),
        reference: filters.text("authority"),
        receipt: filters.text("receipt"),
        user: filters.user(&console, &users, "user").await?,
        order: filters.text("order"),
        gateway: filters.text("gateway"),
        state: filters.one_of("state", &states),
        amount: None,
        amount_min: filters.number("amount_min"),
        amount_max: filters.number("amount_max"),
        from: filters.day("from"),
        until: filters.day("until"),
    };
    filters.finish()?;
    let found = console.desk.payments(&permit, &query, start(&request)?.map(PaymentId), PAGE).await;
    let found = found.map_err(|error| failed(&request, &error))?;
    let mut results: Vec<Value> = Vec::with_capacity(found.payments.len());
    for payment in &found.payments {
        let reversal = match payment.refunds {
            0 => None,
            _ => {
                let whole = console.desk.payment(&permit, payment.id).await;
                whole.map_err(|error| failed(&request, &error))?.and_then(|(.., reversal)| reversal)
            }
        };
        results.push(payment_shown(payment, reversal.as_ref()));
    }
    Ok(page(&request, found.next.map(|next| Cursor::Next(next.0)), None, &results))
}

async fn one(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    shown(&console, &request, PaymentId(request.id("id")?)).await
}

async fn shown(console: &Console, context: &Context, id: PaymentId) -> Answer {
    let permit = console.allow::<PaymentRead>(context).await?;
    let found = console.desk.payment(&permit, id).await.map_err(|error| failed(context, &error))?;
    let (payment, _, reversal) = found.ok_or_else(not_found)?;
    Ok(Reply::json(StatusCode::OK, &payment_shown(&payment, reversal.as_ref())))
}

/// Asks the gateway.
async fn ask(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<PaymentAsk>(&request).await?;
    let id = PaymentId(request.id("id")?);
    let asked = console.desk.payment_ask(&permit, id).await;
    asked.map_err(|error| failed(&request, &error))?.ok_or_else(not_found)?;
    shown(&console, &request, id).await
}

async fn wallet(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<WalletRead>(&request).await?;
    let users = console.allow::<UserRead>(&request).await?;
    let id = UserId(request.id("id")?);
    let failed = |error| -> Failure { failed(&request, &error) };
    console.desk.user(&users, id).await.map_err(failed)?.ok_or_else(not_found)?;
    let balance = console.desk.wallet(&permit, id).await.map_err(failed)?;
    Ok(Reply::json(StatusCode::OK, &wallet_json(id, balance, console.currency)))
}
