//! Replies, and failures in the original's shapes.
//!
//! The original has four shapes of error body: `{"detail": ..}`, `{"error": ..}`, `{"details": ..}` and field errors
//! `{"field": ["..", ..]}`. They stay. Every failure also carries a stable code and the request id: always as the
//! headers `X-Error-Code` and `X-Request-Id`, and as `code` and `request_id` in the body of every shape except field
//! errors, where such keys could be mistaken for fields (`code` *is* a field of `authenticate/`).
//!
//! Handlers translate domain errors to statuses, once per route.

use std::collections::BTreeMap;

use bytes::Bytes;
use chelseru_domain::language::Language;
use chelseru_domain::rate::{Exhausted, Left, Rate};
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::reply_body::{FileBody, ReplyBody};

/// A reply before the headers common to every response.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
    /// Sent instead of `body`.
    pub file: Option<Box<FileBody>>,
    /// Sent instead of `body`, until its sender is dropped.
    pub stream: Option<mpsc::Receiver<Bytes>>,
}

/// Bytes of a reply that is a sentence.
const SENTENCE_BYTES_MAX: usize = 1024;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

impl Reply {
    /// A JSON body. A value that cannot be serialized is a defect and answers 500.
    pub fn json(status: StatusCode, value: &impl Serialize) -> Reply {
        match serde_json::to_vec(value) {
            Ok(body) => {
                let headers = vec![(header::CONTENT_TYPE, JSON)];
                Reply { headers, body: body.into(), ..Reply::bare(status) }
            }
            Err(_) => Reply::bare(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    pub fn text(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
        let content_type = HeaderValue::from_static(content_type);
        Reply {
            headers: vec![(header::CONTENT_TYPE, content_type)],
            body: body.into(),
            ..Reply::bare(status)
        }
    }

    /// A status and no body.
    pub fn bare(status: StatusCode) -> Reply {
        Reply { status, headers: Vec::new(), body: Bytes::new(), file: None, stream: None }
    }

    /// A body that is sent as it comes.
    pub fn stream(status: StatusCode, content_type: HeaderValue, stream: mpsc::Receiver<Bytes>) -> Reply {
        let headers = vec![(header::CONTENT_TYPE, content_type)];
        Reply { headers, stream: Some(stream), ..Reply::bare(status) }
    }

    /// With what is left of an allowance.
    #[must_use]
    pub fn with_left(mut self, left: Left) -> Reply {
        self.headers.extend(rate_headers(left.rate, left.amount, whole_seconds(left.renewed_in)));
        self
    }

    /// 204 without a body or content type.
    pub fn empty() -> Reply {
        Reply::bare(StatusCode::NO_CONTENT)
    }

    /// 301 to a path on this host.
    pub fn moved(location: &str) -> Reply {
        let headers = HeaderValue::from_str(location).map(|value| vec![(header::LOCATION, value)]);
        Reply { headers: headers.unwrap_or_default(), ..Reply::bare(StatusCode::MOVED_PERMANENTLY) }
    }

    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Reply {
        self.headers.push((name, value));
        self
    }

    /// With the sentence of a success, `{"details": ...}`, in a language.
    #[must_use]
    pub fn in_language(mut self, language: Language) -> Reply {
        // Long bodies are no sentences.
        if self.body.len() > SENTENCE_BYTES_MAX || !self.body.starts_with(b"{\"details\":\"") {
            return self;
        }
        let Ok(mut body) = serde_json::from_slice::<Value>(&self.body) else { return self };
        let Some(sentence) = body["details"].as_str().and_then(|text| language.phrase(text)) else {
            return self;
        };
        body["details"] = sentence.into();
        self.body = body.to_string().into();
        self.with(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()))
    }

    /// Adds the headers common to every response.
    pub fn into_response(self, request_id: &str) -> Response<ReplyBody> {
        let body = match (self.file, self.stream) {
            (None, None) => ReplyBody::whole(self.body),
            (Some(file), _) => ReplyBody::File(file),
            (None, Some(stream)) => ReplyBody::Stream(stream),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.reserve(self.headers.len() + 6);
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("same-origin"));
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(REQUEST_ID, id);
        }
        response
    }
}

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");

/// Source: draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4, 2025-09-27.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// An allowance and what is left of it.
fn rate_headers(rate: Rate, left: u64, seconds: u64) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let policy = format!("\"{}\";q={};w={}", rate.name, rate.max, rate.span.as_secs());
    let policy = HeaderValue::from_str(&policy).ok().map(|policy| (RATE_LIMIT_POLICY, policy));
    policy.into_iter().chain(rate_limit(rate.name, left, seconds))
}

