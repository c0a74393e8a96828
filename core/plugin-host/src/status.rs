//! How provider entries do, for operators: plain data that the embedder shows.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::stats::CallStats;

/// How an entry does, for operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProviderStatus {
    /// The entry's name.
    pub name: String,
    /// The kind of its plugin.
    pub kind: &'static str,
    /// The plugin's name; absent while nothing serves.
    pub plugin: Option<String>,
    /// The plugin's version.
    pub version: Option<String>,
    /// The version of the interfaces it exports.
    pub interface_version: Option<String>,
    /// BLAKE3 of the component.
    pub blake3: Option<String>,
    /// How many providers have served under this name, the present one included.
    pub generation: u64,
    /// `serving`; `serving-old` when the newest state was refused; `compiling` when nothing serves yet; `failed` when
    /// nothing serves.
    pub state: &'static str,
    /// Whether a component for this name is being loaded or compiled now.
    pub compiling: bool,
    /// How long the serving component took to compile, in milliseconds; 0 when its code came from the cache.
    pub compile_ms: u64,
    /// Why the newest state was refused.
    pub last_error: Option<String>,
    /// When the present provider began to serve, in milliseconds since 1970 (UTC); 0 when none does.
    pub loaded_at: u64,
    /// What its calls came to and what they used.
    #[serde(flatten)]
    pub calls: CallStats,
    /// Replacements of a provider that served.
    pub reloads: u64,
    /// States that were refused.
    pub reload_failures: u64,
}

/// Whether every entry can serve, for a readiness answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryHealth {
    /// Names under which nothing serves: their file is missing or refused, and no earlier bytes of it are known.
    pub failed: BTreeSet<String>,
    /// Names whose newest state was refused; the one before serves.
    pub serving_old: BTreeSet<String>,
    /// Names whose component is being loaded or compiled.
    pub compiling: BTreeSet<String>,
}

impl RegistryHealth {
    /// Whether something that is configured does not serve as its file is now.
    pub fn is_degraded(&self) -> bool {
        !(self.failed.is_empty() && self.serving_old.is_empty())
    }
}
