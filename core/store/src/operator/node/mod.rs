//! Gateways that share one database: who is there, and which of them does what one at a time may do.
//!
//! A gateway says every few seconds that it is there ([`Store::node_seen`]) and learns of the others. A task that must
//! not run twice has a lease, which its holder renews ([`Store::leases_renew`]); one that falls silent, because it
//! ended or was paused, loses it when the time is over. All instants are the database's, so that no clock of a machine
//! matters. On sled the one gateway is alone and holds every lease.
//!
//! Not here: which tasks there are and how often they are renewed (the gateway).

pub(crate) mod postgres;
pub(crate) mod sled;

use std::time::Duration;

use crate::engine::{Engine, boxed, on_engine};
use crate::{Store, StoreError};

/// Gateways that may share a database.
pub const NODES_MAX: u64 = 64;

/// What a gateway says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// For operators: machine and address.
    pub name: String,
    /// How often it took a configuration over; 1 at its start.
    pub generation: u64,
    /// Digest of the configuration that it serves, without the keys of its machine.
    pub config: String,
    /// Digest of the components that serve.
    pub components: String,
    /// The last edit that it made; see [`Store::edit_enter`].
    pub edit: u64,
}

/// A gateway that was seen lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Below [`NODES_MAX`]; no two that run have the same.
    pub slot: u64,
    pub facts: NodeFacts,
    /// Since it started, and since it was last seen.
    pub up: Duration,
    pub silent: Duration,
    /// It is the one that asks.
    pub own: bool,
}

/// A task of which one at a time may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Task {
    /// Asks gateways about payments, returns holds and reversals.
    Payments,
    /// Assigns events to webhooks and delivers them.
    Webhooks,
    /// Removes what has expired, polls the delivery of messages.
    Upkeep,
    /// Indexes messages for searches.
    Search,
    /// Removes the traces of closed accounts.
    Erasure,
    /// Takes over messages whose gateway is gone, asks providers for their credit.
    Messages,
}

impl Task {
    pub const ALL: [Task; 6] =
        [Task::Payments, Task::Webhooks, Task::Upkeep, Task::Search, Task::Erasure, Task::Messages];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Task::Payments => "payments",
            Task::Webhooks => "webhooks",
            Task::Upkeep => "upkeep",
            Task::Search => "search",
            Task::Erasure => "erasure",
            Task::Messages => "messages",
        }
    }
}

impl Store {
    /// Whether other gateways may use the store at the same time.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        match &*self.engine {
            Engine::Sled(_) => false,
            Engine::Postgres(engine) => !engine.shared.is_alone(),
        }
    }

    /// Says that this gateway is there. Returns all that were seen within `keep`, itself among them, by slot.
    ///
    /// # Errors
    ///
    /// Any error of a change; [`StoreError::InUse`] when [`NODES_MAX`] run already.
    #[boxed]
    pub async fn node_seen(&self, facts: NodeFacts, keep: Duration) -> Result<Vec<Node>, StoreError> {
        on_engine!(self, node_seen(facts, keep).await)
    }

    /// Gives up everything that this gateway holds, because it stops.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn node_leave(&self) -> Result<(), StoreError> {
        on_engine!(self, node_leave().await)
    }

    /// Takes leases that are free, and renews those that this gateway holds: for so long from now on. Returns those
    /// that it holds.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn leases_renew(&self, keep: Duration) -> Result<Vec<Task>, StoreError> {
        on_engine!(self, leases_renew(keep).await)
    }
}