/// What is left, without the allowance: where only its end may be known.
fn rate_limit(name: &str, left: u64, seconds: u64) -> Option<(HeaderName, HeaderValue)> {
    let text = format!("\"{name}\";r={left};t={seconds}");
    HeaderValue::from_str(&text).ok().map(|limit| (RATE_LIMIT, limit))
}

/// A request that failed.
#[derive(Debug)]
pub struct Failure {
    pub status: StatusCode,
    /// Stable, for programs.
    pub code: &'static str,
    shape: Shape,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Debug)]
enum Shape {
    /// One text under the given key: `detail`, `error` or `details`.
    Text(&'static str, String),
    Fields(BTreeMap<&'static str, Vec<String>>),
    Object(Map<String, Value>),
    /// `[text]`, as the original's own field rules answer.
    List(String),
}

impl Failure {
    /// `{"detail": text}`: the shape of the original's framework.
    pub fn detail(status: StatusCode, code: &'static str, text: impl Into<String>) -> Failure {
        Failure { status, code, shape: Shape::Text("detail", text.into()), headers: Vec::new() }
    }

    /// `{"error": text}`.
    pub fn error(status: StatusCode, code: &'static str, text: impl Into<String>) -> Failure {
        Failure { status, code, shape: Shape::Text("error", text.into()), headers: Vec::new() }
    }

    /// `{"details": text}`.
    pub fn details(status: StatusCode, code: &'static str, text: impl Into<String>) -> Failure {
        Failure { status, code, shape: Shape::Text("details", text.into()), headers: Vec::new() }
    }

    /// 400 with `{field: [text, ..]}`.
    pub fn fields(fields: BTreeMap<&'static str, Vec<String>>) -> Failure {
        Failure {
            status: StatusCode::BAD_REQUEST,
            code: "invalid_fields",
            shape: Shape::Fields(fields),
            headers: Vec::new(),
        }
    }

    pub fn field(name: &'static str, text: impl Into<String>) -> Failure {
        Failure::fields(BTreeMap::from([(name, vec![text.into()])]))
    }

    /// An object of its own.
    pub fn object(status: StatusCode, code: &'static str, object: Value) -> Failure {
        let object = match object {
            Value::Object(map) => map,
            other => Map::from_iter([("details".to_owned(), other)]),
        };
        Failure { status, code, shape: Shape::Object(object), headers: Vec::new() }
    }

    /// `[text]`.
    pub fn list(status: StatusCode, code: &'static str, text: impl Into<String>) -> Failure {
        Failure { status, code, shape: Shape::List(text.into()), headers: Vec::new() }
    }

    /// 503: a write failed; nothing is served until the gateway restarts.
    pub fn store_failed() -> Failure {
        let text = "The gateway cannot store anything at the moment.";
        Failure::detail(StatusCode::SERVICE_UNAVAILABLE, "store_failed", text)
    }

    /// 503: the disk does not answer.
    pub fn store_stalled() -> Failure {
        let text = "The gateway cannot store anything at the moment.";
        Failure::detail(StatusCode::SERVICE_UNAVAILABLE, "store_stalled", text).retry_after(10)
    }

    /// 503: the database server does not answer.
    pub fn store_away() -> Failure {
        let text = "The gateway cannot reach its database at the moment.";
        Failure::detail(StatusCode::SERVICE_UNAVAILABLE, "store_away", text).retry_after(5)
    }

    /// 503: too many changes wait for the disk; nothing was changed.
    pub fn store_busy() -> Failure {
        let text = "Too many requests are waiting for the store; try again.";
        Failure::detail(StatusCode::SERVICE_UNAVAILABLE, "busy", text).retry_after(1)
    }

    /// 507: the disk is nearly full.
    pub fn storage_full() -> Failure {
        let text = "There is not enough storage space at the moment.";
        Failure::detail(StatusCode::INSUFFICIENT_STORAGE, "storage_full", text).retry_after(60)
    }

    /// 500 without the cause, which is in the log.
    pub fn internal() -> Failure {
        Failure::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "An internal server error occurred.",
        )
    }

    /// 401 with the text of the original's token library.
    pub fn token(message: &str) -> Failure {
        Failure::object(
            StatusCode::UNAUTHORIZED,
            "token_not_valid",
            json!({
                "detail": "Given token not valid for any token type",
                "messages": [{"token_class": "AccessToken", "token_type": "access", "message": message}],
            }),
        )
        .challenge()
    }

    /// Adds `WWW-Authenticate`.
    #[must_use]
    pub fn challenge(mut self) -> Failure {
        self.headers.push((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"api\"")));
        self
    }

