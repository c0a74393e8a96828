//! `payment/create/`: begins a payment.
//!
//! The shape is the original's, plus the payment's id, state and unit.

use chelseru_domain::money::payment::gateway::RedirectMethod;
use std::sync::Arc;

use chelseru_domain::PhoneNumber;
use chelseru_domain::login::identity::Caller;
use chelseru_domain::money::payment::gateway::GatewayError;
use chelseru_domain::money::payment::verdict::hold;
use chelseru_domain::money::payment::{CreateError, Created, PayMode, Payment, PaymentRequest, PaymentStart};
use chelseru_domain::money::{self, Currency};
use http::StatusCode;
use serde_json::{Value, json};

use super::input::{CURRENCY, DESCRIPTION, ORDER, amount, check_currency, failed, order_paid, shown};
use super::{Money, go};
use crate::fields::{Fields, Text};
use crate::key::{IDEMPOTENCY_KEY, idempotency_key, key_reused, key_running, replayed};
use crate::reply::{Failure, Reply};
use crate::request::{Access, Context, Request};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[Route {
    path: "/payment/create/",
    name: "Payment Create",
    access: Access::User,
    kind: Kind::Plain,
    operations: &[Operation {
        verb: Verb::Post,
        id: "payment_create",
        call: call!(create),
        about: About {
            summary: "Begin a payment; send the payer to gateway_url",
            parameters: &[IDEMPOTENCY_KEY],
            fields: &[
                Field("amount", Is::Text, "An exact amount in the configured currency."),
                Field(
                    "order_id",
                    Is::MayText,
                    "The caller's reference: an order has at most one open payment.",
                ),
                Field("description", Is::MayText, "Shown by the bank."),
                Field(
                    "callback_url",
                    Is::MayText,
                    "Where the bank sends the payer; must be allowed by the configuration.",
                ),
                Field(
                    "frontend_callback_url",
                    Is::MayText,
                    "Where the result is redirected to; must be allowed.",
                ),
                Field("mobile", Is::MayText, "For the bank's page."),
                Field("email", Is::MayText, "For the bank's page."),
                CURRENCY,
                Field("pay_mode", Is::MayInteger, "1 charges the wallet (default), 2 only pays."),
            ],
            answers: &[
                (200, "PaymentStarted"),
                (
                    409,
                    "The order is paid or has an open payment with other terms, or the request is still running.",
                ),
                (422, "The key stands for another request."),
                (502, "The gateway refused or did not answer."),
                (503, "The gateway limits requests; Retry-After tells when to retry."),
            ],
        },
    }],
}];

const URL: Text = Text { chars_max: 2000 };
const EMAIL: Text = Text { chars_max: 254 };
const MOBILE: Text = Text { chars_max: 32 };
const DEFAULT_DESCRIPTION: &str = "chelseru: new order";
const NOT_ALLOWED: &str =
    "This address is not allowed; payment.callback_urls in the configuration lists the allowed ones.";

/// `POST payment/create/`.
async fn create(money: Arc<Money>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: fields } = request;
    let asked = asked(&money, &context, &caller, fields).await?;
    let callback_url = asked.callback_url.clone();
    let created = money.payments.create(money.gateways.as_ref(), asked).await;
    let Created { payment, replayed: is_replay } =
        created.map_err(|error| create_failure(&context, money.currency, &callback_url, &error))?;
    let Some(start) = &payment.start else {
        tracing::error!(request.id = %context.id, payment.id = payment.id.0, "the gateway returned no start for a payment");
        return Err(Failure::internal());
    };
    let reply = Reply::json(StatusCode::OK, &json!({"details": started_json(&context, &payment, start)}));
    Ok(if is_replay { replayed(reply) } else { reply })
}

