//! Reading, locating and checking a configuration file.
//!
//! Every problem names file, line, key, the value that was found and what is accepted. Shape errors (TOML
//! syntax, unknown keys, wrong types) come from the parser one at a time; the checks of values report all of
//! theirs together. A secret's value never appears in a problem.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Config, Groups, SettingSource};

/// The text of a configuration file, kept to find the line of a key.
pub struct Source {
    pub path: PathBuf,
    text: String,
    document: Option<toml_edit::Document<String>>,
}

/// A configuration that passed every check that needs no plugin.
pub struct Loaded {
    pub config: Config,
    pub source: Source,
    pub warnings: Vec<Problem>,
}

/// One thing that is wrong, or worth a warning.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    pub file: PathBuf,
    /// Counted from 1; `None` when the key is not in the file.
    pub line: Option<usize>,
    /// Dotted: `auth.otp_length`.
    pub key: String,
    /// As found; `None` when it is missing or secret.
    pub found: Option<String>,
    /// What is wrong and what would be accepted.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        if let Some(found) = &self.found {
            write!(f, " = {found}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Everything that is wrong with a file: at least one problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl Config {
    /// Reads and checks a file.
    ///
    /// Errors: [`Problems`], when it cannot be read, is not TOML, has a key that is not known, or a value that
    /// is not accepted.
    pub fn load(path: &Path) -> Result<Loaded, Problems> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Problems(vec![Problem {
                file: path.to_owned(),
                line: None,
                key: String::new(),
                found: None,
                message: format!("cannot be read: {error}; name another file with --config PATH"),
            }])
        })?;
        Config::parse(path, text)
    }

    /// [`Config::load`] on a text that was already read.
    pub fn parse(path: &Path, text: String) -> Result<Loaded, Problems> {
        let source =
            Source { path: path.to_owned(), document: toml_edit::Document::parse(text.clone()).ok(), text };
        let config: Config =
            toml::from_str(&source.text).map_err(|error| Problems(vec![source.shape_problem(&error)]))?;
        let mut checker = Checker { source: &source, problems: Vec::new(), warnings: Vec::new() };
        checker.check(&config);
        let Checker { problems, warnings, .. } = checker;
        if problems.is_empty() { Ok(Loaded { config, source, warnings }) } else { Err(Problems(problems)) }
    }
}

impl Source {
    /// A problem at a dotted key; the nearest table that exists gives the line when the key itself is not in
    /// the file.
    pub fn problem(&self, key: &str, found: Option<String>, message: impl Into<String>) -> Problem {
        Problem {
            file: self.path.clone(),
            line: self.line_of_key(key),
            key: key.to_owned(),
            found,
            message: message.into(),
        }
    }

    fn line_of_key(&self, key: &str) -> Option<usize> {
        let document = self.document.as_ref()?;
        let mut item: &toml_edit::Item = document.as_item();
        let mut span = None;
        for part in key.split('.') {
            let table = item.as_table_like()?;
            let Some((name, next)) = table.get_key_value(part) else { break };
            span = name.span().or_else(|| next.span()).or(span);
            item = next;
        }
        span.map(|span| self.line_at(span.start))
    }

