//! One message over the providers: rounds, retries, and the recorded end.
//!
//! A notice gets one round here and waits in the store for the next. A code is retried here, because no record holds
//! its text. Invariant: a message ends in exactly one final state, and after an unknown outcome only a provider that
//! knows our id is asked again.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use chelseru_store::{Due, SmsDraft, SmsEnd, SmsRecord, StoreError};

use super::gate::TOLD_MAX;
use super::queue::SmsRoute;
use super::record::{Log, Stopped, SubmitError, body, refusal, take};
use super::route::{self, Failure, Routed};
use super::{Disposition, SmsClass, SmsError, SmsMessage, SmsReceipt};
use crate::{PhoneNumber, Timestamp};

/// Delay before the second round of a code; doubles with each further round.
const OTP_RETRY_MIN: Duration = Duration::from_millis(400);

/// The state that a round continues from.
#[derive(Default)]
pub(super) struct Carry {
    /// The record, if it is not stored yet. Stored together with the first attempt.
    pub(super) draft: Option<SmsDraft>,
    pub(super) rounds: u32,
    pub(super) deadline: Option<Timestamp>,
    pub(super) resume_with: Option<String>,
}

/// What became of a message.
pub(super) struct Carried {
    /// The outcome of the last round.
    pub(super) result: Result<SmsReceipt, SmsError>,
    /// The record as it was stored at the end; `None` when it had ended in another way, or is gone.
    pub(super) record: Option<SmsRecord>,
}

impl SmsRoute {
    /// Continues a message that waited.
    pub(super) async fn take_up(&self, message: SmsRecord) -> Result<(), StoreError> {
        let inner = &self.queue.0;
        let now = inner.clock.now();
        let resumed = message.resume_with.is_some();
        let body = match body(&message.content) {
            Some(body) if now < message.deadline => body,
            // A code without its text cannot be sent, and a late message is not sent.
            other => {
                let end = match (resumed, other) {
                    (true, _) => SmsEnd::Unknown,
                    (false, Some(_)) => SmsEnd::Expired,
                    (false, None) => SmsEnd::Failed,
                };
                if let Some(ended) = inner.store.sms_end(message.id, end, Vec::new(), now).await? {
                    (inner.observer)(&ended);
                }
                return Ok(());
            }
        };
        let Ok(to) = PhoneNumber::parse(&message.number) else {
            inner.store.sms_end(message.id, SmsEnd::Failed, Vec::new(), now).await?;
            return Ok(());
        };
        let time_left = message.deadline.since(now).min(self.rules.round_timeout);
        let outgoing = SmsMessage {
            to,
            local_id: message.id,
            body,
            class: SmsClass::Notice,
            deadline: Instant::now() + time_left,
        };
        let carry = Carry {
            draft: None,
            rounds: message.rounds,
            deadline: Some(message.deadline),
            resume_with: message.resume_with,
        };
        match self.carry(outgoing, carry).await {
            Err(Stopped::Refused(SubmitError::Store(error))) => Err(error),
            _ => Ok(()),
        }
    }

    /// One recorded round over the providers, or several for a code.
    pub(super) async fn carry(&self, message: SmsMessage, carry: Carry) -> Result<Carried, Stopped> {
        let inner = &self.queue.0;
        let (id, is_otp) = (message.local_id, message.class == SmsClass::Otp);
        let deadline =
            carry.deadline.or(carry.draft.as_ref().map(|draft| draft.deadline)).unwrap_or_default();
        let log = Log {
            inner,
            id,
            draft: Mutex::new(carry.draft),
            stopped: Mutex::default(),
            unrecorded: Mutex::default(),
            recorded: AtomicUsize::new(0),
        };
        let retry_until = (Instant::now() + self.rules.otp_retry).min(message.deadline);
        let mut rounds = carry.rounds;
        let routed = loop {
            let routed = self.round(&message, &carry.resume_with, &log).await;
            log_failures(&message, &routed);
            if let Some(stopped) = take(&log.stopped) {
                return Err(stopped);
            }
            let delay = if is_otp { self.delay_of_code(rounds, &routed, retry_until) } else { None };
            log.round_ended(&routed.failures);
            let Some(delay) = delay else { break routed };
            log.rest().await?;
            tokio::time::sleep(delay).await;
            rounds += 1;
        };
        // No provider was asked: store the record now.
        if let Some(mut draft) = take(&log.draft) {
            if is_otp {
                // It ends at once and does not wait in the queue.
                draft.queue_max = u64::MAX;
            }
            if let Some(stopped) = refusal(inner.store.sms_insert(draft).await) {
                return Err(stopped);
            }
        }
        let now = inner.clock.now();
        let end = self.end_of(&routed, &carry.resume_with, rounds, deadline, now, is_otp);
        let retried = matches!(end, SmsEnd::Retry { .. });
        let record = inner.store.sms_end(id, end, log.unrecorded(), now).await.map_err(SubmitError::Store)?;
        if let Some(record) = &record {
            (inner.observer)(record);
        }
        if retried {
            inner.wake.notify_one();
        }
        Ok(Carried { result: routed.result, record })
    }

