//! Login: codes, passwords, tokens, sessions, and a user's own account.
//!
//! [`Login`] is the slice of its handlers. Reading order: `code`, `password`, `token`, `session`, `me`, `mobile`,
//! `erase`;
//! `input` has their shared fields, `failure` translates domain errors.

pub(crate) mod code;
pub(crate) mod password;

pub(crate) mod token;

pub(crate) mod session;

pub(crate) mod erase;
pub(crate) mod me;
pub(crate) mod mobile;

pub(crate) mod failure;
pub(crate) mod input;
pub(crate) mod shapes;

use std::sync::Arc;

use chelseru_domain::clock::Clock;
use chelseru_domain::login::identity::Identity;
use chelseru_domain::login::method::LoginMethods;
use chelseru_domain::login::otp::OtpService;
use chelseru_domain::operator::Meter;
use chelseru_domain::sms::queue::SmsRoute;
use chelseru_domain::sms::shield::{Shield, ShieldRules};
use tokio_util::task::TaskTracker;

use crate::files::Files;

/// Messages in flight without a waiting client.
const DETACHED_MAX: usize = 1000;

/// The slice of login.
pub struct Login {
    pub identity: Arc<Identity>,
    pub otp: Arc<OtpService>,
    /// How codes are sent.
    pub sms: Arc<SmsRoute>,
    pub shield: Arc<Shield>,
    pub shield_rules: ShieldRules,
    pub methods: LoginMethods,
    pub files: Arc<Files>,
    /// Digits of a code.
    pub otp_length: u8,
    pub clock: Arc<dyn Clock>,
    pub meter: Arc<dyn Meter>,
    /// Work that outlives its client.
    pub detached: TaskTracker,
}

impl Login {
    /// Counts a login or a refused login.
    pub(crate) fn count(&self, succeeded: bool) {
        let name = if succeeded { "chelseru_logins_total" } else { "chelseru_login_refusals_total" };
        self.meter.counter(name, &[]).increment();
    }
}
