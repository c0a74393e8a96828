//! Messages: a durable record each, from before a provider is asked to its one final state.
//!
//! A message moves Queued <-> Sending -> Accepted -> Delivered, or ends Failed, Unknown or Expired; never back
//! from an end. A delivery report moves only forward: Accepted to Delivered or Failed, Failed to Delivered.
//! Invariants: a provider is asked only after `message_insert` or `message_begin` has made the attempt durable; an
//! attempt that a crash cut off is found again by [`Store::messages_recover`]; what waits can be taken in the order
//! of its time without reading the rest.
//!
//! Keys (all under `q`, see [`keys::sms`]): `m` records, `d` waiting ones by due time, `b` begun ones, `n` by
//! number, `p` by the provider's id, `s` by the time to ask what became of them, `i` idempotency keys, `u` daily
//! counts of API keys. The id is the microsecond of creation (see the domain's `LocalIds`), so the order of ids
//! is the order of time.
//!
//! Not here: which provider, when to try again, when to give up (`chelseru-domain::sms`).

use serde::{Deserialize, Serialize};
use sled::IVec;

use crate::engine::sled::error;
use crate::engine::sled::keys::sms as keys;
use crate::engine::sled::record::{Record, decode, decode_u64, encode_u64};
use crate::engine::sled::txn::Txn;
use crate::{Store, StoreError, Timestamp};

/// Attempts that a record remembers; the newest ones.
pub const TRIED_MAX: usize = 16;

/// How long a repeated Idempotency-Key answers with the first result.
const IDEMPOTENCY_TTL: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessageStatus {
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

impl MessageStatus {
    /// Nothing is sent any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, MessageStatus::Queued | MessageStatus::Sending)
    }
}

/// What is sent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessageContent {
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

impl std::fmt::Debug for MessageContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            MessageContent::Hidden => "Hidden",
            MessageContent::Text(_) => "Text(..)",
            MessageContent::Template { .. } => "Template(..)",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessageClass {
    Otp,
    Notice,
}

/// An attempt that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    pub provider: String,
    /// Asking this provider again with the same id cannot send twice.
    pub deduplicates: bool,
}

/// An attempt that did not send, or not certainly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    pub provider: String,
    /// A stable word: `insufficient_credit`.
    pub code: String,
    /// The provider's own code, where it gave one; else empty.
    pub provider_code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub status: MessageStatus,
    pub id: u64,
    /// E.164.
    pub number: String,
    pub content: MessageContent,
    pub class: MessageClass,
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
    pub begun: Option<Begun>,
    /// Only this provider may be asked: it may have the message, and knows its id.
    pub resume_with: Option<String>,
    /// Who took it; empty before that.
    pub provider: String,
    pub provider_message_id: String,
    pub cost_rial: Option<u64>,
    /// Why it ended as it did: a stable word, empty while it has not failed.
    pub error: String,
    pub tried: Vec<Tried>,
    /// When the provider is asked what became of it; 0 when it is not.
    pub poll_at: Timestamp,
    pub polls: u32,
}

impl Record for Message {
    const KIND: &'static str = "message";
    const SCHEMA: u8 = 1;
}

/// A message that shall be sent.
#[derive(Debug, Clone)]
pub struct MessageDraft {
    pub id: u64,
    pub number: String,
    pub content: MessageContent,
    pub class: MessageClass,
    pub owner: u64,
    pub created_at: Timestamp,
    pub deadline: Timestamp,
    /// The first attempt, when it begins at once; else the message waits from now on.
    pub begun: Option<Begun>,
    /// Providers that were passed over before it.
    pub tried: Vec<Tried>,
    pub idempotency: Option<IdempotencyDraft>,
    pub quota: Option<Quota>,
    /// Messages that may wait; one more is refused. Counts only those that wait from the start.
    pub queue_max: u64,
}

/// A client's key for this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotencyDraft {
    /// Hash over the caller and its key.
    pub key: [u8; 32],
    /// Hash over what was asked for.
    pub request: [u8; 32],
    /// Keys remembered at once; one more is refused.
    pub keys_max: u64,
}

