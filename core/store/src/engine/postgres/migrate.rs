//! Migrations: the steps from an empty database to today's tables.
//!
//! A step is a file of statements. Steps run in order, one transaction each, under an advisory lock, so whichever
//! gateway comes first runs them and the others find them done. A step that was released never changes; a change of
//! tables is a new step.
//!
//! Tables that are there change only while no gateway uses them, with a bus or without: an older version would go on
//! with statements for the older tables. So the lock of the only gateway is held meanwhile ([`sole`]).

use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio_postgres::Client;

use super::connect::Address;
use super::sole;
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
    "0012_term",
    "0013_events",
    "0014_file_bytes",
    "0015_declined"
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

/// The first step whose tables know terms.
const TERM: usize = 12;

/// How often a gateway that uses older tables is looked for.
const LOOK: Duration = Duration::from_millis(50);

const UNLOCK: &str = "select pg_advisory_unlock_all()";

/// Brings the tables of a database up to date. Waits for a gateway that uses older ones.
///
/// # Errors
///
/// [`StoreError::Database`] with a sentence: a newer version's tables, a server that is too old, missing rights;
/// [`StoreError::InUse`] when a gateway still uses older tables, which stay as they are; [`StoreError::Unavailable`].
pub(crate) async fn migrate(address: &Address, runtime: &Handle, wait: Duration) -> Result<(), StoreError> {
    let (client, _task) = address.connect(runtime).await?;
    address.check(&client).await?;
    let refused = |error| address.refusal(&error);
    let until = Instant::now() + wait;
    loop {
        if applied(address, &client).await? == STEPS.len() {
            return Ok(());
        }
        // Of the session and not of a transaction: one that began before it got the lock may see older tables than
        // there are.
        client.execute("select pg_advisory_lock($1)", &[&LOCK]).await.map_err(refused)?;
        let done = applied(address, &client).await?;
        if done == 0 || done == STEPS.len() {
            break;
        }
        match sole::hold_for_steps(address, &client, done >= TERM).await {
            Err(StoreError::InUse { .. }) if Instant::now() < until => {
                client.batch_execute(UNLOCK).await.map_err(refused)?;
                tokio::time::sleep(LOOK).await;
            }
            held => break held?,
        }
    }
    loop {
        client.batch_execute("begin").await.map_err(refused)?;
        let done = applied(address, &client).await?;
        let Some(step) = STEPS.get(done) else { break };
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
    client.batch_execute("rollback").await.map_err(refused)?;
    // The locks would stay until the server sees the connection end, in the way of this gateway, too.
    client.batch_execute(UNLOCK).await.map_err(refused)
}

/// Refuses tables of a newer version.
///
/// # Errors
///
/// [`StoreError::Database`], [`StoreError::Unavailable`].
pub(super) async fn refuse_newer(address: &Address, client: &Client) -> Result<(), StoreError> {
    applied(address, client).await.map(drop)
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

#[cfg(test)]
mod tests {
    use chelseru_postgres_server::{Server, connected, on_runtime, server};

    use super::*;
    use crate::StoreOptions;
    use crate::engine::postgres::server::{opened, options};

    /// A database of an older version.
    struct Older {
        name: &'static str,
        server: &'static Server,
    }

    impl Older {
        /// With the tables of the first `steps`.
        fn new(name: &'static str, steps: usize) -> Option<Older> {
            let server = server()?;
            server.make(name, "template1");
            let url = server.pairs(name);
            on_runtime(async move {
                let (client, _task) =
                    Address::parse(&url).unwrap().connect(&Handle::current()).await.unwrap();
                client.batch_execute(PREPARE).await.unwrap();
                for (n, step) in STEPS[..steps].iter().enumerate() {
                    client.batch_execute(step.statements).await.unwrap();
                    let note = format!("insert into migration values ({}, '{}')", n + 1, step.name);
                    client.batch_execute(&note).await.unwrap();
                }
            });
            Some(Older { name, server })
        }

        fn open(&self, shared: bool, lock_wait: Duration) -> Result<crate::Store, StoreError> {
            opened(&self.server.pairs(self.name), StoreOptions { shared, lock_wait, ..options() })
        }

        /// The last step of its tables.
        async fn last(&self) -> usize {
            let client = connected(self.server.pairs(self.name)).await.unwrap();
            let last = client.query_one("select max(number) from chelseru.migration", &[]).await.unwrap();
            usize::try_from(last.get::<_, i32>(0)).unwrap()
        }
    }

    impl Drop for Older {
        fn drop(&mut self) {
            self.server.remove(self.name);
        }
    }

    #[tokio::test]
    async fn tables_that_a_gateway_uses_are_not_changed() {
        let before = STEPS.len() - 1;
        let Some(older) = Older::new("older_in_use", before) else { return };
        for lock in ["pg_advisory_lock", "pg_advisory_lock_shared"] {
            // On another runtime: opening a store blocks this one.
            let gateway = on_runtime(connected(older.server.pairs(older.name))).unwrap();
            gateway.batch_execute(&format!("select {lock}({})", sole::LOCK)).await.unwrap();
            for shared in [false, true] {
                let refused = older.open(shared, Duration::ZERO).unwrap_err();
                assert!(refused.is_in_use() && refused.to_string().contains("stop"), "{refused}");
            }
            assert_eq!(older.last().await, before);
        }
        // A gateway that stops is waited for.
        let store = older.open(true, Duration::from_secs(30)).unwrap();
        assert_eq!(older.last().await, STEPS.len());
        older.open(true, Duration::ZERO).unwrap();
        drop(store);
    }

    #[tokio::test]
    async fn tables_of_every_step_are_brought_up_to_date() {
        for (name, steps) in [("older_one", 1), ("older_without_terms", TERM - 1), ("older_with_terms", TERM)]
        {
            let Some(older) = Older::new(name, steps) else { return };
            let store = older.open(false, Duration::ZERO).unwrap();
            assert_eq!(older.last().await, STEPS.len());
            assert!(store.is_empty().await.unwrap());
            store.probe_put(b"key", b"value").await.unwrap();
        }
    }

    /// It looked at the tables before they changed, and takes the lock after that.
    #[tokio::test]
    async fn a_gateway_that_comes_back_to_newer_tables_is_refused() {
        let Some(older) = Older::new("newer_meanwhile", STEPS.len()) else { return };
        let address = Address::parse(&older.server.pairs(older.name)).unwrap();
        let (client, _task) = address.connect(&Handle::current()).await.unwrap();
        refuse_newer(&address, &client).await.unwrap();
        client.batch_execute("insert into migration values (9999, 'later')").await.unwrap();
        let (runtime, company) = (Handle::current(), sole::Company::Together);
        let refused = sole::Sole::hold(address, runtime, company, Duration::ZERO).await.map(drop);
        assert!(matches!(refused, Err(StoreError::Database { .. })), "{refused:?}");
    }
}
