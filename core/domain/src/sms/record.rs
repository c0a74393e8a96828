//! The record of a message's attempts, and the log that writes it before each attempt.
//!
//! The first attempt and the record are stored together, so a message costs two durable changes and not three.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use chelseru_store::{SmsBegun, SmsContent, SmsDraft, SmsInserted, SmsRecord, SmsTried, StoreError};

use super::SmsBody;
use super::queue::{Inner, lock};
use super::route::{AttemptLog, Failure};

/// Stored characters of a provider's own code.
const PROVIDER_CODE_CHARS_MAX: usize = 32;

/// Why a request was not stored.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("the idempotency key was used for another request")]
    KeyReused,
    #[error("the API key's messages for today are used up")]
    QuotaReached,
    #[error("too many messages wait")]
    Full,
    /// The disk is nearly full. A retry can succeed once there is room.
    #[error("not enough disk space for messages")]
    StorageFull,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why this call does not send a message.
pub(super) enum Stopped {
    Repeated(Option<Box<SmsRecord>>),
    Refused(SubmitError),
    /// It ended or was removed in the meantime.
    Gone,
}

impl From<SubmitError> for Stopped {
    fn from(error: SubmitError) -> Self {
        Stopped::Refused(error)
    }
}

pub(super) fn refusal(inserted: Result<SmsInserted, StoreError>) -> Option<Stopped> {
    match inserted {
        Ok(SmsInserted::Inserted) => None,
        Ok(SmsInserted::Repeated(message)) => Some(Stopped::Repeated(message)),
        Ok(SmsInserted::KeyReused) => Some(SubmitError::KeyReused.into()),
        Ok(SmsInserted::QuotaReached) => Some(SubmitError::QuotaReached.into()),
        Ok(SmsInserted::Full) => Some(SubmitError::Full.into()),
        Err(StoreError::Full) => Some(SubmitError::StorageFull.into()),
        Err(error) => Some(SubmitError::Store(error).into()),
    }
}

/// Records attempts; the first one together with the message.
pub(super) struct Log<'a> {
    pub(super) inner: &'a Inner,
    pub(super) id: u64,
    pub(super) draft: Mutex<Option<SmsDraft>>,
    pub(super) stopped: Mutex<Option<Stopped>>,
    /// Failures of earlier rounds that the record does not hold yet.
    pub(super) unrecorded: Mutex<Vec<Failure>>,
    /// Number of this round's failures that the record holds.
    pub(super) recorded: AtomicUsize,
}

impl Log<'_> {
    /// Keeps unrecorded failures for the next change of the record.
    pub(super) fn round_ended(&self, failures: &[Failure]) {
        let recorded = self.recorded.swap(0, Ordering::Relaxed).min(failures.len());
        lock(&self.unrecorded).extend_from_slice(&failures[recorded..]);
    }

    /// Stores that no provider is being asked until the next round, so that a crash in between leaves no doubt.
    pub(super) async fn rest(&self) -> Result<(), Stopped> {
        if lock(&self.draft).is_some() {
            // No provider was asked yet, and there is no record.
            return Ok(());
        }
        let rested = self.inner.store.sms_rest(self.id, self.unrecorded(), self.inner.clock.now()).await;
        if rested.map_err(SubmitError::Store)? { Ok(()) } else { Err(Stopped::Gone) }
    }

    pub(super) fn unrecorded(&self) -> Vec<SmsTried> {
        tried(&std::mem::take(&mut *lock(&self.unrecorded)))
    }
}

#[async_trait]
impl AttemptLog for Log<'_> {
    async fn begin(&self, provider: &str, deduplicates: bool, failures: &[Failure]) -> bool {
        if let Some(entered) = lock(&self.inner.active).get_mut(&self.id) {
            *entered = true;
        }
        let begun = SmsBegun { provider: provider.to_owned(), deduplicates };
        let store = &self.inner.store;
        let mut failed = self.unrecorded();
        failed.extend(tried(failures));
        let stopped = match take(&self.draft) {
            Some(draft) => {
                let draft = SmsDraft { begun: Some(begun), tried: failed, ..draft };
                refusal(store.sms_insert(draft).await)
            }
            None => match store.sms_begin(self.id, begun, failed, self.inner.clock.now()).await {
                Ok(true) => None,
                Ok(false) => Some(Stopped::Gone),
                Err(error) => Some(SubmitError::Store(error).into()),
            },
        };
        self.recorded.fetch_add(failures.len(), Ordering::Relaxed);
        let may_begin = stopped.is_none();
        *lock(&self.stopped) = stopped;
        may_begin
    }
}

pub(super) fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    lock(slot).take()
}

fn tried(failures: &[Failure]) -> Vec<SmsTried> {
    let tried = |failure: &Failure| {
        let code = failure.error.rejection().map_or("", |rejection| rejection.code.as_str());
        let code: String = code.chars().take(PROVIDER_CODE_CHARS_MAX).collect();
        SmsTried {
            provider: failure.provider.clone(),
            code: failure.error.code().to_owned(),
            provider_code: Some(code).filter(|code| !code.is_empty()),
        }
    };
    failures.iter().map(tried).collect()
}

pub(super) fn content(body: &SmsBody) -> SmsContent {
    match body.clone() {
        SmsBody::Text { text } => SmsContent::Text(text),
        SmsBody::Template { name, values, fallback_text } => {
            SmsContent::Template { name, values, fallback_text }
        }
    }
}

/// The message of a record; `None` for a one-time code, which no record holds.
pub(crate) fn body(content: &SmsContent) -> Option<SmsBody> {
    match content.clone() {
        SmsContent::Hidden => None,
        SmsContent::Text(text) => Some(SmsBody::Text { text }),
        SmsContent::Template { name, values, fallback_text } => {
            Some(SmsBody::Template { name, values, fallback_text })
        }
    }
}
