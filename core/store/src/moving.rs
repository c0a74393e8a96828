//! Copies a whole store from one engine to the other.
//!
//! Each feature's `moving.rs` reads its records of one engine and writes them as the other one keeps them ([`Part`]).
//! What follows from records (indexes, counters, the words of messages) is made anew. Rules about records are the
//! engines' own: a posting is posted again, so balances and hashes are computed and not copied.
//!
//! Invariants: a copy is of one moment. A copy into PostgreSQL is one transaction, so it happens as a whole or not at
//! all, and it needs an empty database. Nothing is left out silently: a key or a table that no part names ends the
//! copy before anything is written, and the tests fill every column and every kind of key and compare.
//!
//! | what | on the way to PostgreSQL | on the way to sled |
//! |---|---|---|
//! | ids, and the last number of each sequence | stay | stay |
//! | postings | keep their numbers; each goes to its user's chain | are numbered anew, without gaps |
//! | erased accounts | get their empty row | lose it |
//! | rooms that are deleted and not swept | stay behind, with their messages | likewise |
//! | messages to phones in hand | are given up after ten minutes | are given up at the next start |
//!
//! Reading order: this file, `engine/moving`, then `login/moving.rs`.

use std::fs::File;
use std::io;
use std::path::Path;

use futures_util::future::BoxFuture;

use crate::engine::moving::{Part, Progress, Records, Rows, row};
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::Columns;
use crate::engine::postgres::{Postgres, store};
use crate::engine::sled::{Sled, error, keys};
use crate::engine::{Engine, boxed};
use crate::{Durability, Store, StoreError, StoreOptions, chat, erasure, files, login, money, operator, sms};

/// Memory for the cache of a store that is filled and read once.
const SCRATCH_CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// In an order in which rows meet those that they refer to.
const PARTS: [&Part; 7] = [
    &login::moving::PART,
    &erasure::moving::PART,
    &money::moving::PART,
    &sms::moving::PART,
    &chat::moving::PART,
    &files::moving::PART,
    &operator::moving::PART,
];

/// Keys of the engine itself.
const OWN_KEYS: [&[u8]; 4] = [keys::FORMAT, keys::COMMIT, keys::KEY_MARK, PROBES];
const PROBES: &[u8] = b"b";

/// Tables of the engine itself. The mark of the key and the probes are copied; the others are about the server and the
/// gateways that use it.
const OWN_TABLES: [&str; 8] =
    ["commit_mark", "edit", "gateway", "key_mark", "lease", "migration", "node", "probe"];

/// Waiting and locks of others play no part: nobody else uses the database.
const FILL_ALONE: &str = "set local lock_timeout = 0; set local idle_in_transaction_session_timeout = 0;
    set local statement_timeout = 0; alter table sms disable trigger waiting;
    alter table sms_idempotency disable trigger counted";

/// What the disabled triggers would have counted: they write a row for each message.
const COUNTED: [&str; 2] = [
    "insert into sms_count (what, stripe, count)
     select 'waiting', id % 32, count(*) from sms where status = 'queued' group by id % 32",
    "insert into sms_count (what, stripe, count)
     select 'idempotency', get_byte(key, 0) % 32, count(*) from sms_idempotency group by get_byte(key, 0) % 32",
];

const END_FILLING: &str =
    "alter table sms enable trigger waiting; alter table sms_idempotency enable trigger counted";

/// The server waits while records are written, also when the disk stands still and nothing is read for a while; a
/// machine that is gone still ends the connection by its keepalives.
const BEGIN_READING: &str = "begin isolation level repeatable read read only;
    set local idle_in_transaction_session_timeout = 0; set local statement_timeout = 0;
    set local tcp_user_timeout = 0";

impl Store {
    /// Writes every record to a file, consistent with one moment, and returns their approximate number once the file
    /// is synced. No change waits for it; concurrent writes are buffered in memory until the end. The file is the same
    /// for every engine: a store on PostgreSQL is first copied to one of its own in the folder `scratch`, which must
    /// not exist and is removed at the end.
    ///
    /// # Errors
    ///
    /// Those of writing the file; [`io::ErrorKind::ResourceBusy`] while another export runs or when too much was
    /// written meanwhile; the store's own as [`io::ErrorKind::Other`]. The store stays usable.
    #[boxed]
    pub async fn export(&self, file: File, scratch: &Path) -> io::Result<u64> {
        let (store, scratch) = (self.clone(), scratch.to_owned());
        // A separate task, because the scratch store must be removed even when the caller is dropped.
        let export = async move {
            match &*store.engine {
                Engine::Sled(sled) => sled.export_to(file).await,
                Engine::Postgres(postgres) => export(postgres, &scratch, file).await,
            }
        };
        tokio::spawn(export).await.map_err(io::Error::other)?
    }

