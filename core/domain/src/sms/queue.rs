//! Messages from request to final state: stored first, then sent, tried again, given up.
//!
//! A request is carried out at once by its caller's task ([`SmsRoute::submit`]), or only stored (`wait` false). What
//! could not be sent for a passing reason waits in the store and is taken up by [`SmsQueue::run`], with growing,
//! jittered delays, until its deadline. A one-time code does not wait there: its text is in no record, so the task
//! that made it tries again, for as long as its asker can be kept waiting, or nobody does. Invariants: every message
//! has a record before a provider is asked and ends in exactly one final state; no more than `workers_max` waiting
//! messages are in memory, and none is taken up that no provider would let through.
//!
//! Not here: who may send ([`crate::operator::api_key`]), the order of providers ([`super::route`]), HTTP.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chelseru_store::{
    Begun, IdempotencyDraft, Message, MessageClass, MessageContent, MessageDraft, MessageEnd,
    MessageInserted, MessageStatus, Progress, Quota, Recovered, Reported, Store, StoreError, Tried,
};
use tokio::sync::Notify;

use super::route::{self, AttemptLog, Candidate, Failure, Routed};
use super::{Disposition, SmsBody, SmsClass, SmsError, SmsMessage, SmsPort, SmsReceipt};
use crate::ids::LocalIds;
use crate::{Clock, PhoneNumber, Timestamp};

/// When a provider is asked what became of a message, counted from the answer before.
const POLL_AFTER: [Duration; 6] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 60 * 60),
    Duration::from_secs(12 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
];
/// Messages asked for in one step of polling.
const POLL_STEP: usize = 500;
/// Before the second round of a code; doubles with each further one.
const OTP_RETRY_MIN: Duration = Duration::from_millis(400);
/// Characters of a provider's own code that a record keeps.
const PROVIDER_CODE_CHARS_MAX: usize = 32;
/// The longest sleep of the worker: the clock may be moved.
const SLEEP_MAX: Duration = Duration::from_secs(1);
const SLEEP_MIN: Duration = Duration::from_millis(20);

/// How messages are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmsRules {
    /// How long a notice is worth sending. Default 1 h.
    pub notice_lifetime: Duration,
    /// Time of one round over the providers. Default 20 s.
    pub round_timeout: Duration,
    /// Before the second round; doubles with each further one. Default 5 s.
    pub retry_min: Duration,
    /// Default 5 min.
    pub retry_max: Duration,
    /// How long a code that no provider took is tried again while its asker waits; never past the message's own
    /// deadline. Zero: one round only. Default 5 s.
    pub otp_retry: Duration,
    /// Waiting messages sent at once. Default 32.
    pub workers_max: usize,
    /// Messages that may wait. Default 200,000.
    pub queue_max: u64,
    /// Idempotency keys remembered. Default 100,000.
    pub idempotency_keys_max: u64,
    /// Before a provider is first asked what became of a message. Default 1 min.
    pub poll_first: Duration,
}

impl Default for SmsRules {
    fn default() -> Self {
        SmsRules {
            notice_lifetime: Duration::from_secs(60 * 60),
            round_timeout: Duration::from_secs(20),
            retry_min: Duration::from_secs(5),
            retry_max: Duration::from_secs(5 * 60),
            otp_retry: Duration::from_secs(5),
            workers_max: 32,
            queue_max: 200_000,
            idempotency_keys_max: 100_000,
            poll_first: POLL_AFTER[0],
        }
    }
}

/// A message that somebody wants sent.
#[derive(Debug, Clone)]
pub struct SmsRequest {
    pub to: PhoneNumber,
    pub body: SmsBody,
    /// The API key that asks; 0 for staff.
    pub owner: u64,
    /// Hashes of the caller's key and of what it asks for.
    pub idempotency: Option<([u8; 32], [u8; 32])>,
    /// Messages a day of this owner.
    pub daily_cap: Option<u64>,
    /// Whether the caller waits for the first round.
    pub wait: bool,
}

/// What became of a request.
#[derive(Debug)]
pub enum Submitted {
    /// Stored, and after the first round (or without one) in this state.
    New(Box<Message>),
    /// The same request was made before; its message as it stands, unless it is too old to be remembered.
    Repeated(Option<Box<Message>>),
}

