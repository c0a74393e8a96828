//! The audit log: every security event as a log line at once, and as a durable record a moment later.
//!
//! Events pass through a bounded queue to one task, which writes them in batches, so that no request waits for its
//! record. A crash can lose the records of its last milliseconds; their log lines are out. When the queue is full
//! because the store fails or is too slow, the record is dropped, counted, and reported as an error. Invariant: an
//! event contains no code, token, key, password or whole phone number; [`PhoneNumber`] masks itself, and [`mask_name`]
//! cuts typed names.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chelseru_store::{AuditDraft, AuditLog, Store, StoreError};
pub use chelseru_store::{AuditEntry, AuditPage, AuditQuery};
use tokio::sync::{mpsc, oneshot};

use super::role::{Operator, Proof, Reason};
use crate::ids::{SessionId, UserId};
#[cfg(doc)]
use crate::phone::PhoneNumber;
use crate::{Clock, Range};

/// Events waiting to be written: about 2 MiB.
const QUEUE_MAX: usize = 8192;
/// Events written in one change.
const BATCH_MAX: usize = 256;
/// Entries kept of each log.
pub const RECORDS: Range<u64> = Range::new(1000, 10_000_000, 100_000);
/// Days for which records are kept, within [`RECORDS`]; 0 keeps them.
pub const AUDIT_KEEP_DAYS: Range<u64> = Range::new(0, 36_500, 0);
/// Most entries examined for one page: some milliseconds of reading.
const LOOK_MAX: usize = 20_000;

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The kind of an event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum AuditKind {
            $($(#[$doc])* $name,)*
        }

        impl AuditKind {
            /// All kinds, for clients that list the accepted filters.
            pub const ALL: &[AuditKind] = &[$(AuditKind::$name,)*];

            /// The stable word in records and log lines.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(AuditKind::$name => $text,)*
                }
            }
        }
    };
}

events! {
    /// A code was handed to a provider.
    OtpSent = "otp_sent",
    /// A code was not sent, or the outcome is unknown; also a password reset without an account.
    OtpSendFailed = "otp_send_failed",
    /// A wrong, expired, burned or used code.
    OtpFailed = "otp_failed",
    /// The guess that burned a code.
    OtpBurned = "otp_burned",
    /// A session was opened: by code or by password.
    Login = "login",
    /// A wrong name or password.
    LoginFailed = "login_failed",
    /// A guess at a password that had to wait.
    LoginLocked = "login_locked",
    UserRegistered = "user_registered",
    SuperuserCreated = "superuser_created",
    UserDisabled = "user_disabled",
    UserEnabled = "user_enabled",
    UserRightsChanged = "user_rights_changed",
    /// A user erased the own account.
    UserErased = "user_erased",
    UserErasedByStaff = "user_erased_by_staff",
    /// The staff took a copy of everything of a user.
    UserExported = "user_exported",
    PasswordChanged = "password_changed",
    /// The given old password was wrong.
    PasswordChangeFailed = "password_change_failed",
    PasswordResetFailed = "password_reset_failed",
    PasswordReset = "password_reset",
    /// A phone number was added to an account.
    NumberAdded = "number_added",
    /// An operator made a token that sets a user's password once.
    ResetTokenMade = "reset_token_made",
    /// By an operator.
    PasswordOverridden = "password_overridden",
    /// A replaced refresh token was reused; its session was ended.
    RefreshReused = "refresh_reused",
    SessionRevoked = "session_revoked",
    /// An API key, a key of tokens, or the master key.
    KeyCreated = "key_created",
    /// An API key, or a token key whose tokens are no longer valid.
    KeyRevoked = "key_revoked",
    /// Recorded at every start, because changes made while nothing ran are not seen otherwise.
    ConfigLoaded = "config_loaded",
    ConfigChanged = "config_changed",
    ConfigRefused = "config_refused",
    PluginChanged = "plugin_changed",
    PluginRefused = "plugin_refused",
    /// The staff corrected a wallet or decided about a refund.
    MoneyDecided = "money_decided",
    /// An operator logged in to the console.
    ConsoleLogin = "console_login",
    /// A wrong password, code or link at the console's login.
    ConsoleLoginFailed = "console_login_failed",
    /// Sessions of the console were ended.
    ConsoleSessionEnded = "console_session_ended",
    /// A one-time link to the console was made.
    ConsoleLinkMade = "console_link_made",
    /// A second factor was set up, removed, or its recovery codes were made again.
    SecondFactorChanged = "second_factor_changed",
    /// An operator got, changed or lost a role.
    OperatorRoleChanged = "operator_role_changed",
    /// An operator took a list away.
    ListExported = "list_exported",
    /// An operator forgot the codes that counted against a number.
    CapLifted = "cap_lifted",
    /// An operator sent a message again; the subject is the new one.
    MessageResent = "message_resent",
    /// An operator read messages of a room.
    RoomMessagesRead = "room_messages_read",
    /// An operator changed a room or an organisation; the subject is its number.
    RoomChanged = "room_changed",
    /// An operator sent a webhook event again, or a test.
    WebhookReplayed = "webhook_replayed",
    /// An operator paused or resumed a webhook endpoint; the subject is its name.
    WebhookPaused = "webhook_paused",
    /// An operator had the ledger recomputed.
    LedgerVerified = "ledger_verified",
    /// A copy of everything was written, the key included; the subject is its folder.
    BackupWritten = "backup_written",
    /// This store was filled from a backup; the subject is its folder.
    BackupRestored = "backup_restored",
    /// This store was filled from another program; the subject is its database.
    StoreImported = "store_imported",
}

