//! The clock that interrupts guests: it moves the engine's epoch on with each period.
//!
//! It ticks a hundred times a second by default, and faster while calls that compute for long have short turns. It has
//! a core that those leave free (see `aside`).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use rustix::process::Pid;
use wasmtime::Engine;

/// How long a call computes at once while it is aside: the period of the clock meanwhile.
pub(crate) const TURN: Duration = Duration::from_micros(200);
/// How long its thread does nothing after each turn.
pub(crate) const PAUSE: Duration = Duration::from_micros(300);
/// Fast ticks that follow when no call computes any more: one that pauses goes on in a moment.
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
            #[cfg(target_os = "linux")]
            keep_to_its_core();
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

/// Keeps to the core that those leave who compute for long.
#[cfg(target_os = "linux")]
pub(crate) fn keep_to_its_core() {
    cores_keep(None, |core, first| core == first);
}

/// Leaves the core that the clock keeps to, for good.
#[cfg(target_os = "linux")]
pub(crate) fn leave_its_core() {
    cores_keep(None, |core, first| core != first);
}

/// As [`leave_its_core`], for all threads of a process, and those that they start.
#[cfg(target_os = "linux")]
pub(crate) fn leave_its_core_all(process: Pid) {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero()));
    for task in tasks.into_iter().flatten().flatten() {
        let id = task.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
        cores_keep(id, |core, first| core != first);
    }
}

/// Keeps a thread (this one: `None`) to some of the cores that it may use, told by the first of them. With one core,
/// nothing changes.
#[cfg(target_os = "linux")]
fn cores_keep(thread: Option<Pid>, keep: impl Fn(usize, usize) -> bool) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let Ok(all) = sched_getaffinity(thread) else { return };
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
    let (Some(first), Some(_)) = (cores.next(), cores.next()) else { return };
    let mut kept = CpuSet::new();
    (first..CpuSet::MAX_CPU)
        .filter(|core| all.is_set(*core) && keep(*core, first))
        .for_each(|core| kept.set(core));
    // It only runs elsewhere, too.
    let _ = sched_setaffinity(thread, &kept);
}
