//! Group commit: one thread runs all changes and shares a flush among the waiting ones.
//!
//! The thread takes the queued changes (at most `batch_max`), runs them in turn over one [`Txn`], writes the result
//! as one atomic batch, flushes once, and only then answers each change. The next batch gathers in the queue
//! meanwhile. A change that fails or panics is rolled back alone; the others continue. Invariants: no change is
//! answered before it is durable. The queue never exceeds `queue_max`. After the first write error nothing is written
//! again, because that batch may or may not be on the disk, and a retry could put later changes before it.
//!
//! The disk may fill while changes wait, so those that can wait for room are judged again when they run. A batch ends
//! early when what it writes would not surely fit above the floor (`space`); the rest of its changes are the next one.
//!
//! Callers answered together return together, a moment after the thread has looked at its queue again. The thread
//! therefore waits for three quarters of the last batch's changes, but at most a quarter of a batch's duration: 64
//! callers then form batches of about 60 instead of 1, 63, 1, 63, and a lone caller never waits. Waiting for all of
//! them would make callers with work between two changes alternate with this thread, each idle while the other works
//! (logins: 16,100/s instead of 18,100/s).

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::StoreError;
use crate::engine::sled::capture::Captures;
use crate::engine::sled::garbage::Garbage;
use crate::engine::sled::parts::Writes;
use crate::engine::sled::txn::{Oversized, Txn};
use crate::space::{DiskRoom, Space};

/// Longest wait for a batch, however slow the disk is.
const GATHER_MAX: Duration = Duration::from_millis(1);

/// Whether the store accepts changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    Serving,
    /// A write failed. Every change is refused until the store is opened again. Holds the first error's text.
    Failed(String),
    /// The database server does not answer, or the lock of the only gateway is lost. Changes are refused until that is
    /// over by itself. Holds the reason.
    Away(String),
    Closed,
}

/// Counters since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitStats {
    /// Batches written, one flush each; transactions on PostgreSQL.
    pub batches: u64,
    /// Changes answered after a flush, including those that changed nothing.
    pub changes: u64,
    /// Time spent writing and flushing.
    pub write_time: Duration,
    /// The same for the last batch.
    pub last_write: Duration,
}

/// Writes one batch atomically; the batch is durable when this returns.
pub(crate) type Sink = Box<dyn FnMut(Writes) -> io::Result<()> + Send>;

