//! Request bodies: JSON, form or multipart on every endpoint, checked field by field. `body` reads them within bounds.
//!
//! The field errors are those of the original: `This field is required.` and its siblings, as lists under the field's
//! name, all fields of a body at once. As in the original, text is trimmed and a JSON number is read as its digits;
//! booleans, lists and objects are not text.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use crate::disposition::Disposition;
use crate::flat;
use crate::reply::Failure;

/// Fields in one body; the routes have at most a dozen.
const FIELDS_MAX: usize = 100;

/// A parsed body and the errors found so far.
#[derive(Debug)]
pub struct Fields {
    values: Map<String, Value>,
    errors: BTreeMap<&'static str, Vec<String>>,
    /// The body as received.
    body: Bytes,
    is_json: bool,
    list_bytes: u64,
}

/// The rule of a text field.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    /// Characters after trimming.
    pub chars_max: usize,
}

/// Parses a body that was read.
///
/// Failures: 415 for another media type, 400 for a body that cannot be parsed or is not an object.
pub(crate) async fn parse(headers: &HeaderMap, bytes: Bytes) -> Result<Fields, Failure> {
    let bytes = without_mark(bytes);
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let mut list_bytes = 0;
    let values = match essence.as_str() {
        _ if bytes.is_empty() => Map::new(),
        "application/json" => {
            let (values, bytes) = parse_json(&bytes)?;
            list_bytes = bytes;
            values
        }
        "application/x-www-form-urlencoded" => form_urlencoded::parse(&bytes)
            .take(FIELDS_MAX + 1)
            .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
            .collect(),
        "multipart/form-data" => parse_multipart(content_type, bytes.clone()).await?,
        _ => {
            return Err(Failure::detail(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                format!("Unsupported media type \"{content_type}\" in request."),
            ));
        }
    };
    if values.len() > FIELDS_MAX {
        return Err(Failure::field("non_field_errors", format!("A body has at most {FIELDS_MAX} fields.")));
    }
    let is_json = essence == "application/json";
    Ok(Fields { values, errors: BTreeMap::new(), body: bytes, is_json, list_bytes })
}

/// A body without its byte order mark.
pub(crate) fn without_mark(body: Bytes) -> Bytes {
    match body.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) => body.slice_ref(rest),
        None => body,
    }
}

/// The fields of a JSON object, and the memory of their lists.
fn parse_json(bytes: &[u8]) -> Result<(Map<String, Value>, u64), Failure> {
    let flat = flat::read(bytes, FIELDS_MAX).map_err(|error| {
        Failure::detail(StatusCode::BAD_REQUEST, "parse_error", format!("JSON parse error - {error}"))
    })?;
    let kind = match flat.value {
        Value::Object(map) => return Ok((map, flat.list_bytes)),
        Value::Array(_) => "list",
        Value::String(_) => "str",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::Bool(_) => "bool",
        Value::Null => "null",
    };
    let text = format!("Invalid data. Expected a dictionary, but got {kind}.");
    Err(Failure::field("non_field_errors", text))
}

async fn parse_multipart(content_type: &str, bytes: Bytes) -> Result<Map<String, Value>, Failure> {
    Ok(multipart_fields(content_type, bytes).await?.into_iter().collect())
}

/// The fields of a multipart body in their order, one past [`FIELDS_MAX`] at most. A file is an empty list.
///
/// # Errors
///
/// 400 for a body that cannot be read.
pub(crate) async fn multipart_fields(
    content_type: &str,
    bytes: Bytes,
) -> Result<Vec<(String, Value)>, Failure> {
    let refuse = |error: multer::Error| {
        Failure::detail(
            StatusCode::BAD_REQUEST,
            "parse_error",
            format!("Multipart form parse error - {error}"),
        )
    };
    let boundary = multer::parse_boundary(content_type).map_err(refuse)?;
    let stream = futures_util::stream::once(async move { Ok::<_, Infallible>(bytes) });
    let mut multipart = multer::Multipart::new(stream, boundary);
    let mut values = Vec::new();
    while let Some(field) = multipart.next_field().await.map_err(refuse)? {
        let Disposition { name, file } = Disposition::of(field.headers());
        if name.is_empty() {
            continue;
        }
        // A file is not a text; the field's own check reports it.
        let value = if file.is_some() {
            Value::Array(Vec::new())
        } else {
            Value::String(field.text().await.map_err(refuse)?)
        };
        values.push((name, value));
        if values.len() > FIELDS_MAX {
            break;
        }
    }
    Ok(values)
}

