//! `[plugins]` and `[provider.NAME]`: accounts at providers, their plugins, and the limits of a call.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Config;
use crate::read::{Checker, distance, is_near};
use crate::setting::{SettingSource, resolve_setting};

/// The built-in virtual bank.
pub const SANDBOX_PAY: &str = "SANDBOX_PAY";

/// The largest value of `plugins.plugin_bytes_max`.
pub const PLUGIN_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// `[plugins]`: the limits of one plugin call and of one component. They apply to every provider entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plugins {
    /// Concurrent calls of all plugins, and the size of the instance pool. Read at start.
    pub calls_max: u32,
    /// Concurrent calls of one provider entry.
    pub calls_per_provider_max: u32,
    /// Milliseconds a call waits for a free slot before it fails as busy.
    pub queue_timeout_ms: u64,
    /// Seconds one call may take, HTTP requests included.
    pub wall_time_seconds: u64,
    /// Milliseconds of CPU time one call may use.
    pub cpu_time_ms: u64,
    /// Memory of one call, in MiB: 1 to 64.
    pub memory_mib: u32,
    /// Bytes of one HTTP response from a provider.
    pub http_response_bytes_max: u64,
    /// Bytes of the largest component that is loaded, 64 KiB to 256 MiB. Read at start.
    pub plugin_bytes_max: u64,
    /// Seconds of CPU that compiling one component may take, 1 to 3600. Read at start.
    pub compile_seconds: u64,
    /// Memory that compiling one component may take, in MiB: 128 to 65536. Read at start.
    pub compile_memory_mib: u64,
    /// Compiled code that is kept in `data/cache`, in MiB: 16 to 65536. Read at start.
    pub code_cache_mib: u64,
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
            plugin_bytes_max: 16 * 1024 * 1024,
            compile_seconds: 60,
            compile_memory_mib: 1024,
            code_cache_mib: 1024,
        }
    }
}

/// `[provider.NAME]`: one account at a provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderEntry {
    /// File name in `data/plugins/` without `.wasm`. Optional for the names in [`KNOWN_PROVIDERS`].
    pub plugin: Option<String>,
    /// `sms` or `payment`. Optional when `sms.service` or `payment.gateway` selects the entry, and for the names in
    /// [`KNOWN_PROVIDERS`].
    pub kind: Option<ProviderKind>,
    /// Granted hosts, `name` or `name:port`. Default: the hosts the plugin asks for, at public addresses. A loopback
    /// or private address must be listed literally.
    pub hosts: Option<Vec<String>>,
    /// Messages in flight at this provider; 0: limited only by `plugins.calls_per_provider_max`.
    pub concurrency_max: u32,
    /// Messages per second to this provider; 0: unlimited.
    pub rate_per_second: u32,
    /// Warn when the provider's credit is below this, in its own unit (rial or messages); 0: never.
    pub credit_min: u64,
    /// The plugin's own settings; `chelseru plugin inspect` lists them.
    pub settings: BTreeMap<String, SettingSource>,
}

/// The purpose of a provider entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    Sms,
    Payment,
}

/// Provider names of the original, of the trial providers and of the plugins that came later, with their plugins.
pub const KNOWN_PROVIDERS: &[(&str, &str)] = &[
    ("SANDBOX_SMS", "sandbox-sms"),
    ("KAVENEGAR_COM", "kavenegar"),
    ("MELI_PAYAMAK_COM", "meli-payamak"),
    ("PARSIAN_WEBCO_IR", "parsian-webco"),
    ("ZARINPAL_COM", "zarinpal"),
    ("PAYPING_IR", "payping"),
    ("SEP_SHAPARAK_IR", "saman-sep"),
];

/// The known plugins that take payments.
const PAYMENT_PLUGINS: [&str; 3] = ["zarinpal", "payping", "saman-sep"];

/// The plugin of the trial SMS provider, which shows messages instead of sending them.
pub const SANDBOX_SMS_PLUGIN: &str = "sandbox-sms";

