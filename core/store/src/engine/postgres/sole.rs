//! The lock of the only gateway, while operations outside the store still count on being alone.
//!
//! A session's advisory lock on a connection of its own. The holder's name and start are in the table `gateway`, so
//! that a second gateway can say who is there. When the connection breaks, changes are refused until the lock is held
//! again.

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

pub(crate) struct Sole {
    lost: Arc<Mutex<Option<String>>>,
    watch: JoinHandle<()>,
}

impl Sole {
    /// Takes the lock, and keeps it until the end. Waits for it: a gateway that ended a moment ago may still hold it.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] that names the gateway which holds it.
    pub(crate) async fn hold(address: Address, runtime: Handle, wait: Duration) -> Result<Self, StoreError> {
        let until = Instant::now() + wait;
        let mut held = loop {
            match take(&address, &runtime).await {
                Err(StoreError::InUse { .. }) if Instant::now() < until => {
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
                set(Some("the lock of this gateway was lost with its connection".to_owned()));
                tracing::error!(
                    "the lock of this gateway was lost; nothing is changed until it is held again"
                );
                held = loop {
                    match take(&address, &driver).await {
                        Ok(held) => break held,
                        Err(error) => set(Some(error.to_string())),
                    }
                    tokio::time::sleep(RETRY).await;
                };
                set(None);
                tracing::info!("the lock of this gateway is held again");
            }
        });
        Ok(Sole { lost, watch })
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

async fn take(address: &Address, runtime: &Handle) -> Result<(Client, JoinHandle<()>), StoreError> {
    let (client, task) = address.connect(runtime).await?;
    let refused = |error| address.refusal(&error);
    let row = client.query_one("select pg_try_advisory_lock($1)", &[&LOCK]).await.map_err(refused)?;
    if row.get(0) {
        let note = "insert into gateway (host, pid) values ($1, $2)
            on conflict (one) do update set host = $1, pid = $2, started_at = now()";
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        client.execute(note, &[&host(), &pid]).await.map_err(refused)?;
        return Ok((client, task));
    }
    let who = "select host, pid, to_char(started_at, 'YYYY-MM-DD HH24:MI:SS') from gateway";
    let row = client.query_opt(who, &[]).await.map_err(refused)?;
    let who = row.map_or("another process".to_owned(), |row| {
        format!(
            "process {} on {:?}, since {} UTC",
            row.get::<_, i32>(1),
            row.get::<_, String>(0),
            row.get::<_, String>(2)
        )
    });
    let reason = format!("another gateway uses the database at {address}: {who}; stop it first");
    Err(StoreError::InUse { reason })
}

fn host() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").unwrap_or_default();
    name
}
