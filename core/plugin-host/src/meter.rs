//! What one call used, as its caller may ask while it runs: CPU, and whether it may have sent something.
//!
//! CPU is the guest's and that of the host functions it calls; waiting does not count.
//!
//! The whole call is one future, so its CPU is the time inside that future's polls. Until the clock of the host first
//! interrupts a call, a poll's time is measured by the wall and counts for at most one tick, because reading the
//! thread's CPU clock costs as much as a tenth of a short call. From then on the thread's own CPU clock counts, which
//! neither waiting nor other programs move. Nothing resets the count: a call that returns to the host again and again,
//! or that never waits, meets its limit all the same.
//! Not here: when the clock interrupts (see `clock`), and where a call goes on that computes for long (see `aside`).

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Set in [`Meter::sent`] when the caller has given up.
const GIVEN_UP: u32 = 1 << 31;

/// What an interrupted call does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It has used little so far.
    GoOn,
    /// It lets others compute.
    Yield,
    /// It has used up its CPU, or nobody waits for it.
    End,
}

/// Counts one call.
pub(crate) struct Meter {
    limit: Duration,
    tick: Duration,
    count: Mutex<Count>,
    /// Requests that may have reached their host.
    sent: AtomicU32,
}

struct Count {
    /// Up to the last poll's end, or to the last interruption.
    used: Duration,
    poll: Option<PollCount>,
    /// The clock has interrupted the call, or it computes aside.
    interrupted: bool,
    /// The call is where it computes in short turns.
    aside: bool,
}

/// From where on the present poll is counted.
#[derive(Clone, Copy)]
enum PollCount {
    /// By the wall.
    Wall(Instant),
    /// By the thread's CPU time.
    Thread(Duration),
}

impl Meter {
    pub(crate) fn new(limit: Duration, tick: Duration) -> Meter {
        let count = Count { used: Duration::ZERO, poll: None, interrupted: false, aside: false };
        Meter { limit, tick, count: Mutex::new(count), sent: AtomicU32::new(0) }
    }

    /// Polls the call and counts the time that the poll takes.
    pub(crate) fn poll<F: Future + ?Sized>(
        &self,
        call: Pin<&mut F>,
        context: &mut Context<'_>,
    ) -> Poll<F::Output> {
        self.with(|count| {
            count.poll = Some(match count.interrupted {
                true => PollCount::Thread(thread_time()),
                false => PollCount::Wall(Instant::now()),
            });
        });
        // Also when the poll unwinds.
        let _end = End(self);
        call.poll(context)
    }

    /// Decides, inside a poll, what a call does that the host's clock has interrupted.
    pub(crate) fn interrupted(&self) -> Turn {
        let (used, aside) = self.with(|count| {
            count.used += self.of_poll(count);
            count.interrupted = true;
            count.poll = Some(PollCount::Thread(thread_time()));
            (count.used, count.aside)
        });
        if used > self.limit || self.sent.load(Ordering::Relaxed) & GIVEN_UP != 0 {
            Turn::End
        } else if aside || self.is_long_of(used) {
            Turn::Yield
        } else {
            Turn::GoOn
        }
    }

    /// CPU used until now.
    pub(crate) fn used(&self) -> Duration {
        self.with(|count| count.used + self.of_poll(count))
    }

    /// Makes each interruption the end of a turn. From here on the thread's CPU clock counts: the wall would count the
    /// waits for a busy machine.
    pub(crate) fn step_aside(&self) {
        self.with(|count| (count.aside, count.interrupted) = (true, true));
    }

    /// Whether the call has computed for half a tick.
    pub(crate) fn is_long(&self) -> bool {
        self.is_long_of(self.with(|count| count.used))
    }

    fn is_long_of(&self, used: Duration) -> bool {
        used >= self.tick / 2
    }

    /// Notes that a request is about to be sent. False when the caller has given up and it must not be.
    #[must_use]
    pub(crate) fn send(&self) -> bool {
        self.sent.fetch_add(1, Ordering::Relaxed) & GIVEN_UP == 0
    }

    /// Notes that the last request did not leave.
    pub(crate) fn unsend(&self) {
        self.sent.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a request may have reached its host.
    pub(crate) fn may_have_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed) & !GIVEN_UP > 0
    }

    /// Ends the call where the caller leaves it, though it may be computing on another thread: it sends nothing from
    /// now on. Returns whether a request may have reached its host before.
    pub(crate) fn give_up(&self) -> bool {
        self.sent.fetch_or(GIVEN_UP, Ordering::Relaxed) & !GIVEN_UP > 0
    }

    /// What the present poll used that is not yet in `used`.
    fn of_poll(&self, count: &Count) -> Duration {
        match count.poll {
            None => Duration::ZERO,
            Some(PollCount::Wall(begun)) => begun.elapsed().min(self.tick),
            Some(PollCount::Thread(counted)) => thread_time().saturating_sub(counted),
        }
    }

    fn poll_end(&self) {
        self.with(|count| {
            count.used += self.of_poll(count);
            count.poll = None;
        });
    }

    fn with<R>(&self, change: impl FnOnce(&mut Count) -> R) -> R {
        // One task at a time polls a call, so the lock is hardly ever contended; nothing inside it panics.
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
    fn a_call_that_was_given_up_sends_nothing_and_ends() {
        let meter = Meter::new(Duration::from_secs(10), TICK);
        assert!(meter.send() && meter.may_have_sent());
        meter.unsend();
        assert!(!meter.may_have_sent());
        assert!(!meter.give_up(), "nothing was sent");
        assert!(!meter.send());
        meter.unsend();
        assert!(!meter.may_have_sent());
        let _ = poll_once(&meter, || {
            assert_eq!(meter.interrupted(), Turn::End);
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
