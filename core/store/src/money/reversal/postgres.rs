//! The operations of this folder, in PostgreSQL statements. A change locks the payment's row first, which a refund
//! locks too.

use tokio_postgres::Row;

use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, Text, int};
use crate::money::outbox::EventBody;
use crate::money::outbox::postgres::emit;
use crate::money::payment::{Payment, postgres as payment};
use crate::money::refund::rules::{UndoInto, UndoRefused};
use crate::money::refund::{RefundState, RefundTo, postgres as refund};
use crate::money::reversal::{Reversal, ReversalDecided, ReversalDecision, ReversalState, ReversalStep};
use crate::{PaymentId, StoreError, Timestamp, UserId};

macro_rules! columns {
    () => {
        "payment_id, gateway, state, refusal, asked, doubtful, ask_at, ordered_at, updated_at"
    };
}

pub(crate) const ALL: &str = concat!("select ", columns!(), " from reversal order by payment_id");

const GET: &str = concat!("select ", columns!(), " from reversal where payment_id = $1");

const OPEN: &str =
    concat!("select ", columns!(), " from reversal where state = 'open' order by payment_id limit $1");

/// What is refused comes before what is open when not all of it fits.
const UNDECIDED: &str = concat!(
    "select * from (select ",
    columns!(),
    " from reversal where state <> 'done' order by state = 'open', payment_id limit $1) as undecided
    order by payment_id"
);