impl AuditKind {
    /// Who can cause the event: each group has its own limit, so nobody displaces the entries of others.
    fn log(self) -> AuditLog {
        use AuditKind::*;
        match self {
            OtpSent | OtpSendFailed | OtpFailed | OtpBurned | LoginFailed | LoginLocked | UserRegistered
            | PasswordResetFailed | ConsoleLoginFailed => AuditLog::Anyone,
            Login | PasswordChanged | PasswordChangeFailed | PasswordReset | RefreshReused
            | SessionRevoked | NumberAdded | UserErased => AuditLog::Account,
            SuperuserCreated | UserDisabled | UserEnabled | UserRightsChanged | UserErasedByStaff
            | UserExported | PasswordOverridden | ResetTokenMade | KeyCreated | KeyRevoked | ConfigLoaded
            | ConfigChanged | ConfigRefused | PluginChanged | PluginRefused | MoneyDecided
            | BackupWritten | BackupRestored | StoreImported | ConsoleLogin | ConsoleSessionEnded
            | ConsoleLinkMade | SecondFactorChanged | OperatorRoleChanged | ListExported
            | WebhookReplayed | WebhookPaused | LedgerVerified | CapLifted | MessageResent
            | RoomMessagesRead | RoomChanged => AuditLog::Operator,
        }
    }
}

/// One event. Made with [`AuditEvent::new`] and filled in.
#[derive(Debug, Clone)]
pub struct AuditEvent {
    pub kind: AuditKind,
    pub user: Option<UserId>,
    pub session: Option<SessionId>,
    pub ip: Option<IpAddr>,
    /// A masked number or name, a provider's or a file's name.
    pub subject: String,
    pub detail: String,
    /// The operator who acted on `user`.
    pub actor: Option<UserId>,
    pub before: String,
    pub after: String,
    pub reason: String,
}

impl AuditEvent {
    #[must_use]
    pub fn new(kind: AuditKind) -> Self {
        AuditEvent {
            kind,
            user: None,
            session: None,
            ip: None,
            subject: String::new(),
            detail: String::new(),
            actor: None,
            before: String::new(),
            after: String::new(),
            reason: String::new(),
        }
    }

    /// An event that an operator causes.
    #[must_use]
    pub fn by(operator: &Operator, kind: AuditKind) -> Self {
        let detail = match operator.proof() {
            Proof::Session(_) => "console".to_owned(),
            Proof::ApiKey(number) => format!("operator API, key {number}"),
            Proof::Machine => "command line".to_owned(),
        };
        AuditEvent { actor: operator.user(), ip: operator.ip(), detail, ..AuditEvent::new(kind) }
    }

    #[must_use]
    pub fn user(mut self, user: UserId) -> Self {
        self.user = Some(user);
        self
    }

    #[must_use]
    pub fn session(mut self, session: SessionId) -> Self {
        self.session = Some(session);
        self
    }

    #[must_use]
    pub fn ip(mut self, ip: Option<IpAddr>) -> Self {
        self.ip = ip;
        self
    }

    #[must_use]
    pub fn subject(mut self, subject: impl ToString) -> Self {
        self.subject = subject.to_string();
        self
    }

    /// What was changed, as it was and as it is.
    #[must_use]
    pub fn change(mut self, before: impl ToString, after: impl ToString) -> Self {
        (self.before, self.after) = (before.to_string(), after.to_string());
        self
    }

    /// Why an operator did it.
    #[must_use]
    pub fn reason(mut self, reason: &Reason) -> Self {
        reason.as_str().clone_into(&mut self.reason);
        self
    }

    #[must_use]
    pub fn detail(mut self, detail: impl ToString) -> Self {
        self.detail = detail.to_string();
        self
    }
}

