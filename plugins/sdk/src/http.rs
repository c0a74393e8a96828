//! Requests to the provider and its answers.
//!
//! A [`Request`] is built in one expression and sent in one of three ways. [`Request::act`] is for what changes
//! something (making a payment): a request that may have been carried out becomes `unknown-outcome`, which
//! the gateway never repeats blindly. [`Request::hand_over`] is for a message, which another provider can carry as
//! well: a server that says it failed by itself ([`OWN_FAILURES`]) becomes `broke-down`. [`Request::ask`] is for
//! questions (status, credit): an unanswered question changed nothing and becomes `unavailable`.
//!
//! Error texts name the provider's host only. The URL's path and query are removed from what the gateway
//! reports, because some providers carry their API key there.

use std::borrow::Cow;

use crate::context::Context;
use crate::error::log_text;
use crate::json::Node;
use crate::{Error, encode};

pub use crate::wit::base::chelseru::provider::http::{
    Error as HttpError, Header, Method, Request as HttpRequest, Response as HttpResponse,
};

/// HTTP statuses by which the server itself says that it failed: 500, 501 and 503 (RFC 9110, 15.6). The other 5xx come
/// from a proxy, which does not know how far the server got.
pub const OWN_FAILURES: [u16; 3] = [500, 501, 503];

/// Whether an HTTP status alone says that the request was not carried out: a redirect, or a client error. HTTP 408 is
/// left out, because the server gave up while it read the request and does not say how far it got (RFC 9110, 15.4 and
/// 15.5).
#[must_use]
pub fn not_carried_out(status: u16) -> bool {
    (300..500).contains(&status) && status != 408
}

/// A request on its way to being sent.
#[derive(Debug, Clone)]
#[must_use = "a request does nothing until it is sent with `act`, `hand_over` or `ask`"]
pub struct Request {
    inner: HttpRequest,
}

impl Request {
    /// A GET request to an absolute URL.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::Get, url.into())
    }

    /// A POST request to an absolute URL.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new(Method::Post, url.into())
    }

    /// A request with any method, without headers or body.
    pub fn new(method: Method, url: String) -> Self {
        Self { inner: HttpRequest { method, url, headers: Vec::new(), body: Vec::new(), timeout_ms: None } }
    }

    /// Adds a header; the gateway refuses `host`, `content-length`, `connection` and `transfer-encoding`.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.inner.headers.push(Header { name: name.to_owned(), value: value.to_owned() });
        self
    }

    /// Appends form-encoded pairs to the URL's query.
    pub fn query(mut self, pairs: &[(&str, &str)]) -> Self {
        self.inner.url.push(if self.inner.url.contains('?') { '&' } else { '?' });
        self.inner.url.push_str(&encode::form(pairs));
        self
    }

    /// Sets a form body and its content type.
    pub fn form(self, pairs: &[(&str, &str)]) -> Self {
        let body = encode::form(pairs);
        self.body("application/x-www-form-urlencoded", body.into_bytes())
    }

    /// Sets a JSON body and its content type.
    pub fn json(self, object: crate::json::Object) -> Self {
        self.body("application/json", object.finish())
    }

    /// Sets the body and its content type.
    pub fn body(mut self, content_type: &str, body: Vec<u8>) -> Self {
        self.inner.body = body;
        self.header("content-type", content_type)
    }

    /// Milliseconds for the whole exchange; without it the `request_timeout_ms` setting applies.
    pub fn timeout_ms(mut self, timeout_ms: u32) -> Self {
        self.inner.timeout_ms = Some(timeout_ms);
        self
    }

    /// Sends a request that changes something at the provider.
    ///
    /// # Errors
    /// `misconfigured` (host not granted, URL or time-out unusable) and `unavailable` (no connection): nothing
    /// was sent. `unknown-outcome` (no whole answer, or one that is too large): it may have been carried out.
    pub fn act(self, context: &dyn Context) -> Result<Answer, Error> {
        self.send(context, Purpose::Act)
    }

    /// Sends a request that hands a message over to be sent.
    ///
    /// As [`Self::act`], but an answer that is unclear and whose HTTP status is one of [`OWN_FAILURES`] becomes
    /// `broke-down`, and the gateway asks the next provider: a code that comes twice is a lesser evil than one that
    /// never comes. A provider's own error in the body still goes first, if the plugin reads it.
    ///
    /// # Errors
    /// As [`Self::act`].
    pub fn hand_over(self, context: &dyn Context) -> Result<Answer, Error> {
        self.send(context, Purpose::HandOver)
    }

    /// Sends a request that only reads.
    ///
    /// # Errors
    /// As [`Self::act`], with `unavailable` in place of `unknown-outcome`.
    pub fn ask(self, context: &dyn Context) -> Result<Answer, Error> {
        self.send(context, Purpose::Ask)
    }

    fn send(mut self, context: &dyn Context, purpose: Purpose) -> Result<Answer, Error> {
        if self.inner.timeout_ms.is_none() {
            self.inner.timeout_ms = context.request_timeout_ms()?;
        }
        let url = self.inner.url.clone();
        match context.exchange(self.inner) {
            Ok(response) => Ok(Answer { response, purpose }),
            Err(error) => Err(failure(error, &url, purpose)),
        }
    }
}

