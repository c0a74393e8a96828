//! `message/...`: sending messages for those who may, and looking at what became of them.
//!
//! [`may_send`] is the one place that says who may. A send answers in the original's words and adds what it did not
//! say: our id, the provider, and why others did not serve. Failures are one function, [`outcome`]. Not here: the
//! queue and its states (`chelseru-domain::sms::queue`).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chelseru_domain::api_key;
use chelseru_domain::clock::rest_format;
use chelseru_domain::operator::Meter;
use chelseru_domain::phone::PhoneNumber;
use chelseru_domain::sms::queue::{SmsRequest, SmsRoute, SubmitError, Submitted, is_running};
use chelseru_domain::sms::{Delivery, ReportDecoder, ReportError, SmsBody, SmsError, parts};
use chelseru_store::{Message, MessageClass, MessageContent, MessageFilter, MessageRange, MessageStatus};
use http::{StatusCode, header};
use serde_json::{Map, Value, json};

use super::Context;
use super::fields::{Fields, Text};
use super::reply::{Failure, Reply};

const NUMBER: Text = Text { chars_max: 20 };
/// Above every provider's own bound, which is checked with the message.
const TEXT: Text = Text { chars_max: 2000 };
const TOKEN: Text = Text { chars_max: 300 };
const TEMPLATE: Text = Text { chars_max: 100 };
/// Names of template values, after `token`, which is `message_text`.
const TOKENS: [&str; 4] = ["token2", "token3", "token10", "token20"];
/// Characters of an Idempotency-Key.
const IDEMPOTENCY_KEY_MAX: usize = 255;
/// Messages on one page.
const PAGE_MAX: usize = 30;
/// Records that one page may look at for its filters.
const PAGE_LOOKED_MAX: usize = 5000;
/// The plugin whose ids the original answered as numbers.
const NUMERIC_IDS: &str = "kavenegar";

/// Who sends, and what it may see.
pub(crate) struct Sender {
    /// The API key's number; 0 for staff, who see every message.
    owner: u64,
    daily_cap: Option<u64>,
    /// Whose Idempotency-Keys these are: two members of the staff share no keys.
    who: String,
}

/// Who may send and look at messages: an API key with the scope `sms`, or a user of the staff. The rights are read
/// from the account each time, so that taking them away works at once.
pub(crate) fn may_send(context: &Context) -> Result<Sender, Failure> {
    let mut words = context.header(header::AUTHORIZATION).split_ascii_whitespace();
    if let (Some("Api-Key"), Some(token), None) = (words.next(), words.next(), words.next()) {
        let key = api_key::verify(&context.app.store, token).map_err(|error| {
            tracing::error!(request.id = %context.request_id, %error, "an API key could not be looked up");
            Failure::internal()
        })?;
        return match key {
            Some(key) if key.scope == "sms" => {
                Ok(Sender { owner: key.id, daily_cap: key.daily_cap, who: format!("key:{}", key.id) })
            }
            Some(_) => Err(forbidden()),
            None => Err(Failure::detail(
                StatusCode::UNAUTHORIZED,
                "api_key_not_valid",
                "The API key is not valid.",
            )
            .challenge()),
        };
    }
    let id = context.user()?.user_id;
    let user = context.live.identity.user(id).map_err(|error| {
        tracing::error!(request.id = %context.request_id, %error, "a user could not be looked up");
        Failure::internal()
    })?;
    match user {
        Some(user) if user.staff || user.superuser => {
            Ok(Sender { owner: 0, daily_cap: None, who: format!("user:{id}") })
        }
        _ => Err(forbidden()),
    }
}

fn forbidden() -> Failure {
    Failure::detail(
        StatusCode::FORBIDDEN,
        "permission_denied",
        "You do not have permission to perform this action.",
    )
}

/// What a client asks to have sent.
struct Asked {
    number: PhoneNumber,
    text: String,
    template: Option<String>,
    tokens: Vec<(String, String)>,
    wait: bool,
    dry_run: bool,
}

