//! `[sms]` and `[sms.shield]`: which providers carry messages, in which order, and how many.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::read::Checker;
use crate::{Config, KNOWN_PROVIDERS};

/// `[sms]`: which providers carry messages, in which order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sms {
    /// A provider entry's name, or a list that is tried in order.
    pub service: OneOrMany,
    /// Minutes a notice is worth sending; after that it expires. 1 to 1440.
    pub notice_minutes: u64,
    /// Seconds of one round over the providers, which is how long `message/send/` waits: 1 to 60.
    pub round_seconds: u64,
    /// Seconds before a message that could not be sent is tried again; doubles each time. 1 to 3600.
    pub retry_seconds_min: u64,
    /// The longest such delay: 1 to 3600.
    pub retry_seconds_max: u64,
    /// Seconds for which a code that no provider took is tried again while `otp/send/` waits; its text is in no
    /// record, so nobody could do it later. 0 to 30; 0: not.
    pub otp_retry_seconds: u64,
    /// Waiting messages sent at once: 1 to 1024.
    pub workers_max: usize,
    /// Messages that may wait; one more answers 503. 1 to 10000000.
    pub queue_max: u64,
    /// Idempotency keys remembered, each for 24 hours; one more answers 503. 1 to 10000000.
    pub idempotency_keys_max: u64,
    /// Days a message stays on record after it was made: 1 to 3650.
    pub keep_days: u64,
    /// Failures of a provider in a row that open its circuit: 1 to 1000.
    pub circuit_failures: u32,
    /// Seconds an open circuit keeps a provider from being asked; doubles up to eightfold while it goes on
    /// failing. 1 to 3600.
    pub circuit_open_seconds: u64,
    /// Caps on codes, against SMS bombing.
    pub shield: Shield,
    /// Logical template name -> provider entry name -> the provider's own template id.
    pub templates: BTreeMap<String, BTreeMap<String, String>>,
}

impl Default for Sms {
    fn default() -> Self {
        Sms {
            service: OneOrMany::One("SANDBOX_SMS".into()),
            notice_minutes: 60,
            round_seconds: 20,
            retry_seconds_min: 5,
            retry_seconds_max: 300,
            otp_retry_seconds: 5,
            workers_max: 32,
            queue_max: 200_000,
            idempotency_keys_max: 100_000,
            keep_days: 30,
            circuit_failures: 5,
            circuit_open_seconds: 15,
            shield: Shield::default(),
            templates: BTreeMap::new(),
        }
    }
}

/// `[sms.shield]`: caps on the codes that anybody may ask for with `otp/send/`; one more answers 429. An hour and a
/// day are the last 60 minutes and 24 hours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shield {
    /// Seconds between two codes to one number; a login in between ends the wait. 0 to 3600.
    pub number_gap_seconds: u64,
    /// Codes to one number in an hour: 1 to 1000.
    pub number_per_hour_max: u32,
    /// Codes to one number in a day: 1 to 1000.
    pub number_per_day_max: u32,
    /// Codes asked for by one address in an hour. Mobile networks put many people behind one.
    pub address_per_hour_max: u32,
    /// Codes asked for by one network (/24, /64) in an hour.
    pub network_per_hour_max: u32,
    /// Codes to numbers that differ in their last four digits only, in an hour.
    pub prefix_per_hour_max: u32,
    /// Codes in an hour, over all.
    pub total_per_hour_max: u32,
    /// Codes to a prefix in an hour from which its share of logins is looked at.
    pub ratio_codes_min: u32,
    /// Percent of a prefix's codes that must lead to a login; below it the prefix is slowed. 0 to 100; 0: never.
    pub ratio_percent_min: u32,
    /// Seconds between two codes to a slowed prefix.
    pub slow_gap_seconds: u64,
}

impl Default for Shield {
    fn default() -> Self {
        Shield {
            number_gap_seconds: 60,
            number_per_hour_max: 5,
            number_per_day_max: 10,
            address_per_hour_max: 300,
            network_per_hour_max: 1500,
            prefix_per_hour_max: 200,
            total_per_hour_max: 10_000,
            ratio_codes_min: 30,
            ratio_percent_min: 10,
            slow_gap_seconds: 60,
        }
    }
}

/// `"A"` or `["A", "B"]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a name, or a list of names")]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub fn names(&self) -> &[String] {
        match self {
            OneOrMany::One(name) => std::slice::from_ref(name),
            OneOrMany::Many(names) => names,
        }
    }
}

