//! The moves of a message, on the record alone.

use std::time::Duration;

use crate::Timestamp;
use crate::sms::report::SmsProgress;
use crate::sms::{
    SMS_TRIED_MAX, SmsBegun, SmsContent, SmsDraft, SmsEnd, SmsFilter, SmsRecord, SmsRecovered, SmsStatus,
    SmsText, SmsTried,
};

/// How long a repeated Idempotency-Key returns the first result.
pub(crate) const IDEMPOTENCY_TTL: Duration = Duration::from_secs(24 * 60 * 60);

impl SmsRecord {
    /// The record of a new message, as it is until something happens to it.
    #[must_use]
    pub fn made(draft: SmsDraft) -> SmsRecord {
        let SmsDraft { id, number, content, class, owner, created_at, deadline, begun, tried, .. } = draft;
        SmsRecord {
            status: if begun.is_some() { SmsStatus::Sending } else { SmsStatus::Queued },
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
            provider: None,
            provider_message_id: None,
            cost_rial: None,
            error: None,
            tried,
            poll_at: None,
            polls: 0,
        }
    }

    /// Notes attempts that did not send; the newest ones are kept.
    pub(crate) fn note(&mut self, failed: Vec<SmsTried>) {
        self.tried.extend(failed);
        let surplus = self.tried.len().saturating_sub(SMS_TRIED_MAX);
        self.tried.drain(..surplus);
    }

    pub(crate) fn begin(&mut self, begun: SmsBegun, failed: Vec<SmsTried>, now: Timestamp) {
        self.status = SmsStatus::Sending;
        self.begun = Some(begun);
        self.updated_at = now;
        self.note(failed);
    }

    /// Between two attempts of one that is sending.
    pub(crate) fn rest(&mut self, failed: Vec<SmsTried>, now: Timestamp) {
        self.begun = None;
        self.updated_at = now;
        self.note(failed);
    }

    /// Ends an attempt, or the message, which has not ended.
    pub(crate) fn end(&mut self, end: SmsEnd, failed: Vec<SmsTried>, now: Timestamp) {
        self.rest(failed, now);
        let last_error = self.tried.last().map(|tried| tried.code.clone());
        match end {
            SmsEnd::Accepted { provider, provider_message_id, cost_rial, poll_at } => {
                self.status = SmsStatus::Accepted;
                self.poll_at = poll_at.filter(|_| provider_message_id.is_some());
                self.provider = Some(provider);
                self.provider_message_id = provider_message_id;
                self.cost_rial = cost_rial;
            }
            SmsEnd::Failed => (self.status, self.error) = (SmsStatus::Failed, last_error),
            SmsEnd::Unknown => (self.status, self.error) = (SmsStatus::Unknown, last_error),
            SmsEnd::Expired => (self.status, self.error) = (SmsStatus::Expired, last_error),
            SmsEnd::Retry { due_at, resume_with } => {
                self.status = SmsStatus::Queued;
                self.rounds += 1;
                self.due_at = due_at;
                self.resume_with = resume_with;
            }
        }
    }

    /// What an attempt that nobody carries on any more ends with, and what it is noted as.
    pub(crate) fn interrupted(&self, now: Timestamp) -> (SmsEnd, Vec<SmsTried>) {
        let hidden = self.content == SmsContent::Hidden;
        let again = !hidden && now < self.deadline;
        let end = match &self.begun {
            Some(SmsBegun { provider, deduplicates: true }) if again => {
                SmsEnd::Retry { due_at: now, resume_with: Some(provider.clone()) }
            }
            Some(_) => SmsEnd::Unknown,
            None if again => SmsEnd::Retry { due_at: now, resume_with: None },
            None if hidden => SmsEnd::Failed,
            None => SmsEnd::Expired,
        };
        let interrupted = self.begun.iter().map(|begun| SmsTried {
            provider: begun.provider.clone(),
            code: "interrupted".to_owned(),
            provider_code: None,
        });
        (end, interrupted.collect())
    }

    /// The status after a delivery report, `None` when it brings no news.
    pub(crate) fn reported(&self, progress: SmsProgress) -> Option<SmsStatus> {
        match (self.status, progress) {
            (SmsStatus::Accepted | SmsStatus::Failed, SmsProgress::Delivered) => Some(SmsStatus::Delivered),
            (SmsStatus::Accepted, SmsProgress::Failed) => Some(SmsStatus::Failed),
            _ => None,
        }
    }

    /// Moves on by a delivery report. The caller takes it off the polls.
    pub(crate) fn report(&mut self, status: SmsStatus, now: Timestamp) {
        self.status = status;
        self.updated_at = now;
        self.error = match status {
            SmsStatus::Failed => Some("not_delivered".to_owned()),
            _ => None,
        };
    }
}

impl SmsRecovered {
    pub(crate) fn count(&mut self, end: &SmsEnd) {
        match end {
            SmsEnd::Retry { .. } => self.resumed += 1,
            SmsEnd::Unknown => self.unknown += 1,
            _ => self.failed += 1,
        }
    }
}

impl SmsFilter {
    /// Beside the number, which has an index.
    pub(crate) fn matches(&self, message: &SmsRecord) -> bool {
        self.status.is_none_or(|status| message.status == status)
            && self.provider.as_ref().is_none_or(|provider| message.provider.as_ref() == Some(provider))
            && self.owner.is_none_or(|owner| message.owner == owner)
            && self.text.as_ref().is_none_or(|text| text.is_in(&message.content))
    }
}

impl SmsText {
    fn is_in(&self, content: &SmsContent) -> bool {
        let mut whole = String::new();
        match content {
            SmsContent::Hidden => return false,
            SmsContent::Text(text) => whole.push_str(text),
            SmsContent::Template { name, values, .. } => {
                // Not the fallback text, which repeats the values.
                let values = values.iter().map(|(_, value)| value.as_str());
                for text in std::iter::once(name.as_str()).chain(values) {
                    whole.push_str(text);
                    whole.push('\n');
                }
            }
        }
        let whole = (self.folded)(&whole);
        self.parts.iter().all(|part| whole.contains(part.as_str()))
    }
}