/// `POST message/send/`. The work goes on when the client goes away.
pub(crate) async fn message_send(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    let sender = may_send(&context)?;
    let mut asked = asked(&context, &mut fields)?;
    let route = context.live.sms.clone();
    let body = checked_body(&route, &mut asked).await?;
    if asked.dry_run {
        return Ok(dry_run(&asked));
    }
    let idempotency = idempotency(&context, &sender, &asked)?;
    let request = SmsRequest {
        to: asked.number.clone(),
        body,
        owner: sender.owner,
        idempotency,
        daily_cap: sender.daily_cap,
        wait: asked.wait,
    };
    let submitted = context.app.detached.spawn(async move { route.submit(request).await }).await;
    match submitted.map_err(|_| Failure::internal())? {
        Ok(Submitted::New(message)) => outcome(&context, &message),
        Ok(Submitted::Repeated(Some(message))) if is_running(&message) => Err(Failure::details(
            StatusCode::CONFLICT,
            "idempotency_running",
            "The request with this Idempotency-Key is still being carried out.",
        )
        .retry_after(1)),
        Ok(Submitted::Repeated(Some(message))) => outcome(&context, &message),
        Ok(Submitted::Repeated(None)) => Err(Failure::details(
            StatusCode::CONFLICT,
            "idempotency_forgotten",
            "The request with this Idempotency-Key was carried out; its message is no longer on record.",
        )),
        Err(error) => Err(submit_failure(&context, error)),
    }
}

fn asked(context: &Context, fields: &mut Fields) -> Result<Asked, Failure> {
    let number = super::auth::mobile_number(fields, NUMBER);
    let text = fields.required("message_text", TEXT);
    let template = match fields.value("template_id") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.trim().is_empty() => None,
        Some(_) => fields.required("template_id", TEMPLATE),
    };
    let templates = &context.live.config.sms.templates;
    if let Some(name) = template.as_ref().filter(|name| !templates.contains_key(*name)) {
        fields.refuse("template_id", format!("\"{name}\" is not a template of this gateway."));
    }
    let mut tokens = Vec::new();
    for name in TOKENS {
        let absent = match fields.value(name) {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.trim().is_empty(),
            Some(_) => false,
        };
        if !absent && let Some(value) = fields.required(name, TOKEN) {
            tokens.push((name.to_owned(), value));
        }
    }
    let wait = flag(fields, "wait", true);
    let dry_run = flag(fields, "dry_run", false);
    fields.finish()?;
    let (Some(number), Some(text)) = (number, text) else { return Err(Failure::internal()) };
    Ok(Asked { number, text, template, tokens, wait, dry_run })
}

/// A boolean, also as a form writes it.
fn flag(fields: &mut Fields, name: &'static str, default: bool) -> bool {
    let value = match fields.value(name) {
        None | Some(Value::Null) => return default,
        Some(Value::Bool(value)) => return *value,
        Some(Value::String(text)) => match text.trim().to_ascii_lowercase().as_str() {
            "" => Some(default),
            "true" | "1" | "on" => Some(true),
            "false" | "0" | "off" => Some(false),
            _ => None,
        },
        Some(_) => None,
    };
    value.unwrap_or_else(|| {
        fields.refuse(name, "Must be a valid boolean.");
        default
    })
}

/// The message's body, after every provider's own rules were asked. As in the original, spaces in the first values
/// of a template become dashes where the provider takes none.
async fn checked_body(route: &SmsRoute, asked: &mut Asked) -> Result<SmsBody, Failure> {
    let first = body(asked);
    let error = match route.check(&asked.number, &first).await {
        Ok(()) => return Ok(first),
        Err(error) => error,
    };
    if asked.template.is_some() && matches!(error, SmsError::InvalidMessage(_)) {
        let text = asked.text.replace(' ', "-");
        let tokens = asked.tokens.iter().map(|(name, value)| match name.as_str() {
            "token2" | "token3" => (name.clone(), value.replace(' ', "-")),
            _ => (name.clone(), value.clone()),
        });
        let dashed = Asked {
            number: asked.number.clone(),
            text,
            tokens: tokens.collect(),
            template: asked.template.clone(),
            ..*asked
        };
        let second = body(&dashed);
        if route.check(&dashed.number, &second).await.is_ok() {
            *asked = dashed;
            return Ok(second);
        }
    }
    Err(match error {
        SmsError::NotMapped if asked.template.is_some() => {
            Failure::field("template_id", "No provider has this template.")
        }
        SmsError::NotMapped => Failure::field("template_id", "The provider sends templates only."),
        SmsError::InvalidRecipient(_) => {
            Failure::field("mobile_number", "The provider cannot reach this number.")
        }
        SmsError::InvalidTemplate(_) => Failure::field("template_id", "The provider refuses this template."),
        // The provider's rule, in the plugin's words: it holds neither the text nor the number.
        other => Failure::field(
            "message_text",
            format!("The provider would refuse it: {}.", other.rejection().map_or("", |r| r.text.as_str())),
        ),
    })
}