impl Config {
    /// The plugin file of a provider entry, without `.wasm`; `None` when neither the entry nor its name determines
    /// it.
    pub fn plugin_of(&self, name: &str) -> Option<&str> {
        let known = || KNOWN_PROVIDERS.iter().find(|(known, _)| *known == name).map(|(_, plugin)| *plugin);
        match self.provider.get(name) {
            Some(ProviderEntry { plugin: Some(plugin), .. }) => Some(plugin),
            _ => known(),
        }
    }

    /// The kind that the entry or its known name states; `None` when neither does.
    pub(crate) fn kind_said(&self, name: &str) -> Option<ProviderKind> {
        let entry = self.provider.get(name);
        if let Some(kind) = entry.and_then(|entry| entry.kind) {
            return Some(kind);
        }
        let plugin = self.plugin_of(name)?;
        let known = KNOWN_PROVIDERS.iter().any(|(_, known)| *known == plugin);
        let payment = PAYMENT_PLUGINS.contains(&plugin);
        known.then_some(if payment { ProviderKind::Payment } else { ProviderKind::Sms })
    }

    /// Every accepted name for a provider of a kind, nearest to `found` first.
    pub(crate) fn names_of(&self, kind: ProviderKind, found: &str) -> String {
        let mut names: Vec<&str> = self.provider.keys().map(String::as_str).collect();
        names.extend(KNOWN_PROVIDERS.iter().map(|(name, _)| *name));
        names.sort_unstable();
        names.dedup();
        names.retain(|name| self.kind_said(name).is_none_or(|said| said == kind));
        if kind == ProviderKind::Payment {
            names.push(SANDBOX_PAY);
        }
        names.sort_by_key(|name| distance(found, name));
        names.join(", ")
    }

    /// The kind of plugin that a provider entry needs.
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

    /// Every provider entry that must load: those in the file, and a selected trial provider without an entry.
    pub fn provider_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.provider.keys().cloned().collect();
        for name in self.sms.service.names() {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let gateway = &self.payment.gateway;
        if !gateway.is_empty() && gateway != SANDBOX_PAY && !names.contains(gateway) {
            names.push(gateway.clone());
        }
        names
    }

    /// Returns true when a selected provider shows messages instead of sending them.
    pub fn sandbox_selected(&self) -> bool {
        self.sms.service.names().iter().any(|name| self.plugin_of(name) == Some(SANDBOX_SMS_PLUGIN))
    }
}

impl Checker<'_> {
    pub(crate) fn check_plugins(&mut self, config: &Config) {
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
        self.range("plugins.plugin_bytes_max", plugins.plugin_bytes_max, 64 * 1024, PLUGIN_BYTES_MAX);
        self.range("plugins.compile_seconds", plugins.compile_seconds, 1, 3600);
        self.range("plugins.compile_memory_mib", plugins.compile_memory_mib, 128, 65_536);
        self.range("plugins.code_cache_mib", plugins.code_cache_mib, 16, 65_536);
    }

    pub(crate) fn check_providers(&mut self, config: &Config) {
        for (name, entry) in &config.provider {
            let key = format!("provider.{name}");
            if name.is_empty()
                || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
            {
                self.refuse(&key, format!("{name:?}"), "must be a name of letters, digits, _ and -");
            }
            match config.plugin_of(name) {
                None => {
                    let known = KNOWN_PROVIDERS.iter().map(|(known, _)| *known);
                    let near =
                        known.filter(|known| is_near(name, known)).min_by_key(|known| distance(name, known));
                    let cure = match near {
                        Some(near) => format!("did you mean [provider.{near}]?"),
                        None => format!("add plugin = \"{}\"", name.to_ascii_lowercase().replace('_', "-")),
                    };
                    let text = "needs a plugin (a file in the plugins folder, without .wasm)";
                    self.refuse(&key, "an entry without `plugin`".into(), &format!("{text}; {cure}"));
                }
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
}