/// An API key's daily cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    pub owner: u64,
    /// Days since 1970.
    pub day: u64,
    pub cap: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageInserted {
    Inserted,
    /// The same request was made before; this is its message, as it stands. `None` when it was purged.
    Repeated(Option<Box<Message>>),
    /// The idempotency key was used for another request.
    KeyReused,
    /// The API key's cap for the day is reached.
    QuotaReached,
    /// Too many messages wait, or too many idempotency keys are remembered.
    Full,
}

/// How an attempt, or the whole message, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageEnd {
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

/// How far a provider says a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// At the provider or the carrier.
    Underway,
    Delivered,
    Failed,
    /// The provider does not know it (any more).
    NotKnown,
}

/// What a delivery report did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    Moved,
    /// Repeated, late or nothing new.
    Unchanged,
    /// No message of this provider has the id.
    UnknownId,
}

/// What [`Store::messages_recover`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Waiting for another attempt: with the same id, or because nobody had the message.
    pub resumed: usize,
    pub unknown: usize,
    /// Not sent, and not to be sent any more.
    pub failed: usize,
}

/// Which messages to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct MessageFilter {
    pub number: Option<String>,
    pub status: Option<MessageStatus>,
    pub provider: Option<String>,
    /// Only this owner's.
    pub owner: Option<u64>,
}

