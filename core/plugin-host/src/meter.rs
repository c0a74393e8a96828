//! The CPU of one call: the guest's and that of the host functions it calls; waiting does not count.
//!
//! The whole call is one future, so its CPU is the time inside that future's polls. Until the clock of the host first
//! interrupts a call, a poll's time is measured by the wall and counts for at most one tick, because reading the
//! thread's CPU clock costs as much as a tenth of a short call. From then on the thread's own CPU clock counts, which
//! neither waiting nor other programs move. Nothing resets the count: a call that returns to the host again and again,
//! or that never waits, meets its limit all the same.
//! Not here: when the clock interrupts (see `host`), and what happens then (see `state`).

use std::pin::Pin;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

/// What an interrupted call does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It began its turn a moment ago.
    GoOn,
    /// It lets other tasks of its thread run.
    Yield,
    /// It leaves its thread, and takes its next turn when it has one of the host's places for calls that compute for
    /// long. Yielding alone would keep a worker busy that then looks at sockets and timers only once in dozens of
    /// turns, which other calls would notice.
    StepAside,
    /// It has used up its CPU.
    End,
}

/// Counts one call.
pub(crate) struct Meter {
    limit: Duration,
    tick: Duration,
    count: Mutex<Count>,
}

struct Count {
    used: Duration,
    /// When the present poll began, by the wall.
    begun: Instant,
    /// The thread's CPU time up to which this call was counted; set once it was interrupted.
    counted: Option<Duration>,
    /// The place in which this turn computes. It ends with the poll: a call that waits holds none.
    place: Option<OwnedSemaphorePermit>,
}

impl Meter {
    pub(crate) fn new(limit: Duration, tick: Duration) -> Meter {
        let count = Count { used: Duration::ZERO, begun: Instant::now(), counted: None, place: None };
        Meter { limit, tick, count: Mutex::new(count) }
    }

    /// Polls the call and counts the time that the poll takes.
    pub(crate) fn poll<F: Future>(&self, call: Pin<&mut F>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.with(|count| {
            count.begun = Instant::now();
            if count.counted.is_some() {
                count.counted = Some(thread_time());
            }
        });
        // Also when the poll unwinds.
        let _end = End(self);
        call.poll(context)
    }

    /// Decides, inside a poll, what a call does that the host's clock has interrupted.
    pub(crate) fn interrupted(&self) -> Turn {
        self.with(|count| {
            let now = thread_time();
            let turn = count.begun.elapsed();
            count.used += match count.counted {
                Some(counted) => now.saturating_sub(counted),
                None => turn.min(self.tick),
            };
            count.counted = Some(now);
            if count.used > self.limit {
                Turn::End
            } else if turn < self.tick / 2 {
                Turn::GoOn
            } else if count.used <= self.tick * 2 {
                Turn::Yield
            } else {
                // The next turn is for whoever waits longest.
                count.place = None;
                Turn::StepAside
            }
        })
    }

    /// Takes the place for the rest of this poll.
    pub(crate) fn take_place(&self, place: OwnedSemaphorePermit) {
        self.with(|count| count.place = Some(place));
    }

    /// CPU used up to the end of the last poll or interruption.
    pub(crate) fn used(&self) -> Duration {
        self.with(|count| count.used)
    }

    fn poll_end(&self) {
        self.with(|count| {
            count.place = None;
            count.used += match count.counted {
                Some(counted) => thread_time().saturating_sub(counted),
                None => count.begun.elapsed().min(self.tick),
            };
        });
    }

    fn with<R>(&self, change: impl FnOnce(&mut Count) -> R) -> R {
        // One task at a time polls a call, so the lock is never contended; nothing inside it panics.
        change(&mut self.count.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct End<'a>(&'a Meter);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.poll_end();
    }
}

/// CPU time of the calling thread.
#[cfg(target_os = "linux")]
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(secs, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Without a thread's CPU clock the wall counts, which is never less.
#[cfg(not(target_os = "linux"))]
fn thread_time() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Waker;

    use super::*;

    const TICK: Duration = Duration::from_millis(10);

    fn spin(time: Duration) {
        let until = thread_time() + time;
        while thread_time() < until {
            std::hint::spin_loop();
        }
    }

    fn poll_once(meter: &Meter, work: impl FnMut() -> Poll<()>) -> Poll<()> {
        let mut work = work;
        let future = pin!(std::future::poll_fn(move |_| work()));
        meter.poll(future, &mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn time_between_polls_does_not_count_and_time_inside_does() {
        let meter = Meter::new(Duration::from_millis(200), TICK);
        for _ in 0..3 {
            let _ = poll_once(&meter, || Poll::Pending);
            std::thread::sleep(Duration::from_millis(30));
        }
        assert!(meter.used() < TICK * 3, "{:?}", meter.used());
        let before = meter.used();
        let _ = poll_once(&meter, || {
            assert_ne!(meter.interrupted(), Turn::End);
            spin(TICK * 3);
            Poll::Ready(())
        });
        assert!(meter.used() - before >= TICK * 3, "{:?}", meter.used());
    }

    #[test]
    fn sleeping_inside_a_poll_is_not_cpu_once_the_call_was_interrupted() {
        let meter = Meter::new(Duration::from_millis(200), TICK);
        let _ = poll_once(&meter, || {
            let _ = meter.interrupted();
            std::thread::sleep(TICK * 5);
            Poll::Ready(())
        });
        assert!(meter.used() < TICK * 3, "{:?}", meter.used());
    }

    #[test]
    fn a_turn_s_place_is_free_when_the_poll_ends_and_when_the_next_turn_is_asked_for() {
        let places = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
        let meter = Meter::new(Duration::from_secs(10), TICK);
        let take = || meter.take_place(places.clone().try_acquire_owned().expect("a free place"));
        let _ = poll_once(&meter, || {
            take();
            assert_eq!(places.available_permits(), 0);
            Poll::Pending
        });
        assert_eq!(places.available_permits(), 1, "it waits");
        let _ = poll_once(&meter, || {
            let _ = meter.interrupted();
            spin(TICK * 3);
            take();
            assert_eq!(meter.interrupted(), Turn::StepAside);
            assert_eq!(places.available_permits(), 1, "it steps aside");
            Poll::Pending
        });
    }

    #[test]
    fn many_short_polls_reach_the_limit_like_one_long_one() {
        let meter = Meter::new(TICK * 3, TICK);
        let mut polls = 0;
        let mut ended = false;
        while !ended {
            polls += 1;
            assert!(polls < 200, "no end after {:?}", meter.used());
            let _ = poll_once(&meter, || {
                spin(TICK / 10);
                ended = meter.interrupted() == Turn::End;
                Poll::Pending
            });
        }
        assert!(polls > 10, "{polls}");
    }
}
