//! The operations of this folder, in PostgreSQL statements.

use tokio_postgres::Row;

use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, Text, int, uint};
use crate::money::ledger::postgres::post;
use crate::money::ledger::{Posted, refund_key};
use crate::money::once::{Subject, postgres as once};
use crate::money::outbox::EventBody;
use crate::money::outbox::postgres::emit;
use crate::money::payment::postgres::row::payment_columns;
use crate::money::payment::{Payment, postgres as payment};
use crate::money::refund::rules::{Booking, UndoInto, UndoRefused, book, matches, undo_posting, undone};
use crate::money::refund::{
    PaymentRefunded, Refund, RefundDraft, RefundQuery, RefundState, RefundTo, RefundUndone, RefundsFound,
};
use crate::money::reversal::postgres as reversal;
use crate::{PaymentId, StoreError, Timestamp, UserId};

/// Microseconds that a clock may have been wrong by.
const CLOCK_SLACK: u64 = 72 * 60 * 60 * 1_000_000;

macro_rules! refund_columns {
    () => {
        "refund.payment_id, refund.number, refund.position, refund.amount as refund_amount, refund.target, \
         refund.state as refund_state, refund.ordered_by, refund.note, refund.at, refund.undone_by, refund.undone_at"
    };
}

/// Takes the next position when another refund has it; the one that is not committed yet is waited for.
const INSERT: &str = "
    insert into refund (payment_id, number, user_id, position, amount, target, state, ordered_by, note, at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict (position) do nothing";

const UPDATE: &str = "
    update refund set target = $3, state = $4, undone_by = $5, undone_at = $6
    where payment_id = $1 and number = $2";

const ONE: &str = concat!("select ", refund_columns!(), " from refund where payment_id = $1 and number = $2");

/// With the payer.
pub(crate) const ALL: &str =
    concat!("select ", refund_columns!(), ", refund.user_id from refund order by refund.position");

const OF_PAYMENT: &str =
    concat!("select ", refund_columns!(), " from refund where payment_id = $1 order by number");

/// The refunds that an index gives, with their payments, newest first. The bounds and the order name the index's
/// columns, so that the planner walks no other index.
macro_rules! walk {
    ($index:literal, $order:literal) => {
        concat!(
            "select ",
            refund_columns!(),
            ", ",
            payment_columns!(),
            " from (select * from refund where ",
            $index,
            " order by ",
            $order,
            " limit $3) refund join payment on payment.id = refund.payment_id order by refund.position desc"
        )
    };
}

const WALK: &str = walk!("position >= $1 and position <= $2", "position desc");
const WALK_PAYMENT: &str =
    walk!("payment_id = $4 and position >= $1 and position <= $2", "position + 0 desc");
const WALK_USER: &str = walk!(
    "(user_id, position) >= ($4, $1) and (user_id, position) <= ($4, $2)",
    "user_id desc, position desc"
);
const WALK_STATE: &str =
    walk!("(state, position) >= ($4, $1) and (state, position) <= ($4, $2)", "state desc, position desc");

impl RefundState {
    pub(crate) fn column(self) -> &'static str {
        match self {
            RefundState::Open => "open",
            RefundState::Done => "done",
            RefundState::Refused => "refused",
            RefundState::Undone => "undone",
        }
    }
}

impl RefundTo {
    pub(crate) fn column(self) -> &'static str {
        match self {
            RefundTo::Gateway => "gateway",
            RefundTo::Wallet => "wallet",
            RefundTo::Reverse => "reverse",
        }
    }
}

pub(crate) fn read(row: &Row) -> Refund {
    let undone = row.at_opt("undone_at").map(|at| {
        let by = UserId(row.uint_opt("undone_by").unwrap_or(0));
        RefundUndone { by, at }
    });
    Refund {
        payment: PaymentId(row.uint("payment_id")),
        number: row.uint32("number"),
        amount: row.uint("refund_amount"),
        to: match row.get("target") {
            "wallet" => RefundTo::Wallet,
            "reverse" => RefundTo::Reverse,
            _ => RefundTo::Gateway,
        },
        by: UserId(row.uint("ordered_by")),
        note: row.text("note"),
        at: row.at("at"),
        undone,
        position: row.uint("position"),
        state: match row.get("refund_state") {
            "open" => RefundState::Open,
            "done" => RefundState::Done,
            "refused" => RefundState::Refused,
            _ => RefundState::Undone,
        },
    }
}