/// Ids between which to list, and which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageRange {
    /// Inclusive.
    pub from: u64,
    /// Exclusive.
    pub to: u64,
    /// Oldest first.
    pub ascending: bool,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagePage {
    pub messages: Vec<Message>,
    /// Where the walk stopped because it had looked at enough records; `None` at the end of the range or when
    /// the page is full.
    pub stopped_at: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Idempotency {
    created_at: Timestamp,
    request: [u8; 32],
    message: u64,
}

impl Record for Idempotency {
    const KIND: &'static str = "idempotency key";
    const SCHEMA: u8 = 1;
}

impl Idempotency {
    fn expired(&self, now: Timestamp) -> bool {
        self.created_at.plus(IDEMPOTENCY_TTL) <= now
    }
}

impl Store {
    /// Stores a message, and the beginning of its first attempt, or says why not.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn message_insert(&self, draft: MessageDraft) -> Result<MessageInserted, StoreError> {
        self.change(move |txn| insert(txn, draft)).await
    }

    /// Makes durable that a provider is about to be asked; `failed` are the attempts since the last change.
    /// False when the message has ended or is gone: then it must not be sent.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn message_begin(
        &self,
        id: u64,
        begun: Begun,
        failed: Vec<Tried>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.change(move |txn| {
            let Some(mut message) = txn.get_record::<Message>(&keys::message(id))? else { return Ok(false) };
            match message.status {
                MessageStatus::Queued => leave_queue(txn, &message)?,
                MessageStatus::Sending => {}
                _ => return Ok(false),
            }
            message.status = MessageStatus::Sending;
            message.begun = Some(begun);
            message.updated_at = now;
            note(&mut message, failed);
            txn.put(keys::begun(id), IVec::default());
            txn.put_record(keys::message(id), &message);
            Ok(true)
        })
        .await
    }

    /// Makes durable that the attempts so far did not send, and that nobody is being asked now, although the message
    /// does not wait in the queue. False when it has ended or is gone.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn message_rest(
        &self,
        id: u64,
        failed: Vec<Tried>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.change(move |txn| {
            let Some(mut message) = txn.get_record::<Message>(&keys::message(id))? else { return Ok(false) };
            if message.status != MessageStatus::Sending {
                return Ok(false);
            }
            // Its key among the begun ones stays: that is how it is found after a stop.
            message.begun = None;
            message.updated_at = now;
            note(&mut message, failed);
            txn.put_record(keys::message(id), &message);
            Ok(true)
        })
        .await
    }

    /// Ends an attempt. A message that has ended stays as it is; the message as it stands is returned.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn message_end(
        &self,
        id: u64,
        end: MessageEnd,
        failed: Vec<Tried>,
        now: Timestamp,
    ) -> Result<Option<Message>, StoreError> {
        self.change(move |txn| {
            let Some(mut message) = txn.get_record::<Message>(&keys::message(id))? else { return Ok(None) };
            if !message.status.is_final() {
                ended(txn, &mut message, end, failed, now)?;
            }
            Ok(Some(message))
        })
        .await
    }

    /// Waiting messages whose time has come, oldest first, at most `limit`, without those in `skip`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn messages_due(
        &self,
        now: Timestamp,
        limit: usize,
        skip: impl Fn(u64) -> bool,
    ) -> Result<Vec<Message>, StoreError> {
        let mut due = Vec::new();
        for entry in self.tree.range(keys::due(Timestamp::default(), 0)..keys::due(now, u64::MAX)) {
            if due.len() >= limit {
                break;
            }
            let (key, _) = entry.map_err(error::read)?;
            let Some(id) = keys::id_of(&key).filter(|id| !skip(*id)) else { continue };
            if let Some(message) = self.message_get(id)? {
                due.push(message);
            }
        }
        Ok(due)
    }

    /// When the next waiting message is due.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub fn message_next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        match self.tree.scan_prefix(keys::DUE).next() {
            None => Ok(None),
            Some(entry) => Ok(keys::due_of(&entry.map_err(error::read)?.0)),
        }
    }

    /// Messages that wait.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn messages_waiting(&self) -> Result<u64, StoreError> {
        self.counter(keys::WAITING)
    }

    /// Settles what the last process left being sent: an attempt whose provider knows our id waits to be asked again,
    /// and only that provider; any other attempt has an unknown outcome. Between two attempts nobody has the message:
    /// it waits for the next one, or, when its text is in no record, has failed. Call it before anything is sent.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn messages_recover(&self, now: Timestamp) -> Result<Recovered, StoreError> {
        self.change(move |txn| {
            let mut recovered = Recovered::default();
            // As many as could run at once.
            for (key, _) in txn.scan(keys::BEGUN, usize::MAX)? {
                let Some(id) = keys::id_of(&key) else { continue };
                let Some(mut message) = txn.get_record::<Message>(&keys::message(id))? else {
                    txn.delete(key);
                    continue;
                };
                let hidden = message.content == MessageContent::Hidden;
                let again = !hidden && now < message.deadline;
                let end = match &message.begun {
                    Some(Begun { provider, deduplicates: true }) if again => {
                        MessageEnd::Retry { due_at: now, resume_with: Some(provider.clone()) }
                    }
                    Some(_) => MessageEnd::Unknown,
                    None if again => MessageEnd::Retry { due_at: now, resume_with: None },
                    None if hidden => MessageEnd::Failed,
                    None => MessageEnd::Expired,
                };
                match &end {
                    MessageEnd::Retry { .. } => recovered.resumed += 1,
                    MessageEnd::Unknown => recovered.unknown += 1,
                    _ => recovered.failed += 1,
                }
                let interrupted = message.begun.iter().map(|begun| Tried {
                    provider: begun.provider.clone(),
                    code: "interrupted".to_owned(),
                    provider_code: String::new(),
                });
                let interrupted = interrupted.collect();
                ended(txn, &mut message, end, interrupted, now)?;
            }
            Ok(recovered)
        })
        .await
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn message_get(&self, id: u64) -> Result<Option<Message>, StoreError> {
        let bytes = self.tree.get(keys::message(id)).map_err(error::read)?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }

    /// The highest id in use; 0 when there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub fn message_last_id(&self) -> Result<u64, StoreError> {
        let last = self.tree.scan_prefix(keys::MESSAGES).next_back().transpose().map_err(error::read)?;
        Ok(last.and_then(|(key, _)| keys::id_of(&key)).unwrap_or(0))
    }

    /// Messages in a range of ids that pass a filter, at most `limit`; looks at `looked_max` records at most.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn messages_page(
        &self,
        filter: &MessageFilter,
        range: MessageRange,
        limit: usize,
        looked_max: usize,
    ) -> Result<MessagePage, StoreError> {
        let key = |id: u64| match &filter.number {
            Some(number) => keys::of_number(number, id),
            None => keys::message(id),
        };
        let mut entries = self.tree.range(key(range.from)..key(range.to));
        let mut page = MessagePage { messages: Vec::new(), stopped_at: None };
        let mut looked = 0;
        while page.messages.len() < limit {
            let next = if range.ascending { entries.next() } else { entries.next_back() };
            let Some(entry) = next else { break };
            let (key, value) = entry.map_err(error::read)?;
            let Some(id) = keys::id_of(&key) else { continue };
            let message = match &filter.number {
                Some(_) => self.message_get(id)?,
                None => Some(decode::<Message>(&value)?),
            };
            page.messages.extend(message.filter(|message| {
                filter.status.is_none_or(|status| message.status == status)
                    && filter.provider.as_ref().is_none_or(|provider| message.provider == *provider)
                    && filter.owner.is_none_or(|owner| message.owner == owner)
            }));
            looked += 1;
            if looked == looked_max && page.messages.len() < limit {
                page.stopped_at = Some(id);
                break;
            }
        }
        Ok(page)
    }

    /// Moves the message with a provider's id forward, never back: a delivered one stays delivered, a failed one
    /// may turn out to be delivered, nothing turns into accepted.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn message_report(
        &self,
        provider: &str,
        provider_message_id: &str,
        progress: Progress,
        now: Timestamp,
    ) -> Result<Reported, StoreError> {
        let key = keys::of_provider(provider, provider_message_id);
        self.change(move |txn| {
            let Some(bytes) = txn.get(&key)? else { return Ok(Reported::UnknownId) };
            let id = decode_u64("message id", &bytes)?;
            let Some(mut message) = txn.get_record::<Message>(&keys::message(id))? else {
                return Ok(Reported::UnknownId);
            };
            let status = match (message.status, progress) {
                (MessageStatus::Accepted | MessageStatus::Failed, Progress::Delivered) => {
                    MessageStatus::Delivered
                }
                (MessageStatus::Accepted, Progress::Failed) => MessageStatus::Failed,
                _ => return Ok(Reported::Unchanged),
            };
            message.status = status;
            message.updated_at = now;
            message.error = match status {
                MessageStatus::Failed => "not_delivered".to_owned(),
                _ => String::new(),
            };
            stop_polling(txn, &mut message);
            txn.put_record(keys::message(id), &message);
            Ok(Reported::Moved)
        })
        .await
    }

    /// Accepted messages whose provider is to be asked what became of them, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn messages_to_poll(&self, now: Timestamp, limit: usize) -> Result<Vec<Message>, StoreError> {
        let mut found = Vec::new();
        for entry in
            self.tree.range(keys::poll(Timestamp::default(), 0)..keys::poll(now, u64::MAX)).take(limit)
        {
            let (key, _) = entry.map_err(error::read)?;
            let Some(id) = keys::id_of(&key) else { continue };
            found.extend(self.message_get(id)?);
        }
        Ok(found)
    }

    /// Sets when messages are polled next; `None` ends it.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn messages_polled(&self, next: Vec<(u64, Option<Timestamp>)>) -> Result<(), StoreError> {
        self.change(move |txn| {
            for (id, at) in next {
                let Some(mut message) = txn.get_record::<Message>(&keys::message(id))? else { continue };
                stop_polling(txn, &mut message);
                message.polls += 1;
                if let (Some(at), MessageStatus::Accepted) = (at, message.status) {
                    message.poll_at = at;
                    txn.put(keys::poll(at, id), IVec::default());
                }
                txn.put_record(keys::message(id), &message);
            }
            Ok(())
        })
        .await
    }

    /// Removes the oldest messages that ended before `before`, looking at `limit` records at most.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and those of every change.
    pub async fn messages_purge(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let range = keys::message(0)..keys::message(before.as_micros());
        let mut due = Vec::new();
        for entry in self.tree.range(range).take(limit) {
            let (_, value) = entry.map_err(error::read)?;
            due.extend(decode::<Message>(&value).ok().filter(|message| message.status.is_final()));
        }
        if due.is_empty() {
            return Ok(0);
        }
        self.change(move |txn| {
            let removed = due.len();
            for message in due {
                let mut message = message;
                stop_polling(txn, &mut message);
                txn.delete(keys::of_number(&message.number, message.id));
                if !message.provider_message_id.is_empty() {
                    txn.delete(keys::of_provider(&message.provider, &message.provider_message_id));
                }
                txn.delete(keys::message(message.id));
            }
            Ok(removed)
        })
        .await
    }

    /// Forgets idempotency keys that are older than a day, looking at `limit` of them at most.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and those of every change.
    pub async fn idempotency_purge(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let mut due = Vec::new();
        for entry in self.tree.scan_prefix(keys::IDEMPOTENCY_TIMES).take(limit) {
            let (key, value) = entry.map_err(error::read)?;
            match keys::due_of(&key) {
                Some(at) if at.plus(IDEMPOTENCY_TTL) <= now => due.push((key, value)),
                _ => break,
            }
        }
        if due.is_empty() {
            return Ok(0);
        }
        self.change(move |txn| {
            let removed = due.len();
            for (time_key, key) in due {
                txn.delete(time_key);
                txn.delete(key);
            }
            count(txn, keys::IDEMPOTENCY_COUNT, -(removed as i64))?;
            Ok(removed)
        })
        .await
    }

    fn counter(&self, key: &[u8]) -> Result<u64, StoreError> {
        let bytes = self.tree.get(key).map_err(error::read)?;
        bytes.map_or(Ok(0), |bytes| decode_u64("counter", &bytes))
    }
}

