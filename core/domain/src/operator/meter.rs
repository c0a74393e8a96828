//! The operators' view of a running gateway, as ports.
//!
//! [`Meter`] counts events, [`Overview`] describes the running gateway. The outermost crate implements both, because
//! only it knows how metrics are exported and what is loaded. Invariant: a label's values come from a fixed list or
//! from the configuration; no number, code, token or address is ever a label.
//!
//! Not here: security events (`audit`).

use async_trait::async_trait;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

/// Labels of one metric: names and values.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// Counters, gauges and histograms, by name and labels.
///
/// The same name and labels always mean the same metric. Keep the handle where counting is frequent: a look-up hashes
/// the name and the labels.
pub trait Meter: Send + Sync {
    fn counter(&self, name: &'static str, labels: Labels<'_>) -> Counter;

    fn histogram(&self, name: &'static str, labels: Labels<'_>) -> Histogram;

    /// Sets a gauge.
    fn gauge(&self, name: &'static str, labels: Labels<'_>, value: f64);

    /// Raises a counter to a value that is counted elsewhere. A smaller value changes nothing.
    fn total(&self, name: &'static str, labels: Labels<'_>, value: u64);
}

/// A number that only rises.
#[derive(Clone)]
pub struct Counter(Arc<dyn Fn(u64) + Send + Sync>);

impl Counter {
    pub fn new(add: impl Fn(u64) + Send + Sync + 'static) -> Counter {
        Counter(Arc::new(add))
    }

    pub fn increment(&self) {
        self.add(1);
    }

    pub fn add(&self, count: u64) {
        (self.0)(count);
    }
}

/// A distribution of samples, in the unit that the metric's name ends with.
#[derive(Clone)]
pub struct Histogram(Arc<dyn Fn(f64) + Send + Sync>);

impl Histogram {
    pub fn new(record: impl Fn(f64) + Send + Sync + 'static) -> Histogram {
        Histogram(Arc::new(record))
    }

    pub fn record(&self, sample: f64) {
        (self.0)(sample);
    }
}

/// Counts nothing, for tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoMeter;

impl Meter for NoMeter {
    fn counter(&self, _: &'static str, _: Labels<'_>) -> Counter {
        Counter::new(|_| {})
    }

    fn histogram(&self, _: &'static str, _: Labels<'_>) -> Histogram {
        Histogram::new(|_| {})
    }

    fn gauge(&self, _: &'static str, _: Labels<'_>, _: f64) {}

    fn total(&self, _: &'static str, _: Labels<'_>, _: u64) {}
}

/// The store's ability to accept changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    Serving,
    /// A write failed; nothing is written until the gateway restarts.
    Failed,
    /// The oldest change has waited too long.
    Stalled,
    /// The disk has no room left.
    Full,
    /// The database server does not answer. It recovers by itself.
    Away,
}

impl Storage {
    /// A stable word for programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Storage::Serving => "ok",
            Storage::Failed => "store_failed",
            Storage::Stalled => "store_stalled",
            Storage::Full => "storage_full",
            Storage::Away => "store_away",
        }
    }
}

/// The whole gateway, for its operators.
#[async_trait]
pub trait Overview: Send + Sync {
    /// Everything that `status/` answers: version, configuration, providers, open payments.
    async fn status(&self) -> Value;

    /// All metrics in the Prometheus text format, gauges measured now.
    async fn metrics(&self) -> String;

    /// Whether durable writes work, and why not.
    fn storage(&self) -> Storage;

    /// Whether a write failed: [`Overview::storage`] for every request.
    fn has_failed(&self) -> bool;

    /// Whether a change was refused since then because too many waited for the disk.
    fn has_refused_since(&self, since: Instant) -> bool;

    /// Whether a configured plugin does not serve as its file is now, or something beside the store is away: the bus,
    /// the bucket of files.
    fn is_degraded(&self) -> bool;

    /// Whether the gateway is stopping.
    fn is_stopping(&self) -> bool;
}
