//! `[webhooks]`: the receivers of payment and wallet events.

use std::collections::BTreeMap;

use chelseru_domain::chat;
use chelseru_domain::operator::webhook;
use serde::{Deserialize, Serialize};

use crate::read::Checker;
use crate::url::parts as payment_parts;
use crate::{Config, SettingSource};

/// `[webhooks]`. An edit applies to later events. Events queued for a removed endpoint stay until they are too old.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhooks {
    /// Days for which events can be listed and replayed.
    pub keep_days: u64,
    /// Stored events; past it the oldest are removed, delivered or not.
    pub events_max: u64,
    /// Endpoints by name.
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
    /// The secret before a change of it: messages carry the signatures of both, until every receiver knows the new one.
    #[serde(default)]
    pub secret_previous: Option<SettingSource>,
    /// Event kinds to deliver; empty: all but `message.created` and `room.invited`, which have to be named.
    #[serde(default)]
    pub events: Vec<String>,
    /// Whether `message.created` carries the message's text.
    #[serde(default)]
    pub message_text: bool,
    /// Allowed hosts, private addresses by name. Empty: the host of `url`, at a public address.
    #[serde(default)]
    pub hosts: Vec<String>,
}

/// Most endpoints.
const ENDPOINTS_MAX: usize = 50;

impl Checker<'_> {
    pub(crate) fn check_webhooks(&mut self, config: &Config) {
        let webhooks = &config.webhooks;
        self.rule("webhooks.keep_days", webhooks.keep_days, webhook::KEEP_DAYS);
        self.rule("webhooks.events_max", webhooks.events_max, webhook::EVENTS);
        let most = ENDPOINTS_MAX;
        if webhooks.endpoints.len() > most {
            let found = format!("{} endpoints", webhooks.endpoints.len());
            self.refuse("webhooks.endpoints", found, &format!("must hold at most {most}"));
        }
        for (name, endpoint) in &webhooks.endpoints {
            let key = format!("webhooks.endpoints.{name}");
            let word = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            if !(1..=64).contains(&name.len()) || !name.bytes().all(word) {
                let accepted = "must be a name of 1 to 64 letters, digits, _ and -";
                self.refuse(&key, format!("{name:?}"), accepted);
            }
            if payment_parts(&endpoint.url).is_none() {
                let accepted = "must be an absolute http or https address without a user name";
                self.refuse(&format!("{key}.url"), format!("{:?}", endpoint.url), accepted);
            }
            let known = [webhook::KINDS, &chat::NEWS].concat();
            for kind in endpoint.events.iter().filter(|kind| !known.contains(&kind.as_str())) {
                let accepted = format!("is not an event kind; accepted are {}", known.join(", "));
                self.refuse(&format!("{key}.events"), format!("{kind:?}"), &accepted);
            }
            let secrets =
                [("secret", Some(&endpoint.secret)), ("secret_previous", endpoint.secret_previous.as_ref())];
            for (name, secret) in secrets {
                if matches!(secret, Some(SettingSource::Text(_))) {
                    let advice =
                        "is a secret in plain text; prefer { env = \"NAME\" } or { file = \"path\" }";
                    let warning = self.source.problem(&format!("{key}.{name}"), None, advice);
                    self.warnings.push(warning);
                }
            }
        }
    }
}
