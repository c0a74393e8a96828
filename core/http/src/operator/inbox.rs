//! `sandbox/inbox/`: the trial provider's messages.

use std::sync::Arc;

use chelseru_domain::PhoneNumber;
use chelseru_domain::clock::rest_format;
use http::StatusCode;
use serde_json::{Value, json};

use super::Operator;
use crate::generation::Generation;
use crate::reply::{Failure, Reply};
use crate::request::{Access, ByOperator, Request};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[Route {
    path: "/sandbox/inbox/",
    name: "Sandbox Inbox",
    access: Access::Operator,
    kind: Kind::When(is_selected),
    operations: &[Operation {
        verb: Verb::Get,
        id: "sandbox_inbox",
        call: call!(list),
        about: About {
            summary: "List the trial provider's messages",
            parameters: &[Field("mobile_number", Is::MayText, "Only to this number.")],
            fields: &[],
            answers: &[(200, "Results<InboxMessage>")],
        },
    }],
}];

/// `GET sandbox/inbox/?mobile_number=`: the messages, newest first.
async fn list(operator: Arc<Operator>, request: Request<ByOperator>) -> Answer {
    let number = request.query("mobile_number").map(|text| PhoneNumber::parse(&text)).transpose();
    let number = number.map_err(|error| Failure::field("mobile_number", error.to_string()))?;
    let shown = operator.inbox.as_ref().map(|inbox| inbox.list(number.as_ref())).unwrap_or_default();
    let results: Vec<Value> = shown
        .iter()
        .map(|message| {
            json!({
                "mobile_number": message.to.local(),
                "text": message.text,
                "provider": message.provider,
                "created_at": rest_format(message.at),
            })
        })
        .collect();
    Ok(Reply::json(StatusCode::OK, &json!({"results": results})))
}

fn is_selected(generation: &Generation) -> bool {
    generation.operator.inbox.is_some()
}
