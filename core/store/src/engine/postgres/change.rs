//! Changes: one transaction each, run again after a conflict, and looked up when the answer to COMMIT was lost.
//!
//! The level is READ COMMITTED: an operation locks the rows it judges (`for update`, in the order its contract names),
//! or what has no row by [`Sql::lock`], or leaves the decision to a unique key. SERIALIZABLE would do without that
//! care, and would abort changes that touch only neighbours. A change runs to its end even when its caller is dropped.
//!
//! **A lost answer.** Each change writes its number into a row of the table `commit_mark`, in its own transaction. When
//! the connection breaks in COMMIT, the row is asked on another one: it has the number exactly if the change was made,
//! on a replica that took over, too. Asking waits for a transaction that is still under way. Only when the database is
//! away for [`UNSURE_MAX`] does the caller get [`StoreError::Unsure`], and looks the change up by its own key.
//!
//! Transaction ids do not do: after a crash the server gives ids again that it had given to unfinished transactions, so
//! `pg_xact_status` reports another transaction's commit.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::sql::{Entry, Fault, Mark, Opening, Sql};
use super::{Postgres, Shared, gather};
use crate::StoreError;
use crate::engine::Then;

/// A running operation.
pub(crate) type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Runs of a change that meets conflicts.
const RUNS_MAX: u32 = 12;

/// Runs of a change that meets a unique key that it did not see; the second run sees it, so more find a defect.
const DUPLICATES_MAX: u32 = 3;

/// Longest wait before a run after a conflict; the first wait is up to 2 ms, and each doubles.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Longest time that a commit without an answer is looked for.
const UNSURE_MAX: Duration = Duration::from_secs(15);

/// The number in a row of [`Mark`], or -1 when there is none. Waits for a transaction that is writing it.
const OUTCOME: &str = "insert into commit_mark as mark (slot, change) values ($1, -1)
    on conflict (slot) do update set change = mark.change returning change";

impl Postgres {
    /// Runs one state change that locks what it judges, and returns its result once it is committed.
    ///
    /// `run` may be called again after a conflict, so it decides by its input and by what it reads, and nothing else.
    /// The input is shared by all runs.
    pub(crate) async fn change<I, T, F>(&self, input: I, run: F) -> Result<T, StoreError>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'a> Fn(&'a Sql, &'a I) -> Running<'a, T> + Send + Sync + 'static,
    {
        let step = Typed::new(input, run);
        let ended = self.shared.admit()?.spawn(step.clone()).await;
        step.result(ended)
    }

    /// Begins a change, and calls a closure with its result.
    pub(crate) fn change_then<I, T, F>(&self, input: I, run: F, then: Then<T>) -> Result<(), StoreError>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'a> Fn(&'a Sql, &'a I) -> Running<'a, T> + Send + Sync + 'static,
    {
        let slot = self.shared.admit()?;
        let runtime = self.shared.runtime.clone();
        runtime.spawn(slot.answered(Typed::new(input, run).answering(then)));
        Ok(())
    }

    /// [`Postgres::change_then`], after the changes that came before it in the same lane.
    pub(crate) fn change_in_order_then<I, T, F>(
        &self,
        lane: u64,
        input: I,
        run: F,
        then: Then<T>,
    ) -> Result<(), StoreError>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'a> Fn(&'a Sql, &'a I) -> Running<'a, T> + Send + Sync + 'static,
    {
        let slot = self.shared.admit()?;
        let (step, then) = Typed::new(input, run).answering(then);
        if self.shared.lanes.add(lane, Job { slot, step, then }) {
            self.shared.runtime.spawn(Arc::clone(&self.shared).run_lane(lane));
        }
        Ok(())
    }

    /// Runs reads that must see one moment, in a transaction that changes nothing.
    pub(crate) async fn snapshot<I, T, F>(&self, input: I, run: F) -> Result<T, StoreError>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'a> Fn(&'a Sql, &'a I) -> Running<'a, T> + Send + Sync + 'static,
    {
        let step = Typed::new(input, run);
        let running = self.shared.runtime.spawn(Arc::clone(&self.shared).look(step.clone()));
        step.result(running.await.unwrap_or_else(|ended| Err(ended_early(&ended))))
    }
}

/// An operation without its types, so that the code around it is compiled once and not for each operation.
trait Step: Send + Sync {
    /// Runs the operation and keeps what it returns, in place of what an earlier run returned.
    fn run<'a>(&'a self, sql: &'a Sql) -> Running<'a, ()>;
}

struct Typed<I, T, F> {
    input: I,
    run: F,
    /// What the last run returned.
    kept: Mutex<Option<T>>,
}

impl<I, T, F> Typed<I, T, F>
where
    I: Send + Sync + 'static,
    T: Send + 'static,
    F: for<'a> Fn(&'a Sql, &'a I) -> Running<'a, T> + Send + Sync + 'static,
{
    fn new(input: I, run: F) -> Arc<Self> {
        Arc::new(Typed { input, run, kept: Mutex::new(None) })
    }

    /// What the operation returned, or why it did not.
    fn result(&self, ended: Result<(), StoreError>) -> Result<T, StoreError> {
        ended?;
        // A run that ended well kept its result, which is taken once.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or(StoreError::Panicked)
    }

    fn answering(self: Arc<Self>, then: Then<T>) -> (Arc<dyn Step>, Then<()>) {
        let step = Arc::clone(&self);
        (step, Box::new(move |ended| then(self.result(ended))))
    }
}

