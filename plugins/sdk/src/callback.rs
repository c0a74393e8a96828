//! Reading what a payer's browser brings to the callback address.
//!
//! Providers send their fields in the query, in a form or as JSON, and do not agree with themselves on upper and
//! lower case. [`Fields`] is all of them at once, found without regard to case; the body wins over the query.

use crate::encode::form_decode;
use crate::json::Node;
use crate::payment::Callback;

/// Fields of a callback.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// The fields of a callback's body and query. A body that is neither a form nor a JSON object has none. A JSON
    /// value that is an object itself is one level of fields: `{"data": {"a": 1}}` has `a`.
    pub fn read(callback: &Callback) -> Self {
        let content_type =
            callback.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-type"));
        let content_type = content_type.map_or("", |header| header.value.as_str()).to_ascii_lowercase();
        let mut fields = Self::default();
        if content_type.contains("json") {
            fields.add_json(&callback.body);
        } else if !callback.body.is_empty() {
            fields.0.extend(form_decode(&String::from_utf8_lossy(&callback.body)));
        }
        fields.0.extend(form_decode(&callback.query));
        fields
    }

    /// Adds the fields of a JSON object, for providers that put one into a field.
    pub fn add_json(&mut self, json: &[u8]) {
        let Ok(node) = Node::parse(json) else { return };
        for (name, value) in node.entries() {
            match value {
                Node::Object(inner) => {
                    self.0.extend(
                        inner.iter().map(|(name, value)| (name.to_string(), value.text().to_owned())),
                    );
                }
                value => self.0.push((name.to_string(), value.text().to_owned())),
            }
        }
    }

    /// A field's first value that is not empty, trimmed; empty when there is none.
    pub fn get(&self, name: &str) -> &str {
        let named = self.0.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim()).find(|value| !value.is_empty()).unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Header;

    fn callback(content_type: &str, body: &str, query: &str) -> Callback {
        let headers = vec![Header { name: "content-type".into(), value: content_type.into() }];
        Callback { method: "POST".into(), query: query.into(), headers, body: body.into() }
    }

    #[test]
    fn fields_are_found_in_query_form_and_json_without_case() {
        for callback in [
            callback("", "", "AUTHORITY=A1&x=1"),
            callback("application/x-www-form-urlencoded; charset=utf-8", "authority=A1", "authority=other"),
            callback("application/json", r#"{"Authority":"A1"}"#, ""),
            callback("application/json", r#"{"data":{"Authority":"A1"}}"#, "a=b"),
        ] {
            assert_eq!(Fields::read(&callback).get("authority"), "A1", "{callback:?}");
        }
        assert_eq!(Fields::read(&callback("application/json", "{", "")).get("authority"), "");
    }
}