pub(crate) struct Committer {
    shared: Arc<Shared>,
    captures: Captures,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Committer {
    pub(crate) fn start(
        txn: Txn,
        sink: Sink,
        space: Arc<Space>,
        batch_max: usize,
        queue_max: usize,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                jobs: VecDeque::new(),
                wake_at: 1,
                state: Health::Serving,
                waiting_since: None,
                working_since: None,
                refused_at: None,
                ended: false,
            }),
            wake: Condvar::new(),
            ended: Condvar::new(),
            space,
            queue_max: queue_max.max(1),
            batches: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            write_nanos: AtomicU64::new(0),
            last_write_nanos: AtomicU64::new(0),
        });
        let captures = txn.captures().clone();
        let writer = Writer {
            shared: Arc::clone(&shared),
            txn,
            sink,
            batch_max: batch_max.max(1),
            batch_last: 1,
            write_time: Duration::ZERO,
            garbage: Garbage::default(),
        };
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(|| writer.run())?;
        Ok(Committer { shared, captures, thread: Mutex::new(Some(thread)) })
    }

    /// Queues a change. The receiver gets its result once it is durable; dropping the receiver does not cancel the
    /// change.
    pub(crate) fn submit<T, F>(
        &self,
        change: F,
    ) -> Result<oneshot::Receiver<Result<T, StoreError>>, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Txn) -> Result<T, StoreError> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        self.submit_with(change, move |result| {
            // The caller may have been cancelled; the change stands.
            let _ = sender.send(result);
        })?;
        Ok(receiver)
    }

    /// Queues a change and a closure for its result. The closure runs on the writer thread and must be short.
    pub(crate) fn submit_with<T, F, A>(&self, change: F, answer: A) -> Result<(), StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Txn) -> Result<T, StoreError> + Send + 'static,
        A: FnOnce(Result<T, StoreError>) + Send + 'static,
    {
        self.queue(Box::new(Change { change: Some(change), can_wait: false, result: None, answer }))
    }

    /// [`Committer::submit_with`], for a change that can wait until the disk has room: those that grow the store
    /// fastest. It is refused with [`StoreError::Full`] while the reserve is in use, now or when it runs.
    pub(crate) fn submit_with_room<T, F, A>(&self, change: F, answer: A) -> Result<(), StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Txn) -> Result<T, StoreError> + Send + 'static,
        A: FnOnce(Result<T, StoreError>) + Send + 'static,
    {
        if self.shared.space.room() != DiskRoom::Ample {
            return Err(StoreError::Full);
        }
        self.queue(Box::new(Change { change: Some(change), can_wait: true, result: None, answer }))
    }

    fn queue(&self, job: Box<dyn Job>) -> Result<(), StoreError> {
        let mut queue = self.shared.lock();
        match queue.state {
            Health::Serving => {}
            Health::Failed(_) | Health::Away(_) => return Err(StoreError::Failed),
            Health::Closed => return Err(StoreError::Closed),
        }
        if queue.jobs.len() >= self.shared.queue_max {
            queue.refused_at = Some(Instant::now());
            return Err(StoreError::Busy);
        }
        if queue.jobs.is_empty() {
            queue.waiting_since = Some(Instant::now());
        }
        queue.jobs.push_back(job);
        // Only the push that reaches the mark wakes the writer: one wake-up per batch, not one per change.
        if queue.jobs.len() == queue.wake_at {
            drop(queue);
            self.shared.wake.notify_one();
        }
        Ok(())
    }

    /// Changes waiting for the writer, without those in progress.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.lock().jobs.len()
    }

    /// How long the oldest unanswered change has waited.
    pub(crate) fn oldest_waiting(&self) -> Duration {
        let queue = self.shared.lock();
        let oldest = [queue.waiting_since, queue.working_since].into_iter().flatten().min();
        oldest.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether a change was refused since then because the queue was full.
    pub(crate) fn has_refused_since(&self, since: Instant) -> bool {
        self.shared.lock().refused_at.is_some_and(|refused| refused >= since)
    }

    pub(crate) fn captures(&self) -> &Captures {
        &self.captures
    }

    pub(crate) fn space(&self) -> &Space {
        &self.shared.space
    }

    pub(crate) fn health(&self) -> Health {
        self.shared.lock().state.clone()
    }

    pub(crate) fn stats(&self) -> CommitStats {
        CommitStats {
            batches: self.shared.batches.load(Ordering::Relaxed),
            changes: self.shared.changes.load(Ordering::Relaxed),
            write_time: Duration::from_nanos(self.shared.write_nanos.load(Ordering::Relaxed)),
            last_write: Duration::from_nanos(self.shared.last_write_nanos.load(Ordering::Relaxed)),
        }
    }

    /// Refuses further changes, finishes the queued ones, and waits at most `patience` for the thread to end. Returns
    /// false when the thread still runs; nothing waits for it then.
    pub(crate) fn close(&self, patience: Option<Duration>) -> bool {
        let mut queue = self.shared.lock();
        if queue.state == Health::Serving {
            queue.state = Health::Closed;
        }
        self.shared.wake.notify_one();
        if let Some(patience) = patience {
            let (queue, _) = self
                .shared
                .ended
                .wait_timeout_while(queue, patience, |queue| !queue.ended)
                .unwrap_or_else(PoisonError::into_inner);
            if !queue.ended {
                // Dropping the handle detaches the thread.
                self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
                return false;
            }
        } else {
            drop(queue);
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            // The thread catches panics; only a second panic while it handles the first can arrive here.
            tracing::error!("the store's writer thread panicked");
        }
        true
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.close(None);
    }
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Signalled when the thread ends.
    ended: Condvar,
    space: Arc<Space>,
    queue_max: usize,
    batches: AtomicU64,
    changes: AtomicU64,
    write_nanos: AtomicU64,
    last_write_nanos: AtomicU64,
}

