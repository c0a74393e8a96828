//! Messages: one durable record each, from before a provider is asked to its final state.
//!
//! A message moves Queued <-> Sending -> Accepted -> Delivered, or ends Failed, Unknown or Expired, and never leaves
//! an end. A delivery report only moves forward: Accepted to Delivered or Failed, Failed to Delivered. Invariants: a
//! provider is asked only after `sms_insert` or `sms_begin` has made the attempt durable. [`Store::sms_recover`]
//! finds an attempt that a crash interrupted. Waiting messages can be read in order of time without reading the
//! others.
//!
//! Keys (all under `q`, see [`keys::sms`]): `m` records, `d` waiting ones by due time, `b` begun ones, `n` by number,
//! `p` by the provider's id, `s` by the time of the next status poll, `i` idempotency keys, `u` daily counts of API
//! keys. The id is the microsecond of creation (see the domain's `LocalIds`), so ids sort by time.
//!
//! Not here: the choice of a provider, and when to retry or give up (`chelseru-domain::sms`).

pub(crate) mod import;
pub(crate) mod moving;
pub(crate) mod postgres;
pub(crate) mod report;
mod rules;
pub(crate) mod sled;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, boxed, on_engine};
use crate::types::absent;
use crate::{Due, Store, StoreError, Timestamp};

/// Attempts kept in a record; the newest ones.
pub const SMS_TRIED_MAX: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SmsStatus {
    /// Waits until it is due.
    Queued,
    /// A provider is being asked.
    Sending,
    /// A provider accepted it.
    Accepted,
    /// Arrived at the handset.
    Delivered,
    /// Certainly not sent, or not delivered.
    Failed,
    /// May have been sent; is never sent again.
    Unknown,
    /// Its deadline passed before a provider accepted it.
    Expired,
}

impl SmsStatus {
    /// Returns true when nothing is sent any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, SmsStatus::Queued | SmsStatus::Sending)
    }
}

/// The content to send.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SmsContent {
    /// Not stored, because one-time codes are stored nowhere in clear text.
    Hidden,
    Text(String),
    /// A template by its name in the configuration.
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

/// Who requested a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub enum SmsOwner {
    /// The gateway itself, or staff.
    Gateway,
    /// An API key, by its number.
    ApiKey(u64),
}

/// API keys are numbered from 1; records say 0 for the gateway.
impl From<u64> for SmsOwner {
    fn from(number: u64) -> Self {
        if number == 0 { SmsOwner::Gateway } else { SmsOwner::ApiKey(number) }
    }
}

impl From<SmsOwner> for u64 {
    fn from(owner: SmsOwner) -> Self {
        match owner {
            SmsOwner::Gateway => 0,
            SmsOwner::ApiKey(number) => number,
        }
    }
}

/// An attempt in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmsBegun {
    pub provider: String,
    /// This provider may be asked again with the same id without sending twice.
    pub deduplicates: bool,
}

/// An attempt that did not send, or not certainly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmsTried {
    pub provider: String,
    /// A stable word: `insufficient_credit`.
    pub code: String,
    /// The provider's own code.
    #[serde(with = "absent")]
    pub provider_code: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmsRecord {
    pub status: SmsStatus,
    pub id: u64,
    /// E.164.
    pub number: String,
    pub content: SmsContent,
    pub class: SmsClass,
    pub owner: SmsOwner,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// When it is tried next; only meaningful while it waits.
    pub due_at: Timestamp,
    /// No attempt starts after this instant.
    pub deadline: Timestamp,
    /// Passes over the providers without a result.
    pub rounds: u32,
    pub begun: Option<SmsBegun>,
    /// Only this provider may be asked: it may have the message, and knows its id.
    pub resume_with: Option<String>,
    /// The provider that accepted it.
    #[serde(with = "absent")]
    pub provider: Option<String>,
    /// The provider's id of it.
    #[serde(with = "absent")]
    pub provider_message_id: Option<String>,
    pub cost_rial: Option<u64>,
    /// Why it failed: a stable word.
    #[serde(with = "absent")]
    pub error: Option<String>,
    pub tried: Vec<SmsTried>,
    /// When to poll the provider for delivery.
    #[serde(with = "absent")]
    pub poll_at: Option<Timestamp>,
    pub polls: u32,
}

/// A message to be sent.
#[derive(Debug, Clone)]
pub struct SmsDraft {
    pub id: u64,
    pub number: String,
    pub content: SmsContent,
    pub class: SmsClass,
    pub owner: SmsOwner,
    pub created_at: Timestamp,
    pub deadline: Timestamp,
    /// The first attempt, when it begins at once; otherwise the message is queued.
    pub begun: Option<SmsBegun>,
    /// Providers skipped before it.
    pub tried: Vec<SmsTried>,
    pub idempotency: Option<SmsIdempotency>,
    pub quota: Option<SmsQuota>,
    /// Most waiting messages; one more is refused. Applies only to messages that wait from the start.
    pub queue_max: u64,
}

/// A client's key for this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmsIdempotency {
    /// Hash over the caller and its key.
    pub key: [u8; 32],
    /// Hash over the request.
    pub request: [u8; 32],
    /// Most stored keys; one more is refused.
    pub keys_max: u64,
}

/// An API key's daily cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmsQuota {
    pub api_key: u64,
    /// Days since 1970.
    pub day: u64,
    pub cap: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SmsInserted {
    Inserted,
    /// A repeat of an earlier request; its message as it stands. `None` when it was purged.
    Repeated(Option<Box<SmsRecord>>),
    /// The idempotency key was used for another request.
    KeyReused,
    /// The API key's daily cap is reached.
    QuotaReached,
    /// Too many messages wait, or too many idempotency keys are stored.
    Full,
}

