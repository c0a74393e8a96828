//! The configuration: every key, its meaning, unit and default.
//!
//! `config.toml` is read whole and checked whole before any part of the gateway builds itself from its own
//! section. Unknown keys are errors. The structs here are the only list of keys; the `config.toml` at the
//! root of the project shows the same keys with the same defaults, and a test holds the two equal.
//!
//! What an edit changes while the gateway runs: everything except the keys in [`Config::restart_keys`].
//!
//! Not here: reading, locating and checking (see `load`), and what a plugin's own settings mean (the plugin
//! says; see `crate::providers`).

mod chat;
mod files;
mod load;
mod network;
mod payment;
pub mod rules;
mod webhooks;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{Error as _, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

pub use chat::Chat;
pub use files::Files;
pub use load::{Loaded, Problem, Problems, Source};
pub use network::network;
pub use payment::{Payment, SANDBOX_PAY, Unit, is_allowed as payment_url_allowed, parts as payment_parts};
pub use webhooks::{Endpoint as WebhookEndpoint, Webhooks};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub log: Log,
    pub data: Data,
    pub auth: Auth,
    pub audit: Audit,
    pub sms: Sms,
    pub payment: Payment,
    pub webhooks: Webhooks,
    pub chat: Chat,
    pub files: Files,
    pub plugins: Plugins,
    /// One entry per provider account; the name is free, several entries may use one plugin.
    pub provider: BTreeMap<String, ProviderEntry>,
}

/// `[server]`: the listener and the bounds of a connection. All of it is read at start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Prefix of every route, without a slash at the end.
    pub base_path: String,
    /// Connections open at once; further ones wait in the kernel's queue.
    pub connections_max: u32,
    /// Seconds a client may take to send a request's head; also how long a kept-alive connection may idle.
    pub header_read_timeout_seconds: u64,
    /// Headers in one request; more answer 431.
    pub headers_max: usize,
    /// Bytes of one request's head; more answer 431. At least 8192.
    pub header_bytes_max: usize,
    /// Bytes of one request's body; more answer 413.
    pub body_bytes_max: usize,
    /// Seconds a client may take to send a request's body; longer answers 408.
    pub body_read_timeout_seconds: u64,
    /// Seconds given to requests in flight when the gateway is told to stop.
    pub shutdown_timeout_seconds: u64,
    /// Networks or addresses of proxies whose `Forwarded` and `X-Forwarded-For` name the client. Empty: nobody's.
    pub trusted_proxies: Vec<String>,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            base_path: "/drfchelseru".into(),
            connections_max: 10_000,
            header_read_timeout_seconds: 30,
            headers_max: 64,
            header_bytes_max: 16 * 1024,
            body_bytes_max: 1024 * 1024,
            body_read_timeout_seconds: 15,
            shutdown_timeout_seconds: 20,
            trusted_proxies: Vec::new(),
        }
    }
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: LogLevel,
    /// `text` for people, `json` for machines. Read at start.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Log { level: LogLevel::Info, format: LogFormat::Text }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// `[data]`: where the gateway keeps what it writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// The data folder, relative to the configuration file: database, plugins, cache, keys. Read at start.
    pub dir: PathBuf,
    /// Memory for the database's page cache, in MiB. Read at start.
    pub cache_mib: u64,
}

impl Default for Data {
    fn default() -> Self {
        Data { dir: "data".into(), cache_mib: 128 }
    }
}

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

/// `[audit]`: the log of security events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// Records kept; the oldest go first. 1000 to 10000000.
    pub records_max: u64,
}

