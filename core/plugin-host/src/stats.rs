//! Figures of a provider entry. They go on when its plugin is replaced.
//!
//! Everything is an atomic that only grows, so a call costs a few additions and a reader never waits. Times are kept in
//! a histogram whose buckets are a quarter of a power of two wide: a quantile is at most 19 % above the true value.
//! Not here: names and labels of metrics (the embedder).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// Why a call has no answer: the words of [`crate::CallError::code`], and `cancelled` for a call whose caller left.
pub const CALL_ERRORS: [&str; 11] = [
    "busy",
    "timeout",
    "cpu_exceeded",
    "memory_exceeded",
    "output_too_large",
    "handles_exceeded",
    "requests_exceeded",
    "trap",
    "no_such_export",
    "type_mismatch",
    "cancelled",
];

/// The shortest time that has a bucket of its own: 1 µs. The longest: 2^28 µs, more than four minutes.
const OCTAVES: usize = 28;
const BUCKETS_PER_OCTAVE: usize = 4;
const BUCKETS: usize = OCTAVES * BUCKETS_PER_OCTAVE;

/// HTTP of one call.
#[derive(Debug, Default)]
pub(crate) struct HttpUse {
    /// Requests asked for, refused ones included.
    pub(crate) requests: u32,
    pub(crate) bytes_out: usize,
    pub(crate) bytes_in: usize,
}

impl HttpUse {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes_out.saturating_add(self.bytes_in)
    }
}

/// Counters of a provider entry.
#[derive(Debug)]
pub(crate) struct Stats {
    calls: AtomicU64,
    in_flight: AtomicU32,
    errors: [AtomicU64; CALL_ERRORS.len()],
    cpu_micros: AtomicU64,
    memory_bytes_max: AtomicU64,
    http_requests: AtomicU64,
    http_bytes_out: AtomicU64,
    http_bytes_in: AtomicU64,
    lookups_refused: AtomicU64,
    times: [AtomicU64; BUCKETS],
}

impl Default for Stats {
    fn default() -> Stats {
        let zeros = || AtomicU64::new(0);
        Stats {
            calls: zeros(),
            in_flight: AtomicU32::new(0),
            errors: std::array::from_fn(|_| zeros()),
            cpu_micros: zeros(),
            memory_bytes_max: zeros(),
            http_requests: zeros(),
            http_bytes_out: zeros(),
            http_bytes_in: zeros(),
            lookups_refused: zeros(),
            times: std::array::from_fn(|_| zeros()),
        }
    }
}

/// What the calls of a provider entry came to and what they used, since the entry exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CallStats {
    /// Calls begun.
    pub calls: u64,
    /// Calls without an answer.
    pub call_errors: u64,
    /// Those by kind, in the order of [`CALL_ERRORS`]; kinds that never happened are left out.
    pub errors: Vec<ErrorCount>,
    /// Calls that run or wait now.
    pub in_flight: u32,
    /// Half of the calls took at most this long, in microseconds, waiting for a place included; 0 without a call.
    pub p50_micros: u64,
    /// 99 of 100 calls took at most this long, in microseconds.
    pub p99_micros: u64,
    /// CPU of all calls, in microseconds.
    pub cpu_micros: u64,
    /// The most memory that one call had, in bytes.
    pub memory_bytes_max: u64,
    /// HTTP requests that the calls asked for.
    pub http_requests: u64,
    /// Bytes of those requests.
    pub http_bytes_out: u64,
    /// Bytes of their answers.
    pub http_bytes_in: u64,
    /// Requests that were not sent because too many name lookups had no answer yet.
    pub lookups_refused: u64,
}

/// How often calls ended in one kind of error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorCount {
    /// One of [`CALL_ERRORS`].
    pub kind: &'static str,
    /// Calls.
    pub count: u64,
}

