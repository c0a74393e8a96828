//! `operator/apikeys/...`: the keys with which programs send messages.

use std::fmt::Display;
use std::sync::Arc;

use chelseru_domain::clock::rest_format;
use chelseru_domain::operator::api_key::{ApiKey, ApiKeyError};
use chelseru_domain::operator::audit::{AuditEvent, AuditKind};
use http::StatusCode;
use serde_json::{Value, json};

use super::Operator;
use crate::fields::{Fields, Text};
use crate::reply::{Failure, Reply};
use crate::request::{Access, ByOperator, Request, not_found};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/operator/apikeys/",
        name: "API Keys",
        access: Access::Operator,
        kind: Kind::Plain,
        operations: &[
            Operation {
                verb: Verb::Get,
                id: "api_key_list",
                call: call!(list),
                about: About {
                    summary: "List API keys",
                    parameters: &[],
                    fields: &[],
                    answers: &[(200, "Results<ApiKey>")],
                },
            },
            Operation {
                verb: Verb::Post,
                id: "api_key_create",
                call: call!(create),
                about: About {
                    summary: "Create an API key; its token is shown once",
                    parameters: &[],
                    fields: &[
                        Field("scope", Is::Text, "sms."),
                        Field("name", Is::MayText, "Free text."),
                        Field("daily_cap", Is::MayInteger, "Messages per day."),
                    ],
                    answers: &[(201, "NewApiKey")],
                },
            },
        ],
    },
    Route {
        path: "/operator/apikeys/revoke/",
        name: "API Key Revoke",
        access: Access::Operator,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "api_key_revoke",
            call: call!(revoke),
            about: About {
                summary: "Revoke an API key",
                parameters: &[],
                fields: &[Field("id", Is::Integer, "Its number.")],
                answers: &[(200, "Details")],
            },
        }],
    },
];

/// `GET operator/apikeys/`.
async fn list(operator: Arc<Operator>, request: Request<ByOperator>) -> Answer {
    operator.admit(&request)?;
    let keys = operator.api_keys.list().await.map_err(|error| failed(&error))?;
    let results: Vec<_> = keys.iter().map(api_key_json).collect();
    Ok(Reply::json(StatusCode::OK, &json!({"results": results})))
}

/// `POST operator/apikeys/`: `scope`, `name`, `daily_cap`.
async fn create(operator: Arc<Operator>, request: Request<ByOperator, Fields>) -> Answer {
    operator.admit(&request)?;
    let mut fields = request.body;
    let scope = fields.required("scope", Text { chars_max: 20 });
    let scope = fields.all(scope)?;
    let name = fields.value("name").and_then(Value::as_str).unwrap_or("");
    let daily_cap = fields.value("daily_cap").and_then(Value::as_u64);
    match operator.api_keys.create(name, &scope, daily_cap).await {
        Ok(new) => {
            let event = api_key_event(AuditKind::KeyCreated, new.key.id).detail(&new.key.scope);
            operator.identity.audit().record(event);
            let mut body = api_key_json(&new.key);
            body["token"] = new.token.into();
            Ok(Reply::json(StatusCode::CREATED, &body))
        }
        Err(error @ (ApiKeyError::Store(_) | ApiKeyError::Randomness(_))) => Err(failed(&error)),
        Err(error) => Err(Failure::details(StatusCode::BAD_REQUEST, "invalid_api_key", error.to_string())),
    }
}

/// `POST operator/apikeys/revoke/`: `id`.
async fn revoke(operator: Arc<Operator>, request: Request<ByOperator, Fields>) -> Answer {
    operator.admit(&request)?;
    let id = request.body.value("id").and_then(Value::as_u64).unwrap_or(0);
    if !operator.api_keys.revoke(id).await.map_err(|error| failed(&error))? {
        return Err(not_found());
    }
    operator.identity.audit().record(api_key_event(AuditKind::KeyRevoked, id));
    Ok(Reply::json(StatusCode::OK, &json!({"details": "revoked"})))
}

/// An audit event about an API key, named by its number.
pub fn api_key_event(kind: AuditKind, id: u64) -> AuditEvent {
    AuditEvent::new(kind).subject(format!("API key {id}"))
}

/// A key for operators, without its hash.
pub fn api_key_json(key: &ApiKey) -> Value {
    json!({
        "id": key.id, "name": key.name, "scope": key.scope, "daily_cap": key.daily_cap,
        "created_at": rest_format(key.created_at), "revoked_at": key.revoked_at.map(rest_format),
    })
}

fn failed(error: &dyn Display) -> Failure {
    tracing::error!(%error, "API keys could not be read or changed");
    Failure::internal()
}
