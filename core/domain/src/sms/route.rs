//! Failover: chooses the provider that sends a message.
//!
//! Providers are asked in order, those without credit last ([`super::credit`]). After a certain failure the next one
//! is asked. A final refusal ends the round, and so does an unknown outcome, because the next provider could send the
//! same code twice. The exception is a provider that uses our id as a de-duplication key: it alone is asked once more,
//! and again in later rounds. Invariants: no attempt begins after the message's deadline; a provider that does not
//! answer by then counts as unknown; an attempt is recorded before it begins (see [`AttemptLog`]).

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use chelseru_store::SmsProgress;

use super::credit::Credit;
use super::gate::Gate;
use super::{Disposition, SmsError, SmsMessage, SmsReceipt};
use crate::{Clock, Timestamp};

/// One configured provider.
#[async_trait]
pub trait SmsProvider: Send + Sync {
    /// The name in the configuration.
    fn name(&self) -> &str;

    /// Whether a second call with the same local id cannot send twice.
    async fn deduplicates(&self, _message: &SmsMessage) -> bool {
        false
    }

    /// Checks what can be checked without the network.
    ///
    /// # Errors
    ///
    /// See [`SmsError`].
    async fn check(&self, _message: &SmsMessage) -> Result<(), SmsError> {
        Ok(())
    }

    /// Whether the provider can be asked for the state of a message.
    fn reports(&self) -> bool {
        false
    }

    /// Asks for the state of messages by the provider's ids. Unknown ids are left out.
    ///
    /// # Errors
    ///
    /// See [`SmsError`].
    async fn ask(&self, _message_ids: Vec<String>) -> Result<Vec<(String, SmsProgress)>, SmsError> {
        Ok(Vec::new())
    }

    /// Whether the provider can be asked for its credit.
    fn reports_credit(&self) -> bool {
        false
    }

    /// Asks what is left.
    ///
    /// # Errors
    ///
    /// See [`SmsError`].
    async fn credit(&self) -> Result<Credit, SmsError> {
        Err(SmsError::NotMapped)
    }

    /// # Errors
    ///
    /// See [`SmsError`]; its disposition decides what happens next.
    async fn send(&self, message: &SmsMessage) -> Result<SmsReceipt, SmsError>;
}

/// A provider and the gate in front of it.
#[derive(Clone)]
pub struct Candidate {
    pub provider: Arc<dyn SmsProvider>,
    pub gate: Arc<Gate>,
}

/// Records attempts before they begin.
#[async_trait]
pub trait AttemptLog: Send + Sync {
    /// Stores that a provider is about to be asked, and the failures since the last call. False: do not ask it, nor any
    /// other.
    async fn begin(&self, provider: &str, deduplicates: bool, failures: &[Failure]) -> bool;
}

/// An attempt that failed, or whose outcome is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub provider: String,
    pub error: SmsError,
}

/// The outcome of a round, and the failures before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The receipt, or the error of the last provider that was asked.
    pub result: Result<SmsReceipt, SmsError>,
    /// In the order of the attempts.
    pub failures: Vec<Failure>,
    /// The provider whose outcome is unknown but that knows our id. It alone may be asked again.
    pub resume_with: Option<String>,
}

/// Sends a message by the first provider that accepts it.
///
/// Without providers the result is [`SmsError::Misconfigured`]; after the deadline it is [`SmsError::Unavailable`].
pub async fn send(
    candidates: &[Candidate],
    message: &SmsMessage,
    clock: &dyn Clock,
    log: &dyn AttemptLog,
) -> Routed {
    let mut failures: Vec<Failure> = Vec::new();
    let mut recorded = 0;
    for Candidate { provider, gate } in in_order(candidates, clock.now()) {
        if Instant::now() >= message.deadline {
            return ended(failures, "the time for sending ran out");
        }
        let failed = |error| Failure { provider: provider.name().to_owned(), error };
        let pass = match gate.enter(clock.now()).await {
            Ok(pass) => pass,
            Err(error) => {
                failures.push(failed(error));
                continue;
            }
        };
        let deduplicates = provider.deduplicates(message).await;
        if !log.begin(provider.name(), deduplicates, &failures[recorded..]).await {
            return ended(failures, "the attempt could not be recorded");
        }
        recorded = failures.len();
        let mut result = attempt(provider.as_ref(), message).await;
        if deduplicates
            && let Err(error) = &result
            && error.disposition() == Disposition::Unknown
            && Instant::now() < message.deadline
        {
            failures.push(failed(error.clone()));
            result = attempt(provider.as_ref(), message).await;
        }
        if deduplicates && let Err(SmsError::BrokeDown(text)) = result {
            // Our id makes a retry safe, now or in a later round.
            result = Err(SmsError::Unavailable(text));
        }
        pass.end(&result, clock.now());
        let error = match result {
            Ok(receipt) => return Routed { result: Ok(receipt), failures, resume_with: None },
            Err(error) => error,
        };
        // After an unknown first try, a refusal of the second says nothing about the first.
        let unknown_before =
            failures[recorded..].iter().any(|failure| failure.error.disposition() == Disposition::Unknown);
        let disposition = error.disposition();
        failures.push(failed(error));
        if unknown_before || disposition != Disposition::TryNext {
            let resumable = deduplicates && disposition != Disposition::Final;
            let resume_with = resumable.then(|| provider.name().to_owned());
            return Routed { resume_with, ..ended(failures, "") };
        }
    }
    if failures.is_empty() {
        let error = SmsError::Misconfigured("no SMS provider is configured".to_owned());
        return Routed { result: Err(error), failures, resume_with: None };
    }
    ended(failures, "")
}

/// The candidates in the order in which they are asked: those without credit last. Read once, so a refusal on the way
/// does not bring a candidate up a second time.
fn in_order(candidates: &[Candidate], now: Timestamp) -> Vec<&Candidate> {
    let mut ordered: Vec<&Candidate> = candidates.iter().collect();
    ordered.sort_by_cached_key(|candidate| candidate.gate.credit().is_empty(now));
    ordered
}

/// The result without a receipt: an unknown outcome if there was one, else the last error, else `reason`. A provider
/// that broke down may have sent the message, so if no later provider took it, the outcome is unknown and no provider
/// is asked again.
fn ended(failures: Vec<Failure>, reason: &str) -> Routed {
    let unknown = failures.iter().find_map(|failure| match &failure.error {
        SmsError::BrokeDown(text) => Some(SmsError::UnknownOutcome(text.clone())),
        error if error.disposition() == Disposition::Unknown => Some(error.clone()),
        _ => None,
    });
    let last = || failures.last().map(|failure| failure.error.clone());
    let error = unknown.or_else(last).unwrap_or_else(|| SmsError::Unavailable(reason.to_owned()));
    Routed { result: Err(error), failures, resume_with: None }
}

/// Asks one provider until the message's deadline.
async fn attempt(provider: &dyn SmsProvider, message: &SmsMessage) -> Result<SmsReceipt, SmsError> {
    let answer = tokio::time::timeout_at(message.deadline.into(), provider.send(message)).await;
    answer.unwrap_or_else(|_| Err(SmsError::UnknownOutcome("no answer before the deadline".to_owned())))
}

#[cfg(test)]
mod tests;
