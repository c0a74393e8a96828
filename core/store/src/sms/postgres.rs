//! The operations of this folder, in PostgreSQL statements.
//!
//! A change locks the message's row. A message that is sending is in the hand of one opening of the store
//! (`sms.sender`): another gateway neither begins it nor ends it by recovery while that one is seen (`node`). What
//! waits and what keys are stored is counted by triggers, in several rows; only near its bound do new ones wait for
//! each other, so that the bound holds.

pub(crate) mod row;

use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, Text, int, uint};
use crate::sms::postgres::row::{insert, read, sms_columns, update};
use crate::sms::rules::IDEMPOTENCY_TTL;
use crate::sms::{
    SmsBegun, SmsDraft, SmsEnd, SmsFilter, SmsInserted, SmsOrder, SmsPage, SmsQuota, SmsRange, SmsRecord,
    SmsRecovered, SmsStatus, SmsTried,
};
use crate::{Due, StoreError, Timestamp};

/// More changes than can run at once: below a bound by so many, it cannot be crossed unseen.
const CHANGES_AT_ONCE: u64 = 1000;

/// No attempt takes longer. One that is older has lost its gateway.
const ATTEMPT_MAX: std::time::Duration = std::time::Duration::from_secs(10 * 60);

/// Messages that one statement of [`Postgres::sms_due`] reads.
const DUE_PAGE: i64 = 200;

const KEY: &str = "select request, message_id, created_at from sms_idempotency where key = $1";

const KEY_EXPIRED: &str = "delete from sms_idempotency where key = $1 and created_at <= $2";

const KEEP: &str =
    "insert into sms_idempotency (key, request, message_id, created_at) values ($1, $2, $3, $4)";

const COUNT: &str = "select coalesce(sum(count), 0)::bigint from sms_count where what = $1";

const COUNT_LOCK: &str = "select pg_advisory_xact_lock(hashtextextended('sms_count ' || $1::text, 0))";

/// No row when the cap of the day is reached.
const USE: &str = "
    insert into sms_usage (api_key, day, used) values ($1, $2, 1)
    on conflict (api_key) do update set day = excluded.day,
        used = case when sms_usage.day = excluded.day then sms_usage.used + 1 else 1 end
    where sms_usage.day <> excluded.day or sms_usage.used < $3";

pub(crate) const GET: &str = concat!("select ", sms_columns!(), " from sms where id = $1");

const GET_LOCKED: &str = concat!("select ", sms_columns!(), ", sender from sms where id = $1 for update");

const DUE: &str = concat!(
    "select ",
    sms_columns!(),
    " from sms where status = 'queued' and due_at <= $1 and (due_at, id) > ($2, $3)
      order by due_at, id limit $4"
);

const NEXT_DUE: &str = "select min(due_at) from sms where status = 'queued'";

/// Those of a gateway that was not seen for some time, or that is too old for any; all when this one is alone, which
/// recovers before it sends. In the order of their numbers, so that two recoveries wait for each other.
const INTERRUPTED: &str = concat!(
    "select ",
    sms_columns!(),
    " from sms where status = 'sending' and (updated_at <= $2 or case when $3 then true
        else sender <> $1 and not exists (
            select from node where instance = sender and seen_at > clock_timestamp() - interval '15 seconds') end)
      order by id for update"
);

const LAST: &str = "select max(id) from sms";

macro_rules! page {
    ($range:literal, $order:literal) => {
        concat!("select ", sms_columns!(), " from sms where ", $range, " order by ", $order, " limit $3")
    };
}

const NEWEST: &str = page!("id >= $1 and id < $2", "id desc");
const OLDEST: &str = page!("id >= $1 and id < $2", "id");
/// The order names the index's columns, so that the planner walks no other.
const NEWEST_OF: &str = page!("(number, id) >= ($4, $1) and (number, id) < ($4, $2)", "number desc, id desc");
const OLDEST_OF: &str = page!("(number, id) >= ($4, $1) and (number, id) < ($4, $2)", "number, id");

const PURGE: &str = "
    delete from sms where id = any(array(
        select id from (select id, status from sms where id < $1 order by id limit $2) as oldest
        where status not in ('queued', 'sending')))
    and status not in ('queued', 'sending')";

