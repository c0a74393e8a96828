//! Building blocks of the shapes of answers.
//!
//! Every named property is always present, except names that end in a question mark. The journeys check every answer
//! against these shapes; an answered field that is not named fails them, too.

use chelseru_domain::chat::KINDS;
use serde_json::{Map, Value, json};

use super::codes;

/// Shapes shared by all features.
pub(crate) fn common() -> Value {
    json!({
        "Error": {
            "type": "object",
            "description": "One of detail, details and error says what is wrong, for people. Some failures say more.",
            "properties": {
                "detail": text(), "error": text(), "details": {"type": ["string", "object"]},
                "code": {
                    "type": "string",
                    "enum": codes::all().collect::<Vec<_>>(),
                    "description": "Stable, for programs; also X-Error-Code. core/http/ERRORS.md explains each one.",
                },
                "request_id": {"type": "string", "description": "Also X-Request-Id; the log has it."},
            },
            "required": ["code", "request_id"],
            "additionalProperties": true,
        },
        "FieldErrors": {
            "type": "object",
            "additionalProperties": list(text()),
            "description": "Field names and what is wrong with each; the code is in X-Error-Code.",
        },
        "Refusal": {
            "anyOf": [reference("FieldErrors"), reference("Error"), list(text())],
            "description": "Field errors; or a body that cannot be read; or one sentence in a list.",
        },
        "Empty": object(json!({})),
        "Details": object(json!({"details": text()})),
        "Any": {"type": "object"},
    })
}

pub(crate) fn text() -> Value {
    json!({"type": "string"})
}

pub(crate) fn whole() -> Value {
    json!({"type": "integer"})
}

/// The kind of a message that is shown.
pub(crate) fn message_kind() -> Value {
    json!({
        "type": "string", "examples": KINDS,
        "description": "text, image, file or location; an imported message may have another.",
    })
}

pub(crate) fn truth() -> Value {
    json!({"type": "boolean"})
}

pub(crate) fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

pub(crate) fn maybe_time() -> Value {
    json!({"type": ["string", "null"], "format": "date-time"})
}

pub(crate) fn maybe(kind: &str) -> Value {
    json!({"type": [kind, "null"]})
}

/// A provider's id: a number where all of its ids are numbers.
pub(crate) fn name() -> Value {
    json!({"type": ["integer", "string"]})
}

pub(crate) fn maybe_name() -> Value {
    json!({"type": ["integer", "string", "null"]})
}

pub(crate) fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

pub(crate) fn or_null(schema: Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

/// An object with these properties. Names that end in a question mark are optional.
pub(crate) fn object(properties: Value) -> Value {
    let Value::Object(properties) = properties else { return Value::Null };
    let required: Vec<&String> = properties.keys().filter(|name| !name.ends_with('?')).collect();
    let required = json!(required);
    let properties: Map<String, Value> = properties
        .into_iter()
        .map(|(name, schema)| (name.trim_end_matches('?').to_owned(), schema))
        .collect();
    json!({"type": "object", "properties": properties, "required": required})
}

pub(crate) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The schema of a shape by its name, and a sentence about it; see [`About`](crate::route::About).
pub(crate) fn shape(name: &str) -> (Value, String) {
    if name.contains('|') {
        let (shapes, sentences): (Vec<Value>, Vec<String>) = name.split('|').map(shape).unzip();
        return (json!({"anyOf": shapes}), sentences.join(" Or: "));
    }
    let inner = |open: &str, close: &str| name.strip_prefix(open)?.strip_suffix(close);
    if let Some(item) = inner("Page<", ">") {
        let page = object(json!({
            "next": {"type": ["string", "null"], "description": "Address of the next page."},
            "previous": {"type": ["string", "null"], "description": "Address of the page before."},
            "results": list(reference(item)),
        }));
        return (page, format!("A page of {item}."));
    }
    if let Some(item) = inner("Results<", ">") {
        return (object(json!({"results": list(reference(item))})), format!("Each {item}, under results."));
    }
    match name.strip_suffix("[]") {
        Some(item) => (list(reference(item)), format!("A list of {item}.")),
        None => (reference(name), format!("{name}.")),
    }
}