impl Shared {
    /// No code under the lock can panic, so a poisoned lock holds valid data.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses everything queued and everything to come.
    fn fail(&self, reason: String) {
        let waiting = {
            let mut queue = self.lock();
            queue.state = Health::Failed(reason);
            queue.waiting_since = None;
            std::mem::take(&mut queue.jobs)
        };
        for job in waiting {
            job.answer(Durable::No);
        }
    }

    fn end(&self) {
        let mut queue = self.lock();
        queue.working_since = None;
        queue.ended = true;
        drop(queue);
        self.ended.notify_all();
    }
}

struct Queue {
    jobs: VecDeque<Box<dyn Job>>,
    /// The queue length that wakes the writer; never reached while it works.
    wake_at: usize,
    state: Health,
    /// When the first queued job arrived.
    waiting_since: Option<Instant>,
    /// When the first job of the current batch arrived.
    working_since: Option<Instant>,
    /// When a change was last refused because the queue was full.
    refused_at: Option<Instant>,
    /// The thread has ended.
    ended: bool,
}

struct Writer {
    shared: Arc<Shared>,
    txn: Txn,
    sink: Sink,
    batch_max: usize,
    /// Changes in the last batch.
    batch_last: usize,
    /// Smoothed duration of a batch.
    write_time: Duration,
    garbage: Garbage,
}

impl Writer {
    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let mut batch = VecDeque::new();
            while self.gather(&mut batch) {
                while !batch.is_empty() {
                    self.commit(&mut batch)?;
                }
            }
            Ok::<_, io::Error>(())
        }));
        let reason = match ended {
            Ok(Ok(())) => return shared.end(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the writer thread panicked".to_owned(),
        };
        tracing::error!(error = %reason, "the store failed; it writes nothing until it is opened again");
        shared.fail(reason);
        shared.end();
    }

    /// Waits for changes and moves a batch of them out of the queue. Returns false when the store is closed and the
    /// queue is empty.
    fn gather(&mut self, batch: &mut VecDeque<Box<dyn Job>>) -> bool {
        let shared = &self.shared;
        let serving = |queue: &Queue| queue.state == Health::Serving;
        let mut queue = shared.lock();
        queue.wake_at = 1;
        queue.working_since = None;
        queue = shared
            .wake
            .wait_while(queue, |queue| queue.jobs.is_empty() && serving(queue))
            .unwrap_or_else(PoisonError::into_inner);

        let wanted = (self.batch_last - self.batch_last / 4).min(self.batch_max).min(shared.queue_max);
        if queue.jobs.len() < wanted {
            queue.wake_at = wanted;
            let patience = (self.write_time / 4).min(GATHER_MAX);
            (queue, _) = shared
                .wake
                .wait_timeout_while(queue, patience, |queue| queue.jobs.len() < wanted && serving(queue))
                .unwrap_or_else(PoisonError::into_inner);
        }

        queue.wake_at = usize::MAX;
        queue.working_since = queue.waiting_since;
        if queue.jobs.len() <= self.batch_max {
            std::mem::swap(&mut queue.jobs, batch);
            queue.waiting_since = None;
        } else {
            batch.extend(queue.jobs.drain(..self.batch_max));
        }
        self.batch_last = batch.len();
        !batch.is_empty()
    }

    /// Runs a batch, or its first changes, makes them durable and answers them. An error ends the store.
    fn commit(&mut self, batch: &mut VecDeque<Box<dyn Job>>) -> io::Result<()> {
        // Sampled for each batch: a sample takes a microsecond, and a disk can fill between two samples.
        let (room, bytes_max) = self.shared.space.room_now();
        if room == DiskRoom::None {
            // A write that fails for lack of space would end the store; a refusal does not.
            for job in batch.drain(..) {
                job.answer(Durable::NoRoom);
            }
            return Ok(());
        }
        let mut ran = 0;
        for job in batch.iter_mut() {
            if job.run(&mut self.txn, room) {
                self.txn.keep();
            } else {
                self.txn.undo();
            }
            ran += 1;
            if self.txn.bytes() >= bytes_max {
                break;
            }
        }
        // Changes that only read need no flush: what they saw was flushed before them.
        let count = self.txn.writes();
        let written = match self.txn.take_writes() {
            Some(writes) => {
                let start = Instant::now();
                let written = (self.sink)(writes);
                let took = start.elapsed();
                self.write_time = (self.write_time * 7 + took) / 8;
                self.shared.batches.fetch_add(1, Ordering::Relaxed);
                let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
                self.shared.write_nanos.fetch_add(nanos, Ordering::Relaxed);
                self.shared.last_write_nanos.store(nanos, Ordering::Relaxed);
                written
            }
            None => Ok(()),
        };
        self.shared.changes.fetch_add(ran as u64, Ordering::Relaxed);
        let durable = if written.is_ok() { Durable::Yes } else { Durable::No };
        // After an error the changes that have not run are refused like those in the queue.
        let ended = if written.is_ok() { ran } else { batch.len() };
        for job in batch.drain(..ended) {
            job.answer(durable);
        }
        if count > 0 {
            self.txn.count_written();
            self.garbage.left_by(count);
        }
        written
    }
}