const PUT: &str = "
    insert into reversal (payment_id, gateway, state, refusal, asked, doubtful, ask_at, ordered_at, updated_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (payment_id) do update set
        gateway = excluded.gateway, state = excluded.state, refusal = excluded.refusal, asked = excluded.asked,
        doubtful = excluded.doubtful, ask_at = excluded.ask_at, ordered_at = excluded.ordered_at,
        updated_at = excluded.updated_at";

const DELETE: &str = "delete from reversal where payment_id = $1";

pub(crate) fn read(row: &Row) -> Reversal {
    Reversal {
        payment: PaymentId(row.uint("payment_id")),
        gateway: row.text("gateway"),
        state: match row.get("state") {
            "open" => ReversalState::Open,
            "done" => ReversalState::Done,
            _ => ReversalState::Refused(row.text_opt("refusal").unwrap_or_default()),
        },
        asked: row.uint32("asked"),
        doubtful: row.get("doubtful"),
        ask_at: row.at("ask_at"),
        ordered_at: row.at("ordered_at"),
        updated_at: row.at("updated_at"),
    }
}

async fn get(sql: &Sql, payment: PaymentId) -> Result<Option<Reversal>, StoreError> {
    Ok(sql.found(GET, &[&int(payment.0)]).await?.as_ref().map(read))
}

pub(crate) async fn put(sql: &Sql, reversal: &Reversal) -> Result<(), StoreError> {
    let (state, refusal) = match &reversal.state {
        ReversalState::Open => ("open", None),
        ReversalState::Done => ("done", None),
        ReversalState::Refused(code) => ("refused", Some(Text(code))),
    };
    let asked = int(u64::from(reversal.asked));
    let args: &[&(dyn tokio_postgres::types::ToSql + Sync)] = &[
        &int(reversal.payment.0),
        &Text(&reversal.gateway),
        &state,
        &refusal,
        &asked,
        &reversal.doubtful,
        &At(reversal.ask_at),
        &At(reversal.ordered_at),
        &At(reversal.updated_at),
    ];
    sql.run(PUT, args).await?;
    Ok(())
}

/// Opens a reversal in the change that books its refund; the payment's row is locked.
pub(crate) async fn order(sql: &Sql, payment: &Payment, now: Timestamp) -> Result<(), StoreError> {
    put(sql, &Reversal::ordered(payment, now)).await
}

impl Postgres {
    pub(crate) async fn reversal_get(&self, payment: PaymentId) -> Result<Option<Reversal>, StoreError> {
        get(&self.reader().await?, payment).await
    }

    pub(crate) async fn reversals_open(&self, limit: usize) -> Result<Vec<Reversal>, StoreError> {
        Ok(self.reader().await?.rows(OPEN, &[&int(limit as u64)]).await?.iter().map(read).collect())
    }

    pub(crate) async fn reversals_undecided(&self, limit: usize) -> Result<Vec<Reversal>, StoreError> {
        Ok(self.reader().await?.rows(UNDECIDED, &[&int(limit as u64)]).await?.iter().map(read).collect())
    }

    /// Locks the payment's row, then the payer's in `wallet`.
    pub(crate) async fn reversal_decide(
        &self,
        payment: PaymentId,
        decision: ReversalDecision,
        by: UserId,
        now: Timestamp,
    ) -> Result<ReversalDecided, StoreError> {
        self.change((), move |sql, ()| Box::pin(decide(sql, payment, decision, by, now))).await
    }

    /// Locks the payment's row.
    pub(crate) async fn reversal_step(
        &self,
        payment: PaymentId,
        step: ReversalStep,
        now: Timestamp,
    ) -> Result<Option<Reversal>, StoreError> {
        self.change(step, move |sql, step| Box::pin(stepped(sql, payment, step, now))).await
    }
}

async fn stepped(
    sql: &Sql,
    id: PaymentId,
    step: &ReversalStep,
    now: Timestamp,
) -> Result<Option<Reversal>, StoreError> {
    let payment = payment::get_locked(sql, id).await?;
    let Some(mut reversal) = get(sql, id).await? else { return Ok(None) };
    if !reversal.takes(step) {
        return Ok(Some(reversal));
    }
    reversal.stepped(step.clone(), now);
    if let Some(payment) = payment {
        match &reversal.state {
            ReversalState::Open => {}
            ReversalState::Done => refund::moved(sql, &payment, RefundState::Done, None).await?,
            ReversalState::Refused(code) => {
                refund::moved(sql, &payment, RefundState::Refused, None).await?;
                emit(sql, now, &EventBody::reversal_refused(&payment, code)).await?;
            }
        }
    }
    put(sql, &reversal).await?;
    Ok(Some(reversal))
}

async fn decide(
    sql: &Sql,
    id: PaymentId,
    decision: ReversalDecision,
    by: UserId,
    now: Timestamp,
) -> Result<ReversalDecided, StoreError> {
    let Some(mut payment) = payment::get_locked(sql, id).await? else { return Ok(ReversalDecided::Missing) };
    let Some(mut reversal) = get(sql, id).await? else { return Ok(ReversalDecided::Missing) };
    let is_open = match reversal.state {
        ReversalState::Done => return Ok(ReversalDecided::Missing),
        ReversalState::Open => true,
        ReversalState::Refused(_) => false,
    };
    let into = match decision {
        ReversalDecision::PaidOutside => {
            refund::moved(sql, &payment, RefundState::Done, Some(RefundTo::Gateway)).await?;
            None
        }
        _ if is_open => return Ok(ReversalDecided::Open),
        ReversalDecision::AskAgain => {
            reversal.asked_again(now);
            put(sql, &reversal).await?;
            refund::moved(sql, &payment, RefundState::Open, None).await?;
            return Ok(ReversalDecided::Done(payment));
        }
        ReversalDecision::Undo => Some(UndoInto::Origin),
        ReversalDecision::ToWallet => Some(UndoInto::Wallet),
    };
    if let Some(into) = into
        && let Err(refused) = refund::undo(sql, &mut payment, into, by, now).await?
    {
        return Ok(match refused {
            UndoRefused::InWallet => ReversalDecided::InWallet,
            UndoRefused::TooLarge => ReversalDecided::TooLarge,
            UndoRefused::Missing => ReversalDecided::Missing,
        });
    }
    sql.run(DELETE, &[&int(id.0)]).await?;
    Ok(ReversalDecided::Done(payment))
}
