//! The domain's ports, implemented: every way out of the gateway.
//!
//! `sms` and `money` translate between the domain's words and those of provider plugins; `money::webhooks` delivers
//! events over HTTP; `sms::inbox` and `money::bank` are the sandbox, which needs no provider. `plugins` turns provider
//! entries of the configuration into what the plugin host loads.
//!
//! Invariant: a call that failed after one of its HTTP requests may have left is an unknown outcome, whatever the
//! plugin or the host says about it. Not here: what an outcome means (domain), the loops that drive deliveries and
//! reconciliation (the program), loading and limits (plugin host).

pub mod kinds;
pub mod plugins;

pub mod sms;

pub mod money;

pub mod bindings;
mod border;
pub mod names;
