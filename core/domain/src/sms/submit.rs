//! The request to send a message: stored first, then sent by the caller's task or left to the queue.
//!
//! Invariant: every message has a record before a provider is asked, and a repeated idempotency key sends nothing.

use std::time::Instant;

use async_trait::async_trait;
use chelseru_store::{
    SmsClass, SmsContent, SmsDraft, SmsIdempotency, SmsOwner, SmsQuota, SmsRecord, SmsStatus,
};

use super::carry::Carry;
use super::queue::SmsRoute;
pub use super::record::SubmitError;
use super::record::{Stopped, content, refusal};
use super::{Disposition, SmsBody, SmsError, SmsMessage, SmsPort, SmsReceipt};
use crate::PhoneNumber;
use crate::idempotency::Hashes;

/// A request to send a message.
#[derive(Debug, Clone)]
pub struct SmsRequest {
    pub to: PhoneNumber,
    pub body: SmsBody,
    pub owner: SmsOwner,
    /// Hashes of the caller's idempotency key and of its request.
    pub idempotency: Option<Hashes>,
    /// Messages per day of this API key.
    pub daily_cap: Option<u64>,
    /// Whether the caller waits for the first round.
    pub wait: bool,
}

/// The outcome of a request.
#[derive(Debug)]
pub enum Submitted {
    /// Stored, with its state after the first round, or without one.
    New(Box<SmsRecord>),
    /// A repeated request. The current state of its message, unless the record is gone.
    Repeated(Option<Box<SmsRecord>>),
}

impl SmsRoute {
    /// Checks a message by the rules of every provider that may carry it, so that no failover breaks one.
    ///
    /// # Errors
    ///
    /// The first refusal, or [`SmsError::NotMapped`] when no provider can send it.
    pub async fn check(&self, to: &PhoneNumber, body: &SmsBody) -> Result<(), SmsError> {
        let message = SmsMessage {
            to: to.clone(),
            local_id: 1,
            body: body.clone(),
            class: SmsClass::Notice,
            deadline: Instant::now() + self.rules.round_timeout,
        };
        let mut carriers = 0;
        for candidate in &self.candidates {
            match candidate.provider.check(&message).await {
                Ok(()) => carriers += 1,
                Err(SmsError::NotMapped) => {}
                Err(error) if error.disposition() == Disposition::Final => return Err(error),
                // The plugin could not be asked; sending shows the result.
                Err(_) => carriers += 1,
            }
        }
        if carriers == 0 { Err(SmsError::NotMapped) } else { Ok(()) }
    }

    /// The body in a form that passes [`SmsRoute::check`]: as it is, or with dashes for the spaces in the first three
    /// values of a template, as in the original, for providers that take no space there.
    ///
    /// # Errors
    ///
    /// Those of the check of the body as it is.
    pub async fn fit(&self, to: &PhoneNumber, body: SmsBody) -> Result<SmsBody, SmsError> {
        let error = match self.check(to, &body).await {
            Ok(()) => return Ok(body),
            Err(error) => error,
        };
        if matches!(error, SmsError::InvalidMessage(_))
            && let Some(dashed) = dashed(&body)
            && self.check(to, &dashed).await.is_ok()
        {
            return Ok(dashed);
        }
        Err(error)
    }

    /// Stores a message and sends it if the caller waits.
    ///
    /// Cancellation: must run to completion once begun; callers spawn it.
    ///
    /// # Errors
    ///
    /// See [`SubmitError`]; nothing was sent then.
    pub async fn submit(&self, request: SmsRequest) -> Result<Submitted, SubmitError> {
        let SmsRequest { to, body, owner, idempotency, daily_cap, wait } = request;
        let inner = &self.queue.0;
        let now = inner.clock.now();
        let id = inner.ids.next(now);
        let draft = SmsDraft {
            id,
            number: to.e164().to_owned(),
            content: content(&body),
            class: SmsClass::Notice,
            owner,
            created_at: now,
            deadline: now.plus(self.rules.notice_lifetime),
            begun: None,
            tried: Vec::new(),
            idempotency: idempotency.map(|Hashes { key, request }| SmsIdempotency {
                key,
                request,
                keys_max: self.rules.idempotency_keys_max,
            }),
            quota: match (owner, daily_cap) {
                (SmsOwner::ApiKey(api_key), Some(cap)) => {
                    Some(SmsQuota { api_key, day: now.as_secs() / 86_400, cap })
                }
                _ => None,
            },
            queue_max: self.rules.queue_max,
        };
        let carried = if wait {
            let deadline = Instant::now() + self.rules.round_timeout;
            let message = SmsMessage { to, local_id: id, body, class: SmsClass::Notice, deadline };
            let carried = self.carry(message, Carry { draft: Some(draft), ..Carry::default() }).await;
            carried.map(|carried| carried.record)
        } else {
            // The queue may be done with the message before it could be read again.
            let stored = SmsRecord::made(draft.clone());
            match refusal(inner.store.sms_insert(draft).await) {
                Some(stopped) => Err(stopped),
                None => {
                    inner.wake.notify_one();
                    Ok(Some(stored))
                }
            }
        };
        match carried {
            Ok(Some(message)) => Ok(Submitted::New(Box::new(message))),
            Ok(None) => match inner.store.sms_get(id).await? {
                Some(message) => Ok(Submitted::New(Box::new(message))),
                // Purged within the same second after a clock jump: it was stored and has ended.
                None => Ok(Submitted::Repeated(None)),
            },
            Err(Stopped::Repeated(message)) => Ok(Submitted::Repeated(message)),
            Err(Stopped::Refused(error)) => Err(error),
            Err(Stopped::Gone) => Ok(Submitted::Repeated(None)),
        }
    }
}

#[async_trait]
impl SmsPort for SmsRoute {
    async fn send(&self, message: SmsMessage) -> Result<SmsReceipt, SmsError> {
        let now = self.queue.0.clock.now();
        let class = message.class;
        let draft = SmsDraft {
            id: message.local_id,
            number: message.to.e164().to_owned(),
            content: if class == SmsClass::Otp { SmsContent::Hidden } else { content(&message.body) },
            class,
            owner: SmsOwner::Gateway,
            created_at: now,
            deadline: now.plus(message.deadline.saturating_duration_since(Instant::now())),
            begun: None,
            tried: Vec::new(),
            idempotency: None,
            quota: None,
            queue_max: self.rules.queue_max,
        };
        let carried = self.carry(message, Carry { draft: Some(draft), ..Carry::default() }).await;
        match carried {
            Ok(carried) => carried.result,
            // The store refused the record, so nothing was sent.
            Err(_) => Err(SmsError::Unavailable("the message could not be recorded".to_owned())),
        }
    }
}

/// Whether a message is still being sent, so that a repeated request must wait.
#[must_use]
pub fn is_running(message: &SmsRecord) -> bool {
    message.status == SmsStatus::Sending
}

/// Values of a template that providers may take without spaces only.
const SPACELESS: [&str; 3] = ["token", "token2", "token3"];

fn dashed(body: &SmsBody) -> Option<SmsBody> {
    let SmsBody::Template { name, values, fallback_text } = body else { return None };
    let value = |(name, value): &(String, String)| {
        let is_spaceless = SPACELESS.contains(&name.as_str());
        (name.clone(), if is_spaceless { value.replace(' ', "-") } else { value.clone() })
    };
    let values = values.iter().map(value).collect();
    Some(SmsBody::Template { name: name.clone(), values, fallback_text: fallback_text.clone() })
}
