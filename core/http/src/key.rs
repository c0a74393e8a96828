//! Idempotency keys: one rule for the header, and one answer for each thing that can be wrong with a key.

use http::StatusCode;
use http::header::HeaderName;

use crate::reply::Failure;
use crate::request::Context;
use crate::route::{Field, Is};

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// Characters of a key.
const CHARS_MAX: usize = 255;

/// The header, of every route that takes it.
pub(crate) const IDEMPOTENCY_KEY: Field = Field(
    "Idempotency-Key",
    Is::Header,
    "The same key and body get the first answer; another body 422; while it runs 409. Kept 24 h.",
);

/// The request's key, if it has one.
///
/// # Errors
///
/// 400 when there are several, or one that is not 1 to 255 visible ASCII characters.
pub(crate) fn idempotency_key(context: &Context) -> Result<Option<String>, Failure> {
    let mut values = context.head.headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let fits = |text: &&str| {
        (1..=CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match (value.to_str().ok().filter(fits), values.next()) {
        (Some(key), None) => Ok(Some(key.to_owned())),
        _ => Err(Failure::detail(
            StatusCode::BAD_REQUEST,
            "idempotency_key_invalid",
            format!("Send exactly one Idempotency-Key of 1 to {CHARS_MAX} visible ASCII characters."),
        )),
    }
}

/// 422: the key stands for another request.
pub(crate) fn key_reused() -> Failure {
    Failure::detail(
        StatusCode::UNPROCESSABLE_ENTITY,
        "idempotency_key_reused",
        "This Idempotency-Key was used for another request.",
    )
}

/// 409: the first request with the key still runs.
pub(crate) fn key_running() -> Failure {
    Failure::detail(
        StatusCode::CONFLICT,
        "idempotency_running",
        "The request with this Idempotency-Key is still being carried out.",
    )
    .retry_after(1)
}
