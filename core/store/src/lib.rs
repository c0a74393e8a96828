//! Persistence: atomic, durable state changes of the domain, over an embedded sled database or a PostgreSQL server.
//!
//! A public operation is a whole state change with a typed outcome (`login_with_challenge`, `session_revoke`, ...),
//! so every engine implements the same operations. Invariants:
//!
//! - **Answered means durable.** An operation answers after its change is flushed, or committed.
//! - **One after another.** Changes that could disturb each other run as if alone. On sled all of them run on one
//!   thread (`engine::sled::commit`); on PostgreSQL each locks what it judges (`engine::postgres::change`), and several
//!   gateways may run any of them at once.
//! - **All or nothing.** A failed change leaves no trace. What was answered together survives a crash together.
//! - **Fail closed.** After a write error on sled, nothing is written until the process restarts.
//!
//! Reads go straight to the database; on sled they are ready at the first poll. There they may see a change that is
//! applied but not flushed, and a read of several keys may fall between two writes of one change; the operations are
//! designed so that neither matters. Reads may touch the disk, but do not need a blocking pool.
//!
//! Not here: rules (lengths, lifetimes, permissions: see `chelseru-domain`), HMAC and token keys, and any
//! clock; every operation takes `now`. No type of sled or PostgreSQL leaves this crate. Reading order: `types`,
//! `login::challenge` with a file of statements for each engine, `engine`, `chat`.

// Tests inside the crate share helpers with those outside.
#[cfg(test)]
extern crate self as chelseru_store;

mod options;
mod types;

pub mod chat;
mod erasure;
mod files;
mod login;
mod money;
mod operator;
mod sms;

mod engine;
mod error;
mod moving;
mod opening;
mod space;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use engine::moving::Progress;
pub use engine::postgres::sole::host_name;
pub use engine::sled::commit::{CommitStats, Health};
pub use erasure::{Erasure, ErasureBegun, ErasureDraft, ErasureProof};
pub use error::StoreError;
pub use login::challenge::{ChallengeDraft, ChallengeOpened, Guesser, LoginDraft, LoginOutcome};
pub use login::import::ImportedUser;
pub use login::legacy::{LegacyDraft, LegacyOpened};
pub use login::password::{
    Guard, GuardOutcome, GuardRules, PasswordLogin, PasswordLoginDraft, PasswordSet, ResetDraft,
    ResetOutcome, ResetToken,
};
pub use login::session::{RefreshDraft, RefreshOutcome, Session, SessionDraft, SessionGate};
pub use login::user::{
    Avatar, Look, LooksStep, NumberAdded, NumberDraft, Rights, User, UserChange, UserDraft, UserMade,
};
pub use money::correction::{Correction, CorrectionDraft, CorrectionMade};
pub use money::find::{PaymentQuery, PaymentsFound};
pub use money::import::OpeningBalance;
pub use money::ledger::{Account, Entry, LedgerReport, Posting, WalletBalance, WalletEntry};
pub use money::once::Once;
pub use money::outbox::{
    Attempt, CreditFacts, Delivery, DeliveryState, Event, EventBody, EventFilter, EventReport, PaymentFacts,
};
pub use money::payment::{
    CLAIMS_MAX, CheckedLater, Currency, KeptClaim, PayMode, Payment, PaymentAsked, PaymentClaim,
    PaymentCreated, PaymentDraft, PaymentReceipt, PaymentRefusal, PaymentSettled, PaymentStart, PaymentState,
    PaymentStep, Question, Redirect, RedirectMethod,
};
pub use money::refund::{
    PaymentRefunded, Refund, RefundDraft, RefundQuery, RefundState, RefundTo, RefundUndone, RefundsFound,
};
pub use money::reversal::{Reversal, ReversalDecided, ReversalDecision, ReversalState, ReversalStep};
pub use money::spend::{Spend, SpendDraft, SpendEnded, SpendMade, SpendState};
pub use opening::Opening;
pub use operator::api_key::{ApiKey, ApiKeyDraft};
pub use operator::audit::{AuditDraft, AuditEntry, AuditLog, AuditPage, AuditQuery};
pub use operator::console::{
    CONSOLE_SESSIONS_MAX, ConsoleDraft, ConsoleProof, ConsoleSession, OperatorChange, OperatorRecord,
    OperatorRole, SecondFactor,
};
pub use operator::edit::{CONFIG_EDITS_MAX, Edit, EditDraft, EditOf};
pub use operator::node::{NODES_MAX, Node, NodeFacts, Task};
pub use operator::note::{
    NOTE_NAME_BYTES_MAX, NOTE_VALUE_BYTES_MAX, NOTES_MAX, Note, NoteKind, NotePut, filters_of,
};
pub use options::{Durability, StoreOptions};
pub use sms::report::{SmsProgress, SmsReported};
pub use sms::{
    SMS_TRIED_MAX, SmsBegun, SmsClass, SmsContent, SmsDraft, SmsEnd, SmsFilter, SmsIdempotency, SmsInserted,
    SmsOrder, SmsOwner, SmsPage, SmsQuota, SmsRange, SmsRecord, SmsRecovered, SmsStatus, SmsText, SmsTried,
};
pub use space::DiskRoom;
pub use types::{Due, EventId, PaymentId, PurgeStep, SessionId, SpendId, Timestamp, UserId};

