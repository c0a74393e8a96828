//! Migrations: the steps from an empty database to today's tables.
//!
//! A step is a file of statements. Steps run in order, one transaction each, under an advisory lock, so whichever
//! gateway comes first runs them and the others find them done. A step that was released never changes; a change of
//! tables is a new step.

use tokio::runtime::Handle;
use tokio_postgres::Client;

use super::connect::Address;
use crate::StoreError;

struct Step {
    name: &'static str,
    statements: &'static str,
}

macro_rules! steps {
    ($($name:literal),* $(,)?) => {
        &[$(Step { name: $name, statements: include_str!(concat!("migrations/", $name, ".sql")) }),*]
    };
}

const STEPS: &[Step] = steps![
    "0001_core",
    "0002_login",
    "0003_money",
    "0004_sms",
    "0005_chat",
    "0006_operator",
    "0007_files",
    "0008_erasure",
    "0009_node",
    "0010_edit",
    "0011_avatar",
    "0012_term"
];

/// Among the advisory locks of the database. Any number that no other program uses.
const LOCK: i64 = 0x6368_656c_7365_0001;

const PREPARE: &str = "
    create schema if not exists chelseru;
    create table if not exists chelseru.migration (
        number integer primary key,
        name text not null,
        applied_at timestamptz not null default now()
    );
    comment on table chelseru.migration is 'Steps that brought the tables to where they are.'";

/// Brings the tables of a database up to date.
///
/// # Errors
///
/// [`StoreError::Database`] with a sentence: a newer version's tables, a server that is too old, missing rights;
/// [`StoreError::Unavailable`].
pub(crate) async fn migrate(address: &Address, runtime: &Handle) -> Result<(), StoreError> {
    let (client, _task) = address.connect(runtime).await?;
    address.check(&client).await?;
    let refused = |error| address.refusal(&error);
    if applied(address, &client).await? == STEPS.len() {
        return Ok(());
    }
    // Of the session and not of a transaction: one that began before it got the lock may see older tables than there
    // are. It ends with the connection.
    client.execute("select pg_advisory_lock($1)", &[&LOCK]).await.map_err(refused)?;
    loop {
        client.batch_execute("begin").await.map_err(refused)?;
        let done = applied(address, &client).await?;
        let Some(step) = STEPS.get(done) else { return Ok(()) };
        tracing::info!(step = step.name, "migrating the database");
        if done == 0 {
            client.batch_execute(PREPARE).await.map_err(refused)?;
        }
        client.batch_execute(step.statements).await.map_err(refused)?;
        let number = i32::try_from(done + 1).unwrap_or(i32::MAX);
        let note = "insert into migration (number, name) values ($1, $2)";
        client.execute(note, &[&number, &step.name]).await.map_err(refused)?;
        client.batch_execute("commit").await.map_err(refused)?;
    }
}

/// How many steps were applied.
async fn applied(address: &Address, client: &Client) -> Result<usize, StoreError> {
    let refused = |error| address.refusal(&error);
    let row =
        client.query_one("select to_regclass('chelseru.migration') is null", &[]).await.map_err(refused)?;
    if row.get(0) {
        return Ok(0);
    }
    let row =
        client.query_one("select coalesce(max(number), 0) from migration", &[]).await.map_err(refused)?;
    let found = usize::try_from(row.get::<_, i32>(0)).unwrap_or(0);
    if found > STEPS.len() {
        let reason = format!(
            "the tables at {address} are of step {found}, written by a newer version; this program knows {} steps",
            STEPS.len()
        );
        return Err(StoreError::Database { reason });
    }
    Ok(found)
}
