//! Delivery of accepted messages: pushed reports and polled answers.

pub(crate) mod postgres;
pub(crate) mod sled;

use crate::engine::{Engine, boxed, on_engine};
use crate::sms::SmsRecord;
use crate::{Store, StoreError, Timestamp};

/// The delivery state a provider reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmsProgress {
    /// At the provider or the carrier.
    Underway,
    Delivered,
    Failed,
    /// The provider does not know the message (any more).
    NotKnown,
}

/// The effect of a delivery report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmsReported {
    Moved,
    /// Repeated, late or without news.
    Unchanged,
    /// No message of this provider has this id.
    UnknownId,
}

impl Store {
    /// Moves the message with a provider's id forward, never back: a delivered one stays delivered, a failed one may
    /// become delivered, and nothing becomes accepted.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn sms_report(
        &self,
        provider: &str,
        provider_message_id: &str,
        progress: SmsProgress,
        now: Timestamp,
    ) -> Result<SmsReported, StoreError> {
        on_engine!(self, sms_report(provider, provider_message_id, progress, now).await)
    }

    /// Accepted messages whose provider is due to be polled, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn sms_to_poll(&self, now: Timestamp, limit: usize) -> Result<Vec<SmsRecord>, StoreError> {
        on_engine!(self, read sms_to_poll(now, limit))
    }

    /// Sets the next poll of messages; `None` ends polling.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn sms_polled(&self, next: Vec<(u64, Option<Timestamp>)>) -> Result<(), StoreError> {
        on_engine!(self, sms_polled(next).await)
    }
}