use engine::boxed;
use engine::postgres::Postgres;
use engine::sled::{MIGRATIONS, PurgeWalks, Sled, agent, export, open};
use engine::{Engine, on_engine};

/// A handle to an open store; clones share it. The last one to go closes it.
#[derive(Clone)]
pub struct Store {
    engine: Arc<Engine>,
}

impl Store {
    /// Opens the store in a folder, and creates missing folders. Blocks while a store that was not closed is
    /// recovered, and for up to [`StoreOptions::lock_wait`] while another process (or another handle) has it open.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Locked`] when another process (or another handle) has it open for longer than that.
    /// - [`StoreError::FormatNewer`] when a newer version wrote it; nothing changes.
    /// - [`StoreError::Foreign`] when the folder holds a database that is not a store.
    /// - [`StoreError::HalfImported`] when [`Store::import`] did not finish in it.
    /// - [`StoreError::Damaged`] when the database lost an answered change or is not readable.
    /// - [`StoreError::Open`] when the folder cannot be used.
    pub fn open(path: impl AsRef<Path>, options: StoreOptions) -> Result<Store, StoreError> {
        let path = path.as_ref();
        Store::of_folder(path, open::open(path, &options)?)
    }

    fn of_folder(path: &Path, opened: open::Opened) -> Result<Store, StoreError> {
        let open::Opened { committer, tree, lock } = opened;
        let agents = Arc::new(agent::Agents::load(&tree)?);
        let purge = PurgeWalks::default();
        let unbound_up_to = SessionId(0);
        let mut sled = Sled { committer, tree, purge, agents, unbound_up_to, _lock: lock };
        sled.format_check(path, MIGRATIONS)?;
        sled.indexes_build()?;
        sled.files_recount()?;
        sled.note_unbound()?;
        Ok(Store { engine: Arc::new(Engine::Sled(sled)) })
    }

    /// Opens the store in a PostgreSQL database, and brings its tables up to date. The address is a URL or a key-value
    /// text as libpq takes it. The store lives on the runtime that this is called on.
    ///
    /// # Errors
    ///
    /// - [`StoreError::InUse`] while another gateway uses it.
    /// - [`StoreError::Database`] with one sentence: wrong address, user or password, missing rights, no such
    ///   database, a server before version 13, tables of a newer version.
    /// - [`StoreError::Unavailable`] while the server cannot be reached.
    #[boxed]
    pub async fn open_postgres(url: &str, options: StoreOptions) -> Result<Store, StoreError> {
        let postgres = Postgres::open(url, &options).await?;
        Ok(Store { engine: Arc::new(Engine::Postgres(postgres)) })
    }

    /// Creates a store in a folder from a file that [`Store::export`] wrote, and returns the number of records.
    /// `before_whole` runs when all records are written and opening would still refuse the store. New users,
    /// sessions, payments, spends, corrections, events, rooms, organizations, files and API keys are numbered from a
    /// million above the last one, or from a million if there was none. Blocks.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] when the file is incomplete, before anything is written;
    /// [`io::ErrorKind::AlreadyExists`] when the folder exists; those of reading, writing and `before_whole`.
    pub fn import(
        path: &Path,
        file: &mut File,
        before_whole: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<u64> {
        export::import(path, file, before_whole)
    }

    /// Puts another store in the place of this one, and forgets what is in this one: all of it or, after a crash,
    /// nothing. The other one is in a folder of its own on the same disk and is closed. Nobody can open this one
    /// before it is done. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] while another handle of either store is left; [`StoreError::Open`] when the folders
    /// cannot be changed. This store is then as it was.
    pub fn replace(self, path: &Path, with: &Path) -> Result<(), StoreError> {
        let Some(engine) = Arc::into_inner(self.engine) else {
            return Err(StoreError::Locked { path: path.to_owned() });
        };
        match engine {
            Engine::Sled(sled) => sled.replace(path, with),
            Engine::Postgres(_) => {
                let reason = "a database is not replaced by a folder: fill an empty one".to_owned();
                Err(StoreError::Database { reason })
            }
        }
    }

    /// Finishes the accepted changes, flushes, and ends the writer thread. Later changes answer
    /// [`StoreError::Closed`]; reads keep working while a handle exists. Blocks for about one flush. Dropping the
    /// last handle does the same. On PostgreSQL the accepted changes end by themselves: see [`Store::close_within`].
    pub fn close(&self) {
        on_engine!(self, close());
    }

    /// [`Store::close`] with a time limit; false when changes still run. Dropping the last handle then does not wait
    /// for them, either.
    #[must_use]
    pub fn close_within(&self, patience: Duration) -> bool {
        on_engine!(self, close_within(patience))
    }

    /// How long the oldest unanswered change has waited; zero when there is none.
    #[must_use]
    pub fn oldest_waiting(&self) -> Duration {
        on_engine!(self, oldest_waiting())
    }

    /// Whether the store is a folder of this machine, which can be replaced.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        matches!(&*self.engine, Engine::Sled(_))
    }

