//! Persistence: atomic, durable state changes of the domain over an embedded sled database.
//!
//! A public operation is a whole state change with a typed outcome (`login_with_challenge`,
//! `session_revoke`, ...), so that another engine can stand behind the same operations. Invariants:
//!
//! - **Answered means durable.** An operation that changes something answers after its change was flushed.
//! - **One writer.** All changes run one after another on one thread and see each other (see `commit`), so an
//!   operation needs no lock and cannot lose a race.
//! - **All or nothing.** A change that fails leaves no trace; a batch of changes survives a crash whole or not
//!   at all.
//! - **Fail closed.** After an error while writing, nothing is written until the process starts again.
//!
//! Reads go straight to the database. They may see a change that is applied but not flushed yet, and a read of
//! several keys may fall between two of one change's writes; operations here are laid out so that neither
//! matters. Reads can touch the disk, but are not worth a blocking pool: the working set is cached.
//!
//! Not here: rules (lengths, lifetimes, who may do what: see `chelseru-domain`), HMAC and token keys, and any
//! clock; every operation takes `now`. No sled type leaves this crate. Reading order: `types`, `commit`, `txn`,
//! `challenge`, `chat`.

mod types;

pub mod chat;
mod files;
mod login;
mod money;
mod operator;
mod sms;

mod engine;
mod error;

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use engine::sled::commit::{CommitStats, Health};
pub use error::StoreError;
pub use login::challenge::{ChallengeDraft, ChallengeOpened, LoginDraft, LoginOutcome};
pub use login::password::{
    GuardOutcome, GuardRules, PasswordLogin, PasswordLoginDraft, PasswordSet, ResetDraft, ResetOutcome,
};
pub use login::session::{RefreshDraft, RefreshOutcome, Session, SessionDraft, SessionGate};
pub use login::user::{User, UserChange, UserDraft, UserMade};
pub use money::ledger::{Account, Entry, LedgerReport, Posting, WalletBalance, WalletEntry};
pub use money::once::Once;
pub use money::outbox::{Attempt, Delivery, DeliveryState, Event, EventBody, EventReport, PaymentFacts};
pub use money::payment::{
    CLAIMS_MAX, Currency, KeptClaim, PayMode, Payment, PaymentClaim, PaymentCreated, PaymentDraft,
    PaymentReceipt, PaymentRefusal, PaymentSettled, PaymentStart, PaymentState, PaymentStep, Redirect,
};
pub use money::refund::{PaymentRefunded, Refund, RefundDraft, RefundTo};
pub use money::reversal::{Reversal, ReversalState, ReversalStep};
pub use money::spend::{Spend, SpendDraft, SpendEnded, SpendMade, SpendState};
pub use operator::api_key::{ApiKey, ApiKeyDraft};
pub use operator::audit::{AuditDraft, AuditEntry, AuditLog, AuditPage, AuditQuery};
pub use sms::report::{Progress, Reported};
pub use sms::{
    Begun, IdempotencyDraft, Message, MessageClass, MessageContent, MessageDraft, MessageEnd, MessageFilter,
    MessageInserted, MessagePage, MessageRange, MessageStatus, Quota, Recovered, TRIED_MAX, Tried,
};
pub use types::{EventId, PaymentId, PurgeStep, SessionId, SpendId, Timestamp, UserId};

use engine::sled::commit::{self, Committer};
use engine::sled::txn::Txn;
use engine::sled::{MIGRATIONS, PurgeWalks, Sled, agent, error as sled_error, export};
use engine::{Engine, on_engine};

/// Name of the file, inside the store's folder, whose lock says that a process uses the store.
const LOCK_FILE: &str = "lock";

/// How long opening waits for a lock. Sled's background jobs keep its own for some milliseconds after the last
/// handle is gone, and a child process that is just being started holds a copy of every lock.
const LOCK_PATIENCE: Duration = Duration::from_millis(300);

/// Against what an answered change is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Against the end of the process in any way, `kill -9` included: written to the operating system and on its
    /// way to the disk. What sled's own flush gives on Linux, where it uses `sync_file_range`.
    Process,
    /// Also against a power cut or an operating system crash: one `fdatasync` more per batch.
    Disk,
}

/// How a store is opened. Every field has a default that suits a gateway on a small machine.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Memory for cached pages, in bytes. Default 64 MiB, at least 1 MiB is used.
    pub cache_bytes: u64,
    /// Changes that share one flush at most. Default 512, at least 1 is used.
    pub batch_max: usize,
    /// Changes that may wait for the writer; one more is refused with [`StoreError::Busy`]. Default 8192, at
    /// least 1 is used.
    pub queue_max: usize,
    /// Default [`Durability::Disk`].
    pub durability: Durability,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            cache_bytes: 64 * 1024 * 1024,
            batch_max: 512,
            queue_max: 8192,
            durability: Durability::Disk,
        }
    }
}

