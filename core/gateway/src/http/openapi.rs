//! The OpenAPI 3.1 document of every route, made from the routes' own table.
//!
//! [`about`] says of each operation what it does, what it takes and what it answers; a new operation does not compile
//! without its entry. Shapes that several answers share are in [`schemas`]. Sockets have a page of their own
//! (`CHAT.md`), because OpenAPI cannot describe frames. Not here: what is accepted (the handlers decide).

use http::Method;
use serde_json::{Map, Value, json};

use super::route::{Access, Operation, ROUTES, Route};

mod operations;
mod schemas;

use operations::Kind::{File, Integer, MayBool, MayInteger, MayList, MayNumber, MayText, Text};
use operations::{About, Field, Kind, about};
use schemas::schemas;

/// The document of a gateway under this base path.
pub fn document(base_path: &str) -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let mut methods = Map::new();
        for (method, operation) in route.methods() {
            if let Some(about) = about(*operation) {
                methods.insert(method.as_str().to_lowercase(), describe(route, method, *operation, &about));
            }
        }
        if !methods.is_empty() {
            let prefix = if route.is_file() { "" } else { base_path };
            paths.insert(format!("{prefix}{}", route.path), methods.into());
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "chelseru",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "MIT", "identifier": "MIT"},
            "description": "Phone and password login, sessions, SMS, payments with wallets, and chat. Bodies are JSON, \
                form or multipart. Every error has the headers X-Error-Code (stable, for programs) and X-Request-Id. A \
                path without its last slash answers 301. Sockets: core/gateway/CHAT.md.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "apiKey": {
                    "type": "apiKey", "in": "header", "name": "Authorization",
                    "description": "Api-Key TOKEN, made by chelseru apikey create",
                },
            },
        },
    })
}

fn describe(route: &Route, method: &Method, operation: Operation, about: &About) -> Value {
    let mut parameters: Vec<Value> = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    parameters.extend(about.query.iter().map(|Field(name, kind, text)| {
        json!({"name": name, "in": "query", "required": kind.is_required(), "description": text, "schema": kind.schema()})
    }));
    if takes_idempotency_key(operation) {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false, "schema": {"type": "string"},
            "description": "The same key and body get the first answer; another body 422; while it runs 409. Kept 24 h.",
        }));
    }
    let mut responses = Map::new();
    for (status, shape) in about.answers {
        let told = if *status < 400 || !shape.contains(' ') { response(shape) } else { failure(shape) };
        responses.insert(status.to_string(), told);
    }
    for (status, text) in errors(route, operation, about) {
        responses.entry(status.to_string()).or_insert_with(|| failure(text));
    }
    let any = "404 another `format` than json; 405 another method; 406 another type is wanted; 408 the body comes too \
        slowly; 429 too many requests; 500 and 503 the gateway cannot.";
    responses.insert("default".into(), failure(any));
    let mut object = json!({
        "operationId": operation_id(route, method, operation),
        "summary": about.summary,
        "tags": [tag(route)],
        "responses": responses,
    });
    if !parameters.is_empty() {
        object["parameters"] = parameters.into();
    }
    if !about.body.is_empty() {
        object["requestBody"] = request_body(about.body);
    }
    if let Some(security) = security(route, operation) {
        object["security"] = security;
    }
    object
}

fn request_body(fields: &[Field]) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .map(|Field(name, kind, text)| {
            let mut schema = kind.schema();
            schema["description"] = (*text).into();
            ((*name).to_owned(), schema)
        })
        .collect();
    let required: Vec<&str> =
        fields.iter().filter(|field| field.1.is_required()).map(|field| field.0).collect();
    let schema = json!({"type": "object", "properties": properties, "required": required});
    let mut content = Map::new();
    let has_file = fields.iter().any(|field| matches!(field.1, File));
    if !has_file {
        content.insert("application/json".into(), json!({"schema": schema}));
        content.insert("application/x-www-form-urlencoded".into(), json!({"schema": schema}));
    }
    content.insert("multipart/form-data".into(), json!({"schema": schema}));
    json!({"required": !required.is_empty(), "content": content})
}

fn response(shape: &str) -> Value {
    if shape.contains(' ') {
        return json!({"description": shape});
    }
    let (schema, description) = schemas::shape(shape);
    json!({"description": description, "content": {"application/json": {"schema": schema}}})
}

fn failure(text: &str) -> Value {
    let schema = if text.starts_with("Field") { "Refusal" } else { "Error" };
    let reference = format!("#/components/schemas/{schema}");
    json!({"description": text, "content": {"application/json": {"schema": {"$ref": reference}}}})
}