/// Whether an unclear end may hide a deed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Act,
    HandOver,
    Ask,
}

impl Purpose {
    fn unclear(self, text: String) -> Error {
        match self {
            Self::Act | Self::HandOver => Error::UnknownOutcome(text),
            Self::Ask => Error::Unavailable(text),
        }
    }
}

/// The error for an exchange that brought no answer.
fn failure(error: HttpError, url: &str, purpose: Purpose) -> Error {
    let (host, secret) = split_authority(url);
    // A lone slash is no secret, and removing it would mangle every text.
    let clean = |text: String| if secret.len() > 1 { text.replace(secret, "/...") } else { text };
    let reached = |what: &str, reason: String| [host, what, &log_text(&clean(reason))].concat();
    // The host is from the operator's own setting, so it stays as it is (the log text would hide its port).
    match error {
        HttpError::NotGranted(_) => Error::Misconfigured(["host not granted: ", host].concat()),
        // The reason may quote any part of the request, in a form we cannot recognise.
        HttpError::InvalidRequest(_) => Error::Misconfigured(["invalid request to ", host].concat()),
        HttpError::NotSent(reason) => Error::Unavailable(reached(" not reached: ", reason)),
        HttpError::Unanswered(reason) => purpose.unclear(reached(" did not answer: ", reason)),
        HttpError::TooLarge(_) => purpose.unclear([host, " answered more than the gateway's limit"].concat()),
    }
}

/// Splits a URL into its host (with port) and everything after it.
fn split_authority(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    // User and password, if someone wrote them into the URL, are no part of the host.
    (authority.rsplit_once('@').map_or(authority, |(_, host)| host), after)
}

/// The provider's whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    response: HttpResponse,
    purpose: Purpose,
}

