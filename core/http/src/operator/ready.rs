//! `live/` and `ready/`: for supervisors that restart the gateway, and for load balancers.

use std::sync::Arc;

use chelseru_domain::operator::Storage;
use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::Operator;
use crate::reply::{ERROR_CODE, Reply};
use crate::request::{Access, ByOperator, Request};
use crate::route::{About, Answer, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/live/",
        name: "Live",
        access: Access::Operator,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "live",
            call: call!(live),
            about: About {
                summary: "Check whether the process answers",
                parameters: &[],
                fields: &[],
                answers: &[(200, "Health")],
            },
        }],
    },
    Route {
        path: "/ready/",
        name: "Ready",
        access: Access::Operator,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "ready",
            call: call!(ready),
            about: About {
                summary: "Check whether the gateway accepts clients: durable writes work and no stop was requested",
                parameters: &[],
                fields: &[],
                answers: &[(200, "Health"), (503, "Health")],
            },
        }],
    },
];

/// `GET live/`: 200 while the process answers.
async fn live(_: Arc<Operator>, _: Request<ByOperator>) -> Answer {
    Ok(Reply::json(StatusCode::OK, &json!({"status": "ok"})))
}

/// `GET ready/`: 503 while clients should go elsewhere. A gateway that lacks a plugin, serves its last good version,
/// hears nothing of the others that share its store, or cannot reach the bucket of files, still takes clients: 200 with
/// `degraded`.
async fn ready(operator: Arc<Operator>, _: Request<ByOperator>) -> Answer {
    let state = match operator.overview.storage() {
        _ if operator.overview.is_stopping() => "stopping",
        Storage::Serving => {
            let state = if operator.overview.is_degraded() { "degraded" } else { "ok" };
            return Ok(Reply::json(StatusCode::OK, &json!({"status": state})));
        }
        other => other.as_str(),
    };
    let reply = Reply::json(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": state}));
    Ok(reply.with(ERROR_CODE, HeaderValue::from_static(state)))
}
