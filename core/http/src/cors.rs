//! Calls by web pages of other sites (CORS; Fetch standard, section 3.2, read 2026-11-27).
//!
//! A preflight asks on behalf of a page and brings no token, so it is answered before credentials, route and method:
//! the call itself then gets its own answer, which the page can read. Only the public listener admits pages. Invariant:
//! a page that is not listed in `server.origins` gets no header that lets it read an answer.

use chelseru_config::{Grant, Origins};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::reply::{Failure, Reply};
use crate::request::header_text;

/// Seconds for which a browser may remember a preflight. Chromium caps it at 7200.
const MAX_AGE_SECONDS: u64 = 7200;

/// All methods, so a page reads a 405, too.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// Headers of replies that a page may read, besides those that every page may.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "X-Error-Code, X-Request-Id, Retry-After, Location, ETag, Allow, WWW-Authenticate, Accept-Ranges, Content-Range, \
     Content-Disposition, Idempotency-Replayed, RateLimit, RateLimit-Policy, Tus-Resumable, Tus-Version, Tus-Extension, \
     Tus-Max-Size, Upload-Offset, Upload-Length, Upload-Metadata, Upload-Expires, Upload-File-Id",
);

/// Answers a preflight; `None` for any other request, and while no page is admitted.
pub(crate) fn preflight(origins: &Origins, head: &Parts) -> Option<Result<Reply, Failure>> {
    let headers = &head.headers;
    let asked = head.method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if !asked || origins.is_empty() {
        return None;
    }
    if origins.grant(header_text(headers, header::ORIGIN)).is_none() {
        let text = "Pages of this origin may not call; server.origins lists those that may.";
        return Some(Err(Failure::detail(StatusCode::FORBIDDEN, "origin_refused", text)));
    }
    let mut reply = Reply::empty()
        .with(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS)
        .with(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(MAX_AGE_SECONDS));
    // Libraries add headers for tracing; none of them is worth a page that fails.
    if let Some(wanted) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        reply = reply.with(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    Some(Ok(reply))
}

/// Lets the page that called read a reply.
pub(crate) fn admit(origins: &Origins, origin: Option<&HeaderValue>, reply: &mut HeaderMap) {
    if origins.is_empty() {
        return;
    }
    // Even without an origin: a cache must not give this reply to a page.
    reply.append(header::VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = origin else { return };
    let Some(grant) = origin.to_str().ok().and_then(|text| origins.grant(text)) else { return };
    let (allowed, credentials) = match grant {
        Grant::Named => (origin.clone(), true),
        Grant::Anybody => (HeaderValue::from_static("*"), false),
    };
    reply.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    if credentials {
        reply.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    reply.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}
