//! Idempotency keys: one rule for the header, one answer for each failure.

use chelseru_domain::idempotency::IdempotencyKey;
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};

use crate::reply::{Failure, Reply};
use crate::request::Context;
use crate::route::{Field, Is};

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// On a reply that repeats an earlier one because of its key.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The header, of every route that takes it.
pub(crate) const IDEMPOTENCY_KEY: Field = Field(
    "Idempotency-Key",
    Is::Header,
    "A repeat with the same body gets the first answer and Idempotency-Replayed, another body 422, and 409 while the \
     first runs. A payment that the gateway did not take is tried again. Kept 24 h.",
);

/// The request's key, if it has one.
///
/// # Errors
///
/// 400 for several keys, or one that is not a key.
pub(crate) fn idempotency_key(context: &Context) -> Result<Option<IdempotencyKey>, Failure> {
    let values = context.head.headers.get_all(HEADER).iter().map(HeaderValue::as_bytes);
    IdempotencyKey::of(values).map_err(|invalid| {
        Failure::detail(StatusCode::BAD_REQUEST, "idempotency_key_invalid", invalid.to_string())
    })
}

/// Marks a reply as the repetition of an earlier one.
pub(crate) fn replayed(reply: Reply) -> Reply {
    reply.with(REPLAYED, HeaderValue::from_static("true"))
}

/// Marks a failure as the repetition of an earlier one.
pub(crate) fn replayed_failure(failure: Failure) -> Failure {
    failure.with(REPLAYED, HeaderValue::from_static("true"))
}

/// 422: the key was used for another request.
pub(crate) fn key_reused() -> Failure {
    Failure::detail(
        StatusCode::UNPROCESSABLE_ENTITY,
        "idempotency_key_reused",
        "This Idempotency-Key was used for another request.",
    )
}

/// 409: the first request with this key is still running.
pub(crate) fn key_running() -> Failure {
    Failure::detail(
        StatusCode::CONFLICT,
        "idempotency_running",
        "The request with this Idempotency-Key is still running.",
    )
    .retry_after(1)
}
