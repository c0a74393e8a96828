//! `[sms]` and `[sms.shield]`: the providers of messages, their order, and the limits.

use std::collections::BTreeMap;

use chelseru_domain::Range;
use chelseru_domain::sms::{credit, gate, rules, shield};
use serde::{Deserialize, Serialize};

use crate::read::Checker;
use crate::{Config, ProviderKind, SANDBOX_PAY};

/// `[sms]`: the providers of messages, and their order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sms {
    /// A provider entry's name, or a list, tried in order.
    pub service: OneOrMany,
    /// Minutes until an unsent message expires: 1 to 1440.
    pub notice_minutes: u64,
    /// Seconds of one pass over the providers, and so the time limit of `message/send/`: 1 to 60.
    pub round_seconds: u64,
    /// Seconds before the first retry of an unsent message; each retry doubles it. 1 to 3600.
    pub retry_seconds_min: u64,
    /// Longest retry delay in seconds: 1 to 3600.
    pub retry_seconds_max: u64,
    /// Seconds for which `otp/send/` retries a code that no provider took. The queue cannot do it later, because the
    /// text is in no record. 0 to 30; 0: no retry.
    pub otp_retry_seconds: u64,
    /// Messages sent concurrently from the queue: 1 to 1024.
    pub workers_max: usize,
    /// Queued messages; one more answers 503. 1 to 10000000.
    pub queue_max: u64,
    /// Idempotency keys kept, each for 24 hours; one more answers 503. 1 to 10000000.
    pub idempotency_keys_max: u64,
    /// Days a message's record is kept: 1 to 3650.
    pub keep_days: u64,
    /// Consecutive failures that open a provider's circuit: 1 to 1000.
    pub circuit_failures: u32,
    /// Seconds a circuit stays open; doubles up to eightfold while failures continue. 1 to 3600.
    pub circuit_open_seconds: u64,
    /// Questions about the providers' credit.
    pub credit: SmsCredit,
    /// Limits of codes, against SMS bombing.
    pub shield: Shield,
    /// Template name -> provider entry name -> the provider's own template id.
    pub templates: BTreeMap<String, BTreeMap<String, String>>,
}

impl Default for Sms {
    fn default() -> Self {
        Sms {
            service: OneOrMany::One("SANDBOX_SMS".into()),
            notice_minutes: rules::NOTICE_LIFETIME_SECS.per(60).default,
            round_seconds: rules::ROUND_SECS.default,
            retry_seconds_min: rules::RETRY_SECS.default,
            retry_seconds_max: rules::RETRY_LONGEST_SECS.default,
            otp_retry_seconds: rules::OTP_RETRY_SECS.default,
            workers_max: rules::WORKERS.default,
            queue_max: rules::QUEUE_MESSAGES.default,
            idempotency_keys_max: rules::IDEMPOTENCY_KEYS.default,
            keep_days: rules::KEEP_DAYS.default,
            circuit_failures: gate::FAILURES.default,
            circuit_open_seconds: gate::OPEN_SECS.default,
            credit: SmsCredit::default(),
            shield: Shield::default(),
            templates: BTreeMap::new(),
        }
    }
}

/// `[sms.credit]`: when providers are asked for their credit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmsCredit {
    /// Minutes between two questions to each provider: 0 to 1440; 0: never asked.
    pub minutes: u64,
}

impl Default for SmsCredit {
    fn default() -> Self {
        SmsCredit { minutes: credit::CREDIT_MINUTES.default }
    }
}

/// `[sms.shield]`: limits of the codes that anybody may request with `otp/send/`; one more answers 429. A quarter of
/// `prefix_per_hour_max` and `total_per_hour_max` is kept for numbers with an account; while only that is left, every
/// number is answered alike. An hour and a day are the last 60 minutes and 24 hours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shield {
    /// Seconds between two codes to one number; a login in between ends the wait. 0 to 3600.
    pub number_gap_seconds: u64,
    /// Codes to one number in an hour: 1 to 1000.
    pub number_per_hour_max: u32,
    /// Codes to one number in a day: 1 to 1000.
    pub number_per_day_max: u32,
    /// Codes requested by one address in an hour. Mobile networks put many people behind one address.
    pub address_per_hour_max: u32,
    /// Codes requested by one network (/24, /64) in an hour.
    pub network_per_hour_max: u32,
    /// Codes to numbers that share all but their last four digits, in an hour.
    pub prefix_per_hour_max: u32,
    /// Codes in total, in an hour.
    pub total_per_hour_max: u32,
    /// Codes to a prefix in an hour before its login rate is checked.
    pub ratio_codes_min: u32,
    /// Percent of a prefix's codes that must lead to a login; below it the prefix is slowed. 0 to 100; 0: never.
    pub ratio_percent_min: u32,
    /// Seconds between two codes to a slowed prefix.
    pub slow_gap_seconds: u64,
}

