//! The operations of this folder, in PostgreSQL statements.
//!
//! Several gateways may route, deliver and purge at once. An event is routed by whoever marks it as routed first, and a
//! delivery's attempt is counted under the lock of its row. Events become visible in the order of their commits, which
//! may not be that of their numbers; so the new ones are marked, and nobody remembers a position.

use tokio_postgres::Row;

use crate::EventFilter;
use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::{Lock, Sql};
use crate::engine::postgres::value::{At, Columns, Json, Text, int};
use crate::money::outbox::{Attempt, CreditFacts, Delivery, DeliveryState, Event, EventBody, EventReport};
use crate::{Due, EventId, StoreError, Timestamp};

const EMIT: &str = "
    insert into event (at, kind, body, routed) select $1, $2, $3, false from outbox where wanted";

const TEST: &str = "
    insert into event (at, kind, body, routed) values ($1, $2, $3, true) returning id";

const WANT: &str = "update outbox set wanted = $1 where wanted <> $1";

const SAY: &str = "update node set wants_events = $2 where instance = $1";

/// No gateway says for another one that nobody wants events.
const WANT_TOGETHER: &str = "
    update outbox set wanted = $2
    where wanted <> $2 and ($2 or not exists (
        select from node
        where wants_events and instance <> $1 and seen_at > clock_timestamp() - interval '1 minute'))";

/// Said again by every gateway that is there and wants events.
pub(crate) const WANT_STILL: &str = "update outbox set wanted = true where not wanted";

const NEW: &str = "select id, at, body from event where not routed order by id limit $1";

/// Of what several read as new, each event is routed by one.
const ROUTE: &str = "
    with routed as (
        update event set routed = true where id = any($1) and not routed returning id
    )
    insert into delivery (event_id, endpoint, state, attempts, due_at, error)
    select distinct routed.id, route.endpoint, 'pending', 0, $4::timestamptz, ''
    from routed join unnest($2::bigint[], $3::text[]) as route (id, endpoint) on route.id = routed.id
    on conflict (event_id, endpoint) do update set state = 'pending', attempts = 0, due_at = excluded.due_at";

const DUE: &str = "
    select event.id, event.at, event.body, delivery.state, delivery.attempts, delivery.due_at, delivery.error
    from delivery join event on event.id = delivery.event_id
    where delivery.endpoint = $1 and delivery.state = 'pending' and delivery.due_at between $2 and $3
    order by delivery.due_at, delivery.event_id limit $4";

const PENDING: &str = "
    select state, attempts, due_at, error from delivery
    where event_id = $1 and endpoint = $2 and state = 'pending' for update";

const ATTEMPTED: &str = "
    update delivery set state = $3, attempts = $4, due_at = $5, error = $6 where event_id = $1 and endpoint = $2";

const IS_LOW: &str = "select exists(select from credit_low where provider = $1)";

const LOW: &str = "insert into credit_low (provider) values ($1) on conflict do nothing";

const NOT_LOW: &str = "delete from credit_low where provider = $1";

const SCHEDULE: &str = "
    insert into delivery (event_id, endpoint, state, attempts, due_at, error)
    select id, $2, 'pending', 0, $3, '' from event where id = $1
    on conflict (event_id, endpoint) do update set state = 'pending', attempts = 0, due_at = excluded.due_at";

const REPLAY: &str = "
    update delivery set state = 'pending', attempts = 0, due_at = $2 where event_id = $1";

const REPLAY_DEAD: &str = "
    update delivery set state = 'pending', attempts = 0, due_at = $1
    where state = 'dead' and (event_id, endpoint) in (
        select event_id, endpoint from delivery
        where state = 'dead' and ($2::text is null or endpoint = $2) order by event_id, endpoint limit $3 for update)";

const LIST: &str = "
    select id, at, body from event where id < $1 order by id desc limit $2";

/// Walks the dead deliveries, which are few beside the events.
const LIST_DEAD: &str = "
    select id, at, body from event where id in (
        select distinct event_id from delivery where state = 'dead' and event_id < $1
        order by event_id desc limit $2)
    order by id desc";

const DELIVERIES: &str = "
    select event_id, endpoint, state, attempts, due_at, error from delivery
    where event_id = any($1) order by event_id, endpoint collate \"C\"";

const DEAD: &str = "select count(*) from (select from delivery where state = 'dead' limit $1) as dead";

const SPAN: &str = "select min(id), max(id), (array_agg(at order by id))[1] from (
    (select id, at from event order by id limit 1) union all (select id, at from event order by id desc limit 1)) as ends";

/// The newest event beyond the number to keep.
const BEYOND: &str = "select id from event order by id desc offset $1 limit 1";