/// A queued change without its types.
trait Job: Send {
    /// Runs the change, if it has room; false when its writes must be rolled back.
    fn run(&mut self, txn: &mut Txn, room: DiskRoom) -> bool;
    /// Sends the result, or the reason why there is none.
    fn answer(self: Box<Self>, durable: Durable);
}

/// The fate of a change's batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Durable {
    Yes,
    /// A write failed, now or before.
    No,
    /// The disk has no room; the change did not run.
    NoRoom,
}

struct Change<T, F, A> {
    change: Option<F>,
    /// Runs with [`DiskRoom::Ample`] only.
    can_wait: bool,
    result: Option<Result<T, StoreError>>,
    answer: A,
}

impl<T, F, A> Job for Change<T, F, A>
where
    T: Send,
    F: FnOnce(&mut Txn) -> Result<T, StoreError> + Send,
    A: FnOnce(Result<T, StoreError>) + Send,
{
    fn run(&mut self, txn: &mut Txn, room: DiskRoom) -> bool {
        let Some(change) = self.change.take() else { return false };
        if self.can_wait && room != DiskRoom::Ample {
            self.result = Some(Err(StoreError::Full));
            return false;
        }
        // The writes of a panicking change are rolled back, and it shares nothing else with the others.
        let mut result = catch_unwind(AssertUnwindSafe(|| change(txn))).unwrap_or(Err(StoreError::Panicked));
        if let Some(Oversized { bytes, max }) = txn.take_oversized()
            && result.is_ok()
        {
            result = Err(StoreError::TooLarge { bytes, max });
        }
        let keep = result.is_ok();
        self.result = Some(result);
        keep
    }

    fn answer(self: Box<Self>, durable: Durable) {
        let Change { result, answer, .. } = *self;
        answer(match result {
            // A change that failed by itself had no effect, whatever happened to the batch.
            Some(result) if durable == Durable::Yes || result.is_err() => result,
            _ if durable == Durable::NoRoom => Err(StoreError::Full),
            _ => Err(StoreError::Failed),
        });
    }
}

#[cfg(test)]
mod tests;
