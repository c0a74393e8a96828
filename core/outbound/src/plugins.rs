//! Converts configured provider entries to the plugin host's input.
//!
//! Settings are resolved from their sources, limits are set, and failures get the line of their entry.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chelseru_config::{Config, Loaded, Plugins, Problem, Problems, SettingSource, Source};
use chelseru_plugin_host::{
    BindProblem, Desired, Host, HostOptions, Limits, Provider, Registry, RegistryError, SettingValue,
};

use crate::kinds::KINDS;

/// Loaded provider entries by name.
pub type Providers = BTreeMap<String, Arc<Provider>>;

/// Folders inside the data folder.
pub const PLUGINS_DIR: &str = "plugins";
pub const CACHE_DIR: &str = "cache";

/// A registry with this configuration's limits, which caches compiled code in the data folder.
///
/// Errors: a text when the engine cannot be created.
pub fn registry(config: &Config, data_dir: &Path) -> Result<Registry, String> {
    let options = HostOptions {
        cache_dir: Some(data_dir.join(CACHE_DIR)),
        calls_max: config.plugins.calls_max,
        ..HostOptions::default()
    };
    let host = Host::new(options).map_err(|error| error.to_string())?;
    Ok(Registry::new(host, KINDS))
}

/// Every provider entry that must load, with its settings resolved.
pub fn desired(loaded: &Loaded, plugins_dir: &Path) -> Result<Vec<Desired>, Problems> {
    let config = &loaded.config;
    let (mut desired, mut problems) = (Vec::new(), Vec::new());
    for name in config.provider_names() {
        let entry = config.provider.get(&name).cloned().unwrap_or_default();
        let Some(plugin) = config.plugin_of(&name) else { continue };
        let mut settings = BTreeMap::new();
        for (key, source) in &entry.settings {
            match loaded.resolve(source) {
                Ok(value) => {
                    settings.insert(key.clone(), SettingValue::from(value));
                }
                Err(message) => {
                    let key = format!("provider.{name}.settings.{key}");
                    problems.push(loaded.source.problem(&key, Some(format!("{source:?}")), message));
                }
            }
        }
        let kind = config.kind_of(&name);
        desired.push(Desired {
            name,
            kind,
            file: plugins_dir.join(format!("{plugin}.wasm")),
            settings,
            hosts: entry.hosts,
            limits: limits(&config.plugins),
        });
    }
    if problems.is_empty() { Ok(desired) } else { Err(Problems(problems)) }
}

fn limits(plugins: &Plugins) -> Limits {
    Limits {
        memory_bytes_max: plugins.memory_mib as usize * 1024 * 1024,
        cpu_time_max: Duration::from_millis(plugins.cpu_time_ms),
        wall_time_max: Duration::from_secs(plugins.wall_time_seconds),
        http_response_bytes_max: plugins.http_response_bytes_max as usize,
        concurrency_max: plugins.calls_per_provider_max,
        queue_time_max: Duration::from_millis(plugins.queue_timeout_ms),
        ..Limits::default()
    }
}

/// The host's refusals, each at the line of its key.
pub fn problems(source: &Source, failures: &[(String, RegistryError)]) -> Problems {
    let mut problems = Vec::new();
    for (name, error) in failures {
        match error {
            RegistryError::Bind(error) => {
                problems.extend(error.problems.iter().map(|problem| bind_problem(source, name, problem)));
            }
            other => problems.push(source.problem(&format!("provider.{name}"), None, other.to_string())),
        }
    }
    Problems(problems)
}

fn bind_problem(source: &Source, name: &str, problem: &BindProblem) -> Problem {
    let entry = format!("provider.{name}");
    let key = match problem {
        BindProblem::MissingSetting { key, help } => {
            let text = missing_setting(source, name, key, help);
            return source.problem(&format!("{entry}.settings.{key}"), None, text);
        }
        BindProblem::UnknownSetting { key, .. }
        | BindProblem::WrongKind { key, .. }
        | BindProblem::UrlHostNotGranted { key, .. } => format!("{entry}.settings.{key}"),
        BindProblem::InvalidHost { .. } | BindProblem::HostNotGranted { .. } => format!("{entry}.hosts"),
        BindProblem::Limit { .. } => "plugins".to_owned(),
    };
    source.problem(&key, None, problem.to_string())
}

/// The missing setting, and the lines to paste.
fn missing_setting(source: &Source, name: &str, key: &str, help: &str) -> String {
    let table = format!("provider.{name}.settings");
    let place = match source.line_of_table(&table) {
        Some(line) => format!("add the second line to the table on line {line}"),
        None => "add".to_owned(),
    };
    let letters = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let variable: String = format!("{name}_{key}").chars().map(letters).collect();
    format!("is required ({help}); {place}:\n    [{table}]\n    {key} = {{ env = \"{variable}\" }}")
}

/// Warns of each secret setting that stands in the file in plain text.
pub fn literal_secrets(loaded: &Loaded, providers: &Providers) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for (name, provider) in providers {
        let Some(entry) = loaded.config.provider.get(name) else { continue };
        for setting in provider.plugin().description().settings.iter().filter(|setting| setting.secret) {
            let literal = entry.settings.get(&setting.key).is_some_and(|source| {
                !matches!(source, SettingSource::Env { .. } | SettingSource::File { .. })
            });
            if literal {
                let key = format!("provider.{name}.settings.{}", setting.key);
                let message = "is a secret in plain text; prefer { env = \"NAME\" } or { file = \"path\" }";
                warnings.push(loaded.source.problem(&key, None, message));
            }
        }
    }
    warnings
}