/// From the oldest on, as far as they are old or beyond. Counting makes the planner look each event's deliveries up
/// instead of reading all deliveries.
const PURGE: &str = "
    with oldest as (
        select id, at, routed from event order by id limit $3 for update
    ), doomed as (
        select id, not routed or 0 < (
            select count(*) from delivery where event_id = oldest.id and state <> 'delivered') as untold
        from oldest
        where id < coalesce((select min(id) from oldest where at >= $1 and id > $2), 9223372036854775807)
    ), removed as (
        delete from event where id = any(array(select id from doomed)) returning id
    )
    select count(*) as removed, count(*) filter (where untold) as untold from removed join doomed using (id)";

impl DeliveryState {
    pub(crate) fn column(self) -> &'static str {
        match self {
            DeliveryState::Pending => "pending",
            DeliveryState::Delivered => "delivered",
            DeliveryState::Dead => "dead",
        }
    }
}

pub(crate) fn event(row: &Row) -> Result<Event, StoreError> {
    Ok(Event { id: EventId(row.uint("id")), at: row.at("at"), body: row.json("body")? })
}

pub(crate) fn delivery(row: &Row) -> Delivery {
    let state = match row.get("state") {
        "pending" => DeliveryState::Pending,
        "delivered" => DeliveryState::Delivered,
        _ => DeliveryState::Dead,
    };
    Delivery { state, attempts: row.uint32("attempts"), due_at: row.at("due_at"), error: row.text("error") }
}

/// Writes an event, if events are wanted.
pub(crate) async fn emit(sql: &Sql, at: Timestamp, body: &EventBody) -> Result<(), StoreError> {
    sql.run(EMIT, &[&At(at), &body.kind(), &Json(body)]).await?;
    Ok(())
}

impl Postgres {
    /// Beside others, locks the slots of gateways: one that enters says what it wants, too.
    pub(crate) async fn events_want(&self, wanted: bool) -> Result<(), StoreError> {
        *self.shared.wants_events() = Some(wanted);
        let (alone, instance) = (self.shared.is_alone(), self.shared.instance);
        self.change(wanted, move |sql, wanted| {
            Box::pin(async move {
                if alone {
                    return sql.run(WANT, &[wanted]).await.map(drop);
                }
                sql.lock(Lock::Nodes, 0).await?;
                sql.run(SAY, &[&instance, wanted]).await?;
                sql.run(WANT_TOGETHER, &[&instance, wanted]).await.map(drop)
            })
        })
        .await
    }

    /// Marks the events that it routes.
    pub(crate) async fn events_route(
        &self,
        limit: usize,
        now: Timestamp,
        endpoints_of: &(dyn Fn(&Event) -> Vec<String> + Sync),
    ) -> Result<usize, StoreError> {
        let rows = self.reader().await?.rows(NEW, &[&int(limit as u64)]).await?;
        let (mut ids, mut routed, mut endpoints) = (Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            let event = event(row)?;
            ids.push(int(event.id.0));
            for endpoint in endpoints_of(&event) {
                routed.push(int(event.id.0));
                endpoints.push(endpoint);
            }
        }
        let count = ids.len();
        if count > 0 {
            self.change((ids, routed, endpoints), move |sql, (ids, routed, endpoints)| {
                Box::pin(async move { sql.run(ROUTE, &[ids, routed, endpoints, &At(now)]).await.map(drop) })
            })
            .await?;
        }
        Ok(count)
    }

    pub(crate) async fn deliveries_due(
        &self,
        endpoint: &str,
        due: Due,
        limit: usize,
    ) -> Result<Vec<(Event, Delivery)>, StoreError> {
        let (sql, mut deliveries) = (self.reader().await?, Vec::new());
        for (first, last) in due.spans() {
            let left = int(limit.saturating_sub(deliveries.len()) as u64);
            for row in sql.rows(DUE, &[&endpoint, &At(first), &At(last), &left]).await? {
                deliveries.push((event(&row)?, delivery(&row)));
            }
        }
        Ok(deliveries)
    }

