//! chelseru: a self-hosted gateway, extended by plugins.
//!
//! This is the outermost crate: the only one that knows the command line, and the place where all others are wired.
//! Suggested reading order: `server` (from a file to an open socket), `candidate` (what a configuration must fulfil),
//! `reload` (a change's life), `app` (shared state).
//!
//! Invariants: rules live in `chelseru-domain`, never in a handler. Provider protocols live in plugins, never here. A
//! refused change changes nothing that is served.

pub mod server;

pub mod app;
mod generation;
mod live;

mod candidate;
mod database;
mod files;
mod ground;
mod machine;
pub mod reload;

mod login;
pub mod money;
pub mod operator;
pub mod sms;

mod erase;
mod neighbours;
mod nodes;
mod search;
mod upkeep;

mod door;
mod edits;
mod import;
mod owner;
mod private;

pub use chelseru_http as http;

pub mod cli;
pub use chelseru_config as config;
pub use chelseru_outbound as outbound;
mod keys;
pub mod logging;
