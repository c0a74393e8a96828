//! `[auth]`: login by code or password, tokens and sessions.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::read::Checker;
use crate::{Config, SettingSource};

/// `[auth]`: login by one-time password, tokens and sessions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// How people log in: `"OTP"`, `"PASSWD"`, or a list of both.
    pub method: AuthMethods,
    /// Digits of a code: 4 to 10.
    pub otp_length: u8,
    /// Minutes a code is valid: 1 to 10.
    pub otp_expire_minutes: u64,
    /// Seconds before another code may be asked for; 0 means until the pending code expires.
    pub otp_resend_seconds: u64,
    /// Wrong guesses that burn a code: 1 to 10.
    pub otp_attempts_max: u32,
    /// The message, when no template is used; `{code}` stands for the code.
    pub otp_text: String,
    /// Logical template name under `[sms.templates]`; empty sends `otp_text`.
    pub otp_template: String,
    /// The site that codes are for, `example.com`: the text then ends with `@example.com #code`. Empty: none.
    pub otp_domain: String,
    /// Numbers with a code that is always the same, and to which nothing is sent. For trying out only.
    pub otp_test_numbers: BTreeMap<String, String>,
    /// Which values of `group` a client may name: a list of numbers, or `"any"`.
    pub groups: Groups,
    /// Seconds an access token is valid: 30 to 86400.
    pub access_token_seconds: u64,
    /// Seconds a refresh token is valid, and so how long a session lives without a refresh: 300 to 31536000.
    pub refresh_token_seconds: u64,
    /// Seconds a replaced refresh token may be presented again, for a lost answer; later ends the session: 0 to 86400.
    pub refresh_repeat_seconds: u64,
    /// Seconds from login to the end of a session, however often it is refreshed: 300 to 315360000.
    pub session_absolute_seconds: u64,
    /// The key that signs tokens: `hs256-1`, `hs256-2`, ... are made by the gateway; `{ file = "path" }` is an
    /// Ed25519 or P-256 key as PEM, whose public half is then listed at `.well-known/jwks.json`.
    pub token_key: SettingSource,
    /// Keys whose tokens stay valid until they expire.
    pub token_keys_old: Vec<SettingSource>,
    /// The `iss` claim.
    pub token_issuer: String,
    /// The `aud` claim.
    pub token_audience: String,
    /// Sessions of one user; the oldest goes when a new one would exceed it. 1 to 1000.
    pub sessions_per_user_max: u32,
    /// Guesses at a user name's password before each further one has to wait: 1 to 100.
    pub password_attempts_max: u32,
    /// Seconds of the first wait; it doubles with each further guess: 1 to 86400.
    pub password_lockout_seconds: u64,
    /// Seconds of the longest wait: `password_lockout_seconds` to 86400.
    pub password_lockout_seconds_max: u64,
    /// Passwords hashed at once, each with 19 MiB and one core: 1 to 64.
    pub password_hashes_max: u32,
    /// Requests that wait for their turn to hash; one more answers 503: 0 to 4096.
    pub password_hashes_queue_max: u32,
}

impl Default for Auth {
    fn default() -> Self {
        Auth {
            method: AuthMethods::One(AuthMethod::Otp),
            otp_length: 6,
            otp_expire_minutes: 4,
            otp_resend_seconds: 0,
            otp_attempts_max: 5,
            otp_text: "Your code: {code}".into(),
            otp_template: String::new(),
            otp_domain: String::new(),
            otp_test_numbers: BTreeMap::new(),
            groups: Groups::List(vec![0]),
            access_token_seconds: 300,
            refresh_token_seconds: 86_400,
            refresh_repeat_seconds: 60,
            session_absolute_seconds: 7_776_000,
            token_key: SettingSource::Text("hs256-1".into()),
            token_keys_old: Vec::new(),
            token_issuer: "chelseru".into(),
            token_audience: "chelseru".into(),
            sessions_per_user_max: 50,
            password_attempts_max: 5,
            password_lockout_seconds: 30,
            password_lockout_seconds_max: 900,
            password_hashes_max: 2,
            password_hashes_queue_max: 64,
        }
    }
}