/// How an attempt, or the whole message, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SmsEnd {
    Accepted {
        provider: String,
        provider_message_id: Option<String>,
        cost_rial: Option<u64>,
        /// When to poll the provider for delivery.
        poll_at: Option<Timestamp>,
    },
    Failed,
    Unknown,
    Expired,
    /// Retry at `due_at`.
    Retry {
        due_at: Timestamp,
        resume_with: Option<String>,
    },
}

/// The result of [`Store::sms_recover`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SmsRecovered {
    /// Waiting for another attempt: with the same id, or because no provider had the message.
    pub resumed: usize,
    pub unknown: usize,
    /// Not sent, and given up.
    pub failed: usize,
}

/// Which messages to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct SmsFilter {
    pub number: Option<String>,
    pub status: Option<SmsStatus>,
    pub provider: Option<String>,
    pub owner: Option<SmsOwner>,
    pub text: Option<SmsText>,
}

/// What a message's text or values must hold. Hidden content holds nothing.
#[derive(Clone)]
pub struct SmsText {
    /// All of them, in the form of `folded`.
    pub parts: Vec<String>,
    /// A text in the form in which parts are compared.
    pub folded: fn(&str) -> String,
}

/// Without the text, which is a person's.
impl std::fmt::Debug for SmsText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SmsText(..)")
    }
}

/// The range of ids to list, and the direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmsRange {
    /// Inclusive.
    pub from: u64,
    /// Exclusive.
    pub to: u64,
    pub order: SmsOrder,
}

/// Which end of a range comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmsOrder {
    NewestFirst,
    OldestFirst,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmsPage {
    pub messages: Vec<SmsRecord>,
    /// Where the scan stopped after examining enough records; `None` at the end of the range or when the page is
    /// full.
    pub stopped_at: Option<u64>,
}

impl Store {
    /// Stores a message and the start of its first attempt, or returns why not.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn sms_insert(&self, draft: SmsDraft) -> Result<SmsInserted, StoreError> {
        on_engine!(self, sms_insert(draft).await)
    }

    /// Makes durable that a provider is about to be asked; `failed` are the attempts since the last change. False
    /// when the message has ended or is gone; it must not be sent then.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn sms_begin(
        &self,
        id: u64,
        begun: SmsBegun,
        failed: Vec<SmsTried>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        on_engine!(self, sms_begin(id, begun, failed, now).await)
    }

    /// Makes durable that the attempts so far did not send and that no attempt is in progress, although the message
    /// is not queued. False when it has ended or is gone.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn sms_rest(&self, id: u64, failed: Vec<SmsTried>, now: Timestamp) -> Result<bool, StoreError> {
        on_engine!(self, sms_rest(id, failed, now).await)
    }

    /// Ends an attempt and returns the message. An ended message stays unchanged.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn sms_end(
        &self,
        id: u64,
        end: SmsEnd,
        failed: Vec<SmsTried>,
        now: Timestamp,
    ) -> Result<Option<SmsRecord>, StoreError> {
        on_engine!(self, sms_end(id, end, failed, now).await)
    }

    /// Due messages, oldest first, at most `limit`, without those in `skip`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn sms_due(
        &self,
        due: Due,
        limit: usize,
        skip: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<Vec<SmsRecord>, StoreError> {
        on_engine!(self, read sms_due(due, limit, skip))
    }

    /// When the next waiting message is due.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    #[boxed]
    pub async fn sms_next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        on_engine!(self, read sms_next_due())
    }

    /// Number of waiting messages.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn sms_waiting(&self) -> Result<u64, StoreError> {
        on_engine!(self, read sms_waiting())
    }

    /// Settles what the last process left in progress, or another gateway that was not seen for 15 s. An attempt whose
    /// provider knows our id waits to be asked again, at that provider only; any other attempt has an unknown outcome.
    /// Between two attempts no provider has the message: it waits for the next attempt, or has failed when its text is
    /// not stored. A gateway that is alone calls it before anything is sent; one that shares the database may call it
    /// at any time.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn sms_recover(&self, now: Timestamp) -> Result<SmsRecovered, StoreError> {
        on_engine!(self, sms_recover(now).await)
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn sms_get(&self, id: u64) -> Result<Option<SmsRecord>, StoreError> {
        on_engine!(self, read sms_get(id))
    }

    /// The highest id in use; 0 when there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    #[boxed]
    pub async fn sms_last_id(&self) -> Result<u64, StoreError> {
        on_engine!(self, read sms_last_id())
    }

    /// Messages in a range of ids that match a filter, at most `limit`; examines at most `looked_max` records.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn sms_page(
        &self,
        filter: &SmsFilter,
        range: SmsRange,
        limit: usize,
        looked_max: usize,
    ) -> Result<SmsPage, StoreError> {
        on_engine!(self, read sms_page(filter, range, limit, looked_max))
    }

    /// Removes the oldest messages that ended before `before`, examining at most `limit` records.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and any error of a change.
    #[boxed]
    pub async fn sms_purge(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        on_engine!(self, sms_purge(before, limit).await)
    }

    /// Removes idempotency keys older than a day, examining at most `limit` of them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and any error of a change.
    #[boxed]
    pub async fn sms_idempotency_purge(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        on_engine!(self, sms_idempotency_purge(now, limit).await)
    }
}
