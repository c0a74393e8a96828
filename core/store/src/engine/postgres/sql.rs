//! A connection and its statements: what an operation's SQL runs on, in a change or beside one.
//!
//! Every statement is prepared once per connection. Statements whose futures are joined are sent without waiting for
//! each other's answers (pipelining): BEGIN with the first statement of a change, [`Sql::run_last`] with COMMIT. Inside
//! a change the first error dooms the transaction: PostgreSQL refuses every later statement, and
//! [`change`](super::change) rolls back, whatever the operation makes of the error.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Client, Pool};
use futures_util::future::{OptionFuture, join, join_all, join3};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, RowStream, Statement};
use uuid::Uuid;

use super::sole;
use crate::StoreError;

/// Other connections that a read tries. Those that broke in the pool are noticed within milliseconds.
const READ_AGAIN_MAX: usize = 3;

/// The code of a statement in a transaction that already failed.
const DOOMED: &str = "(25P02)";

/// Keeps a gateway that takes the database over waiting until the change has ended. See [`sole`](super::sole).
const ENTER: &str = "select pg_advisory_xact_lock_shared($1)";

/// Writes a mark into its row. In another term the number is null, which the table does not take.
const MARK: &str = "insert into commit_mark (slot, change)
    values ($1, case when exists (select from gateway where term = $3) then $2::bigint end)
    on conflict (slot) do update set change = excluded.change, at = now()";

/// Statements of one change that are sent with COMMIT.
const LAST_MAX: usize = 8;

/// The arguments of a statement.
pub(crate) type Args<'a> = &'a [&'a (dyn ToSql + Sync)];

/// An argument that is kept until its statement is sent.
pub(crate) type Kept = Box<dyn ToSql + Send + Sync>;

/// A row that one change at a time writes its number into. One whose transaction may still be under way is not used
/// again.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub(super) slot: Uuid,
    pub(super) change: i64,
}

impl Mark {
    /// The mark of the next change.
    pub(super) fn next(free: Option<Mark>) -> Mark {
        let Mark { slot, change } = free.unwrap_or_else(|| Mark { slot: Uuid::new_v4(), change: 0 });
        Mark { slot, change: change + 1 }
    }
}

/// How a transaction begins.
pub(super) struct Opening {
    pub(super) begin: &'static str,
    /// What a change enters with; a transaction that changes nothing has none.
    pub(super) entry: Option<Entry>,
}

pub(super) struct Entry {
    /// The row that says whether the transaction was committed.
    pub(super) mark: Mark,
    /// The term of this gateway: see [`sole`](super::sole).
    pub(super) term: i64,
}

pub(crate) struct Sql {
    /// `None` while a read looks for another one, and when it found none. Statements under way share it.
    client: Mutex<Option<Arc<Client>>>,
    /// Longest wait for the answer to a statement; `None` for reads that take as long as there is much to read.
    patience: Option<Duration>,
    /// The connection is not to be used again.
    broken: AtomicBool,
    /// Where a read finds another connection when this one turns out to be gone, as all do after the server restarted.
    spare: Option<Pool>,
    /// How the transaction begins, until that is sent with the first statement.
    opening: Mutex<Option<Opening>>,
    /// What is sent with COMMIT.
    last: Mutex<Vec<(Statement, Vec<Kept>)>>,
    /// The first error since the change began.
    fault: Mutex<Option<Fault>>,
    /// What the first error of the connection was.
    reason: OnceLock<String>,
}

/// What has no row to lock. The numbers keep the keys of one kind apart from those of another.
///
/// Advisory locks of one number belong to the engine, and no client may choose their key: [`sole`](super::sole) has two
/// that stop the store. A lock whose key is input has two numbers, which the server keeps apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// An operator's sessions in the console, by account.
    Console = 1,
    ApiKeys = 2,
    /// The notes of operators, by kind.
    Notes = 3,
    /// The slots of gateways, and what they say of themselves.
    Nodes = 4,
    Edits = 5,
}

/// What an error of a statement means for its change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A conflict with another change; it may succeed when it runs again.
    Conflict,
    /// A unique key exists already. Another change may have made it since this one looked, so it runs again.
    Duplicate,
    /// The connection is gone, and the transaction with it.
    Lost,
    /// The statement or its values are wrong.
    Refused,
    /// Another gateway has taken the database over.
    Overtaken,
}

impl Sql {
    pub(super) fn new(client: Client, patience: Option<Duration>) -> Self {
        Sql {
            client: Mutex::new(Some(Arc::new(client))),
            patience,
            broken: AtomicBool::new(false),
            spare: None,
            opening: Mutex::new(None),
            last: Mutex::default(),
            fault: Mutex::new(None),
            reason: OnceLock::new(),
        }
    }

