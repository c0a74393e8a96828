//! Builds the OpenAPI document from the rows.

use chelseru_config::Server;
use serde_json::{Map, Value, json};

use super::shape;
use crate::request::{Access, BodyKind, Door};
use crate::route::{Field, Is, Kind, Operation, Route, Verb};
use crate::routes::{GROUPS, Group};
use crate::{chat, files, login, money, operator, sms};

/// The readers of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// The routes of `server.listen`, each under one path.
    Clients,
    /// Those of `operator.listen`.
    Operators,
    /// Every row, for tests.
    Everybody,
}

impl Audience {
    fn reads(self, route: &Route) -> bool {
        let public = route.access.door() == Door::Public;
        match self {
            _ if matches!(route.kind, Kind::Test | Kind::Page) => false,
            Audience::Clients => public && !matches!(route.kind, Kind::Twin),
            Audience::Operators => !public,
            Audience::Everybody => true,
        }
    }
}

/// The document of a gateway with this configuration.
pub fn document(server: &Server, audience: Audience) -> Value {
    let mut paths = Map::new();
    for group in GROUPS {
        for route in group.routes.iter().filter(|route| audience.reads(route)) {
            let methods: Map<String, Value> = route
                .operations
                .iter()
                .map(|operation| (operation.verb.as_str().to_lowercase(), describe(group, route, operation)))
                .collect();
            let prefix = if route.is_beside() { "" } else { server.base_path.as_str() };
            paths.insert(format!("{prefix}{}", route.path), methods.into());
        }
    }
    // Relative to where the document is served.
    let url = if server.public_url.is_empty() { "/" } else { server.public_url.as_str() };
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "chelseru",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "MIT", "identifier": "MIT"},
            "description": "Phone and password login, sessions, SMS, payments with wallets, and chat. Bodies are JSON; \
                form and multipart bodies with the same fields are accepted, too. Every error has the headers \
                X-Error-Code (stable, for programs; core/http/ERRORS.md) and X-Request-Id. A path without its last \
                slash answers 301. Sockets: core/gateway/CHAT.md.",
        },
        "servers": [{"url": url}],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "headers": headers(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "apiKey": {
                    "type": "apiKey", "in": "header", "name": "Authorization",
                    "description": "Api-Key TOKEN, made by chelseru apikey create",
                },
            },
        },
    });
    complete(&mut document);
    document
}

/// Says of every number how large it may be and of every list of values what type they have: generators take 32 bits,
/// and anything, otherwise.
fn complete(schema: &mut Value) {
    let Value::Object(object) = schema else {
        if let Value::Array(items) = schema {
            items.iter_mut().for_each(complete);
        }
        return;
    };
    let is = |name: &str, value: &str| object.get(name).is_some_and(|given| given == value);
    let may_be_null = object.get("type").is_some_and(|kinds| *kinds == json!(["integer", "null"]));
    if (is("type", "integer") || may_be_null) && !object.contains_key("format") {
        object.insert("format".into(), "int64".into());
    }
    let first = object.get("enum").and_then(|values| values.get(0));
    let kind = first.map(|value| if value.is_string() { "string" } else { "integer" });
    if let Some(kind) = kind
        && !object.contains_key("type")
    {
        object.insert("type".into(), kind.into());
    }
    object.values_mut().for_each(complete);
}

/// Headers of answers, by name.
fn headers() -> Value {
    let text = json!({"type": "string"});
    json!({
        "X-Request-Id": {"description": "Names the request in the gateway's log.", "schema": text},
        "X-Error-Code": {"description": "The code of the error, also where the body has none.", "schema": text},
        "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
        "RateLimit": {
            "description": "What is left of the allowance of this name (r), and the seconds until it is renewed (t): \
                draft-ietf-httpapi-ratelimit-headers-10. Some allowances are told when they are used up only.",
            "schema": text, "example": "\"searches\";r=59;t=60",
        },
        "RateLimit-Policy": {
            "description": "The allowance: so much (q) in so many seconds (w).",
            "schema": text, "example": "\"searches\";q=60;w=60",
        },
    })
}

/// All shapes by name.
fn schemas() -> Value {
    let features = [
        shape::common(),
        login::shapes::shapes(),
        sms::shapes::shapes(),
        money::shapes::shapes(),
        chat::shapes::shapes(),
        files::shapes::shapes(),
        operator::shapes::shapes(),
    ];
    let mut all = Map::new();
    for shapes in features {
        if let Value::Object(shapes) = shapes {
            all.extend(shapes);
        }
    }
    all.into()
}

