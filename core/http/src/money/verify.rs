//! `payment/verify/`: the callback, brought by the payer's browser or by a client.
//!
//! The callback is only a hint to ask the bank. Its content is not trusted.

use std::sync::Arc;

use bytes::Bytes;
use chelseru_domain::clock::rest_format;
use chelseru_domain::money;
use chelseru_domain::money::payment::gateway::Callback;
use chelseru_domain::money::payment::{CallbackError, Payment, PaymentReceipt, PaymentState, state_name};
use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Money;
use super::input::{failed, number_or_text};
use crate::reply::{Failure, Reply};
use crate::request::{Access, Context, Open, Request};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[Route {
    path: "/payment/verify/",
    name: "Payment Verify",
    access: Access::Open,
    kind: Kind::Plain,
    operations: &[
        Operation {
            verb: Verb::Get,
            id: "payment_verify",
            call: call!(verify),
            about: About {
                summary: "Take the bank's redirect of the payer: ask the bank, settle",
                parameters: &[
                    Field("Authority", Is::Text, "The bank's reference of the payment."),
                    Field("Status", Is::Text, "The bank's hint; the bank is asked in any case."),
                ],
                fields: &[],
                answers: &[
                    (200, "PaymentResult"),
                    (302, "To frontend_callback_url with the result."),
                    (400, "It cannot be read."),
                    (404, "No such payment."),
                ],
            },
        },
        Operation {
            verb: Verb::Post,
            id: "payment_callback",
            call: call!(callback),
            about: About {
                summary: "Take the bank's callback as a form or JSON: ask the bank, settle",
                parameters: &[],
                fields: &[],
                answers: &[
                    (200, "PaymentResult"),
                    (302, "To frontend_callback_url with the result."),
                    (400, "It cannot be read."),
                    (404, "No such payment."),
                ],
            },
        },
    ],
}];

/// `GET payment/verify/`.
async fn verify(money: Arc<Money>, request: Request<Open>) -> Answer {
    confirm(money, request.context, Bytes::new()).await
}

/// `POST payment/verify/`.
async fn callback(money: Arc<Money>, request: Request<Open, Bytes>) -> Answer {
    confirm(money, request.context, request.body).await
}

/// Asks the bank, detached from the client's connection.
async fn confirm(money: Arc<Money>, context: Context, body: Bytes) -> Answer {
    let content_type = context.header(header::CONTENT_TYPE).to_owned();
    if content_type.starts_with("application/json")
        && !body.is_empty()
        && let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&body)
    {
        let text = format!("JSON parse error - {error}");
        return Err(Failure::detail(StatusCode::BAD_REQUEST, "parse_error", text));
    }
    let callback = Callback {
        method: context.head.method.as_str().replace("HEAD", "GET"),
        query: context.query_text().to_owned(),
        // Only the content type: a plugin must not see the client's credentials.
        headers: vec![("content-type".to_owned(), content_type)],
        body: body.to_vec(),
    };
    let tasks = money.detached.clone();
    let confirmed =
        tasks.spawn(async move { money.payments.callback(money.gateways.as_ref(), &callback).await });
    let payment = match confirmed.await {
        Ok(Ok(payment)) => payment,
        Ok(Err(error)) => return Err(callback_failure(&context, &error)),
        Err(_) => return Err(Failure::internal()),
    };
    if let Some(url) = &payment.frontend_url {
        return Ok(redirect(url, &payment));
    }
    Ok(Reply::json(StatusCode::OK, &json!({"details": outcome(&payment)})))
}

/// The outcome of a payment. It does not depend on the caller or the time.
fn outcome(payment: &Payment) -> Value {
    let paid = is_paid(payment);
    let receipt = payment.receipt.as_ref();
    let text = |field: fn(&PaymentReceipt) -> &String| receipt.map(|receipt| field(receipt).clone());
    let code = text(|receipt| &receipt.code).map(|code| number_or_text(&code));
    let ref_id = text(|receipt| &receipt.number).map(|number| number_or_text(&number));
    let data = receipt.map(|receipt| {
        json!({
            "code": code, "message": receipt.message, "card_hash": receipt.card_hash,
            "card_pan": receipt.card_pan, "ref_id": ref_id, "fee": receipt.fee_rial,
        })
    });
    json!({
        "is_pay": u8::from(paid),
        "status_code": code,
        "message": message(payment),
        "card_hash": text(|receipt| &receipt.card_hash),
        "card_pan": text(|receipt| &receipt.card_pan),
        "ref_id": ref_id,
        "data_verify": data,
        "id": payment.id.0,
        "state": state_name(payment.state),
        "amount": money::to_json(payment.amount, payment.currency),
        "currency": money::currency_name(payment.currency),
        "paid_at": paid.then(|| payment.paid_at.map(rest_format)).flatten(),
    })
}

fn is_paid(payment: &Payment) -> bool {
    matches!(payment.state, PaymentState::Paid | PaymentState::Refunded)
}

fn message(payment: &Payment) -> String {
    match (&payment.receipt, payment.state) {
        (Some(receipt), _) if !receipt.message.is_empty() => receipt.message.clone(),
        (_, PaymentState::Paid | PaymentState::Refunded) => "Paid".to_owned(),
        (_, PaymentState::Created | PaymentState::Pending) => "The gateway has not answered yet.".to_owned(),
        (_, PaymentState::Cancelled) => "cancelled".to_owned(),
        (_, PaymentState::Failed | PaymentState::Expired) => "not paid".to_owned(),
    }
}

/// 302 to the application. The outcome is appended to the address's query, as in the original, before any fragment.
fn redirect(url: &str, payment: &Payment) -> Reply {
    let (address, fragment) =
        url.split_once('#').map_or((url, None), |(address, rest)| (address, Some(rest)));
    let amount = money::format(payment.amount, payment.currency);
    let amount = if amount.contains('.') { amount } else { format!("{amount}.0") };
    let receipt = payment.receipt.as_ref().map_or("", |receipt| receipt.number.as_str());
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("status", if is_paid(payment) { "paid" } else { "unpaid" })
        .append_pair("order_id", &payment.order)
        .append_pair("authority", payment.start.as_ref().map_or("", |start| start.reference.as_str()))
        .append_pair("ref_id", receipt)
        .append_pair("amount", &amount)
        .append_pair("message", &message(payment))
        .append_pair("state", state_name(payment.state))
        .append_pair("currency", money::currency_name(payment.currency))
        .finish();
    let joint = if address.contains('?') { '&' } else { '?' };
    let fragment = fragment.map(|fragment| format!("#{fragment}")).unwrap_or_default();
    match HeaderValue::from_str(&format!("{address}{joint}{query}{fragment}")) {
        Ok(location) => Reply::bare(StatusCode::FOUND).with(header::LOCATION, location),
        Err(_) => Reply::json(StatusCode::OK, &json!({"details": outcome(payment)})),
    }
}

fn callback_failure(context: &Context, error: &CallbackError) -> Failure {
    match error {
        CallbackError::NotUnderstood if context.head.method != Method::POST => Failure::error(
            StatusCode::BAD_REQUEST,
            "callback_unreadable",
            "The transaction was unsuccessful or canceled.",
        ),
        CallbackError::NotUnderstood | CallbackError::NotFound => {
            Failure::error(StatusCode::NOT_FOUND, "payment_not_found", "payment not found.")
        }
        CallbackError::Store(error) => failed(context, error),
    }
}