impl Checker<'_> {
    pub(crate) fn check_sms(&mut self, config: &Config) {
        self.check_sms_limits(config);
        let names = config.sms.service.names();
        let known = || {
            let mut known: Vec<&str> = config.provider.keys().map(String::as_str).collect();
            known.extend(KNOWN_PROVIDERS.iter().map(|(name, _)| *name));
            known.sort_unstable();
            known.dedup();
            known.join(", ")
        };
        if names.is_empty() {
            self.refuse("sms.service", "[]".into(), &format!("must name at least one of {}", known()));
        }
        for (index, name) in names.iter().enumerate() {
            if config.plugin_of(name).is_none() {
                self.refuse(
                    "sms.service",
                    format!("{name:?}"),
                    &format!(
                        "is not a provider; accepted are {} and any [provider.NAME] of this file",
                        known()
                    ),
                );
            } else if names[..index].contains(name) {
                self.refuse("sms.service", format!("{name:?}"), "is listed twice");
            }
        }
        for (template, ids) in &config.sms.templates {
            for name in ids.keys() {
                if config.plugin_of(name).is_none() {
                    self.refuse(
                        &format!("sms.templates.{template}.{name}"),
                        format!("{name:?}"),
                        &format!("is not a provider; accepted are {}", known()),
                    );
                }
            }
        }
        // Every template may be asked for by its name, so each needs every provider that may carry it.
        for (template, ids) in &config.sms.templates {
            for name in names.iter().filter(|name| !ids.contains_key(*name)) {
                self.refuse(
                    &format!("sms.templates.{template}"),
                    format!("{ids:?}"),
                    &format!("has no id for {name}, which sms.service may use"),
                );
            }
        }
        let wanted = &config.auth.otp_template;
        if wanted.is_empty() {
            return;
        }
        if !config.sms.templates.contains_key(wanted) {
            let known = config.sms.templates.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            self.refuse(
                "auth.otp_template",
                format!("{wanted:?}"),
                &format!(
                    "has no table [sms.templates.{wanted}]; known templates: [{known}]; \"\" sends otp_text"
                ),
            );
        }
    }

    fn check_sms_limits(&mut self, config: &Config) {
        let sms = &config.sms;
        self.range("sms.notice_minutes", sms.notice_minutes, 1, 1440);
        self.range("sms.round_seconds", sms.round_seconds, 1, 60);
        self.range("sms.retry_seconds_min", sms.retry_seconds_min, 1, 3600);
        self.range("sms.retry_seconds_max", sms.retry_seconds_max, sms.retry_seconds_min, 3600);
        self.range("sms.otp_retry_seconds", sms.otp_retry_seconds, 0, 30);
        self.range("sms.workers_max", sms.workers_max as u64, 1, 1024);
        self.range("sms.queue_max", sms.queue_max, 1, 10_000_000);
        self.range("sms.idempotency_keys_max", sms.idempotency_keys_max, 1, 10_000_000);
        self.range("sms.keep_days", sms.keep_days, 1, 3650);
        self.range("sms.circuit_failures", u64::from(sms.circuit_failures), 1, 1000);
        self.range("sms.circuit_open_seconds", sms.circuit_open_seconds, 1, 3600);
        let shield = &sms.shield;
        self.range("sms.shield.number_gap_seconds", shield.number_gap_seconds, 0, 3600);
        self.range("sms.shield.number_per_hour_max", u64::from(shield.number_per_hour_max), 1, 1000);
        self.range("sms.shield.number_per_day_max", u64::from(shield.number_per_day_max), 1, 1000);
        for (key, value) in [
            ("sms.shield.address_per_hour_max", shield.address_per_hour_max),
            ("sms.shield.network_per_hour_max", shield.network_per_hour_max),
            ("sms.shield.prefix_per_hour_max", shield.prefix_per_hour_max),
            ("sms.shield.ratio_codes_min", shield.ratio_codes_min),
        ] {
            self.range(key, u64::from(value), 1, 10_000_000);
        }
        self.range("sms.shield.total_per_hour_max", u64::from(shield.total_per_hour_max), 1, 10_000_000);
        self.range("sms.shield.ratio_percent_min", u64::from(shield.ratio_percent_min), 0, 100);
        self.range("sms.shield.slow_gap_seconds", shield.slow_gap_seconds, 1, 3600);
        for (name, entry) in &config.provider {
            let (at_once, rate) = (u64::from(entry.concurrency_max), u64::from(entry.rate_per_second));
            self.range(&format!("provider.{name}.concurrency_max"), at_once, 0, 4096);
            self.range(&format!("provider.{name}.rate_per_second"), rate, 0, 100_000);
        }
    }
}