impl Answer {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.response.status
    }

    /// The HTTP status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.response.status)
    }

    /// The body as it came.
    pub fn body(&self) -> &[u8] {
        &self.response.body
    }

    /// The body as text, bytes that are not UTF-8 replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.response.body)
    }

    /// A header's first value; names are compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        Some(header.value.trim())
    }

    /// Seconds of a `Retry-After` header; the date form counts as absent.
    pub fn retry_after_secs(&self) -> Option<u32> {
        self.header("retry-after")?.parse().ok()
    }

    /// The body is a page for people: an error page, a captive portal, a maintenance notice.
    pub fn looks_like_html(&self) -> bool {
        let start = self.response.body.trim_ascii_start();
        start.first() == Some(&b'<') && !start.starts_with(b"<?xml")
    }

    /// Reads the body as JSON, whatever the HTTP status says. A byte order mark is skipped.
    ///
    /// # Errors
    /// [`Self::unclear`] when it is not JSON.
    pub fn json(&self) -> Result<Node<'_>, Error> {
        let body = self.response.body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&self.response.body);
        Node::parse(body).map_err(|_| self.unclear())
    }

    /// The error for an answer that is not the provider's own. The HTTP status decides: a redirect or a client error
    /// was not carried out ([`not_carried_out`]) and becomes `unauthorized` (401, 403, 407), `throttled` (429) or
    /// `unavailable`; [`OWN_FAILURES`] of a message become `broke-down`; anything else is `unknown-outcome` for
    /// [`Request::act`] and [`Request::hand_over`], `unavailable` for [`Request::ask`]. The text names the HTTP
    /// status and the kind of body, never the body.
    pub fn unclear(&self) -> Error {
        let kind = match self.response.body.trim_ascii() {
            [] => "an empty body",
            _ if self.looks_like_html() => "an HTML page",
            _ => "an unreadable body",
        };
        self.unclear_because(kind)
    }

    /// [`Self::unclear`] with the reason in words: "HTTP 200 with REASON".
    pub fn unclear_because(&self, reason: &str) -> Error {
        self.unclear_with(self.response.status, reason)
    }

    /// [`Self::unclear_because`] for a provider that puts a status of HTTP's kind into its answer; that status counts.
    pub fn unclear_with(&self, status: u16, reason: &str) -> Error {
        let text = ["HTTP ", &self.response.status.to_string(), " with ", &log_text(reason)].concat();
        match status {
            401 | 403 | 407 => Error::unauthorized(status, &text),
            429 => Error::Throttled(self.retry_after_secs()),
            status if not_carried_out(status) => Error::Unavailable(text),
            status if self.purpose == Purpose::HandOver && OWN_FAILURES.contains(&status) => {
                Error::BrokeDown(text)
            }
            _ => self.purpose.unclear(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Script;

    const URL: &str = "https://user:pw@api.example:8443/v1/KEY/send?token=T";

    fn outcome(error: HttpError, ask: bool) -> Error {
        let script = Script::new().fail(error);
        let request = Request::get(URL);
        let result = if ask { request.ask(&script) } else { request.act(&script) };
        result.expect_err("the exchange failed")
    }

    #[test]
    fn each_failed_exchange_says_whether_something_was_done() {
        let quoted = || format!("error for {URL}: refused");
        let cleaned = "error for https://user:pw@api.example:#/...: refused";
        assert_eq!(
            outcome(HttpError::NotGranted(quoted()), false),
            Error::Misconfigured("host not granted: api.example:8443".to_owned())
        );
        assert_eq!(
            outcome(HttpError::InvalidRequest(quoted()), false),
            Error::Misconfigured("invalid request to api.example:8443".to_owned())
        );
        let not_sent = outcome(HttpError::NotSent(quoted()), false);
        assert_eq!(not_sent, Error::Unavailable(format!("api.example:8443 not reached: {cleaned}")));
        let unanswered = outcome(HttpError::Unanswered(quoted()), false);
        assert_eq!(unanswered, Error::UnknownOutcome(format!("api.example:8443 did not answer: {cleaned}")));
        assert!(matches!(outcome(HttpError::TooLarge(1), false), Error::UnknownOutcome(_)));
        assert!(matches!(outcome(HttpError::Unanswered(quoted()), true), Error::Unavailable(_)));
        assert!(matches!(outcome(HttpError::TooLarge(1), true), Error::Unavailable(_)));
    }

    #[test]
    fn no_error_text_holds_the_path_or_query() {
        for error in
            [HttpError::NotGranted, HttpError::InvalidRequest, HttpError::NotSent, HttpError::Unanswered]
        {
            for text in [URL, "/v1/KEY/send?token=T"] {
                let shown = format!("{:?}", outcome(error(text.to_owned()), false));
                assert!(!shown.contains("KEY") && !shown.contains("token=T"), "{shown}");
            }
        }
    }

    #[test]
    fn the_timeout_is_the_requests_own_or_the_setting() {
        let script = Script::new().setting("request_timeout_ms", "700").reply(200, "").reply(200, "");
        Request::get(URL).act(&script).expect("answered");
        Request::get(URL).timeout_ms(5).act(&script).expect("answered");
        let timeouts: Vec<_> = script.requests().iter().map(|request| request.timeout_ms).collect();
        assert_eq!(timeouts, [Some(700), Some(5)]);
    }

    #[test]
    fn query_form_and_json_are_encoded_and_typed() {
        let script = Script::new().reply(200, "").reply(200, "").reply(200, "");
        Request::get("http://a/b")
            .query(&[("a", "1 2")])
            .query(&[("b", "&")])
            .act(&script)
            .expect("answered");
        Request::post("http://a").form(&[("k", "+")]).act(&script).expect("answered");
        let object = crate::json::Object::new().text("to", "0912");
        Request::post("http://a").json(object).act(&script).expect("answered");
        let requests = script.requests();
        assert_eq!(requests[0].url, "http://a/b?a=1+2&b=%26");
        assert_eq!(requests[1].body, b"k=%2B");
        assert_eq!(requests[1].headers[0].value, "application/x-www-form-urlencoded");
        assert_eq!(requests[2].body, br#"{"to":"0912"}"#);
    }

    #[test]
    fn unreadable_answers_are_named_by_status_and_kind() {
        for (body, kind) in [
            ("", "an empty body"),
            (" \n", "an empty body"),
            ("  <html>oops 1234567</html>", "an HTML page"),
            ("<?xml version=\"1.0\"?><a/>", "an unreadable body"),
            ("{", "an unreadable body"),
        ] {
            let answer = Request::get(URL).act(&Script::new().reply(502, body)).expect("answered");
            let error = answer.json().expect_err("not JSON");
            assert_eq!(error, Error::unknown_outcome(&format!("HTTP 502 with {kind}")));
            let asked = Request::get(URL).ask(&Script::new().reply(502, body)).expect("answered");
            assert!(matches!(asked.unclear(), Error::Unavailable(_)));
        }
    }

    #[test]
    fn a_redirect_or_a_client_error_of_a_proxy_was_not_carried_out() {
        let page = |status: u16| Script::new().reply(status, "<html>");
        for status in (300..500).filter(|status| *status != 408) {
            let unclear = [
                Request::post(URL).act(&page(status)),
                Request::post(URL).hand_over(&page(status)),
                Request::post(URL).ask(&page(status)),
            ]
            .map(|answer| answer.expect("answered").unclear());
            for error in unclear {
                match status {
                    401 | 403 | 407 => {
                        assert!(matches!(&error, Error::Unauthorized(r) if r.code == status.to_string()))
                    }
                    429 => assert_eq!(error, Error::Throttled(None)),
                    _ => assert_eq!(error, Error::Unavailable(format!("HTTP {status} with an HTML page"))),
                }
            }
        }
        let gave_up = Request::post(URL).hand_over(&page(408)).expect("answered").unclear();
        assert!(matches!(gave_up, Error::UnknownOutcome(_)));
    }

    #[test]
    fn only_a_messages_server_that_says_it_failed_lets_another_provider_try() {
        for status in [200, 408, 500, 501, 502, 503, 504, 520] {
            let script = || Script::new().reply(status, "<html>");
            let handed_over = Request::post(URL).hand_over(&script()).expect("answered").unclear();
            let own = matches!(status, 500 | 501 | 503);
            assert_eq!(matches!(handed_over, Error::BrokeDown(_)), own, "{status}");
            assert_eq!(matches!(handed_over, Error::UnknownOutcome(_)), !own, "{status}");
            let deed = Request::post(URL).act(&script()).expect("answered").unclear();
            assert!(matches!(deed, Error::UnknownOutcome(_)), "{status}");
        }
        let unanswered = Script::new().fail(HttpError::Unanswered("timed out".into()));
        assert!(matches!(Request::post(URL).hand_over(&unanswered), Err(Error::UnknownOutcome(_))));
    }

    #[test]
    fn a_byte_order_mark_and_headers_of_any_case_are_read() {
        let script = Script::new().respond(HttpResponse {
            status: 200,
            headers: vec![Header { name: "RETRY-after".into(), value: " 7 ".into() }],
            body: b"\xEF\xBB\xBF{\"a\":1}".to_vec(),
        });
        let answer = Request::get(URL).act(&script).expect("answered");
        assert_eq!(answer.retry_after_secs(), Some(7));
        assert_eq!(answer.json().map(|node| node.get("a").integer()), Ok(Some(1)));
    }
}
