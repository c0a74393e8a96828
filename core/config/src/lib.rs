//! The configuration: every key, its meaning, unit and default.
//!
//! `config.toml` is read and checked as a whole before any part of the gateway builds itself from its section.
//! Unknown keys are errors. The structs here are the only list of keys. The `config.toml` at the root of the project
//! shows the same keys with the same defaults; a test compares the two.
//!
//! An edit changes everything in the running gateway except the keys in [`Config::restart_keys`].
//!
//! Read next: one module per section holds its keys and checks; `read` finds the line of every problem; `rules` turns
//! checked values into the domain's rules. The meaning of a plugin's own settings is not here: the plugin describes
//! them.

mod server;

mod operator;

mod login;

mod sms;

mod payment;
mod url;
mod webhooks;

mod chat;
mod files;

mod provider;
mod setting;

mod bus;
mod edit;
mod network;
mod origins;
mod read;
pub mod rules;
mod shown;
mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use bus::{Bus, BusPlace};
pub use chat::Chat;
pub use edit::{KeyChange, changes, is_of_machine, with_changes};
pub use files::{BucketPlace, Files, FilesPlace, FilesStore, S3};
pub use login::{AnyWord, Auth, AuthMethod, AuthMethods, Groups};
pub use network::network;
pub use operator::{Operator, OperatorListen, Sandbox, is_public};
pub use origins::{Grant, Origins};
pub use payment::{Payment, Unit};
pub use provider::{
    KNOWN_PROVIDERS, PLUGIN_BYTES_MAX, Plugins, ProviderEntry, ProviderKind, SANDBOX_PAY, SANDBOX_SMS_PLUGIN,
};
pub use read::{Loaded, Problem, Problems, Source, unreadable};
pub use server::{Audit, Data, Log, LogFormat, LogLevel, Server};
pub use setting::SettingSource;
pub use shown::{HIDDEN, hide_secrets, move_provider, restore_secrets, settings_shown};
pub use sms::{OneOrMany, Shield, Sms, SmsCredit};
pub use store::{Store, StoreEngine, StorePlace};
pub use url::{is_allowed as payment_url_allowed, is_authority, parts as payment_parts};
pub use webhooks::{Endpoint as WebhookEndpoint, Webhooks};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub operator: Operator,
    pub log: Log,
    pub data: Data,
    pub store: Store,
    pub bus: Bus,
    pub auth: Auth,
    pub audit: Audit,
    pub sms: Sms,
    pub sandbox: Sandbox,
    pub payment: Payment,
    pub webhooks: Webhooks,
    pub chat: Chat,
    pub files: Files,
    pub plugins: Plugins,
    /// One entry per account at a provider. Its name is free, and several entries may use one plugin.
    pub provider: BTreeMap<String, ProviderEntry>,
}

impl Config {
    /// The keys that differ between `self` and `next` and that only a restart applies.
    pub fn restart_keys(&self, next: &Config) -> Vec<String> {
        let mut keys = Vec::new();
        let before = serde_json::to_value(&self.server).unwrap_or_default();
        let after = serde_json::to_value(&next.server).unwrap_or_default();
        if let (Some(before), Some(after)) = (before.as_object(), after.as_object()) {
            keys.extend(
                before
                    .iter()
                    .filter(|(key, value)| *key != "origins" && after.get(*key) != Some(value))
                    .map(|(key, _)| format!("server.{key}")),
            );
        }
        let mut note = |differs: bool, key: &str| {
            if differs {
                keys.push(key.to_owned());
            }
        };
        note(self.operator.listen != next.operator.listen, "operator.listen");
        note(self.operator.hosts != next.operator.hosts, "operator.hosts");
        note(self.log.format != next.log.format, "log.format");
        note(self.data.dir != next.data.dir, "data.dir");
        note(self.data.cache_mib != next.data.cache_mib, "data.cache_mib");
        note(self.data.changes_waiting_max != next.data.changes_waiting_max, "data.changes_waiting_max");
        note(self.data.disk_reserve_mib != next.data.disk_reserve_mib, "data.disk_reserve_mib");
        note(self.store.engine != next.store.engine, "store.engine");
        note(self.store.url != next.store.url, "store.url");
        note(self.bus.url != next.bus.url, "bus.url");
        note(self.bus.ca_file != next.bus.ca_file, "bus.ca_file");
        note(self.store.connections_max != next.store.connections_max, "store.connections_max");
        note(self.files.store != next.files.store, "files.store");
        note(self.files.s3 != next.files.s3, "files.s3");
        let (plugins, next) = (&self.plugins, &next.plugins);
        note(plugins.calls_max != next.calls_max, "plugins.calls_max");
        note(plugins.plugin_bytes_max != next.plugin_bytes_max, "plugins.plugin_bytes_max");
        note(plugins.compile_seconds != next.compile_seconds, "plugins.compile_seconds");
        note(plugins.compile_memory_mib != next.compile_memory_mib, "plugins.compile_memory_mib");
        note(plugins.code_cache_mib != next.code_cache_mib, "plugins.code_cache_mib");
        keys
    }

    /// Copies the keys that only a restart changes from the running configuration.
    pub fn keep_restart_keys(&mut self, running: &Config) {
        let origins = std::mem::take(&mut self.server.origins);
        self.server = Server { origins, ..running.server.clone() };
        self.operator = running.operator.clone();
        self.log.format = running.log.format;
        self.data = running.data.clone();
        self.store = running.store.clone();
        self.bus = running.bus.clone();
        self.files.store = running.files.store;
        self.files.s3 = running.files.s3.clone();
        let (plugins, running) = (&mut self.plugins, &running.plugins);
        plugins.calls_max = running.calls_max;
        plugins.plugin_bytes_max = running.plugin_bytes_max;
        plugins.compile_seconds = running.compile_seconds;
        plugins.compile_memory_mib = running.compile_memory_mib;
        plugins.code_cache_mib = running.code_cache_mib;
    }
}

/// The store's folder inside the data folder.
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
            // A table of tables has no keys of its own; the file shows its keys in a comment.
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
