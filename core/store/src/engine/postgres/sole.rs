//! Who may use the database at the same time: one gateway that counts on being alone, or several that share it.
//!
//! A session's advisory lock on a connection of its own, held alone or together with others. The name and start of one
//! that is alone are in the table `gateway`, those of others in `node`, so that a refused gateway can say who is there.
//! When the connection of a gateway that is alone breaks, changes are refused until the lock is held again; one that
//! shares the database loses nothing by it, because every operation is right beside others.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::connect::Address;
use crate::StoreError;

/// Among the advisory locks of the database.
const LOCK: i64 = 0x6368_656c_7365_0002;

const RETRY: Duration = Duration::from_millis(500);

/// Whether a gateway counts on being alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Company {
    Alone,
    Together,
}

pub(crate) struct Sole {
    company: Company,
    lost: Arc<Mutex<Option<String>>>,
    watch: JoinHandle<()>,
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
        let lost = Arc::new(Mutex::new(None::<String>));
        let seen = Arc::clone(&lost);
        let set = move |reason: Option<String>| *seen.lock().unwrap_or_else(PoisonError::into_inner) = reason;
        let driver = runtime.clone();
        let watch = runtime.spawn(async move {
            loop {
                // Ends with the connection.
                let _ = (&mut held.1).await;
                if company == Company::Alone {
                    set(Some("the lock of this gateway was lost with its connection".to_owned()));
                    tracing::error!(
                        "the lock of this gateway was lost; nothing is changed until it is held again"
                    );
                }
                held = loop {
                    match take(&address, &driver, company).await {
                        Ok(held) => break held,
                        Err(error) if company == Company::Alone || error.is_in_use() => {
                            set(Some(error.to_string()));
                        }
                        Err(_) => {}
                    }
                    tokio::time::sleep(RETRY).await;
                };
                set(None);
                tracing::info!("the lock of this gateway is held again");
            }
        });
        Ok(Sole { company, lost, watch })
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.company == Company::Alone
    }

    /// Why changes are refused, while the lock is not held.
    pub(crate) fn lost(&self) -> Option<String> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

async fn take(
    address: &Address,
    runtime: &Handle,
    company: Company,
) -> Result<(Client, JoinHandle<()>), StoreError> {
    let (client, task) = address.connect(runtime).await?;
    let refused = |error| address.refusal(&error);
    let lock = match company {
        Company::Alone => "select pg_try_advisory_lock($1)",
        Company::Together => "select pg_try_advisory_lock_shared($1)",
    };
    let held: bool = client.query_one(lock, &[&LOCK]).await.map_err(refused)?.get(0);
    if held && company == Company::Alone {
        let note = "insert into gateway (host, pid) values ($1, $2)
            on conflict (one) do update set host = $1, pid = $2, started_at = now()";
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        client.execute(note, &[&host_name(), &pid]).await.map_err(refused)?;
    }
    if held {
        return Ok((client, task));
    }
    let who = match company {
        Company::Alone => {
            "select string_agg(name || ', since ' || to_char(started_at, 'YYYY-MM-DD HH24:MI:SS') || ' UTC', '; ')
                from node where seen_at > now() - interval '1 minute'"
        }
        Company::Together => "select null::text",
    };
    let nodes = client.query_one(who, &[]).await.map_err(refused)?.get::<_, Option<String>>(0);
    let alone = "select format('process %s on \"%s\", since %s UTC', pid, host,
        to_char(started_at, 'YYYY-MM-DD HH24:MI:SS')) from gateway";
    let alone = client.query_opt(alone, &[]).await.map_err(refused)?.map(|row| row.get::<_, String>(0));
    let who = nodes.or(alone).unwrap_or("another process".to_owned());
    let reason = match company {
        Company::Alone => format!("another gateway uses the database at {address}: {who}; stop it first"),
        Company::Together => format!(
            "a gateway without [bus] uses the database at {address} alone: {who}; stop it first, or give it [bus], too"
        ),
    };
    Err(StoreError::InUse { reason })
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
