//! The outbox: events of payments, wallets and the credit of providers, for webhook endpoints.
//!
//! An event is written in the change it describes, so neither exists without the other. A new event waits until it is
//! routed to the endpoints configured at that moment. From then on each endpoint has a delivery of it, which is
//! pending (due at an instant), delivered, or dead. Invariants: an event never changes. Events are removed only by
//! age and by number, oldest first, delivered or not. Nothing is written while no endpoint is configured.
//!
//! Not here: endpoints, the form of a delivery, and its retries (`chelseru-domain::webhook`).

mod event;
pub(crate) mod postgres;
pub(crate) mod sled;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, boxed, on_engine};
use crate::money::payment::{Currency, PayMode, PaymentState};
use crate::{Due, EventId, PaymentId, SpendId, Store, StoreError, Timestamp, UserId};

/// An event about money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub id: EventId,
    pub at: Timestamp,
    pub body: EventBody,
}

/// The event, with the values of that moment. Amounts and balances are rial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventBody {
    /// Paid, failed, cancelled or expired.
    PaymentEnded(PaymentFacts),
    /// Partly or fully refunded.
    PaymentRefunded { payment: PaymentFacts, amount: u64, number: u32 },
    /// What a user may spend is another amount now: `amount` more, or less when negative. `posting` is the key of the
    /// ledger's posting that moved it, `order` the client's name of what it was for.
    WalletChanged { user: UserId, amount: i64, balance: i64, posting: String, order: String },
    /// Held money went to the merchant.
    SpendCaptured { spend: SpendId, user: UserId, held: u64, captured: u64, order: String },
    /// A gateway lists a payment as paid that is not credited here; without `payment`, none of ours has this
    /// reference.
    PaymentUncredited {
        gateway: String,
        reference: String,
        listed: Option<u64>,
        payment: Option<PaymentFacts>,
    },
    /// The gateway refuses to return a payment whose refund is booked. A person has to decide.
    ReversalRefused { payment: PaymentFacts, code: String },
    /// A booked refund that the payer did not get was taken back.
    RefundUndone { payment: PaymentFacts, amount: u64, number: u32 },
    /// Held money went back to its wallet, because nobody captured it in time.
    HoldExpired { spend: SpendId, user: UserId, amount: u64, order: String },
    /// Says nothing: for trying an endpoint out.
    Test,
    /// The credit at a provider of messages fell below what the configuration wants.
    CreditLow(CreditFacts),
}

/// A provider's credit at the moment of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreditFacts {
    pub provider: String,
    /// In its own unit: `rial` or `messages`.
    pub amount: i64,
    pub unit: String,
    /// The least that the configuration wants.
    pub min: i64,
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
    /// The gateway's name of the payment.
    pub reference: Option<String>,
    pub receipt: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryState {
    Pending,
    Delivered,
    /// Given up; a replay tries it again.
    Dead,
}

/// An event on its way to one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub state: DeliveryState,
    /// Attempts since it was routed or replayed.
    pub attempts: u32,
    /// When a pending delivery is tried next.
    pub due_at: Timestamp,
    /// Why the last attempt failed; empty when none did.
    pub error: String,
}

/// The result of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    Delivered,
    /// Retried at this instant; given up when there is none.
    Failed {
        error: String,
        again_at: Option<Timestamp>,
    },
}

/// An event and its delivery at each endpoint, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventReport {
    pub event: Event,
    pub deliveries: Vec<(String, Delivery)>,
}

/// Which events to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventFilter {
    All,
    /// Those with a dead delivery.
    Dead,
}

impl Store {
    /// Sets whether events are written from now on. Existing events stay. Of gateways that share the store, one that
    /// wants events is enough, for as long as it is there; one that wants none does not hold the lease of
    /// [`Task::Webhooks`](crate::Task::Webhooks).
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn events_want(&self, wanted: bool) -> Result<(), StoreError> {
        on_engine!(self, events_want(wanted).await)
    }

    /// Routes at most `limit` new events to the endpoints that `endpoints_of` names; returns their number. Only one
    /// task may call it.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn events_route(
        &self,
        limit: usize,
        now: Timestamp,
        endpoints_of: &(dyn Fn(&Event) -> Vec<String> + Sync),
    ) -> Result<usize, StoreError> {
        on_engine!(self, events_route(limit, now, endpoints_of).await)
    }

    /// An endpoint's due events, longest overdue first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn deliveries_due(
        &self,
        endpoint: &str,
        due: Due,
        limit: usize,
    ) -> Result<Vec<(Event, Delivery)>, StoreError> {
        on_engine!(self, read deliveries_due(endpoint, due, limit))
    }

    /// Stores the results of attempts.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn deliveries_note(
        &self,
        endpoint: &str,
        attempts: Vec<(EventId, Attempt)>,
    ) -> Result<(), StoreError> {
        on_engine!(self, deliveries_note(endpoint, attempts).await)
    }

    /// Notes whether a provider's credit is low; returns true when it was not so before. Falling below writes an event,
    /// once until it rises again, whatever restarts. Nothing is written while nothing changes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and any error of a change.
    #[boxed]
    pub async fn credit_note(
        &self,
        credit: CreditFacts,
        low: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        on_engine!(self, credit_note(credit, low, now).await)
    }

    /// Writes an event that says nothing, for one endpoint.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    #[boxed]
    pub async fn event_test(&self, endpoint: String, now: Timestamp) -> Result<EventId, StoreError> {
        on_engine!(self, event_test(endpoint, now).await)
    }

    /// Queues an event again, for one endpoint or for all it was routed to; returns how many. A named endpoint is
    /// included even if the event was never routed to it.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn event_replay(
        &self,
        id: EventId,
        endpoint: Option<String>,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        on_engine!(self, event_replay(id, endpoint, now).await)
    }

    /// Queues dead events again, of one endpoint or of all, at most `limit`; returns how many.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn events_replay_dead(
        &self,
        endpoint: Option<String>,
        limit: usize,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        on_engine!(self, events_replay_dead(endpoint, limit, now).await)
    }

    /// Events with their deliveries, newest first, before `before`, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn events_list(
        &self,
        before: Option<EventId>,
        which: EventFilter,
        limit: usize,
    ) -> Result<Vec<EventReport>, StoreError> {
        on_engine!(self, read events_list(before, which, limit))
    }

    /// Counts dead deliveries up to `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    #[boxed]
    pub async fn deliveries_dead(&self, limit: usize) -> Result<usize, StoreError> {
        on_engine!(self, read deliveries_dead(limit))
    }

    /// Removes events older than `since`, and the oldest beyond `keep`, at most `limit`. Returns how many, and how
    /// many of them had undelivered deliveries.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn events_purge(
        &self,
        since: Timestamp,
        keep: u64,
        limit: usize,
    ) -> Result<(usize, usize), StoreError> {
        on_engine!(self, events_purge(since, keep, limit).await)
    }
}