    /// Whether nothing was ever stored, not even the mark of a key.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    #[boxed]
    pub async fn is_new(&self) -> Result<bool, StoreError> {
        Ok(self.is_empty().await? && self.key_mark().await?.is_none())
    }

    /// Fills this store, which is on PostgreSQL and empty but for the mark of the same key, with all that another one
    /// on sled holds. `before_commit`
    /// runs when everything is written and nothing is there yet. One transaction: after an error, or a crash, this
    /// store is empty as before. Nobody may change the other store meanwhile.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Database`] when this store holds anything.
    /// - [`StoreError::Unavailable`] when another gateway has taken the database over.
    /// - [`StoreError::Copy`] with the record that could not be read or written.
    /// - [`StoreError::Unsure`] when the connection broke in the last step.
    /// - What `before_commit` returns.
    pub async fn fill_from(
        &self,
        source: &Store,
        progress: Progress<'_>,
        before_commit: BoxFuture<'_, Result<(), StoreError>>,
    ) -> Result<(), StoreError> {
        let (Engine::Postgres(target), Engine::Sled(source)) = (&*self.engine, &*source.engine) else {
            return Err(StoreError::Database { reason: "a copy goes from sled to PostgreSQL".to_owned() });
        };
        check_keys(source)?;
        fill_postgres(target, source, progress, before_commit).await
    }
}

/// Exports all that a database holds at one moment. Changes go on.
async fn export(from: &Postgres, scratch: &Path, file: File) -> io::Result<u64> {
    std::fs::create_dir(scratch).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            io::Error::new(io::ErrorKind::ResourceBusy, "another export of the store is running")
        }
        _ => error,
    })?;
    let exported = match copied(from, scratch).await {
        Ok(copy) => {
            let Engine::Sled(sled) = &*copy.engine else { unreachable!("it was opened in a folder") };
            sled.export_to(file).await
        }
        Err(error) => Err(io::Error::other(error)),
    };
    std::fs::remove_dir_all(scratch)?;
    exported
}

/// A store in a folder with all that a database holds at one moment.
async fn copied(from: &Postgres, folder: &Path) -> Result<Store, StoreError> {
    let options = StoreOptions {
        cache_bytes: SCRATCH_CACHE_BYTES,
        // It is gone after a power cut.
        durability: Durability::Process,
        ..StoreOptions::default()
    };
    let store = Store::open(folder, options)?;
    let Engine::Sled(sled) = &*store.engine else { unreachable!("it was opened in a folder") };
    let said = |what: &'static str, records: u64| tracing::info!(what, records, "copying the database");
    fill_sled(sled, from, &said).await?;
    Ok(store)
}

/// Refuses a store with a record that no part knows, before anything is copied.
fn check_keys(sled: &Sled) -> Result<(), StoreError> {
    let known: Vec<&[u8]> = PARTS.iter().flat_map(|part| part.keys).chain(&OWN_KEYS).copied().collect();
    // Keys are ascending, so most begin as the one before did.
    let mut last: &[u8] = known[0];
    for key in sled.tree.iter().keys() {
        let key = key.map_err(error::read)?;
        if key.starts_with(last) {
            continue;
        }
        last = known.iter().find(|known| key.starts_with(known)).ok_or_else(|| {
            let head = key[..key.len().min(2)].escape_ascii();
            StoreError::Record {
                kind: "unknown",
                reason: format!("no table takes a key that begins with {head}"),
            }
        })?;
    }
    Ok(())
}

/// Refuses a database that holds anything but the mark of the same key.
async fn check_empty(sql: &Sql, source: &Sled) -> Result<(), StoreError> {
    let mark = store::key_mark(sql).await?;
    if store::is_empty(sql).await? && (mark.is_none() || mark == source.key_mark()?) {
        return Ok(());
    }
    let reason =
        "the database holds a store already; name an empty database, or drop its schema `chelseru` when \
                  nothing in it is needed"
            .to_owned();
    Err(StoreError::Database { reason })
}