    fn line_at(&self, offset: usize) -> usize {
        self.text.as_bytes()[..offset.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// Turns a parser's error into a problem: its span gives the line, the line gives the key.
    fn shape_problem(&self, error: &toml::de::Error) -> Problem {
        let line = error.span().map(|span| self.line_at(span.start));
        let (mut key, mut found) = (String::new(), None);
        if let Some(line) = line {
            let lines: Vec<&str> = self.text.lines().collect();
            let table = lines[..line.min(lines.len())]
                .iter()
                .rev()
                .map(|line| line.trim())
                .find(|line| line.starts_with('['))
                .map(|line| line.trim_start_matches('[').split(']').next().unwrap_or("").trim().to_owned());
            let text = lines.get(line - 1).copied().unwrap_or("").trim();
            let table = table.unwrap_or_default();
            key = match text.split_once('=') {
                Some((name, value)) if !text.starts_with('[') && !text.starts_with('#') => {
                    // A value under `settings` may be a secret: it is never repeated.
                    if !table.contains("settings")
                        && !table.starts_with("provider")
                        && !table.starts_with("webhooks")
                    {
                        found = Some(value.split(" #").next().unwrap_or(value).trim().to_owned());
                    }
                    if table.is_empty() { name.trim().to_owned() } else { format!("{table}.{}", name.trim()) }
                }
                _ => table,
            };
        }
        Problem { file: self.path.clone(), line, key, found, message: error.message().replace('\n', "; ") }
    }
}

pub(super) struct Checker<'a> {
    pub(super) source: &'a Source,
    problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl Checker<'_> {
    fn check(&mut self, config: &Config) {
        let server = &config.server;
        let base = &server.base_path;
        let well_formed = base.is_empty()
            || (base.starts_with('/')
                && !base.ends_with('/')
                && !base.contains("//")
                && base.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte)));
        if !well_formed {
            self.refuse(
                "server.base_path",
                format!("{base:?}"),
                "must be empty or start with a slash, not end with one, and hold only letters, digits and -_.~/",
            );
        }
        self.range("server.connections_max", u64::from(server.connections_max), 1, 1_000_000);
        self.range("server.header_read_timeout_seconds", server.header_read_timeout_seconds, 1, 3600);
        self.range("server.headers_max", server.headers_max as u64, 8, 1024);
        self.range("server.header_bytes_max", server.header_bytes_max as u64, 8192, 1024 * 1024);
        self.range("server.body_bytes_max", server.body_bytes_max as u64, 1024, 1024 * 1024 * 1024);
        self.range("server.body_read_timeout_seconds", server.body_read_timeout_seconds, 1, 3600);
        self.range("server.shutdown_timeout_seconds", server.shutdown_timeout_seconds, 0, 3600);
        for text in &server.trusted_proxies {
            if crate::network(text).is_none() {
                let accepted = "must hold networks such as \"10.0.0.0/8\" or addresses";
                self.refuse("server.trusted_proxies", format!("{text:?}"), accepted);
            }
        }
        self.range("audit.records_max", config.audit.records_max, 1000, 10_000_000);
        self.range("data.cache_mib", config.data.cache_mib, 8, 1024 * 1024);

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

