//! A plugin's description of itself, built in one expression.
//!
//! The gateway checks an operator's configuration against it before anything is called, shows the help texts,
//! and grants the hosts. Keys are lower-case letters, digits and underscores.

use crate::context::{BASE_URL, PAYER_URL, REQUEST_TIMEOUT_MS};
use crate::{Description, Setting, SettingKind};

impl Setting {
    fn new(key: &str, kind: SettingKind, help: &str) -> Self {
        let (key, help) = (key.to_owned(), help.to_owned());
        Self { key, kind, required: false, secret: false, default: None, help, replaces: Vec::new() }
    }

    /// An optional text.
    pub fn text(key: &str, help: &str) -> Self {
        Self::new(key, SettingKind::Text, help)
    }

    /// A required text that is never shown: an API key, a password.
    pub fn secret(key: &str, help: &str) -> Self {
        Self { secret: true, required: true, ..Self::text(key, help) }
    }

    /// An optional whole number that is not negative.
    pub fn integer(key: &str, help: &str) -> Self {
        Self::new(key, SettingKind::Integer, help)
    }

    /// An optional `true` or `false`.
    pub fn boolean(key: &str, help: &str) -> Self {
        Self::new(key, SettingKind::Boolean, help)
    }

    /// An optional absolute http or https URL.
    pub fn url(key: &str, help: &str) -> Self {
        Self::new(key, SettingKind::Url, help)
    }

    /// An optional absolute http or https URL that only a payer's browser opens; it needs no grant.
    pub fn link(key: &str, help: &str) -> Self {
        Self::new(key, SettingKind::Link, help)
    }

    /// Hosts that the plugin does not call when this setting is set, and that need no grant then.
    pub fn replaces(self, hosts: &[&str]) -> Self {
        Self { replaces: hosts.iter().map(|host| (*host).to_owned()).collect(), ..self }
    }

    /// The plugin cannot work without it.
    pub fn required(self) -> Self {
        Self { required: true, default: None, ..self }
    }

    /// It may be left out.
    pub fn optional(self) -> Self {
        Self { required: false, ..self }
    }

    /// The value used when the operator gives none.
    pub fn default(self, value: &str) -> Self {
        Self { required: false, default: Some(value.to_owned()), ..self }
    }
}

impl Description {
    /// A plugin without settings or hosts yet. `name` is kebab-case; `version` is usually
    /// `env!("CARGO_PKG_VERSION")`; `summary` is one sentence.
    pub fn new(name: &str, version: &str, summary: &str) -> Self {
        let (name, version, summary) = (name.to_owned(), version.to_owned(), summary.to_owned());
        Self { name, version, summary, settings: Vec::new(), hosts: Vec::new() }
    }

    /// Adds a setting.
    pub fn setting(mut self, setting: Setting) -> Self {
        self.settings.push(setting);
        self
    }

    /// Adds a host the plugin calls: `name` or `name:port`.
    pub fn host(mut self, host: &str) -> Self {
        self.hosts.push(host.to_owned());
        self
    }

    /// Adds what every provider has: the host of `url`, the setting `base_url` with `url` as default, and the
    /// setting `request_timeout_ms` with `timeout_ms`.
    pub fn base_url(self, url: &str, timeout_ms: u32) -> Self {
        let host = url.split_once("://").map_or(url, |(_, rest)| rest);
        let host = host.split('/').next().unwrap_or(host);
        self.host(host)
            .setting(
                Setting::url(BASE_URL, "Address of the provider's API; a test or a relay overrides it.")
                    .default(url),
            )
            .setting(
                Setting::integer(REQUEST_TIMEOUT_MS, "Milliseconds to wait for one answer of the provider.")
                    .default(&timeout_ms.to_string()),
            )
    }
}

impl Description {
    /// Adds the setting `payer_url` of a payment provider: the address of the page that payers' browsers open, for a
    /// `base_url` that only this machine reaches. See [`crate::Context`]'s `payer_url`.
    pub fn payer_url(self) -> Self {
        let help = "Address of the provider's payment page for browsers, when base_url is a relay they cannot reach.";
        self.setting(Setting::link(PAYER_URL, help))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_url_brings_its_host_and_both_settings() {
        let described = Description::new("x", "1.0.0", "X.").base_url("https://api.example:8443/v1", 9000);
        assert_eq!(described.hosts, ["api.example:8443"]);
        let defaults: Vec<_> =
            described.settings.iter().map(|s| (s.key.as_str(), s.kind, s.default.as_deref())).collect();
        assert_eq!(
            defaults,
            [
                ("base_url", SettingKind::Url, Some("https://api.example:8443/v1")),
                ("request_timeout_ms", SettingKind::Integer, Some("9000")),
            ]
        );
    }

    #[test]
    fn a_required_setting_has_no_default() {
        let setting = Setting::text("a", "A.").default("x").required();
        assert!(setting.required && setting.default.is_none());
        let setting = Setting::secret("a", "A.").default("x");
        assert!(!setting.required && setting.secret && setting.default.is_some());
    }
}
