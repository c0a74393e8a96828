//! `[webhooks]`: who is told of payments and wallets.

use std::collections::BTreeMap;

use chelseru_domain::operator::webhook;
use serde::{Deserialize, Serialize};

use crate::read::Checker;
use crate::url::parts as payment_parts;
use crate::{Config, SettingSource};

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
        Webhooks {
            keep_days: webhook::KEEP_DAYS.default,
            events_max: webhook::EVENTS.default,
            endpoints: BTreeMap::new(),
        }
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
const ENDPOINTS_MAX: usize = 50;

impl Checker<'_> {
    pub(crate) fn check_webhooks(&mut self, config: &Config) {
        let webhooks = &config.webhooks;
        self.rule("webhooks.keep_days", webhooks.keep_days, webhook::KEEP_DAYS);
        self.rule("webhooks.events_max", webhooks.events_max, webhook::EVENTS);
        let most = ENDPOINTS_MAX;
        if webhooks.endpoints.len() > most {
            let found = format!("{} endpoints", webhooks.endpoints.len());
            self.refuse("webhooks.endpoints", found, &format!("takes at most {most}"));
        }
        for (name, endpoint) in &webhooks.endpoints {
            let key = format!("webhooks.endpoints.{name}");
            let word = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            if !(1..=64).contains(&name.len()) || !name.bytes().all(word) {
                let accepted = "a webhook's name has 1 to 64 letters, digits, _ and -";
                self.refuse(&key, format!("{name:?}"), accepted);
            }
            if payment_parts(&endpoint.url).is_none() {
                let accepted = "must be an absolute http or https address without a user name";
                self.refuse(&format!("{key}.url"), format!("{:?}", endpoint.url), accepted);
            }
            for kind in endpoint.events.iter().filter(|kind| !webhook::KINDS.contains(&kind.as_str())) {
                let accepted = format!("holds kinds of events; accepted are {}", webhook::KINDS.join(", "));
                self.refuse(&format!("{key}.events"), format!("{kind:?}"), &accepted);
            }
            if matches!(endpoint.secret, SettingSource::Text(_)) {
                let advice = "is a secret in the file; better is { env = \"NAME\" } or { file = \"path\" }";
                let warning = self.source.problem(&format!("{key}.secret"), None, advice);
                self.warnings.push(warning);
            }
        }
    }
}
