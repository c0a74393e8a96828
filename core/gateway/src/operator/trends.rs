//! What happened in the last 24 hours, for the console's overview: a number for each quarter of an hour.
//!
//! The metrics are read a few times a minute, and what they grew by belongs to the current quarter. The numbers are
//! kept in a file of the data folder, which is written once a quarter and when the gateway stops. A crash loses the
//! current quarter; an unreadable file starts anew. Each gateway counts its own.
//!
//! Limits: [`SERIES`] times [`STEPS`] numbers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chelseru_domain::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::private;

/// The file in the data folder.
const FILE: &str = "trends.json";
/// Seconds of a step, and steps: 24 hours.
const STEP_SECS: u64 = 15 * 60;
const STEPS: usize = 96;

/// A series, its metric, and a label that a line of the metric must hold; empty for any.
const SERIES: [(&str, &str, &str); 6] = [
    ("requests", "chelseru_requests_total", ""),
    ("logins", "chelseru_logins_total", ""),
    ("messages", "chelseru_messages_total", "state=\"accepted\""),
    ("messages_failed", "chelseru_messages_total", "state=\"failed\""),
    ("provider_errors", "chelseru_plugin_call_errors_total", ""),
    ("webhooks", "chelseru_webhooks_total", ""),
];

#[derive(Default)]
pub(crate) struct Trends(Mutex<State>);

#[derive(Default)]
struct State {
    ring: Option<Ring>,
    /// The totals of the metrics when they were read last.
    seen: [u64; SERIES.len()],
}

/// The numbers of each series, the oldest first; the last one is of the step with this number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Ring {
    step: u64,
    series: BTreeMap<String, Vec<u64>>,
}

impl Ring {
    fn new(step: u64) -> Ring {
        let zeros = |(name, ..): (&str, &str, &str)| (name.to_owned(), vec![0; STEPS]);
        Ring { step, series: SERIES.map(zeros).into() }
    }

    /// The ring of a file; whatever else it holds is dropped.
    fn read(bytes: &[u8]) -> Option<Ring> {
        let mut kept: Ring = serde_json::from_slice(bytes).ok()?;
        let mut ring = Ring::new(kept.step);
        for (name, values) in &mut ring.series {
            if let Some(old) = kept.series.remove(name).filter(|old| old.len() == STEPS) {
                *values = old;
            }
        }
        Some(ring)
    }

    /// Moves on to a step; true when a step ended.
    fn advance(&mut self, step: u64) -> bool {
        // A clock that went back adds to the newest step.
        let Some(passed) = step.checked_sub(self.step).filter(|passed| *passed > 0) else { return false };
        let passed = usize::try_from(passed).unwrap_or(STEPS).min(STEPS);
        for values in self.series.values_mut() {
            values.drain(..passed);
            values.resize(STEPS, 0);
        }
        self.step = step;
        true
    }
}

impl Trends {
    /// Takes in the metrics, in their text format. Returns true when a step ended, so that it is time to save.
    pub(crate) fn sample(&self, metrics: &str, data_dir: &Path, now: Timestamp) -> bool {
        let step = now.as_secs() / STEP_SECS;
        let totals = SERIES.map(|(_, metric, label)| total(metrics, metric, label));
        let mut state = self.lock();
        let seen = std::mem::replace(&mut state.seen, totals);
        let ring = state.ring.get_or_insert_with(|| {
            let kept = std::fs::read(data_dir.join(FILE)).ok().and_then(|bytes| Ring::read(&bytes));
            kept.unwrap_or_else(|| Ring::new(step))
        });
        let ended = ring.advance(step);
        for ((name, ..), (total, seen)) in SERIES.iter().zip(totals.into_iter().zip(seen)) {
            if let Some(newest) = ring.series.get_mut(*name).and_then(|values| values.last_mut()) {
                *newest = newest.saturating_add(total.saturating_sub(seen));
            }
        }
        ended
    }

    /// Writes the numbers into the data folder.
    pub(crate) fn save(&self, data_dir: &Path) -> std::io::Result<()> {
        let Some(bytes) = self.lock().ring.as_ref().map(serde_json::to_vec).transpose()? else {
            return Ok(());
        };
        let (file, next) = (data_dir.join(FILE), data_dir.join("trends.json.new"));
        let _ = std::fs::remove_file(&next);
        std::io::Write::write_all(&mut private::make_file(&next)?, &bytes)?;
        // Not synced: a power cut may lose it.
        std::fs::rename(next, file)
    }

    /// The series as the status tells them.
    pub(crate) fn status(&self) -> Value {
        let state = self.lock();
        let series = state.ring.as_ref().map(|ring| &ring.series);
        json!({"step_seconds": STEP_SECS, "series": series})
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sum over the lines of a metric.
fn total(text: &str, metric: &str, label: &str) -> u64 {
    let value = |line: &str| {
        let rest = line.strip_prefix(metric)?;
        let labels_end = rest.rfind(' ')?;
        let (labels, value) = rest.split_at(labels_end);
        let is_own = labels.is_empty() || labels.starts_with('{');
        let number: f64 = value.trim().parse().ok()?;
        (is_own && labels.contains(label)).then_some(number as u64)
    };
    text.lines().filter_map(value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: u64) -> Timestamp {
        Timestamp::from_secs(step * STEP_SECS)
    }

    fn metrics(logins: u64, accepted: u64) -> String {
        format!(
            "# TYPE chelseru_logins_total counter\nchelseru_logins_total {logins}\n\
             chelseru_logins_total_other 99\nchelseru_messages_total{{state=\"accepted\"}} {accepted}\n\
             chelseru_messages_total{{state=\"failed\"}} 1\n"
        )
    }

    fn of(trends: &Trends, name: &str) -> Vec<u64> {
        let values = trends.status()["series"][name].clone();
        serde_json::from_value(values).expect("numbers")
    }

    #[test]
    fn each_quarter_holds_what_the_metrics_grew_by() {
        let folder = tempfile::tempdir().expect("a folder");
        let trends = Trends::default();
        assert!(!trends.sample(&metrics(3, 10), folder.path(), at(1000)));
        assert!(!trends.sample(&metrics(5, 10), folder.path(), at(1000)));
        assert!(trends.sample(&metrics(6, 11), folder.path(), at(1002)), "a step ended");
        // A clock that went back.
        assert!(!trends.sample(&metrics(7, 11), folder.path(), at(900)));
        let logins = of(&trends, "logins");
        assert_eq!((logins.len(), &logins[93..]), (STEPS, &[5, 0, 2][..]));
        assert_eq!(of(&trends, "messages")[93..], [10, 0, 1]);
        assert_eq!(of(&trends, "messages_failed")[93..], [1, 0, 0]);

        // After a restart the counters begin at 0 and the numbers go on; after two days nothing is left.
        trends.save(folder.path()).expect("written");
        let again = Trends::default();
        again.sample(&metrics(2, 0), folder.path(), at(1003));
        assert_eq!(of(&again, "logins")[92..], [5, 0, 2, 2]);
        again.sample(&metrics(2, 0), folder.path(), at(1300));
        assert_eq!(of(&again, "logins"), [0; STEPS]);
        // Whatever stands in the file.
        for text in ["", "{}", "{\"step\":1,\"series\":{\"logins\":[1]}}"] {
            std::fs::write(folder.path().join(FILE), text).expect("written");
            let new = Trends::default();
            new.sample(&metrics(1, 0), folder.path(), at(1000));
            assert_eq!(of(&new, "logins").last(), Some(&1), "{text}");
        }
    }
}
