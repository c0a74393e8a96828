//! Calls that compute for long go on aside: on threads of their own that others do not notice.
//!
//! A call begins on the thread of whoever asks. One that has computed for half a tick of the host's clock is taken to
//! the host's own threads, and so is, from its beginning, each call of a provider whose calls are known to take long.
//! Those threads are one less than there are cores, step back behind others, and let others go first after each short
//! turn. What such a call spawns and waits for stays with the caller's runtime.
//!
//! The priority alone does not suffice (see `scheduler`). Who lets others go first gives its share up, and who asks for
//! longer slices than others is interrupted by whoever wakes up. The p99 of calls that commit is 0.8 to 1.2 times that
//! alone beside guests that loop. It was 2.7 to 3 with the priority alone, and 1.3 to 1.5 with the turns too, where the
//! clock that ends a turn had to wait for the guest. Pauses in place of the turns made it 1.0 to 1.3, that of `health/`
//! 1.2 to 1.9, and took more than half of the time.
//! The price: such calls take up to thirty times as long beside programs of their group that want all of the machine.
//! Not here: when a call is interrupted and what it has used (see `meter`), and the clock (see `clock`).

use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::clock::{Clock, TURN};
use crate::meter::Meter;
use crate::scheduler;

/// A call begins aside when the last ones took more CPU than this in the mean. Changing threads costs some 10 µs. A
/// call of a shipped plugin takes some 15 µs, and 600 µs where the host is built without optimisation. Twelve calls at
/// once whose answers have 900 KB take 250 µs each, and whoever is behind them would wait for them all.
const LONG: Duration = Duration::from_micros(if cfg!(debug_assertions) { 5000 } else { 100 });
/// The last call counts as much as this many before it in the mean.
const MEAN_OF: u32 = 8;
/// How far the threads step back (`nice`): beside one that does not, each gets a quarter of a core.
const STEP_BACK: i32 = 5;

pub(crate) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The threads. They are started with the first call that needs them.
pub(crate) struct Aside {
    threads: OnceLock<Option<Runtime>>,
    clock: Arc<Clock>,
}

impl Aside {
    pub(crate) fn new(clock: Arc<Clock>) -> Aside {
        Aside { threads: OnceLock::new(), clock }
    }

    /// Goes on with a call there, or gives it back where there can be no threads.
    fn take<T: Send + 'static>(
        &self,
        mut call: Boxed<T>,
        meter: &Arc<Meter>,
    ) -> Result<JoinHandle<T>, Boxed<T>> {
        let Some(threads) = self.threads.get_or_init(threads) else { return Err(call) };
        meter.step_aside();
        let (meter, home, clock) = (Arc::clone(meter), Handle::current(), Arc::clone(&self.clock));
        let mut turn = Duration::ZERO;
        Ok(threads.spawn(std::future::poll_fn(move |context| {
            let begun = Instant::now();
            let polled = {
                let (_home, _fast) = (home.enter(), clock.faster());
                meter.poll(call.as_mut(), context)
            };
            // One that returns to the host again and again has a turn of many short polls.
            turn += begun.elapsed();
            if turn > TURN / 2 {
                turn = Duration::ZERO;
                std::thread::yield_now();
            }
            polled
        })))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // Without waiting: the host may be dropped by a task.
        if let Some(Some(threads)) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

fn threads() -> Option<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = Builder::new_multi_thread()
        .worker_threads((cores - 1).max(1))
        .thread_name("plugin-aside")
        .on_thread_start(|| scheduler::step_back(STEP_BACK))
        .build();
    if let Err(error) = &threads {
        tracing::warn!(%error, "plugins that compute for long go on beside all others");
    }
    threads.ok()
}

/// A call, wherever it computes. Dropped, it ends, and sends nothing from then on.
pub(crate) struct Call<'a, T> {
    at: At<T>,
    meter: Arc<Meter>,
    aside: &'a Aside,
}

enum At<T> {
    Here(Boxed<T>),
    Aside(JoinHandle<T>),
    /// Being moved, or ended.
    Nowhere,
}

impl<'a, T: Send + 'static> Call<'a, T> {
    /// A call that computes here until it has computed for long.
    pub(crate) fn here(call: Boxed<T>, meter: Arc<Meter>, aside: &'a Aside) -> Self {
        Call { at: At::Here(call), meter, aside }
    }

    /// A call that is aside from its beginning.
    pub(crate) fn aside(call: Boxed<T>, meter: Arc<Meter>, aside: &'a Aside) -> Self {
        let mut call = Call::here(call, meter, aside);
        call.step_aside();
        call
    }

    fn step_aside(&mut self) {
        self.at = match std::mem::replace(&mut self.at, At::Nowhere) {
            At::Here(call) => match self.aside.take(call, &self.meter) {
                Ok(task) => At::Aside(task),
                Err(call) => At::Here(call),
            },
            other => other,
        };
    }
}

impl<T: Send + 'static> Future for Call<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let this = &mut *self;
        if let At::Here(call) = &mut this.at {
            let polled = this.meter.poll(call.as_mut(), context);
            if polled.is_ready() || !this.meter.is_long() {
                return polled;
            }
            this.step_aside();
        }
        let At::Aside(task) = &mut this.at else { return Poll::Pending };
        match std::task::ready!(Pin::new(task).poll(context)) {
            Ok(answer) => Poll::Ready(answer),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The host is being dropped, which a provider that is called prevents.
                Err(_) => Poll::Pending,
            },
        }
    }
}

impl<T> Drop for Call<'_, T> {
    fn drop(&mut self) {
        self.meter.give_up();
        if let At::Aside(task) = &self.at {
            task.abort();
        }
    }
}

/// How much CPU the calls of a provider took lately.
#[derive(Default)]
pub(crate) struct Habit {
    /// A moving mean, in microseconds. Of two calls that end at once, one may be left out.
    mean: AtomicU32,
}

impl Habit {
    pub(crate) fn ended(&self, used: Duration) {
        let used = u32::try_from(used.as_micros()).unwrap_or(u32::MAX);
        let mean = self.mean.load(Ordering::Relaxed);
        let mean = mean - mean / MEAN_OF + used / MEAN_OF;
        self.mean.store(mean, Ordering::Relaxed);
    }

    /// Whether the next call is expected to compute for long.
    pub(crate) fn is_long(&self) -> bool {
        Duration::from_micros(self.mean.load(Ordering::Relaxed).into()) > LONG
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_habit_is_learnt_by_one_long_call_and_lost_by_many_short_ones() {
        let habit = Habit::default();
        (0..100).for_each(|_| habit.ended(Duration::from_micros(20)));
        assert!(!habit.is_long());
        habit.ended(Duration::from_millis(200));
        assert!(habit.is_long());
        (0..100).for_each(|_| habit.ended(Duration::from_micros(20)));
        assert!(!habit.is_long());
        habit.ended(Duration::MAX);
        assert!(habit.is_long());
    }
}