impl Default for Audit {
    fn default() -> Self {
        Audit { records_max: 100_000 }
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

/// `[plugins]`: what one call of a plugin may use. Applies to every provider entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plugins {
    /// Calls of all plugins running at once, and the size of the instance pool. Read at start.
    pub calls_max: u32,
    /// Calls of one provider entry running at once.
    pub calls_per_provider_max: u32,
    /// Milliseconds a call waits for its turn before it fails as busy.
    pub queue_timeout_ms: u64,
    /// Seconds one call may take, its HTTP requests included.
    pub wall_time_seconds: u64,
    /// Milliseconds of computing one call may use.
    pub cpu_time_ms: u64,
    /// Memory of one call, in MiB: 1 to 64.
    pub memory_mib: u32,
    /// Bytes of one HTTP answer from a provider.
    pub http_response_bytes_max: u64,
}

impl Default for Plugins {
    fn default() -> Self {
        Plugins {
            calls_max: 256,
            calls_per_provider_max: 128,
            queue_timeout_ms: 5_000,
            wall_time_seconds: 15,
            cpu_time_ms: 200,
            memory_mib: 16,
            http_response_bytes_max: 1024 * 1024,
        }
    }
}

/// `[provider.NAME]`: one account at a provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderEntry {
    /// File name in `data/plugins/` without `.wasm`. May be left out for the names in [`KNOWN_PROVIDERS`].
    pub plugin: Option<String>,
    /// `sms` or `payment`. May be left out where `sms.service` or `payment.gateway` selects it, and for the names in
    /// [`KNOWN_PROVIDERS`].
    pub kind: Option<ProviderKind>,
    /// Granted hosts, `name` or `name:port`. Left out: what the plugin asks for, public addresses only.
    /// A loopback or private address must be granted as that very address.
    pub hosts: Option<Vec<String>>,
    /// Messages handed to it at once; 0: only `plugins.calls_per_provider_max` bounds them.
    pub concurrency_max: u32,
    /// Messages handed to it in a second; 0: no bound.
    pub rate_per_second: u32,
    /// The plugin's own settings; `chelseru plugin inspect` lists them.
    pub settings: BTreeMap<String, SettingSource>,
}

/// What a provider entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    Sms,
    Payment,
}

/// A setting's value: in the file, in the environment, or in a file of its own.
#[derive(Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum SettingSource {
    /// `{ env = "NAME" }`: a variable of the gateway's environment.
    Env {
        env: String,
    },
    /// `{ file = "path" }`: relative to the configuration file; a last line break does not count.
    File {
        file: PathBuf,
    },
    Text(String),
    Integer(i64),
    Boolean(bool),
}

impl<'de> Deserialize<'de> for SettingSource {
    /// By hand, because a derived untagged enum also reads lists, and its error would repeat what may be a secret.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SourceVisitor;
        impl<'de> Visitor<'de> for SourceVisitor {
            type Value = SettingSource;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text, a whole number, true, false, { env = \"NAME\" } or { file = \"path\" }")
            }

            fn visit_str<E>(self, text: &str) -> Result<SettingSource, E> {
                Ok(SettingSource::Text(text.to_owned()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<SettingSource, E> {
                Ok(SettingSource::Integer(number))
            }

            fn visit_bool<E>(self, fact: bool) -> Result<SettingSource, E> {
                Ok(SettingSource::Boolean(fact))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SettingSource, A::Error> {
                let key: Option<String> = map.next_key()?;
                let source = match key.as_deref() {
                    Some("env") => SettingSource::Env { env: map.next_value()? },
                    Some("file") => SettingSource::File { file: map.next_value()? },
                    _ => return Err(A::Error::invalid_type(Unexpected::Map, &self)),
                };
                match map.next_key::<String>()? {
                    None => Ok(source),
                    Some(_) => Err(A::Error::invalid_type(Unexpected::Map, &self)),
                }
            }
        }
        deserializer.deserialize_any(SourceVisitor)
    }
}

impl std::fmt::Debug for SettingSource {
    /// Names the source, never the value.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SettingSource::Env { env } => write!(f, "env {env}"),
            SettingSource::File { file } => write!(f, "file {}", file.display()),
            SettingSource::Text(_) => f.write_str("text"),
            SettingSource::Integer(_) => f.write_str("integer"),
            SettingSource::Boolean(_) => f.write_str("boolean"),
        }
    }
}

/// Provider names of the original and of the trial providers, with the plugin each one means.
pub const KNOWN_PROVIDERS: &[(&str, &str)] = &[
    ("SANDBOX_SMS", "sandbox-sms"),
    ("KAVENEGAR_COM", "kavenegar"),
    ("MELI_PAYAMAK_COM", "meli-payamak"),
    ("PARSIAN_WEBCO_IR", "parsian-webco"),
    ("ZARINPAL_COM", "zarinpal"),
    ("PAYPING_IR", "payping"),
];

/// The known plugins that take payments.
const PAYMENT_PLUGINS: [&str; 2] = ["zarinpal", "payping"];

/// The trial SMS provider's plugin: its messages are shown instead of sent.
pub const SANDBOX_SMS_PLUGIN: &str = "sandbox-sms";