async fn get(sql: &Sql, id: PaymentId, number: u32) -> Result<Option<Refund>, StoreError> {
    let number = int(u64::from(number));
    Ok(sql.found(ONE, &[&int(id.0), &number]).await?.as_ref().map(read))
}

/// Stores a new refund at the first free position.
async fn insert(sql: &Sql, refund: &mut Refund, user: UserId) -> Result<(), StoreError> {
    refund.position = refund.at.as_micros().max(1);
    let number = int(u64::from(refund.number));
    loop {
        let args: &[&(dyn tokio_postgres::types::ToSql + Sync)] = &[
            &int(refund.payment.0),
            &number,
            &int(user.0),
            &int(refund.position),
            &int(refund.amount),
            &refund.to.column(),
            &refund.state.column(),
            &int(refund.by.0),
            &Text(&refund.note),
            &At(refund.at),
        ];
        if sql.run(INSERT, args).await? > 0 {
            return Ok(());
        }
        refund.position += 1;
    }
}

async fn update(sql: &Sql, refund: &Refund) -> Result<(), StoreError> {
    let number = int(u64::from(refund.number));
    let (by, at) = (refund.undone.map(|undone| int(undone.by.0)), refund.undone.map(|undone| At(undone.at)));
    let args: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
        &[&int(refund.payment.0), &number, &refund.to.column(), &refund.state.column(), &by, &at];
    sql.run(UPDATE, args).await?;
    Ok(())
}

impl Postgres {
    /// Locks the payment's row, then the payer's in `wallet`; a key of the client is unique.
    pub(crate) async fn payment_refund(&self, draft: RefundDraft) -> Result<PaymentRefunded, StoreError> {
        self.change(draft, |sql, draft| Box::pin(refund(sql, draft))).await
    }

    pub(crate) async fn refunds_find(
        &self,
        query: &RefundQuery,
        before: Option<u64>,
        limit: usize,
        looks: usize,
    ) -> Result<RefundsFound, StoreError> {
        let mut found = RefundsFound { refunds: Vec::new(), next: None };
        let first = int(query.from.map_or(0, Timestamp::as_micros));
        // Positions run ahead of time after a clock was turned back, by no more than that.
        let last = query.until.map_or(u64::MAX, |until| until.as_micros().saturating_add(CLOCK_SLACK));
        let last = before.map_or(last, |before| last.min(before.saturating_sub(1)));
        if before == Some(0) {
            return Ok(found);
        }
        let sql = self.reader().await?;
        let (mut last, mut left, mut taken) = (int(last), looks, limit.saturating_add(1));
        loop {
            taken = taken.min(left);
            let rows = walk(&sql, query, (first, last), int(taken as u64)).await?;
            for row in &rows {
                if found.refunds.len() == limit {
                    found.next = Some(uint(last) + 1);
                    return Ok(found);
                }
                let (refund, payment) = (read(row), payment::row::read(row)?);
                last = int(refund.position) - 1;
                if matches(query, &refund, &payment) {
                    found.refunds.push((refund, payment));
                }
            }
            left -= rows.len();
            if rows.len() < taken {
                return Ok(found);
            }
            if left == 0 {
                found.next = Some(uint(last) + 1);
                return Ok(found);
            }
            // What is read fits rarely.
            taken = taken.saturating_mul(4);
        }
    }

    pub(crate) async fn payment_refunds(&self, id: PaymentId) -> Result<Vec<Refund>, StoreError> {
        let rows = self.reader().await?.rows(OF_PAYMENT, &[&int(id.0)]).await?;
        Ok(rows.iter().map(read).collect())
    }
}

