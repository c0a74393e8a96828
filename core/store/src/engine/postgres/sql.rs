//! A connection and its statements: what an operation's SQL runs on, in a change or beside one.
//!
//! Every statement is prepared once per connection. Statements whose futures are joined are sent without waiting for
//! each other's answers (pipelining). Inside a change the first error dooms the transaction: PostgreSQL refuses every
//! later statement, and [`change`](super::change) rolls back, whatever the operation makes of the error.

use std::sync::{Mutex, PoisonError};

use deadpool_postgres::Pool;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use crate::StoreError;

/// Other connections that a read tries. Those that broke in the pool are noticed within milliseconds.
const READ_AGAIN_MAX: usize = 3;

/// The arguments of a statement.
pub(crate) type Args<'a> = &'a [&'a (dyn ToSql + Sync)];

pub(crate) struct Sql {
    client: deadpool_postgres::Client,
    /// Where a read finds another connection when this one turns out to be gone, as all do after the server restarted.
    spare: Option<Pool>,
    /// The first error since the change began.
    fault: Mutex<Option<Fault>>,
}

/// What has no row to lock. The numbers keep the keys of one kind apart from those of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// An operator's sessions in the console, by account.
    Console = 1,
    ApiKeys = 2,
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
}

impl Sql {
    pub(super) fn new(client: deadpool_postgres::Client) -> Self {
        Sql { client, spare: None, fault: Mutex::new(None) }
    }

    /// For reads outside a change, which may run again on another connection.
    pub(super) fn reader(client: deadpool_postgres::Client, spare: Pool) -> Self {
        Sql { client, spare: Some(spare), fault: Mutex::new(None) }
    }

    /// All rows of a statement.
    pub(crate) async fn rows(&self, statement: &'static str, args: Args<'_>) -> Result<Vec<Row>, StoreError> {
        let mut lost = match rows(&self.client, statement, args).await {
            Ok(rows) => return Ok(rows),
            Err(error) => self.fault(&error)?,
        };
        let Some(spare) = &self.spare else { return Err(lost) };
        for _ in 0..READ_AGAIN_MAX {
            let Ok(other) = spare.get().await else { break };
            match rows(&other, statement, args).await {
                Ok(rows) => return Ok(rows),
                Err(error) => lost = self.fault(&error)?,
            }
        }
        Err(lost)
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
        let changed = async {
            let statement = self.client.prepare_cached(statement).await?;
            self.client.execute(&statement, args).await
        };
        changed.await.map_err(|error| self.fault(&error).unwrap_or_else(|error| error))
    }

    /// Locks something that has no row of its own, until the change ends.
    pub(crate) async fn lock(&self, lock: Lock, key: u64) -> Result<(), StoreError> {
        // Keys are ids, far below 2^56.
        let key = ((lock as u64) << 56 | key & (u64::MAX >> 8)).cast_signed();
        self.rows("select pg_advisory_xact_lock($1)", &[&key]).await?;
        Ok(())
    }

    /// Runs statements without arguments; the last result row's columns as text.
    pub(super) async fn simple(&self, statements: &str) -> Result<Vec<String>, tokio_postgres::Error> {
        let mut columns = Vec::new();
        for message in self.client.simple_query(statements).await? {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                columns = (0..row.len()).map(|n| row.get(n).unwrap_or_default().to_owned()).collect();
            }
        }
        Ok(columns)
    }

    /// The first error since this was last asked.
    pub(super) fn take_fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps the connection from being used again.
    pub(super) fn discard(self) {
        drop(deadpool_postgres::Object::take(self.client));
    }

    /// Notes an error. `Ok` when only the connection is gone.
    fn fault(&self, error: &tokio_postgres::Error) -> Result<StoreError, StoreError> {
        let (fault, error) = judge(error);
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
        if fault == Fault::Lost { Ok(error) } else { Err(error) }
    }
}

async fn rows(
    client: &deadpool_postgres::Client,
    statement: &'static str,
    args: Args<'_>,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let statement = client.prepare_cached(statement).await?;
    client.query(&statement, args).await
}

/// What an error means, for the change and for the caller.
pub(super) fn judge(error: &tokio_postgres::Error) -> (Fault, StoreError) {
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
        &SqlState::UNIQUE_VIOLATION => (Fault::Duplicate, refused(found)),
        &SqlState::DISK_FULL | &SqlState::OUT_OF_MEMORY => (Fault::Refused, StoreError::Full),
        code if code.code().starts_with("57P") || code.code().starts_with("08") || code.code() == "25006" => {
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
