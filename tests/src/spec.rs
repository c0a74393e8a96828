//! Checks every reply that a test gets against the OpenAPI document: the status is documented, the body has the
//! documented shape, no field is undocumented and no required field is missing.
//!
//! The document itself allows unknown fields, so replies of a newer gateway fit an older document. Here an undocumented
//! field is a defect of the document.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use chelseru::http::openapi::{Audience, asyncapi, document};
use jsonschema::Validator;
use reqwest::{Method, Url};
use serde_json::{Value, json};

use crate::Answer;

/// The default base path. Replies of gateways with another base path are not checked.
const BASE: &str = "/drfchelseru";

/// Statuses that no operation needs to list. Their common shape is under `default`.
const ANYWHERE: [u16; 7] = [405, 406, 408, 429, 500, 503, 507];

static SPEC: LazyLock<Spec> = LazyLock::new(Spec::load);

struct Spec {
    /// What the shapes refer to.
    components: Value,
    operations: Vec<Operation>,
}

struct Operation {
    method: String,
    path: Vec<String>,
    name: String,
    answers: Vec<Told>,
}

/// A documented answer.
struct Told {
    status: String,
    /// The shape of its JSON.
    shape: Option<Shape>,
    /// Browsers get a page.
    is_page: bool,
}

struct Shape {
    schema: Value,
    /// Made when something of this shape comes: those of the whole document take seconds.
    validator: OnceLock<Validator>,
}

impl Shape {
    fn of(schema: Value) -> Shape {
        Shape { schema, validator: OnceLock::new() }
    }

    /// What `value` does not match, or nothing. The schema refers to `components`.
    fn mismatch(&self, value: &Value, components: &Value) -> Option<String> {
        let validator = self.validator.get_or_init(|| {
            let root = json!({"allOf": [self.schema], "components": components});
            jsonschema::draft202012::new(&root).unwrap_or_else(|error| panic!("{}: {error}", self.schema))
        });
        let errors: Vec<String> =
            validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        (!errors.is_empty()).then(|| errors.join("; "))
    }
}

impl Spec {
    fn load() -> Spec {
        let server = chelseru::config::Server { base_path: BASE.to_owned(), ..Default::default() };
        let mut document = document(&server, Audience::Everybody);
        // Pages have no schema name; they are defined inside the replies.
        close(&mut document);
        let mut operations = Vec::new();
        for (path, methods) in document["paths"].as_object().expect("paths") {
            for (method, operation) in methods.as_object().expect("methods") {
                let name = operation["operationId"].as_str().expect("an id").to_owned();
                let answers = operation["responses"].as_object().expect("answers");
                let answers = answers.iter().map(|(status, answer)| {
                    let schema = answer.pointer("/content/application~1json/schema").cloned();
                    let is_page = answer.pointer("/content/text~1html").is_some();
                    Told { status: status.clone(), shape: schema.map(Shape::of), is_page }
                });
                let answers = answers.collect();
                let path = path.split('/').map(str::to_owned).collect();
                operations.push(Operation { method: method.to_uppercase(), path, name, answers });
            }
        }
        Spec { components: document["components"].take(), operations }
    }

    fn find(&self, method: &Method, path: &str) -> Option<&Operation> {
        let asked: Vec<&str> = path.split('/').collect();
        let fits = |operation: &&Operation| {
            operation.method == method.as_str()
                && operation.path.len() == asked.len()
                && operation
                    .path
                    .iter()
                    .zip(&asked)
                    .all(|(told, asked)| told.starts_with('{') || told == asked)
        };
        // The path with the most literal segments wins.
        self.operations
            .iter()
            .filter(fits)
            .min_by_key(|operation| operation.path.iter().filter(|part| part.starts_with('{')).count())
    }
}

/// Forbids unknown fields in every object that names its fields.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object.contains_key("properties") && !object.contains_key("additionalProperties") {
                object.insert("additionalProperties".into(), false.into());
            }
            object.values_mut().for_each(close);
        }
        Value::Array(list) => list.iter_mut().for_each(close),
        _ => {}
    }
}