/// A handle to an open store; clones share it. The last one to go closes it.
#[derive(Clone)]
pub struct Store {
    engine: Arc<Engine>,
}

impl Store {
    /// Opens the store in a folder, which is made when it is missing. Blocks while a store that was not closed
    /// is recovered.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Locked`] while another process (or another handle) has it open.
    /// - [`StoreError::FormatNewer`] when a newer version wrote it; nothing is changed.
    /// - [`StoreError::Foreign`] when the folder holds a database that is not a store.
    /// - [`StoreError::HalfImported`] when [`Store::import`] did not end in it.
    /// - [`StoreError::Open`] when the folder cannot be used or the database is damaged.
    pub fn open(path: impl AsRef<Path>, options: StoreOptions) -> Result<Store, StoreError> {
        let path = path.as_ref();
        let open_error = |source: io::Error| StoreError::Open { path: path.to_owned(), source };
        let lock_error = |error| match error {
            TryLockError::WouldBlock => StoreError::Locked { path: path.to_owned() },
            TryLockError::Error(source) => open_error(source),
        };
        std::fs::create_dir_all(path).map_err(open_error)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK_FILE))
            .map_err(open_error)?;
        lock_patiently(|| lock.try_lock()).map_err(lock_error)?;

        if path.join(export::IMPORTING_FILE).exists() {
            return Err(StoreError::HalfImported { path: path.to_owned() });
        }
        let database = path.join("sled");
        let config = sled::Config::new()
            .path(&database)
            .cache_capacity(options.cache_bytes.max(1024 * 1024))
            // The writer thread flushes. Sled's own flusher would end for ever at its first error.
            .flush_every_ms(None);
        let db = lock_patiently(|| {
            config.open().map_err(|error| match sled_error::engine_io(error) {
                // Sled has no error of its own for this.
                error if error.to_string().starts_with("could not acquire lock") => TryLockError::WouldBlock,
                error => TryLockError::Error(error),
            })
        })
        .map_err(lock_error)?;
        let sync = match options.durability {
            Durability::Process => None,
            Durability::Disk => Some(File::open(database.join("db")).map_err(open_error)?),
        };
        let tree: sled::Tree = (*db).clone();

        let target = tree.clone();
        let sink: commit::Sink = Box::new(move |batch| {
            target.apply_batch(batch).map_err(sled_error::engine_io)?;
            target.flush().map_err(sled_error::engine_io)?;
            sync.as_ref().map_or(Ok(()), File::sync_data)
        });
        let committer = Committer::start(Txn::new(tree.clone()), sink, options.batch_max, options.queue_max)
            .map_err(open_error)?;
        let agents = Arc::new(agent::Agents::load(&tree)?);
        let sled = Sled { committer, tree, purge: PurgeWalks::default(), agents, _lock: lock };
        sled.format_check(path, MIGRATIONS)?;
        Ok(Store { engine: Arc::new(Engine::Sled(sled)) })
    }

    /// Finishes the changes that were accepted, flushes, and ends the writer thread. Later changes answer
    /// [`StoreError::Closed`]; reads keep working while a handle is left. Blocks for about one flush. Dropping
    /// the last handle does the same.
    pub fn close(&self) {
        on_engine!(self, close());
    }

    /// Whether changes can be written.
    #[must_use]
    pub fn health(&self) -> Health {
        on_engine!(self, health())
    }

    /// Changes that wait for the writer; those it works on are not among them.
    #[must_use]
    pub fn changes_waiting(&self) -> usize {
        on_engine!(self, changes_waiting())
    }

    /// What the writer has done since the store was opened.
    #[must_use]
    pub fn commit_stats(&self) -> CommitStats {
        on_engine!(self, commit_stats())
    }

    /// Durably stores a value under a key of the prefix set aside for measuring; nothing else reads it. One
    /// smallest possible state change, for the commit bench.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn probe_put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        on_engine!(self, probe_put(key, value).await)
    }

    /// What [`Store::probe_put`] stored under a key.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub fn probe_get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        on_engine!(self, probe_get(key))
    }
}

/// Tries again while a lock is held, for [`LOCK_PATIENCE`].
fn lock_patiently<T>(attempt: impl Fn() -> Result<T, TryLockError>) -> Result<T, TryLockError> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("health", &self.health()).finish_non_exhaustive()
    }
}