#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("the idempotency key was used for another request")]
    KeyReused,
    #[error("the API key's messages for today are used up")]
    QuotaReached,
    #[error("too many messages wait")]
    Full,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Hears of every message that ends a round.
pub type Observer = Box<dyn Fn(&Message) + Send + Sync>;

/// What all routes share: the records and who works on them. Clones share it.
#[derive(Clone)]
pub struct SmsQueue(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Arc<dyn Clock>,
    ids: Arc<LocalIds>,
    wake: Notify,
    /// Waiting messages that are being carried, and whether a gate has let each through.
    active: Mutex<BTreeMap<u64, bool>>,
    observer: Observer,
}

/// The providers and rules of one configuration.
pub struct SmsRoute {
    queue: SmsQueue,
    candidates: Vec<Candidate>,
    rules: SmsRules,
}

/// Runs work that must not be dropped half way.
pub type Spawn = Box<dyn Fn(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync>;

impl SmsQueue {
    /// Takes over what the last process left: see [`Store::messages_recover`].
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn open(
        store: Store,
        clock: Arc<dyn Clock>,
        observer: Observer,
    ) -> Result<(SmsQueue, Recovered), StoreError> {
        let ids = Arc::new(LocalIds::after(store.message_last_id()?));
        let recovered = store.messages_recover(clock.now()).await?;
        let inner = Inner { store, clock, ids, wake: Notify::new(), active: Mutex::default(), observer };
        Ok((SmsQueue(Arc::new(inner)), recovered))
    }

    #[must_use]
    pub fn ids(&self) -> Arc<LocalIds> {
        Arc::clone(&self.0.ids)
    }

    /// Takes up waiting messages for ever. `route` says by which providers, `spawn` runs what must end.
    ///
    /// Cancellation: may be dropped at any time; what was spawned goes on.
    pub async fn run(&self, route: impl Fn() -> Arc<SmsRoute>, spawn: Spawn) {
        loop {
            let sleep = match self.step(&route(), &spawn) {
                Ok(sleep) => sleep,
                Err(error) => {
                    tracing::error!(%error, "waiting messages could not be read");
                    SLEEP_MAX
                }
            };
            // A notice that came before is kept, so that none is missed in between.
            let _ = tokio::time::timeout(sleep, self.0.wake.notified()).await;
        }
    }

    /// Starts what is due and can be sent; says for how long there is nothing to do.
    fn step(&self, route: &Arc<SmsRoute>, spawn: &Spawn) -> Result<Duration, StoreError> {
        let now = self.0.clock.now();
        if let Some(wait) = route.wait(now) {
            // Nobody would take them: they stay where they are, and only those whose time is up are looked for.
            self.expire(now)?;
            return Ok(wait.min(SLEEP_MAX));
        }
        let free = {
            let active = self.active();
            let entering = active.values().filter(|entered| !**entered).count();
            // No more than the gates let through: a message past a rate would only be put back, for longer each time.
            let room = route.room(now).saturating_sub(entering);
            route.rules.workers_max.saturating_sub(active.len()).min(room)
        };
        let gates = |now| route.wait(now).unwrap_or(SLEEP_MAX).clamp(SLEEP_MIN, SLEEP_MAX);
        if free == 0 {
            return Ok(gates(now));
        }
        let due = {
            let active = self.active();
            self.0.store.messages_due(now, free, |id| active.contains_key(&id))?
        };
        let started = due.len();
        for message in due {
            self.active().insert(message.id, false);
            let (queue, route) = (self.clone(), Arc::clone(route));
            spawn(Box::pin(async move {
                let id = message.id;
                if let Err(error) = route.take_up(message).await {
                    tracing::error!(message.id = id, %error, "a waiting message could not be carried on");
                }
                queue.active().remove(&id);
                queue.0.wake.notify_one();
            }));
        }
        if started == free {
            // More may be due: when one ends, or the gates let more through.
            return Ok(gates(self.0.clock.now()));
        }
        let next = self.0.store.message_next_due()?;
        let wait = next.map_or(SLEEP_MAX, |at| at.since(now));
        Ok(wait.clamp(SLEEP_MIN, SLEEP_MAX))
    }

    /// Ends waiting messages whose deadline passed while no provider could be asked, some at a time.
    fn expire(&self, now: Timestamp) -> Result<(), StoreError> {
        for message in self.0.store.messages_due(now, 64, |_| false)? {
            if message.deadline <= now {
                let queue = self.clone();
                tokio::spawn(async move {
                    let end =
                        if message.resume_with.is_some() { MessageEnd::Unknown } else { MessageEnd::Expired };
                    match queue.0.store.message_end(message.id, end, Vec::new(), now).await {
                        Ok(Some(message)) => (queue.0.observer)(&message),
                        Ok(None) => {}
                        Err(error) => tracing::error!(%error, "a message could not be ended"),
                    }
                });
            }
        }
        Ok(())
    }

    /// Takes a report of a provider; repeated and late ones change nothing.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn report(
        &self,
        provider: &str,
        provider_message_id: &str,
        progress: Progress,
    ) -> Result<Reported, StoreError> {
        self.0.store.message_report(provider, provider_message_id, progress, self.0.clock.now()).await
    }

    /// Asks providers what became of messages they accepted, one bounded step; says what each answer did.
    ///
    /// # Errors
    ///
    /// Those of the store; a provider that does not answer is asked again later.
    pub async fn poll(&self, route: &SmsRoute) -> Result<Vec<Reported>, StoreError> {
        let now = self.0.clock.now();
        let due = self.0.store.messages_to_poll(now, POLL_STEP)?;
        let mut next = Vec::with_capacity(due.len());
        let mut reported = Vec::new();
        for Candidate { provider, .. } in &route.candidates {
            let asked: Vec<&Message> =
                due.iter().filter(|message| message.provider == provider.name()).collect();
            if asked.is_empty() {
                continue;
            }
            let ids = asked.iter().map(|message| message.provider_message_id.clone()).collect();
            match provider.ask(ids).await {
                Ok(reports) => {
                    for (id, progress) in reports {
                        reported.push(self.report(provider.name(), &id, progress).await?);
                    }
                }
                Err(error) => {
                    tracing::warn!(plugin.id = provider.name(), %error, "the provider was not asked what became of messages");
                }
            }
        }
        for message in &due {
            let serves =
                route.candidates.iter().any(|candidate| candidate.provider.name() == message.provider);
            let delay = POLL_AFTER.get(message.polls as usize + 1).filter(|_| serves);
            next.push((message.id, delay.map(|delay| now.plus(*delay))));
        }
        if !next.is_empty() {
            self.0.store.messages_polled(next).await?;
        }
        Ok(reported)
    }

    /// No code that can panic runs under the lock.
    fn active(&self) -> MutexGuard<'_, BTreeMap<u64, bool>> {
        lock(&self.0.active)
    }
}

