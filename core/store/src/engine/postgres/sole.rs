//! Who may use the database at the same time: one gateway that counts on being alone, or several that share it.
//!
//! A session's advisory lock on a connection of its own, held alone or together with others. The name and start of one
//! that is alone are in the table `gateway`, those of others in `node`, so that a refused gateway can say who is there.
//! When the connection of a gateway that is alone breaks, changes are refused until the lock is held again; one that
//! shares the database loses nothing by it, because every operation is right beside others.
//!
//! **A gateway that does not know yet.** The server gives the lock to another gateway as soon as it sees the connection
//! end, and the one before may see that much later: it was paused, or the network is cut. So whoever takes the lock
//! raises the `term` in `gateway`, and then waits for the changes that began before. Each change holds [`CHANGES`]
//! together with the others and then compares the term, so it ends before the next gateway goes on, or fails.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::connect::Address;
use super::migrate;
use crate::StoreError;

/// Among the advisory locks of the database.
pub(super) const LOCK: i64 = 0x6368_656c_7365_0002;

/// Held by every change, and for a moment by a gateway that takes the database over.
pub(super) const CHANGES: i64 = 0x6368_656c_7365_0003;

/// Begin a term, when that is not the one of the gateways that share the database. With whether changes of another
/// term may be under way.
const ALONE: &str = "insert into gateway (host, pid, term) values ($1, $2, 1)
    on conflict (one) do update
        set host = $1, pid = $2, started_at = now(), term = gateway.term + 1, shared = false
    returning term, true as follows";
const TOGETHER: &str = "with before as (select shared from gateway)
    insert into gateway (host, pid, term, shared) values ($1, $2, 1, true)
    on conflict (one) do update set term = gateway.term + (not gateway.shared)::integer, shared = true
    returning term, not coalesce((select shared from before), false) as follows";

/// What a change of a gateway that does not know it yet is refused with.
pub(super) const OVERTAKEN: &str = "another gateway has taken the database over";

const RETRY: Duration = Duration::from_millis(500);

/// Whether a gateway counts on being alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Company {
    Alone,
    Together,
}

pub(crate) struct Sole {
    company: Company,
    standing: Arc<Standing>,
    watch: JoinHandle<()>,
}

#[derive(Default)]
struct Standing {
    /// Why changes are refused, while the lock is not held.
    lost: Mutex<Option<String>>,
    term: AtomicI64,
    /// Told of a term in which a change found another one.
    overtaken: Notify,
    overtaken_in: AtomicI64,
}

impl Standing {
    fn set(&self, lost: Option<String>) {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = lost;
    }
}

/// A connection that has the lock.
struct Held {
    /// The lock ends with it.
    _client: Client,
    /// Ends with the connection.
    connection: JoinHandle<()>,
    term: i64,
}