fn body(asked: &Asked) -> SmsBody {
    match &asked.template {
        None => SmsBody::Text { text: asked.text.clone() },
        Some(name) => {
            let mut values = vec![("token".to_owned(), asked.text.clone())];
            values.extend(asked.tokens.iter().cloned());
            SmsBody::Template { name: name.clone(), values, fallback_text: None }
        }
    }
}

fn dry_run(asked: &Asked) -> Reply {
    let found = parts::analyse(&asked.text);
    let body = json!({
        "details": "Nothing was sent.",
        "dry_run": true,
        "receiver": asked.number.local(),
        "message": asked.text,
        "template": asked.template,
        "encoding": found.encoding.as_str(),
        "characters": found.characters,
        "parts": found.ladder_parts,
        "ladder": if found.persian { "persian" } else { "latin" },
        "standard": {"units": found.units, "parts": found.parts},
        "warnings": found.warnings,
    });
    Reply::json(StatusCode::OK, &body)
}

/// Of the caller's key, and of what it asks for.
type Hashes = ([u8; 32], [u8; 32]);

fn idempotency(context: &Context, sender: &Sender, asked: &Asked) -> Result<Option<Hashes>, Failure> {
    let Some(value) = context.head.headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().unwrap_or("").trim();
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_MAX {
        return Err(Failure::details(
            StatusCode::BAD_REQUEST,
            "idempotency_key_invalid",
            format!("An Idempotency-Key has 1 to {IDEMPOTENCY_KEY_MAX} visible characters."),
        ));
    }
    let hash = |parts: &[&str]| {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        *hasher.finalize().as_bytes()
    };
    let mut what = vec![asked.number.e164(), &asked.text, asked.template.as_deref().unwrap_or("")];
    what.extend(asked.tokens.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]));
    Ok(Some((hash(&[&sender.who, key]), hash(&what))))
}

/// What a send answers: from the message as it stands, so that asking again with the same key says the same.
fn outcome(context: &Context, message: &Message) -> Result<Reply, Failure> {
    let numeric = is_numeric(context, &message.provider);
    let mut object = Map::new();
    let mut add = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
    add("id", message.id.into());
    add("status", status_word(message.status).into());
    add("tried", tried(message));
    match message.status {
        MessageStatus::Accepted | MessageStatus::Delivered => {
            add("details", "The Message was sent correctly.".into());
            add("receiver", local(&message.number).into());
            add("message", shown_text(&message.content));
            if !message.provider_message_id.is_empty() {
                add("messageid", provider_id(&message.provider_message_id, numeric));
            }
            add("provider", message.provider.clone().into());
            Ok(Reply::json(StatusCode::OK, &object))
        }
        MessageStatus::Queued | MessageStatus::Sending => {
            add("details", "The message is stored and will be sent.".into());
            add("receiver", local(&message.number).into());
            add("message", shown_text(&message.content));
            Ok(Reply::json(StatusCode::ACCEPTED, &object))
        }
        MessageStatus::Unknown => {
            let text = "The SMS service provider gave no usable answer; the message may have been sent.";
            add("error", text.into());
            Err(Failure::object(StatusCode::INTERNAL_SERVER_ERROR, "sms_outcome_unknown", object.into()))
        }
        MessageStatus::Failed | MessageStatus::Expired => {
            let unavailable = ["unavailable", "busy", "circuit_open", "plugin_fault", "misconfigured"];
            let reason = message.error.as_str();
            if unavailable.contains(&reason) {
                add("error", "An error occurred, please contact support.".into());
                return Err(Failure::object(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "sms_unavailable",
                    object.into(),
                ));
            }
            add("details", "The SMS service provider was unable to process the request.".into());
            let code = match reason {
                "invalid_recipient" => "sms_invalid_recipient",
                "throttled" => "sms_throttled",
                _ => "sms_refused",
            };
            let last = message.tried.last().map_or("", |tried| tried.provider_code.as_str());
            if let Ok(number) = last.parse::<i64>() {
                add("errorcode", number.into());
            }
            Err(Failure::object(StatusCode::BAD_GATEWAY, code, object.into()))
        }
    }
}