fn insert(txn: &mut Txn, draft: MessageDraft) -> Result<MessageInserted, StoreError> {
    let MessageDraft { id, number, content, class, owner, created_at, deadline, begun, tried, .. } = draft;
    // What stands under the client's key, also when its day is over and it was not purged yet.
    let mut known = None;
    if let Some(idempotency) = draft.idempotency {
        known = txn.get_record::<Idempotency>(&keys::idempotency(&idempotency.key))?;
        if let Some(known) = known.as_ref().filter(|known| !known.expired(created_at)) {
            if known.request != idempotency.request {
                return Ok(MessageInserted::KeyReused);
            }
            let message = txn.get_record::<Message>(&keys::message(known.message))?;
            return Ok(MessageInserted::Repeated(message.map(Box::new)));
        }
        let remembered = txn.get(keys::IDEMPOTENCY_COUNT)?;
        let remembered = remembered.map_or(Ok(0), |bytes| decode_u64("counter", &bytes))?;
        if known.is_none() && remembered >= idempotency.keys_max {
            return Ok(MessageInserted::Full);
        }
    }
    if begun.is_none() {
        let waiting = txn.get(keys::WAITING)?.map_or(Ok(0), |bytes| decode_u64("counter", &bytes))?;
        if waiting >= draft.queue_max {
            return Ok(MessageInserted::Full);
        }
    }
    if let Some(quota) = draft.quota {
        let key = keys::usage(quota.owner);
        // Day and count; another day's count is over.
        let used = match txn.get(&key)? {
            Some(bytes) if bytes.len() == 16 && bytes[..8] == quota.day.to_be_bytes() => {
                decode_u64("usage", &bytes[8..])?
            }
            _ => 0,
        };
        if used >= quota.cap {
            return Ok(MessageInserted::QuotaReached);
        }
        let mut value = [0; 16];
        value[..8].copy_from_slice(&quota.day.to_be_bytes());
        value[8..].copy_from_slice(&(used + 1).to_be_bytes());
        txn.put(key, IVec::from(&value));
    }
    if let Some(idempotency) = draft.idempotency {
        let key = keys::idempotency(&idempotency.key);
        match known {
            Some(old) => txn.delete(keys::idempotency_time(old.created_at, &idempotency.key)),
            None => count(txn, keys::IDEMPOTENCY_COUNT, 1)?,
        }
        let record = Idempotency { created_at, request: idempotency.request, message: id };
        txn.put_record(key.clone(), &record);
        txn.put(keys::idempotency_time(created_at, &idempotency.key), key);
    }

    let status = if begun.is_some() { MessageStatus::Sending } else { MessageStatus::Queued };
    if begun.is_some() {
        txn.put(keys::begun(id), IVec::default());
    } else {
        txn.put(keys::due(created_at, id), IVec::default());
        count(txn, keys::WAITING, 1)?;
    }
    txn.put(keys::of_number(&number, id), IVec::default());
    let message = Message {
        status,
        id,
        number,
        content,
        class,
        owner,
        created_at,
        updated_at: created_at,
        due_at: created_at,
        deadline,
        rounds: 0,
        begun,
        resume_with: None,
        provider: String::new(),
        provider_message_id: String::new(),
        cost_rial: None,
        error: String::new(),
        tried,
        poll_at: Timestamp::default(),
        polls: 0,
    };
    txn.put_record(keys::message(id), &message);
    Ok(MessageInserted::Inserted)
}

