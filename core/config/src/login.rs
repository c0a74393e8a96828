//! `[auth]`: login by code or password, tokens and sessions.

use std::collections::BTreeMap;
use std::time::Duration;

use chelseru_domain::Range;
use chelseru_domain::clock::Timestamp;
use chelseru_domain::login::group::{Group, GroupPolicy};
use chelseru_domain::login::identity;
use chelseru_domain::login::method::LoginMethods;
use chelseru_domain::login::otp;
use chelseru_domain::login::password;
use chelseru_domain::login::token;
use serde::{Deserialize, Serialize};

use crate::read::Checker;
use crate::{Config, SettingSource, rules};

/// `[auth]`: login by one-time password, tokens and sessions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Login methods: `"OTP"`, `"PASSWD"`, or a list of both.
    pub method: AuthMethods,
    /// Digits of a code: 4 to 10.
    pub otp_length: u8,
    /// Minutes a code is valid: 1 to 10.
    pub otp_expire_minutes: u64,
    /// Seconds before another code may be requested; 0: until the pending code expires.
    pub otp_resend_seconds: u64,
    /// Wrong guesses after which a code is burned: 1 to 10.
    pub otp_attempts_max: u32,
    /// Text of the message when no template is used; `{code}` is replaced by the code.
    pub otp_text: String,
    /// Name of a template under `[sms.templates]`; empty sends `otp_text`.
    pub otp_template: String,
    /// The site that codes belong to, `example.com`. The text then ends with `@example.com #code`. Empty: no such
    /// line.
    pub otp_domain: String,
    /// Numbers with a fixed code, to which no SMS is sent. For trials only.
    pub otp_test_numbers: BTreeMap<String, String>,
    /// Values of `group` that a client may name: a list of numbers, or `"any"`.
    pub groups: Groups,
    /// Seconds an access token is valid: 30 to 86400.
    pub access_token_seconds: u64,
    /// Seconds a refresh token is valid, and so the idle time after which a session ends: 300 to 31536000.
    pub refresh_token_seconds: u64,
    /// Seconds a replaced refresh token may be repeated after a lost answer; later use ends the session. 0 to 86400.
    pub refresh_repeat_seconds: u64,
    /// Age in seconds at which a session ends, refreshed or not: 300 to 315360000.
    pub session_absolute_seconds: u64,
    /// The key that signs tokens. The gateway derives `hs256-1`, `hs256-2`, ... itself. `{ file = "path" }` is an
    /// Ed25519 or P-256 key as PEM; `.well-known/jwks.json` then lists its public half.
    pub token_key: SettingSource,
    /// Former keys, whose tokens stay valid until they expire.
    pub token_keys_old: Vec<SettingSource>,
    /// SECRET_KEY of the django-chelseru installation that was imported: its tokens stay valid until `legacy_until`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legacy_secret: Option<SettingSource>,
    /// The day from which tokens of the original are refused (UTC), as `2027-01-31`. Needed with `legacy_secret`.
    pub legacy_until: String,
    /// The claim that names the user in tokens of the original: USER_ID_CLAIM of simplejwt.
    pub legacy_user_claim: String,
    /// The `iss` claim.
    pub token_issuer: String,
    /// The `aud` claim.
    pub token_audience: String,
    /// Sessions of one user; a login past it ends the oldest. 1 to 1000.
    pub sessions_per_user_max: usize,
    /// Wrong guesses per user name and address before each further guess has to wait: 1 to 100.
    pub password_attempts_max: u32,
    /// Guesses per user name from all addresses together before there is one every `password_lockout_seconds`: 1 to
    /// 1000000. Addresses from whose network the account has a session are not held up.
    pub password_attempts_total_max: u32,
    /// Accounts that one address may register in an hour: 1 to 1000000. Loopback addresses are not counted.
    pub registrations_per_hour_max: u64,
    /// Seconds of the first wait; each further guess doubles it. 1 to 86400.
    pub password_lockout_seconds: u64,
    /// Seconds of the longest wait: `password_lockout_seconds` to 86400.
    pub password_lockout_seconds_max: u64,
    /// Concurrent password hashes, each with 19 MiB and one core: 1 to 64.
    pub password_hashes_max: usize,
    /// Requests that wait to hash; one more answers 503. 0 to 4096.
    pub password_hashes_queue_max: usize,
}

