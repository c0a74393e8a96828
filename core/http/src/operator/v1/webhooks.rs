//! `operator/v1/webhooks/...` and `operator/v1/endpoints/...`: events, replays, tests and pauses.

use std::collections::BTreeSet;
use std::sync::Arc;

use chelseru_domain::clock::rest_format;
use chelseru_domain::operator::role::{WebhookPause, WebhookRead, WebhookReplay, WebhookTest};
use chelseru_domain::operator::webhook::{self, EventFilter};
use http::StatusCode;
use serde_json::{Value, json};

use super::{NAME, NO_ROLE, NO_TOKEN, PAGE, WHY, act, failed, placed, read, reason, route};
use crate::console::Console;
use crate::fields::Fields;
use crate::reply::{Failure, Reply};
use crate::request::{ByOperator, Request, not_found};
use crate::route::{Answer, Field, Is, Route, call};

const REPLAYED: &[(u16, &str)] = &[(200, "Replayed"), (401, NO_TOKEN), (403, NO_ROLE)];
const PAUSED: &[(u16, &str)] =
    &[(204, "Paused, or resumed."), (401, NO_TOKEN), (403, NO_ROLE), (409, "It is so already.")];

pub(crate) const ROUTES: &[Route] = &[
    route(
        "/operator/v1/webhooks/",
        "Operator Webhook List",
        &[read(
            "operator_webhook_list",
            "List events with their deliveries, newest first",
            &[
                Field("before", Is::MayText, "Where a page begins, from `next` of the one before."),
                Field("dead", Is::MayBool, "Only events with a dead delivery."),
            ],
            &[(200, "Page<WebhookEvent>"), (401, NO_TOKEN), (403, NO_ROLE)],
            call!(list),
        )],
    ),
    route(
        "/operator/v1/webhooks/replay/",
        "Operator Webhook Replay",
        &[act(
            "operator_webhook_replay",
            "Deliver an event again, or every dead one",
            &[Field("event", Is::MayText, "An event's id; every dead event when absent.")],
            REPLAYED,
            call!(replay),
        )],
    ),
    route(
        "/operator/v1/webhooks/test/",
        "Operator Webhook Test",
        &[act(
            "operator_webhook_test",
            "Send a test event to an endpoint",
            &[Field("endpoint", Is::Text, "The endpoint's name.")],
            REPLAYED,
            call!(test),
        )],
    ),
    route(
        "/operator/v1/endpoints/",
        "Operator Endpoint List",
        &[read(
            "operator_endpoint_list",
            "List the webhook endpoints and which are paused",
            &[],
            &[(200, "Results<WebhookEndpoint>"), (401, NO_TOKEN), (403, NO_ROLE)],
            call!(endpoints),
        )],
    ),
    route(
        "/operator/v1/endpoints/{name}/pause/",
        "Operator Endpoint Pause",
        &[act(
            "operator_endpoint_pause",
            "Pause an endpoint; its deliveries wait",
            &[WHY],
            PAUSED,
            call!(pause),
        )],
    ),
    route(
        "/operator/v1/endpoints/{name}/resume/",
        "Operator Endpoint Resume",
        &[act("operator_endpoint_resume", "End the pause of an endpoint", &[WHY], PAUSED, call!(resume))],
    ),
];

async fn list(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<WebhookRead>(&request).await?;
    let before = request.query("before").filter(|text| !text.is_empty());
    let place = before
        .as_deref()
        .map(|text| webhook::event_of(text).ok_or_else(|| Failure::field("before", "Not an event id.")));
    let dead = request.query("dead").is_some_and(|text| text == "true");
    let which = if dead { EventFilter::Dead } else { EventFilter::All };
    let events = console.desk.events(&permit, place.transpose()?, which, PAGE).await;
    let events = events.map_err(|error| failed(&request, &error))?;
    let next = events.last().filter(|_| events.len() == PAGE).map(|last| last.event.id.0.to_string());
    let results: Vec<Value> = events.iter().map(webhook::report_json).collect();
    Ok(placed(&request, next, &results))
}

fn replayed(count: usize) -> Answer {
    Ok(Reply::json(StatusCode::OK, &json!({"replayed": count})))
}

async fn replay(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<WebhookReplay>(&context).await?;
    let Some(event) = fields.given("event", NAME) else {
        fields.finish()?;
        let count = console.desk.events_replay_dead(&permit).await;
        return replayed(count.map_err(|error| failed(&context, &error))?);
    };
    let id = webhook::event_of(&event).ok_or_else(|| Failure::field("event", "Not an event id."))?;
    match console.desk.event_replay(&permit, id).await.map_err(|error| failed(&context, &error))? {
        0 => Err(not_found()),
        count => replayed(count),
    }
}

async fn test(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<WebhookTest>(&context).await?;
    let endpoint = fields.required("endpoint", NAME);
    let endpoint = fields.all(endpoint)?;
    let sent = console.desk.event_test(&permit, &endpoint).await;
    match sent.map_err(|error| failed(&context, &error))? {
        Some(_) => replayed(1),
        None => Err(Failure::field("endpoint", format!("\"{endpoint}\" is not a configured endpoint."))),
    }
}

async fn endpoints(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<WebhookRead>(&request).await?;
    let paused = console.desk.endpoints_paused(&permit).await.map_err(|error| failed(&request, &error))?;
    let configured = console.desk.endpoints();
    let names: BTreeSet<&String> = configured.iter().chain(paused.keys()).collect();
    let one = |name: &String| {
        let pause = paused.get(name);
        json!({
            "name": name,
            "configured": configured.contains(name),
            "paused": pause.is_some(),
            "paused_at": pause.map(|pause| rest_format(pause.at)),
            "paused_by": pause.map(|pause| pause.by),
            "reason": pause.map_or("", |pause| pause.reason.as_str()),
        })
    };
    let results: Vec<Value> = names.into_iter().map(one).collect();
    Ok(Reply::json(StatusCode::OK, &json!({"results": results})))
}

async fn pause(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    set(&console, request, true).await
}

async fn resume(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    set(&console, request, false).await
}

async fn set(console: &Console, request: Request<ByOperator, Fields>, pause: bool) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<WebhookPause>(&context).await?;
    let reads = console.allow::<WebhookRead>(&context).await?;
    let reason = reason(&mut fields)?;
    let name = context.parameter("name");
    let failed = |error| failed(&context, &error);
    let paused = console.desk.endpoints_paused(&reads).await.map_err(failed)?;
    if !console.desk.endpoints().contains(name) && !paused.contains_key(name) {
        return Err(not_found());
    }
    match console.desk.endpoint_pause(&permit, name, pause, &reason).await.map_err(failed)? {
        true => Ok(Reply::empty()),
        false => {
            let text = if pause { "The endpoint is paused." } else { "The endpoint is not paused." };
            Err(Failure::detail(StatusCode::CONFLICT, "endpoint_state", text))
        }
    }
}