enum Message {
    Record(AuditLog, AuditDraft),
    Flush(oneshot::Sender<()>),
}

/// A handle to the log; clones share it.
#[derive(Clone)]
pub struct Audit {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    clock: Arc<dyn Clock>,
    /// `None` in a log that only writes lines.
    queue: Option<mpsc::Sender<Message>>,
    records_max: AtomicU64,
    dropped: AtomicU64,
}

impl Audit {
    /// A log that writes lines only, for parts used alone.
    #[must_use]
    pub fn lines_only(store: Store, clock: Arc<dyn Clock>) -> Self {
        Audit { shared: Arc::new(Shared::new(store, clock, None)) }
    }

    /// A log that keeps at most `records_max` records each of what anybody can cause, of what takes an account, and
    /// of what takes an operator. Must be called in a runtime; its task writes until the last handle is dropped.
    #[must_use]
    pub fn start(store: Store, clock: Arc<dyn Clock>, records_max: u64) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let shared = Arc::new(Shared::new(store.clone(), clock, Some(sender)));
        shared.records_max.store(records_max, Ordering::Relaxed);
        // Not the shared state itself, which holds the sender: the task would wait for itself forever.
        let weak = Arc::downgrade(&shared);
        tokio::spawn(async move {
            let keep = move || weak.upgrade().map(|shared| shared.records_max.load(Ordering::Relaxed));
            write(store, receiver, keep).await;
        });
        Audit { shared }
    }

    /// Changes the number of records kept.
    pub fn records_max_set(&self, records_max: u64) {
        self.shared.records_max.store(records_max, Ordering::Relaxed);
    }

    /// Records dropped because the queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Writes the line and queues the record. Never waits.
    pub fn record(&self, event: AuditEvent) {
        let AuditEvent { kind, user, session, ip, subject, detail, actor, before, after, reason } = event;
        let ip_address = ip.map(|ip| ip.to_canonical().to_string()).unwrap_or_default();
        tracing::info!(
            target: "chelseru::audit",
            event = kind.as_str(),
            user.id = user.map(|user| user.0),
            session.id = session.map(|session| session.0),
            client.ip = ip_address,
            subject,
            detail,
            actor.id = actor.map(|actor| actor.0),
            before,
            after,
            "audit"
        );
        let Some(queue) = &self.shared.queue else { return };
        let event = kind.as_str().to_owned();
        let at = self.shared.clock.now();
        let draft = AuditDraft {
            at,
            event,
            user,
            session,
            ip_address,
            subject,
            detail,
            actor,
            before,
            after,
            reason,
        };
        if queue.try_send(Message::Record(kind.log(), draft)).is_err() {
            // Logged once per doubling, so a failing store does not flood the log, too.
            let dropped = self.shared.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::error!(dropped, "audit records are dropped: too many wait to be written");
            }
        }
    }

    /// Waits until everything recorded before is written, or failed.
    pub async fn flush(&self) {
        let Some(queue) = &self.shared.queue else { return };
        let (done, wait) = oneshot::channel();
        if queue.send(Message::Flush(done)).await.is_ok() {
            // A finished task has nothing left to write.
            let _ = wait.await;
        }
    }

    /// Removes records older than this, in one bounded step. Returns how much was removed.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn purge(&self, keep: Duration, limit: usize) -> Result<usize, StoreError> {
        let before = self.shared.clock.now().minus(keep);
        self.shared.store.audit_purge(before, limit).await
    }

    /// A page of the records; `query.look_max` is limited here.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn page(&self, query: AuditQuery) -> Result<AuditPage, StoreError> {
        self.shared.store.audit_page(&AuditQuery { look_max: LOOK_MAX, ..query }).await
    }
}

impl Shared {
    fn new(store: Store, clock: Arc<dyn Clock>, queue: Option<mpsc::Sender<Message>>) -> Self {
        let records_max = AtomicU64::new(RECORDS.default);
        Shared { store, clock, queue, records_max, dropped: AtomicU64::new(0) }
    }
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}

async fn write(store: Store, mut queue: mpsc::Receiver<Message>, keep: impl Fn() -> Option<u64>) {
    let mut messages = Vec::with_capacity(BATCH_MAX);
    let mut records_max = RECORDS.default;
    while queue.recv_many(&mut messages, BATCH_MAX).await > 0 {
        // The last handle may be dropped while its events still wait.
        records_max = keep().unwrap_or(records_max);
        let mut drafts = Vec::new();
        let mut flushes = Vec::new();
        for message in messages.drain(..) {
            match message {
                Message::Record(log, draft) => drafts.push((log, draft)),
                Message::Flush(done) => flushes.push(done),
            }
        }
        let count = drafts.len();
        if count > 0
            && let Err(error) = store.audit_append(drafts, records_max).await
        {
            tracing::error!(%error, records = count, "audit records could not be written");
        }
        for done in flushes {
            // The waiting caller may be gone.
            let _ = done.send(());
        }
    }
}

