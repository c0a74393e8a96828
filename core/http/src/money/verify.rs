//! `payment/verify/`: the callback, brought by the payer's browser or by a client.
//!
//! The callback is only a hint to ask the bank. Its content is not trusted. The payer's browser, which brings the
//! payment's own key, the payment's user and staff see the whole result; anyone else sees whether it is paid.

use std::sync::Arc;

use bytes::Bytes;
use chelseru_domain::clock::rest_format;
use chelseru_domain::money;
use chelseru_domain::money::payment::gateway::Callback;
use chelseru_domain::money::payment::{
    CallbackCaller, CallbackError, Confirmed, Payment, PaymentReceipt, PaymentState, View, state_name,
};
use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::input::{actor, failed, number_or_text};
use super::{Money, page};
use crate::pushed::Pushed;
use crate::reply::{Failure, Reply, whole_seconds};
use crate::request::{Access, Anyone, Context, Request};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[Route {
    path: "/payment/verify/",
    name: "Payment Verify",
    access: Access::Open,
    kind: Kind::Pushed,
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
                    (200, "PaymentResult|PaymentOutcome|Html"),
                    (302, "To frontend_callback_url with the result."),
                    (400, "It cannot be read.|Html"),
                    (404, "No such payment.|Html"),
                    (429, TOO_MANY),
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
                    (200, "PaymentResult|PaymentOutcome|Html"),
                    (302, "To frontend_callback_url with the result."),
                    (400, "It cannot be read.|Html"),
                    (404, "No such payment.|Html"),
                    (429, TOO_MANY),
                ],
            },
        },
    ],
}];

const TOO_MANY: &str =
    "The address asked too often about payments of others. Retry-After tells when to retry.|Html";

/// `GET payment/verify/`.
async fn verify(money: Arc<Money>, request: Request<Anyone>) -> Answer {
    confirm(money, request.context, request.caller, Bytes::new()).await
}

/// `POST payment/verify/`.
async fn callback(money: Arc<Money>, request: Request<Anyone, Bytes>) -> Answer {
    confirm(money, request.context, request.caller, request.body).await
}

/// The result in the caller's form: a redirect to the application, a page for a browser, otherwise JSON.
async fn confirm(money: Arc<Money>, context: Context, caller: Anyone, body: Bytes) -> Answer {
    let accept = context.header(header::ACCEPT);
    let wants_page = page::is_wanted(&context.head.method, accept, context.query("format").as_deref());
    match ask(money, &context, caller, body).await {
        Ok(confirmed) => Ok(match &confirmed.payment.frontend_url {
            Some(url) => redirect(url, &confirmed),
            None if wants_page => page::result(&confirmed),
            None => Reply::json(StatusCode::OK, &json!({"details": outcome(&confirmed)})),
        }),
        Err(failure) if wants_page => Ok(page::failure(failure, &context.id)),
        Err(failure) => Err(failure),
    }
}

/// Asks the bank, detached from the client's connection.
async fn ask(
    money: Arc<Money>,
    context: &Context,
    Anyone(caller): Anyone,
    body: Bytes,
) -> Result<Confirmed, Failure> {
    let Pushed { content_type, body } = Pushed::read(context.header(header::CONTENT_TYPE), body).await?;
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
    let actor = match &caller {
        Some(caller) => Some(actor(&money, context, caller).await?),
        None => None,
    };
    let caller = CallbackCaller { address: context.client, actor };
    let tasks = money.detached.clone();
    let confirmed =
        tasks.spawn(async move { money.payments.callback(money.gateways.as_ref(), &callback, caller).await });
    match confirmed.await {
        Ok(Ok(confirmed)) => Ok(confirmed),
        Ok(Err(error)) => Err(callback_failure(context, &error)),
        Err(_) => Err(Failure::internal()),
    }
}

/// The outcome of a payment, as much of it as the caller may see. It does not depend on the time.
fn outcome(Confirmed { payment, view }: &Confirmed) -> Value {
    let (is_pay, state) = (u8::from(is_paid(payment)), state_name(payment.state));
    if *view == View::Outcome {
        return json!({"is_pay": is_pay, "state": state});
    }
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
        "is_pay": is_pay,
        "status_code": code,
        "message": message(payment),
        "card_hash": text(|receipt| &receipt.card_hash),
        "card_pan": text(|receipt| &receipt.card_pan),
        "ref_id": ref_id,
        "data_verify": data,
        "id": payment.id.0,
        "state": state,
        "amount": money::to_json(payment.amount, payment.currency),
        "currency": money::currency_name(payment.currency),
        "paid_at": payment.paid_at.filter(|_| is_paid(payment)).map(rest_format),
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
/// Values that the caller may not see are empty.
fn redirect(url: &str, confirmed: &Confirmed) -> Reply {
    let (address, fragment) =
        url.split_once('#').map_or((url, None), |(address, rest)| (address, Some(rest)));
    let query = redirect_query(confirmed);
    let joint = if address.contains('?') { '&' } else { '?' };
    let fragment = fragment.map(|fragment| format!("#{fragment}")).unwrap_or_default();
    match HeaderValue::from_str(&format!("{address}{joint}{query}{fragment}")) {
        Ok(location) => Reply::bare(StatusCode::FOUND).with(header::LOCATION, location),
        Err(_) => Reply::json(StatusCode::OK, &json!({"details": outcome(confirmed)})),
    }
}

fn redirect_query(Confirmed { payment, view }: &Confirmed) -> String {
    let amount = money::format(payment.amount, payment.currency);
    let amount = if amount.contains('.') { amount } else { format!("{amount}.0") };
    let receipt = payment.receipt.as_ref().map_or("", |receipt| receipt.number.as_str());
    let seen = |text: &str| if *view == View::Whole { text.to_owned() } else { String::new() };
    form_urlencoded::Serializer::new(String::new())
        .append_pair("status", if is_paid(payment) { "paid" } else { "unpaid" })
        .append_pair("order_id", &seen(&payment.order))
        .append_pair("authority", payment.start.as_ref().map_or("", |start| start.reference.as_str()))
        .append_pair("ref_id", &seen(receipt))
        .append_pair("amount", &seen(&amount))
        .append_pair("message", &seen(&message(payment)))
        .append_pair("state", state_name(payment.state))
        .append_pair("currency", &seen(money::currency_name(payment.currency)))
        .finish()
}

/// Whether the query has a reference and a status.
fn has_both(context: &Context) -> bool {
    let given = |wanted: &str| {
        let mut pairs = form_urlencoded::parse(context.query_text().as_bytes());
        pairs.any(|(name, value)| name.eq_ignore_ascii_case(wanted) && !value.trim().is_empty())
    };
    given("authority") && given("status")
}

fn callback_failure(context: &Context, error: &CallbackError) -> Failure {
    match error {
        // As in the original, a GET needs both; a bank that leaves the status out names a payment of ours.
        CallbackError::NotUnderstood | CallbackError::NotFound
            if context.head.method != Method::POST && !has_both(context) =>
        {
            Failure::error(
                StatusCode::BAD_REQUEST,
                "callback_unreadable",
                "The transaction was unsuccessful or canceled.",
            )
        }
        CallbackError::NotUnderstood | CallbackError::NotFound => {
            Failure::error(StatusCode::NOT_FOUND, "payment_not_found", "payment not found.")
        }
        CallbackError::TooMany(wait) => {
            let text = "Too many questions about payments from this address. Log in, or try again later.";
            Failure::error(StatusCode::TOO_MANY_REQUESTS, "too_many_questions", text)
                .retry_after(whole_seconds(*wait))
        }
        CallbackError::Store(error) => failed(context, error),
    }
}