/// The text fields of a form with a file, and its first file.
///
/// # Errors
///
/// 415 for another media type, 400 for a body that cannot be read.
pub(crate) async fn multipart_with_file(
    content_type: &str,
    bytes: Bytes,
) -> Result<(Fields, Option<Bytes>), Failure> {
    if !content_type.trim_start().to_ascii_lowercase().starts_with("multipart/form-data") {
        let text = format!("Unsupported media type \"{content_type}\" in request.");
        return Err(Failure::detail(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", text));
    }
    let refuse = |error: multer::Error| {
        let text = format!("Multipart form parse error - {error}");
        Failure::detail(StatusCode::BAD_REQUEST, "parse_error", text)
    };
    let boundary = multer::parse_boundary(content_type).map_err(refuse)?;
    let stream = futures_util::stream::once(async move { Ok::<_, Infallible>(bytes) });
    let mut multipart = multer::Multipart::new(stream, boundary);
    let (mut values, mut file) = (Map::new(), None);
    while let Some(field) = multipart.next_field().await.map_err(refuse)? {
        let Disposition { name, file: is_file } = Disposition::of(field.headers());
        if is_file.is_some() {
            let bytes = field.bytes().await.map_err(refuse)?;
            file.get_or_insert(bytes);
        } else if !name.is_empty() && values.len() < FIELDS_MAX {
            values.insert(name, Value::String(field.text().await.map_err(refuse)?));
        }
    }
    Ok((Fields { values, errors: BTreeMap::new(), body: Bytes::new(), is_json: false, list_bytes: 0 }, file))
}

impl Fields {
    #[cfg(test)]
    fn of(value: Value) -> Fields {
        let Value::Object(values) = value else { panic!("an object") };
        Fields { values, errors: BTreeMap::new(), body: Bytes::new(), is_json: false, list_bytes: 0 }
    }

    /// A required text.
    pub fn required(&mut self, name: &'static str, rule: Text) -> Option<String> {
        match self.values.get(name) {
            None => {
                self.refuse(name, "This field is required.");
                None
            }
            Some(Value::Null) => {
                self.refuse(name, "This field may not be null.");
                None
            }
            Some(_) => self.text(name, rule),
        }
    }

    /// A text that may be absent or empty; null and absent are the same.
    pub fn optional(&mut self, name: &'static str, rule: Text) -> Option<String> {
        match self.values.get(name)? {
            Value::Null => None,
            Value::String(text) if text.trim().is_empty() => Some(String::new()),
            _ => self.text(name, rule),
        }
    }

    /// A required text that is not trimmed, such as a password. The domain checks its length.
    pub fn required_as_typed(&mut self, name: &'static str) -> Option<String> {
        match self.values.get(name) {
            Some(Value::String(text)) if !text.is_empty() && !text.contains('\0') => Some(text.clone()),
            _ => self.required(name, Text { chars_max: usize::MAX }),
        }
    }

    /// Memory that the lists take at most, besides the body.
    pub(crate) fn list_bytes(&self) -> u64 {
        self.list_bytes
    }

    /// The raw value of a field, for rules that are not text. Of an object, or of what lies in a list's element, only
    /// the kind was kept.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// The body as received.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// An optional text. Missing, null and blank are the same.
    pub fn given(&mut self, name: &'static str, rule: Text) -> Option<String> {
        match self.values.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.trim().is_empty() => None,
            Some(_) => self.text(name, rule),
        }
    }

    /// `true` or `false`, also as the texts that forms send; `default` when absent, null or blank.
    pub fn flag(&mut self, name: &'static str, default: bool) -> bool {
        let flag = match self.values.get(name) {
            None | Some(Value::Null) => return default,
            Some(Value::Bool(flag)) => return *flag,
            Some(Value::String(text)) => match text.trim().to_ascii_lowercase().as_str() {
                "" => Some(default),
                "true" | "1" | "on" => Some(true),
                "false" | "0" | "off" => Some(false),
                _ => None,
            },
            Some(_) => None,
        };
        flag.unwrap_or_else(|| {
            self.refuse(name, "Must be a valid boolean.");
            default
        })
    }

    /// A number in the characters the client wrote, before any parser could round it; or a text. Absent and null are
    /// `None`; other values yield an empty text, which is not a number.
    pub fn number_text(&self, name: &str) -> Option<String> {
        match self.values.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            Value::Number(_) if self.is_json => {
                Some(raw_number(&self.body, name).unwrap_or_default().to_owned())
            }
            _ => Some(String::new()),
        }
    }

    /// The whole body, for commands that check it themselves. What lies deeper than a list's elements is left out.
    pub fn into_object(self) -> Value {
        Value::Object(self.values)
    }

    /// Records a field error; [`Fields::finish`] reports it.
    pub fn refuse(&mut self, name: &'static str, text: impl Into<String>) {
        self.errors.entry(name).or_default().push(text.into());
    }

    /// The values of required fields, all present. Fails with every error recorded so far.
    pub(crate) fn all<T: AllGiven>(&mut self, values: T) -> Result<T::Values, Failure> {
        self.finish()?;
        values.all().ok_or_else(|| Failure::fields(BTreeMap::new()))
    }

    /// Fails with every error recorded so far.
    pub fn finish(&mut self) -> Result<(), Failure> {
        if self.errors.is_empty() { Ok(()) } else { Err(Failure::fields(std::mem::take(&mut self.errors))) }
    }

    fn text(&mut self, name: &'static str, rule: Text) -> Option<String> {
        let text = match self.values.get(name)? {
            Value::String(text) => text.trim().to_owned(),
            // In its own characters: a parser would round what exceeds 64 bits.
            Value::Number(number) => match raw_number(&self.body, name).filter(|_| self.is_json) {
                Some(digits) => digits.to_owned(),
                None => number.to_string(),
            },
            _ => {
                self.refuse(name, "Not a valid string.");
                return None;
            }
        };
        if text.is_empty() {
            self.refuse(name, "This field may not be blank.");
        } else if text.contains('\0') {
            self.refuse(name, "Null characters are not allowed.");
        } else if text.chars().count() > rule.chars_max {
            self.refuse(name, format!("Ensure this field has no more than {} characters.", rule.chars_max));
        } else {
            return Some(text);
        }
        None
    }
}

