//! The queue of messages: stored first, then sent, retried, and ended.
//!
//! The caller's task sends a request at once ([`SmsRoute::submit`]) or only stores it (`wait` false). A message that
//! failed for a transient reason waits in the store. [`SmsQueue::run`] retries it with growing, jittered delays until
//! its deadline. A one-time code does not wait there, because no record holds its text: the task that created it
//! retries while its caller waits. Invariants: every message has a record before a provider is asked, and ends in
//! exactly one final state; at most `workers_max` waiting messages are in memory; a message is taken up only when a
//! provider would accept it.
//!
//! Not here: permission to send ([`crate::operator::api_key`]), the order of providers ([`super::route`]), HTTP.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chelseru_store::{
    Due, SmsEnd, SmsFilter, SmsPage, SmsProgress, SmsRange, SmsRecord, SmsRecovered, SmsReported, Store,
    StoreError,
};
use tokio::sync::Notify;

use super::route::Candidate;
use super::rules::POLL_AFTER;
pub use super::rules::SmsRules;
pub use super::submit::{SmsRequest, SubmitError, Submitted, is_running};
use crate::ids::LocalIds;
use crate::{Clock, Timestamp};

/// Messages of one polling step.
const POLL_STEP: usize = 500;

/// Longest sleep of the worker, because the clock may change.
const SLEEP_MAX: Duration = Duration::from_secs(1);
const SLEEP_MIN: Duration = Duration::from_millis(20);

/// Called for every message whose round ended.
pub type Observer = Box<dyn Fn(&SmsRecord) + Send + Sync>;

/// The records and the work in progress, shared by all routes. Clones share it.
#[derive(Clone)]
pub struct SmsQueue(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<LocalIds>,
    pub(super) wake: Notify,
    /// Waiting messages in progress, and whether a gate has let each through.
    pub(super) active: Mutex<BTreeMap<u64, bool>>,
    pub(super) observer: Observer,
}

/// The providers and rules of one configuration.
pub struct SmsRoute {
    pub(super) queue: SmsQueue,
    pub(super) candidates: Vec<Candidate>,
    pub(super) rules: SmsRules,
}

