//! The PostgreSQL engine: one schema of real tables, a bounded pool of connections, one transaction per change.
//!
//! Several gateways may run every operation at once, so each operation says in its `postgres.rs` which lock or level
//! makes it right. Invariants:
//!
//! - **Answered means durable.** A change answers after its COMMIT was confirmed. The database decides what a commit
//!   survives (`synchronous_commit`, replicas).
//! - **All or nothing.** One change is one transaction. A statement's error rolls all of it back ([`change`]).
//! - **Judges are pure.** A change runs again after a conflict with another one.
//! - **A lost answer is looked up**, never guessed: see [`change`].
//!
//! Reading order: [`connect`], [`migrate`], [`change`], [`lanes`], [`sql`], [`gather`], [`value`], [`sole`]. The
//! statements of an operation are in its feature's `postgres.rs`, its tables in `migrations/`.

pub(crate) mod agent;
pub(crate) mod change;
pub(crate) mod connect;
pub(crate) mod gate;
pub(crate) mod gather;
mod lanes;
pub(crate) mod migrate;
pub(crate) mod purge;
pub(crate) mod sole;
pub(crate) mod sql;
pub(crate) mod value;

pub(crate) mod store;

#[cfg(test)]
#[allow(dead_code, reason = "written for the tests outside the crate, which use all of it")]
#[path = "../../../tests/store/server.rs"]
pub(crate) mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{Pool, PoolError};
use tokio::runtime::Handle;
use uuid::Uuid;

use self::agent::Agents;
use self::change::Job;
use self::connect::Address;
use self::gate::Gate;
use self::gather::Gather;
use self::lanes::Lanes;
use self::sole::{Company, Sole};
use self::sql::{Fault, Mark, Sql};
use crate::engine::sled::commit::{CommitStats, Health};
use crate::space::Space;
use crate::{DiskRoom, StoreError, StoreOptions};

/// Longest wait for running changes when a store is closed; what they do is then decided by the server.
const CLOSE_PATIENCE: Duration = Duration::from_secs(30);

/// The database of a store, on a server.
pub(crate) struct Postgres {
    pub(crate) shared: Arc<Shared>,
}

/// What running changes need; they may outlive the caller that began them.
pub(crate) struct Shared {
    pool: Pool,
    pub(crate) agents: Agents,
    /// Checks of sessions, by account and session: every request makes one.
    pub(crate) gates: Arc<Gather<(i64, i64), Gate>>,
    /// Changes and connections live on the runtime that opened the store, so that neither ends with its caller.
    pub(crate) runtime: Handle,
    sole: Sole,
    /// The disk of the files that are kept beside the database.
    space: Option<Space>,
    closed: AtomicBool,
    /// Marks that no running change has.
    marks: Mutex<Vec<Mark>>,
    queue_max: usize,
    answer_wait: Duration,
    /// Names this opening of the store in rows that only it may go on with.
    pub(crate) instance: Uuid,
    /// Whether this gateway wants events, once it has said so.
    wants_events: Mutex<Option<bool>>,
    lanes: Lanes<Job>,
    waiting: AtomicUsize,
    moments: Mutex<Moments>,
    commits: AtomicU64,
    changes: AtomicU64,
    write_nanos: AtomicU64,
    last_write_nanos: AtomicU64,
}

#[derive(Default)]
struct Moments {
    /// When each running change began, by its number. Numbers rise with time.
    running: std::collections::BTreeMap<u64, Instant>,
    begun: u64,
    refused_at: Option<Instant>,
    /// Why the database could not be reached the last time it was asked.
    away: Option<String>,
}

impl Postgres {
    /// Connects, brings the tables up to date and, unless the options share the database, makes this the only gateway.
    pub(crate) async fn open(url: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        let address = Address::parse(url)?;
        let runtime = Handle::current();
        migrate::migrate(&address, &runtime, options.lock_wait).await?;
        let company = if options.shared { Company::Together } else { Company::Alone };
        let sole = Sole::hold(address.clone(), runtime.clone(), company, options.lock_wait).await?;
        let folder = options.files_folder.as_deref();
        let space = folder.map(|folder| Space::of_folder(folder, options.disk_reserve_bytes));
        let pool = connect::pool(&address, &runtime, options)?;
        let shared = Shared {
            pool,
            agents: Agents::default(),
            gates: Arc::default(),
            runtime,
            sole,
            space,
            closed: AtomicBool::new(false),
            marks: Mutex::default(),
            queue_max: options.queue_max.max(1),
            answer_wait: options.answer_wait,
            instance: Uuid::new_v4(),
            wants_events: Mutex::default(),
            lanes: Lanes::default(),
            waiting: AtomicUsize::new(0),
            moments: Mutex::default(),
            commits: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            write_nanos: AtomicU64::new(0),
            last_write_nanos: AtomicU64::new(0),
        };
        let postgres = Postgres { shared: Arc::new(shared) };
        postgres.reader().await?.run(change::FORGET_MARKS, &[]).await?;
        Ok(postgres)
    }

