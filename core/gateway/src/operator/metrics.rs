//! Counters and histograms, rendered in the Prometheus text format at `{base}/metrics/`.
//!
//! Each gateway owns its registry. Nothing here is global, so two gateways in one process (tests) stay separate.
//! Labels are bounded by construction: status classes, provider names from the configuration, words from fixed lists.
//! No number, code, token or address becomes a label.

use chelseru_domain::operator::{Counter, Histogram, Labels, Meter};
use chelseru_domain::sms::queue::Observer;
use chelseru_store::SmsStatus;

use super::metric_help::{HELP, Help, Kind};
use super::trends::Trends;
use metrics::{Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

const METADATA: Metadata<'static> = Metadata::new("chelseru", Level::INFO, None);

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
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    reloads: Counter,
    reload_failures: Counter,
    /// What the metrics grew by in the last 24 hours.
    pub(crate) trends: Trends,
}

impl Metrics {
    pub fn new() -> Metrics {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
            .expect("the list of buckets is not empty")
            .build_recorder();
        for Help { name, kind, text, .. } in HELP {
            let (name, text) = (KeyName::from_const_str(name), SharedString::const_str(text));
            match kind {
                Kind::Counter => recorder.describe_counter(name, None, text),
                Kind::Gauge => recorder.describe_gauge(name, None, text),
                Kind::Seconds => recorder.describe_histogram(name, Some(Unit::Seconds), text),
            }
        }
        let counter = |name: &'static str, labels: Labels<'_>| {
            let counter = recorder.register_counter(&key(name, labels), &METADATA);
            Counter::new(move |count| counter.increment(count))
        };
        // Exported from the start, even while zero.
        for name in ["chelseru_logins_total", "chelseru_login_refusals_total"] {
            counter(name, &[]);
        }
        Metrics {
            reloads: counter("chelseru_reloads_total", &[]),
            reload_failures: counter("chelseru_reload_failures_total", &[]),
            handle: recorder.handle(),
            recorder,
            trends: Trends::default(),
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
        self.handle.run_upkeep();
        self.handle.render()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Meter for Metrics {
    fn counter(&self, name: &'static str, labels: Labels<'_>) -> Counter {
        let counter = self.recorder.register_counter(&key(name, labels), &METADATA);
        Counter::new(move |count| counter.increment(count))
    }

    fn histogram(&self, name: &'static str, labels: Labels<'_>) -> Histogram {
        let histogram = self.recorder.register_histogram(&key(name, labels), &METADATA);
        Histogram::new(move |sample| histogram.record(sample))
    }

    fn gauge(&self, name: &'static str, labels: Labels<'_>, value: f64) {
        self.recorder.register_gauge(&key(name, labels), &METADATA).set(value);
    }

    fn total(&self, name: &'static str, labels: Labels<'_>, value: u64) {
        self.recorder.register_counter(&key(name, labels), &METADATA).absolute(value);
    }
}

fn key(name: &'static str, labels: Labels<'_>) -> Key {
    let label =
        |(key, value): &(&'static str, &str)| Label::new(*key, SharedString::from((*value).to_owned()));
    Key::from_parts(name, labels.iter().map(label).collect::<Vec<_>>())
}
