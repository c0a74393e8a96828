//! Messages: a durable record each, from before a provider is asked to its one final state.
//!
//! A message moves Queued <-> Sending -> Accepted -> Delivered, or ends Failed, Unknown or Expired; never back
//! from an end. A delivery report moves only forward: Accepted to Delivered or Failed, Failed to Delivered.
//! Invariants: a provider is asked only after `sms_insert` or `sms_begin` has made the attempt durable; an
//! attempt that a crash cut off is found again by [`Store::sms_recover`]; what waits can be taken in the order
//! of its time without reading the rest.
//!
//! Keys (all under `q`, see [`keys::sms`]): `m` records, `d` waiting ones by due time, `b` begun ones, `n` by
//! number, `p` by the provider's id, `s` by the time to ask what became of them, `i` idempotency keys, `u` daily
//! counts of API keys. The id is the microsecond of creation (see the domain's `LocalIds`), so the order of ids
//! is the order of time.
//!
//! Not here: which provider, when to try again, when to give up (`chelseru-domain::sms`).

pub(crate) mod report;
pub(crate) mod sled;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, on_engine};
use crate::{Store, StoreError, Timestamp};

/// Attempts that a record remembers; the newest ones.
pub const SMS_TRIED_MAX: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SmsStatus {
    /// Waits for its time.
    Queued,
    /// A provider is being asked.
    Sending,
    /// A provider took it.
    Accepted,
    /// On the handset.
    Delivered,
    /// Certainly not sent, or not delivered.
    Failed,
    /// May have been sent; never sent again.
    Unknown,
    /// Its time ran out before a provider took it.
    Expired,
}

impl SmsStatus {
    /// Nothing is sent any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, SmsStatus::Queued | SmsStatus::Sending)
    }
}

/// What is sent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SmsContent {
    /// Not stored: one-time codes lie nowhere in clear.
    Hidden,
    Text(String),
    /// A template by its logical name.
    Template {
        name: String,
        values: Vec<(String, String)>,
        fallback_text: Option<String>,
    },
}

impl std::fmt::Debug for SmsContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SmsContent::Hidden => "Hidden",
            SmsContent::Text(_) => "Text(..)",
            SmsContent::Template { .. } => "Template(..)",
        })
    }
}

/// The purpose of a message. Limits and sender lines may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SmsClass {
    Otp,
    Notice,
}

/// An attempt that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmsBegun {
    pub provider: String,
    /// Asking this provider again with the same id cannot send twice.
    pub deduplicates: bool,
}

/// An attempt that did not send, or not certainly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmsTried {
    pub provider: String,
    /// A stable word: `insufficient_credit`.
    pub code: String,
    /// The provider's own code, where it gave one; else empty.
    pub provider_code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmsRecord {
    pub status: SmsStatus,
    pub id: u64,
    /// E.164.
    pub number: String,
    pub content: SmsContent,
    pub class: SmsClass,
    /// The API key that asked for it; 0 for the gateway's own and for staff.
    pub owner: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// When it is tried (again); only meaningful while it waits.
    pub due_at: Timestamp,
    /// After this, nothing is tried.
    pub deadline: Timestamp,
    /// Rounds over the providers that ended without a result.
    pub rounds: u32,
    pub begun: Option<SmsBegun>,
    /// Only this provider may be asked: it may have the message, and knows its id.
    pub resume_with: Option<String>,
    /// Who took it; empty before that.
    pub provider: String,
    pub provider_message_id: String,
    pub cost_rial: Option<u64>,
    /// Why it ended as it did: a stable word, empty while it has not failed.
    pub error: String,
    pub tried: Vec<SmsTried>,
    /// When the provider is asked what became of it; 0 when it is not.
    pub poll_at: Timestamp,
    pub polls: u32,
}

/// A message that shall be sent.
#[derive(Debug, Clone)]
pub struct SmsDraft {
    pub id: u64,
    pub number: String,
    pub content: SmsContent,
    pub class: SmsClass,
    pub owner: u64,
    pub created_at: Timestamp,
    pub deadline: Timestamp,
    /// The first attempt, when it begins at once; else the message waits from now on.
    pub begun: Option<SmsBegun>,
    /// Providers that were passed over before it.
    pub tried: Vec<SmsTried>,
    pub idempotency: Option<SmsIdempotency>,
    pub quota: Option<SmsQuota>,
    /// Messages that may wait; one more is refused. Counts only those that wait from the start.
    pub queue_max: u64,
}

/// A client's key for this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmsIdempotency {
    /// Hash over the caller and its key.
    pub key: [u8; 32],
    /// Hash over what was asked for.
    pub request: [u8; 32],
    /// Keys remembered at once; one more is refused.
    pub keys_max: u64,
}

/// An API key's daily cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmsQuota {
    pub owner: u64,
    /// Days since 1970.
    pub day: u64,
    pub cap: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SmsInserted {
    Inserted,
    /// The same request was made before; this is its message, as it stands. `None` when it was purged.
    Repeated(Option<Box<SmsRecord>>),
    /// The idempotency key was used for another request.
    KeyReused,
    /// The API key's cap for the day is reached.
    QuotaReached,
    /// Too many messages wait, or too many idempotency keys are remembered.
    Full,
}

