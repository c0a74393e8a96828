//! What the host asks of the system's scheduler: which of its threads others go before, and which goes before others.
//!
//! A lower priority (`nice`) is a smaller share and says nothing about when. Of the threads that could run, Linux
//! (6.18) chooses one that had less than its share, and lets it run until the next tick, 4 ms with the usual settings,
//! though another one wakes up that has just computed. Two things end that, and both are needed where guests compute:
//!
//! - **Turns.** A thread that lets others go first (`sched_yield`) after each short turn gives its share up.
//! - **Slices** (`sched_runtime` of sched_setattr(2), since Linux 6.12). A thread that asks for longer ones is
//!   interrupted by whoever wakes up with a shorter one. The clock that ends the guests' turns asks for the shortest;
//!   otherwise it waits for the guest that it is to interrupt.
//!
//! Measured on two cores, beside twelve guests that loop: in 4 s of calls that commit, threads waited 86 to 145 ms for
//! a guest's, up to 4 ms at once, with the turns alone, and 11 to 21 ms with both. A call that commits beside a
//! compiler in the same group had a p99 of 3.0 to 5.2 times that alone without turns, and 1.1 with them.
//!
//! Older systems ignore slices, and other ones refuse all of this, which changes nothing else.

use std::time::Duration;

/// The shortest slice that Linux gives (`sched_runtime` is clamped to 0.1 to 100 ms).
const SHORT: Duration = Duration::from_micros(100);
/// Longer than what others have by default, which is 0.7 ms on one core and 2.8 ms on eight and more. A thread that
/// lets others go first gives up so much of its share each time, so a much longer one would all but stop it beside
/// others.
const LONG: Duration = Duration::from_millis(4);
/// What `nice` goes up to.
#[cfg(target_os = "linux")]
const NICE_MAX: i32 = 19;

/// Lets other threads go before the calling one and those that it starts from now on: a share that is smaller by so
/// many steps of `nice`, and a long slice.
pub(crate) fn step_back(nice: i32) {
    change(nice, LONG);
}

/// Lets the calling thread interrupt others as soon as it wakes up, as long as it computes less than its share.
pub(crate) fn go_first() {
    change(0, SHORT);
}

/// Lets others go before the calling thread after each turn of this length, from now on and whatever it does: a timer's
/// signal (SIGALRM, which is the process's from then on) interrupts it. For threads whose code knows no turns. Where
/// the system has no such timer, or too few, nothing changes.
pub(crate) fn give_way_every(turn: Duration) {
    #[cfg(target_os = "linux")]
    linux::give_way_every(turn);
    #[cfg(not(target_os = "linux"))]
    let _ = turn;
}

#[cfg(target_os = "linux")]
fn change(nice: i32, slice: Duration) {
    let done = linux::attributes().is_some_and(|mut attributes| {
        attributes.sched_nice = (attributes.sched_nice + nice).min(NICE_MAX);
        attributes.sched_runtime = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX);
        linux::set(&attributes)
    });
    if !done && nice > 0 {
        // Sandboxes that imitate Linux may know this one only.
        let _ = rustix::process::nice(nice);
    }
}

#[cfg(not(target_os = "linux"))]
fn change(_: i32, _: Duration) {}

#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "system calls that no library here wraps")]
mod linux {
    use std::mem::zeroed;
    use std::ptr::null_mut;
    use std::time::Duration;

    use libc::{SYS_sched_getattr, SYS_sched_setattr, sched_attr, syscall};

    const SIZE: u32 = size_of::<sched_attr>() as u32;
    /// The calling thread.
    const SELF: libc::pid_t = 0;

    /// What the calling thread has. None where the system has no such call.
    pub(super) fn attributes() -> Option<sched_attr> {
        let mut attributes = sched_attr {
            size: SIZE,
            sched_policy: 0,
            sched_flags: 0,
            sched_nice: 0,
            sched_priority: 0,
            sched_runtime: 0,
            sched_deadline: 0,
            sched_period: 0,
        };
        // SAFETY: the system writes at most SIZE bytes to the structure, which lives and is not shared.
        let done = unsafe { syscall(SYS_sched_getattr, SELF, &raw mut attributes, SIZE, 0u32) };
        (done == 0).then_some(attributes)
    }

    /// Gives the calling thread these, or changes nothing and says false.
    pub(super) fn set(attributes: &sched_attr) -> bool {
        // SAFETY: the system reads as many bytes of the structure as its `size` says, which `attributes` wrote.
        let done = unsafe { syscall(SYS_sched_setattr, SELF, &raw const *attributes, 0u32) };
        done == 0
    }

    extern "C" fn give_way(_: libc::c_int) {
        rustix::thread::sched_yield();
    }

    pub(super) fn give_way_every(turn: Duration) {
        let turn =
            libc::timespec { tv_sec: turn.as_secs().cast_signed(), tv_nsec: turn.subsec_nanos().into() };
        let turns = libc::itimerspec { it_interval: turn, it_value: turn };
        // SAFETY: the structures are plain data, for which zeros are valid, and outlive the calls. The handler does
        // nothing but a system call that is allowed in a handler and fails never, so it changes no `errno`.
        unsafe {
            let mut action: libc::sigaction = zeroed();
            action.sa_sigaction = give_way as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART;
            let mut event: libc::sigevent = zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = libc::SIGALRM;
            event.sigev_notify_thread_id = libc::gettid();
            let mut timer: libc::timer_t = null_mut();
            let _ = libc::sigaction(libc::SIGALRM, &raw const action, null_mut()) == 0
                && libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) == 0
                && libc::timer_settime(timer, 0, &raw const turns, null_mut()) == 0;
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::thread::{NanosleepRelativeResult, nanosleep};
    use rustix::time::Timespec;

    use super::*;

    fn sleep(secs: i64, nanos: i64) -> NanosleepRelativeResult {
        nanosleep(&Timespec { tv_sec: secs, tv_nsec: nanos })
    }

    #[test]
    fn a_thread_that_gives_way_is_interrupted_whatever_it_does_and_no_other_is() {
        let waits = || {
            give_way_every(Duration::from_millis(1));
            sleep(20, 0)
        };
        let interrupted = std::thread::spawn(waits);
        assert!(matches!(sleep(0, 50_000_000), NanosleepRelativeResult::Ok));
        let interrupted = interrupted.join().expect("it only sleeps");
        assert!(matches!(interrupted, NanosleepRelativeResult::Interrupted(_)), "{interrupted:?}");
    }

    /// `nice` and slice of the calling thread.
    fn mine() -> (i32, u64) {
        let attributes = linux::attributes().expect("Linux has had the call since 3.14");
        (attributes.sched_nice, attributes.sched_runtime)
    }

    #[test]
    fn a_thread_that_steps_back_passes_it_on_and_others_keep_what_they_have() {
        let before = mine();
        let [stepped, started, first] = std::thread::spawn(|| {
            step_back(5);
            let stepped = mine();
            let started = std::thread::spawn(mine).join().expect("it only asks");
            go_first();
            [stepped, started, mine()]
        })
        .join()
        .expect("it only asks");
        assert_eq!(mine(), before);
        let nice = (before.0 + 5).min(NICE_MAX);
        assert_eq!((stepped.0, started.0, first.0), (nice, nice, nice));
        // Before Linux 6.12 there are no slices to ask for, and the system says 0.
        if before.1 == 0 {
            eprintln!("skipped: this system has no slices of a thread's own");
            return;
        }
        assert_eq!((stepped.1, started.1, first.1), (4_000_000, 4_000_000, 100_000));
    }
}
