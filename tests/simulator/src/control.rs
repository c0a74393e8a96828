//! The control API under `/_sim/`: script faults, read the log, reset.
//!
//! For tests in any language and for `curl`; tests in Rust use the methods of `Simulator`. Every reply is JSON except
//! the help text at `/_sim/`. An error is `{"error": "..."}` and names the found value and the accepted values.

use hyper::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fault::Fault;
use crate::provider::{self, PROVIDERS};
use crate::request::Fields;
use crate::server::{Answer, error_response, json_response, method_refused, text_response};
use crate::world::World;

pub(crate) const PREFIX: &str = "/_sim";
/// `payer` answers a POST, because the reply waits for the shop.
pub(crate) const PAYMENTS: &str = "/_sim/payments";

const HELP: &str = r#"Stand-in SMS providers for tests. Nothing is sent to anyone.

Point a provider's base_url at this address; the path decides which provider answers:
{providers}
Control:
  GET    /_sim/requests?provider=NAME&since=SEQ   what arrived, oldest first; credentials are masked
  GET    /_sim/messages?provider=NAME&number=09.. accepted messages: id, number, text, tokens, localid
  GET    /_sim/counters                           requests by outcome and accepted messages, by provider
  POST   /_sim/faults                             script a fault (JSON, below)
  GET    /_sim/faults                             the remaining faults
  DELETE /_sim/faults                             drop all faults
  GET    /_sim/settings                           how the providers behave
  POST   /_sim/settings                           change settings with a partial document; null restores a default
  POST   /_sim/status                             {"provider":..,"id":..,"status":N} delivery state of a message
  GET    /_sim/payments                           payments at the gateways: paid, confirmed, returned
  POST   /_sim/payments                           {"reference":..,"do":"pay|cancel|pay_again|give_back","callback":"once|lost|twice"}
                                                  the payer acts and returns to the shop; twice: GET and POST at once;
                                                  pay_again: after cancelling, in the same session
  POST   /_sim/reset                              no faults, default settings, empty log

A fault: {"provider":"kavenegar","kind":"code","code":418,"times":2}
  kind            delay (ms) | status (code, body?) | html | empty | cut_before | cut_after | cut_body
                  | code (code, http_status_follows_code?) | truncated_json | wrong_type | huge (bytes)
  method          only this call, such as sms/send; default every call
  number          only requests with this recipient
  times           how many requests, or "forever" (default)
  delay_ms        wait first; valid with every kind
  retry_after     seconds in the reply's Retry-After; valid with every kind that replies
  accept          true: the message is accepted although the reply is spoilt (and before any delay).
                  cut_after, cut_body, truncated_json and wrong_type always accept, cut_before never does
The first fault that matches a request applies.

Try:
  curl -d '{"provider":"kavenegar","kind":"code","code":418,"times":1}' ADDRESS/_sim/faults
  curl ADDRESS/v1/KEY/sms/send.json -d receptor=09121234567 -d message=hello
  curl ADDRESS/_sim/requests
"#;

pub(crate) fn answer(
    world: &World,
    method: &Method,
    path: &str,
    query: Option<&str>,
    body: &[u8],
) -> Response<Answer> {
    let query = Fields::from_form(query.unwrap_or_default().as_bytes());
    let done = |result: Result<(), String>| match result {
        Ok(()) => json_response(StatusCode::OK, &json!({"ok": true})),
        Err(error) => error_response(StatusCode::BAD_REQUEST, &error),
    };
    let name = path[PREFIX.len()..].trim_matches('/');
    match (name, method.as_str()) {
        ("", "GET") => text_response(help()),
        ("requests", "GET") => read(requests(world, &query)),
        ("messages", "GET") => read(messages(world, &query)),
        ("payments", "GET") => read(Ok(json!({"payments": world.bank().sessions().collect::<Vec<_>>()}))),
        ("counters", "GET") => read(Ok(counters(world))),
        ("faults", "GET") => read(Ok(json!({"faults": world.faults.waiting()}))),
        ("faults", "POST") => done(Fault::from_json(body).and_then(|fault| world.faults.add(fault))),
        ("faults", "DELETE") => done({
            world.faults.clear();
            Ok(())
        }),
        ("settings", "GET") => read(serde_json::to_value(&*world.settings()).map_err(|e| e.to_string())),
        ("settings", "POST" | "PATCH") => done(world.settings_merge(body)),
        ("status", "POST") => done(status(world, body)),
        ("reset", "POST") => done({
            world.reset();
            Ok(())
        }),
        ("" | "requests" | "messages" | "counters", _) => method_refused(method, "GET"),
        ("faults", _) => method_refused(method, "GET, POST, DELETE"),
        ("payments", _) => method_refused(method, "GET, POST"),
        ("settings", _) => method_refused(method, "GET, POST"),
        ("status" | "reset", _) => method_refused(method, "POST"),
        _ => error_response(
            StatusCode::NOT_FOUND,
            &format!("{path:?} is no control path; GET {PREFIX}/ lists them"),
        ),
    }
}