impl<I, T, F> Step for Typed<I, T, F>
where
    I: Send + Sync,
    T: Send,
    F: for<'a> Fn(&'a Sql, &'a I) -> Running<'a, T> + Send + Sync,
{
    fn run<'a>(&'a self, sql: &'a Sql) -> Running<'a, ()> {
        Box::pin(async move {
            let result = (self.run)(sql, &self.input).await?;
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            Ok(())
        })
    }
}

fn ended_early(ended: &tokio::task::JoinError) -> StoreError {
    if ended.is_panic() { StoreError::Panicked } else { StoreError::Closed }
}

/// The place of an admitted change among the waiting and running ones.
struct Slot {
    shared: Arc<Shared>,
    number: u64,
}

impl Slot {
    /// Runs the change in a task of its own, so that it goes on when its caller is dropped, and a panic of it still has
    /// an answer.
    async fn spawn(self, step: Arc<dyn Step>) -> Result<(), StoreError> {
        let runtime = self.shared.runtime.clone();
        let running = runtime.spawn(async move { self.shared.repeat(&*step).await });
        running.await.unwrap_or_else(|ended| Err(ended_early(&ended)))
    }

    async fn answered(self, (step, then): (Arc<dyn Step>, Then<()>)) {
        then(self.spawn(step).await);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.moments().running.remove(&self.number);
    }
}

/// An admitted change that waits in a lane, with its answer.
pub(super) struct Job {
    slot: Slot,
    step: Arc<dyn Step>,
    then: Then<()>,
}

/// How one run ended.
enum Run {
    Done(Result<(), StoreError>),
    /// Nothing was changed, and running again may succeed.
    Again(Fault, StoreError),
    /// Nobody knows yet: COMMIT was sent and not answered.
    Unsure(Mark),
}