    /// Locks the rows of the deliveries, in the order of their events.
    pub(crate) async fn deliveries_note(
        &self,
        endpoint: &str,
        mut attempts: Vec<(EventId, Attempt)>,
    ) -> Result<(), StoreError> {
        attempts.sort_by_key(|(id, _)| *id);
        self.change((endpoint.to_owned(), attempts), |sql, (endpoint, attempts)| {
            Box::pin(async move {
                for (id, attempt) in attempts {
                    let id = int(id.0);
                    let Some(row) = sql.found(PENDING, &[&id, endpoint]).await? else { continue };
                    let mut delivery = delivery(&row);
                    delivery.attempted(attempt.clone());
                    let Delivery { state, attempts, due_at, error } = delivery;
                    let attempts = int(u64::from(attempts));
                    let args: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
                        &[&id, endpoint, &state.column(), &attempts, &At(due_at), &Text(&error)];
                    sql.run(ATTEMPTED, args).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Of two gateways that see a credit fall, the one whose row is kept writes the event.
    pub(crate) async fn credit_note(
        &self,
        credit: CreditFacts,
        low: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let is_low: bool = self.reader().await?.row(IS_LOW, &[&credit.provider]).await?.get(0);
        if is_low == low {
            return Ok(false);
        }
        self.change(credit, move |sql, credit| {
            Box::pin(async move {
                if !low {
                    sql.run(NOT_LOW, &[&credit.provider]).await?;
                    return Ok(false);
                }
                if sql.run(LOW, &[&credit.provider]).await? == 0 {
                    return Ok(false);
                }
                emit(sql, now, &EventBody::CreditLow(credit.clone())).await?;
                Ok(true)
            })
        })
        .await
    }

    pub(crate) async fn event_test(&self, endpoint: String, now: Timestamp) -> Result<EventId, StoreError> {
        self.change(endpoint, move |sql, endpoint| {
            Box::pin(async move {
                let body = EventBody::Test;
                let row = sql.row(TEST, &[&At(now), &body.kind(), &Json(&body)]).await?;
                let id: i64 = row.get("id");
                sql.run(SCHEDULE, &[&id, endpoint, &At(now)]).await?;
                Ok(EventId(row.uint("id")))
            })
        })
        .await
    }

    /// Locks the rows of the event's deliveries.
    pub(crate) async fn event_replay(
        &self,
        id: EventId,
        endpoint: Option<String>,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        self.change((int(id.0), endpoint), move |sql, (id, endpoint)| {
            Box::pin(async move {
                let queued = match endpoint {
                    Some(endpoint) => sql.run(SCHEDULE, &[id, endpoint, &At(now)]).await?,
                    None => sql.run(REPLAY, &[id, &At(now)]).await?,
                };
                Ok(usize::try_from(queued).unwrap_or(usize::MAX))
            })
        })
        .await
    }

    /// Locks the rows of the dead deliveries, in the order of their events.
    pub(crate) async fn events_replay_dead(
        &self,
        endpoint: Option<String>,
        limit: usize,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        self.change((endpoint, int(limit as u64)), move |sql, (endpoint, limit)| {
            Box::pin(async move {
                let queued = sql.run(REPLAY_DEAD, &[&At(now), endpoint, limit]).await?;
                Ok(usize::try_from(queued).unwrap_or(usize::MAX))
            })
        })
        .await
    }

    pub(crate) async fn events_list(
        &self,
        before: Option<EventId>,
        which: EventFilter,
        limit: usize,
    ) -> Result<Vec<EventReport>, StoreError> {
        let (before, limit) = (int(before.map_or(u64::MAX, |before| before.0)), int(limit as u64));
        let sql = self.reader().await?;
        let rows = match which {
            EventFilter::All => sql.rows(LIST, &[&before, &limit]).await?,
            EventFilter::Dead => sql.rows(LIST_DEAD, &[&before, &limit]).await?,
        };
        let events: Vec<Event> = rows.iter().map(event).collect::<Result<_, _>>()?;
        let ids: Vec<i64> = events.iter().map(|event| int(event.id.0)).collect();
        let mut reports: Vec<EventReport> =
            events.into_iter().map(|event| EventReport { event, deliveries: Vec::new() }).collect();
        for row in sql.rows(DELIVERIES, &[&ids]).await? {
            let id = EventId(row.uint("event_id"));
            if let Some(report) = reports.iter_mut().find(|report| report.event.id == id) {
                report.deliveries.push((row.get("endpoint"), delivery(&row)));
            }
        }
        Ok(reports)
    }

    pub(crate) async fn deliveries_dead(&self, limit: usize) -> Result<usize, StoreError> {
        let dead: i64 = self.reader().await?.row(DEAD, &[&int(limit as u64)]).await?.get(0);
        Ok(usize::try_from(dead).unwrap_or(usize::MAX))
    }

    /// Locks the rows of the oldest events, in the order of their numbers.
    pub(crate) async fn events_purge(
        &self,
        since: Timestamp,
        keep: u64,
        limit: usize,
    ) -> Result<(usize, usize), StoreError> {
        let (since, keep, limit) = (At(since), int(keep), int(limit as u64));
        let sql = self.reader().await?;
        let span = sql.row(SPAN, &[]).await?;
        let (Some(first), Some(last), Some(oldest)) =
            (span.get::<_, Option<i64>>(0), span.get::<_, Option<i64>>(1), span.get::<_, Option<At>>(2))
        else {
            return Ok((0, 0));
        };
        // Numbers have gaps, so they only tell that there are not more than to keep.
        let beyond: Option<i64> = match last - first >= keep {
            true => sql.found(BEYOND, &[&keep]).await?.map(|row| row.get(0)),
            false => None,
        };
        if oldest.0 >= since.0 && beyond.is_none() {
            return Ok((0, 0));
        }
        let beyond = beyond.unwrap_or(0);
        drop(sql);
        self.change((since, beyond, limit), |sql, (since, beyond, limit)| {
            Box::pin(async move {
                let row = sql.row(PURGE, &[since, beyond, limit]).await?;
                let count = |column| usize::try_from(row.uint(column)).unwrap_or(usize::MAX);
                Ok((count("removed"), count("untold")))
            })
        })
        .await
    }
}
