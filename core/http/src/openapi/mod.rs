//! The OpenAPI 3.1 document of every route, made from the rows beside the handlers.
//!
//! The codes of errors come from the page that explains them (`core/http/ERRORS.md`).
//! Shared shapes of answers are in each feature's `shapes`, built from the helpers in `shape`. Frames of sockets are in
//! an AsyncAPI document (`frames`), because OpenAPI cannot describe them; `page` shows both to people. Not here:
//! validation (the handlers decide).

mod codes;
mod document;
mod frames;
mod page;
pub(crate) mod shape;

use chelseru_config::Server;

use crate::operator::{Documents, Texts};

pub use document::{Audience, document};
pub use frames::asyncapi;

/// The documents of a gateway with this configuration.
#[must_use]
pub fn documents(server: &Server) -> Documents {
    let server = server.clone();
    Documents::begin(move || {
        let (openapi, asyncapi) = (document(&server, Audience::Clients), asyncapi(&server));
        let page = page::page(&openapi, &asyncapi).into();
        let page_policy = page::policy();
        Texts {
            openapi: openapi.to_string().into(),
            asyncapi: asyncapi.to_string().into(),
            page,
            page_policy,
        }
    })
}
