//! Checks before a handler runs: reply format and caller.

use chelseru_domain::login::identity::{Caller, Identity};
use http::request::Parts;
use http::{StatusCode, header};

use crate::login::failure::token_failure;
use crate::login::input::client_info;
use crate::reply::Failure;
use crate::request::{Context, header_text, not_found};

/// Checks that the client accepts JSON, the only format of replies. As in the original, an `Accept` that excludes it
/// answers 406 and an unknown `?format=` 404. A browser's `text/html` gets JSON, too: there is no browsable page.
pub(crate) fn negotiate(head: &Parts) -> Result<(), Failure> {
    let query = head.uri.query().unwrap_or("");
    if !query.is_empty() {
        let format = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "format");
        if format.is_some_and(|(_, value)| value != "json" && value != "api") {
            return Err(not_found());
        }
    }
    let mut accepts = head.headers.get_all(header::ACCEPT).iter().peekable();
    if accepts.peek().is_none() {
        return Ok(());
    }
    let accepted =
        accepts.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|range| {
            let essence = range.split(';').next().unwrap_or("").trim();
            ["*/*", "application/*", "application/json", "text/html", "text/*", "text/plain", ""]
                .contains(&essence)
        });
    if accepted {
        return Ok(());
    }
    let text = "Could not satisfy the request Accept header.";
    Err(Failure::detail(StatusCode::NOT_ACCEPTABLE, "not_acceptable", text))
}

/// The caller of `Authorization: Bearer`. As in the original, a bad token is refused on open routes, too, and the
/// scheme is case sensitive.
pub(crate) async fn credentials(identity: &Identity, context: &Context) -> Result<Option<Caller>, Failure> {
    let value = header_text(&context.head.headers, header::AUTHORIZATION);
    let mut words = value.split_ascii_whitespace();
    if words.next() != Some("Bearer") {
        return Ok(None);
    }
    let (Some(token), None) = (words.next(), words.next()) else {
        let text = "Authorization header must contain two space-delimited values";
        let status = StatusCode::UNAUTHORIZED;
        return Err(Failure::detail(status, "bad_authorization_header", text).challenge());
    };
    identity.bearer(token, || client_info(context)).await.map(Some).map_err(token_failure)
}
