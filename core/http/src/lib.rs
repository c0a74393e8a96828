//! HTTP: the only crate that knows requests and replies.
//!
//! [`Api::handle`](api::Api::handle) shows the life of a request: id, route, content negotiation, credentials,
//! permission, method, body, handler, headers, log. A handler gets two things: its feature's slice of the serving
//! [`Generation`], and the [`Request`](request::Request). It never sees the application, the store or a plugin.
//! A route is one row beside its handlers: the router, `OPTIONS`, `Allow` and the OpenAPI document come from the rows.
//!
//! Rules belong to `chelseru-domain`; a handler turns fields into domain types, and domain errors into statuses.
//! Sockets belong to `chelseru-sockets`, after the handshake. Invariant: one request sees one generation.
//!
//! Reading order: `api`, `route`, `request`, `generation`, then a feature folder, such as `money`.

pub mod api;
mod cors;
pub mod descriptors;
mod drain;
mod negotiation;
mod request_id;
pub mod server;
mod timed;

mod route;
mod router;
mod routes;

mod request;

mod body;
mod csv;
mod disposition;
pub mod fields;
mod flat;
pub mod reply;
mod reply_body;

mod key;
mod page;
pub mod proxy;
mod pushed;
mod staff;

mod generation;

pub mod login;

pub mod sms;

pub mod money;

pub mod chat;

pub mod files;

pub mod operator;

pub mod personal;

pub mod console;

pub mod openapi;

pub use api::Api;
pub use generation::{Generation, Generations};
pub use request::{Addresses, Door, reachable};