impl Sole {
    /// Takes the lock, and keeps it until the end. Waits for it: a gateway that ended a moment ago may still hold it.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] that names the gateway which holds it.
    pub(crate) async fn hold(
        address: Address,
        runtime: Handle,
        company: Company,
        wait: Duration,
    ) -> Result<Self, StoreError> {
        let until = Instant::now() + wait;
        let mut told = false;
        let mut held = loop {
            match take(&address, &runtime, company).await {
                Err(StoreError::InUse { .. }) if Instant::now() < until => {
                    if !told {
                        tracing::info!(longest = ?wait, "another process uses the store; waiting for it");
                        told = true;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                other => break other?,
            }
        };
        let standing = Arc::new(Standing::default());
        standing.term.store(held.term, Ordering::Release);
        let (seen, driver) = (Arc::clone(&standing), runtime.clone());
        let watch = runtime.spawn(async move {
            loop {
                let reason = tokio::select! {
                    _ = &mut held.connection => (company == Company::Alone)
                        .then_some("the lock of this gateway was lost with its connection"),
                    () = seen.overtaken.notified() => {
                        if seen.overtaken_in.load(Ordering::Acquire) != held.term {
                            continue;
                        }
                        Some(OVERTAKEN)
                    }
                };
                if let Some(reason) = reason {
                    seen.set(Some(reason.to_owned()));
                    tracing::error!(
                        reason,
                        "nothing is changed until the lock of this gateway is held again"
                    );
                }
                // What the server still counts as held would be in the way.
                drop(held);
                held = loop {
                    match take(&address, &driver, company).await {
                        Ok(held) => break held,
                        // One that shares the database goes on without the server's answer, but not when the database
                        // is another gateway's, or of a newer version.
                        Err(StoreError::Unavailable { .. }) if company == Company::Together => {}
                        Err(error) => seen.set(Some(error.to_string())),
                    }
                    tokio::time::sleep(RETRY).await;
                };
                seen.term.store(held.term, Ordering::Release);
                seen.set(None);
                tracing::info!("the lock of this gateway is held again");
            }
        });
        Ok(Sole { company, standing, watch })
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.company == Company::Alone
    }

    /// Why changes are refused, while the lock is not held.
    pub(crate) fn lost(&self) -> Option<String> {
        self.standing.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The term of this gateway, which each change names.
    pub(super) fn term(&self) -> i64 {
        self.standing.term.load(Ordering::Acquire)
    }

    /// A change of this term found another one. The lock is taken again, or waited for.
    pub(super) fn overtaken(&self, term: i64) {
        self.standing.overtaken_in.store(term, Ordering::Release);
        self.standing.overtaken.notify_one();
    }

    /// Gives the lock up.
    pub(crate) fn release(&self) {
        self.watch.abort();
    }
}

impl Drop for Sole {
    fn drop(&mut self) {
        self.release();
    }
}

async fn take(address: &Address, runtime: &Handle, company: Company) -> Result<Held, StoreError> {
    let (client, connection) = address.connect(runtime).await?;
    if !try_lock(address, &client, company).await? {
        let who = who(&client, company).await;
        let reason = match company {
            Company::Alone => {
                format!("another gateway uses the database at {address}: {who}; stop it first")
            }
            Company::Together => format!(
                "a gateway without [bus] uses the database at {address} alone: {who}; stop it first, or give it \
                 [bus], too"
            ),
        };
        return Err(StoreError::InUse { reason });
    }
    // They may have changed since they were looked at, or since the lock was lost.
    migrate::refuse_newer(address, &client).await?;
    let term = enter(address, &client, company).await?;
    Ok(Held { _client: client, connection, term })
}

/// Takes the lock alone on the connection that changes tables, until it is given up there. When the tables know
/// `terms`, a gateway that has lost the lock without knowing it is fenced, too. After an error the caller gives up the
/// lock.
///
/// # Errors
///
/// [`StoreError::InUse`] when any gateway has the lock, or a change of one is still under way.
pub(super) async fn hold_for_steps(
    address: &Address,
    client: &Client,
    terms: bool,
) -> Result<(), StoreError> {
    if !try_lock(address, client, Company::Alone).await? {
        let who = who(client, Company::Alone).await;
        let reason = format!(
            "this version changes the tables at {address}, and a gateway of an older version uses them: {who}; stop \
             every gateway, and start this one first"
        );
        return Err(StoreError::InUse { reason });
    }
    if terms && let Err(error) = enter(address, client, Company::Alone).await {
        // The connection is asked again.
        let _ = client.batch_execute("rollback").await;
        return Err(error);
    }
    Ok(())
}

async fn try_lock(address: &Address, client: &Client, company: Company) -> Result<bool, StoreError> {
    let lock = match company {
        Company::Alone => "select pg_try_advisory_lock($1)",
        Company::Together => "select pg_try_advisory_lock_shared($1)",
    };
    let row = client.query_one(lock, &[&LOCK]).await.map_err(|error| address.refusal(&error))?;
    Ok(row.get(0))
}

/// Who has the lock, as far as the tables tell.
async fn who(client: &Client, company: Company) -> String {
    let nodes = "select string_agg(name || ', since ' || to_char(started_at, 'YYYY-MM-DD HH24:MI:SS') || ' UTC', '; ')
        from node where seen_at > now() - interval '1 minute'";
    let alone = "select format('process %s on \"%s\", since %s UTC', pid, host,
        to_char(started_at, 'YYYY-MM-DD HH24:MI:SS')) from gateway";
    // Those that share the database are in the way of one that is alone, and not of each other.
    let queries: &[_] = if company == Company::Alone { &[nodes, alone] } else { &[alone] };
    for query in queries {
        // Older tables may lack one.
        if let Ok(Some(row)) = client.query_opt(*query, &[]).await
            && let Some(who) = row.get::<_, Option<String>>(0)
        {
            return who;
        }
    }
    "another process".to_owned()
}

/// Begins a term, and waits until no change of another one is under way.
async fn enter(address: &Address, client: &Client, company: Company) -> Result<i64, StoreError> {
    begin_term(client, company).await.map_err(|error| match error.code() {
        Some(&SqlState::LOCK_NOT_AVAILABLE) => StoreError::InUse {
            reason: format!("a change of the gateway before is still under way at {address}"),
        },
        _ => address.refusal(&error),
    })
}

async fn begin_term(client: &Client, company: Company) -> Result<i64, tokio_postgres::Error> {
    client.batch_execute("begin").await?;
    let enter = if company == Company::Alone { ALONE } else { TOGETHER };
    let pid = i32::try_from(std::process::id()).unwrap_or(0);
    let row = client.query_one(enter, &[&host_name(), &pid]).await?;
    if row.get("follows") {
        client.execute("select pg_advisory_xact_lock($1)", &[&CHANGES]).await?;
    }
    client.batch_execute("commit").await?;
    Ok(row.get("term"))
}

/// The name of this machine, by which gateways tell operators of each other.
#[must_use]
pub fn host_name() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").unwrap_or_default();
    name
}
