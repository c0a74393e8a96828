//! The operations of this folder, in PostgreSQL statements.
//!
//! Every change locks the user's row in `wallet` before it judges, and a spend that exists before that. The order of a
//! spend is looked up under that lock, so one order is spent for once.

use futures_util::future::try_join;
use tokio_postgres::Row;

use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, Text, int};
use crate::money::ledger::postgres::{balance_locked, post};
use crate::money::ledger::{Posted, capture_key, spend_key, void_key};
use crate::money::once::{Subject, postgres as once};
use crate::money::order::postgres as order;
use crate::money::outbox::EventBody;
use crate::money::outbox::postgres::emit;
use crate::money::spend::{Spend, SpendDraft, SpendEnded, SpendMade, SpendState};
use crate::{SpendId, StoreError, Timestamp, UserId};

macro_rules! columns {
    () => {
        "id, user_id, state, hold, amount, captured, balance, order_name, description, created_at, ended_at, expires_at"
    };
}

pub(crate) const ALL: &str = concat!("select ", columns!(), " from spend order by id");

const GET: &str = concat!("select ", columns!(), " from spend where id = $1");

const GET_LOCKED: &str = concat!("select ", columns!(), " from spend where id = $1 for update");

const OF_ORDER: &str = concat!(
    "select ",
    columns!(),
    " from spend where user_id = $1 and order_name = $2 and state in ('held', 'captured')
      order by id + 0 desc limit 1"
);

const NEXT: &str = "select nextval(pg_get_serial_sequence('spend', 'id'))";

const INSERT: &str = concat!(
    "insert into spend (",
    columns!(),
    ") values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
);

const ENDED: &str = "update spend set state = $2, captured = $3, ended_at = $4 where id = $1";

const OVERDUE: &str = "
    select id from spend where state = 'held' and expires_at <= $1 order by expires_at, id limit $2";

const HOLDS: &str = concat!(
    "select ",
    columns!(),
    " from spend where state = 'held' and expires_at is not null order by expires_at, id limit $1"
);

const OF_USER: &str = concat!(
    "select ",
    columns!(),
    " from spend where (user_id, id) >= ($1, 0) and (user_id, id) < ($1, $2)
      order by user_id desc, id desc limit $3"
);

impl SpendState {
    fn column(self) -> &'static str {
        match self {
            SpendState::Held => "held",
            SpendState::Captured => "captured",
            SpendState::Voided => "voided",
            SpendState::Expired => "expired",
        }
    }
}

pub(crate) fn read(row: &Row) -> Spend {
    Spend {
        id: SpendId(row.uint("id")),
        user: UserId(row.uint("user_id")),
        state: match row.get("state") {
            "held" => SpendState::Held,
            "captured" => SpendState::Captured,
            "voided" => SpendState::Voided,
            _ => SpendState::Expired,
        },
        hold: row.get("hold"),
        amount: row.uint("amount"),
        captured: row.uint("captured"),
        balance: row.uint("balance"),
        order: row.text("order_name"),
        description: row.text("description"),
        created_at: row.at("created_at"),
        ended_at: row.at_opt("ended_at"),
        expires_at: row.at_opt("expires_at"),
    }
}

async fn get_locked(sql: &Sql, id: SpendId) -> Result<Option<Spend>, StoreError> {
    Ok(sql.found(GET_LOCKED, &[&int(id.0)]).await?.as_ref().map(read))
}

pub(crate) async fn insert(sql: &Sql, spend: &Spend) -> Result<(), StoreError> {
    let args: &[&(dyn tokio_postgres::types::ToSql + Sync)] = &[
        &int(spend.id.0),
        &int(spend.user.0),
        &spend.state.column(),
        &spend.hold,
        &int(spend.amount),
        &int(spend.captured),
        &int(spend.balance),
        &Text(&spend.order),
        &Text(&spend.description),
        &At(spend.created_at),
        &spend.ended_at.map(At),
        &spend.expires_at.map(At),
    ];
    sql.run(INSERT, args).await?;
    Ok(())
}

async fn ended(sql: &Sql, spend: &Spend) -> Result<(), StoreError> {
    let ended_at = spend.ended_at.map(At);
    sql.run(ENDED, &[&int(spend.id.0), &spend.state.column(), &int(spend.captured), &ended_at]).await?;
    Ok(())
}

impl Postgres {
    /// Locks the user's row in `wallet`; a key of the client is unique.
    pub(crate) async fn spend_create(&self, draft: SpendDraft) -> Result<SpendMade, StoreError> {
        self.change(draft, |sql, draft| Box::pin(create(sql, draft))).await
    }

    /// Locks the spend's row, then the user's in `wallet`.
    pub(crate) async fn spend_capture(
        &self,
        id: SpendId,
        amount: Option<u64>,
        now: Timestamp,
    ) -> Result<SpendEnded, StoreError> {
        self.change((), move |sql, ()| {
            Box::pin(async move {
                let Some(spend) = get_locked(sql, id).await? else { return Ok(SpendEnded::Missing) };
                let (legs, spend) = match spend.capture(amount, now) {
                    Ok(capture) => capture,
                    Err(ended) => match *ended {
                        SpendEnded::Done(spend, _) => return done(sql, spend).await,
                        refused => return Ok(refused),
                    },
                };
                let posted = post(sql, spend.user, &capture_key(id), &legs, &spend.order, now).await?;
                if posted == Posted::TooLarge {
                    return Ok(SpendEnded::TooLarge);
                }
                ended(sql, &spend).await?;
                emit(sql, now, &EventBody::captured(&spend)).await?;
                done(sql, spend).await
            })
        })
        .await
    }

