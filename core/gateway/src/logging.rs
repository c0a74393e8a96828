//! The log: structured lines on standard error, as text or JSON, with a level that a reload can change.
//!
//! Standard output is reserved for the results of commands. Phone numbers reach the log masked, by their type. Codes,
//! tokens, keys and bodies never reach it.

mod flood;

use std::io::IsTerminal;
use std::sync::Arc;

use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use self::flood::{Flood, FloodFilter};
use crate::config::{Log, LogFormat, LogLevel};

/// Changes what is logged while the gateway runs.
#[derive(Clone)]
pub struct LogHandle {
    level: reload::Handle<EnvFilter, Registry>,
    keeps_level: bool,
    flood: Arc<Flood>,
}

/// Starts logging for the whole process; only the first call has an effect.
pub fn start(log: &Log) -> LogHandle {
    let (filter, level) = reload::Layer::new(filter(log.level));
    let flood = Arc::new(Flood::default());
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    // An error means that logging is already started, by a test harness for example.
    let _ = match log.format {
        LogFormat::Text => registry.with(layer.with_filter(FloodFilter(flood.clone()))).try_init(),
        LogFormat::Json => {
            let layer = layer.json().flatten_event(true);
            registry.with(layer.with_filter(FloodFilter(flood.clone()))).try_init()
        }
    };
    LogHandle { level, keeps_level: false, flood }
}

impl LogHandle {
    /// Keeps the level whatever a configuration says, for programs that run gateways beside their own work.
    #[must_use]
    pub fn keeping_level(self) -> LogHandle {
        LogHandle { keeps_level: true, ..self }
    }

    pub fn set_level(&self, level: LogLevel) {
        if self.keeps_level {
            return;
        }
        // The handle fails only after the subscriber is gone, and then nobody reads the log.
        let _ = self.level.reload(filter(level));
    }

    /// Limits each place in the code to one warning a minute while one known cause explains all of them.
    pub(crate) fn hush(&self, hushed: bool) {
        self.flood.hush(hushed);
    }
}

/// `RUST_LOG` overrides the configuration, for debugging. Libraries log one level less, and the most verbose ones
/// (which describe bytes, not the gateway) even less.
fn filter(level: LogLevel) -> EnvFilter {
    let own = level.as_str();
    let others = match level {
        LogLevel::Error => "error",
        LogLevel::Warn | LogLevel::Info => "warn",
        LogLevel::Debug | LogLevel::Trace => "info",
    };
    let configured = format!(
        "{others},chelseru={own},chelseru_domain={own},chelseru_store={own},chelseru_plugin_host={own},plugin={own}"
    );
    match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => EnvFilter::new(directives),
        _ => EnvFilter::new(configured),
    }
}
