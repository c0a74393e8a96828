//! `payment/...`: between fields and the domain's payments.
//!
//! Creating and confirming run detached from the client's connection: a browser that goes away stops neither. The
//! shapes are the original's; a payment's own number, state and unit are added. Domain errors become statuses in
//! [`create_failure`] and [`callback_failure`].

use chelseru_domain::clock::rest_format;
pub(crate) use chelseru_domain::money::to_json as shown_amount;
use chelseru_domain::money::{self, Currency, Money};
use chelseru_domain::payment::gateway::{Callback, GatewayError};
pub(crate) use chelseru_domain::payment::state_name;
use chelseru_domain::payment::{CallbackError, CreateError, PaymentRequest};
use chelseru_domain::{PhoneNumber, StoreError};
use chelseru_store::{PayMode, Payment, PaymentId, PaymentState, Reversal, ReversalState};
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Context;
use super::fields::{Fields, Text};
use super::reply::{Failure, Reply};
use crate::config::{self, Unit};

const ORDER: Text = Text { chars_max: 64 };
const DESCRIPTION: Text = Text { chars_max: 255 };
const URL: Text = Text { chars_max: 2000 };
const EMAIL: Text = Text { chars_max: 254 };
const MOBILE: Text = Text { chars_max: 32 };
/// Characters of an idempotency key.
const KEY_MAX: usize = 255;
/// Payments, or lines of a wallet, on one page.
pub(crate) const PAGE: usize = 30;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const DEFAULT_DESCRIPTION: &str = "chelseru: new order";

/// `POST payment/create/`.
pub(crate) async fn create(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    let user = context.user()?.user_id;
    let unit = unit(&context);
    let amount = amount(&mut fields, "amount", unit)?;
    if amount.is_none() && fields.value("amount").is_none_or(Value::is_null) {
        return Err(Failure::error(StatusCode::BAD_REQUEST, "amount_required", "amount is required."));
    }
    let order = fields.given("order_id", ORDER).unwrap_or_default();
    let description = fields.given("description", DESCRIPTION);
    let callback_url = fields.given("callback_url", URL);
    let frontend_url = fields.given("frontend_callback_url", URL);
    let email = fields.given("email", EMAIL);
    let mobile = match fields.given("mobile", MOBILE).map(|text| PhoneNumber::parse(&text)) {
        Some(Ok(number)) => Some(number.e164().to_owned()),
        Some(Err(_)) => {
            fields.refuse("mobile", "Enter a valid mobile number.");
            None
        }
        None => own_number(&context)?,
    };
    let mode = match fields.number_text("pay_mode").as_deref().map(str::trim) {
        None | Some("" | "1") => PayMode::Charge,
        Some("2") => PayMode::Direct,
        Some(other) => {
            fields.refuse("pay_mode", format!("\"{}\" is not a valid choice.", shown(other)));
            PayMode::Charge
        }
    };
    if let Some(currency) = fields.given("currency", Text { chars_max: 10 })
        && currency != money::currency_name(unit)
    {
        let text = format!(
            "\"{}\" is not a valid choice: amounts here are in {}.",
            shown(&currency),
            money::currency_name(unit)
        );
        fields.refuse("currency", text);
    }
    let callback_url = callback(&context, &mut fields, callback_url);
    if let Some(url) = &frontend_url
        && !config::payment_url_allowed(url, &context.live.config.payment.callback_urls)
    {
        fields.refuse("frontend_callback_url", NOT_ALLOWED);
    }
    let idempotency_key = idempotency_key(&context)?;
    fields.finish()?;
    let (Some(amount), Some(callback_url)) = (amount, callback_url) else { return Err(Failure::internal()) };
    let request = PaymentRequest {
        user,
        amount,
        currency: unit,
        mode,
        order,
        description: description.unwrap_or_else(|| DEFAULT_DESCRIPTION.to_owned()),
        callback_url: callback_url.clone(),
        frontend_url,
        mobile,
        email,
        idempotency_key,
    };
    let (live, payments) = (context.live.clone(), context.app.payments.clone());
    let created =
        context.app.detached.spawn(async move { payments.create(live.gateways.as_ref(), request).await });
    let payment = match created.await {
        Ok(Ok(payment)) => payment,
        Ok(Err(error)) => return Err(create_failure(&context, &callback_url, &error)),
        Err(_) => return Err(Failure::internal()),
    };
    let Some(start) = &payment.start else { return Err(Failure::internal()) };
    // The built-in bank names a path; its page is for clients of this machine, under the name they use.
    let url = match start.redirect.url.strip_prefix('/') {
        Some(path) => format!("http://{}/{path}", context.header(header::HOST)),
        None => start.redirect.url.clone(),
    };
    let form: Vec<_> =
        start.redirect.fields.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    let details = json!({
        "id": payment.id.0,
        "currency": money::currency_name(payment.currency),
        "amount": shown_amount(payment.amount, payment.currency),
        "gateway_title": payment.gateway,
        "gateway_url": url,
        "gateway_method": if start.redirect.post { "POST" } else { "GET" },
        "gateway_fields": form,
        "callback_url": payment.callback_url,
        "authority": start.reference,
        "status_code": 100,
        "message": start.message,
        "data": {"authority": start.reference, "code": 100, "message": start.message},
    });
    Ok(Reply::json(StatusCode::OK, &json!({"details": details})))
}

