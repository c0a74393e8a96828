//! `[webhooks]`: who is told of payments and wallets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::SettingSource;

/// `[webhooks]`: an edit applies to events from then on; what waits for an endpoint that was removed stays until it
/// is too old.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhooks {
    /// Days for which events are kept, to be listed and replayed.
    pub keep_days: u64,
    /// Events kept at most; past it the oldest are removed, told or not.
    pub events_max: u64,
    /// By name.
    pub endpoints: BTreeMap<String, Endpoint>,
}

impl Default for Webhooks {
    fn default() -> Self {
        Webhooks { keep_days: 7, events_max: 100_000, endpoints: BTreeMap::new() }
    }
}

/// `[webhooks.endpoints.NAME]`: one receiver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// An absolute http or https address.
    pub url: String,
    /// `whsec_` and Base64 of 24 to 64 bytes; `chelseru webhooks secret` makes one.
    pub secret: SettingSource,
    /// Kinds of events it wants; empty: all.
    #[serde(default)]
    pub events: Vec<String>,
    /// Hosts it may be at, private addresses by name; empty: the host of `url`, at a public address.
    #[serde(default)]
    pub hosts: Vec<String>,
}

/// Endpoints that may be configured.
pub(super) const ENDPOINTS_MAX: usize = 50;