/// The help text. The program prints it too.
pub(crate) fn help() -> String {
    let providers: String = PROVIDERS
        .iter()
        .map(|provider| format!("  {:14}  {}\n", provider.name(), provider.summary()))
        .collect();
    HELP.replace("{providers}\n", &providers)
}

fn read(result: Result<Value, String>) -> Response<Answer> {
    match result {
        Ok(body) => json_response(StatusCode::OK, &body),
        Err(error) => error_response(StatusCode::BAD_REQUEST, &error),
    }
}

fn requests(world: &World, query: &Fields) -> Result<Value, String> {
    known_keys(query, &["provider", "since"])?;
    let provider = provider_named(query)?;
    let since = match query.get("since") {
        None | Some("") => 0,
        Some(since) => since
            .parse()
            .map_err(|_| format!("\"since\": {since:?} is no number; accepted: the seq of a request"))?,
    };
    let log = world.log();
    let requests: Vec<_> =
        log.since(since).filter(|record| provider.is_none_or(|name| name == record.provider)).collect();
    Ok(json!({"requests": requests, "last": log.last_seq(), "dropped": log.dropped()}))
}

fn messages(world: &World, query: &Fields) -> Result<Value, String> {
    known_keys(query, &["provider", "number"])?;
    let provider = provider_named(query)?;
    let number = query.get("number");
    let ledger = world.ledger();
    let messages: Vec<_> = ledger
        .messages()
        .filter(|message| provider.is_none_or(|name| name == message.provider))
        .filter(|message| number.is_none_or(|number| number == message.number))
        .collect();
    Ok(json!({"messages": messages, "forgotten": ledger.forgotten()}))
}

fn counters(world: &World) -> Value {
    let outcomes = world.log().counts().clone();
    let ledger = world.ledger();
    let counters = PROVIDERS.iter().map(|provider| {
        let name = provider.name();
        let requests = outcomes.get(name).cloned().unwrap_or_default();
        (name.to_owned(), json!({"messages_accepted": ledger.accepted(name), "requests": requests}))
    });
    Value::Object(counters.collect())
}

fn status(world: &World, body: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Change {
        provider: String,
        id: String,
        status: i64,
    }
    let change: Change = serde_json::from_slice(body).map_err(|error| format!("a status: {error}"))?;
    let provider = provider::by_name(&change.provider).ok_or_else(|| {
        format!("\"provider\": {:?} is not known; accepted: {}", change.provider, provider::names())
    })?;
    let mut ledger = world.ledger();
    let message = ledger
        .by_id(provider.name(), &change.id)
        .ok_or_else(|| format!("\"id\": {} has accepted no message {:?}", provider.name(), change.id))?;
    message.status = change.status;
    Ok(())
}

fn provider_named(query: &Fields) -> Result<Option<&str>, String> {
    match query.get("provider") {
        None | Some("") => Ok(None),
        Some(name) if provider::by_name(name).is_some() => Ok(Some(name)),
        Some(name) => Err(format!("\"provider\": {name:?} is not known; accepted: {}", provider::names())),
    }
}

fn known_keys(query: &Fields, accepted: &[&str]) -> Result<(), String> {
    match query.iter().find(|(name, _)| !accepted.contains(name)) {
        None => Ok(()),
        Some((name, _)) => Err(format!("{name:?} is not known here; accepted: {}", accepted.join(", "))),
    }
}