/// The payment that a client requests.
async fn asked(
    money: &Money,
    context: &Context,
    caller: &Caller,
    mut fields: Fields,
) -> Result<PaymentRequest, Failure> {
    let unit = money.currency;
    let amount = amount(&mut fields, unit);
    if amount.is_none() && fields.value("amount").is_none_or(Value::is_null) {
        return Err(Failure::error(StatusCode::BAD_REQUEST, "amount_required", "amount is required."));
    }
    let order = fields.given("order_id", ORDER).unwrap_or_default();
    let description = fields.given("description", DESCRIPTION);
    let callback_url = fields.given("callback_url", URL);
    let frontend_url = fields.given("frontend_callback_url", URL);
    let email = fields.given("email", EMAIL);
    let mobile = mobile(money, context, caller, &mut fields).await?;
    let mode = mode(&mut fields);
    check_currency(&mut fields, unit);
    let callback_url = callback(money, context, &mut fields, callback_url);
    if let Some(url) = &frontend_url
        && !chelseru_config::payment_url_allowed(url, &money.rules.callback_urls)
    {
        fields.refuse("frontend_callback_url", NOT_ALLOWED);
    }
    let idempotency_key = idempotency_key(context)?;
    let (amount, callback_url) = fields.all((amount, callback_url))?;
    Ok(PaymentRequest {
        user: caller.user_id,
        amount,
        currency: unit,
        mode,
        order,
        unique_order: money.rules.unique_orders,
        description: description.unwrap_or_else(|| DEFAULT_DESCRIPTION.to_owned()),
        callback_url,
        frontend_url,
        mobile,
        email,
        idempotency_key,
        per_hour_max: money.rules.payments_per_hour_max,
    })
}

/// For the bank's page: the number the client names, otherwise the account's.
async fn mobile(
    money: &Money,
    context: &Context,
    caller: &Caller,
    fields: &mut Fields,
) -> Result<Option<String>, Failure> {
    match fields.given("mobile", MOBILE).map(|text| PhoneNumber::parse(&text)) {
        Some(Ok(number)) => return Ok(Some(number.e164().to_owned())),
        Some(Err(_)) => {
            fields.refuse("mobile", "Enter a valid mobile number.");
            return Ok(None);
        }
        None => {}
    }
    let account = money.identity.user(caller.user_id).await.map_err(|error| failed(context, &error))?;
    let number = account.and_then(|account| PhoneNumber::parse(&account.mobile_number).ok());
    Ok(number.map(|number| number.e164().to_owned()))
}

fn mode(fields: &mut Fields) -> PayMode {
    match fields.number_text("pay_mode").as_deref().map(str::trim) {
        None | Some("" | "1") => PayMode::Charge,
        Some("2") => PayMode::Direct,
        Some(other) => {
            fields.refuse("pay_mode", format!("\"{}\" is not a valid choice.", shown(other)));
            PayMode::Charge
        }
    }
}

/// Where the bank redirects the payer: the client's address, if the configuration allows it; otherwise the configured
/// one; otherwise `payment/verify/` under the gateway's configured address. The Host header comes from the client, so
/// it never counts.
fn callback(money: &Money, context: &Context, fields: &mut Fields, asked: Option<String>) -> Option<String> {
    let rules = &money.rules;
    if let Some(url) = asked {
        if url == rules.callback_url || chelseru_config::payment_url_allowed(&url, &rules.callback_urls) {
            return Some(url);
        }
        fields.refuse("callback_url", NOT_ALLOWED);
        return None;
    }
    if !rules.callback_url.is_empty() {
        return Some(rules.callback_url.clone());
    }
    if let Some(own) = context.own_url() {
        return Some(format!("{own}{}/payment/verify/", context.base_path()));
    }
    let text = "Send one, or set payment.callback_url or server.public_url in the configuration.";
    fields.refuse("callback_url", text);
    None
}

fn started_json(context: &Context, payment: &Payment, start: &PaymentStart) -> Value {
    let url = go::bank_url(context, &start.redirect.url);
    let is_form = start.redirect.method == RedirectMethod::Post;
    // A bank that takes a form is reached through a page of ours, so every client only opens an address.
    let page = if is_form { go::address(context, payment) } else { None };
    let method = if is_form && page.is_none() { "POST" } else { "GET" };
    let fields = start.redirect.fields.iter();
    let form: Vec<_> = fields.map(|(name, value)| json!({"name": name, "value": value})).collect();
    json!({
        "id": payment.id.0,
        "currency": money::currency_name(payment.currency),
        "amount": money::to_json(payment.amount, payment.currency),
        "gateway_title": payment.gateway,
        "gateway_url": page.as_ref().unwrap_or(&url),
        "gateway_method": method,
        "gateway_form_url": is_form.then_some(&url),
        "gateway_fields": form,
        "callback_url": payment.callback_url,
        "authority": start.reference,
        "status_code": 100,
        "message": start.message,
        "data": {"authority": start.reference, "code": 100, "message": start.message},
    })
}

