//! Failover: which provider sends a message when several are configured.
//!
//! Providers are asked in their order. One that certainly did not send makes room for the next; a final refusal
//! ends it; an unknown outcome ends it too, because the next provider would send the same code twice. The one
//! exception is a provider that keeps our id as a de-duplication key: the same provider, and only that one, is
//! asked once more. Invariants: nothing is tried after the message's deadline; a provider that does not answer by
//! then counts as unknown.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;

use super::{Disposition, SmsError, SmsMessage, SmsReceipt};

/// One configured provider.
#[async_trait]
pub trait SmsProvider: Send + Sync {
    /// The name in the configuration.
    fn name(&self) -> &str;

    /// Whether asking again with the same local id cannot send twice.
    fn deduplicates(&self) -> bool {
        false
    }

    /// # Errors
    ///
    /// See [`SmsError`]; its disposition decides what happens next.
    async fn send(&self, message: &SmsMessage) -> Result<SmsReceipt, SmsError>;
}

/// One attempt that did not send, or not certainly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub provider: String,
    pub error: SmsError,
}

/// What became of a message, and why the providers before the last one did not send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The receipt, or the error of the last provider that was asked.
    pub result: Result<SmsReceipt, SmsError>,
    /// In the order of the attempts.
    pub failures: Vec<Failure>,
}

/// Sends a message by the first provider that takes it.
///
/// With no provider the result is [`SmsError::Misconfigured`]; with a deadline that has passed before anything was
/// tried, [`SmsError::Unavailable`].
pub async fn send(providers: &[Arc<dyn SmsProvider>], message: &SmsMessage) -> Routed {
    let mut failures: Vec<Failure> = Vec::new();
    for provider in providers {
        let mut again = provider.deduplicates();
        loop {
            let error = match attempt(provider.as_ref(), message).await {
                None => return ended(failures, "the time for sending ran out"),
                Some(Ok(receipt)) => return Routed { result: Ok(receipt), failures },
                Some(Err(error)) => error,
            };
            failures.push(Failure { provider: provider.name().to_owned(), error: error.clone() });
            match error.disposition() {
                Disposition::TryNext => {
                    // When the first of two tries is unknown, a refusal of the second says nothing about it.
                    if failures.iter().any(|failure| failure.error.disposition() == Disposition::Unknown) {
                        return ended(failures, "");
                    }
                    break;
                }
                Disposition::Final => return ended(failures, ""),
                Disposition::Unknown if again => again = false,
                Disposition::Unknown => return ended(failures, ""),
            }
        }
    }
    let reason = "no SMS provider is configured".to_owned();
    let last = failures.last().map_or(SmsError::Misconfigured(reason), |failure| failure.error.clone());
    Routed { result: Err(last), failures }
}

/// The end without a receipt: an unknown outcome if there was one, else the last error, else `reason`.
fn ended(failures: Vec<Failure>, reason: &str) -> Routed {
    let unknown = failures.iter().find(|failure| failure.error.disposition() == Disposition::Unknown);
    let error = match unknown.or(failures.last()) {
        Some(failure) => failure.error.clone(),
        None => SmsError::Unavailable(reason.to_owned()),
    };
    Routed { result: Err(error), failures }
}

/// Asks one provider; `None` when it is too late for that.
async fn attempt(provider: &dyn SmsProvider, message: &SmsMessage) -> Option<Result<SmsReceipt, SmsError>> {
    if Instant::now() >= message.deadline {
        return None;
    }
    let answer = tokio::time::timeout_at(message.deadline.into(), provider.send(message)).await;
    Some(answer.unwrap_or_else(|_| Err(SmsError::UnknownOutcome("no answer before the deadline".to_owned()))))
}

#[cfg(test)]
mod tests;