    /// For one transaction, which begins with its first statement.
    pub(super) fn transaction(client: Client, patience: Option<Duration>, opening: Opening) -> Self {
        let mut sql = Sql::new(client, patience);
        sql.opening = Mutex::new(Some(opening));
        sql
    }

    /// For one long transaction: statements take as long as they take, and the connection is used once.
    pub(super) fn once(client: Client) -> Self {
        let sql = Sql::new(client, None);
        sql.broken.store(true, Ordering::Relaxed);
        sql
    }

    /// For reads outside a change, which may run again on another connection.
    pub(super) fn reader(client: Client, patience: Option<Duration>, spare: Pool) -> Self {
        let mut sql = Sql::new(client, patience);
        sql.spare = Some(spare);
        sql
    }

    /// All rows of a statement.
    pub(crate) async fn rows(&self, statement: &'static str, args: Args<'_>) -> Result<Vec<Row>, StoreError> {
        let (mut fault, mut error) = match self.asked(statement, args).await {
            Ok(rows) => return Ok(rows),
            Err(failed) => failed,
        };
        if let Some(spare) = &self.spare {
            for _ in 0..READ_AGAIN_MAX {
                // A database that is silent is so on every connection.
                if fault != Fault::Lost || self.is_broken() {
                    break;
                }
                // First: reads whose connections broke together would wait for each other's places in the pool.
                self.let_go();
                let Ok(other) = spare.get().await else { break };
                *lock(&self.client) = Some(Arc::new(other));
                (fault, error) = match self.asked(statement, args).await {
                    Ok(rows) => return Ok(rows),
                    Err(failed) => failed,
                };
            }
        }
        Err(self.note(fault, error))
    }

    async fn asked(&self, statement: &'static str, args: Args<'_>) -> Result<Vec<Row>, (Fault, StoreError)> {
        let client = self.client()?;
        self.sent(&client, rows(&client, statement, args)).await
    }

    /// The only row, if any.
    pub(crate) async fn found(
        &self,
        statement: &'static str,
        args: Args<'_>,
    ) -> Result<Option<Row>, StoreError> {
        let mut rows = self.rows(statement, args).await?;
        debug_assert!(rows.len() <= 1, "{} rows: {statement}", rows.len());
        Ok(rows.pop())
    }

    /// The only row of a statement that always has one.
    pub(crate) async fn row(&self, statement: &'static str, args: Args<'_>) -> Result<Row, StoreError> {
        self.found(statement, args).await?.ok_or_else(|| StoreError::Record {
            kind: "PostgreSQL",
            reason: format!("a statement has no row: {statement}"),
        })
    }

    /// Runs a statement and returns how many rows it changed.
    pub(crate) async fn run(&self, statement: &'static str, args: Args<'_>) -> Result<u64, StoreError> {
        let sent = async {
            let client = self.client()?;
            let changed = async {
                let statement = client.prepare_cached(statement).await?;
                client.execute(&statement, args).await
            };
            self.sent(&client, changed).await
        };
        sent.await.map_err(|(fault, error)| self.note(fault, error))
    }