fn submit_failure(context: &Context, error: SubmitError) -> Failure {
    match error {
        SubmitError::KeyReused => Failure::details(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "This Idempotency-Key was used for another request.",
        ),
        SubmitError::QuotaReached => {
            let second_of_day = context.app.clock.now().as_secs() % 86_400;
            Failure::details(
                StatusCode::TOO_MANY_REQUESTS,
                "daily_cap_reached",
                "The API key's messages for today are used up.",
            )
            .retry_after(86_400 - second_of_day)
        }
        SubmitError::Full => Failure::details(
            StatusCode::SERVICE_UNAVAILABLE,
            "queue_full",
            "Too many messages wait; try again later.",
        )
        .retry_after(5),
        SubmitError::Store(error) => {
            tracing::error!(request.id = %context.request_id, %error, "a message could not be stored");
            Failure::internal()
        }
    }
}

/// `GET message/`: the caller's messages, newest first, a page at a time.
pub(crate) fn message_list(context: &Context) -> Result<Reply, Failure> {
    let sender = may_send(context)?;
    let query = Query::parse(context)?;
    let filter = MessageFilter {
        number: query.number.clone(),
        status: query.status,
        provider: query.provider.clone(),
        owner: (sender.owner != 0).then_some(sender.owner),
    };
    let range = match query.cursor {
        None => MessageRange { from: query.from, to: query.to, ascending: false },
        Some(Cursor::Before(id)) => MessageRange { from: query.from, to: query.to.min(id), ascending: false },
        Some(Cursor::After(id)) => {
            MessageRange { from: query.from.max(id.saturating_add(1)), to: query.to, ascending: true }
        }
    };
    let range = MessageRange { to: range.to.max(range.from), ..range };
    let page = context.app.store.messages_page(&filter, range, PAGE_MAX + 1, PAGE_LOOKED_MAX);
    let mut page = page.map_err(|error| {
        tracing::error!(request.id = %context.request_id, %error, "messages could not be read");
        Failure::internal()
    })?;
    let full = page.messages.len() > PAGE_MAX;
    page.messages.truncate(PAGE_MAX);
    let last = page.messages.last().map(|message| message.id);
    let further = if full { last } else { page.stopped_at };
    let (next, previous) = if range.ascending {
        page.messages.reverse();
        let oldest = page.messages.last().map_or(range.from, |message| message.id);
        (Some(Cursor::Before(oldest)), further.map(Cursor::After))
    } else {
        let newest = page.messages.first().map(|message| message.id);
        let back = query.cursor.and(Some(newest.unwrap_or(range.to.saturating_sub(1)))).map(Cursor::After);
        (further.map(Cursor::Before), back)
    };
    let results: Vec<Value> = page.messages.iter().map(|message| message_json(context, message)).collect();
    let body = json!({
        "next": next.map(|cursor| query.link(context, cursor)),
        "previous": previous.map(|cursor| query.link(context, cursor)),
        "results": results,
    });
    Ok(Reply::json(StatusCode::OK, &body))
}

/// `GET message/{id}/`.
pub(crate) fn message_get(context: &Context) -> Result<Reply, Failure> {
    let sender = may_send(context)?;
    let id = context.head.uri.path().trim_end_matches('/').rsplit('/').next().and_then(|id| id.parse().ok());
    let message = match id {
        None => None,
        Some(id) => context.app.store.message_get(id).map_err(|error| {
            tracing::error!(request.id = %context.request_id, %error, "a message could not be read");
            Failure::internal()
        })?,
    };
    match message.filter(|message| sender.owner == 0 || message.owner == sender.owner) {
        Some(message) => Ok(Reply::json(StatusCode::OK, &message_json(context, &message))),
        None => Err(super::not_found()),
    }
}

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cursor {
    Before(u64),
    After(u64),
}

impl Cursor {
    fn encode(self) -> String {
        URL_SAFE_NO_PAD.encode(match self {
            Cursor::Before(id) => format!("b{id}"),
            Cursor::After(id) => format!("a{id}"),
        })
    }

