//! The console: server-rendered pages for operators, on the operators' listener.
//!
//! Works without JavaScript. A page is a Rust file that asks the [`Desk`] and describes what to show; one template
//! shows it (`page`). Invariants: the desk is the only way to data, and it asks for a permit; `operator/v1` makes the
//! same calls; texts are in `words`, dates, digits and amounts in `show`.
//!
//! Reading order: `visit` (session, forms, headers), `page`, `stream` (pages that change by themselves), `login`, `me`,
//! then a page such as `users`.

mod filter;
mod page;
mod row;
pub(crate) mod show;
pub mod stream;
mod visit;
mod words;

pub(crate) mod assets;
pub(crate) mod login;
pub(crate) mod me;
pub(crate) mod overview;

pub(crate) mod audit;
pub(crate) mod backups;
pub(crate) mod components;
pub(crate) mod config;
mod doctor;
pub(crate) mod files;
pub(crate) mod keys;
pub(crate) mod ledger;
pub(crate) mod messages;
pub(crate) mod organizations;
pub(crate) mod payments;
pub(crate) mod providers;
pub(crate) mod rooms;
pub(crate) mod sessions;
pub(crate) mod users;
pub(crate) mod wallets;
pub(crate) mod webhooks;

use std::sync::Arc;

use chelseru_domain::money::Currency;
use chelseru_domain::operator::desk::Desk;

use crate::operator::OperatorToken;
use crate::personal::Personal;

use stream::Streams;

/// The page that enters a one-time link.
pub const LINK_PATH: &str = "/console/link/";

/// The slice of the console.
pub struct Console {
    pub desk: Arc<Desk>,
    /// The unit of typed amounts.
    pub currency: Currency,
    /// Admits commands on this machine.
    pub token: OperatorToken,
    /// Archives of users.
    pub personal: Arc<Personal>,
    pub streams: Arc<Streams>,
}