        let plugins = &config.plugins;
        self.range("plugins.calls_max", u64::from(plugins.calls_max), 1, 4096);
        self.range("plugins.calls_per_provider_max", u64::from(plugins.calls_per_provider_max), 1, 4096);
        self.range("plugins.queue_timeout_ms", plugins.queue_timeout_ms, 0, 60_000);
        self.range("plugins.wall_time_seconds", plugins.wall_time_seconds, 1, 120);
        self.range("plugins.cpu_time_ms", plugins.cpu_time_ms, 20, 10_000);
        self.range("plugins.memory_mib", u64::from(plugins.memory_mib), 1, 64);
        self.range(
            "plugins.http_response_bytes_max",
            plugins.http_response_bytes_max,
            1024,
            16 * 1024 * 1024,
        );
        self.check_sms(config);
        self.check_chat(config);
        self.check_payment(config);
        self.check_webhooks(config);
        self.check_providers(config);
    }

    fn check_chat(&mut self, config: &Config) {
        for (key, value, least, greatest) in config.chat.ranges().into_iter().chain(config.files.ranges()) {
            self.range(key, value, least, greatest);
        }
        for origin in config.chat.origins.iter().filter(|origin| !super::chat::is_origin(origin)) {
            let accepted = "must hold origins such as \"https://example.com\", without a path";
            self.refuse("chat.origins", format!("{origin:?}"), accepted);
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

    fn check_test_numbers(&mut self, auth: &super::Auth) {
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

    fn check_sms(&mut self, config: &Config) {
        self.check_sms_limits(config);
        let names = config.sms.service.names();
        let known = || {
            let mut known: Vec<&str> = config.provider.keys().map(String::as_str).collect();
            known.extend(super::KNOWN_PROVIDERS.iter().map(|(name, _)| *name));
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

    fn check_payment(&mut self, config: &Config) {
        let payment = &config.payment;
        let gateway = &payment.gateway;
        if gateway != super::SANDBOX_PAY && config.plugin_of(gateway).is_none() {
            let mut known: Vec<&str> = config.provider.keys().map(String::as_str).collect();
            known.extend([super::SANDBOX_PAY, "ZARINPAL_COM", "PAYPING_IR"]);
            self.refuse(
                "payment.gateway",
                format!("{gateway:?}"),
                &format!("is not a payment gateway; accepted are {}", known.join(", ")),
            );
        }
        if config.provider.contains_key(super::SANDBOX_PAY) {
            self.refuse(
                &format!("provider.{}", super::SANDBOX_PAY),
                "a table".into(),
                "is built in and has no entry; name yours otherwise",
            );
        }
        self.range("payment.reconcile_seconds", payment.reconcile_seconds, 1, 60);
        if !payment.callback_url.is_empty() && super::payment_parts(&payment.callback_url).is_none() {
            self.refuse(
                "payment.callback_url",
                format!("{:?}", payment.callback_url),
                "must be an absolute http or https address, or \"\"",
            );
        }
        if payment.callback_urls.len() > super::payment::CALLBACK_URLS_MAX {
            self.refuse(
                "payment.callback_urls",
                format!("{} addresses", payment.callback_urls.len()),
                &format!("takes at most {}", super::payment::CALLBACK_URLS_MAX),
            );
        }
        for url in &payment.callback_urls {
            if super::payment_parts(url).is_none() {
                self.refuse(
                    "payment.callback_urls",
                    format!("{url:?}"),
                    "must hold absolute http or https addresses",
                );
            }
        }
    }

    fn check_providers(&mut self, config: &Config) {
        for (name, entry) in &config.provider {
            let key = format!("provider.{name}");
            if name.is_empty()
                || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
            {
                self.refuse(
                    &key,
                    format!("{name:?}"),
                    "a provider's name holds letters, digits, _ and - only",
                );
            }
            match config.plugin_of(name) {
                None => self.refuse(
                    &key,
                    format!("{name:?}"),
                    "needs `plugin`, the name of a file in the plugins folder without .wasm",
                ),
                Some(plugin)
                    if plugin.is_empty()
                        || !plugin
                            .bytes()
                            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) =>
                {
                    self.refuse(
                        &format!("{key}.plugin"),
                        format!("{plugin:?}"),
                        "must be a file name in the plugins folder without .wasm: letters, digits, _ and -",
                    );
                }
                Some(_) => {}
            }
            for (setting, value) in &entry.settings {
                let key = format!("{key}.settings.{setting}");
                if let Err(message) = resolve_setting(value, &self.source.path) {
                    self.problems.push(self.source.problem(&key, Some(format!("{value:?}")), message));
                }
            }
        }
    }

    pub(super) fn range(&mut self, key: &str, found: u64, least: u64, most: u64) {
        if !(least..=most).contains(&found) {
            self.refuse(key, found.to_string(), &format!("must be {least} to {most}"));
        }
    }

    pub(super) fn refuse(&mut self, key: &str, found: String, message: &str) {
        self.problems.push(self.source.problem(key, Some(found), message));
    }
}

/// The value of a setting, read from where the file says.
///
/// Errors: a sentence for the operator, when the variable or file is missing or empty.
fn resolve_setting(source: &SettingSource, config_file: &Path) -> Result<String, String> {
    let value = match source {
        SettingSource::Text(text) => text.clone(),
        SettingSource::Integer(number) => number.to_string(),
        SettingSource::Boolean(fact) => fact.to_string(),
        SettingSource::Env { env } => std::env::var(env)
            .map_err(|_| format!("the environment variable {env} is not set (or not text)"))?,
        SettingSource::File { file } => {
            let base = config_file.parent().unwrap_or(Path::new(""));
            let path = base.join(file);
            let text = std::fs::read_to_string(&path)
                .map_err(|error| format!("the file {} cannot be read: {error}", path.display()))?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    match (source, value.is_empty()) {
        (SettingSource::Env { env }, true) => Err(format!("the environment variable {env} is empty")),
        (SettingSource::File { file }, true) => Err(format!("the file {} is empty", file.display())),
        _ => Ok(value),
    }
}

impl Loaded {
    pub fn resolve(&self, source: &SettingSource) -> Result<String, String> {
        resolve_setting(source, &self.source.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        match Config::parse(Path::new("config.toml"), text.into()) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.0.iter().map(Problem::to_string).collect(),
        }
    }

    #[test]
    fn an_empty_file_is_the_default() {
        let loaded = Config::parse(Path::new("config.toml"), String::new()).expect("defaults are accepted");
        assert_eq!(loaded.config, Config::default());
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_accepted_ones() {
        let found = problems("[server]\nlisten = \"127.0.0.1:1\"\nlisten_on = 3\n");
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("config.toml:3: server.listen_on = 3: unknown field `listen_on`"),
            "{found:?}"
        );
        assert!(found[0].contains("`base_path`"), "{found:?}");
    }

    #[test]
    fn a_wrong_type_names_its_line_key_and_value() {
        let found = problems("[auth]\notp_length = \"six\" # digits\n");
        assert!(
            found[0].starts_with(
                "config.toml:2: auth.otp_length = \"six\": invalid type: string \"six\", expected"
            ),
            "{found:?}"
        );
    }

    #[test]
    fn values_out_of_range_are_reported_together() {
        let found =
            problems("[auth]\notp_length = 3\notp_expire_minutes = 11\n\n[plugins]\nmemory_mib = 65\n");
        assert_eq!(
            found,
            [
                "config.toml:2: auth.otp_length = 3: must be 4 to 10",
                "config.toml:3: auth.otp_expire_minutes = 11: must be 1 to 10",
                "config.toml:6: plugins.memory_mib = 65: must be 1 to 64",
            ]
        );
    }

    #[test]
    fn values_of_auth_and_proxies_are_checked_and_no_fixed_code_is_repeated() {
        let found = problems(
            "[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"proxy\"]\n[auth]\nmethod = []\notp_domain = \"a b\"\n\
             otp_test_numbers = { \"0912\" = \"918273\", \"09120000000\" = \"91827\" }\n\
             password_lockout_seconds = 10\npassword_lockout_seconds_max = 9\nrefresh_repeat_seconds = 86401\n\
             session_absolute_seconds = 299\npassword_hashes_max = 65\n[audit]\nrecords_max = 999\n",
        );
        for key in [
            "config.toml:2: server.trusted_proxies = \"proxy\"",
            "config.toml:4: auth.method",
            "config.toml:5: auth.otp_domain",
            "auth.otp_test_numbers.0912 ",
            "auth.otp_test_numbers.09120000000",
            "config.toml:8: auth.password_lockout_seconds_max = 9: must be 10 to 86400",
            "config.toml:9: auth.refresh_repeat_seconds = 86401: must be 0 to 86400",
            "config.toml:10: auth.session_absolute_seconds = 299: must be 300",
            "config.toml:11: auth.password_hashes_max = 65: must be 1 to 64",
            "config.toml:13: audit.records_max = 999: must be 1000",
        ] {
            assert!(found.iter().any(|problem| problem.contains(key)), "{key} is not in {found:#?}");
        }
        assert_eq!(found.len(), 10, "{found:#?}");
        assert!(!found.join("").contains("91827"), "{found:#?}");
        assert!(!problems("[auth]\nmethod = [\"OTP\", \"OTP\"]\n").is_empty());
        assert!(problems("[auth]\nmethod = \"SMS\"\n")[0].contains("\"OTP\", \"PASSWD\", or a list of both"));
        assert!(problems("[auth]\nmethod = [\"PASSWD\", \"OTP\"]\n").is_empty());
    }

    #[test]
    fn test_numbers_are_warned_of() {
        let text = "[auth]\notp_test_numbers = { \"09120000000\" = \"123456\" }\n";
        let loaded = Config::parse(Path::new("config.toml"), text.into()).expect("accepted");
        assert_eq!(loaded.warnings.len(), 1);
        let warning = loaded.warnings[0].to_string();
        assert!(warning.contains("ANYBODY") && !warning.contains("123456"), "{warning}");
    }

    #[test]
    fn a_service_that_is_no_provider_lists_the_known_ones() {
        let found = problems("[sms]\nservice = [\"KAVENEGAR\"]\n");
        assert!(
            found[0].starts_with("config.toml:2: sms.service = \"KAVENEGAR\": is not a provider"),
            "{found:?}"
        );
        assert!(found[0].contains("KAVENEGAR_COM"), "{found:?}");
    }

    #[test]
    fn a_template_in_use_needs_an_id_for_every_selected_provider() {
        let found = problems(
            "[auth]\notp_template = \"login\"\n[sms]\nservice = [\"KAVENEGAR_COM\", \"SANDBOX_SMS\"]\n\
             [sms.templates.login]\nKAVENEGAR_COM = \"x\"\n",
        );
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("has no id for SANDBOX_SMS"), "{found:?}");
    }

    #[test]
    fn a_missing_variable_is_named_and_a_literal_is_never_repeated() {
        let found = problems(
            "[provider.KAVENEGAR_COM.settings]\napi_key = { env = \"CHELSERU_TEST_NOT_SET\" }\nsender = \"s3cret\"\n",
        );
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("config.toml:2: provider.KAVENEGAR_COM.settings.api_key"), "{found:?}");
        assert!(found[0].contains("CHELSERU_TEST_NOT_SET is not set"), "{found:?}");
        assert!(!found[0].contains("s3cret"));
    }

    #[test]
    fn a_broken_secret_line_is_not_repeated() {
        let found = problems("[provider.KAVENEGAR_COM.settings]\napi_key = [\"s3cret\"]\n");
        assert_eq!(found.len(), 1);
        assert!(!found[0].contains("s3cret"), "{found:?}");
        assert!(found[0].starts_with("config.toml:2: provider.KAVENEGAR_COM.settings.api_key"), "{found:?}");
    }

    #[test]
    fn syntax_errors_name_their_line() {
        let found = problems("[server]\nlisten = \n");
        assert!(found[0].starts_with("config.toml:2: "), "{found:?}");
    }

    #[test]
    fn keys_that_wait_for_a_restart_are_named() {
        let mut next = Config::default();
        next.server.body_bytes_max += 1;
        next.plugins.calls_max += 1;
        next.auth.otp_length = 8;
        assert_eq!(Config::default().restart_keys(&next), ["server.body_bytes_max", "plugins.calls_max"]);
    }
}
