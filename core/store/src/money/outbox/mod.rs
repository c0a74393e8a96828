//! The outbox: what happened to payments and wallets, for whoever wants to be told.
//!
//! An event is written in the same change as what it tells of, so that neither exists without the other. It waits
//! as new until it was routed to the endpoints of that moment; from then on each endpoint has a delivery of it, which
//! is pending (due at an instant), delivered, or dead. Invariants: an event is never changed; events are removed only
//! by age and by number, the oldest first, whatever became of them; nothing is written while nobody listens.
//!
//! Not here: who listens, how an event is told and when it is tried again (`chelseru-domain::webhook`).

pub(crate) mod sled;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, on_engine};
use crate::money::payment::{Currency, PayMode, PaymentState};
use crate::{EventId, PaymentId, SpendId, Store, StoreError, Timestamp, UserId};

/// Something that happened to money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub id: EventId,
    pub at: Timestamp,
    pub body: EventBody,
}

/// What happened, as it was then. Amounts and balances are rial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventBody {
    /// Paid, failed, cancelled or expired.
    PaymentEnded(PaymentFacts),
    /// A part or all of it was given back.
    PaymentRefunded { payment: PaymentFacts, amount: u64, number: u32 },
    /// What a user may spend is another amount now: `amount` more, or less when negative. `posting` is the key of the
    /// ledger's posting that moved it.
    WalletChanged { user: UserId, amount: i64, balance: i64, posting: String },
    /// Held money went to the merchant.
    SpendCaptured { spend: SpendId, user: UserId, held: u64, captured: u64, order: String },
    /// A gateway lists a payment as paid that is not credited here; without `payment` none of ours has this reference.
    PaymentUncredited {
        gateway: String,
        reference: String,
        listed: Option<u64>,
        payment: Option<PaymentFacts>,
    },
}

/// A payment at the moment of an event. Amounts are rial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentFacts {
    pub id: PaymentId,
    pub user: UserId,
    pub state: PaymentState,
    pub reason: String,
    pub amount: u64,
    pub refunded: u64,
    pub currency: Currency,
    pub mode: PayMode,
    pub order: String,
    pub gateway: String,
    pub receipt: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryState {
    Pending,
    Delivered,
    /// Given up; replaying tries it again.
    Dead,
}

/// An event on its way to one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub state: DeliveryState,
    /// Tries so far, since it was routed or replayed.
    pub attempts: u32,
    /// When it is tried next while it is pending.
    pub due_at: Timestamp,
    /// Why the last try failed; empty when none did.
    pub error: String,
}

/// What a try came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    Delivered,
    /// Tried again at this instant; given up without one.
    Failed {
        error: String,
        again_at: Option<Timestamp>,
    },
}

/// An event and what became of it at each endpoint, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventReport {
    pub event: Event,
    pub deliveries: Vec<(String, Delivery)>,
}

impl Store {
    /// Whether events are written from now on. What was written stays.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn events_want(&self, wanted: bool) -> Result<(), StoreError> {
        on_engine!(self, events_want(wanted).await)
    }

    /// Gives new events, at most `limit`, to the endpoints that `endpoints_of` names for them; says how many there
    /// were. To be called by one task.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn events_route(
        &self,
        limit: usize,
        now: Timestamp,
        endpoints_of: impl Fn(&Event) -> Vec<String>,
    ) -> Result<usize, StoreError> {
        on_engine!(self, events_route(limit, now, endpoints_of).await)
    }

    /// The events that an endpoint should be told of by now, the longest overdue first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn deliveries_due(
        &self,
        endpoint: &str,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(Event, Delivery)>, StoreError> {
        on_engine!(self, read deliveries_due(endpoint, now, limit))
    }

    /// Notes what tries came to.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn deliveries_note(
        &self,
        endpoint: &str,
        attempts: Vec<(EventId, Attempt)>,
    ) -> Result<(), StoreError> {
        on_engine!(self, deliveries_note(endpoint, attempts).await)
    }

    /// Sends an event again, to one endpoint or to all that it was routed to; says to how many. An endpoint that it
    /// was never routed to is told as well when it is named.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn event_replay(
        &self,
        id: EventId,
        endpoint: Option<String>,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        on_engine!(self, event_replay(id, endpoint, now).await)
    }

    /// Sends dead events again, of one endpoint or of all, at most `limit`; says how many.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn events_replay_dead(
        &self,
        endpoint: Option<String>,
        limit: usize,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        on_engine!(self, events_replay_dead(endpoint, limit, now).await)
    }

    /// Events with their deliveries, newest first, at most `limit`, those before `before`; only those with a dead
    /// delivery, if asked.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn events_list(
        &self,
        before: Option<EventId>,
        dead: bool,
        limit: usize,
    ) -> Result<Vec<EventReport>, StoreError> {
        on_engine!(self, read events_list(before, dead, limit))
    }

    /// How many deliveries are dead, counted up to `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub async fn deliveries_dead(&self, limit: usize) -> Result<usize, StoreError> {
        on_engine!(self, read deliveries_dead(limit))
    }

    /// Removes events from before `since`, and the oldest beyond `keep`, at most `limit`; says how many, and how many
    /// of them somebody had not been told of.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn events_purge(
        &self,
        since: Timestamp,
        keep: u64,
        limit: usize,
    ) -> Result<(usize, usize), StoreError> {
        on_engine!(self, events_purge(since, keep, limit).await)
    }
}
