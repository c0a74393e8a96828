//! `status/` and `metrics/`: the running gateway as its operators see it.

use std::sync::Arc;

use http::StatusCode;

use super::Operator;
use crate::reply::Reply;
use crate::request::{Access, ByOperator, Request};
use crate::route::{About, Answer, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/status/",
        name: "Status",
        access: Access::Operator,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "status",
            call: call!(status),
            about: About {
                summary: "Get version, providers, configuration and refusals",
                parameters: &[],
                fields: &[],
                answers: &[(200, "Any")],
            },
        }],
    },
    Route {
        path: "/metrics/",
        name: "Metrics",
        access: Access::Operator,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "metrics",
            call: call!(metrics),
            about: About {
                summary: "Get metrics in the Prometheus text format",
                parameters: &[],
                fields: &[],
                answers: &[(200, "The metrics.")],
            },
        }],
    },
];

/// `GET status/`: version, providers, configuration and refusals.
async fn status(operator: Arc<Operator>, _: Request<ByOperator>) -> Answer {
    Ok(Reply::json(StatusCode::OK, &operator.overview.status().await))
}

/// `GET metrics/`: the Prometheus text format.
async fn metrics(operator: Arc<Operator>, _: Request<ByOperator>) -> Answer {
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(Reply::text(StatusCode::OK, content_type, operator.overview.metrics().await))
}