impl SmsRoute {
    #[must_use]
    pub fn new(queue: SmsQueue, candidates: Vec<Candidate>, rules: SmsRules) -> Self {
        SmsRoute { queue, candidates, rules }
    }

    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    #[must_use]
    pub fn queue(&self) -> &SmsQueue {
        &self.queue
    }

    /// Checks a message by the rules of every provider that may carry it, so that failover breaks on none.
    ///
    /// # Errors
    ///
    /// The first refusal, or [`SmsError::NotMapped`] when no provider can send it at all.
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
                // The rules could not be asked for; sending will tell.
                Err(_) => carriers += 1,
            }
        }
        if carriers == 0 { Err(SmsError::NotMapped) } else { Ok(()) }
    }

    /// Stores a message and, when the caller waits, sends it.
    ///
    /// Cancellation: must run to its end once begun; callers spawn it.
    ///
    /// # Errors
    ///
    /// See [`SubmitError`]; nothing was sent then.
    pub async fn submit(&self, request: SmsRequest) -> Result<Submitted, SubmitError> {
        let SmsRequest { to, body, owner, idempotency, daily_cap, wait } = request;
        let inner = &self.queue.0;
        let now = inner.clock.now();
        let id = inner.ids.next(now);
        let draft = MessageDraft {
            id,
            number: to.e164().to_owned(),
            content: content(&body),
            class: MessageClass::Notice,
            owner,
            created_at: now,
            deadline: now.plus(self.rules.notice_lifetime),
            begun: None,
            tried: Vec::new(),
            idempotency: idempotency.map(|(key, request)| IdempotencyDraft {
                key,
                request,
                keys_max: self.rules.idempotency_keys_max,
            }),
            quota: daily_cap.map(|cap| Quota { owner, day: now.as_secs() / 86_400, cap }),
            queue_max: self.rules.queue_max,
        };
        let carried = if wait {
            let deadline = Instant::now() + self.rules.round_timeout;
            let message = SmsMessage { to, local_id: id, body, class: SmsClass::Notice, deadline };
            self.carry(message, Carry { draft: Some(draft), ..Carry::default() }).await.map(drop)
        } else {
            match refusal(inner.store.message_insert(draft).await) {
                Some(stopped) => Err(stopped),
                None => {
                    inner.wake.notify_one();
                    Ok(())
                }
            }
        };
        match carried {
            Ok(()) => match inner.store.message_get(id)? {
                Some(message) => Ok(Submitted::New(Box::new(message))),
                // Purged within the same second by a clock that jumped: it was stored and has ended.
                None => Ok(Submitted::Repeated(None)),
            },
            Err(Stopped::Repeated(message)) => Ok(Submitted::Repeated(message)),
            Err(Stopped::Refused(error)) => Err(error),
            Err(Stopped::Gone) => Ok(Submitted::Repeated(None)),
        }
    }

    /// How long no candidate would let a message through; `None` when one would.
    fn wait(&self, now: Timestamp) -> Option<Duration> {
        self.candidates
            .iter()
            .map(|candidate| candidate.gate.wait(now))
            .min_by_key(|wait| wait.unwrap_or_default())?
    }

    /// Messages that the candidates would let through now, one after another.
    fn room(&self, now: Timestamp) -> usize {
        let rooms = self.candidates.iter().map(|candidate| candidate.gate.room(now));
        // Without a candidate each message is taken up, to end.
        rooms.reduce(usize::saturating_add).unwrap_or(usize::MAX)
    }

    /// Carries on a message that waited.
    async fn take_up(&self, message: Message) -> Result<(), StoreError> {
        let inner = &self.queue.0;
        let now = inner.clock.now();
        let resumed = message.resume_with.is_some();
        let body = match body(&message.content) {
            Some(body) if now < message.deadline => body,
            // A code without its text cannot be sent; what is late is not sent.
            other => {
                let end = match (resumed, other) {
                    (true, _) => MessageEnd::Unknown,
                    (false, Some(_)) => MessageEnd::Expired,
                    (false, None) => MessageEnd::Failed,
                };
                if let Some(ended) = inner.store.message_end(message.id, end, Vec::new(), now).await? {
                    (inner.observer)(&ended);
                }
                return Ok(());
            }
        };
        let Ok(to) = PhoneNumber::parse(&message.number) else {
            inner.store.message_end(message.id, MessageEnd::Failed, Vec::new(), now).await?;
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

    /// One round over the providers, or several for a code, recorded.
    async fn carry(
        &self,
        message: SmsMessage,
        carry: Carry,
    ) -> Result<Result<SmsReceipt, SmsError>, Stopped> {
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
        // No provider was asked: the record is made now.
        if let Some(mut draft) = take(&log.draft) {
            if is_otp {
                // It ends at once and does not wait.
                draft.queue_max = u64::MAX;
            }
            if let Some(stopped) = refusal(inner.store.message_insert(draft).await) {
                return Err(stopped);
            }
        }
        let now = inner.clock.now();
        let end = self.end_of(&routed, &carry.resume_with, rounds, deadline, now, is_otp);
        let retried = matches!(end, MessageEnd::Retry { .. });
        let ended = inner.store.message_end(id, end, log.unrecorded(), now).await;
        if let Some(ended) = ended.map_err(SubmitError::Store)? {
            (inner.observer)(&ended);
        }
        if retried {
            inner.wake.notify_one();
        }
        Ok(routed.result)
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

    /// How long to wait before a code's next round; `None` when there is none: it was sent, or may have been, or
    /// cannot be in time.
    fn delay_of_code(&self, rounds: u32, routed: &Routed, until: Instant) -> Option<Duration> {
        let error = routed.result.as_ref().err()?;
        let passing = routed.failures.iter().any(|failure| failure.error.is_transient());
        if error.disposition() != Disposition::TryNext || !passing {
            return None;
        }
        let grown = OTP_RETRY_MIN.saturating_mul(1u32.checked_shl(rounds).unwrap_or(u32::MAX));
        let told = told(&routed.failures).unwrap_or_default();
        // Nobody is asked before a gate opens, so there is nothing to try before that.
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
    ) -> MessageEnd {
        let error = match &routed.result {
            Ok(receipt) => {
                let reports = self.candidates.iter().any(|candidate| {
                    candidate.provider.name() == receipt.provider && candidate.provider.reports()
                });
                return MessageEnd::Accepted {
                    provider: receipt.provider.clone(),
                    provider_message_id: receipt.message_id.clone(),
                    cost_rial: receipt.cost_rial,
                    poll_at: reports.then(|| now.plus(self.rules.poll_first)),
                };
            }
            Err(error) => error,
        };
        // Nothing a provider says later undoes that it may have the message already.
        let given_up = if resume_with.is_some() { MessageEnd::Unknown } else { MessageEnd::Failed };
        let transient = routed.failures.iter().any(|failure| failure.error.is_transient());
        let resume_with = match error.disposition() {
            // A provider that knows our id is asked until it says what became of the message.
            Disposition::Unknown if routed.resume_with.is_some() && !is_otp => &routed.resume_with,
            Disposition::Unknown => return MessageEnd::Unknown,
            Disposition::TryNext if transient && !is_otp => resume_with,
            Disposition::Final | Disposition::TryNext => return given_up,
        };
        let due_at = now.plus(self.delay(rounds, &routed.failures));
        match (due_at < deadline, resume_with) {
            (true, _) => MessageEnd::Retry { due_at, resume_with: resume_with.clone() },
            (false, Some(_)) => MessageEnd::Unknown,
            (false, None) => MessageEnd::Expired,
        }
    }

    /// Doubles with each round.
    fn delay(&self, rounds: u32, failures: &[Failure]) -> Duration {
        let growth = 1u32.checked_shl(rounds).unwrap_or(u32::MAX);
        let delay = self.rules.retry_min.saturating_mul(growth).min(self.rules.retry_max);
        jittered(delay).max(told(failures).unwrap_or_default())
    }
}

#[async_trait]
impl SmsPort for SmsRoute {
    async fn send(&self, message: SmsMessage) -> Result<SmsReceipt, SmsError> {
        let now = self.queue.0.clock.now();
        let class = match message.class {
            SmsClass::Otp => MessageClass::Otp,
            SmsClass::Notice => MessageClass::Notice,
        };
        let draft = MessageDraft {
            id: message.local_id,
            number: message.to.e164().to_owned(),
            content: if class == MessageClass::Otp { MessageContent::Hidden } else { content(&message.body) },
            class,
            owner: 0,
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
            Ok(result) => result,
            // Nothing was sent: the store refused the record.
            Err(_) => Err(SmsError::Unavailable("the message could not be recorded".to_owned())),
        }
    }
}

/// What a round goes on from.
#[derive(Default)]
struct Carry {
    /// The record, when there is none yet; made together with the first attempt.
    draft: Option<MessageDraft>,
    rounds: u32,
    deadline: Option<Timestamp>,
    resume_with: Option<String>,
}

/// Why a message is not sent by this call.
enum Stopped {
    Repeated(Option<Box<Message>>),
    Refused(SubmitError),
    /// It ended or was removed meanwhile.
    Gone,
}

impl From<SubmitError> for Stopped {
    fn from(error: SubmitError) -> Self {
        Stopped::Refused(error)
    }
}

fn refusal(inserted: Result<MessageInserted, StoreError>) -> Option<Stopped> {
    match inserted {
        Ok(MessageInserted::Inserted) => None,
        Ok(MessageInserted::Repeated(message)) => Some(Stopped::Repeated(message)),
        Ok(MessageInserted::KeyReused) => Some(SubmitError::KeyReused.into()),
        Ok(MessageInserted::QuotaReached) => Some(SubmitError::QuotaReached.into()),
        Ok(MessageInserted::Full) => Some(SubmitError::Full.into()),
        Err(error) => Some(SubmitError::Store(error).into()),
    }
}

/// Records attempts; the first one together with the message itself.
struct Log<'a> {
    inner: &'a Inner,
    id: u64,
    draft: Mutex<Option<MessageDraft>>,
    stopped: Mutex<Option<Stopped>>,
    /// Failures of the rounds before that are not in the record yet.
    unrecorded: Mutex<Vec<Failure>>,
    /// How many failures of this round are.
    recorded: AtomicUsize,
}

impl Log<'_> {
    /// Keeps what the record does not hold yet for the next change of it.
    fn round_ended(&self, failures: &[Failure]) {
        let recorded = self.recorded.swap(0, Ordering::Relaxed).min(failures.len());
        lock(&self.unrecorded).extend_from_slice(&failures[recorded..]);
    }

    /// Makes durable that nobody is being asked until the next round, so that a stop in between leaves no doubt.
    async fn rest(&self) -> Result<(), Stopped> {
        if lock(&self.draft).is_some() {
            // Nobody was asked yet, and there is no record.
            return Ok(());
        }
        let rested = self.inner.store.message_rest(self.id, self.unrecorded(), self.inner.clock.now()).await;
        if rested.map_err(SubmitError::Store)? { Ok(()) } else { Err(Stopped::Gone) }
    }

    fn unrecorded(&self) -> Vec<Tried> {
        tried(&std::mem::take(&mut *lock(&self.unrecorded)))
    }
}