    /// A connection for reads: each statement sees what was committed before it.
    pub(crate) async fn reader(&self) -> Result<Sql, StoreError> {
        self.shared.reader().await
    }

    /// A connection for one long transaction. It ends with what is returned, and the transaction with it.
    pub(crate) async fn alone(&self) -> Result<Sql, StoreError> {
        Ok(Sql::once(self.shared.client().await?))
    }

    /// [`Postgres::alone`], with a transaction that changes something. A gateway that takes the database over waits for
    /// its end, as for that of any change: see [`sole`].
    pub(crate) async fn alone_in_term(&self) -> Result<Sql, StoreError> {
        let sql = self.alone().await?;
        let term = self.shared.sole.term();
        sql.simple("begin isolation level read committed").await.map_err(|(_, error)| error)?;
        if let Err((fault, error)) = sql.enter(term).await {
            if fault == Fault::Overtaken {
                self.shared.sole.overtaken(term);
            }
            return Err(error);
        }
        Ok(sql)
    }

    pub(crate) fn close(&self) {
        let _ = self.close_within(CLOSE_PATIENCE);
    }

    /// Refuses changes from now on; true when none is running any more.
    pub(crate) fn close_within(&self, patience: Duration) -> bool {
        self.shared.closed.store(true, Ordering::Release);
        let until = Instant::now() + patience;
        while !self.shared.moments().running.is_empty() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.shared.sole.release();
        true
    }

    pub(crate) fn oldest_waiting(&self) -> Duration {
        let moments = self.shared.moments();
        moments.running.values().next().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// The room for uploads. The database has its own disk; a full one refuses a change by itself.
    pub(crate) fn room(&self) -> DiskRoom {
        match &self.shared.space {
            // What is small goes to the database and not to this disk.
            Some(space) if space.room() != DiskRoom::Ample => DiskRoom::Reserve,
            _ => DiskRoom::Ample,
        }
    }

    pub(crate) fn disk_free_bytes(&self) -> Option<u64> {
        self.shared.space.as_ref()?.free_bytes()
    }

    pub(crate) fn disk_spare_bytes(&self) -> Option<u64> {
        self.shared.space.as_ref()?.spare_bytes()
    }

    pub(crate) fn has_failed(&self) -> bool {
        false
    }

    pub(crate) fn health(&self) -> Health {
        if self.shared.closed.load(Ordering::Acquire) {
            return Health::Closed;
        }
        if let Some(reason) = self.shared.sole.lost() {
            return Health::Away(reason);
        }
        self.shared.moments().away.clone().map_or(Health::Serving, Health::Away)
    }

    pub(crate) fn changes_waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn has_refused_since(&self, since: Instant) -> bool {
        self.shared.moments().refused_at.is_some_and(|refused| refused >= since)
    }

    pub(crate) fn commit_stats(&self) -> CommitStats {
        let shared = &self.shared;
        CommitStats {
            batches: shared.commits.load(Ordering::Relaxed),
            changes: shared.changes.load(Ordering::Relaxed),
            write_time: Duration::from_nanos(shared.write_nanos.load(Ordering::Relaxed)),
            last_write: Duration::from_nanos(shared.last_write_nanos.load(Ordering::Relaxed)),
        }
    }
}

impl Shared {
    /// Whether no other gateway uses the database at the same time.
    pub(crate) fn is_alone(&self) -> bool {
        self.sole.is_alone()
    }

    /// Whether this gateway wants events, once it has said so: see [`Store::events_want`](crate::Store::events_want).
    pub(crate) fn wants_events(&self) -> MutexGuard<'_, Option<bool>> {
        self.wants_events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`Postgres::reader`].
    pub(crate) async fn reader(&self) -> Result<Sql, StoreError> {
        Ok(Sql::reader(self.client().await?, Some(self.answer_wait), self.pool.clone()))
    }

    /// A connection from the pool, within the pool's time-out.
    async fn connection(&self) -> Result<Sql, StoreError> {
        Ok(Sql::new(self.client().await?, Some(self.answer_wait)))
    }

    async fn client(&self) -> Result<deadpool_postgres::Client, StoreError> {
        match self.pool.get().await {
            Ok(client) => {
                self.reached();
                Ok(client)
            }
            Err(PoolError::Timeout(deadpool_postgres::TimeoutType::Wait)) => {
                self.moments().refused_at = Some(Instant::now());
                Err(StoreError::Busy)
            }
            Err(PoolError::Closed) => Err(StoreError::Closed),
            Err(PoolError::Backend(error)) => Err(self.away(connect::reason(&error))),
            Err(error) => Err(self.away(error.to_string())),
        }
    }

    fn away(&self, reason: String) -> StoreError {
        let mut moments = self.moments();
        if moments.away.is_none() {
            tracing::error!(reason, "the database cannot be reached");
        }
        moments.away = Some(reason.clone());
        moments.refused_at = Some(Instant::now());
        StoreError::Unavailable { reason }
    }

    fn reached(&self) {
        if self.moments().away.take().is_some() {
            tracing::info!("the database answers again");
        }
    }

    fn moments(&self) -> MutexGuard<'_, Moments> {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