    /// Prepares statements that are joined and must run in their order: one that still had to be prepared would be sent
    /// behind those that follow it.
    pub(crate) async fn prepare(&self, statements: &[&'static str]) -> Result<(), StoreError> {
        for statement in statements {
            self.prepared(statement).await?;
        }
        Ok(())
    }

    async fn prepared(&self, statement: &'static str) -> Result<Statement, StoreError> {
        let prepared = async {
            let client = self.client()?;
            self.answered(client.prepare_cached(statement)).await
        };
        prepared.await.map_err(|(fault, error)| self.note(fault, error))
    }

    /// Runs a statement as one of the last of a change: it is sent with COMMIT, and an error of it fails the change.
    /// For what the change does not read again, and where nothing depends on how many rows it changes.
    pub(crate) async fn run_last(&self, statement: &'static str, args: Vec<Kept>) -> Result<(), StoreError> {
        // What is sent behind COMMIT is no part of the transaction, so the statement is prepared before.
        let prepared = self.prepared(statement).await?;
        let mut last = lock(&self.last);
        debug_assert!(last.len() < LAST_MAX, "more is sent at once than is polled in order");
        last.push((prepared, args));
        Ok(())
    }

    /// Enters a term in a transaction that has no mark: keeps a gateway that takes the database over waiting until its
    /// end, and fails when one has taken it over already.
    pub(super) async fn enter(&self, term: i64) -> Result<(), (Fault, StoreError)> {
        let client = self.client()?;
        let entered = async {
            client.execute(ENTER, &[&sole::CHANGES]).await?;
            // Only now: a statement sees what was committed before it began.
            client.query_one("select exists (select from gateway where term = $1)", &[&term]).await
        };
        match self.answered(entered).await?.get(0) {
            true => Ok(()),
            false => Err((Fault::Overtaken, StoreError::Unavailable { reason: sole::OVERTAKEN.to_owned() })),
        }
    }

    /// Ends the transaction. The outer error is that of COMMIT itself; the inner one is that of what was sent with it,
    /// and the transaction is rolled back then.
    #[allow(clippy::type_complexity, reason = "the two errors mean different things")]
    pub(super) async fn commit(&self) -> Result<Result<(), (Fault, StoreError)>, (Fault, StoreError)> {
        let (opening, last) = (lock(&self.opening).take(), std::mem::take(&mut *lock(&self.last)));
        if opening.is_some() && last.is_empty() {
            return Ok(Ok(()));
        }
        let client = self.client()?;
        let client = &*client;
        let answered = async {
            if let Some(opening) = &opening {
                prepare(client, opening).await?;
            }
            let begun = OptionFuture::from(opening.as_ref().map(|opening| begin(client, opening)));
            let last = join_all(last.iter().map(|(statement, args)| async move {
                let args: Vec<&(dyn ToSql + Sync)> = args.iter().map(|arg| &**arg as _).collect();
                client.execute(statement, &args).await
            }));
            let (begun, last, committed) = join3(begun, last, client.batch_execute("commit")).await;
            committed?;
            let failed = begun.and_then(Result::err).or_else(|| last.into_iter().find_map(Result::err));
            Ok(failed.map_or(Ok(()), |error| Err(judge(&error))))
        };
        self.answered(answered).await
    }

    /// Ends the transaction without its changes. True when it has certainly ended.
    pub(super) async fn rollback(&self) -> bool {
        lock(&self.last).clear();
        if lock(&self.opening).take().is_some() {
            return true;
        }
        if self.is_broken() {
            return false;
        }
        let Err((_, error)) = self.simple("rollback").await else { return true };
        tracing::debug!(%error, "a rollback had no answer");
        false
    }

    /// The rows of a statement as they come, for more than fits into memory.
    pub(crate) async fn stream(&self, statement: &'static str) -> Result<RowStream, StoreError> {
        let client = self.client().map_err(|(_, error)| error)?;
        let stream = async {
            let statement = client.prepare(statement).await?;
            client.query_raw(&statement, [0_i64; 0]).await
        };
        stream.await.map_err(|error| judge(&error).1)
    }

    /// What an error of [`Sql::stream`] means.
    pub(crate) fn failed(error: &tokio_postgres::Error) -> StoreError {
        judge(error).1
    }

    /// Locks something that has no row of its own, until the change ends.
    pub(crate) async fn lock(&self, lock: Lock, key: u64) -> Result<(), StoreError> {
        // Keys are ids, far below 2^56.
        let key = ((lock as u64) << 56 | key & (u64::MAX >> 8)).cast_signed();
        self.rows("select pg_advisory_xact_lock($1)", &[&key]).await?;
        Ok(())
    }

    /// Runs statements without arguments.
    pub(crate) async fn simple(&self, statements: &str) -> Result<(), (Fault, StoreError)> {
        let client = self.client()?;
        self.answered(client.batch_execute(statements)).await
    }

    /// The first error since this was last asked.
    pub(super) fn take_fault(&self) -> Option<Fault> {
        lock(&self.fault).take()
    }

    /// Keeps the connection from being used again.
    pub(super) fn discard(self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// Whether the connection is not to be used again.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Sends a statement, and what begins its transaction before the first one.
    async fn sent<T>(
        &self,
        client: &Client,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, (Fault, StoreError)> {
        debug_assert!(lock(&self.last).is_empty(), "a statement behind those that are sent with COMMIT");
        let Some(opening) = lock(&self.opening).take() else { return self.answered(statement).await };
        let answered = async {
            prepare(client, &opening).await?;
            let (begun, answer) = join(begin(client, &opening), statement).await;
            begun?;
            answer
        };
        self.answered(answered).await
    }

    fn client(&self) -> Result<Arc<Client>, (Fault, StoreError)> {
        lock(&self.client).clone().ok_or_else(|| {
            (
                Fault::Lost,
                StoreError::Unavailable { reason: "the connection to the database broke".to_owned() },
            )
        })
    }

    /// Closes the connection, and gives its place in the pool back.
    fn let_go(&self) {
        let client = lock(&self.client).take();
        // A statement that still waits on it gives the place back when it ends.
        if let Some(client) = client.and_then(Arc::into_inner) {
            drop(deadpool_postgres::Object::take(client));
        }
    }

    /// Waits for an answer. A server that is silent for too long, because it stands still or the way to it is cut, is
    /// as good as one that is gone.
    async fn answered<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, (Fault, StoreError)> {
        let Some(patience) = self.patience else { return answer.await.map_err(|error| judge(&error)) };
        match tokio::time::timeout(patience, answer).await {
            Ok(answered) => answered.map_err(|error| judge(&error)),
            Err(_) => {
                self.broken.store(true, Ordering::Relaxed);
                let reason = format!("the database did not answer within {} s", patience.as_secs_f32());
                Err((Fault::Lost, StoreError::Unavailable { reason }))
            }
        }
    }

    /// The error that another one follows from: of statements that were sent together, the first one that fails dooms
    /// the others.
    pub(crate) fn root(&self, error: StoreError) -> StoreError {
        match self.reason.get() {
            Some(reason) if error.to_string().contains(DOOMED) => {
                StoreError::Database { reason: reason.clone() }
            }
            _ => error,
        }
    }

    fn note(&self, fault: Fault, error: StoreError) -> StoreError {
        self.reason.get_or_init(|| error.to_string());
        lock(&self.fault).get_or_insert(fault);
        error
    }
}

impl Drop for Sql {
    fn drop(&mut self) {
        if self.is_broken() {
            self.let_go();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prepares what [`begin`] sends. On a connection that has it there is nothing to wait for; on a new one, what is
/// joined with it would be sent first, before the term is compared, and its error would be hidden behind theirs.
async fn prepare(client: &Client, opening: &Opening) -> Result<(), tokio_postgres::Error> {
    if opening.entry.is_some() {
        client.prepare_cached(ENTER).await?;
        client.prepare_cached(MARK).await?;
    }
    Ok(())
}

/// Begins a transaction, prepared by [`prepare`]. What is polled for the first time after it is sent behind it, without
/// waiting.
async fn begin(client: &Client, opening: &Opening) -> Result<(), tokio_postgres::Error> {
    let entered = async {
        let Some(Entry { mark, term }) = &opening.entry else { return Ok(()) };
        let (enter, write) = (client.prepare_cached(ENTER).await?, client.prepare_cached(MARK).await?);
        // The term is read when the lock is held: statements see what was committed before they began.
        let entered = client.execute(&enter, &[&sole::CHANGES]);
        let (entered, marked) =
            join(entered, client.execute(&write, &[&mark.slot, &mark.change, term])).await;
        entered.and(marked).map(drop)
    };
    let (begun, entered) = join(client.batch_execute(opening.begin), entered).await;
    begun?;
    entered
}

async fn rows(
    client: &Client,
    statement: &'static str,
    args: Args<'_>,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let statement = client.prepare_cached(statement).await?;
    client.query(&statement, args).await
}

/// What an error means, for the change and for the caller.
fn judge(error: &tokio_postgres::Error) -> (Fault, StoreError) {
    let Some(found) = error.as_db_error() else {
        let reason = super::connect::reason(error);
        let lost =
            error.is_closed() || std::error::Error::source(error).is_some_and(|e| e.is::<std::io::Error>());
        return match lost {
            true => (Fault::Lost, StoreError::Unavailable { reason }),
            false => (Fault::Refused, StoreError::Record { kind: "PostgreSQL", reason }),
        };
    };
    let code = found.code();
    let busy = || StoreError::Busy;
    match code {
        &SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED => (Fault::Conflict, busy()),
        &SqlState::LOCK_NOT_AVAILABLE => (Fault::Refused, busy()),
        &SqlState::NOT_NULL_VIOLATION if found.table() == Some("commit_mark") => {
            (Fault::Overtaken, StoreError::Unavailable { reason: sole::OVERTAKEN.to_owned() })
        }
        &SqlState::UNIQUE_VIOLATION => (Fault::Duplicate, refused(found)),
        &SqlState::DISK_FULL | &SqlState::OUT_OF_MEMORY => (Fault::Refused, StoreError::Full),
        code if code.code().starts_with("57P")
            || code.code().starts_with("08")
            || ["25006", "25P03"].contains(&code.code()) =>
        {
            (Fault::Lost, StoreError::Unavailable { reason: found.message().to_owned() })
        }
        _ => (Fault::Refused, refused(found)),
    }
}

/// Without the values of the row, which the server puts into the detail.
fn refused(error: &tokio_postgres::error::DbError) -> StoreError {
    let name = error.constraint().or(error.table()).unwrap_or_default();
    let reason = format!("{} ({}) {name}", error.message(), error.code().code());
    StoreError::Record { kind: "PostgreSQL", reason: reason.trim_end().to_owned() }
}