const KEYS_PURGE: &str = "
    delete from sms_idempotency where ctid = any(array(
        select ctid from sms_idempotency where created_at <= $1 order by created_at limit $2 for update skip locked))";

/// A message, locked until the change ends.
pub(crate) async fn get_locked(sql: &Sql, id: u64) -> Result<Option<SmsRecord>, StoreError> {
    sql.found(GET_LOCKED, &[&int(id)]).await?.as_ref().map(read).transpose()
}

impl Postgres {
    /// A key of the client is unique, and an API key's use is one row. Near a bound, one after another.
    pub(crate) async fn sms_insert(&self, draft: SmsDraft) -> Result<SmsInserted, StoreError> {
        let sender = self.shared.instance;
        self.change(draft, move |sql, draft| {
            Box::pin(async move {
                if let Some(refused) = refusal(sql, draft).await? {
                    return Ok(refused);
                }
                let message = SmsRecord::made(draft.clone());
                insert(sql, &message, sender, false).await?;
                Ok(SmsInserted::Inserted)
            })
        })
        .await
    }

    /// Locks the message's row.
    pub(crate) async fn sms_begin(
        &self,
        id: u64,
        begun: SmsBegun,
        failed: Vec<SmsTried>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sender = self.shared.instance;
        self.change((begun, failed), move |sql, (begun, failed)| {
            Box::pin(async move {
                let Some(row) = sql.found(GET_LOCKED, &[&int(id)]).await? else { return Ok(false) };
                let mut message = read(&row)?;
                let in_hand: Option<uuid::Uuid> = row.get("sender");
                if message.status.is_final() || in_hand.is_some_and(|other| other != sender) {
                    return Ok(false);
                }
                message.begin(begun.clone(), failed.clone(), now);
                update(sql, &message, sender).await?;
                Ok(true)
            })
        })
        .await
    }

    /// Locks the message's row.
    pub(crate) async fn sms_rest(
        &self,
        id: u64,
        failed: Vec<SmsTried>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sender = self.shared.instance;
        self.change(failed, move |sql, failed| {
            Box::pin(async move {
                let Some(row) = sql.found(GET_LOCKED, &[&int(id)]).await? else { return Ok(false) };
                let mut message = read(&row)?;
                if row.get::<_, Option<uuid::Uuid>>("sender") != Some(sender) {
                    return Ok(false);
                }
                message.rest(failed.clone(), now);
                update(sql, &message, sender).await?;
                Ok(true)
            })
        })
        .await
    }

    /// Locks the message's row. A gateway that was paused until its attempt was given up still notes how it ended,
    /// unless the message ended otherwise.
    pub(crate) async fn sms_end(
        &self,
        id: u64,
        end: SmsEnd,
        failed: Vec<SmsTried>,
        now: Timestamp,
    ) -> Result<Option<SmsRecord>, StoreError> {
        let sender = self.shared.instance;
        self.change((end, failed), move |sql, (end, failed)| {
            Box::pin(async move {
                let Some(mut message) = get_locked(sql, id).await? else { return Ok(None) };
                if !message.status.is_final() {
                    message.end(end.clone(), failed.clone(), now);
                    update(sql, &message, sender).await?;
                }
                Ok(Some(message))
            })
        })
        .await
    }

    pub(crate) async fn sms_due(
        &self,
        due: Due,
        limit: usize,
        skip: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<Vec<SmsRecord>, StoreError> {
        let sql = self.reader().await?;
        let mut messages = Vec::new();
        for (first, last) in due.spans() {
            let mut after = (At(first), -1_i64);
            while messages.len() < limit {
                let rows = sql.rows(DUE, &[&At(last), &after.0, &after.1, &DUE_PAGE]).await?;
                let Some(page_end) = rows.last() else { break };
                after = (At(page_end.at("due_at")), page_end.get("id"));
                for row in &rows {
                    if messages.len() < limit && !skip(row.uint("id")) {
                        messages.push(read(row)?);
                    }
                }
            }
        }
        Ok(messages)
    }

    pub(crate) async fn sms_next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let row = self.reader().await?.row(NEXT_DUE, &[]).await?;
        Ok(row.get::<_, Option<At>>(0).map(|at| at.0))
    }