    fn decode(text: &str) -> Option<Cursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let id = text.get(1..)?.parse().ok()?;
        match text.as_bytes().first()? {
            b'b' => Some(Cursor::Before(id)),
            b'a' => Some(Cursor::After(id)),
            _ => None,
        }
    }
}

struct Query {
    number: Option<String>,
    status: Option<MessageStatus>,
    provider: Option<String>,
    /// Ids are microseconds.
    from: u64,
    to: u64,
    cursor: Option<Cursor>,
    /// As the client wrote them, without the cursor.
    kept: Vec<(String, String)>,
}

impl Query {
    fn parse(context: &Context) -> Result<Query, Failure> {
        let text = context.head.uri.query().unwrap_or("");
        let (mut query, mut errors) = (Query::default(), std::collections::BTreeMap::new());
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            let mut refuse =
                |name: &'static str, text: &str| drop(errors.insert(name, vec![text.to_owned()]));
            match name.as_ref() {
                "cursor" => {
                    let cursor = Cursor::decode(&value).ok_or_else(|| {
                        Failure::detail(StatusCode::NOT_FOUND, "invalid_cursor", "Invalid cursor")
                    })?;
                    query.cursor = Some(cursor);
                    continue;
                }
                "mobile_number" => match PhoneNumber::parse(&value) {
                    Ok(number) => query.number = Some(number.e164().to_owned()),
                    Err(error) => refuse("mobile_number", &super::auth::sentence(&error.to_string())),
                },
                "status" => match status_of(&value) {
                    Some(status) => query.status = Some(status),
                    None => refuse("status", &format!("\"{value}\" is not a valid choice.")),
                },
                "provider" => query.provider = Some(value.clone().into_owned()),
                "created_after" | "created_before" => match value.parse::<jiff::Timestamp>() {
                    Ok(at) => {
                        let micros = u64::try_from(at.as_microsecond()).unwrap_or(0);
                        if name == "created_after" { query.from = micros } else { query.to = micros }
                    }
                    Err(_) => refuse(
                        if name == "created_after" { "created_after" } else { "created_before" },
                        "Not an instant such as 2026-01-31T12:00:00Z.",
                    ),
                },
                _ => {}
            }
            query.kept.push((name.into_owned(), value.into_owned()));
        }
        query.kept.sort();
        if errors.is_empty() { Ok(query) } else { Err(Failure::fields(errors)) }
    }

    /// An absolute URL from the Host header, keys in alphabetical order, as the original's.
    fn link(&self, context: &Context, cursor: Cursor) -> String {
        let mut pairs = self.kept.clone();
        pairs.push(("cursor".to_owned(), cursor.encode()));
        pairs.sort();
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        format!("{}{}?{query}", context.origin(), context.head.uri.path())
    }
}

impl Default for Query {
    fn default() -> Self {
        Query {
            number: None,
            status: None,
            provider: None,
            from: 0,
            to: u64::MAX,
            cursor: None,
            kept: Vec::new(),
        }
    }
}

fn message_json(context: &Context, message: &Message) -> Value {
    let numeric = is_numeric(context, &message.provider);
    let template = match &message.content {
        MessageContent::Template { name, .. } => Some(name.as_str()),
        _ => None,
    };
    let provider_message_id = Some(&message.provider_message_id).filter(|id| !id.is_empty());
    json!({
        "id": message.id,
        "receiver": local(&message.number),
        "message": shown_text(&message.content),
        "template": template,
        "class": match message.class { MessageClass::Otp => "otp", MessageClass::Notice => "notice" },
        "status": status_word(message.status),
        "provider": message.provider,
        "messageid": provider_message_id.map(|id| provider_id(id, numeric)),
        "error": message.error,
        "tried": tried(message),
        "cost_rial": message.cost_rial,
        "created_at": rest_format(message.created_at),
        "updated_at": rest_format(message.updated_at),
    })
}

const STATUSES: [(MessageStatus, &str); 7] = [
    (MessageStatus::Queued, "queued"),
    (MessageStatus::Sending, "sending"),
    (MessageStatus::Accepted, "accepted"),
    (MessageStatus::Delivered, "delivered"),
    (MessageStatus::Failed, "failed"),
    (MessageStatus::Unknown, "unknown"),
    (MessageStatus::Expired, "expired"),
];

fn status_word(status: MessageStatus) -> &'static str {
    STATUSES.iter().find(|(known, _)| *known == status).map_or("", |(_, word)| word)
}

