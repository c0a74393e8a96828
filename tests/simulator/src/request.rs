//! One provider request: path, query, headers and the fields of its body.
//!
//! Public client libraries send the same call as a query, as a form, as `multipart/form-data` or as JSON. This module
//! turns all of them into [`Fields`], so a provider module gets a value by name and never reads an encoding.
//! Invariant: any bytes give a `Request`, never a panic. An unreadable body is marked `malformed`, and the provider
//! decides the reply. The provider modules know the meaning of the fields; `meli_payamak/soap.rs` reads XML.

use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, Method};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;

/// Named values in the order sent. A name may repeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

/// A request for the provider modules.
pub(crate) struct Request {
    pub(crate) http_method: Method,
    /// Path of the target, without scheme and host even for the absolute form.
    pub(crate) path: String,
    pub(crate) query: Fields,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) body_fields: Fields,
    /// The body as JSON, if it is JSON.
    pub(crate) json: Option<Value>,
    /// The body does not follow its declared encoding.
    pub(crate) malformed: bool,
}

impl Fields {
    /// Reads `a=1&b=2`; escapes that are not UTF-8 become replacement characters.
    pub(crate) fn from_form(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    /// Reads the members of a JSON object. Strings stay unchanged, `null` is left out, and any other value becomes its
    /// JSON text, as clients write arrays into form fields.
    pub(crate) fn from_json(value: &Value) -> Self {
        let Value::Object(members) = value else { return Self::default() };
        let text = |value: &Value| match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        Self(members.iter().filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect())
    }

    /// Reads the text parts of a `multipart/form-data` body; `None` when the boundary does not fit the body.
    pub(crate) fn from_multipart(content_type: &str, body: &[u8]) -> Option<Self> {
        let (_, boundary) = content_type.split_once("boundary=")?;
        let delimiter = format!("--{}", boundary.split(';').next()?.trim().trim_matches('"'));
        let body = String::from_utf8_lossy(body);
        let mut fields = Vec::new();
        let mut parts = body.split(delimiter.as_str());
        parts.next()?;
        let mut closed = false;
        for part in parts {
            if part.starts_with("--") {
                closed = true;
                break;
            }
            let (head, value) = part.split_once("\r\n\r\n")?;
            let (_, name) = head.split_once("name=\"")?;
            let (name, _) = name.split_once('"')?;
            fields.push((name.to_owned(), value.strip_suffix("\r\n")?.to_owned()));
        }
        closed.then_some(Self(fields))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// First value sent under this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(have, _)| *have == name).map(|(_, value)| value)
    }

    /// Replaces the values of the named fields (ignoring case), so credentials never reach the log.
    pub(crate) fn masked(mut self, secret: &[&str]) -> Self {
        for (name, value) in &mut self.0 {
            if secret.iter().any(|secret| secret.eq_ignore_ascii_case(name)) {
                *value = "***".into();
            }
        }
        self
    }
}

impl Serialize for Fields {
    /// An object from name to value. A repeated name keeps all its values, joined with `&`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut merged: Vec<(&str, String)> = Vec::with_capacity(self.0.len());
        for (name, value) in self.iter() {
            match merged.iter_mut().find(|(have, _)| *have == name) {
                Some((_, values)) => {
                    values.push('&');
                    values.push_str(value);
                }
                None => merged.push((name, value.to_owned())),
            }
        }
        let mut map = serializer.serialize_map(Some(merged.len()))?;
        for (name, value) in merged {
            map.serialize_entry(name, &value)?;
        }
        map.end()
    }
}

impl Request {
    pub(crate) fn new(parts: hyper::http::request::Parts, body: Bytes) -> Self {
        let query = Fields::from_form(parts.uri.query().unwrap_or_default().as_bytes());
        let content_type =
            parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = content_type.to_ascii_lowercase();
        let (mut json, mut malformed) = (None, false);
        let body_fields = if body.is_empty() || kind.contains("xml") {
            Fields::default()
        } else if kind.starts_with("application/json") {
            json = serde_json::from_slice::<Value>(&body).ok();
            malformed = !matches!(json, Some(Value::Object(_)));
            json.as_ref().map(Fields::from_json).unwrap_or_default()
        } else if kind.starts_with("multipart/form-data") {
            // The boundary is case-sensitive, so the header is read as sent.
            let fields = Fields::from_multipart(content_type, &body);
            malformed = fields.is_none();
            fields.unwrap_or_default()
        } else {
            Fields::from_form(&body)
        };
        Self {
            http_method: parts.method,
            path: parts.uri.path().to_owned(),
            query,
            headers: parts.headers,
            body,
            body_fields,
            json,
            malformed,
        }
    }

