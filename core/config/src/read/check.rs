//! Checks of values, which report all problems together.

use std::fmt::Display;

use chelseru_domain::{Range, RuleError};

use super::{Problem, Source};
use crate::Config;

pub(crate) struct Checker<'a> {
    pub(crate) source: &'a Source,
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
}

impl Checker<'_> {
    /// Runs every section's check, in the order of the file.
    pub(crate) fn check(&mut self, config: &Config) {
        self.check_server(config);
        self.check_store(config);
        self.check_bus(config);
        self.check_auth(config);
        self.check_plugins(config);
        self.check_sms(config);
        self.check_chat(config);
        self.check_files(config);
        self.check_payment(config);
        self.check_webhooks(config);
        self.check_providers(config);
    }

    pub(crate) fn range(&mut self, key: &str, found: u64, least: u64, most: u64) {
        if !(least..=most).contains(&found) {
            self.refuse(key, found.to_string(), &format!("must be {least} to {most}"));
        }
    }

    /// Checks a value against a rule's range.
    pub(crate) fn rule<T: Copy + PartialOrd + Display>(&mut self, key: &str, found: T, range: Range<T>) {
        if !range.contains(found) {
            self.refuse(key, found.to_string(), &format!("must be {range}"));
        }
    }

    pub(crate) fn refuse(&mut self, key: &str, found: String, message: &str) {
        self.problems.push(self.source.problem(key, Some(found), message));
    }

    /// Reports a rule that the domain refuses.
    pub(crate) fn refuse_rule(&mut self, key: &str, error: &RuleError) {
        self.refuse(key, error.found.clone(), &format!("must be {}", error.accepted));
    }
}
