//! `operator/webhooks/`: lists events with their deliveries, and replays them.

use chelseru_domain::operator::webhook::EventFilter;
use std::fmt::Display;
use std::sync::Arc;

use chelseru_domain::operator::webhook;
use http::StatusCode;
use serde_json::{Value, json};

use super::Operator;
use crate::fields::Fields;
use crate::reply::{Failure, Reply};
use crate::request::{Access, ByOperator, Request};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[Route {
    path: "/operator/webhooks/",
    name: "Webhooks",
    access: Access::Operator,
    kind: Kind::Plain,
    operations: &[
        Operation {
            verb: Verb::Get,
            id: "webhook_list",
            call: call!(list),
            about: About {
                summary: "List events with their deliveries, newest first",
                parameters: &[
                    Field("before", Is::MayText, "Older than this event."),
                    Field("dead", Is::MayBool, "Only dead events."),
                ],
                fields: &[],
                answers: &[(200, "Results<WebhookEvent>")],
            },
        },
        Operation {
            verb: Verb::Post,
            id: "webhook_replay",
            call: call!(replay),
            about: About {
                summary: "Replay an event, or all dead events; or send a test event",
                parameters: &[],
                fields: &[
                    Field("event", Is::MayText, "An event's id; all dead events when absent."),
                    Field("endpoint", Is::MayText, "Only this endpoint."),
                    Field("test", Is::MayBool, "Send a test event to the endpoint instead."),
                ],
                answers: &[(200, "Replayed")],
            },
        },
    ],
}];

/// Events in one answer.
const EVENTS_MAX: usize = 100;
/// Dead events that one request replays.
const REPLAY_MAX: usize = 10_000;

/// `GET operator/webhooks/?before=&dead=`: events with their deliveries, newest first.
async fn list(operator: Arc<Operator>, request: Request<ByOperator>) -> Answer {
    operator.admit(&request)?;
    let before = request.query("before").and_then(|text| webhook::event_of(&text));
    let dead = request.query("dead").is_some_and(|text| text == "true");
    let which = if dead { EventFilter::Dead } else { EventFilter::All };
    let events = operator.webhooks.list(before, which, EVENTS_MAX).await.map_err(|error| failed(&error))?;
    let results: Vec<_> = events.iter().map(webhook::report_json).collect();
    Ok(Reply::json(StatusCode::OK, &json!({"results": results})))
}

/// `POST operator/webhooks/`: replays `event`, or every dead event without it; with `endpoint`, to that one only. With
/// `test`, sends a test event to the endpoint.
async fn replay(operator: Arc<Operator>, request: Request<ByOperator, Fields>) -> Answer {
    operator.admit(&request)?;
    let text = |name: &str| request.body.value(name).and_then(Value::as_str).map(str::to_owned);
    let endpoint = text("endpoint");
    if let Some(name) = endpoint.as_ref().filter(|name| !operator.endpoints.contains(*name)) {
        return Err(Failure::field("endpoint", format!("\"{name}\" is not a configured endpoint.")));
    }
    if request.body.value("test").is_some_and(|test| *test == Value::Bool(true)) {
        let endpoint = endpoint.ok_or_else(|| Failure::field("endpoint", "Name the endpoint to test."))?;
        operator.webhooks.test(endpoint).await.map_err(|error| failed(&error))?;
        return Ok(Reply::json(StatusCode::OK, &json!({"replayed": 1})));
    }
    let replayed = match text("event") {
        None => operator.webhooks.replay_dead(endpoint, REPLAY_MAX).await,
        Some(event) => match webhook::event_of(&event) {
            None => return Err(Failure::field("event", "Not an event id.")),
            Some(id) => operator.webhooks.replay(id, endpoint).await,
        },
    };
    let count = replayed.map_err(|error| failed(&error))?;
    Ok(Reply::json(StatusCode::OK, &json!({"replayed": count})))
}

fn failed(error: &dyn Display) -> Failure {
    tracing::error!(%error, "events could not be read or replayed");
    Failure::internal()
}
