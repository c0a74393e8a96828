//! A host for plugins that are WebAssembly components: load, check, limit, call, replace while serving.
//!
//! It knows no domain: which interfaces a plugin must export is the embedder's [`Kind`], and what a call means is
//! the embedder's types. This is the whole of an embedding:
//!
//! ```no_run
//! use std::collections::BTreeMap;
//! use std::time::Duration;
//! use chelseru_plugin_host::{Binding, Function, Host, HostOptions, Kind, Limits, Provider};
//!
//! /// What this program can use: components that export `greeter` or `greeter-formal` of `acme:greeting` 1.0.
//! const GREETING: Kind = Kind {
//!     name: "greeting",
//!     package: "acme:greeting",
//!     versions: &[(1, 0)],
//!     any_of: &["greeter", "greeter-formal"],
//!     optional: &["farewell"],
//!     functions: &[&GREET],
//! };
//!
//! /// `greet: func(name: string) -> result<string, string>`.
//! const GREET: Function<(String,), (Result<String, String>,)> = Function::new("greeter", "greet");
//!
//! # async fn embed() -> Result<(), Box<dyn std::error::Error>> {
//! // One host for the whole program.
//! let host = Host::new(HostOptions { cache_dir: Some("data/cache".into()), ..HostOptions::default() })?;
//!
//! // Compiles, checks kind, version, imports and types, and lets the plugin describe itself.
//! let plugin = host.load(std::fs::read("data/plugins/polite.wasm")?, &[GREETING]).await?;
//! println!("{} {}", plugin.description().name, plugin.description().version);
//!
//! // What the operator gives it. Every mistake is listed at once.
//! let provider = Provider::bind(&host, plugin, Binding {
//!     name: "POLITE".to_owned(),
//!     settings: BTreeMap::from([("api_key".to_owned(), "k-123".into())]),
//!     hosts: Some(vec!["api.example.com".to_owned()]),
//!     limits: Limits { wall_time_max: Duration::from_secs(5), ..Limits::default() },
//! })?;
//!
//! // In a fresh instance.
//! let (answer,) = provider.call(GREET, ("world".to_owned(),)).await?;
//! println!("{answer:?}");
//! # Ok(()) }
//! ```
//!
//! It runs inside a tokio runtime with time and I/O enabled, of either flavour.
//! With many providers that change while they serve, a [`Registry`] holds them and a [`Watcher`] says when to look.
//!
//! # What always holds
//!
//! - A call runs in a fresh instance and ends: by an answer, or by a [`CallError`] within its limits. Nothing of
//!   it remains, and other calls do not notice.
//! - Nothing runs before its kind, version and imports are checked, and nothing is called before the types of its
//!   functions are. A plugin has no files, sockets, arguments or environment; its one way out is the `http` import,
//!   to granted hosts at public addresses.
//! - A provider is replaced only by one that passed every check.
//! - No setting's value is in a log, an error or `Debug` output.
//!
//! Not here: which plugins there are, retries, and what an answer means.
//! Read on in `host` (load), `provider` (call), `state` (limits and imports), `registry` (replace).

#![deny(unsafe_code)]

mod aside;
mod binding;
mod cache;
mod call_error;
mod clock;
mod compile;
mod description;
mod egress;
mod engine;
mod file;
mod footprint;
mod function;
mod grants;
mod host;
mod imports;
mod kept;
mod limits;
mod lookup;
mod meter;
mod output;
mod plugin;
mod prepare;
mod provider;
mod registry;
mod scheduler;
mod setting;
mod state;
mod stats;
mod status;
mod text;
mod watch;

#[cfg(test)]
#[path = "../tests/host/lines.rs"]
mod lines;

pub use binding::{BindError, BindProblem, Binding};
pub use call_error::CallError;
pub use compile::{CompileLimits, Compiler, compile_main};
pub use description::Description;
pub use egress::{Egress, EgressOptions, HttpError, HttpRequest, HttpResponse, Method, Transport, Url};
pub use engine::Allocation;
pub use file::Reader;
pub use function::{AnyFunction, Function};
pub use grants::{Grants, HostGrant, is_public};
pub use host::{Host, HostError, HostOptions};
pub use limits::Limits;
pub use lookup::Lookup;
pub use plugin::{Kind, LoadError, Plugin};
pub use prepare::{Ask, Desired, Failure, PluginPin, PluginPins, RegistryError, Serves};
pub use provider::{Facts, Held, Provider};
pub use registry::{Prepared, Registry};
pub use setting::{SettingKind, SettingSpec, SettingValue};
pub use stats::{CALL_ERRORS, CallStats, ErrorCount};
pub use status::{ProviderStatus, RegistryHealth};
pub use text::{Border, CODE_CHARS_MAX, GuestData, LIST_ITEMS_MAX, SECRET_MASK, TEXT_CHARS_MAX};
/// The engine, for the derive macros of an embedder's parameter and result types.
pub use wasmtime;
pub use watch::{Change, WatchError, WatchPaths, WatchTimes, Watcher};

/// Types of the interfaces that every plugin shares, generated from the WIT files.
#[allow(
    unsafe_code,
    unreachable_pub,
    dead_code,
    missing_docs,
    clippy::all,
    reason = "generated; only the types are used, the imports are linked by hand"
)]
mod wit {
    wasmtime::component::bindgen!({
        path: "../../wit/v0.1",
        world: "base",
        imports: { default: async },
    });
}
