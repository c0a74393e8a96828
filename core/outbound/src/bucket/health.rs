//! How a bucket does: its state by the last request, and the metrics of its requests.
//!
//! `chelseru_bucket_requests_total` counts requests by method, attempts that are repeated as one;
//! `chelseru_bucket_errors_total` those without success, by kind; `chelseru_bucket_seconds` is the time until the head
//! of the answer, repeated attempts included. A missing object is an answer and no error.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use chelseru_domain::files::place::{PlaceError, PlaceState};
use chelseru_domain::operator::{Counter, Histogram, Meter};

use super::request::Method;

pub(super) struct Health {
    state: Mutex<PlaceState>,
    counts: OnceLock<Counts>,
}

struct Counts {
    requests: [(Method, Counter, Histogram); 4],
    away: Counter,
    refused: Counter,
}

impl Default for Health {
    fn default() -> Health {
        Health { state: Mutex::new(PlaceState::Serves), counts: OnceLock::new() }
    }
}

impl Health {
    pub(super) fn state(&self) -> PlaceState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn measure_by(&self, meter: &dyn Meter) {
        let errors = |kind| meter.counter("chelseru_bucket_errors_total", &[("kind", kind)]);
        let methods =
            [(Method::GET, "get"), (Method::PUT, "put"), (Method::POST, "post"), (Method::DELETE, "delete")];
        let requests = methods.map(|(method, label)| {
            let labels = &[("method", label)];
            let requests = meter.counter("chelseru_bucket_requests_total", labels);
            (method, requests, meter.histogram("chelseru_bucket_seconds", labels))
        });
        let counts = Counts { requests, away: errors("away"), refused: errors("refused") };
        // A second call changes nothing.
        let _ = self.counts.set(counts);
    }

    /// Counts a request and notes how it ended.
    pub(super) fn ended<T>(&self, method: &Method, took: Duration, ended: &Result<T, PlaceError>) {
        self.note(ended);
        let Some(counts) = self.counts.get() else { return };
        if let Some((_, requests, seconds)) = counts.requests.iter().find(|(known, ..)| known == method) {
            requests.increment();
            seconds.record(took.as_secs_f64());
        }
        match ended {
            Err(PlaceError::Away(_)) => counts.away.increment(),
            Err(PlaceError::Refused(_)) => counts.refused.increment(),
            _ => {}
        }
    }

    /// Notes how a request ended. What is this machine's fault says nothing of the bucket.
    pub(super) fn note<T>(&self, ended: &Result<T, PlaceError>) {
        let state = match ended {
            Ok(_) | Err(PlaceError::Missing) => PlaceState::Serves,
            Err(PlaceError::Away(text)) => PlaceState::Away(text.clone()),
            Err(PlaceError::Refused(text)) => PlaceState::Refuses(text.clone()),
            Err(PlaceError::NoDescriptor | PlaceError::Disk(_)) => return,
        };
        let mut known = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match (known.error(), state.error()) {
            (None, Some(error)) => tracing::error!(error, "files cannot be stored or read; they answer 503"),
            (Some(_), None) => tracing::info!("the place of files serves again"),
            _ => {}
        }
        *known = state;
    }
}