/// What any operation of this kind may answer besides its own.
fn errors(route: &Route, operation: Operation, about: &About) -> Vec<(u16, &'static str)> {
    let mut errors = Vec::new();
    if operation.reads_body() || operation.streams_body() {
        errors.push((400, "Field errors, or a body that cannot be read."));
        errors.push((413, "The body is too large."));
        errors.push((415, "Another media type."));
    }
    match route.access {
        Access::User => errors.push((401, "No valid access token.")),
        Access::Open => errors.push((401, "A token was sent, and is not valid.")),
        Access::Loopback => errors.push((404, "For clients on this machine only.")),
        Access::Tokenless => {}
    }
    if tag(route) == "chat" {
        errors.push((403, "Banned, or a right is missing."));
        errors.push((404, "There is none, for this caller."));
        errors.push((409, "A bound is reached, or what is there does not allow it."));
    }
    if route.path.contains('{') {
        errors.push((404, "There is none, for this caller."));
    }
    if about.query.iter().any(|field| field.0 == "cursor") {
        errors.push((404, "There is no such page."));
    }
    if !about.query.is_empty() {
        errors.push((400, "Field errors, in the query."));
    }
    errors
}

fn security(route: &Route, operation: Operation) -> Option<Value> {
    use Operation as O;
    match operation {
        O::MessageSend | O::MessageList | O::MessageGet => Some(json!([{"apiKey": []}, {"bearer": []}])),
        O::FileDownload => Some(json!([{"bearer": []}, {}])),
        _ if route.access == Access::User => Some(json!([{"bearer": []}])),
        _ => None,
    }
}

fn takes_idempotency_key(operation: Operation) -> bool {
    use Operation as O;
    matches!(operation, O::MessageSend | O::PaymentCreate | O::SpendCreate | O::PaymentRefund)
}

/// `noun_verb`; the same operation under another path or method has that in its name.
fn operation_id(route: &Route, method: &Method, operation: Operation) -> String {
    let mut id = String::new();
    for (at, c) in format!("{operation:?}").char_indices() {
        if c.is_uppercase() && at > 0 {
            id.push('_');
        }
        id.extend(c.to_lowercase());
    }
    if *method == Method::PUT || (operation == Operation::MessageReport && *method == Method::GET) {
        id.push_str(if *method == Method::PUT { "_put" } else { "_get" });
    }
    if route.path.ends_with(".json") && !route.path.starts_with("/.") {
        id.push_str("_json");
    }
    id
}

fn tag(route: &Route) -> &'static str {
    if route.access == Access::Loopback {
        return "operator: clients on this machine only";
    }
    let first = route.path.trim_start_matches('/').split('/').next().unwrap_or("");
    match first {
        "payment" | "wallet" => "money",
        "chat" | "media" | "ws" => "chat",
        "message" if route.path.contains("/file/") => "chat",
        "message" => "sms",
        "health" | "openapi.json" => "gateway",
        _ => "identity",
    }
}

impl Kind {
    fn is_required(self) -> bool {
        matches!(self, Text | Integer | File)
    }

    fn schema(self) -> Value {
        match self {
            Text | MayText => json!({"type": "string"}),
            Integer | MayInteger => json!({"type": "integer"}),
            MayNumber => json!({"type": ["number", "string"]}),
            MayBool => json!({"type": "boolean"}),
            MayList => json!({"type": "array", "items": {}}),
            File => json!({"type": "string", "contentMediaType": "application/octet-stream"}),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_and_method_is_described_once() {
        let document = document("/base");
        let mut ids = BTreeSet::new();
        for route in ROUTES {
            let prefix = if route.is_file() { "" } else { "/base" };
            for (method, operation) in route.methods() {
                let object =
                    &document["paths"][format!("{prefix}{}", route.path)][method.as_str().to_lowercase()];
                if *operation == Operation::SocketEcho {
                    assert!(object.is_null(), "what only tests have is not told");
                    continue;
                }
                let id = object["operationId"]
                    .as_str()
                    .unwrap_or_else(|| panic!("{method} {} is missing", route.path));
                assert!(ids.insert(id.to_owned()), "{id} is there twice");
                assert!(
                    object["responses"].as_object().is_some_and(|responses| !responses.is_empty()),
                    "{id}"
                );
                let parameters = object["parameters"].as_array().cloned().unwrap_or_default();
                let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
                assert_eq!(in_path, route.path.matches('{').count(), "{id}");
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document("");
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#/").skip(1).map(|rest| rest.split('"').next().unwrap_or(""))
        {
            assert!(document.pointer(&format!("/{reference}")).is_some(), "{reference}");
        }
    }
}