    /// When a retry can help. A 429 says so in `RateLimit`, too.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Failure {
        self.headers.push((header::RETRY_AFTER, HeaderValue::from(seconds)));
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            self.headers.extend(rate_limit(self.code, 0, seconds));
        }
        self
    }

    /// With the allowance that is used up, and when it is renewed.
    #[must_use]
    pub fn exhausted(mut self, exhausted: Exhausted) -> Failure {
        let seconds = whole_seconds(exhausted.retry_after);
        self.headers.push((header::RETRY_AFTER, HeaderValue::from(seconds)));
        self.headers.extend(rate_headers(exhausted.rate, 0, seconds));
        self
    }

    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Failure {
        self.headers.push((name, value));
        self
    }

    /// With its sentences in a language. Codes, fields and values stay.
    #[must_use]
    pub fn in_language(mut self, language: Language) -> Failure {
        let code = self.code;
        let translate = |text: &mut String| {
            if let Some(sentence) = language.sentence(code, text) {
                *text = sentence.into_owned();
            }
        };
        match &mut self.shape {
            Shape::Text(_, text) | Shape::List(text) => translate(text),
            Shape::Object(object) => {
                for key in ["detail", "error", "details"] {
                    if let Some(Value::String(text)) = object.get_mut(key) {
                        translate(text);
                    }
                }
            }
            Shape::Fields(fields) => {
                for text in fields.values_mut().flatten() {
                    if let Some(sentence) = language.field_sentence(text) {
                        *text = sentence;
                    }
                }
            }
        }
        self.with(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()))
    }

    pub fn into_reply(self, request_id: &str) -> Reply {
        let identify = |object: &mut Map<String, Value>| {
            object.entry("code").or_insert_with(|| self.code.into());
            object.entry("request_id").or_insert_with(|| request_id.into());
        };
        let mut reply = match self.shape {
            Shape::Text(key, text) => {
                let mut object = Map::from_iter([(key.to_owned(), Value::from(text))]);
                identify(&mut object);
                Reply::json(self.status, &object)
            }
            Shape::Object(mut object) => {
                identify(&mut object);
                Reply::json(self.status, &object)
            }
            Shape::Fields(fields) => Reply::json(self.status, &fields),
            Shape::List(text) => Reply::json(self.status, &[text]),
        };
        reply.headers.extend(self.headers);
        reply.with(ERROR_CODE, HeaderValue::from_static(self.code))
    }
}

/// An error's text as a sentence: capitalised, with a full stop.
pub(crate) fn sentence(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let stop = if text.ends_with('.') { "" } else { "." };
    format!("{first}{}{stop}", chars.as_str())
}

/// Seconds of a wait for `Retry-After`, rounded up, at least 1.
pub(crate) fn whole_seconds(wait: std::time::Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_become_sentences() {
        assert_eq!(sentence(&"the number is too short"), "The number is too short.");
        assert_eq!(sentence(&""), ".");
    }
}