fn status_of(word: &str) -> Option<MessageStatus> {
    STATUSES.iter().find(|(_, known)| *known == word).map(|(status, _)| *status)
}

fn tried(message: &Message) -> Value {
    let tried = message.tried.iter().map(|tried| json!({"provider": tried.provider, "reason": tried.code}));
    tried.collect()
}

fn local(number: &str) -> String {
    PhoneNumber::parse(number).map(|number| number.local()).unwrap_or_default()
}

/// What was asked for as `message_text`; nothing of a code.
fn shown_text(content: &MessageContent) -> Value {
    match content {
        MessageContent::Hidden => Value::Null,
        MessageContent::Text(text) => text.clone().into(),
        MessageContent::Template { values, .. } => {
            values.first().map_or(Value::Null, |(_, value)| value.clone().into())
        }
    }
}

fn is_numeric(context: &Context, provider: &str) -> bool {
    context.live.config.plugin_of(provider) == Some(NUMERIC_IDS)
}

fn provider_id(id: &str, numeric: bool) -> Value {
    match id.parse::<u64>() {
        Ok(number) if numeric && number < 1 << 53 => number.into(),
        _ => id.into(),
    }
}

/// A path as the log may show it: without the secret part of a report's address.
pub(crate) fn logged_path(path: &str) -> String {
    match path.find("/message/report/") {
        None => path.to_owned(),
        Some(at) => {
            let (head, rest) = path.split_at(at + "/message/report/".len());
            let provider = rest.split('/').next().unwrap_or("");
            format!("{head}{provider}/***/")
        }
    }
}

/// `GET|POST message/report/{provider}/{secret}/`: what a provider says of messages, unasked. For whoever does not
/// know the secret part the route does not exist.
pub(crate) async fn message_report(context: Context, body: bytes::Bytes) -> Result<Reply, Failure> {
    let path = context.head.uri.path().trim_end_matches('/').to_owned();
    let mut parts = path.rsplit('/');
    let (Some(secret), Some(name)) = (parts.next(), parts.next()) else { return Err(super::not_found()) };
    let expected = context.app.report_secret(name);
    // Compared as hashes, in constant time.
    if blake3::hash(secret.as_bytes()) != blake3::hash(expected.as_bytes()) {
        return Err(super::not_found());
    }
    let headers = context
        .head
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
    let delivery = Delivery {
        method: context.head.method.as_str().to_owned(),
        query: context.head.uri.query().unwrap_or("").to_owned(),
        headers: headers.collect(),
        body: body.to_vec(),
    };
    let refused = |what: &str| {
        tracing::warn!(request.id = %context.request_id, plugin.id = name, what, "a delivery report was not understood");
        context
            .app
            .metrics
            .counter("chelseru_sms_reports_total", &[("outcome", "not_understood")])
            .increment();
        Failure::details(StatusCode::BAD_REQUEST, "report_not_understood", "The report was not understood.")
    };
    let reports = match context.app.reports.decode(name, delivery).await {
        Ok(reports) => reports,
        Err(ReportError::NotSupported) => return Err(super::not_found()),
        Err(ReportError::NotUnderstood(what)) => return Err(refused(&what)),
    };
    for (id, progress) in reports {
        let reported = context.app.sms_queue.report(name, &id, progress).await.map_err(|error| {
            tracing::error!(request.id = %context.request_id, %error, "a delivery report could not be stored");
            Failure::internal()
        })?;
        crate::messages::count_report(&context.app, reported);
    }
    Ok(Reply::json(StatusCode::OK, &json!({"details": "ok"})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_shows_no_secret_part() {
        assert_eq!(logged_path("/a/message/report/K/5ec2e7/"), "/a/message/report/K/***/");
        assert_eq!(logged_path("/a/message/report/K/5ec2e7/x/y"), "/a/message/report/K/***/");
        assert_eq!(logged_path("/a/message/send/"), "/a/message/send/");
    }

    #[test]
    fn a_cursor_comes_back_and_rubbish_does_not() {
        for cursor in [Cursor::Before(0), Cursor::After(u64::MAX)] {
            assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        }
        for rubbish in ["", "!", "Yg", "eDE", "YmIx", "\u{6f1}"] {
            assert_eq!(Cursor::decode(rubbish), None, "{rubbish}");
        }
    }
}