/// How an attempt, or the whole message, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SmsEnd {
    Accepted {
        provider: String,
        provider_message_id: String,
        cost_rial: Option<u64>,
        /// When to ask the provider what became of it.
        poll_at: Option<Timestamp>,
    },
    Failed,
    Unknown,
    Expired,
    /// Tried again at `due_at`.
    Retry {
        due_at: Timestamp,
        resume_with: Option<String>,
    },
}

/// What [`Store::sms_recover`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SmsRecovered {
    /// Waiting for another attempt: with the same id, or because nobody had the message.
    pub resumed: usize,
    pub unknown: usize,
    /// Not sent, and not to be sent any more.
    pub failed: usize,
}

/// Which messages to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct SmsFilter {
    pub number: Option<String>,
    pub status: Option<SmsStatus>,
    pub provider: Option<String>,
    /// Only this owner's.
    pub owner: Option<u64>,
}

/// Ids between which to list, and which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmsRange {
    /// Inclusive.
    pub from: u64,
    /// Exclusive.
    pub to: u64,
    /// Oldest first.
    pub ascending: bool,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmsPage {
    pub messages: Vec<SmsRecord>,
    /// Where the walk stopped because it had looked at enough records; `None` at the end of the range or when
    /// the page is full.
    pub stopped_at: Option<u64>,
}

impl Store {
    /// Stores a message, and the beginning of its first attempt, or says why not.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn sms_insert(&self, draft: SmsDraft) -> Result<SmsInserted, StoreError> {
        on_engine!(self, sms_insert(draft).await)
    }

    /// Makes durable that a provider is about to be asked; `failed` are the attempts since the last change.
    /// False when the message has ended or is gone: then it must not be sent.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn sms_begin(
        &self,
        id: u64,
        begun: SmsBegun,
        failed: Vec<SmsTried>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        on_engine!(self, sms_begin(id, begun, failed, now).await)
    }

    /// Makes durable that the attempts so far did not send, and that nobody is being asked now, although the message
    /// does not wait in the queue. False when it has ended or is gone.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn sms_rest(&self, id: u64, failed: Vec<SmsTried>, now: Timestamp) -> Result<bool, StoreError> {
        on_engine!(self, sms_rest(id, failed, now).await)
    }

    /// Ends an attempt. A message that has ended stays as it is; the message as it stands is returned.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn sms_end(
        &self,
        id: u64,
        end: SmsEnd,
        failed: Vec<SmsTried>,
        now: Timestamp,
    ) -> Result<Option<SmsRecord>, StoreError> {
        on_engine!(self, sms_end(id, end, failed, now).await)
    }

    /// Waiting messages whose time has come, oldest first, at most `limit`, without those in `skip`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn sms_due(
        &self,
        now: Timestamp,
        limit: usize,
        skip: impl Fn(u64) -> bool,
    ) -> Result<Vec<SmsRecord>, StoreError> {
        on_engine!(self, read sms_due(now, limit, skip))
    }

    /// When the next waiting message is due.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub async fn sms_next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        on_engine!(self, read sms_next_due())
    }

    /// Messages that wait.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn sms_waiting(&self) -> Result<u64, StoreError> {
        on_engine!(self, read sms_waiting())
    }

    /// Settles what the last process left being sent: an attempt whose provider knows our id waits to be asked again,
    /// and only that provider; any other attempt has an unknown outcome. Between two attempts nobody has the message:
    /// it waits for the next one, or, when its text is in no record, has failed. Call it before anything is sent.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn sms_recover(&self, now: Timestamp) -> Result<SmsRecovered, StoreError> {
        on_engine!(self, sms_recover(now).await)
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn sms_get(&self, id: u64) -> Result<Option<SmsRecord>, StoreError> {
        on_engine!(self, read sms_get(id))
    }

    /// The highest id in use; 0 when there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub async fn sms_last_id(&self) -> Result<u64, StoreError> {
        on_engine!(self, read sms_last_id())
    }

    /// Messages in a range of ids that pass a filter, at most `limit`; looks at `looked_max` records at most.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn sms_page(
        &self,
        filter: &SmsFilter,
        range: SmsRange,
        limit: usize,
        looked_max: usize,
    ) -> Result<SmsPage, StoreError> {
        on_engine!(self, read sms_page(filter, range, limit, looked_max))
    }

    /// Removes the oldest messages that ended before `before`, looking at `limit` records at most.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and those of every change.
    pub async fn sms_purge(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        on_engine!(self, sms_purge(before, limit).await)
    }

    /// Forgets idempotency keys that are older than a day, looking at `limit` of them at most.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and those of every change.
    pub async fn sms_idempotency_purge(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        on_engine!(self, sms_idempotency_purge(now, limit).await)
    }
}
