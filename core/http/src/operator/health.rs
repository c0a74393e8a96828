//! `health/`, and the gateway's documents, which answer anyone.

use std::sync::Arc;

use chelseru_domain::operator::Storage;
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use super::Operator;
use crate::reply::{ERROR_CODE, Failure, Reply};
use crate::request::{Access, Request, Tokenless};
use crate::route::{About, Answer, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/health/",
        name: "Health",
        access: Access::Tokenless,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "health",
            call: call!(health),
            about: About {
                summary: "Check whether durable writes are possible",
                parameters: &[],
                fields: &[],
                answers: &[(200, "Health"), (503, "Health")],
            },
        }],
    },
    Route {
        path: "/openapi.json",
        name: "OpenAPI Document",
        access: Access::Tokenless,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "open_api_json",
            call: call!(openapi),
            about: About {
                summary: "Get this document",
                parameters: &[],
                fields: &[],
                answers: &[(200, "Any")],
            },
        }],
    },
    Route {
        path: "/asyncapi.json",
        name: "AsyncAPI Document",
        access: Access::Tokenless,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "async_api_json",
            call: call!(asyncapi),
            about: About {
                summary: "Get the document of the sockets (AsyncAPI 3)",
                parameters: &[],
                fields: &[],
                answers: &[(200, "Any")],
            },
        }],
    },
    Route {
        path: "/docs/",
        name: "Reference",
        access: Access::Tokenless,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "docs",
            call: call!(docs),
            about: About {
                summary: "Get the reference as a page",
                parameters: &[],
                fields: &[],
                answers: &[(200, "The page.")],
            },
        }],
    },
];

/// `GET health/`: 200 while durable writes are possible, 503 when they are not.
async fn health(operator: Arc<Operator>, _: Request<Tokenless>) -> Answer {
    let storage = operator.overview.storage();
    if storage == Storage::Serving {
        return Ok(Reply::json(StatusCode::OK, &json!({"status": "ok"})));
    }
    let reply = Reply::json(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": storage.as_str()}));
    Ok(reply.with(ERROR_CODE, HeaderValue::from_static(storage.as_str())))
}

/// `GET openapi.json`.
async fn openapi(operator: Arc<Operator>, _: Request<Tokenless>) -> Answer {
    Ok(Reply::text(StatusCode::OK, "application/json", operator.documents.texts().openapi.clone()))
}

/// `GET asyncapi.json`.
async fn asyncapi(operator: Arc<Operator>, _: Request<Tokenless>) -> Answer {
    Ok(Reply::text(StatusCode::OK, "application/json", operator.documents.texts().asyncapi.clone()))
}

/// `GET docs/`.
async fn docs(operator: Arc<Operator>, _: Request<Tokenless>) -> Answer {
    let texts = operator.documents.texts();
    let policy = HeaderValue::from_str(&texts.page_policy).map_err(|_| Failure::internal())?;
    let reply = Reply::text(StatusCode::OK, "text/html; charset=utf-8", texts.page.clone());
    Ok(reply.with(header::CONTENT_SECURITY_POLICY, policy))
}
