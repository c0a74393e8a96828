//! What operators see and get: status, metrics, the store's health, backups, webhooks.

pub(crate) mod backup;
pub(crate) mod component;
pub(crate) mod doctor;
pub(crate) mod follow;
pub(crate) mod house;
pub(crate) mod ledger_check;
mod metric_help;
pub mod metrics;
pub(crate) mod store_watch;
pub(crate) mod trends;
pub(crate) mod view;
pub mod webhooks;

pub(crate) mod news;
