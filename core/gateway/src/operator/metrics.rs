//! Counters and histograms, rendered in the Prometheus text format at `{base}/metrics/`.
//!
//! Each gateway owns its registry. Nothing here is global, so two gateways in one process (tests) stay separate.
//! Labels are bounded by construction: status classes, provider names from the configuration, words from fixed lists.
//! No number, code, token or address becomes a label.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chelseru_domain::operator::{Counter, Histogram, Labels, Meter};
use chelseru_domain::sms::queue::Observer;
use chelseru_store::SmsStatus;
use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, TextEncoder,
};

use super::metric_help::{HELP, Kind};
use super::trends::Trends;

/// Names of the store's metrics.
pub(crate) mod store_gauge {
    pub(crate) const HEALTHY: &str = "chelseru_store_healthy";
    pub(crate) const OLDEST_WAITING: &str = "chelseru_store_oldest_waiting_seconds";
    pub(crate) const CHANGES_WAITING: &str = "chelseru_store_changes_waiting";
    pub(crate) const BATCHES: &str = "chelseru_store_batches";
    pub(crate) const CHANGES: &str = "chelseru_store_changes";
    pub(crate) const WRITE: &str = "chelseru_store_write_seconds";
    pub(crate) const FLUSH_LAST: &str = "chelseru_store_flush_last_seconds";
    pub(crate) const DISK_FREE: &str = "chelseru_store_disk_free_bytes";
    pub(crate) const RECORDS: &str = "chelseru_store_records";
}

/// Seconds, chosen around the wall-time limits of provider calls (15 s by default).
const SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0];

pub struct Metrics {
    registry: Registry,
    families: Mutex<HashMap<&'static str, Family>>,
    reloads: Counter,
    reload_failures: Counter,
    /// What the metrics grew by in the last 24 hours.
    pub(crate) trends: Trends,
}

/// All metrics of one name; they differ in the values of their labels.
#[derive(Clone)]
enum Family {
    Counters(IntCounterVec),
    Gauges(GaugeVec),
    Seconds(HistogramVec),
}

impl Family {
    fn of(kind: Kind, name: &str, labels: Labels<'_>) -> prometheus::Result<(Family, Box<dyn Collector>)> {
        let help = HELP.iter().find(|help| help.name == name);
        debug_assert!(help.is_some_and(|help| help.kind == kind), "{name} is described as it is used");
        let options = Opts::new(name, help.map_or("", |help| help.text));
        let labels: Vec<&str> = labels.iter().map(|(key, _)| *key).collect();
        Ok(match kind {
            Kind::Counter => {
                let counters = IntCounterVec::new(options, &labels)?;
                (Family::Counters(counters.clone()), Box::new(counters))
            }
            Kind::Gauge => {
                let gauges = GaugeVec::new(options, &labels)?;
                (Family::Gauges(gauges.clone()), Box::new(gauges))
            }
            Kind::Seconds => {
                let options = HistogramOpts::from(options).buckets(SECONDS.to_vec());
                let histograms = HistogramVec::new(options, &labels)?;
                (Family::Seconds(histograms.clone()), Box::new(histograms))
            }
        })
    }
}

impl Metrics {
    pub fn new() -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::new(),
            families: Mutex::default(),
            reloads: Counter::new(|_| {}),
            reload_failures: Counter::new(|_| {}),
            trends: Trends::default(),
        };
        // Exported from the start, even while zero.
        for name in ["chelseru_logins_total", "chelseru_login_refusals_total"] {
            metrics.counter(name, &[]);
        }
        metrics.reloads = metrics.counter("chelseru_reloads_total", &[]);
        metrics.reload_failures = metrics.counter("chelseru_reload_failures_total", &[]);
        metrics
    }

    /// The metrics of a name. `None` for a defect: another kind, or other labels than when it was used first.
    fn family(&self, kind: Kind, name: &'static str, labels: Labels<'_>) -> Option<Family> {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(family) = families.get(name) {
            return Some(family.clone());
        }
        let made = Family::of(kind, name, labels)
            .and_then(|(family, collector)| self.registry.register(collector).map(|()| family));
        let family = made.map_err(|error| defect(name, &error)).ok()?;
        families.insert(name, family.clone());
        Some(family)
    }

    fn int_counter(&self, name: &'static str, labels: Labels<'_>) -> Option<IntCounter> {
        match self.family(Kind::Counter, name, labels)? {
            Family::Counters(counters) => labelled(&counters, name, labels),
            _ => None,
        }
    }

    pub fn reload(&self, succeeded: bool) {
        if succeeded { &self.reloads } else { &self.reload_failures }.increment();
    }

    /// Counts messages by their state after a pass over the providers.
    pub fn message_observer(&self) -> Observer {
        let states = ["accepted", "failed", "unknown", "expired", "retried"]
            .map(|state| self.counter("chelseru_messages_total", &[("state", state)]));
        Box::new(move |message| {
            let [accepted, failed, unknown, expired, retried] = &states;
            match message.status {
                SmsStatus::Accepted | SmsStatus::Delivered => accepted,
                SmsStatus::Failed => failed,
                SmsStatus::Unknown => unknown,
                SmsStatus::Expired => expired,
                SmsStatus::Queued | SmsStatus::Sending => retried,
            }
            .increment();
        })
    }

    /// The Prometheus text format.
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "the metrics cannot be written; this is a defect");
            String::new()
        })
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Meter for Metrics {
    fn counter(&self, name: &'static str, labels: Labels<'_>) -> Counter {
        match self.int_counter(name, labels) {
            Some(counter) => Counter::new(move |count| counter.inc_by(count)),
            None => Counter::new(|_| {}),
        }
    }

    fn histogram(&self, name: &'static str, labels: Labels<'_>) -> Histogram {
        let histogram = match self.family(Kind::Seconds, name, labels) {
            Some(Family::Seconds(histograms)) => labelled(&histograms, name, labels),
            _ => None,
        };
        match histogram {
            Some(histogram) => Histogram::new(move |sample| histogram.observe(sample)),
            None => Histogram::new(|_| {}),
        }
    }

    fn gauge(&self, name: &'static str, labels: Labels<'_>, value: f64) {
        if let Some(Family::Gauges(gauges)) = self.family(Kind::Gauge, name, labels)
            && let Some(gauge) = labelled(&gauges, name, labels)
        {
            gauge.set(value);
        }
    }

    fn total(&self, name: &'static str, labels: Labels<'_>, value: u64) {
        if let Some(counter) = self.int_counter(name, labels) {
            // Never back: what is counted anew goes on when it has passed what it was.
            counter.inc_by(value.saturating_sub(counter.get()));
        }
    }
}

/// The metric of a family that has these labels.
fn labelled<T: MetricVecBuilder>(family: &MetricVec<T>, name: &str, labels: Labels<'_>) -> Option<T::M> {
    let labels: HashMap<&str, &str> = labels.iter().copied().collect();
    family.get_metric_with(&labels).map_err(|error| defect(name, &error)).ok()
}

/// A metric that cannot be kept ends no request.
fn defect(name: &str, error: &prometheus::Error) {
    debug_assert!(false, "the metric {name}: {error}");
    tracing::error!(name, %error, "a metric cannot be kept; this is a defect");
}
