//! What operators see of a running gateway, as ports.
//!
//! [`Meter`] counts what happens, [`Overview`] describes what runs. Both are implemented by the outermost crate, which
//! alone knows how metrics are exported and what was loaded. Invariant: a label's values come from a fixed list or from
//! the configuration; no number, code, token or address is ever a label.
//!
//! Not here: security events (`audit`).

use async_trait::async_trait;
use std::sync::Arc;

use serde_json::Value;

/// Labels of one metric: names and values.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// Counters, gauges and histograms, by name and labels.
///
/// The same name and labels always mean the same metric. Keep the handle where something is counted often: looking it
/// up costs a hash of the name and the labels.
pub trait Meter: Send + Sync {
    fn counter(&self, name: &'static str, labels: Labels<'_>) -> Counter;

    fn histogram(&self, name: &'static str, labels: Labels<'_>) -> Histogram;

    /// Sets a gauge.
    fn gauge(&self, name: &'static str, labels: Labels<'_>, value: f64);
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
}

/// Whether the store takes changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    Serving,
    /// Writing failed; nothing is written until the gateway starts again.
    Failed,
    /// The oldest change has waited for long.
    Stalled,
    /// The disk has no room left.
    Full,
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
        }
    }
}

/// The whole gateway, as its operators see it.
#[async_trait]
pub trait Overview: Send + Sync {
    /// Everything that `status/` answers: version, configuration, providers, open payments.
    async fn status(&self) -> Value;

    /// All metrics in the Prometheus text format, gauges measured now.
    async fn metrics(&self) -> String;

    /// Whether durable writes are possible, and why not.
    fn storage(&self) -> Storage;

    /// Whether writing failed. As [`Overview::storage`] says, for every request.
    fn has_failed(&self) -> bool;

    /// Whether the gateway was told to stop.
    fn is_stopping(&self) -> bool;
}