impl Default for Shield {
    fn default() -> Self {
        Shield {
            number_gap_seconds: shield::NUMBER_GAP_SECS.default,
            number_per_hour_max: shield::NUMBER_PER_HOUR.default,
            number_per_day_max: shield::NUMBER_PER_DAY.default,
            address_per_hour_max: shield::ADDRESS_PER_HOUR.default,
            network_per_hour_max: shield::NETWORK_PER_HOUR.default,
            prefix_per_hour_max: shield::PREFIX_PER_HOUR.default,
            total_per_hour_max: shield::TOTAL_PER_HOUR.default,
            ratio_codes_min: shield::RATIO_CODES.default,
            ratio_percent_min: shield::RATIO_PERCENT.default,
            slow_gap_seconds: shield::SLOW_GAP_SECS.default,
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
        if names.is_empty() {
            let known = config.names_of(ProviderKind::Sms, "");
            self.refuse("sms.service", "[]".into(), &format!("must name at least one of {known}"));
        }
        for (index, name) in names.iter().enumerate() {
            let found = format!("{name:?}");
            let accepted = || format!("accepted are {}", config.names_of(ProviderKind::Sms, name));
            if name == SANDBOX_PAY || config.kind_said(name) == Some(ProviderKind::Payment) {
                let text = "is a payment gateway; name it in payment.gateway";
                self.refuse("sms.service", found, &format!("{text}; here {}", accepted()));
            } else if config.plugin_of(name).is_none() {
                let text = "is not a provider; add [provider.NAME] with its plugin, or name another";
                self.refuse("sms.service", found, &format!("{text}: {}", accepted()));
            } else if names[..index].contains(name) {
                self.refuse("sms.service", found, "is listed twice; remove one");
            }
        }
        for (template, ids) in &config.sms.templates {
            for name in ids.keys() {
                if config.plugin_of(name).is_none() {
                    self.refuse(
                        &format!("sms.templates.{template}.{name}"),
                        format!("{name:?}"),
                        &format!(
                            "is not a provider; accepted are {}",
                            config.names_of(ProviderKind::Sms, name)
                        ),
                    );
                }
            }
        }
        // A caller may name any template, so each template needs an id for every selected provider.
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
        self.rule("sms.notice_minutes", sms.notice_minutes, rules::NOTICE_LIFETIME_SECS.per(60));
        self.rule("sms.round_seconds", sms.round_seconds, rules::ROUND_SECS);
        self.rule("sms.retry_seconds_min", sms.retry_seconds_min, rules::RETRY_SECS);
        let longest = rules::RETRY_LONGEST_SECS;
        let longest = Range { least: sms.retry_seconds_min.min(longest.greatest), ..longest };
        self.rule("sms.retry_seconds_max", sms.retry_seconds_max, longest);
        self.rule("sms.otp_retry_seconds", sms.otp_retry_seconds, rules::OTP_RETRY_SECS);
        self.rule("sms.workers_max", sms.workers_max, rules::WORKERS);
        self.rule("sms.queue_max", sms.queue_max, rules::QUEUE_MESSAGES);
        self.rule("sms.idempotency_keys_max", sms.idempotency_keys_max, rules::IDEMPOTENCY_KEYS);
        self.rule("sms.keep_days", sms.keep_days, rules::KEEP_DAYS);
        self.rule("sms.circuit_failures", sms.circuit_failures, gate::FAILURES);
        self.rule("sms.circuit_open_seconds", sms.circuit_open_seconds, gate::OPEN_SECS);
        self.rule("sms.credit.minutes", sms.credit.minutes, credit::CREDIT_MINUTES);
        let shield = &sms.shield;
        self.rule("sms.shield.number_gap_seconds", shield.number_gap_seconds, shield::NUMBER_GAP_SECS);
        self.rule("sms.shield.slow_gap_seconds", shield.slow_gap_seconds, shield::SLOW_GAP_SECS);
        for (key, value, range) in [
            ("number_per_hour_max", shield.number_per_hour_max, shield::NUMBER_PER_HOUR),
            ("number_per_day_max", shield.number_per_day_max, shield::NUMBER_PER_DAY),
            ("address_per_hour_max", shield.address_per_hour_max, shield::ADDRESS_PER_HOUR),
            ("network_per_hour_max", shield.network_per_hour_max, shield::NETWORK_PER_HOUR),
            ("prefix_per_hour_max", shield.prefix_per_hour_max, shield::PREFIX_PER_HOUR),
            ("total_per_hour_max", shield.total_per_hour_max, shield::TOTAL_PER_HOUR),
            ("ratio_codes_min", shield.ratio_codes_min, shield::RATIO_CODES),
            ("ratio_percent_min", shield.ratio_percent_min, shield::RATIO_PERCENT),
        ] {
            self.rule(&format!("sms.shield.{key}"), value, range);
        }
        for (name, entry) in &config.provider {
            self.rule(&format!("provider.{name}.concurrency_max"), entry.concurrency_max, gate::CONCURRENCY);
            self.rule(
                &format!("provider.{name}.rate_per_second"),
                entry.rate_per_second,
                gate::RATE_PER_SECOND,
            );
        }
    }
}