/// The mismatch between a gateway's reply and the document, if there is one.
pub(crate) fn problem(method: &Method, url: &Url, answer: &Answer) -> Option<String> {
    // Tests get replies from other servers too. OPTIONS and HEAD are not documented; they follow the other methods.
    if answer.header("x-request-id").is_empty() || matches!(*method, Method::OPTIONS | Method::HEAD) {
        return None;
    }
    // Every address answers 404 to a request for a format other than JSON.
    if url.query_pairs().any(|(name, _)| name == "format") {
        return None;
    }
    // Some routes are served without their last slash.
    let path = url.path();
    let bare = || (answer.status < 300).then(|| SPEC.find(method, &format!("{path}/"))).flatten();
    let Some(operation) = SPEC.find(method, path).or_else(bare) else {
        let served = answer.status < 300 && path.starts_with(BASE);
        return served.then(|| "the document does not name this operation".to_owned());
    };
    let status = answer.status.to_string();
    let named = |wanted: &str| operation.answers.iter().find(|told| told.status == wanted);
    let told = match named(&status) {
        Some(told) => Some(told),
        None if ANYWHERE.contains(&answer.status) => named("default"),
        None => None,
    };
    let Some(told) = told else {
        return Some(format!("{}: the document does not name the status {status}", operation.name));
    };
    match &told.shape {
        Some(_) if told.is_page && answer.header("content-type").starts_with("text/html") => None,
        None if answer.body.is_null() => None,
        None => Some(format!("{} {status}: the document tells no shape", operation.name)),
        Some(shape) => shape
            .mismatch(&answer.body, &SPEC.components)
            .map(|found| format!("{} {status}: {found}", operation.name)),
    }
}

/// The shapes of frames on sockets.
static FRAMES: LazyLock<Frames> = LazyLock::new(|| {
    let mut document = asyncapi(&chelseru::config::Server::default());
    close(&mut document);
    let mut components = document["components"].take();
    let Value::Object(messages) = components["messages"].take() else { panic!("no messages") };
    let shapes = messages.into_iter().map(|(key, mut message)| (key, Shape::of(message["payload"].take())));
    Frames { shapes: shapes.collect(), components }
});

struct Frames {
    /// By type; those of clients behind `client.`.
    shapes: HashMap<String, Shape>,
    components: Value,
}

/// The mismatch between a frame and the AsyncAPI document. The original's clients get signals as they were sent: those
/// name no type of the gateway.
pub(crate) fn frame_problem(frame: &Value) -> Option<String> {
    if frame["message_type"] == "webrtc_signal" {
        return None;
    }
    mismatch(frame["type"].as_str().unwrap_or_default(), frame)
}

/// The mismatch between a client's frame and the document. A frame without a type publishes.
pub(crate) fn client_frame_problem(frame: &Value) -> Option<String> {
    if frame["message_type"] == "webrtc_signal" {
        return mismatch("client.webrtc_signal", frame);
    }
    mismatch(&format!("client.{}", frame["type"].as_str().unwrap_or("publish")), frame)
}

fn mismatch(key: &str, frame: &Value) -> Option<String> {
    match FRAMES.shapes.get(key) {
        Some(shape) => shape.mismatch(frame, &FRAMES.components),
        None => Some("the document does not name this type".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(method: Method, path: &str, status: u16, body: Value) -> Option<String> {
        let url = Url::parse(&format!("http://localhost{BASE}{path}")).expect("an address");
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("x-request-id", "1".parse().expect("a value"));
        problem(&method, &url, &Answer { status, headers, text: body.to_string(), body })
    }

    /// A schema that refers to nothing would fail the first test that gets such an answer, and no other.
    #[test]
    fn every_documented_shape_is_a_schema() {
        let answers = SPEC.operations.iter().flat_map(|operation| &operation.answers);
        let answers = answers.filter_map(|told| told.shape.as_ref()).map(|shape| (shape, &SPEC.components));
        let frames = FRAMES.shapes.values().map(|shape| (shape, &FRAMES.components));
        for (shape, components) in answers.chain(frames) {
            let _ = shape.mismatch(&Value::Null, components);
        }
    }

    #[test]
    fn what_the_document_does_not_tell_is_found() {
        let page = |next: Value| json!({"next": next, "previous": null, "results": []});
        assert_eq!(told(Method::GET, "/payment/", 200, page(Value::Null)), None);
        let mut more = page(Value::Null);
        more["total"] = 1.into();
        let found = |problem: Option<String>, word: &str| {
            assert!(problem.as_ref().is_some_and(|problem| problem.contains(word)), "{problem:?}");
        };
        found(told(Method::GET, "/payment/", 200, more), "total");
        found(told(Method::GET, "/payment/", 200, page(7.into())), "/next");
        found(told(Method::GET, "/payment/", 200, json!({"next": null, "results": []})), "previous");
        let mut row = page(Value::Null);
        row["results"] = json!([{"id": 1}]);
        found(told(Method::GET, "/payment/", 200, row), "/results/0");
        found(told(Method::GET, "/payment/", 418, Value::Null), "418");
        found(told(Method::GET, "/nowhere/", 200, Value::Null), "operation");
        found(told(Method::DELETE, "/sessions/7/", 204, json!({})), "no shape");
        // The common shape of errors is checked; replies of other servers are not.
        let failed = |code: &str| json!({"code": code, "request_id": "1"});
        assert_eq!(told(Method::GET, "/payment/", 503, failed("busy")), None);
        found(told(Method::GET, "/payment/", 503, failed("x")), "/code");
        found(told(Method::GET, "/payment/", 503, json!({})), "code");
    }
}
