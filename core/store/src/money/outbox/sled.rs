//! The operations of this folder, in sled statements.

mod older;

use crate::EventFilter;
use std::ops::Bound;

use crate::engine::sled::keys::money as keys;
use crate::engine::sled::record::{Record, decode};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error};
use crate::money::outbox::{Attempt, CreditFacts, Delivery, DeliveryState, Event, EventBody, EventReport};
use crate::{Due, EventId, StoreError, Timestamp};

impl Record for Event {
    const KIND: &'static str = "event";
    const SCHEMA: u8 = 2;
    const SCHEMA_OLDEST: u8 = 1;

    fn decode_older(_schema: u8, body: &[u8]) -> Result<Self, postcard::Error> {
        older::first(body)
    }
}

impl Record for Delivery {
    const KIND: &'static str = "delivery";
    const SCHEMA: u8 = 1;
}

/// Writes an event, if events are wanted.
pub(crate) fn emit(txn: &mut Txn, at: Timestamp, body: EventBody) -> Result<(), StoreError> {
    if txn.has_flag(keys::EVENTS_WANTED)? {
        let id = write(txn, at, body)?;
        txn.put(keys::event_new(id), sled::IVec::default());
    }
    Ok(())
}

fn write(txn: &mut Txn, at: Timestamp, body: EventBody) -> Result<EventId, StoreError> {
    let id = EventId(txn.next(keys::EVENT_SEQUENCE)?);
    txn.put_record(keys::event(id), &Event { id, at, body });
    Ok(id)
}

impl Sled {
    pub(crate) async fn events_want(&self, wanted: bool) -> Result<(), StoreError> {
        self.change(move |txn| {
            match (wanted, txn.has_flag(keys::EVENTS_WANTED)?) {
                (true, false) => txn.put(keys::EVENTS_WANTED.into(), sled::IVec::default()),
                (false, true) => txn.delete(keys::EVENTS_WANTED.into()),
                _ => {}
            }
            Ok(())
        })
        .await
    }

    pub(crate) async fn events_route(
        &self,
        limit: usize,
        now: Timestamp,
        endpoints_of: &(dyn Fn(&Event) -> Vec<String> + Sync),
    ) -> Result<usize, StoreError> {
        let mut routes = Vec::new();
        for entry in self.tree.scan_prefix(keys::EVENTS_NEW).take(limit) {
            let (key, _) = entry.map_err(error::read)?;
            let Some(id) = keys::last_number(&key).map(EventId) else { continue };
            let endpoints = self.event(id)?.map(|event| endpoints_of(&event)).unwrap_or_default();
            routes.push((id, endpoints));
        }
        let count = routes.len();
        if count > 0 {
            self.change(move |txn| {
                for (id, endpoints) in routes {
                    txn.delete(keys::event_new(id));
                    for endpoint in endpoints {
                        schedule(txn, id, &endpoint, now)?;
                    }
                }
                Ok(())
            })
            .await?;
        }
        Ok(count)
    }

    pub(crate) fn deliveries_due(
        &self,
        endpoint: &str,
        due: Due,
        limit: usize,
    ) -> Result<Vec<(Event, Delivery)>, StoreError> {
        let entries = due.spans().map(|(first, last)| {
            let first = keys::delivery_due(endpoint, first, EventId(0));
            self.tree.range(first..=keys::delivery_due(endpoint, last, EventId(u64::MAX)))
        });
        let mut deliveries = Vec::new();
        for entry in entries.into_iter().flatten().take(limit) {
            let (key, _) = entry.map_err(error::read)?;
            let Some(id) = keys::last_number(&key).map(EventId) else { continue };
            if let (Some(event), Some(delivery)) = (self.event(id)?, self.delivery(id, endpoint)?) {
                deliveries.push((event, delivery));
            }
        }
        Ok(deliveries)
    }