    /// Every field, body first.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.body_fields.iter().chain(self.query.iter())
    }

    /// First value of this name: from the body, else from the query.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.fields().find(|(have, _)| *have == name).map(|(_, value)| value)
    }

    /// Like [`Request::get`], ignoring case.
    pub(crate) fn get_caseless(&self, name: &str) -> Option<&str> {
        self.fields().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Every value of this name joined with commas, as the providers' web framework joins repeated keys.
    pub(crate) fn joined(&self, name: &str) -> Option<String> {
        let mut values = self.fields().filter(|(have, _)| *have == name).map(|(_, value)| value);
        let mut joined = values.next()?.to_owned();
        for value in values {
            joined.push(',');
            joined.push_str(value);
        }
        Some(joined)
    }

    /// A list sent as `name=a,b`, `name[0]=a&name[1]=b`, `name[]=a` or a JSON array. Names match ignoring case.
    pub(crate) fn list_caseless(&self, name: &str) -> Vec<String> {
        let mut list = Vec::new();
        for (have, value) in self.fields() {
            let (base, indexed) = match have.split_once('[') {
                Some((base, _)) => (base, true),
                None => (have, false),
            };
            if !base.eq_ignore_ascii_case(name) {
                continue;
            }
            if indexed {
                list.push(value.to_owned());
            } else {
                list.extend(list_of(value));
            }
        }
        list
    }
}

/// Items of a JSON array, else of a comma-separated list. Empty text has no items.
pub(crate) fn list_of(text: &str) -> Vec<String> {
    if let Some(items) = json_array(text) {
        return items;
    }
    if text.is_empty() { Vec::new() } else { text.split(',').map(|item| item.trim().to_owned()).collect() }
}

/// Items of a JSON array as text; `None` when the text is not a JSON array.
pub(crate) fn json_array(text: &str) -> Option<Vec<String>> {
    let Value::Array(items) = serde_json::from_str::<Value>(text).ok()? else { return None };
    let text = |item: Value| match item {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Some(items.into_iter().map(text).collect())
}

/// Canonical form `09xxxxxxxxx` of an Iranian mobile number sent as `09...`, `9...`, `+989...`, `00989...`
/// or `989...`; `None` for anything else. Only ASCII digits count.
pub(crate) fn mobile(number: &str) -> Option<String> {
    let rest = ["+98", "0098", "98", "0", ""]
        .into_iter()
        .filter_map(|prefix| number.strip_prefix(prefix))
        .find(|rest| rest.len() == 10 && rest.starts_with('9'))?;
    rest.bytes().all(|byte| byte.is_ascii_digit()).then(|| format!("0{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_written_form_of_a_mobile_number_is_one_number() {
        for form in ["09121234567", "9121234567", "+989121234567", "00989121234567", "989121234567"] {
            assert_eq!(mobile(form).as_deref(), Some("09121234567"), "{form}");
        }
        // The last two: ten digits that begin with 9, after a prefix that must not be removed twice.
        assert_eq!(mobile("9891212345").as_deref(), Some("09891212345"));
        for wrong in
            ["", "0912123456", "091212345678", "۰۹۱۲۱۲۳۴۵۶۷", "02188881234", "09121234567,", "+98", "98"]
        {
            assert_eq!(mobile(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn multipart_text_parts_become_fields_and_a_torn_body_is_refused() {
        let body = "--B\r\nContent-Disposition: form-data; name=\"cid\"\r\n\r\n7\r\n\
                    --B\r\nContent-Disposition: form-data; name=\"Receiver\"\r\n\r\n0912\r\n--B--\r\n";
        let fields = Fields::from_multipart("multipart/form-data; boundary=B", body.as_bytes()).unwrap();
        assert_eq!((fields.get("cid"), fields.get("Receiver")), (Some("7"), Some("0912")));
        for cut in 0..body.len() - 4 {
            assert_eq!(
                Fields::from_multipart("multipart/form-data; boundary=B", &body.as_bytes()[..cut]),
                None,
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn json_members_become_fields_with_arrays_as_text() {
        let fields = Fields::from_json(&serde_json::json!({"a": "x", "b": [1, 2], "c": null, "d": 5}));
        assert_eq!(fields.get("a"), Some("x"));
        assert_eq!(fields.get("b"), Some("[1,2]"));
        assert_eq!(fields.get("c"), None);
        assert_eq!(fields.get("d"), Some("5"));
    }

    #[test]
    fn secret_fields_are_masked_whatever_their_case() {
        let fields = Fields::from_form(b"Password=p&text=t").masked(&["password"]);
        assert_eq!((fields.get("Password"), fields.get("text")), (Some("***"), Some("t")));
    }
}