    async fn round(&self, message: &SmsMessage, resume_with: &Option<String>, log: &Log<'_>) -> Routed {
        let clock = self.queue.0.clock.as_ref();
        let Some(name) = resume_with else {
            return route::send(&self.candidates, message, clock, log).await;
        };
        // Only a provider that still knows our id may be asked again.
        let mut only = Vec::new();
        for candidate in self.candidates.iter().filter(|candidate| candidate.provider.name() == name) {
            if candidate.provider.deduplicates(message).await {
                only.push(candidate.clone());
            }
        }
        route::send(&only, message, clock, log).await
    }

    /// Delay before a code's next round. `None` when it was sent, may have been sent, or cannot be sent in time.
    fn delay_of_code(&self, rounds: u32, routed: &Routed, until: Instant) -> Option<Duration> {
        let error = routed.result.as_ref().err()?;
        let passing = routed.failures.iter().any(|failure| failure.error.is_transient());
        if error.disposition() != Disposition::TryNext || !passing {
            return None;
        }
        let grown = OTP_RETRY_MIN.saturating_mul(1u32.checked_shl(rounds).unwrap_or(u32::MAX));
        let told = told(&routed.failures).unwrap_or_default();
        // No provider is asked before a gate opens.
        let gates = self.wait(self.queue.0.clock.now()).unwrap_or_default();
        let delay = jittered(grown).max(told).max(gates);
        (Instant::now() + delay < until).then_some(delay)
    }

    fn end_of(
        &self,
        routed: &Routed,
        resume_with: &Option<String>,
        rounds: u32,
        deadline: Timestamp,
        now: Timestamp,
        is_otp: bool,
    ) -> SmsEnd {
        let error = match &routed.result {
            Ok(receipt) => {
                let reports = self.candidates.iter().any(|candidate| {
                    candidate.provider.name() == receipt.provider && candidate.provider.reports()
                });
                return SmsEnd::Accepted {
                    provider: receipt.provider.clone(),
                    provider_message_id: receipt.message_id.clone(),
                    cost_rial: receipt.cost_rial,
                    poll_at: reports.then(|| now.plus(self.rules.poll_first)),
                };
            }
            Err(error) => error,
        };
        // A later answer does not change that the provider may have the message already.
        let given_up = if resume_with.is_some() { SmsEnd::Unknown } else { SmsEnd::Failed };
        let transient = routed.failures.iter().any(|failure| failure.error.is_transient());
        let resume_with = match error.disposition() {
            // A provider that knows our id is asked until it reports the outcome.
            Disposition::Unknown if routed.resume_with.is_some() && !is_otp => &routed.resume_with,
            Disposition::Unknown => return SmsEnd::Unknown,
            Disposition::TryNext if transient && !is_otp => resume_with,
            Disposition::Final | Disposition::TryNext => return given_up,
        };
        let due_at = now.plus(self.delay(rounds, &routed.failures));
        match (due_at < deadline, resume_with) {
            (true, _) => SmsEnd::Retry { due_at, resume_with: resume_with.clone() },
            (false, Some(_)) => SmsEnd::Unknown,
            (false, None) => SmsEnd::Expired,
        }
    }

    /// Which waiting messages are due. No delay is longer than this; the rest are differences of clocks.
    pub(super) fn due(&self, now: Timestamp) -> Due {
        Due::new(now, (self.rules.retry_max * 2).max(TOLD_MAX) + Duration::from_secs(5 * 60))
    }

    /// Doubles with each round.
    fn delay(&self, rounds: u32, failures: &[Failure]) -> Duration {
        let growth = 1u32.checked_shl(rounds).unwrap_or(u32::MAX);
        let delay = self.rules.retry_min.saturating_mul(growth).min(self.rules.retry_max);
        jittered(delay).max(told(failures).unwrap_or_default())
    }
}

/// Plus or minus one half, so that messages that failed together do not return together.
fn jittered(delay: Duration) -> Duration {
    // A fixed delay without randomness is no reason to fail.
    let percent = 50 + getrandom::u64().unwrap_or(50) % 101;
    delay.mul_f64(percent as f64 / 100.0)
}

/// The shortest wait that a provider named, at most [`TOLD_MAX`].
fn told(failures: &[Failure]) -> Option<Duration> {
    let told = failures.iter().filter_map(|failure| match failure.error {
        SmsError::Throttled(wait) => wait,
        _ => None,
    });
    told.min().map(|told| told.min(TOLD_MAX))
}

fn log_failures(message: &SmsMessage, routed: &Routed) {
    for Failure { provider, error } in &routed.failures {
        let text = error.rejection().map_or("", |rejection| rejection.text.as_str());
        tracing::warn!(
            plugin.id = %provider, phone = %message.to, message.id = message.local_id, %error, text,
            "a provider did not send"
        );
    }
    if let Ok(receipt) = &routed.result {
        tracing::debug!(
            plugin.id = %receipt.provider, phone = %message.to, message.id = message.local_id, "message accepted"
        );
    }
}
