//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn events_want(&self, wanted: bool) -> Result<(), StoreError> {
        todo!()
    }

    pub(crate) async fn events_route(
        &self,
        limit: usize,
        now: Timestamp,
        endpoints_of: impl Fn(&Event) -> Vec<String>,
    ) -> Result<usize, StoreError> {
        todo!()
    }

    pub(crate) async fn deliveries_due(
        &self,
        endpoint: &str,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(Event, Delivery)>, StoreError> {
        todo!()
    }

    pub(crate) async fn deliveries_note(
        &self,
        endpoint: &str,
        attempts: Vec<(EventId, Attempt)>,
    ) -> Result<(), StoreError> {
        todo!()
    }

    pub(crate) async fn credit_note(
        &self,
        credit: CreditFacts,
        low: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        todo!()
    }

    pub(crate) async fn event_test(&self, endpoint: String, now: Timestamp) -> Result<EventId, StoreError> {
        todo!()
    }

    pub(crate) async fn event_replay(
        &self,
        id: EventId,
        endpoint: Option<String>,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        todo!()
    }

    pub(crate) async fn events_replay_dead(
        &self,
        endpoint: Option<String>,
        limit: usize,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        todo!()
    }

    pub(crate) async fn events_list(
        &self,
        before: Option<EventId>,
        which: EventFilter,
        limit: usize,
    ) -> Result<Vec<EventReport>, StoreError> {
        todo!()
    }

    pub(crate) async fn deliveries_dead(&self, limit: usize) -> Result<usize, StoreError> {
        todo!()
    }

    pub(crate) async fn events_purge(
        &self,
        since: Timestamp,
        keep: u64,
        limit: usize,
    ) -> Result<(usize, usize), StoreError> {
        todo!()
    }
}
