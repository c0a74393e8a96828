//! The domain's ports, implemented: every way out of the gateway.
//!
//! `sms` and `money` translate between the domain's types and those of provider plugins. `money::webhooks` delivers
//! events over HTTP. `sms::inbox` and `money::bank` are the sandbox, which needs no provider. `plugins` converts
//! configured provider entries for the plugin host. `bus` carries notes to other gateways, and `bucket` keeps uploaded
//! files in an S3-compatible store.
//!
//! Invariant: a call that failed after one of its HTTP requests may have been sent has an unknown outcome, whatever
//! the plugin or the host reports. Not here: the meaning of an outcome (domain), the loops of deliveries and
//! reconciliation (the program), loading and limits (plugin host).

pub mod bucket;
pub mod bus;

pub mod kinds;
pub mod plugins;

pub mod sms;

pub mod money;

pub mod bindings;
mod border;
mod facts;
pub mod names;
