//! The clock that interrupts guests: it moves the engine's epoch on with each period.
//!
//! It ticks a hundred times a second by default, and faster while calls that compute for long have short turns (see
//! `aside`).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use wasmtime::Engine;

use crate::scheduler;

/// How long a call computes at once while it is aside: the period of the clock meanwhile.
pub(crate) const TURN: Duration = Duration::from_micros(200);
/// Fast ticks that follow when no call computes any more: one that let others go first goes on in a moment.
const LINGERS: u32 = 20;

/// The clock of a host.
pub(crate) struct Clock {
    tick: Duration,
    /// Calls that compute in short turns now.
    hurried: AtomicU32,
    thread: OnceLock<Thread>,
}

impl Clock {
    /// Starts the clock's thread. It holds no strong reference to the engine and ends with it.
    pub(crate) fn start(engine: &Engine, tick: Duration) -> std::io::Result<Arc<Clock>> {
        let clock = Arc::new(Clock { tick, hurried: AtomicU32::new(0), thread: OnceLock::new() });
        let (engine, ticking) = (engine.weak(), Arc::clone(&clock));
        let run = move || {
            scheduler::go_first();
            let mut lingers = 0;
            loop {
                if ticking.hurried.load(Ordering::Relaxed) > 0 {
                    lingers = LINGERS;
                }
                if lingers > 0 {
                    lingers -= 1;
                    std::thread::sleep(ticking.tick.min(TURN));
                } else if !ticking.park() {
                    continue;
                }
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        };
        let thread = std::thread::Builder::new().name("plugin-ticker".to_owned()).spawn(run)?;
        let _ = clock.thread.set(thread.thread().clone());
        Ok(clock)
    }

    /// Ticks faster while the guard lives.
    pub(crate) fn faster(&self) -> Faster<'_> {
        if self.hurried.fetch_add(1, Ordering::Relaxed) == 0
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
        Faster(self)
    }

    /// Waits for one period. False when it is woken to tick faster.
    fn park(&self) -> bool {
        let begun = Instant::now();
        std::thread::park_timeout(self.tick);
        begun.elapsed() >= self.tick
    }
}

/// See [`Clock::faster`].
pub(crate) struct Faster<'a>(&'a Clock);

impl Drop for Faster<'_> {
    fn drop(&mut self) {
        self.0.hurried.fetch_sub(1, Ordering::Relaxed);
    }
}
