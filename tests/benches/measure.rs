//! What the benches share: medians, percentiles, CPU time, and one way to print.

use std::time::Duration;

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "a median of nothing");
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value below which a share of the sorted samples lies.
pub(crate) fn percentile(sorted: &[Duration], share: f64) -> Duration {
    assert!(!sorted.is_empty(), "a percentile of nothing");
    sorted[((sorted.len() as f64 * share) as usize).min(sorted.len() - 1)]
}

/// CPU time of this process so far, all threads, user and system, in seconds. From `/proc/self/stat`, fields 14
/// and 15, in clock ticks of 10 ms (`man 5 proc`).
pub(crate) fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = stat.rsplit(')').next().expect("a name in brackets");
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1000.0
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}