/// Runs work that must not be dropped half way.
pub type Spawn = Box<dyn Fn(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync>;

impl SmsQueue {
    /// Takes over the messages of the previous process: see [`Store::sms_recover`]. `slot` is this gateway's among
    /// those that share the store, if any do.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn open(
        store: Store,
        clock: Arc<dyn Clock>,
        observer: Observer,
        slot: Option<u64>,
    ) -> Result<(SmsQueue, SmsRecovered), StoreError> {
        let ids = LocalIds::after(store.sms_last_id().await?);
        let ids = Arc::new(match slot {
            Some(slot) => ids.in_slot(slot),
            None => ids,
        });
        let recovered = store.sms_recover(clock.now()).await?;
        let inner = Inner { store, clock, ids, wake: Notify::new(), active: Mutex::default(), observer };
        Ok((SmsQueue(Arc::new(inner)), recovered))
    }

    #[must_use]
    pub fn ids(&self) -> Arc<LocalIds> {
        Arc::clone(&self.0.ids)
    }

    /// Takes over the messages of other gateways that are gone.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn recover(&self) -> Result<SmsRecovered, StoreError> {
        let recovered = self.0.store.sms_recover(self.0.clock.now()).await?;
        if recovered.resumed > 0 {
            self.0.wake.notify_one();
        }
        Ok(recovered)
    }

    /// Sends waiting messages until it is dropped. `route` returns the current providers, `spawn` runs work to
    /// completion.
    ///
    /// Cancellation: may be dropped at any time. Spawned work continues.
    pub async fn run(&self, route: impl Fn() -> Arc<SmsRoute>, spawn: Spawn) {
        loop {
            let sleep = match self.step(&route(), &spawn).await {
                Ok(sleep) => sleep,
                Err(error) => {
                    tracing::error!(%error, "waiting messages could not be read");
                    SLEEP_MAX
                }
            };
            // `Notify` keeps an earlier notice, so none is missed in between.
            let _ = tokio::time::timeout(sleep, self.0.wake.notified()).await;
        }
    }

    /// Starts the messages that are due and can be sent. Returns how long there is nothing to do.
    async fn step(&self, route: &Arc<SmsRoute>, spawn: &Spawn) -> Result<Duration, StoreError> {
        let now = self.0.clock.now();
        if let Some(wait) = route.wait(now) {
            // No provider would take a message: messages stay queued, and only expired ones are ended.
            self.expire(route.due(now), now).await?;
            return Ok(wait.min(SLEEP_MAX));
        }
        let free = {
            let active = self.active();
            let entering = active.values().filter(|entered| !**entered).count();
            // Limited by the gates: a message past a rate would go back to the queue, each time for longer.
            let room = route.room(now).saturating_sub(entering);
            route.rules.workers_max.saturating_sub(active.len()).min(room)
        };
        let gates = |now| route.wait(now).unwrap_or(SLEEP_MAX).clamp(SLEEP_MIN, SLEEP_MAX);
        if free == 0 {
            return Ok(gates(now));
        }
        // Only this task adds to the active messages, so what it copied lacks none.
        let active: HashSet<u64> = self.active().keys().copied().collect();
        let due = self.0.store.sms_due(route.due(now), free, &|id| active.contains(&id)).await?;
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
            // More may be due: continue when one ends, or when the gates have room.
            return Ok(gates(self.0.clock.now()));
        }
        let next = self.0.store.sms_next_due().await?;
        let wait = next.map_or(SLEEP_MAX, |at| at.since(now));
        Ok(wait.clamp(SLEEP_MIN, SLEEP_MAX))
    }

    /// Ends expired messages while no provider can be asked, a few at a time.
    async fn expire(&self, due: Due, now: Timestamp) -> Result<(), StoreError> {
        for message in self.0.store.sms_due(due, 64, &|_| false).await? {
            if message.deadline <= now {
                let queue = self.clone();
                tokio::spawn(async move {
                    let end = if message.resume_with.is_some() { SmsEnd::Unknown } else { SmsEnd::Expired };
                    match queue.0.store.sms_end(message.id, end, Vec::new(), now).await {
                        Ok(Some(message)) => (queue.0.observer)(&message),
                        Ok(None) => {}
                        Err(error) => tracing::error!(%error, "a message could not be ended"),
                    }
                });
            }
        }
        Ok(())
    }

    /// One page of messages. Looks at `looked_max` records at most.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn page(
        &self,
        filter: &SmsFilter,
        range: SmsRange,
        limit: usize,
        looked_max: usize,
    ) -> Result<SmsPage, StoreError> {
        self.0.store.sms_page(filter, range, limit, looked_max).await
    }

    /// One message.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn get(&self, id: u64) -> Result<Option<SmsRecord>, StoreError> {
        self.0.store.sms_get(id).await
    }

    /// Stores a provider's report. Repeated and late reports change nothing.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn report(
        &self,
        provider: &str,
        provider_message_id: &str,
        progress: SmsProgress,
    ) -> Result<SmsReported, StoreError> {
        self.0.store.sms_report(provider, provider_message_id, progress, self.0.clock.now()).await
    }

    /// Asks providers for the state of accepted messages, one bounded step. Returns the effect of each answer.
    ///
    /// # Errors
    ///
    /// Those of the store. A provider that does not answer is asked again later.
    pub async fn poll(&self, route: &SmsRoute) -> Result<Vec<SmsReported>, StoreError> {
        let now = self.0.clock.now();
        let due = self.0.store.sms_to_poll(now, POLL_STEP).await?;
        let mut next = Vec::with_capacity(due.len());
        let mut reported = Vec::new();
        for Candidate { provider, .. } in &route.candidates {
            let asked: Vec<&SmsRecord> =
                due.iter().filter(|message| message.provider.as_deref() == Some(provider.name())).collect();
            if asked.is_empty() {
                continue;
            }
            let ids = asked.iter().filter_map(|message| message.provider_message_id.clone()).collect();
            match provider.ask(ids).await {
                Ok(reports) => {
                    for (id, progress) in reports {
                        reported.push(self.report(provider.name(), &id, progress).await?);
                    }
                }
                Err(error) => {
                    tracing::warn!(plugin.id = provider.name(), %error, "the delivery of messages could not be polled");
                }
            }
        }
        for message in &due {
            let provider = message.provider.as_deref();
            let serves = route.candidates.iter().any(|candidate| Some(candidate.provider.name()) == provider);
            let delay = POLL_AFTER.get(message.polls as usize + 1).filter(|_| serves);
            next.push((message.id, delay.map(|delay| now.plus(*delay))));
        }
        if !next.is_empty() {
            self.0.store.sms_polled(next).await?;
        }
        Ok(reported)
    }

    /// No code that can panic runs under the lock.
    fn active(&self) -> MutexGuard<'_, BTreeMap<u64, bool>> {
        lock(&self.0.active)
    }
}

/// No code that can panic runs under these locks.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// The same rules with one provider only; `None` when the route has none of this name.
    pub(crate) fn only(&self, name: &str) -> Option<SmsRoute> {
        let candidate = self.candidates.iter().find(|candidate| candidate.provider.name() == name)?;
        Some(SmsRoute::new(self.queue.clone(), vec![candidate.clone()], self.rules.clone()))
    }

    #[must_use]
    pub fn queue(&self) -> &SmsQueue {
        &self.queue
    }

    /// Time until a candidate accepts a message; `None` when one does now.
    pub(super) fn wait(&self, now: Timestamp) -> Option<Duration> {
        self.candidates
            .iter()
            .map(|candidate| candidate.gate.wait(now))
            .min_by_key(|wait| wait.unwrap_or_default())?
    }

    /// Messages that the candidates would accept now, one after another.
    fn room(&self, now: Timestamp) -> usize {
        let rooms = self.candidates.iter().map(|candidate| candidate.gate.room(now));
        // Without a candidate every message is taken up, and ends.
        rooms.reduce(usize::saturating_add).unwrap_or(usize::MAX)
    }
}
