//! chelseru: a self-hosted, plugin-extensible gateway.
//!
//! This crate is the outermost: the only one that knows HTTP and the command line, and the place where domain, store
//! and the ways out meet. Suggested reading order: `app` (the wiring), `http` (a request's life), `reload` (a
//! change's life).
//!
//! Invariants: rules live in `chelseru-domain`, never in a handler; provider protocols live in plugins, never
//! here; nothing that is refused changes what is served.

pub mod app;
mod backup;
mod door;
mod generation;
pub use chelseru_http as http;
mod private;
pub mod reload;

pub mod messages;
pub mod payments;
mod rules;
pub mod webhooks;

pub mod cli;
pub use chelseru_config as config;
pub use chelseru_outbound as outbound;
mod keys;
pub mod logging;
pub mod metrics;
