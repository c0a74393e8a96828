//! `message/send/`: sending a message.
//!
//! The answer has the original's fields and adds our id, the provider, and why other providers did not
//! serve. A repeat with the same key is answered from the message as it stands then.

use std::sync::Arc;

use chelseru_domain::idempotency::{self, Hashes, IdempotencyKey};
use chelseru_domain::phone::PhoneNumber;
use chelseru_domain::sms::queue::{SmsRequest, SmsRoute, SubmitError, Submitted, is_running};
use chelseru_domain::sms::{SmsBody, SmsError, SmsRecord, SmsStatus, parts};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::Sms;
use super::json::{local, provider_id, shown_text, status_word, tried};
use super::sender::Admitted;
use crate::fields::{Fields, Text};
use crate::key::{IDEMPOTENCY_KEY, idempotency_key, key_reused, key_running, replayed, replayed_failure};
use crate::login::input::{MOBILE_NUMBER, mobile_number};
use crate::reply::{Failure, Reply};
use crate::request::{Access, Context, Request, Sender};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[Route {
    path: "/message/send/",
    name: "Message Send",
    access: Access::Sender,
    kind: Kind::Plain,
    operations: &[Operation {
        verb: Verb::Post,
        id: "message_send",
        call: call!(send),
        about: About {
            summary: "Send a message, with an API key or as staff",
            parameters: &[IDEMPOTENCY_KEY],
            fields: &[
                MOBILE_NUMBER,
                Field("message_text", Is::Text, "The text, or the template's first value."),
                Field("template_id", Is::MayText, "A logical template of the configuration."),
                Field(
                    "token2",
                    Is::MayText,
                    "A further value of the template, as are token3, token10 and token20.",
                ),
                Field(
                    "wait",
                    Is::MayBool,
                    "Answer once the message is accepted or failed (default), or once it is stored.",
                ),
                Field("dry_run", Is::MayBool, "Send nothing; return encoding, parts and warnings."),
            ],
            answers: &[
                (200, "SentMessage|MessagePlan"),
                (202, "StoredMessage"),
                (401, "Neither a valid API key nor staff."),
                (403, "Not staff."),
                (409, "The request with this key is still running."),
                (422, "The key stands for another request."),
                (429, "A limit is reached."),
                (502, "The provider refused."),
            ],
        },
    }],
}];

/// Characters of a number as typed.
const NUMBER: Text = Text { chars_max: 20 };
/// Above every provider's own limit, which is checked with the message.
const TEXT: Text = Text { chars_max: 2000 };
const TOKEN: Text = Text { chars_max: 300 };
const TEMPLATE: Text = Text { chars_max: 100 };
/// Names of template values, after `token`, which is `message_text`.
const TOKENS: [&str; 4] = ["token2", "token3", "token10", "token20"];

/// A client's message.
struct Asked {
    number: PhoneNumber,
    text: String,
    template: Option<String>,
    tokens: Vec<(String, String)>,
    wait: bool,
    dry_run: bool,
}

/// `POST message/send/`. The work goes on when the client goes away.
async fn send(sms: Arc<Sms>, request: Request<Sender, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let sender = sms.admit(&context, &caller).await?;
    let mut asked = asked(&sms, &mut fields)?;
    let route = sms.route.clone();
    let body = fitted_body(&route, &mut asked).await?;
    if asked.dry_run {
        return Ok(dry_run(&asked));
    }
    let request = SmsRequest {
        to: asked.number.clone(),
        body,
        owner: sender.owner,
        idempotency: idempotency_key(&context)?.map(|key| hashes(&key, &sender, &asked)),
        daily_cap: sender.daily_cap,
        wait: asked.wait,
    };
    let submitted = sms.detached.spawn(async move { route.submit(request).await }).await;
    match submitted.map_err(|_| Failure::internal())? {
        Ok(Submitted::New(message)) => outcome(&sms, &message),
        Ok(Submitted::Repeated(Some(message))) if is_running(&message) => Err(key_running()),
        Ok(Submitted::Repeated(Some(message))) => {
            outcome(&sms, &message).map(replayed).map_err(replayed_failure)
        }
        Ok(Submitted::Repeated(None)) => Err(Failure::details(
            StatusCode::CONFLICT,
            "idempotency_forgotten",
            "The request with this Idempotency-Key was carried out; its message is no longer on record.",
        )),
        Err(error) => Err(submit_failure(&sms, &context, error)),
    }
}