/// A typed name may hold a phone number or, by mistake, a password, so only its first two characters are kept.
#[must_use]
pub fn mask_name(name: &str) -> String {
    let start: String = name.chars().filter(|character| !character.is_control()).take(2).collect();
    format!("{start}***")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chelseru_store::StoreOptions;

    use super::*;
    use crate::clock::ManualClock;

    fn parts() -> (tempfile::TempDir, Store, Arc<ManualClock>) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        (folder, store, Arc::default())
    }

    async fn events(audit: &Audit) -> Vec<String> {
        let page = audit.page(AuditQuery { limit: 100_000, ..AuditQuery::default() }).await.unwrap();
        page.entries.into_iter().map(|entry| entry.draft.event).collect()
    }

    #[tokio::test]
    async fn events_are_durable_once_flushed_and_bounded() {
        let (_folder, store, clock) = parts();
        clock.advance(Duration::from_secs(7));
        let audit = Audit::start(store.clone(), clock, 300);
        let login = AuditEvent::new(AuditKind::Login).user(UserId(3)).ip("192.0.2.1".parse().ok());
        audit.record(login.subject("0912***4567").detail("by code"));
        audit.flush().await;
        let page = audit.page(AuditQuery { limit: 10, ..AuditQuery::default() }).await.unwrap();
        let draft = &page.entries[0].draft;
        assert_eq!((draft.event.as_str(), draft.user, draft.at.as_secs()), ("login", Some(UserId(3)), 7));
        assert_eq!((draft.ip_address.as_str(), draft.subject.as_str()), ("192.0.2.1", "0912***4567"));
        for _ in 0..1000 {
            audit.record(AuditEvent::new(AuditKind::OtpSent));
        }
        audit.flush().await;
        let with_login = |word, count| [vec![word; count], vec!["login"]].concat();
        assert_eq!(events(&audit).await, with_login("otp_sent", 300));
        audit.records_max_set(10);
        for _ in 0..10 {
            audit.record(AuditEvent::new(AuditKind::OtpFailed));
            audit.flush().await;
        }
        assert_eq!(events(&audit).await, with_login("otp_failed", 10));
        assert_eq!(audit.dropped(), 0);
    }

    #[tokio::test]
    async fn a_flood_pushes_out_nothing_that_it_could_not_cause() {
        let (_folder, store, clock) = parts();
        let audit = Audit::start(store, clock, 100);
        audit.record(AuditEvent::new(AuditKind::KeyCreated));
        for n in 0..1000 {
            audit.record(AuditEvent::new(AuditKind::OtpFailed));
            audit.record(AuditEvent::new(AuditKind::RefreshReused));
            if n % 250 == 0 {
                audit.record(AuditEvent::new(AuditKind::PluginChanged));
            }
        }
        audit.flush().await;
        let events = events(&audit).await;
        let count = async |word: &str| events.iter().filter(|event| *event == word).count();
        assert_eq!((count("otp_failed").await, count("refresh_reused").await), (100, 100));
        assert_eq!((count("plugin_changed").await, count("key_created").await), (4, 1));
        assert_eq!((events.len(), events.last().unwrap().as_str()), (205, "key_created"));
    }

    #[tokio::test]
    async fn a_full_queue_drops_counts_and_never_waits() {
        let (_folder, store, clock) = parts();
        let audit = Audit::start(store, clock, 1_000_000);
        // Nothing here lets the writing task run.
        for _ in 0..QUEUE_MAX + 5 {
            audit.record(AuditEvent::new(AuditKind::Login));
        }
        assert_eq!(audit.dropped(), 5);
        audit.flush().await;
        assert_eq!(events(&audit).await.len(), QUEUE_MAX);
    }

    #[tokio::test]
    async fn a_failed_store_does_not_stop_the_caller() {
        let (_folder, store, clock) = parts();
        let audit = Audit::start(store.clone(), clock, 10);
        store.close();
        audit.record(AuditEvent::new(AuditKind::Login));
        audit.flush().await;
        assert_eq!(events(&audit).await, [""; 0]);
    }

    #[test]
    fn words_differ_and_names_are_masked() {
        let words: std::collections::BTreeSet<_> = AuditKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(words.len(), AuditKind::ALL.len());
        assert_eq!(mask_name("G0-09121234567"), "G0***");
        assert_eq!(mask_name("\u{0}\na"), "a***");
        assert_eq!(mask_name(""), "***");
    }
}