/// Values of required fields. The reader of a missing field has already recorded an error.
pub(crate) trait AllGiven {
    type Values;

    fn all(self) -> Option<Self::Values>;
}

impl<A> AllGiven for Option<A> {
    type Values = A;

    fn all(self) -> Option<A> {
        self
    }
}

impl<A, B> AllGiven for (Option<A>, Option<B>) {
    type Values = (A, B);

    fn all(self) -> Option<(A, B)> {
        Some((self.0?, self.1?))
    }
}

impl<A, B, C> AllGiven for (Option<A>, Option<B>, Option<C>) {
    type Values = (A, B, C);

    fn all(self) -> Option<(A, B, C)> {
        Some((self.0?, self.1?, self.2?))
    }
}

/// The characters of a number under a top-level key of a well-formed JSON object; the last one for a duplicate key,
/// as in the parser.
fn raw_number<'a>(body: &'a [u8], wanted: &str) -> Option<&'a str> {
    let (mut at, mut depth, mut key, mut found) = (0, 0u32, None, None);
    while let Some(&byte) = body.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b',' => key = None,
            b'"' => {
                while *body.get(at)? != b'"' {
                    at += if body[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
                if depth == 1 && key.is_none() {
                    key = serde_json::from_slice::<String>(body.get(start..at)?).ok();
                }
            }
            b'-' | b'0'..=b'9' => {
                while body.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)) {
                    at += 1;
                }
                if depth == 1 && key.as_deref() == Some(wanted) {
                    found = std::str::from_utf8(&body[start..at]).ok();
                }
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SHORT: Text = Text { chars_max: 5 };

    fn error(value: Value) -> String {
        let mut fields = Fields::of(value);
        assert_eq!(fields.required("a", SHORT), None);
        let failure = fields.finish().expect_err("refused");
        assert_eq!(failure.status, StatusCode::BAD_REQUEST);
        String::from_utf8(failure.into_reply("r").body.to_vec()).expect("JSON is UTF-8")
    }

    #[test]
    fn field_errors_use_the_words_of_the_original() {
        assert_eq!(error(json!({})), r#"{"a":["This field is required."]}"#);
        assert_eq!(error(json!({"a": null})), r#"{"a":["This field may not be null."]}"#);
        assert_eq!(error(json!({"a": "  "})), r#"{"a":["This field may not be blank."]}"#);
        assert_eq!(error(json!({"a": true})), r#"{"a":["Not a valid string."]}"#);
        assert_eq!(error(json!({"a": {"b": 1}})), r#"{"a":["Not a valid string."]}"#);
        assert_eq!(
            error(json!({"a": "123456"})),
            r#"{"a":["Ensure this field has no more than 5 characters."]}"#
        );
        assert_eq!(error(json!({"a": "1\u{0}"})), r#"{"a":["Null characters are not allowed."]}"#);
    }

    #[tokio::test]
    async fn a_long_number_keeps_its_digits_and_a_byte_order_mark_is_no_error() {
        let long = Text { chars_max: 64 };
        for digits in ["9007199254740993", "18446744073709551617", "123456789012345678901234567890", "1.10"] {
            let body = format!("\u{feff}{{\"x\":1,\"order_id\":{digits}}}");
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, "application/json".parse().expect("a header value"));
            let mut fields = parse(&headers, body.into()).await.expect("parsed");
            assert_eq!(fields.given("order_id", long).as_deref(), Some(digits));
        }
    }

    #[test]
    fn numbers_are_their_digits_and_text_is_trimmed() {
        let mut fields = Fields::of(json!({"a": 12345, "b": " 12345 "}));
        assert_eq!(fields.required("a", SHORT).as_deref(), Some("12345"));
        assert_eq!(fields.required("b", SHORT).as_deref(), Some("12345"));
        assert!(fields.finish().is_ok());
    }

    async fn parsed(content_type: &'static str, body: &'static str) -> Result<Fields, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().expect("a header value"));
        parse(&headers, Bytes::from(body)).await
    }

    #[test]
    fn a_number_is_found_as_it_was_written() {
        let raw = |body: &'static str| raw_number(body.as_bytes(), "amount");
        assert_eq!(raw(r#"{"amount":1000.50000000000000000001}"#), Some("1000.50000000000000000001"));
        assert_eq!(raw(r#" { "x" : "amount" , "amount" : 1e3 } "#), Some("1e3"));
        assert_eq!(raw(r#"{"a":{"amount":1},"b":[{"amount":2}],"\u0061mount":-3}"#), Some("-3"));
        assert_eq!(raw(r#"{"amount":1,"amount":2}"#), Some("2"));
        assert_eq!(
            raw(r#"{"a\"":"\\\"amount\":9,","amount":18446744073709551616}"#),
            Some("18446744073709551616")
        );
        assert_eq!(raw(r#"{"x":"amount"}"#), None);
        assert_eq!(raw(r#"{"amount":"7"}"#), None);
    }

    #[tokio::test]
    async fn a_hostile_body_leaves_its_fields_and_the_same_errors() {
        let count = 1024 * 1024 / r#"{"":0},"#.len();
        let body =
            format!(r#"{{"a":{{"b":[{}]}},"c":[{{"d":1}}],"e":"p"}}"#, vec![r#"{"":0}"#; count].join(","));
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, "application/json".parse().expect("a header value"));
        let mut fields = parse(&headers, body.into()).await.expect("parsed");
        assert_eq!(fields.required("e", SHORT).as_deref(), Some("p"));
        assert_eq!((fields.required("a", SHORT), fields.required("c", SHORT)), (None, None));
        let failure = fields.finish().expect_err("refused").into_reply("r");
        let errors = r#"{"a":["Not a valid string."],"c":["Not a valid string."]}"#;
        assert_eq!(String::from_utf8_lossy(&failure.body), errors);
        assert_eq!(fields.into_object(), json!({"a": {}, "c": [{}], "e": "p"}));
    }

    #[tokio::test]
    async fn json_form_and_multipart_are_read_alike() {
        let multipart = "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1 2\r\n--x--\r\n";
        for (content_type, body) in [
            ("application/json; charset=utf-8", r#"{"a":"1 2"}"#),
            ("application/x-www-form-urlencoded", "a=1+2"),
            ("multipart/form-data; boundary=x", multipart),
        ] {
            let mut fields = parsed(content_type, body).await.expect("parsed");
            assert_eq!(fields.required("a", SHORT).as_deref(), Some("1 2"), "{content_type}");
        }
    }

    #[tokio::test]
    async fn bodies_that_cannot_be_read_say_why() {
        for (content_type, body, status, code) in [
            ("text/xml", "<a/>", 415, "unsupported_media_type"),
            ("application/json", "{\"a\": ", 400, "parse_error"),
            ("application/json", "[1]", 400, "invalid_fields"),
            ("multipart/form-data", "x", 400, "parse_error"),
            ("multipart/form-data; boundary=x", "--x\r\nbroken", 400, "parse_error"),
        ] {
            let failure = parsed(content_type, body).await.expect_err("refused");
            assert_eq!((failure.status.as_u16(), failure.code), (status, code), "{content_type} {body}");
        }
    }
}