const NOT_ALLOWED: &str =
    "This address is not allowed; the configuration's payment.callback_urls lists what is.";

/// Where the bank sends the payer: what the client asked for, when the configuration allows it; else the
/// configuration's, else this gateway's own address for clients of this machine.
fn callback(context: &Context, fields: &mut Fields, asked: Option<String>) -> Option<String> {
    let payment = &context.live.config.payment;
    if let Some(url) = asked {
        if url == payment.callback_url || config::payment_url_allowed(&url, &payment.callback_urls) {
            return Some(url);
        }
        fields.refuse("callback_url", NOT_ALLOWED);
        return None;
    }
    if !payment.callback_url.is_empty() {
        return Some(payment.callback_url.clone());
    }
    // The Host header is the client's word: it counts only where nobody else can be sent.
    if super::operator::is_local(context.peer, &context.head.headers) {
        let host = context.header(header::HOST);
        return Some(format!("http://{host}{}/payment/verify/", context.app.limits.base_path));
    }
    fields.refuse("callback_url", "Name one, or let the configuration name payment.callback_url.");
    None
}

/// `GET` and `POST payment/verify/`: whatever the payer's browser, or a client, brings back.
pub(crate) async fn verify(context: Context, fields: Option<Fields>) -> Result<Reply, Failure> {
    let body = fields.map(|fields| fields.body().to_vec()).unwrap_or_default();
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
        query: context.head.uri.query().unwrap_or("").to_owned(),
        // Only what says how to read the body: a plugin has no business with the client's credentials.
        headers: vec![("content-type".to_owned(), content_type)],
        body,
    };
    let is_get = context.head.method != Method::POST;
    let (live, payments) = (context.live.clone(), context.app.payments.clone());
    let confirmed =
        context.app.detached.spawn(async move { payments.callback(live.gateways.as_ref(), &callback).await });
    let payment = match confirmed.await {
        Ok(Ok(payment)) => payment,
        Ok(Err(error)) => return Err(callback_failure(&context, is_get, &error)),
        Err(_) => return Err(Failure::internal()),
    };
    if let Some(url) = &payment.frontend_url {
        return Ok(redirect(url, &payment));
    }
    Ok(Reply::json(StatusCode::OK, &json!({"details": outcome(&payment)})))
}

/// What `payment/verify/` says of a payment: the same to all who ask, whenever.
fn outcome(payment: &Payment) -> Value {
    let paid = is_paid(payment);
    let receipt = payment.receipt.as_ref();
    let text =
        |field: fn(&chelseru_store::PaymentReceipt) -> &String| receipt.map(|receipt| field(receipt).clone());
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
        "amount": shown_amount(payment.amount, payment.currency),
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
        (_, PaymentState::Created | PaymentState::Pending) => "The gateway's answer is awaited.".to_owned(),
        (_, PaymentState::Cancelled) => "cancelled".to_owned(),
        (_, PaymentState::Failed | PaymentState::Expired) => "not paid".to_owned(),
    }
}

/// 302 to the application, with the outcome in the query as the original gave it, in front of a fragment and behind
/// a query the address already has.
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
    let location = HeaderValue::from_str(&format!("{address}{joint}{query}{fragment}"));
    let reply = Reply::bare(StatusCode::FOUND);
    match location {
        Ok(location) => reply.with(header::LOCATION, location),
        Err(_) => Reply::json(StatusCode::OK, &json!({"details": outcome(payment)})),
    }
}

/// `GET payment/`: the caller's own, newest first.
pub(crate) fn list(context: &Context) -> Result<Reply, Failure> {
    let user = context.user()?.user_id;
    let before = page_start(context)?.map(PaymentId);
    let payments =
        context.app.payments.list(user, before, PAGE + 1).map_err(|error| read_failure(context, &error))?;
    let more = payments.len() > PAGE;
    let results: Result<Vec<_>, _> =
        payments.iter().take(PAGE).map(|payment| payment_shown(context, payment)).collect();
    let results = results?;
    let next = more.then(|| payments[PAGE - 1].id.0);
    Ok(Reply::json(StatusCode::OK, &page(context, next, &results)))
}