impl Auth {
    pub fn otp_ttl(&self) -> Duration {
        Duration::from_secs(self.otp_expire_minutes * 60)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthMethod {
    /// A code by SMS.
    #[serde(rename = "OTP")]
    Otp,
    /// A user name and a password.
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
    pub fn has(&self, method: AuthMethod) -> bool {
        self.list().contains(&method)
    }

    pub fn list(&self) -> &[AuthMethod] {
        match self {
            AuthMethods::One(method) => std::slice::from_ref(method),
            AuthMethods::Many(methods) => methods,
        }
    }
}

/// The groups a client may name when it logs in. A group is part of an account's key, never a right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a list of whole numbers, or \"any\"")]
pub enum Groups {
    List(Vec<u32>),
    Any(AnyWord),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AnyWord {
    #[serde(rename = "any")]
    Any,
}

impl Checker<'_> {
    pub(crate) fn check_auth(&mut self, config: &Config) {
        let auth = &config.auth;
        self.range("auth.otp_length", u64::from(auth.otp_length), 4, 10);
        self.range("auth.otp_expire_minutes", auth.otp_expire_minutes, 1, 10);
        self.range("auth.otp_attempts_max", u64::from(auth.otp_attempts_max), 1, 10);
        self.range("auth.otp_resend_seconds", auth.otp_resend_seconds, 0, auth.otp_expire_minutes * 60);
        self.range("auth.access_token_seconds", auth.access_token_seconds, 30, 86_400);
        let refresh_least = auth.access_token_seconds.clamp(300, 86_400);
        self.range("auth.refresh_token_seconds", auth.refresh_token_seconds, refresh_least, 31_536_000);
        self.range("auth.refresh_repeat_seconds", auth.refresh_repeat_seconds, 0, 86_400);
        self.range("auth.session_absolute_seconds", auth.session_absolute_seconds, 300, 315_360_000);
        self.range("auth.sessions_per_user_max", u64::from(auth.sessions_per_user_max), 1, 1000);
        self.range("auth.password_attempts_max", u64::from(auth.password_attempts_max), 1, 100);
        self.range("auth.password_lockout_seconds", auth.password_lockout_seconds, 1, 86_400);
        let first = auth.password_lockout_seconds.min(86_400);
        self.range("auth.password_lockout_seconds_max", auth.password_lockout_seconds_max, first, 86_400);
        self.range("auth.password_hashes_max", u64::from(auth.password_hashes_max), 1, 64);
        self.range("auth.password_hashes_queue_max", u64::from(auth.password_hashes_queue_max), 0, 4096);
        if !auth.otp_domain.is_empty() && !chelseru_domain::otp::domain_fits(&auth.otp_domain) {
            let accepted = "must be a host's name such as example.com, or empty";
            self.refuse("auth.otp_domain", format!("{:?}", auth.otp_domain), accepted);
        }
        self.check_test_numbers(auth);
        if auth.token_keys_old.len() > 16 {
            let found = format!("{} keys", auth.token_keys_old.len());
            self.refuse("auth.token_keys_old", found, "must hold at most 16 keys");
        }
        let methods = auth.method.list();
        if methods.is_empty() || methods.iter().enumerate().any(|(at, one)| methods[..at].contains(one)) {
            self.refuse("auth.method", "a list".into(), "must name \"OTP\", \"PASSWD\" or both, each once");
        }
        if !auth.otp_text.contains("{code}") {
            self.refuse(
                "auth.otp_text",
                format!("{:?}", auth.otp_text),
                "must contain {code}, which stands for the code",
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
                "ANYBODY who knows a test number logs in as it: {} of them have a fixed code; \
                 remove them before real users come",
                auth.otp_test_numbers.len()
            );
            self.warnings.push(self.source.problem("auth.otp_test_numbers", None, text));
        }
    }
}