    /// The state of the disk's free space. On PostgreSQL the disk of [`StoreOptions::files_folder`], and never worse
    /// than [`DiskRoom::Reserve`]: the store's own disk is the server's, and a full one is the answer of a change
    /// ([`StoreError::Full`]).
    #[must_use]
    pub fn room(&self) -> DiskRoom {
        on_engine!(self, room())
    }

    /// Free bytes on the disk that [`Store::room`] is about; `None` when unknown.
    #[must_use]
    pub fn disk_free_bytes(&self) -> Option<u64> {
        on_engine!(self, disk_free_bytes())
    }

    /// Free bytes on that disk beyond [`StoreOptions::disk_reserve_bytes`], for work that can wait.
    #[must_use]
    pub fn disk_spare_bytes(&self) -> Option<u64> {
        on_engine!(self, disk_spare_bytes())
    }

    /// Returns true when the store holds nothing but the records of opening and the mark of the key.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    #[boxed]
    pub async fn is_empty(&self) -> Result<bool, StoreError> {
        on_engine!(self, read is_empty())
    }

    /// Whether nothing was ever stored but what a gateway stores that nobody used: see [`Store::is_empty`], and entries
    /// of the audit log.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    #[boxed]
    pub async fn is_unused(&self) -> Result<bool, StoreError> {
        on_engine!(self, read is_unused())
    }

    /// Counts at most `limit` records after a key. Returns the key to continue from, `None` at the end. The first key
    /// is empty. On PostgreSQL it returns the server's own estimate of all of them, and `None`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`]; [`StoreError::Closed`] when the runtime ends.
    #[boxed]
    pub async fn count_on(&self, after: &[u8], limit: usize) -> Result<(usize, Option<Vec<u8>>), StoreError> {
        on_engine!(self, count_on(after, limit).await)
    }

    /// The mark of the key that belongs to this store, as stored by [`Store::key_mark_set`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    #[boxed]
    pub async fn key_mark(&self) -> Result<Option<Vec<u8>>, StoreError> {
        on_engine!(self, read key_mark())
    }

    /// Stores the mark of the key that belongs to this store. The mark must not reveal the key.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn key_mark_set(&self, mark: [u8; 16]) -> Result<(), StoreError> {
        on_engine!(self, key_mark_set(mark).await)
    }

    /// [`Store::key_mark_set`], unless there is a mark already. Returns true when the mark of the store is this one. Of
    /// several gateways that make a key at the same time, one gets true.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn key_mark_claim(&self, mark: [u8; 16]) -> Result<bool, StoreError> {
        on_engine!(self, key_mark_claim(mark).await)
    }

    /// Whether changes can be made.
    #[must_use]
    pub fn health(&self) -> Health {
        on_engine!(self, health())
    }

    /// Returns true after a failed write: [`Store::health`] for every request, one atomic load. Never on PostgreSQL,
    /// which gets over what happens to it.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        on_engine!(self, has_failed())
    }

    /// Changes waiting for the writer or a connection, without those in progress.
    #[must_use]
    pub fn changes_waiting(&self) -> usize {
        on_engine!(self, changes_waiting())
    }

    /// Whether a change was refused since then because too many were waiting ([`StoreError::Busy`]).
    #[must_use]
    pub fn has_refused_since(&self, since: Instant) -> bool {
        on_engine!(self, has_refused_since(since))
    }

    /// Counters since the store was opened. On PostgreSQL each change is a batch, and writing is the time of COMMIT.
    #[must_use]
    pub fn commit_stats(&self) -> CommitStats {
        on_engine!(self, commit_stats())
    }

    /// Durably stores a value under a key reserved for measuring; nothing else reads it. The smallest possible state
    /// change, for the commit bench.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn probe_put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        on_engine!(self, probe_put(key, value).await)
    }

    /// The value stored by [`Store::probe_put`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    #[boxed]
    pub async fn probe_get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        on_engine!(self, read probe_get(key))
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("health", &self.health()).finish_non_exhaustive()
    }
}