impl Shared {
    fn admit(self: &Arc<Self>) -> Result<Slot, StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        if let Some(reason) = self.sole.lost() {
            return Err(StoreError::Unavailable { reason });
        }
        let mut moments = self.moments();
        if moments.running.len() >= self.queue_max {
            moments.refused_at = Some(Instant::now());
            return Err(StoreError::Busy);
        }
        moments.begun += 1;
        let number = moments.begun;
        moments.running.insert(number, Instant::now());
        Ok(Slot { shared: Arc::clone(self), number })
    }

    /// Runs the changes of a lane one after another, until none is left. A database that is away is waited for once:
    /// those that wait behind a change that failed by it fail with it. Otherwise the last of a busy room would wait for
    /// as many time-outs as changes are before it.
    async fn run_lane(self: Arc<Self>, lane: u64) {
        while let Some(Job { slot, step, then }) = self.lanes.next(lane) {
            let ended = slot.spawn(step).await;
            // Before the answer: what comes after it is tried.
            let failed = ended.as_ref().err().and_then(behind);
            let waiting = if failed.is_some() { self.lanes.take(lane) } else { VecDeque::new() };
            self.answer(move || then(ended)).await;
            for Job { slot, then, .. } in waiting {
                let error = failed.as_ref().and_then(behind).unwrap_or(StoreError::Busy);
                drop(slot);
                self.answer(move || then(Err(error))).await;
            }
        }
    }

    /// Gives an answer in a task of its own, so that a panic of it does not end the lane.
    async fn answer(&self, answer: impl FnOnce() + Send + 'static) {
        let _ = self.runtime.spawn(async move { answer() }).await;
    }

    async fn look(self: Arc<Self>, step: Arc<dyn Step>) -> Result<(), StoreError> {
        let begin = "begin isolation level repeatable read read only";
        let sql = Sql::transaction(self.client().await?, None, Opening { begin, entry: None });
        let read = step.run(&sql).await;
        match sql.commit().await {
            Ok(_) => read,
            Err((_, error)) => {
                sql.discard();
                read.and(Err(error))
            }
        }
    }

    async fn repeat(&self, step: &dyn Step) -> Result<(), StoreError> {
        let mut duplicates = 0;
        for runs in 1.. {
            let (fault, error) = match self.run_once(step).await {
                Run::Done(result) => {
                    self.changes.fetch_add(1, Ordering::Relaxed);
                    return result;
                }
                Run::Again(fault, error) => (fault, error),
                Run::Unsure(mark) => match self.outcome(&mark).await? {
                    true => return Ok(()),
                    false => (Fault::Lost, StoreError::Busy),
                },
            };
            duplicates += u32::from(fault == Fault::Duplicate);
            if runs >= RUNS_MAX || duplicates >= DUPLICATES_MAX {
                return Err(error);
            }
            if fault == Fault::Conflict {
                tokio::time::sleep(pause(runs)).await;
            }
        }
        unreachable!("the loop above has no end of its own")
    }

    /// One transaction.
    async fn run_once(&self, step: &dyn Step) -> Run {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let connection = self.client().await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let client = match connection {
            Ok(client) => client,
            Err(error) => return Run::Done(Err(error)),
        };
        let mark = Mark::next(self.marks().pop());
        let term = self.sole.term();
        let entry = Entry { mark: mark.clone(), term };
        let opening = Opening { begin: "begin isolation level read committed", entry: Some(entry) };
        let guard = Guard(Some(Sql::transaction(client, Some(self.answer_wait), opening)));
        let result = step.run(guard.sql()).await;
        let fault = guard.sql().take_fault();
        let (result, fault) = match (result, fault) {
            (Ok(()), None) => return self.commit(guard, mark, term).await,
            // An operation that made something of an error still cannot keep the transaction.
            (Ok(()), Some(fault)) => (StoreError::Busy, fault),
            (Err(error), fault) => (error, fault.unwrap_or(Fault::Refused)),
        };
        // Asked again, a server that is silent would be waited for once more.
        let silent = guard.sql().is_broken();
        if guard.rollback().await {
            self.marks().push(mark);
        }
        match fault {
            Fault::Lost if silent => Run::Done(Err(result)),
            Fault::Overtaken => {
                self.sole.overtaken(term);
                Run::Done(Err(result))
            }
            Fault::Refused => Run::Done(Err(result)),
            Fault::Lost | Fault::Conflict | Fault::Duplicate => Run::Again(fault, result),
        }
    }

    async fn commit(&self, guard: Guard, mark: Mark, term: i64) -> Run {
        let began = Instant::now();
        let committed = guard.sql().commit().await;
        let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.write_nanos.fetch_add(nanos, Ordering::Relaxed);
        self.last_write_nanos.store(nanos, Ordering::Relaxed);
        let (fault, error) = match committed {
            // The server ended the session: before or after the commit, its message does not say.
            Err((Fault::Lost, _)) => return Run::Unsure(mark),
            // An answer is a decision: not committed. Deferred checks decide here.
            Err(failed) => failed,
            Ok(ended) => {
                guard.keep();
                self.marks().push(mark);
                let Err(failed) = ended else {
                    self.commits.fetch_add(1, Ordering::Relaxed);
                    return Run::Done(Ok(()));
                };
                failed
            }
        };
        match fault {
            Fault::Conflict | Fault::Duplicate => Run::Again(fault, error),
            Fault::Overtaken => {
                self.sole.overtaken(term);
                Run::Done(Err(error))
            }
            Fault::Lost | Fault::Refused => Run::Done(Err(error)),
        }
    }

    /// Whether a change was committed whose connection broke.
    async fn outcome(&self, mark: &Mark) -> Result<bool, StoreError> {
        let until = Instant::now() + UNSURE_MAX;
        for tries in 1.. {
            let asked = async {
                let sql = self.connection().await?;
                Ok::<_, StoreError>(sql.row(OUTCOME, &[&mark.slot]).await?.get::<_, i64>("change"))
            };
            match asked.await {
                Ok(change) => return Ok(change == mark.change),
                Err(error) => tracing::debug!(%error, "the outcome of a change is not known yet"),
            }
            if Instant::now() >= until {
                return Err(StoreError::Unsure);
            }
            tokio::time::sleep(pause(tries)).await;
        }
        unreachable!("the loop above has no end of its own")
    }

    /// Marks that no running change has.
    fn marks(&self) -> MutexGuard<'_, Vec<Mark>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets marks of gateways that ended long ago; one that is asked for is seconds old.
pub(super) const FORGET_MARKS: &str = "delete from commit_mark where at < now() - interval '30 days'";

/// What the changes behind one in its lane fail with, when they would only wait for the same in turn.
fn behind(error: &StoreError) -> Option<StoreError> {
    match error {
        // They were not begun, so they have not happened.
        StoreError::Unsure => {
            Some(StoreError::Unavailable { reason: "the database did not answer a change before".to_owned() })
        }
        other => gather::shared(other),
    }
}

/// Keeps a connection in the middle of a transaction out of the pool, also when the operation panics.
struct Guard(Option<Sql>);

impl Guard {
    fn sql(&self) -> &Sql {
        self.0.as_ref().expect("only the last step takes it")
    }

    /// Gives the connection back: its transaction has ended.
    fn keep(mut self) {
        drop(self.0.take());
    }

    /// Whether the transaction has certainly ended.
    async fn rollback(mut self) -> bool {
        let Some(sql) = self.0.take() else { return false };
        if sql.rollback().await {
            return true;
        }
        sql.discard();
        false
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(sql) = self.0.take() {
            sql.discard();
        }
    }
}

/// A random part of twice the last wait, so that two changes do not meet again.
fn pause(runs: u32) -> Duration {
    let most = PAUSE_MAX.min(Duration::from_millis(1) * 2u32.saturating_pow(runs.min(16)));
    let random = getrandom::u32().unwrap_or(u32::MAX);
    most.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