/// Carries out an end of an attempt on a message that has not ended.
fn ended(
    txn: &mut Txn,
    message: &mut Message,
    end: MessageEnd,
    failed: Vec<Tried>,
    now: Timestamp,
) -> Result<(), StoreError> {
    if message.status == MessageStatus::Queued {
        leave_queue(txn, message)?;
    }
    note(message, failed);
    txn.delete(keys::begun(message.id));
    message.begun = None;
    message.updated_at = now;
    let last_error = message.tried.last().map(|tried| tried.code.clone()).unwrap_or_default();
    match end {
        MessageEnd::Accepted { provider, provider_message_id, cost_rial, poll_at } => {
            if !provider_message_id.is_empty() {
                txn.put(keys::of_provider(&provider, &provider_message_id), encode_u64(message.id));
                if let Some(at) = poll_at {
                    message.poll_at = at;
                    txn.put(keys::poll(at, message.id), IVec::default());
                }
            }
            message.status = MessageStatus::Accepted;
            message.provider = provider;
            message.provider_message_id = provider_message_id;
            message.cost_rial = cost_rial;
        }
        MessageEnd::Failed => (message.status, message.error) = (MessageStatus::Failed, last_error),
        MessageEnd::Unknown => (message.status, message.error) = (MessageStatus::Unknown, last_error),
        MessageEnd::Expired => (message.status, message.error) = (MessageStatus::Expired, last_error),
        MessageEnd::Retry { due_at, resume_with } => {
            message.status = MessageStatus::Queued;
            message.rounds += 1;
            message.due_at = due_at;
            message.resume_with = resume_with;
            txn.put(keys::due(due_at, message.id), IVec::default());
            count(txn, keys::WAITING, 1)?;
        }
    }
    txn.put_record(keys::message(message.id), message);
    Ok(())
}

fn leave_queue(txn: &mut Txn, message: &Message) -> Result<(), StoreError> {
    txn.delete(keys::due(message.due_at, message.id));
    count(txn, keys::WAITING, -1)
}

fn stop_polling(txn: &mut Txn, message: &mut Message) {
    if message.poll_at != Timestamp::default() {
        txn.delete(keys::poll(message.poll_at, message.id));
        message.poll_at = Timestamp::default();
    }
}

fn note(message: &mut Message, failed: Vec<Tried>) {
    message.tried.extend(failed);
    let surplus = message.tried.len().saturating_sub(TRIED_MAX);
    message.tried.drain(..surplus);
}

fn count(txn: &mut Txn, key: &'static [u8], by: i64) -> Result<(), StoreError> {
    let now = txn.get(key)?.map_or(Ok(0), |bytes| decode_u64("counter", &bytes))?;
    txn.put(key.into(), encode_u64(now.saturating_add_signed(by)));
    Ok(())
}
