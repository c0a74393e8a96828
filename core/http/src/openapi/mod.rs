//! The OpenAPI 3.1 document of every route, made from the rows beside the handlers.
//!
//! The codes of errors come from the page that explains them (`core/http/ERRORS.md`).
//! Shared shapes of answers are in each feature's `shapes`, built from the helpers in `shape`. Sockets have a page of
//! their own (`CHAT.md`), because OpenAPI cannot describe frames. Not here: validation (the handlers decide).

mod codes;
mod document;
pub(crate) mod shape;

pub use document::{Audience, document};