    pub(crate) async fn sms_waiting(&self) -> Result<u64, StoreError> {
        Ok(uint(self.reader().await?.row(COUNT, &[&"waiting"]).await?.get(0)))
    }

    /// Locks the rows of the messages, in the order of their numbers. While other gateways may be at work, what they
    /// have in hand is left alone while they are seen (`node`), and for as long as an attempt may take.
    pub(crate) async fn sms_recover(&self, now: Timestamp) -> Result<SmsRecovered, StoreError> {
        let sender = self.shared.instance;
        let (alone, untouched) = (self.shared.is_alone(), now.minus(ATTEMPT_MAX));
        self.change((), move |sql, ()| {
            Box::pin(async move {
                let mut recovered = SmsRecovered::default();
                for row in sql.rows(INTERRUPTED, &[&sender, &At(untouched), &alone]).await? {
                    let mut message = read(&row)?;
                    let (end, interrupted) = message.interrupted(now);
                    recovered.count(&end);
                    message.end(end, interrupted, now);
                    update(sql, &message, sender).await?;
                }
                Ok(recovered)
            })
        })
        .await
    }

    pub(crate) async fn sms_get(&self, id: u64) -> Result<Option<SmsRecord>, StoreError> {
        self.reader().await?.found(GET, &[&int(id)]).await?.as_ref().map(read).transpose()
    }

    pub(crate) async fn sms_last_id(&self) -> Result<u64, StoreError> {
        let row = self.reader().await?.row(LAST, &[]).await?;
        Ok(row.get::<_, Option<i64>>(0).map_or(0, uint))
    }

    pub(crate) async fn sms_page(
        &self,
        filter: &SmsFilter,
        range: SmsRange,
        limit: usize,
        looked_max: usize,
    ) -> Result<SmsPage, StoreError> {
        let sql = self.reader().await?;
        let (mut from, mut to) = (int(range.from), int(range.to));
        let (mut left, mut taken) = (looked_max, limit);
        let mut page = SmsPage { messages: Vec::new(), stopped_at: None };
        while page.messages.len() < limit {
            taken = taken.min(left);
            let rows = looked_at(&sql, filter.number.as_deref(), range.order, (from, to), taken).await?;
            for row in &rows {
                if page.messages.len() == limit {
                    return Ok(page);
                }
                let message = read(row)?;
                match range.order {
                    SmsOrder::NewestFirst => to = int(message.id),
                    SmsOrder::OldestFirst => from = int(message.id) + 1,
                }
                page.messages.extend(Some(message).filter(|message| filter.matches(message)));
            }
            left -= rows.len();
            if rows.len() < taken {
                break;
            }
            if left == 0 && page.messages.len() < limit {
                page.stopped_at = rows.last().map(|row| row.uint("id"));
                break;
            }
            // What is read fits rarely.
            taken = taken.saturating_mul(4);
        }
        Ok(page)
    }

    /// Locks the rows that it removes.
    pub(crate) async fn sms_purge(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.removing(PURGE, int(before.as_micros()), limit).await
    }

    /// Locks the rows that it removes, and leaves locked ones to whoever has them.
    pub(crate) async fn sms_idempotency_purge(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        self.removing(KEYS_PURGE, At(now.minus(IDEMPOTENCY_TTL)), limit).await
    }

    async fn removing(
        &self,
        statement: &'static str,
        before: impl tokio_postgres::types::ToSql + Send + Sync + 'static,
        limit: usize,
    ) -> Result<usize, StoreError> {
        self.change((before, int(limit as u64)), move |sql, (before, limit)| {
            Box::pin(async move {
                let removed = sql.run(statement, &[before, limit]).await?;
                Ok(usize::try_from(removed).unwrap_or(usize::MAX))
            })
        })
        .await
    }
}