#[async_trait]
impl AttemptLog for Log<'_> {
    async fn begin(&self, provider: &str, deduplicates: bool, failures: &[Failure]) -> bool {
        if let Some(entered) = lock(&self.inner.active).get_mut(&self.id) {
            *entered = true;
        }
        let begun = Begun { provider: provider.to_owned(), deduplicates };
        let store = &self.inner.store;
        let mut failed = self.unrecorded();
        failed.extend(tried(failures));
        let stopped = match take(&self.draft) {
            Some(draft) => {
                let draft = MessageDraft { begun: Some(begun), tried: failed, ..draft };
                refusal(store.message_insert(draft).await)
            }
            None => match store.message_begin(self.id, begun, failed, self.inner.clock.now()).await {
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

/// No code that can panic runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    lock(slot).take()
}

fn tried(failures: &[Failure]) -> Vec<Tried> {
    let tried = |failure: &Failure| {
        let code = failure.error.rejection().map_or("", |rejection| rejection.code.as_str());
        Tried {
            provider: failure.provider.clone(),
            code: failure.error.code().to_owned(),
            provider_code: code.chars().take(PROVIDER_CODE_CHARS_MAX).collect(),
        }
    };
    failures.iter().map(tried).collect()
}

/// A half more or less, so that what failed together does not come back together.
fn jittered(delay: Duration) -> Duration {
    // Without randomness the delay is a fixed one, which is no reason to fail.
    let percent = 50 + getrandom::u64().unwrap_or(50) % 101;
    delay.mul_f64(percent as f64 / 100.0)
}

/// How long a provider told to wait, the shortest of them.
fn told(failures: &[Failure]) -> Option<Duration> {
    let told = failures.iter().filter_map(|failure| match failure.error {
        SmsError::Throttled(wait) => wait,
        _ => None,
    });
    told.min()
}

fn content(body: &SmsBody) -> MessageContent {
    match body.clone() {
        SmsBody::Text { text } => MessageContent::Text(text),
        SmsBody::Template { name, values, fallback_text } => {
            MessageContent::Template { name, values, fallback_text }
        }
    }
}

fn body(content: &MessageContent) -> Option<SmsBody> {
    match content.clone() {
        MessageContent::Hidden => None,
        MessageContent::Text(text) => Some(SmsBody::Text { text }),
        MessageContent::Template { name, values, fallback_text } => {
            Some(SmsBody::Template { name, values, fallback_text })
        }
    }
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

/// Whether a client that waits may ask again about this message only later.
#[must_use]
pub fn is_running(message: &Message) -> bool {
    message.status == MessageStatus::Sending
}
