//! Calls that compute for long go on where their callers do not notice.

use std::time::Duration;

use chelseru_plugin_host::{CallError, Limits};

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