impl Stats {
    pub(crate) fn call_begun(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an ended call; `error` is its code when it has no answer.
    pub(crate) fn call_ended(&self, took: Duration, error: Option<&'static str>) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.times[bucket(took)].fetch_add(1, Ordering::Relaxed);
        if let Some(at) = error.and_then(|code| CALL_ERRORS.iter().position(|known| *known == code)) {
            self.errors[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds what one instance used.
    pub(crate) fn call_used(&self, cpu: Duration, memory_bytes: usize, http: &HttpUse) {
        let add = |counter: &AtomicU64, value: usize| {
            if value > 0 {
                counter.fetch_add(value as u64, Ordering::Relaxed);
            }
        };
        self.cpu_micros.fetch_add(micros(cpu), Ordering::Relaxed);
        self.memory_bytes_max.fetch_max(memory_bytes as u64, Ordering::Relaxed);
        add(&self.http_requests, http.requests as usize);
        add(&self.http_bytes_out, http.bytes_out);
        add(&self.http_bytes_in, http.bytes_in);
    }

    /// Counts a request that found no place for its name's lookup.
    pub(crate) fn lookup_refused(&self) {
        self.lookups_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn snapshot(&self) -> CallStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counted = CALL_ERRORS.iter().zip(&self.errors);
        let errors: Vec<ErrorCount> = counted
            .map(|(kind, count)| ErrorCount { kind, count: load(count) })
            .filter(|error| error.count > 0)
            .collect();
        let times: Vec<u64> = self.times.iter().map(load).collect();
        CallStats {
            calls: load(&self.calls),
            call_errors: errors.iter().map(|error| error.count).sum(),
            errors,
            in_flight: self.in_flight(),
            p50_micros: quantile(&times, 50),
            p99_micros: quantile(&times, 99),
            cpu_micros: load(&self.cpu_micros),
            memory_bytes_max: load(&self.memory_bytes_max),
            http_requests: load(&self.http_requests),
            http_bytes_out: load(&self.http_bytes_out),
            http_bytes_in: load(&self.http_bytes_in),
            lookups_refused: load(&self.lookups_refused),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The first bucket whose upper end is not below the time.
fn bucket(time: Duration) -> usize {
    let time = micros(time).max(1);
    let octave = time.ilog2() as usize;
    // The two bits below the highest one.
    let quarter = ((u128::from(time) << 2 >> octave) & 3) as usize;
    (octave * BUCKETS_PER_OCTAVE + quarter).min(BUCKETS - 1)
}

/// The longest time of a bucket, in microseconds.
fn upper(bucket: usize) -> u64 {
    let (octave, quarter) = (bucket / BUCKETS_PER_OCTAVE, (bucket % BUCKETS_PER_OCTAVE) as u64);
    ((1u64 << octave) * (5 + quarter)).div_ceil(4) - 1
}

/// The time that `percent` of the counted times do not exceed.
fn quantile(times: &[u64], percent: u64) -> u64 {
    let total: u64 = times.iter().sum();
    let wanted = (total * percent).div_ceil(100);
    let mut seen = 0;
    for (bucket, count) in times.iter().enumerate() {
        seen += count;
        if seen >= wanted && seen > 0 {
            return upper(bucket);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_ends_at_most_a_fifth_above_each_of_its_times() {
        let mut before = 0;
        for time in 1..=100_000u64 {
            let at = bucket(Duration::from_micros(time));
            assert!(at >= before, "{time}");
            before = at;
            let end = upper(at);
            assert!(end >= time && end <= time + time / 4, "{time} in a bucket up to {end}");
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
        assert_eq!(bucket(Duration::ZERO), 0);
    }

    #[test]
    fn quantiles_errors_and_use_are_summed_up() {
        let stats = Stats::default();
        assert_eq!(stats.snapshot(), CallStats::default());
        for i in 1..=100u64 {
            stats.call_begun();
            let error = (i > 98).then_some("trap");
            stats.call_ended(Duration::from_millis(if i > 98 { 1000 } else { 1 }), error);
        }
        stats.call_begun();
        stats.call_used(Duration::from_micros(5), 10, &HttpUse { requests: 2, bytes_out: 3, bytes_in: 4 });
        stats.call_used(Duration::from_micros(6), 7, &HttpUse::default());
        let shown = stats.snapshot();
        assert!((1000..1250).contains(&shown.p50_micros), "{}", shown.p50_micros);
        assert!((1_000_000..1_250_000).contains(&shown.p99_micros), "{}", shown.p99_micros);
        assert_eq!((shown.calls, shown.call_errors, shown.in_flight), (101, 2, 1));
        assert_eq!(shown.errors, [ErrorCount { kind: "trap", count: 2 }]);
        assert_eq!((shown.cpu_micros, shown.memory_bytes_max), (11, 10));
        assert_eq!((shown.http_requests, shown.http_bytes_out, shown.http_bytes_in), (2, 3, 4));
    }
}