impl Config {
    /// The plugin file of a provider entry, without `.wasm`; `None` when neither the entry nor its name says.
    pub fn plugin_of(&self, name: &str) -> Option<&str> {
        let known = || KNOWN_PROVIDERS.iter().find(|(known, _)| *known == name).map(|(_, plugin)| *plugin);
        match self.provider.get(name) {
            Some(ProviderEntry { plugin: Some(plugin), .. }) => Some(plugin),
            _ => known(),
        }
    }

    /// The kind of plugin a provider entry must be.
    pub fn kind_of(&self, name: &str) -> &'static str {
        let entry = self.provider.get(name).and_then(|entry| entry.kind);
        let payment = match entry {
            Some(kind) => kind == ProviderKind::Payment,
            None => {
                name == self.payment.gateway
                    || PAYMENT_PLUGINS.iter().any(|plugin| self.plugin_of(name) == Some(plugin))
            }
        };
        if payment { "payment" } else { "sms" }
    }

    /// Every provider entry that must load: the ones in the file, and a selected trial provider without one.
    pub fn provider_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.provider.keys().cloned().collect();
        for name in self.sms.service.names() {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let gateway = &self.payment.gateway;
        if gateway != SANDBOX_PAY && !names.contains(gateway) {
            names.push(gateway.clone());
        }
        names
    }

    /// Whether a message to a selected provider is shown instead of sent.
    pub fn sandbox_selected(&self) -> bool {
        self.sms.service.names().iter().any(|name| self.plugin_of(name) == Some(SANDBOX_SMS_PLUGIN))
    }

    /// The keys in which `self` and `next` differ although an edit cannot change them while the gateway runs.
    pub fn restart_keys(&self, next: &Config) -> Vec<String> {
        let mut keys = Vec::new();
        let before = serde_json::to_value(&self.server).unwrap_or_default();
        let after = serde_json::to_value(&next.server).unwrap_or_default();
        if let (Some(before), Some(after)) = (before.as_object(), after.as_object()) {
            keys.extend(
                before
                    .iter()
                    .filter(|(key, value)| after.get(*key) != Some(value))
                    .map(|(key, _)| format!("server.{key}")),
            );
        }
        let mut note = |differs: bool, key: &str| {
            if differs {
                keys.push(key.to_owned());
            }
        };
        note(self.log.format != next.log.format, "log.format");
        note(self.data.dir != next.data.dir, "data.dir");
        note(self.data.cache_mib != next.data.cache_mib, "data.cache_mib");
        note(self.plugins.calls_max != next.plugins.calls_max, "plugins.calls_max");
        keys
    }

    /// Takes over the keys that only a restart changes from the running configuration.
    pub fn keep_restart_keys(&mut self, running: &Config) {
        self.server = running.server.clone();
        self.log.format = running.log.format;
        self.data = running.data.clone();
        self.plugins.calls_max = running.plugins.calls_max;
    }
}

/// The store's own folder in the data folder.
pub const STORE_DIR: &str = "db";

/// The data folder of a configuration file.
pub fn data_dir(config: &Config, file: &Path) -> PathBuf {
    let base = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    base.join(&config.data.dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../../config.toml");

    #[test]
    fn the_shipped_file_is_the_built_in_default() {
        let loaded =
            Config::parse(Path::new("config.toml"), SHIPPED.into()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(loaded.config, Config::default());
    }

    #[test]
    fn the_shipped_file_shows_every_key() {
        let shown: toml::Table = toml::from_str(SHIPPED).expect("it is TOML");
        let defaults = toml::Table::try_from(Config::default()).expect("a table");
        let mut missing = Vec::new();
        for (section, keys) in defaults.iter().filter_map(|(section, keys)| Some((section, keys.as_table()?)))
        {
            let shown = shown.get(section).and_then(toml::Value::as_table);
            // A table of tables has no keys of its own; the file shows an example in a comment.
            let scalars = keys.iter().filter(|(_, value)| !value.is_table());
            missing.extend(
                scalars
                    .filter(|(key, _)| !shown.is_some_and(|shown| shown.contains_key(*key)))
                    .map(|(key, _)| format!("{section}.{key}")),
            );
        }
        assert!(missing.is_empty(), "config.toml does not show {missing:?}");
    }
}