/// `GET payment/{id}/`: the caller's own, or any for the staff.
pub(crate) fn get(context: &Context) -> Result<Reply, Failure> {
    let actor = actor(context)?;
    let id = path_number(context, "payment");
    let payment = id.map(|id| context.app.payments.get(PaymentId(id))).transpose();
    let payment = payment.map_err(|error| read_failure(context, &error))?.flatten();
    match payment.filter(|payment| actor.staff || payment.user == actor.user) {
        Some(payment) => Ok(Reply::json(StatusCode::OK, &payment_shown(context, &payment)?)),
        None => Err(Failure::detail(
            StatusCode::NOT_FOUND,
            "payment_not_found",
            "No Payment matches the given query.",
        )),
    }
}

/// The word for a reversal's state, and with what code the gateway refused.
fn reversal_json(reversal: &Reversal) -> Value {
    let (state, reason) = match &reversal.state {
        ReversalState::Open => ("open", None),
        ReversalState::Done => ("done", None),
        ReversalState::Refused(reason) => ("refused", Some(reason)),
    };
    json!({"state": state, "reason": reason, "asked": reversal.asked, "updated_at": rest_format(reversal.updated_at)})
}

/// A payment with what became of asking its gateway to give it back, when it was asked.
pub(crate) fn payment_shown(context: &Context, payment: &Payment) -> Result<Value, Failure> {
    let mut shown = payment_json(payment);
    let reversal = match payment.refunds {
        0 => None,
        _ => context.app.payments.reversal(payment.id).map_err(|error| read_failure(context, &error))?,
    };
    shown["reversal"] = reversal.as_ref().map(reversal_json).into();
    Ok(shown)
}

pub(crate) fn payment_json(payment: &Payment) -> Value {
    let start = payment.start.as_ref();
    let receipt = payment.receipt.as_ref();
    json!({
        "id": payment.id.0,
        "user": payment.user.0,
        "state": state_name(payment.state),
        "reason": payment.reason.split(':').next().unwrap_or_default(),
        "amount": shown_amount(payment.amount, payment.currency),
        "currency": money::currency_name(payment.currency),
        "amount_rial": payment.amount,
        "refunded": shown_amount(payment.refunded, payment.currency),
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
    })
}

/// What a client learns of a payment that was not started. The provider's own words stay in the log.
fn create_failure(context: &Context, callback_url: &str, error: &CreateError) -> Failure {
    let unit = unit(context);
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
        CreateError::InFlight => Failure::detail(
            StatusCode::CONFLICT,
            "idempotency_in_flight",
            "A request with this Idempotency-Key is being carried out.",
        )
        .retry_after(1),
        CreateError::OrderOpen(open) => Failure::object(
            StatusCode::CONFLICT,
            "order_open",
            json!({"detail": "Another payment of this order is open.", "payment": open.id.0}),
        ),
        CreateError::Gateway(error) => {
            tracing::error!(request.id = %context.request_id, %error, "a payment was not started");
            let (code, number) = match error {
                GatewayError::Refused(reason) => ("payment_refused", reason.code.parse::<i64>().ok()),
                GatewayError::Unauthorized(reason) => {
                    ("payment_misconfigured", reason.code.parse::<i64>().ok())
                }
                GatewayError::Unavailable(_) => ("payment_unavailable", None),
                GatewayError::Unknown(_) => ("payment_outcome_unknown", None),
            };
            let message = match error {
                GatewayError::Refused(_) | GatewayError::Unauthorized(_) => {
                    "the gateway refused the request."
                }
                _ => "gateway request failed (no response).",
            };
            let details = json!({"callback_url": callback_url, "message": message, "status_code": number, "data": null});
            Failure::object(StatusCode::BAD_GATEWAY, code, json!({"details": details}))
        }
        CreateError::Store(error) => {
            tracing::error!(request.id = %context.request_id, %error, "a payment could not be stored");
            Failure::internal()
        }
    }
}

fn callback_failure(context: &Context, is_get: bool, error: &CallbackError) -> Failure {
    match error {
        CallbackError::NotUnderstood if is_get => Failure::error(
            StatusCode::BAD_REQUEST,
            "callback_unreadable",
            "The transaction was unsuccessful or canceled.",
        ),
        CallbackError::NotUnderstood | CallbackError::NotFound => {
            Failure::error(StatusCode::NOT_FOUND, "payment_not_found", "payment not found.")
        }
        CallbackError::Store(error) => {
            tracing::error!(request.id = %context.request_id, %error, "a callback could not be carried out");
            Failure::internal()
        }
    }
}

