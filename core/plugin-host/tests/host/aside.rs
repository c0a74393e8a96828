//! Calls that compute for long go on where their callers do not notice.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chelseru_plugin_host::{CallError, Limits, Provider};

use crate::kit::*;

/// A limit that is not the one under test.
const NEVER: Duration = Duration::from_secs(86_400);

/// CPU of this thread, as the system counts it.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).expect("below a second"))
}

#[tokio::test]
async fn a_call_that_computes_for_long_leaves_its_caller_s_thread_and_the_next_ones_begin_elsewhere() {
    let host = host();
    let limit = Duration::from_millis(300);
    let limits = Limits { cpu_time_max: limit, wall_time_max: NEVER, ..Limits::default() };
    let looping = provider(&host, LOOP, limits).await;
    for beginning in [Duration::from_millis(100), Duration::from_millis(5)] {
        let before = thread_time();
        assert_eq!(run(&looping, "").await, Err(CallError::CpuExceeded { limit, may_have_sent: false }));
        let used = thread_time() - before;
        assert!(used < beginning, "{used:?} of 300 ms on the caller's thread");
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_while_it_computes_elsewhere_ends_and_frees_its_place() {
    let host = host();
    let limits = Limits { cpu_time_max: NEVER, wall_time_max: NEVER, ..Limits::default() };
    let looping = provider(&host, LOOP, limits).await;
    for _ in 0..2 {
        let given_up = tokio::time::timeout(Duration::from_millis(100), run(&looping, "")).await;
        assert!(given_up.is_err());
        while host.calls_running() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let used = looping.stats().cpu_micros;
    assert!(used > 0);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(looping.stats().cpu_micros, used, "nothing computes any more");
}

/// Computes for hundreds of milliseconds and sends then.
const SENDS_LATE: &str = "(loop $l (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br_if $l (i32.lt_u (local.get $i) (i32.const 1073741824))))
    (drop (call $fetch (local.get $in) (local.get $len))) (unreachable)";
/// Sends, and computes without end.
const SENDS_EARLY: &str =
    "(drop (call $fetch (local.get $in) (local.get $len))) (loop $l (br $l)) (unreachable)";

#[tokio::test]
async fn what_a_caller_hears_of_requests_stays_true_when_its_guest_still_computes() {
    let host = host();
    let wall_time_max = Duration::from_millis(100);
    for (run_body, sent) in [(SENDS_LATE, 0), (SENDS_EARLY, 1)] {
        let limits = Limits { cpu_time_max: NEVER, wall_time_max, ..Limits::default() };
        let plugin = load(&host, &guest(run_body)).await;
        let transport = Arc::new(Scripted::default());
        let provider = Provider::bind(&host, plugin, binding(&[], Some(&["a.com"]), limits)).expect("binds");
        let provider = provider.with_transport(Arc::clone(&transport) as _);
        let timeout = CallError::Timeout { after: wall_time_max, may_have_sent: sent > 0 };
        assert_eq!(run(&provider, "https://a.com/").await, Err(timeout));
        while host.calls_running() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(transport.requests.load(Ordering::SeqCst), sent);
    }
}