/// Refuses tables that no part knows.
async fn check_tables(sql: &Sql) -> Result<(), StoreError> {
    let known: Vec<&str> = PARTS.iter().flat_map(|part| part.tables).chain(&OWN_TABLES).copied().collect();
    let unknown = "select relname::text from pg_class where relnamespace = 'chelseru'::regnamespace
        and relkind in ('r', 'p') and not relispartition and relname <> all ($1) order by relname limit 1";
    match sql.found(unknown, &[&known]).await? {
        None => Ok(()),
        Some(row) => {
            let table: String = row.get(0);
            Err(StoreError::Record {
                kind: "unknown",
                reason: format!("no record takes the rows of {table}"),
            })
        }
    }
}

async fn fill_postgres(
    target: &Postgres,
    sled: &Sled,
    progress: Progress<'_>,
    before_commit: BoxFuture<'_, Result<(), StoreError>>,
) -> Result<(), StoreError> {
    // As a change of a term: a gateway that takes the database over (this one's lock is lost with its connection) waits
    // for the commit, and does not take what was filled for an empty store.
    let sql = target.alone_in_term().await?;
    check_empty(&sql, sled).await?;
    sql.simple(FILL_ALONE).await.map_err(|(_, error)| error)?;
    check_tables(&sql).await?;
    let rows = Rows::new(sled, &sql, progress);
    put_own(&rows).await?;
    for part in PARTS {
        (part.to_postgres)(&rows).await.map_err(|error| match error {
            StoreError::Copy { what, record, source } => {
                StoreError::Copy { what, record, source: Box::new(sql.root(*source)) }
            }
            other => sql.root(other),
        })?;
    }
    for counted in COUNTED {
        sql.run(counted, &[]).await?;
    }
    sql.simple(END_FILLING).await.map_err(|(_, error)| error)?;
    before_commit.await?;
    if let Err((_, error)) = sql.simple("commit").await {
        tracing::error!(%error, "the last step of the copy had no answer");
        return Err(StoreError::Unsure);
    }
    // Until the server looks at the tables by itself, it would choose its plans for empty ones.
    let tables: Vec<&str> = PARTS.iter().flat_map(|part| part.tables).chain(&OWN_TABLES).copied().collect();
    if let Err((_, error)) = sql.simple(&format!("analyze {}", tables.join(", "))).await {
        tracing::warn!(%error, "the new tables could not be analyzed");
    }
    Ok(())
}

/// The mark of the key, and what measurements wrote.
async fn put_own(rows: &Rows<'_>) -> Result<(), StoreError> {
    if let Some(mark) = rows.sled.key_mark()? {
        rows.sql
            .run("insert into key_mark (mark) values ($1) on conflict (one) do nothing", &[&mark])
            .await?;
    }
    rows.insert("probes", PROBES, "insert into probe (key, value) values ($1, $2)", |key, value| {
        Ok(Some(row![key[PROBES.len()..].to_vec(), value.to_vec()]))
    })
    .await
}

async fn fill_sled(target: &Sled, from: &Postgres, progress: Progress<'_>) -> Result<(), StoreError> {
    let sql = from.alone().await?;
    sql.simple(BEGIN_READING).await.map_err(|(_, error)| error)?;
    check_tables(&sql).await?;
    let records = Records::new(&sql, target, progress);
    take_own(&records).await?;
    for part in PARTS {
        (part.to_sled)(&records).await?;
    }
    sql.simple("commit").await.map_err(|(_, error)| error)
}

async fn take_own(records: &Records<'_>) -> Result<(), StoreError> {
    let mark = records.sql.found("select mark from key_mark", &[]).await?;
    if let Some(mark) = mark.map(|row| row.bytes::<16>("mark")) {
        records.sled.key_mark_set(mark).await?;
    }
    records
        .put("probes", "select key, value from probe", |row| {
            let (key, value): (Vec<u8>, Vec<u8>) = (row.get("key"), row.get("value"));
            Ok([(keys::probe(&key), value.into())])
        })
        .await
}
