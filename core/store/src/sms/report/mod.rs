//! What became of a message that a provider took: reports that come, and questions that are asked.

pub(crate) mod sled;

use crate::engine::{Engine, on_engine};
use crate::sms::SmsRecord;
use crate::{Store, StoreError, Timestamp};

/// How far a provider says a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmsProgress {
    /// At the provider or the carrier.
    Underway,
    Delivered,
    Failed,
    /// The provider does not know it (any more).
    NotKnown,
}

/// What a delivery report did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmsReported {
    Moved,
    /// Repeated, late or nothing new.
    Unchanged,
    /// No message of this provider has the id.
    UnknownId,
}

impl Store {
    /// Moves the message with a provider's id forward, never back: a delivered one stays delivered, a failed one
    /// may turn out to be delivered, nothing turns into accepted.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn sms_report(
        &self,
        provider: &str,
        provider_message_id: &str,
        progress: SmsProgress,
        now: Timestamp,
    ) -> Result<SmsReported, StoreError> {
        on_engine!(self, sms_report(provider, provider_message_id, progress, now).await)
    }

    /// Accepted messages whose provider is to be asked what became of them, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn sms_to_poll(&self, now: Timestamp, limit: usize) -> Result<Vec<SmsRecord>, StoreError> {
        on_engine!(self, read sms_to_poll(now, limit))
    }

    /// Sets when messages are polled next; `None` ends it.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn sms_polled(&self, next: Vec<(u64, Option<Timestamp>)>) -> Result<(), StoreError> {
        on_engine!(self, sms_polled(next).await)
    }
}
