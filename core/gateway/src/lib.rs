//! chelseru: a self-hosted, plugin-extensible gateway.
//!
//! This crate is the outermost: the only one that knows HTTP and the command line, and the place where domain, store
//! and the ways out meet. Suggested reading order: `server` (from a file to an open socket), `candidate`
//! (what a configuration must fulfil), `reload` (a change's life), `app` (what everything shares).
//!
//! Invariants: rules live in `chelseru-domain`, never in a handler; provider protocols live in plugins, never
//! here; nothing that is refused changes what is served.

pub mod server;

pub mod app;
mod generation;

mod candidate;
mod ground;
mod machine;
pub mod reload;
mod services;

pub mod messages;
pub mod payments;
mod store_watch;
mod upkeep;
pub mod webhooks;

mod backup;
mod door;
mod private;

pub use chelseru_http as http;

pub mod cli;
pub use chelseru_config as config;
pub use chelseru_outbound as outbound;
mod keys;
pub mod logging;
pub mod metrics;
