//! Converts configured provider entries to the plugin host's input.
//!
//! Settings are resolved from their sources, limits are set, and failures get the line of their entry.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chelseru_config::{Config, Loaded, Plugins, Problem, Problems, SettingSource, Source};
use chelseru_domain::operator::Meter;
use chelseru_plugin_host::{
    BindProblem, CALL_ERRORS, CompileLimits, Compiler, Desired, Failure, Host, HostOptions, Limits, Provider,
    Registry, RegistryError, Serves, SettingValue,
};

use crate::facts;
use crate::kinds::KINDS;

/// Loaded provider entries by name.
pub type Providers = BTreeMap<String, Arc<Provider>>;

/// Folders inside the data folder.
pub const PLUGINS_DIR: &str = "plugins";
pub const CACHE_DIR: &str = "cache";

/// The subcommand by which the gateway's own program compiles one component; see [`Compiler::Child`].
pub const COMPILE_COMMAND: &str = "compile-plugin";

/// A registry whose host has this configuration's bounds, compiles in a child process of this program, and keeps
/// compiled code in the data folder.
///
/// Errors: a sentence, when the engine cannot be made.
pub fn registry(config: &Config, data_dir: &Path, compiler: Compiler) -> Result<Registry, String> {
    let plugins = &config.plugins;
    let options = HostOptions {
        cache_dir: Some(data_dir.join(CACHE_DIR)),
        cache_bytes_max: plugins.code_cache_mib * 1024 * 1024,
        compiler,
        compile_limits: CompileLimits {
            cpu_time_max: Duration::from_secs(plugins.compile_seconds),
            memory_bytes_max: plugins.compile_memory_mib * 1024 * 1024,
        },
        calls_max: plugins.calls_max,
        plugin_bytes_max: plugins.plugin_bytes_max,
        ..HostOptions::default()
    };
    let host = Host::new(options).map_err(|error| error.to_string())?;
    Ok(Registry::new(host, KINDS).with_ask(facts::ask))
}

/// Sets the metrics of every provider entry; called when metrics are read.
pub fn measure(registry: &Registry, meter: &dyn Meter) {
    let health = registry.health();
    for (state, names) in
        [("failed", health.failed), ("serving_old", health.serving_old), ("compiling", health.compiling)]
    {
        meter.gauge("chelseru_plugins", &[("state", state)], names.len() as f64);
    }
    for entry in registry.status() {
        let (calls, provider) = (&entry.calls, [("provider", entry.name.as_str())]);
        for (name, value) in [
            ("chelseru_plugin_calls_total", calls.calls),
            ("chelseru_plugin_http_requests_total", calls.http_requests),
            ("chelseru_plugin_http_bytes_out_total", calls.http_bytes_out),
            ("chelseru_plugin_http_bytes_in_total", calls.http_bytes_in),
            ("chelseru_plugin_lookups_refused_total", calls.lookups_refused),
            ("chelseru_plugin_reload_failures_total", entry.reload_failures),
        ] {
            meter.total(name, &provider, value);
        }
        for kind in CALL_ERRORS {
            let count = calls.errors.iter().find(|error| error.kind == kind).map_or(0, |error| error.count);
            let labels = [provider[0], ("kind", kind)];
            meter.total("chelseru_plugin_call_errors_total", &labels, count);
        }
        let seconds = |micros: u64| micros as f64 / 1e6;
        for (name, value) in [
            ("chelseru_plugin_calls_in_flight", f64::from(calls.in_flight)),
            ("chelseru_plugin_call_seconds_p50", seconds(calls.p50_micros)),
            ("chelseru_plugin_call_seconds_p99", seconds(calls.p99_micros)),
            ("chelseru_plugin_cpu_seconds", seconds(calls.cpu_micros)),
            ("chelseru_plugin_memory_bytes_max", calls.memory_bytes_max as f64),
            ("chelseru_plugin_compile_seconds", entry.compile_ms as f64 / 1e3),
        ] {
            meter.gauge(name, &provider, value);
        }
    }
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
pub fn problems<'a>(source: &Source, failures: impl IntoIterator<Item = &'a Failure>) -> Problems {
    let mut problems = Vec::new();
    for Failure { name, error, .. } in failures {
        match error {
            RegistryError::Bind(error) => {
                problems.extend(error.problems.iter().map(|problem| bind_problem(source, name, problem)));
            }
            other => problems.push(source.problem(&format!("provider.{name}"), None, other.to_string())),
        }
    }
    Problems(problems)
}

/// What a gateway starts without, or with an earlier version of: a warning each.
pub fn degraded(source: &Source, failures: &[Failure]) -> Vec<Problem> {
    let warning = |failure: &Failure| {
        let serves = match failure.serves {
            Serves::LastGood => "degraded: its last good version serves",
            Serves::Before | Serves::Nothing => "degraded: nothing serves under this name",
        };
        let text = format!("{}; {serves}", failure.error);
        source.problem(&format!("provider.{}", failure.name), None, text)
    };
    failures.iter().map(warning).collect()
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