    /// Locks the spend's row, then the user's in `wallet`.
    pub(crate) async fn spend_void(&self, id: SpendId, now: Timestamp) -> Result<SpendEnded, StoreError> {
        self.change((), move |sql, ()| {
            Box::pin(async move {
                let Some(mut spend) = get_locked(sql, id).await? else { return Ok(SpendEnded::Missing) };
                match spend.state {
                    SpendState::Held => {}
                    SpendState::Voided => return done(sql, spend).await,
                    SpendState::Captured | SpendState::Expired => return Ok(SpendEnded::Was(spend)),
                }
                if !give_back(sql, &mut spend, SpendState::Voided, now).await? {
                    return Ok(SpendEnded::TooLarge);
                }
                done(sql, spend).await
            })
        })
        .await
    }

    /// A change of its own for each hold, which locks the spend's row and then the user's in `wallet`.
    pub(crate) async fn holds_expire(&self, now: Timestamp, limit: usize) -> Result<Vec<Spend>, StoreError> {
        let rows = self.reader().await?.rows(OVERDUE, &[&At(now), &int(limit as u64)]).await?;
        let mut expired = Vec::new();
        for row in rows {
            let id = SpendId(row.uint("id"));
            let spend = self.change((), move |sql, ()| Box::pin(expire(sql, id, now))).await?;
            expired.extend(spend);
        }
        Ok(expired)
    }

    pub(crate) async fn holds(&self, limit: usize) -> Result<Vec<Spend>, StoreError> {
        Ok(self.reader().await?.rows(HOLDS, &[&int(limit as u64)]).await?.iter().map(read).collect())
    }

    pub(crate) async fn spend_get(&self, id: SpendId) -> Result<Option<Spend>, StoreError> {
        Ok(self.reader().await?.found(GET, &[&int(id.0)]).await?.as_ref().map(read))
    }

    pub(crate) async fn spends_of(
        &self,
        user: UserId,
        before: Option<SpendId>,
        limit: usize,
    ) -> Result<Vec<Spend>, StoreError> {
        let before = int(before.map_or(u64::MAX, |before| before.0));
        let rows = self.reader().await?.rows(OF_USER, &[&int(user.0), &before, &int(limit as u64)]).await?;
        Ok(rows.iter().map(read).collect())
    }
}

async fn create(sql: &Sql, draft: &SpendDraft) -> Result<SpendMade, StoreError> {
    let legs = draft.legs();
    let (user, now) = (draft.user, draft.now);
    // Before the key is looked up: the same request beside this one may have taken the last rial.
    let (_, next) = try_join(balance_locked(sql, user), sql.row(NEXT, &[])).await?;
    if let Some(key) = &draft.once {
        match once::look(sql, user, key, now).await? {
            Subject::New => {}
            Subject::Known(id) => {
                if let Some(row) = sql.found(GET, &[&int(id)]).await? {
                    return Ok(SpendMade::Repeated(read(&row)));
                }
                once::forget(sql, user, key).await?;
            }
            Subject::Other => return Ok(SpendMade::KeyReused),
        }
    }
    if draft.unique_order && !draft.order.is_empty() {
        if let Some(row) = sql.found(OF_ORDER, &[&int(user.0), &Text(&draft.order)]).await? {
            return Ok(SpendMade::OrderTaken(read(&row)));
        }
        if let Some(paid) = order::paid_directly(sql, user, &draft.order).await? {
            return Ok(SpendMade::OrderPaid(paid));
        }
    }
    let id = SpendId(next.get::<_, i64>(0).unsigned_abs());
    let balance = match post(sql, user, &spend_key(id), &legs, &draft.order, now).await? {
        Posted::Done { balance } => u64::try_from(balance).unwrap_or(0),
        Posted::Overdraft { available } => return Ok(SpendMade::Overdraft { available }),
        Posted::TooLarge => return Ok(SpendMade::TooLarge),
        Posted::Before => panic!("numbers of spends are given once"),
    };
    let spend = Spend::made(id, balance, draft.clone());
    insert(sql, &spend).await?;
    if let Some(key) = &draft.once {
        once::keep(sql, user, key, id.0).await?;
    }
    Ok(SpendMade::Done(spend))
}

/// An ended spend, with what its wallet has now.
async fn done(sql: &Sql, spend: Spend) -> Result<SpendEnded, StoreError> {
    let balance = balance_locked(sql, spend.user).await?;
    Ok(SpendEnded::Done(spend, balance.available))
}

async fn expire(sql: &Sql, id: SpendId, now: Timestamp) -> Result<Option<Spend>, StoreError> {
    let spend = get_locked(sql, id).await?;
    let Some(mut spend) = spend.filter(|spend| spend.state == SpendState::Held) else { return Ok(None) };
    if !give_back(sql, &mut spend, SpendState::Expired, now).await? {
        return Ok(None);
    }
    emit(sql, now, &EventBody::hold_expired(&spend)).await?;
    Ok(Some(spend))
}

/// Returns held money to its wallet; false when the wallet cannot hold that much.
async fn give_back(
    sql: &Sql,
    spend: &mut Spend,
    state: SpendState,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let legs = spend.return_legs();
    if post(sql, spend.user, &void_key(spend.id), &legs, &spend.order, now).await? == Posted::TooLarge {
        return Ok(false);
    }
    spend.end(state, now);
    ended(sql, spend).await?;
    Ok(true)
}