fn asked(sms: &Sms, fields: &mut Fields) -> Result<Asked, Failure> {
    let number = mobile_number(fields, NUMBER);
    let text = fields.required("message_text", TEXT);
    let template = fields.given("template_id", TEMPLATE);
    if let Some(name) = template.as_ref().filter(|name| !sms.templates.contains(*name)) {
        fields.refuse("template_id", format!("\"{name}\" is not a template of this gateway."));
    }
    let mut tokens = Vec::new();
    for name in TOKENS {
        if let Some(value) = fields.given(name, TOKEN) {
            tokens.push((name.to_owned(), value));
        }
    }
    let wait = fields.flag("wait", true);
    let dry_run = fields.flag("dry_run", false);
    let (number, text) = fields.all((number, text))?;
    Ok(Asked { number, text, template, tokens, wait, dry_run })
}

/// The message's body as the providers take it; what is answered and hashed follows it.
async fn fitted_body(route: &SmsRoute, asked: &mut Asked) -> Result<SmsBody, Failure> {
    let error = match route.fit(&asked.number, body(asked)).await {
        Ok(fitted) => {
            if let SmsBody::Template { values, .. } = &fitted
                && let [(_, text), tokens @ ..] = values.as_slice()
            {
                (asked.text, asked.tokens) = (text.clone(), tokens.to_vec());
            }
            return Ok(fitted);
        }
        Err(error) => error,
    };
    Err(match error {
        SmsError::NotMapped if asked.template.is_some() => {
            Failure::field("template_id", "No provider has this template.")
        }
        SmsError::NotMapped => Failure::field("template_id", "The provider sends templates only."),
        SmsError::InvalidRecipient(_) => {
            Failure::field("mobile_number", "The provider cannot reach this number.")
        }
        SmsError::InvalidTemplate(_) => Failure::field("template_id", "The provider refuses this template."),
        // The provider's rule in the plugin's words, which hold neither the text nor the number.
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

/// Of the caller's key, and of its request.
fn hashes(key: &IdempotencyKey, sender: &Admitted, asked: &Asked) -> Hashes {
    let mut request = vec![asked.number.e164(), &asked.text, asked.template.as_deref().unwrap_or("")];
    request.extend(asked.tokens.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]));
    let request: Vec<&[u8]> = request.into_iter().map(str::as_bytes).collect();
    Hashes::of(idempotency::Kind::Message(&sender.who), key, &request)
}

/// The answer to a send, from the message as it stands.
fn outcome(sms: &Sms, message: &SmsRecord) -> Result<Reply, Failure> {
    let provider = message.provider.as_deref().unwrap_or_default();
    let numeric = sms.numeric_ids.contains(provider);
    let mut object = Map::new();
    let mut add = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
    add("id", message.id.into());
    add("status", status_word(message.status).into());
    add("tried", tried(message));
    match message.status {
        SmsStatus::Accepted | SmsStatus::Delivered => {
            add("details", "The Message was sent correctly.".into());
            add("receiver", local(&message.number).into());
            add("message", shown_text(&message.content));
            if let Some(id) = &message.provider_message_id {
                add("messageid", provider_id(id, numeric));
            }
            add("provider", provider.into());
            Ok(Reply::json(StatusCode::OK, &object))
        }
        SmsStatus::Queued | SmsStatus::Sending => {
            add("details", "The message is stored and will be sent.".into());
            add("receiver", local(&message.number).into());
            add("message", shown_text(&message.content));
            Ok(Reply::json(StatusCode::ACCEPTED, &object))
        }
        SmsStatus::Unknown => {
            let text = "The SMS service provider gave no usable answer; the message may have been sent.";
            add("error", text.into());
            Err(Failure::object(StatusCode::INTERNAL_SERVER_ERROR, "sms_outcome_unknown", object.into()))
        }
        SmsStatus::Failed | SmsStatus::Expired => {
            let unavailable = ["unavailable", "busy", "circuit_open", "plugin_fault", "misconfigured"];
            let reason = message.error.as_deref().unwrap_or_default();
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
            let last = message.tried.last().and_then(|tried| tried.provider_code.as_deref());
            if let Some(Ok(number)) = last.map(str::parse::<i64>) {
                add("errorcode", number.into());
            }
            Err(Failure::object(StatusCode::BAD_GATEWAY, code, object.into()))
        }
    }
}

fn submit_failure(sms: &Sms, context: &Context, error: SubmitError) -> Failure {
    match error {
        SubmitError::KeyReused => key_reused(),
        SubmitError::QuotaReached => {
            let second_of_day = sms.clock.now().as_secs() % 86_400;
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
        SubmitError::StorageFull => Failure::storage_full(),
        SubmitError::Store(error) => {
            tracing::error!(request.id = %context.id, %error, "a message could not be stored");
            Failure::internal()
        }
    }
}