    pub(crate) async fn deliveries_note(
        &self,
        endpoint: &str,
        attempts: Vec<(EventId, Attempt)>,
    ) -> Result<(), StoreError> {
        let endpoint = endpoint.to_owned();
        self.change(move |txn| {
            for (id, attempt) in attempts {
                let key = keys::delivery(id, &endpoint);
                let Some(mut delivery) = txn.get_record::<Delivery>(&key)? else { continue };
                if delivery.state != DeliveryState::Pending {
                    continue;
                }
                txn.delete(keys::delivery_due(&endpoint, delivery.due_at, id));
                delivery.attempted(attempt);
                match delivery.state {
                    DeliveryState::Pending => {
                        let due = keys::delivery_due(&endpoint, delivery.due_at, id);
                        txn.put(due, sled::IVec::default());
                    }
                    DeliveryState::Dead => {
                        txn.put(keys::delivery_dead(id, &endpoint), sled::IVec::default());
                    }
                    DeliveryState::Delivered => {}
                }
                txn.put_record(key, &delivery);
            }
            Ok(())
        })
        .await
    }

    pub(crate) async fn credit_note(
        &self,
        credit: CreditFacts,
        low: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let key = keys::credit_low(&credit.provider);
        if self.tree.get(&key).map_err(error::read)?.is_some() == low {
            return Ok(false);
        }
        self.change(move |txn| {
            if txn.get(&key)?.is_some() == low {
                return Ok(false);
            }
            if !low {
                txn.delete(key.clone());
                return Ok(false);
            }
            txn.put(key.clone(), sled::IVec::default());
            emit(txn, now, EventBody::CreditLow(credit.clone()))?;
            Ok(true)
        })
        .await
    }

    pub(crate) async fn event_test(&self, endpoint: String, now: Timestamp) -> Result<EventId, StoreError> {
        self.change(move |txn| {
            let id = write(txn, now, EventBody::Test)?;
            schedule(txn, id, &endpoint, now)?;
            Ok(id)
        })
        .await
    }

    pub(crate) async fn event_replay(
        &self,
        id: EventId,
        endpoint: Option<String>,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        self.change(move |txn| {
            if txn.get(&keys::event(id))?.is_none() {
                return Ok(0);
            }
            let endpoints = match endpoint {
                Some(endpoint) => vec![endpoint],
                None => endpoints_of(txn, id)?,
            };
            for endpoint in &endpoints {
                schedule(txn, id, endpoint, now)?;
            }
            Ok(endpoints.len())
        })
        .await
    }

    pub(crate) async fn events_replay_dead(
        &self,
        endpoint: Option<String>,
        limit: usize,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let mut dead = Vec::new();
        for entry in self.tree.scan_prefix(keys::DELIVERIES_DEAD) {
            let (key, _) = entry.map_err(error::read)?;
            let Some((id, name)) = keys::delivery_parts(&key) else { continue };
            if endpoint.as_ref().is_none_or(|endpoint| *endpoint == name) {
                dead.push((id, name));
            }
            if dead.len() == limit {
                break;
            }
        }
        self.change(move |txn| {
            let mut count = 0;
            for (id, endpoint) in dead {
                if txn.get(&keys::delivery_dead(id, &endpoint))?.is_some() {
                    schedule(txn, id, &endpoint, now)?;
                    count += 1;
                }
            }
            Ok(count)
        })
        .await
    }

    pub(crate) fn events_list(
        &self,
        before: Option<EventId>,
        which: EventFilter,
        limit: usize,
    ) -> Result<Vec<EventReport>, StoreError> {
        let before = before.unwrap_or(EventId(u64::MAX));
        let prefix = match which {
            EventFilter::All => keys::EVENTS,
            EventFilter::Dead => keys::DELIVERIES_DEAD,
        };
        let end = [prefix, &before.0.to_be_bytes()].concat();
        let range = self.tree.range::<&[u8], _>((Bound::Included(prefix), Bound::Excluded(end.as_slice())));
        let mut reports: Vec<EventReport> = Vec::new();
        for entry in range.rev() {
            let (key, _) = entry.map_err(error::read)?;
            let Some((id, _)) = keys::delivery_parts(&key) else { continue };
            // An event's endpoints are adjacent.
            if reports.last().is_some_and(|report| report.event.id == id) {
                continue;
            }
            if reports.len() == limit {
                break;
            }
            let Some(event) = self.event(id)? else { continue };
            let mut deliveries = Vec::new();
            for entry in self.tree.scan_prefix(keys::deliveries_of(id)) {
                let (key, value) = entry.map_err(error::read)?;
                if let Some((_, endpoint)) = keys::delivery_parts(&key) {
                    deliveries.push((endpoint, decode(&value)?));
                }
            }
            reports.push(EventReport { event, deliveries });
        }
        Ok(reports)
    }