impl Default for Auth {
    fn default() -> Self {
        Auth {
            method: AuthMethods::One(AuthMethod::Otp),
            otp_length: otp::LENGTH_DIGITS.default,
            otp_expire_minutes: otp::TTL_SECS.per(60).default,
            otp_resend_seconds: 0,
            otp_attempts_max: otp::ATTEMPTS.default,
            otp_text: otp::TEXT_DEFAULT.into(),
            otp_template: String::new(),
            otp_domain: String::new(),
            otp_test_numbers: BTreeMap::new(),
            groups: Groups::List(vec![0]),
            access_token_seconds: token::ACCESS_TTL_SECS.default,
            refresh_token_seconds: token::REFRESH_TTL_SECS.default,
            refresh_repeat_seconds: identity::REFRESH_REPEAT_SECS.default,
            session_absolute_seconds: identity::SESSION_ABSOLUTE_SECS.default,
            token_key: SettingSource::Text("hs256-1".into()),
            token_keys_old: Vec::new(),
            legacy_secret: None,
            legacy_until: String::new(),
            legacy_user_claim: "user_id".into(),
            token_issuer: "chelseru".into(),
            token_audience: "chelseru".into(),
            sessions_per_user_max: identity::SESSIONS_PER_USER.default,
            password_attempts_max: identity::PASSWORD_ATTEMPTS.default,
            password_attempts_total_max: identity::PASSWORD_ATTEMPTS_TOTAL.default,
            registrations_per_hour_max: identity::REGISTRATIONS_PER_HOUR.default,
            password_lockout_seconds: identity::LOCKOUT_SECS.default,
            password_lockout_seconds_max: identity::LOCKOUT_LONGEST_SECS.default,
            password_hashes_max: password::HASHES_RUNNING.default,
            password_hashes_queue_max: password::HASHES_WAITING.default,
        }
    }
}

impl Auth {
    /// From when on tokens of the original are refused; `None` when the text is no day.
    pub fn legacy_until(&self) -> Option<Timestamp> {
        let day: jiff::civil::Date = self.legacy_until.parse().ok()?;
        let start = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        u64::try_from(start.as_second()).ok().map(Timestamp::from_secs)
    }