/// Translates why a payment did not start. The provider's own text stays in the log.
fn create_failure(context: &Context, unit: Currency, callback_url: &str, error: &CreateError) -> Failure {
    let (amount, name) = (|rial| money::format(rial, unit), money::currency_name(unit));
    match error {
        CreateError::NoGateway => Failure::error(
            StatusCode::SERVICE_UNAVAILABLE,
            "payment_unavailable",
            "No payment gateway is configured.",
        ),
        CreateError::AmountOutOfRange { min, max } => Failure::field(
            "amount",
            format!("The gateway takes {} to {} {name}.", amount(*min), amount(*max)),
        ),
        CreateError::AmountNotWhole { unit } => {
            Failure::field("amount", format!("The gateway takes multiples of {} {name} only.", amount(*unit)))
        }
        CreateError::KeyReused => key_reused(),
        CreateError::InFlight => key_running(),
        CreateError::OrderPaid(id) => order_paid("payment", id.0),
        CreateError::OrderSpent(id) => order_paid("spend", id.0),
        CreateError::OrderBeginning(id) => Failure::object(
            StatusCode::CONFLICT,
            "order_running",
            json!({"detail": "This payment of the order is being started. Try again in a moment.", "payment": id.0}),
        )
        .retry_after(1),
        CreateError::OrderOpen(open) => Failure::object(
            StatusCode::CONFLICT,
            "order_open",
            json!({"detail": "Another payment of this order is open.", "payment": open.id.0}),
        ),
        CreateError::Exhausted(exhausted) => {
            let text = "Too many payments were begun. Please try again later.";
            Failure::detail(StatusCode::TOO_MANY_REQUESTS, "payments_limited", text)
                .exhausted(*exhausted)
        }
        CreateError::Gateway(error) => gateway_failure(context, callback_url, error),
        CreateError::Randomness => {
            tracing::error!(request.id = %context.id, %error, "a payment was not started");
            Failure::internal()
        }
        CreateError::Store(error) => failed(context, error),
    }
}

fn gateway_failure(context: &Context, callback_url: &str, error: &GatewayError) -> Failure {
    tracing::error!(request.id = %context.id, %error, "a payment was not started");
    let (code, number) = match error {
        GatewayError::Refused(reason) => ("payment_refused", reason.code.parse::<i64>().ok()),
        GatewayError::Unauthorized(reason) => ("payment_misconfigured", reason.code.parse::<i64>().ok()),
        GatewayError::Throttled(wait) => return throttled(callback_url, hold(*wait).as_secs()),
        GatewayError::Unavailable(_) => ("payment_unavailable", None),
        GatewayError::Unknown(_) => ("payment_outcome_unknown", None),
    };
    let message = match error {
        GatewayError::Refused(_) | GatewayError::Unauthorized(_) => "the gateway refused the request.",
        _ => "gateway request failed (no response).",
    };
    let details =
        json!({"callback_url": callback_url, "message": message, "status_code": number, "data": null});
    Failure::object(StatusCode::BAD_GATEWAY, code, json!({"details": details}))
}

/// 429: the gateway limits requests; with the time to retry.
fn throttled(callback_url: &str, seconds: u64) -> Failure {
    let message = format!("The gateway limits requests. Try again in {seconds} seconds.");
    let details =
        json!({"callback_url": callback_url, "message": message, "status_code": null, "data": null});
    Failure::object(StatusCode::SERVICE_UNAVAILABLE, "payment_throttled", json!({"details": details}))
        .retry_after(seconds)
}
