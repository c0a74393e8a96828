//! The reference of `{base}/docs/`: a page without JavaScript, made once from the documents. It needs no internet.

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::codes;

const STYLE: &str = include_str!("../../templates/docs.css");

/// The page's policy: its own style, and nothing else.
pub(super) fn policy() -> String {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    format!("default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; frame-ancestors 'none'")
}

#[derive(Template)]
#[template(path = "docs.html")]
struct Page<'a> {
    style: &'static str,
    version: &'a str,
    about: &'a str,
    groups: Vec<(String, Vec<Operation>)>,
    shapes: Vec<(&'a String, String)>,
    frames: Vec<Frame<'a>>,
    codes: Vec<[&'static str; 4]>,
}

struct Operation {
    id: String,
    method: String,
    path: String,
    summary: String,
    needs: &'static str,
    inputs: Vec<Input>,
    answers: Vec<(String, String, Vec<String>)>,
}

/// A parameter, or a field of the body.
struct Input {
    name: String,
    place: String,
    kind: String,
    about: String,
}

struct Frame<'a> {
    name: &'a str,
    from: &'static str,
    summary: &'a str,
    fields: String,
}

/// Renders the page; an empty one when the template fails, which a test rules out.
pub(super) fn page(openapi: &Value, asyncapi: &Value) -> String {
    let page = Page {
        // A style that contains a `<` would end early.
        style: STYLE,
        version: text(&openapi["info"]["version"]),
        about: text(&openapi["info"]["description"]),
        groups: groups(openapi),
        shapes: entries(&openapi["components"]["schemas"])
            .map(|(name, shape)| (name, serde_json::to_string_pretty(shape).unwrap_or_default()))
            .collect(),
        frames: entries(&asyncapi["components"]["messages"])
            .map(|(key, frame)| of_frame(key, frame))
            .collect(),
        codes: codes::rows().collect(),
    };
    page.render().unwrap_or_default()
}

fn entries(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn groups(openapi: &Value) -> Vec<(String, Vec<Operation>)> {
    let mut groups: Vec<(String, Vec<Operation>)> = Vec::new();
    for (path, methods) in entries(&openapi["paths"]) {
        for (method, operation) in entries(methods) {
            let tag = text(&operation["tags"][0]);
            let at = groups.iter().position(|(known, _)| known == tag).unwrap_or_else(|| {
                groups.push((tag.to_owned(), Vec::new()));
                groups.len() - 1
            });
            groups[at].1.push(of_operation(path, method, operation));
        }
    }
    groups
}

fn of_operation(path: &str, method: &str, operation: &Value) -> Operation {
    let parameters = operation["parameters"].as_array().into_iter().flatten().map(|parameter| Input {
        name: text(&parameter["name"]).to_owned(),
        place: text(&parameter["in"]).to_owned(),
        kind: kind(&parameter["schema"], parameter["required"] == true),
        about: text(&parameter["description"]).to_owned(),
    });
    let body = entries(&operation["requestBody"]["content"]).flat_map(|(_, content)| {
        let schema = &content["schema"];
        entries(&schema["properties"]).map(move |(name, field)| {
            let required =
                schema["required"].as_array().is_some_and(|names| names.contains(&name.as_str().into()));
            let about = text(&field["description"]).to_owned();
            Input { name: name.clone(), place: "body".to_owned(), kind: kind(field, required), about }
        })
    });
    let needs = match operation["security"].as_array() {
        None => "",
        Some(ways) if ways.iter().any(|way| way["apiKey"].is_array()) => "an API key or a token",
        Some(_) => "a token",
    };
    let answers = entries(&operation["responses"]).map(|(status, answer)| {
        let named = answer.to_string();
        let shapes = named.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next());
        (status.clone(), text(&answer["description"]).to_owned(), shapes.map(str::to_owned).collect())
    });
    Operation {
        id: text(&operation["operationId"]).to_owned(),
        method: method.to_uppercase(),
        path: path.to_owned(),
        summary: text(&operation["summary"]).to_owned(),
        needs,
        inputs: parameters.chain(body).collect(),
        answers: answers.collect(),
    }
}

fn kind(schema: &Value, required: bool) -> String {
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(text).collect::<Vec<_>>().join(" or "),
        kind => text(kind).to_owned(),
    };
    if required { format!("{kind}, required") } else { kind }
}

fn of_frame<'a>(key: &str, frame: &'a Value) -> Frame<'a> {
    let payload = &frame["payload"];
    let required =
        |name: &str| payload["required"].as_array().is_some_and(|names| names.contains(&name.into()));
    let fields = entries(&payload["properties"]).filter(|(name, _)| *name != "type");
    let fields = fields.map(|(name, _)| if required(name) { name.clone() } else { format!("{name}?") });
    Frame {
        name: text(&frame["name"]),
        from: if key.starts_with("client.") { "client" } else { "gateway" },
        summary: text(&frame["summary"]),
        fields: fields.collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use chelseru_config::Server;

    use super::super::{Audience, asyncapi, document};
    use super::*;

    #[test]
    fn the_page_has_every_operation_code_and_frame_and_runs_nothing() {
        let server = Server::default();
        let (openapi, asyncapi) = (document(&server, Audience::Clients), asyncapi(&server));
        let page = page(&openapi, &asyncapi);
        for (path, methods) in entries(&openapi["paths"]) {
            for (_, operation) in entries(methods) {
                let id = format!("id=\"{}\"", text(&operation["operationId"]));
                assert!(page.contains(&id), "{path} {id}");
            }
        }
        for code in codes::all() {
            assert!(page.contains(&format!("<code>{code}</code>")), "{code}");
        }
        for frame in chelseru_sockets::TYPES {
            assert!(page.contains(&format!("<code>{frame}</code>")), "{frame}");
        }
        for link in page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(page.contains(&format!("id=\"{link}\"")), "#{link} leads nowhere");
        }
        assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("http://"));
        assert!(page.contains(STYLE), "the policy names this style");
    }
}