pub(crate) fn key_reused() -> Failure {
    Failure::detail(
        StatusCode::UNPROCESSABLE_ENTITY,
        "idempotency_key_reused",
        "This Idempotency-Key was used for another request.",
    )
}

pub(crate) fn read_failure(context: &Context, error: &StoreError) -> Failure {
    tracing::error!(request.id = %context.request_id, %error, "the store did not answer");
    Failure::internal()
}

/// The caller and whether he is staff: by his account's flag, or because the configuration lists him.
pub(crate) fn actor(context: &Context) -> Result<chelseru_domain::wallet::Actor, Failure> {
    let user = context.user()?.user_id;
    let listed = context.live.config.payment.staff_users.contains(&user.0);
    let staff = listed || {
        let account = context.app.store.user_get(user).map_err(|error| read_failure(context, &error))?;
        account.is_some_and(|account| account.active && (account.staff || account.superuser))
    };
    Ok(chelseru_domain::wallet::Actor { user, staff })
}

/// The unit of amounts in the API.
pub(crate) fn unit(context: &Context) -> Currency {
    match context.live.config.payment.currency {
        Unit::Irt => Currency::Irt,
        Unit::Irr => Currency::Irr,
    }
}

/// An amount field; `None` when it is absent, null or refused, which `finish` reports.
pub(crate) fn amount(
    fields: &mut Fields,
    name: &'static str,
    unit: Currency,
) -> Result<Option<Money>, Failure> {
    let Some(text) = fields.number_text(name) else { return Ok(None) };
    match Money::parse(&text, unit) {
        Ok(money) => Ok(Some(money)),
        Err(error) => {
            fields.refuse(name, super::auth::sentence(&error.to_string()));
            Ok(None)
        }
    }
}

/// The `Idempotency-Key` header: 1 to 255 visible ASCII characters.
pub(crate) fn idempotency_key(context: &Context) -> Result<Option<String>, Failure> {
    let mut values = context.head.headers.get_all(IDEMPOTENCY_KEY).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if context.head.headers.contains_key(IDEMPOTENCY_KEY) { Err(bad_key()) } else { Ok(None) };
    };
    let key = value.to_str().map_err(|_| bad_key())?;
    if !(1..=KEY_MAX).contains(&key.len()) || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad_key());
    }
    Ok(Some(key.to_owned()))
}

fn bad_key() -> Failure {
    Failure::detail(
        StatusCode::BAD_REQUEST,
        "idempotency_key_invalid",
        format!("An Idempotency-Key has 1 to {KEY_MAX} visible ASCII characters, and there is one of them."),
    )
}

/// The number behind a word in the request's path: `payment/7/` has 7 behind `payment`.
pub(crate) fn path_number(context: &Context, word: &str) -> Option<u64> {
    let path = context.head.uri.path().strip_prefix(context.app.limits.base_path.as_str())?;
    let mut parts = path.split('/').skip_while(|part| *part != word).skip(1);
    let number = parts.next()?;
    // One spelling per number.
    number.parse::<u64>().ok().filter(|parsed| parsed.to_string() == number)
}

/// Where a page begins: `?cursor=`.
pub(crate) fn page_start(context: &Context) -> Result<Option<u64>, Failure> {
    let query = context.head.uri.query().unwrap_or("");
    let cursor = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "cursor");
    match cursor {
        None => Ok(None),
        Some((_, text)) => match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Failure::detail(StatusCode::NOT_FOUND, "invalid_cursor", "Invalid cursor")),
        },
    }
}

/// A cursor page. There is no way back: a client has the pages it came from.
pub(crate) fn page(context: &Context, next: Option<u64>, results: &[Value]) -> Value {
    let path = context.head.uri.path();
    let next = next.map(|next| format!("{}{path}?cursor={next}", context.origin()));
    json!({"next": next, "previous": null, "results": results})
}

/// Numbers as numbers, as the original passed them on; other texts as they are.
fn number_or_text(text: &str) -> Value {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text && number.unsigned_abs() < 1 << 53 => number.into(),
        _ => text.into(),
    }
}

/// A client's text within an error, short.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

fn own_number(context: &Context) -> Result<Option<String>, Failure> {
    let user = context.user()?.user_id;
    let user = context.app.store.user_get(user).map_err(|error| read_failure(context, &error))?;
    Ok(user.map(|user| user.number).filter(|number| !number.is_empty()))
}