/// Messages of a range of numbers, at most `taken`.
async fn looked_at(
    sql: &Sql,
    number: Option<&str>,
    order: SmsOrder,
    (from, to): (i64, i64),
    taken: usize,
) -> Result<Vec<tokio_postgres::Row>, StoreError> {
    let taken = int(taken as u64);
    match (number.map(Text), order) {
        (None, SmsOrder::NewestFirst) => sql.rows(NEWEST, &[&from, &to, &taken]).await,
        (None, SmsOrder::OldestFirst) => sql.rows(OLDEST, &[&from, &to, &taken]).await,
        (Some(number), SmsOrder::NewestFirst) => sql.rows(NEWEST_OF, &[&from, &to, &taken, &number]).await,
        (Some(number), SmsOrder::OldestFirst) => sql.rows(OLDEST_OF, &[&from, &to, &taken, &number]).await,
    }
}

/// Why a message is not stored. Otherwise its key is kept and its API key's use counted.
async fn refusal(sql: &Sql, draft: &SmsDraft) -> Result<Option<SmsInserted>, StoreError> {
    if let Some(repeated) = repeated(sql, draft).await? {
        return Ok(Some(repeated));
    }
    let refused = match room(sql, draft).await? {
        Some(refused) => refused,
        None => return Ok(None),
    };
    // The request with this key that was stored meanwhile may have taken the last place.
    let repeated = repeated(sql, draft).await?;
    Ok(repeated.or(Some(refused)))
}

/// The answer to an earlier request with this key. Forgets one that has expired.
async fn repeated(sql: &Sql, draft: &SmsDraft) -> Result<Option<SmsInserted>, StoreError> {
    let Some(idempotency) = &draft.idempotency else { return Ok(None) };
    let key = idempotency.key.as_slice();
    let expired = draft.created_at.minus(IDEMPOTENCY_TTL);
    let Some(row) = sql.found(KEY, &[&key]).await? else { return Ok(None) };
    if row.at("created_at") <= expired {
        sql.run(KEY_EXPIRED, &[&key, &At(expired)]).await?;
        return Ok(None);
    }
    if row.bytes::<32>("request") != idempotency.request {
        return Ok(Some(SmsInserted::KeyReused));
    }
    let message = sql.found(GET, &[&row.get::<_, i64>("message_id")]).await?;
    let message = message.as_ref().map(read).transpose()?;
    Ok(Some(SmsInserted::Repeated(message.map(Box::new))))
}

/// Takes a place for the message and its key, or says which is missing.
async fn room(sql: &Sql, draft: &SmsDraft) -> Result<Option<SmsInserted>, StoreError> {
    let idempotency = draft.idempotency.as_ref();
    if let Some(idempotency) = idempotency
        && is_full(sql, "idempotency", idempotency.keys_max).await?
    {
        return Ok(Some(SmsInserted::Full));
    }
    if draft.begun.is_none() && is_full(sql, "waiting", draft.queue_max).await? {
        return Ok(Some(SmsInserted::Full));
    }
    if let Some(SmsQuota { api_key, day, cap }) = &draft.quota
        && (*cap == 0 || sql.run(USE, &[&int(*api_key), &int(*day), &int(*cap)]).await? == 0)
    {
        return Ok(Some(SmsInserted::QuotaReached));
    }
    if let Some(idempotency) = idempotency {
        let (key, request) = (idempotency.key.as_slice(), idempotency.request.as_slice());
        sql.run(KEEP, &[&key, &request, &int(draft.id), &At(draft.created_at)]).await?;
    }
    Ok(None)
}

/// Whether no more may be stored. Near the bound, those that ask wait for each other.
async fn is_full(sql: &Sql, what: &'static str, max: u64) -> Result<bool, StoreError> {
    let counted = async || Ok::<_, StoreError>(uint(sql.row(COUNT, &[&what]).await?.get(0)));
    if counted().await?.saturating_add(CHANGES_AT_ONCE) < max {
        return Ok(false);
    }
    sql.run(COUNT_LOCK, &[&what]).await?;
    Ok(counted().await? >= max)
}

/// Who has a message in hand: only one that is sending is in anybody's.
pub(crate) fn in_hand(message: &SmsRecord, sender: uuid::Uuid) -> Option<uuid::Uuid> {
    (message.status == SmsStatus::Sending).then_some(sender)
}