    pub fn otp_ttl(&self) -> Duration {
        Duration::from_secs(self.otp_expire_minutes * 60)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthMethod {
    /// Login by code over SMS.
    #[serde(rename = "OTP")]
    Otp,
    /// Login by user name and password.
    #[serde(rename = "PASSWD")]
    Password,
}

/// `"OTP"` or `["OTP", "PASSWD"]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "\"OTP\", \"PASSWD\", or a list of both")]
pub enum AuthMethods {
    One(AuthMethod),
    Many(Vec<AuthMethod>),
}

impl AuthMethods {
    /// Converts to the domain's type. No method at all, which the check refuses, counts as codes.
    pub fn to_domain(&self) -> LoginMethods {
        let has = |method| self.list().contains(&method);
        match (has(AuthMethod::Otp), has(AuthMethod::Password)) {
            (true, true) => LoginMethods::Both,
            (false, true) => LoginMethods::Password,
            (_, false) => LoginMethods::Code,
        }
    }

    pub fn list(&self) -> &[AuthMethod] {
        match self {
            AuthMethods::One(method) => std::slice::from_ref(method),
            AuthMethods::Many(methods) => methods,
        }
    }
}

/// The groups a client may name at login. A group is part of an account's key and grants no right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a list of whole numbers, or \"any\"")]
pub enum Groups {
    List(Vec<u32>),
    Any(AnyWord),
}

impl Groups {
    /// Converts to the domain's type.
    pub(crate) fn policy(&self) -> GroupPolicy {
        match self {
            Groups::Any(_) => GroupPolicy::Any,
            Groups::List(list) => {
                let groups = list.iter().filter_map(|number| Group::from_number(i64::from(*number)).ok());
                GroupPolicy::Only(groups.collect())
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AnyWord {
    #[serde(rename = "any")]
    Any,
}

impl Checker<'_> {
    pub(crate) fn check_auth(&mut self, config: &Config) {
        let auth = &config.auth;
        self.rule("auth.otp_length", auth.otp_length, otp::LENGTH_DIGITS);
        self.rule("auth.otp_expire_minutes", auth.otp_expire_minutes, otp::TTL_SECS.per(60));
        self.rule("auth.otp_attempts_max", auth.otp_attempts_max, otp::ATTEMPTS);
        self.range("auth.otp_resend_seconds", auth.otp_resend_seconds, 0, auth.otp_expire_minutes * 60);
        self.rule("auth.access_token_seconds", auth.access_token_seconds, token::ACCESS_TTL_SECS);
        let access = auth.access_token_seconds.min(token::ACCESS_TTL_SECS.greatest);
        let refresh = token::REFRESH_TTL_SECS;
        let refresh = Range { least: refresh.least.max(access), ..refresh };
        self.rule("auth.refresh_token_seconds", auth.refresh_token_seconds, refresh);
        self.rule("auth.refresh_repeat_seconds", auth.refresh_repeat_seconds, identity::REFRESH_REPEAT_SECS);
        let absolute = identity::SESSION_ABSOLUTE_SECS;
        self.rule("auth.session_absolute_seconds", auth.session_absolute_seconds, absolute);
        self.rule("auth.sessions_per_user_max", auth.sessions_per_user_max, identity::SESSIONS_PER_USER);
        self.rule("auth.password_attempts_max", auth.password_attempts_max, identity::PASSWORD_ATTEMPTS);
        let total = identity::PASSWORD_ATTEMPTS_TOTAL;
        self.rule("auth.password_attempts_total_max", auth.password_attempts_total_max, total);
        let registrations = identity::REGISTRATIONS_PER_HOUR;
        self.rule("auth.registrations_per_hour_max", auth.registrations_per_hour_max, registrations);
        self.rule("auth.password_lockout_seconds", auth.password_lockout_seconds, identity::LOCKOUT_SECS);
        let longest = identity::LOCKOUT_LONGEST_SECS;
        let longest = Range { least: auth.password_lockout_seconds.min(longest.greatest), ..longest };
        self.rule("auth.password_lockout_seconds_max", auth.password_lockout_seconds_max, longest);
        self.rule("auth.password_hashes_max", auth.password_hashes_max, password::HASHES_RUNNING);
        self.rule("auth.password_hashes_queue_max", auth.password_hashes_queue_max, password::HASHES_WAITING);
        if !auth.otp_domain.is_empty() && !otp::domain_fits(&auth.otp_domain) {
            let accepted = "must be a host's name such as example.com, or empty";
            self.refuse("auth.otp_domain", format!("{:?}", auth.otp_domain), accepted);
        }
        self.check_test_numbers(auth);
        self.check_legacy(auth);
        if auth.token_keys_old.len() > 16 {
            let found = format!("{} keys", auth.token_keys_old.len());
            self.refuse("auth.token_keys_old", found, "must hold at most 16 keys");
        }
        let methods = auth.method.list();
        if methods.is_empty() || methods.iter().enumerate().any(|(at, one)| methods[..at].contains(one)) {
            self.refuse(
                "auth.method",
                "a list".into(),
                "must name \"OTP\", \"PASSWD\" or both; name each method once",
            );
        }
        let characters = auth.otp_text.chars().count();
        if characters > otp::TEXT_CHARS_MAX {
            let accepted = format!("must have at most {} characters", otp::TEXT_CHARS_MAX);
            self.refuse("auth.otp_text", format!("{characters} characters"), &accepted);
        }
        if !auth.otp_text.contains(otp::CODE_PLACEHOLDER) {
            self.refuse(
                "auth.otp_text",
                format!("{:?}", auth.otp_text),
                "must contain {code}, where the code goes",
            );
        }
        for (key, value) in
            [("auth.token_issuer", &auth.token_issuer), ("auth.token_audience", &auth.token_audience)]
        {
            if value.is_empty() {
                self.refuse(key, "\"\"".into(), "must not be empty");
            }
        }
        if let Groups::List(groups) = &auth.groups
            && (groups.is_empty() || groups.iter().any(|group| *group > i32::MAX as u32))
        {
            self.refuse(
                "auth.groups",
                format!("{groups:?}"),
                "must name at least one group from 0 to 2147483647, or be \"any\"",
            );
        }
        self.check_login_rules(config);
    }

    /// Runs the domain's own checks, for rules that a range cannot express.
    fn check_login_rules(&mut self, config: &Config) {
        if self.problems.iter().any(|problem| problem.key.starts_with("auth.")) {
            return;
        }
        if let Err(error) = rules::otp_rules(config).check() {
            let key = match error.rule {
                "length" => "auth.otp_length",
                "ttl" => "auth.otp_expire_minutes",
                "attempts_max" => "auth.otp_attempts_max",
                "resend_after" => "auth.otp_resend_seconds",
                "text" => "auth.otp_text",
                "domain" => "auth.otp_domain",
                "test_numbers" => "auth.otp_test_numbers",
                _ => "auth",
            };
            self.refuse_rule(key, &error);
        }
        if let Err(error) = rules::identity_rules(config).check() {
            let key = match error.rule {
                "sessions_per_user_max" => "auth.sessions_per_user_max",
                "session_absolute_max" => "auth.session_absolute_seconds",
                _ => "auth",
            };
            self.refuse_rule(key, &error);
        }
    }

    fn check_legacy(&mut self, auth: &Auth) {
        if auth.legacy_user_claim.is_empty() {
            self.refuse("auth.legacy_user_claim", "\"\"".into(), "must not be empty");
        }
        if auth.legacy_secret.is_some() && auth.legacy_until().is_none() {
            let found = format!("{:?}", auth.legacy_until);
            let accepted =
                "must be a day such as 2027-01-31: from then on tokens of the original are refused";
            self.refuse("auth.legacy_until", found, accepted);
        }
    }

    fn check_test_numbers(&mut self, auth: &Auth) {
        let length = usize::from(auth.otp_length);
        for (number, code) in &auth.otp_test_numbers {
            let key = format!("auth.otp_test_numbers.{number}");
            if let Err(error) = chelseru_domain::PhoneNumber::parse(number) {
                self.refuse(&key, format!("{number:?}"), &error.to_string());
            }
            if code.len() != length || !code.bytes().all(|byte| byte.is_ascii_digit()) {
                self.problems.push(self.source.problem(
                    &key,
                    None,
                    format!("must be a code of {length} digits, as auth.otp_length says"),
                ));
            }
        }
        if !auth.otp_test_numbers.is_empty() {
            let text = format!(
                "{} test numbers have a fixed code, so ANYBODY who knows one can log in as it; \
                 remove them before real users log in",
                auth.otp_test_numbers.len()
            );
            self.warnings.push(self.source.problem("auth.otp_test_numbers", None, text));
        }
    }
}