fn describe(group: &Group, route: &Route, operation: &Operation) -> Value {
    let about = &operation.about;
    let mut parameters: Vec<Value> = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    parameters.extend(about.parameters.iter().map(|Field(name, kind, text)| {
        let place = if *kind == Is::Header { "header" } else { "query" };
        json!({
            "name": name, "in": place, "required": kind.is_required(), "description": text,
            "schema": kind.schema(),
        })
    }));
    let mut responses = Map::new();
    for (status, shape) in about.answers {
        let told = if *status < 400 || !is_sentence(shape) { response(shape) } else { failure(shape) };
        responses.insert(status.to_string(), with_headers(told, *status));
    }
    if about.answers.iter().any(|(status, _)| *status == 429) {
        for (status, _) in about.answers.iter().filter(|(status, _)| *status < 300 || *status == 429) {
            for name in ["RateLimit", "RateLimit-Policy"] {
                let header = json!({"$ref": format!("#/components/headers/{name}")});
                responses[&status.to_string()]["headers"][name] = header;
            }
        }
    }
    for (status, text) in errors(group, route, operation) {
        responses.entry(status.to_string()).or_insert_with(|| with_headers(failure(text), status));
    }
    let any = "404 another `format` than json; 405 another method; 406 unsupported Accept; 408 the body arrives too \
        slowly; 429 too many requests; 500 and 503 the gateway fails; 507 the disk is nearly full.";
    responses.insert("default".into(), with_headers(failure(any), 500));
    let mut object = json!({
        "operationId": operation.id,
        "summary": about.summary,
        "tags": [group.tag],
        "responses": responses,
    });
    if !parameters.is_empty() {
        object["parameters"] = parameters.into();
    }
    if !about.fields.is_empty() {
        object["requestBody"] = request_body(about.fields);
    }
    if let Some(security) = security(route.access) {
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
    let has_file = fields.iter().any(|field| field.1 == Is::File);
    // Forms are accepted, too, but generators make one function for each media type.
    let media_type = if has_file { "multipart/form-data" } else { "application/json" };
    json!({"required": !required.is_empty(), "content": {media_type: {"schema": schema}}})
}

/// Adds the headers that every answer of this status has.
fn with_headers(mut response: Value, status: u16) -> Value {
    let mut names = vec!["X-Request-Id"];
    if status >= 400 {
        names.push("X-Error-Code");
    }
    if [429, 503].contains(&status) {
        names.push("Retry-After");
    }
    let named = |name: &&str| ((*name).to_owned(), json!({"$ref": format!("#/components/headers/{name}")}));
    response["headers"] = names.iter().map(named).collect::<Map<String, Value>>().into();
    response
}

/// Distinguishes a sentence from the name of a shape.
fn is_sentence(text: &str) -> bool {
    text.contains(' ') || text.ends_with('.')
}

fn response(shape: &str) -> Value {
    if is_sentence(shape) {
        return json!({"description": shape});
    }
    let (schema, description) = shape::shape(shape.trim_end_matches(PAGE_TOO));
    let mut response =
        json!({"description": description, "content": {"application/json": {"schema": schema}}});
    if shape.ends_with(PAGE_TOO) {
        add_page(&mut response);
    }
    response
}

/// Marks an answer that a browser gets as a page.
const PAGE_TOO: &str = "|Html";

fn add_page(response: &mut Value) {
    response["content"]["text/html"] = json!({"schema": {"type": "string"}});
}

fn failure(text: &str) -> Value {
    let schema = if text.starts_with("Field") { "Refusal" } else { "Error" };
    let reference = format!("#/components/schemas/{schema}");
    let description = text.trim_end_matches(PAGE_TOO);
    let mut response =
        json!({"description": description, "content": {"application/json": {"schema": {"$ref": reference}}}});
    if text.ends_with(PAGE_TOO) {
        add_page(&mut response);
    }
    response
}

/// The errors that every operation of this kind may answer.
fn errors(group: &Group, route: &Route, operation: &Operation) -> Vec<(u16, &'static str)> {
    let mut errors = Vec::new();
    if matches!(operation.call.body, BodyKind::Fields | BodyKind::Stream) {
        errors.push((400, "Field errors, or a body that cannot be read."));
        errors.push((415, "Another media type."));
    }
    if operation.call.body != BodyKind::Unread {
        errors.push((413, "The body is too large."));
    }
    match route.access {
        Access::User => errors.push((401, "No valid access token.")),
        Access::Open | Access::Sender | Access::Link => {
            errors.push((401, "The token that was sent is not valid."));
        }
        Access::Operator => errors.push((404, "Asked on server.listen, or without the data folder's token.")),
        Access::Tokenless => {}
    }
    if group.tag == "chat" {
        errors.push((403, "Banned, or a right is missing."));
        errors.push((404, "Not found, or not the caller's."));
        errors.push((409, "A limit is reached, or the state does not allow it."));
    }
    if route.access.door() == Door::Operator {
        errors.push((421, "A Host that is neither an address, localhost, nor in operator.hosts."));
    }
    if route.access != Access::Operator {
        errors.push((
            503,
            "Nothing can be stored (store_failed, store_stalled, store_away), or too much waits (busy).",
        ));
        if operation.verb != Verb::Get {
            errors.push((507, "The disk is nearly full (storage_full)."));
        }
    }
    if route.path.contains('{') {
        errors.push((404, "Not found, or not the caller's."));
    }
    let query = |field: &&Field| field.1 != Is::Header;
    if operation.about.parameters.iter().any(|field| field.0 == "cursor") {
        errors.push((404, "The cursor is invalid."));
    }
    if operation.about.parameters.iter().any(|field| query(&field)) {
        errors.push((400, "Field errors, in the query."));
    }
    errors
}

fn security(access: Access) -> Option<Value> {
    match access {
        Access::User => Some(json!([{"bearer": []}])),
        Access::Sender => Some(json!([{"apiKey": []}, {"bearer": []}])),
        Access::Link => Some(json!([{"bearer": []}, {}])),
        Access::Open | Access::Tokenless | Access::Operator => None,
    }
}

impl Is {
    fn is_required(self) -> bool {
        matches!(self, Is::Text | Is::Integer | Is::File)
    }

    fn schema(self) -> Value {
        match self {
            Is::Text | Is::MayText | Is::Header => json!({"type": "string"}),
            Is::Integer | Is::MayInteger => json!({"type": "integer"}),
            Is::MayNumber => json!({"type": ["number", "string"]}),
            Is::MayBool => json!({"type": "boolean"}),
            Is::MayList => json!({"type": "array", "items": {}}),
            Is::File => {
                json!({"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"})
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::routes;

    fn everything(base_path: &str) -> Value {
        let server = Server { base_path: base_path.to_owned(), ..Server::default() };
        super::document(&server, Audience::Everybody)
    }

    #[test]
    fn every_route_and_method_is_described_once() {
        let document = everything("/base");
        let mut ids = BTreeSet::new();
        for route in routes::all() {
            let prefix = if route.is_beside() { "" } else { "/base" };
            for operation in route.operations {
                let method = operation.verb.as_str().to_lowercase();
                let object = &document["paths"][format!("{prefix}{}", route.path)][&method];
                if matches!(route.kind, Kind::Test | Kind::Page) {
                    assert!(object.is_null(), "tests' routes and pages are not told");
                    continue;
                }
                let id = object["operationId"].as_str();
                let id = id.unwrap_or_else(|| panic!("{method} {} is missing", route.path));
                assert!(ids.insert(id.to_owned()), "{id} is a duplicate");
                let responses = object["responses"].as_object();
                assert!(responses.is_some_and(|responses| !responses.is_empty()), "{id}");
                let parameters = object["parameters"].as_array().cloned().unwrap_or_default();
                let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
                assert_eq!(in_path, route.path.matches('{').count(), "{id}");
            }
        }
    }

    #[test]
    fn each_reader_gets_its_own_routes_and_bodies_have_one_media_type() {
        let server = Server { public_url: "https://api.example".to_owned(), ..Server::default() };
        let paths = |audience| {
            let document = super::document(&server, audience);
            assert_eq!(document["servers"], json!([{"url": "https://api.example"}]));
            for operation in document["paths"]
                .as_object()
                .expect("paths")
                .values()
                .flat_map(|methods| methods.as_object().into_iter().flat_map(|methods| methods.values()))
            {
                let content = operation["requestBody"]["content"].as_object();
                assert!(content.is_none_or(|content| content.len() == 1), "{operation}");
                for (status, answer) in operation["responses"].as_object().expect("answers") {
                    assert!(answer["headers"]["X-Request-Id"].is_object(), "{status}: {operation}");
                    let failed = status.parse::<u16>().map_or(true, |status| status >= 400);
                    assert_eq!(
                        answer["headers"]["X-Error-Code"].is_object(),
                        failed,
                        "{status}: {operation}"
                    );
                }
            }
            document["paths"].as_object().expect("paths").keys().cloned().collect::<BTreeSet<String>>()
        };
        let (clients, operators) = (paths(Audience::Clients), paths(Audience::Operators));
        assert!(clients.is_disjoint(&operators) && !operators.is_empty());
        assert!(operators.contains("/drfchelseru/status/") && clients.contains("/drfchelseru/me/"));
        let twins: Vec<_> = clients
            .iter()
            .filter(|path| path.starts_with("/drfchelseru/chat") && path.ends_with(".json"))
            .collect();
        assert!(twins.is_empty(), "{twins:?}");
    }

    #[test]
    fn what_a_disk_does_to_requests_is_told() {
        let document = everything("");
        for (method, path) in
            [("post", "/chat/messages/"), ("post", "/message/file/upload/"), ("delete", "/sessions/")]
        {
            let responses = &document["paths"][path][method]["responses"];
            assert!(
                responses["503"].is_object() && responses["507"].is_object(),
                "{method} {path}: {responses}"
            );
        }
        let listed = &document["paths"]["/sessions/"]["get"]["responses"];
        assert!(listed["503"].is_object() && listed["507"].is_null(), "{listed}");
    }

    #[test]
    fn no_method_of_a_route_is_there_twice() {
        for route in routes::all() {
            let verbs: Vec<Verb> = route.operations.iter().map(|operation| operation.verb).collect();
            for verb in Verb::ALL {
                let count = verbs.iter().filter(|known| **known == verb).count();
                assert!(count <= 1, "{} {verb:?}", route.path);
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = everything("");
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#/").skip(1).map(|rest| rest.split('"').next().unwrap_or(""))
        {
            assert!(document.pointer(&format!("/{reference}")).is_some(), "{reference}");
        }
    }
}
