//! Routes for whoever runs the gateway: status, metrics, health and the sandbox's inbox.
//!
//! All but `health/` answer clients on this machine only. "On this machine" is more than a loopback peer: a
//! reverse proxy on the same host is one too, and a web page can point a name at 127.0.0.1. So a request that
//! was forwarded, or that names another host, is not local, and for it the route does not exist.

use std::net::SocketAddr;

use chelseru_domain::api_key::{self, ApiKeyError};
use chelseru_domain::audit::{AuditEvent, AuditKind};
use chelseru_domain::clock::rest_format;
use chelseru_domain::operator::Meter;
use chelseru_domain::sms::Inbox;
use chelseru_domain::webhook;
use chelseru_store::ApiKey;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;

use super::fields::{Fields, Text};
use super::reply::{Failure, Reply};
use super::{Context, header_text};

/// Headers that only a proxy adds.
const FORWARDED: [&str; 5] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

pub(crate) fn is_local(peer: SocketAddr, headers: &HeaderMap) -> bool {
    peer.ip().to_canonical().is_loopback()
        && !FORWARDED.iter().any(|name| headers.contains_key(*name))
        && is_local_host(header_text(headers, header::HOST))
}

fn is_local_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name.is_empty()
        || name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `GET sandbox/inbox/?mobile_number=`: what the trial provider was asked to send, newest first.
pub(crate) fn sandbox_inbox(context: &Context) -> Result<Reply, Failure> {
    let query = context.head.uri.query().unwrap_or("");
    let asked = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "mobile_number");
    let number = match asked {
        None => None,
        Some((_, text)) => match chelseru_domain::PhoneNumber::parse(&text) {
            Ok(number) => Some(number),
            Err(error) => return Err(Failure::field("mobile_number", error.to_string())),
        },
    };
    let shown = context.app.inbox.list(number.as_ref());
    let results: Vec<_> = shown
        .iter()
        .map(|message| {
            json!({
                "mobile_number": message.to.local(), "text": message.text, "provider": message.provider,
                "created_at": rest_format(message.at),
            })
        })
        .collect();
    Ok(Reply::json(StatusCode::OK, &json!({"results": results})))
}

/// Whoever can read the data folder: the file's token stands in `X-Operator-Token`.
fn operator(context: &Context) -> Result<(), Failure> {
    if context.app.door.knows(context.header(super::OPERATOR_TOKEN)) {
        Ok(())
    } else {
        Err(super::not_found())
    }
}

/// `GET operator/apikeys/`.
pub(crate) fn api_key_list(context: &Context) -> Result<Reply, Failure> {
    operator(context)?;
    let keys = context.app.store.api_keys().map_err(|error| {
        tracing::error!(%error, "API keys could not be read");
        Failure::internal()
    })?;
    let results: Vec<_> = keys.iter().map(api_key_json).collect();
    Ok(Reply::json(StatusCode::OK, &json!({"results": results})))
}

/// `POST operator/apikeys/`: `scope`, `name`, `daily_cap`.
pub(crate) async fn api_key_create(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    operator(&context)?;
    let scope = fields.required("scope", Text { chars_max: 20 });
    fields.finish()?;
    let name = fields.value("name").and_then(serde_json::Value::as_str).unwrap_or("").to_owned();
    let daily_cap = fields.value("daily_cap").and_then(serde_json::Value::as_u64);
    let (store, now) = (&context.app.store, context.app.clock.now());
    match api_key::create(store, now, &name, &scope.unwrap_or_default(), daily_cap).await {
        Ok(new) => {
            context.app.audit(api_key_event(AuditKind::KeyCreated, new.key.id).detail(&new.key.scope));
            let mut body = api_key_json(&new.key);
            body["token"] = new.token.into();
            Ok(Reply::json(StatusCode::CREATED, &body))
        }
        Err(error @ (ApiKeyError::Store(_) | ApiKeyError::Randomness(_))) => {
            tracing::error!(%error, "an API key could not be made");
            Err(Failure::internal())
        }
        Err(error) => Err(Failure::details(StatusCode::BAD_REQUEST, "invalid_api_key", error.to_string())),
    }
}

/// `POST operator/apikeys/revoke/`: `id`.
pub(crate) async fn api_key_revoke(context: Context, fields: Fields) -> Result<Reply, Failure> {
    operator(&context)?;
    let id = fields.value("id").and_then(serde_json::Value::as_u64).unwrap_or(0);
    match context.app.store.api_key_revoke(id, context.app.clock.now()).await {
        Ok(true) => {
            context.app.audit(api_key_event(AuditKind::KeyRevoked, id));
            Ok(Reply::json(StatusCode::OK, &json!({"details": "revoked"})))
        }
        Ok(false) => Err(super::not_found()),
        Err(error) => {
            tracing::error!(%error, "an API key could not be revoked");
            Err(Failure::internal())
        }
    }
}

