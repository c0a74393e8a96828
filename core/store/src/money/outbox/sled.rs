//! The operations of this folder, in sled statements.

mod older;

use crate::EventFilter;
use std::ops::Bound;

use crate::engine::sled::keys::money as keys;
use crate::engine::sled::record::{Record, decode};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error};
use crate::money::outbox::{
    Attempt, CreditFacts, Delivery, DeliveryState, Event, EventBody, EventReport, PaymentFacts,
};
use crate::money::payment::{Payment, PaymentState};
use crate::money::spend::Spend;
use crate::{EventId, StoreError, Timestamp};

impl Record for Event {
    const KIND: &'static str = "event";
    const SCHEMA: u8 = 2;
    const SCHEMA_OLDEST: u8 = 1;

    fn decode_older(_schema: u8, body: &[u8]) -> Result<Self, postcard::Error> {
        older::first(body)
    }
}

impl EventBody {
    /// Every kind there is, as configurations and receivers name them.
    pub const KINDS: [&'static str; 14] = [
        "payment.paid",
        "payment.failed",
        "payment.cancelled",
        "payment.expired",
        "payment.refunded",
        "payment.uncredited",
        "payment.reversal_refused",
        "payment.refund_undone",
        "wallet.credited",
        "wallet.debited",
        "wallet.captured",
        "wallet.hold_expired",
        "webhook.test",
        "sms.credit_low",
    ];

    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            EventBody::PaymentEnded(payment) => match payment.state {
                PaymentState::Paid | PaymentState::Refunded => "payment.paid",
                PaymentState::Cancelled => "payment.cancelled",
                PaymentState::Expired => "payment.expired",
                PaymentState::Failed | PaymentState::Created | PaymentState::Pending => "payment.failed",
            },
            EventBody::PaymentRefunded { .. } => "payment.refunded",
            EventBody::PaymentUncredited { .. } => "payment.uncredited",
            EventBody::WalletChanged { amount, .. } if *amount > 0 => "wallet.credited",
            EventBody::WalletChanged { .. } => "wallet.debited",
            EventBody::SpendCaptured { .. } => "wallet.captured",
            EventBody::ReversalRefused { .. } => "payment.reversal_refused",
            EventBody::RefundUndone { .. } => "payment.refund_undone",
            EventBody::HoldExpired { .. } => "wallet.hold_expired",
            EventBody::Test => "webhook.test",
            EventBody::CreditLow(_) => "sms.credit_low",
        }
    }

    pub(crate) fn refunded(payment: &Payment, amount: u64, number: u32) -> EventBody {
        EventBody::PaymentRefunded { payment: facts(payment), amount, number }
    }

    pub(crate) fn ended(payment: &Payment) -> EventBody {
        EventBody::PaymentEnded(facts(payment))
    }

    pub(crate) fn uncredited(
        gateway: &str,
        reference: &str,
        listed: Option<u64>,
        payment: Option<&Payment>,
    ) -> EventBody {
        let (gateway, reference) = (gateway.to_owned(), reference.to_owned());
        EventBody::PaymentUncredited { gateway, reference, listed, payment: payment.map(facts) }
    }

    pub(crate) fn reversal_refused(payment: &Payment, code: &str) -> EventBody {
        EventBody::ReversalRefused { payment: facts(payment), code: code.to_owned() }
    }

    pub(crate) fn refund_undone(payment: &Payment, amount: u64, number: u32) -> EventBody {
        EventBody::RefundUndone { payment: facts(payment), amount, number }
    }

    pub(crate) fn hold_expired(spend: &Spend) -> EventBody {
        let (spend, order) = (spend, spend.order.clone());
        EventBody::HoldExpired { spend: spend.id, user: spend.user, amount: spend.amount, order }
    }

    pub(crate) fn captured(spend: &Spend) -> EventBody {
        EventBody::SpendCaptured {
            spend: spend.id,
            user: spend.user,
            held: spend.amount,
            captured: spend.captured,
            order: spend.order.clone(),
        }
    }
}

fn facts(payment: &Payment) -> PaymentFacts {
    PaymentFacts {
        id: payment.id,
        user: payment.user,
        state: payment.state,
        reason: payment.reason.clone(),
        amount: payment.amount,
        refunded: payment.refunded,
        currency: payment.currency,
        mode: payment.mode,
        order: payment.order.clone(),
        gateway: payment.gateway.clone(),
        reference: payment.start.as_ref().map(|start| start.reference.clone()),
        receipt: payment.receipt.as_ref().map(|receipt| receipt.number.clone()),
    }
}

impl Record for Delivery {
    const KIND: &'static str = "delivery";
    const SCHEMA: u8 = 1;
}

/// Writes an event, if events are wanted.
pub(crate) fn emit(txn: &mut Txn, at: Timestamp, body: EventBody) -> Result<(), StoreError> {
    if txn.get(keys::EVENTS_WANTED)?.is_some() {
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
            match (wanted, txn.get(keys::EVENTS_WANTED)?.is_some()) {
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
        endpoints_of: impl Fn(&Event) -> Vec<String>,
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
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(Event, Delivery)>, StoreError> {
        let first = keys::delivery_due(endpoint, Timestamp::from_micros(0), EventId(0));
        let last = keys::delivery_due(endpoint, now, EventId(u64::MAX));
        let mut due = Vec::new();
        for entry in self.tree.range(first..=last).take(limit) {
            let (key, _) = entry.map_err(error::read)?;
            let Some(id) = keys::last_number(&key).map(EventId) else { continue };
            if let (Some(event), Some(delivery)) = (self.event(id)?, self.delivery(id, endpoint)?) {
                due.push((event, delivery));
            }
        }
        Ok(due)
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
                delivery.attempts = delivery.attempts.saturating_add(1);
                match attempt {
                    Attempt::Delivered => {
                        delivery.state = DeliveryState::Delivered;
                        delivery.error.clear();
                    }
                    Attempt::Failed { error, again_at: Some(at) } => {
                        delivery.error = error;
                        delivery.due_at = at;
                        txn.put(keys::delivery_due(&endpoint, at, id), sled::IVec::default());
                    }
                    Attempt::Failed { error, again_at: None } => {
                        delivery.error = error;
                        delivery.state = DeliveryState::Dead;
                        txn.put(keys::delivery_dead(id, &endpoint), sled::IVec::default());
                    }
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