/// The newest refunds between two positions in the index of the fewest: one payment's, what waits for somebody, then
/// one user's, then one state's.
async fn walk(
    sql: &Sql,
    query: &RefundQuery,
    (first, last): (i64, i64),
    taken: i64,
) -> Result<Vec<Row>, StoreError> {
    match (query.payment, query.state, query.user) {
        (Some(payment), ..) => sql.rows(WALK_PAYMENT, &[&first, &last, &taken, &int(payment.0)]).await,
        (_, Some(state @ (RefundState::Open | RefundState::Refused)), _) | (_, Some(state), None) => {
            sql.rows(WALK_STATE, &[&first, &last, &taken, &state.column()]).await
        }
        (_, _, Some(user)) => sql.rows(WALK_USER, &[&first, &last, &taken, &int(user.0)]).await,
        (None, None, None) => sql.rows(WALK, &[&first, &last, &taken]).await,
    }
}

async fn refund(sql: &Sql, draft: &RefundDraft) -> Result<PaymentRefunded, StoreError> {
    let (id, by, now) = (draft.payment, draft.by, draft.now);
    let Some(payment) = payment::get_locked(sql, id).await? else { return Ok(PaymentRefunded::Missing) };
    if let Some(key) = &draft.once {
        match once::look(sql, by, key, now).await? {
            Subject::New => {}
            Subject::Known(number) => {
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                if let Some(refund) = get(sql, id, number).await? {
                    return Ok(PaymentRefunded::Repeated(payment, refund));
                }
                once::forget(sql, by, key).await?;
            }
            Subject::Other => return Ok(PaymentRefunded::KeyReused),
        }
    }
    let Booking { legs, mut refund, payment } = match book(payment, draft.clone()) {
        Ok(booking) => booking,
        Err(refused) => return Ok(*refused),
    };
    let (amount, number) = (refund.amount, refund.number);
    match post(sql, payment.user, &refund_key(id, number), &legs, &payment.order, now).await? {
        Posted::Done { .. } => {}
        Posted::Overdraft { available } => return Ok(PaymentRefunded::Overdraft { available }),
        Posted::TooLarge => return Ok(PaymentRefunded::TooLarge),
        Posted::Before => panic!("refunds are numbered under the lock of their payment"),
    }
    insert(sql, &mut refund, payment.user).await?;
    if refund.to == RefundTo::Reverse {
        reversal::order(sql, &payment, now).await?;
    }
    payment::row::put(sql, &payment).await?;
    emit(sql, now, &EventBody::refunded(&payment, amount, number)).await?;
    if let Some(key) = &draft.once {
        once::keep(sql, by, key, u64::from(number)).await?;
    }
    Ok(PaymentRefunded::Done(payment, refund))
}

/// Notes what became of the newest refund of a payment whose row is locked.
pub(crate) async fn moved(
    sql: &Sql,
    payment: &Payment,
    state: RefundState,
    to: Option<RefundTo>,
) -> Result<(), StoreError> {
    if let Some(mut refund) = get(sql, payment.id, payment.refunds).await? {
        refund.state = state;
        refund.to = to.unwrap_or(refund.to);
        update(sql, &refund).await?;
    }
    Ok(())
}

/// Takes the newest refund back, in the change that ends its reversal; the payment's row is locked. `Err` holds why
/// nothing was done.
pub(crate) async fn undo(
    sql: &Sql,
    payment: &mut Payment,
    into: UndoInto,
    by: UserId,
    now: Timestamp,
) -> Result<Result<(), UndoRefused>, StoreError> {
    let number = payment.refunds;
    let Some(mut refund) = get(sql, payment.id, number).await? else { return Ok(Err(UndoRefused::Missing)) };
    let (key, legs) = match undo_posting(payment, &refund, into) {
        Ok(posting) => posting,
        Err(refused) => return Ok(Err(refused)),
    };
    match post(sql, payment.user, &key, &legs, &payment.order, now).await? {
        Posted::Done { .. } => {}
        Posted::TooLarge => return Ok(Err(UndoRefused::TooLarge)),
        Posted::Before | Posted::Overdraft { .. } => {
            panic!("a refund is taken back once, and a credit overdraws nothing")
        }
    }
    undone(payment, &mut refund, into, by, now);
    update(sql, &refund).await?;
    payment::row::put(sql, payment).await?;
    if into == UndoInto::Origin {
        emit(sql, now, &EventBody::refund_undone(payment, refund.amount, number)).await?;
    }
    Ok(Ok(()))
}