/// `POST operator/backup/`: `folder`, an absolute path. Goes on when the client goes away.
pub(crate) async fn backup(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    operator(&context)?;
    let folder = fields.required("folder", Text { chars_max: 4096 });
    fields.finish()?;
    let folder = std::path::PathBuf::from(folder.unwrap_or_default());
    if !folder.is_absolute() {
        return Err(Failure::field("folder", "Must be an absolute path."));
    }
    let app = context.app.clone();
    let written = app.detached.spawn({
        let app = app.clone();
        async move {
            let copied = crate::backup::write(&app.store, &app.data_dir, &folder).await?;
            app.audit(AuditEvent::new(AuditKind::BackupWritten).subject(folder.display()).detail(copied));
            Ok::<_, String>(copied)
        }
    });
    match written.await {
        Ok(Ok(copied)) => {
            Ok(Reply::json(StatusCode::OK, &json!({"records": copied.records, "files": copied.files})))
        }
        Ok(Err(reason)) => {
            tracing::warn!(%reason, "a backup was not written");
            Err(Failure::details(StatusCode::BAD_REQUEST, "backup_failed", reason))
        }
        Err(error) => {
            tracing::error!(%error, "a backup was not written");
            Err(Failure::internal())
        }
    }
}

/// Events in one answer.
const EVENTS_MAX: usize = 100;
/// Dead events that one request replays.
const REPLAY_MAX: usize = 10_000;

/// `GET operator/webhooks/?before=&dead=`: events and what became of them, newest first.
pub(crate) fn webhook_list(context: &Context) -> Result<Reply, Failure> {
    operator(context)?;
    let query = context.head.uri.query().unwrap_or("");
    let asked = |name: &str| {
        form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
    };
    let before = asked("before").and_then(|text| webhook::event_of(&text));
    let dead = asked("dead").is_some_and(|text| text == "true");
    let events = context.app.webhooks.list(before, dead, EVENTS_MAX).map_err(|error| {
        tracing::error!(%error, "events could not be read");
        Failure::internal()
    })?;
    let results: Vec<_> = events.iter().map(webhook::report_json).collect();
    Ok(Reply::json(StatusCode::OK, &json!({"results": results})))
}

/// `POST operator/webhooks/`: tells `event` again, or every dead one without it; with `endpoint`, only there.
pub(crate) async fn webhook_replay(context: Context, fields: Fields) -> Result<Reply, Failure> {
    operator(&context)?;
    let text = |name: &str| fields.value(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    let endpoint = text("endpoint");
    let known = |name: &String| context.live.config.webhooks.endpoints.contains_key(name);
    if let Some(name) = endpoint.as_ref().filter(|name| !known(name)) {
        return Err(Failure::field("endpoint", format!("\"{name}\" is not a configured endpoint.")));
    }
    let webhooks = &context.app.webhooks;
    let replayed = match text("event") {
        None => webhooks.replay_dead(endpoint, REPLAY_MAX).await,
        Some(event) => match webhook::event_of(&event) {
            None => return Err(Failure::field("event", "Not an event's id.")),
            Some(id) => webhooks.replay(id, endpoint).await,
        },
    };
    match replayed {
        Ok(count) => Ok(Reply::json(StatusCode::OK, &json!({"replayed": count}))),
        Err(error) => {
            tracing::error!(%error, "events could not be replayed");
            Err(Failure::internal())
        }
    }
}

/// What is recorded of an API key: its number, which is no secret.
pub(crate) fn api_key_event(kind: AuditKind, id: u64) -> AuditEvent {
    AuditEvent::new(kind).subject(format!("API key {id}"))
}

/// A key as operators see it; never its hash.
pub(crate) fn api_key_json(key: &ApiKey) -> serde_json::Value {
    json!({
        "id": key.id, "name": key.name, "scope": key.scope, "daily_cap": key.daily_cap,
        "created_at": rest_format(key.created_at), "revoked_at": key.revoked_at.map(rest_format),
    })
}

/// `GET status/`: what runs, since when, and what was refused.
pub(crate) fn status(context: &Context) -> Result<Reply, Failure> {
    Ok(Reply::json(StatusCode::OK, &context.app.status()))
}

/// `GET metrics/`: the Prometheus text format.
pub(crate) fn metrics(context: &Context) -> Result<Reply, Failure> {
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    crate::messages::measure(&context.app);
    crate::payments::measure(&context.app);
    if let Ok(bytes) = context.app.store.chat_file_total() {
        context.app.metrics.gauge("chelseru_files_bytes", &[], bytes as f64);
    }
    Ok(Reply::text(StatusCode::OK, content_type, context.app.metrics.render()))
}

/// `GET health/`: 200 while durable writes are possible, 503 when they are not.
pub(crate) fn health(context: &Context) -> Result<Reply, Failure> {
    if context.app.is_healthy() {
        return Ok(Reply::json(StatusCode::OK, &json!({"status": "ok"})));
    }
    let reply = Reply::json(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "store_failed"}));
    Ok(reply.with(super::reply::ERROR_CODE, HeaderValue::from_static("store_failed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(peer: &str, headers: &[(&'static str, &str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (header::HeaderName::from_static(name), value.parse().expect("a header value"))
            })
            .collect();
        is_local(peer.parse().expect("an address"), &headers)
    }

    #[test]
    fn only_direct_clients_of_this_machine_are_local() {
        assert!(local("127.0.0.1:5", &[("host", "127.0.0.1:8000")]));
        assert!(local("[::1]:5", &[("host", "[::1]:8000")]));
        assert!(local("[::ffff:127.0.0.1]:5", &[("host", "localhost")]));
        assert!(!local("10.0.0.1:5", &[("host", "127.0.0.1:8000")]));
        assert!(!local("127.0.0.1:5", &[("host", "127.0.0.1"), ("x-forwarded-for", "1.2.3.4")]));
        assert!(!local("127.0.0.1:5", &[("host", "rebound.example:8000")]));
    }
}