    pub(crate) fn deliveries_dead(&self, limit: usize) -> Result<usize, StoreError> {
        let mut count = 0;
        for entry in self.tree.scan_prefix(keys::DELIVERIES_DEAD).take(limit) {
            entry.map_err(error::read)?;
            count += 1;
        }
        Ok(count)
    }

    pub(crate) async fn events_purge(
        &self,
        since: Timestamp,
        keep: u64,
        limit: usize,
    ) -> Result<(usize, usize), StoreError> {
        let Some(entry) = self.tree.scan_prefix(keys::EVENTS).next() else { return Ok((0, 0)) };
        let oldest: Event = decode(&entry.map_err(error::read)?.1)?;
        let last = self.tree.get(keys::EVENT_SEQUENCE).map_err(error::read)?;
        let last = last.map_or(Ok(0), |bytes| crate::engine::sled::record::decode_u64("sequence", &bytes))?;
        if oldest.at >= since && last - oldest.id.0 < keep {
            return Ok((0, 0));
        }
        self.change(move |txn| {
            let (mut removed, mut untold) = (0, 0);
            for (key, value) in txn.scan(keys::EVENTS, limit)? {
                let event: Event = decode(&value)?;
                if event.at >= since && last - event.id.0 < keep {
                    break;
                }
                let mut open = txn.get(&keys::event_new(event.id))?.is_some();
                txn.delete(key);
                txn.delete(keys::event_new(event.id));
                for endpoint in endpoints_of(txn, event.id)? {
                    let key = keys::delivery(event.id, &endpoint);
                    if let Some(delivery) = txn.get_record::<Delivery>(&key)? {
                        open |= delivery.state != DeliveryState::Delivered;
                        txn.delete(keys::delivery_due(&endpoint, delivery.due_at, event.id));
                    }
                    txn.delete(keys::delivery_dead(event.id, &endpoint));
                    txn.delete(key);
                }
                removed += 1;
                untold += usize::from(open);
            }
            Ok((removed, untold))
        })
        .await
    }

    fn event(&self, id: EventId) -> Result<Option<Event>, StoreError> {
        let bytes = self.tree.get(keys::event(id)).map_err(error::read)?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }

    fn delivery(&self, id: EventId, endpoint: &str) -> Result<Option<Delivery>, StoreError> {
        let bytes = self.tree.get(keys::delivery(id, endpoint)).map_err(error::read)?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }
}

/// Makes a delivery due now, with its attempts reset.
fn schedule(txn: &mut Txn, id: EventId, endpoint: &str, now: Timestamp) -> Result<(), StoreError> {
    let key = keys::delivery(id, endpoint);
    let error = match txn.get_record::<Delivery>(&key)? {
        Some(before) => {
            txn.delete(keys::delivery_due(endpoint, before.due_at, id));
            txn.delete(keys::delivery_dead(id, endpoint));
            before.error
        }
        None => String::new(),
    };
    txn.put_record(key, &Delivery { state: DeliveryState::Pending, attempts: 0, due_at: now, error });
    txn.put(keys::delivery_due(endpoint, now, id), sled::IVec::default());
    Ok(())
}

fn endpoints_of(txn: &Txn, id: EventId) -> Result<Vec<String>, StoreError> {
    let deliveries = txn.scan(&keys::deliveries_of(id), keys::ENDPOINTS_MAX)?;
    Ok(deliveries.iter().filter_map(|(key, _)| Some(keys::delivery_parts(key)?.1)).collect())
}
