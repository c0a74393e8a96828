//! The operations of this folder, in PostgreSQL statements.
//!
//! A query walks the index of the attribute that names the fewest payments, over a bounded number of rows, and checks
//! the other attributes on what it reads. Every walk goes by payment number, newest first.

use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Text, int, uint};
use crate::money::find::{PaymentQuery, PaymentsFound};
use crate::money::payment::postgres::row::{payment_columns, read};
use crate::{PaymentId, StoreError, Timestamp};

const REFERENCE: &str = "
    select payment_id from payment_reference where reference = $1 and ($2::text is null or gateway = $2)";

const RECEIPT: &str = "
    select payment_id from payment_receipt where number = $1 and ($2::text is null or gateway = $2)";

/// The payments that an index gives between two numbers. The bounds and the order name the index's columns, not the
/// payment's number alone: for a name with few payments the planner might else walk all payments backwards.
macro_rules! walk {
    ($index:literal, $order:literal) => {
        concat!(
            "select ",
            payment_columns!(),
            " from (select id from payment where ",
            $index,
            " order by ",
            $order,
            " limit $3) walked join payment on payment.id = walked.id order by payment.id desc"
        )
    };
    ($column:literal) => {
        concat!(
            "select ",
            payment_columns!(),
            " from (select id from payment where (",
            $column,
            ", id) >= ($4, $1) and (",
            $column,
            ", id) <= ($4, $2) order by ",
            $column,
            " desc, id desc limit $3) walked join payment on payment.id = walked.id order by payment.id desc"
        )
    };
}

const WALK: &str = walk!("id >= $1 and id <= $2", "id desc");
const WALK_NUMBERS: &str = walk!("id = any($4) and id >= $1 and id <= $2", "id desc");
const WALK_ORDER: &str = walk!(
    "order_name <> '' and (order_name, id) >= ($4, $1) and (order_name, id) <= ($4, $2)",
    "order_name desc, id desc"
);
const WALK_USER: &str = walk!("user_id");
const WALK_AMOUNT: &str = walk!("amount");
const WALK_STATE: &str = walk!("state");
const WALK_GATEWAY: &str = walk!("gateway");

/// The first payment of a time has the least number, unless a clock was turned back: then times overlap, so those of
/// some days at both ends count.
const MADE_BETWEEN: &str = "
    select (select min(id) from payment, (
            select min(created_at) as at from payment where created_at >= $1 and created_at < $2) first
            where created_at >= first.at and created_at < least($2, first.at + interval '72 hours')) as first,
        (select max(id) from payment, (
            select max(created_at) as at from payment where created_at >= $1 and created_at < $2) last
            where created_at <= last.at and created_at >= greatest($1, last.at - interval '72 hours')) as last";

impl Postgres {
    pub(crate) async fn payments_find(
        &self,
        query: &PaymentQuery,
        before: Option<PaymentId>,
        limit: usize,
        looks: usize,
    ) -> Result<PaymentsFound, StoreError> {
        let mut found = PaymentsFound { payments: Vec::new(), next: None };
        let sql = self.reader().await?;
        let Some((first, last)) = made_between(&sql, query).await? else { return Ok(found) };
        let mut last = before.map_or(last, |before| last.min(int(before.0.saturating_sub(1))));
        let numbers = named(&sql, query).await?;
        let (mut left, mut taken) = (looks, limit.saturating_add(1));
        loop {
            taken = taken.min(left);
            let rows = walk(&sql, query, numbers.as_ref(), (first, last), int(taken as u64)).await?;
            for row in &rows {
                if found.payments.len() == limit {
                    found.next = Some(PaymentId(uint(last) + 1));
                    return Ok(found);
                }
                let payment = read(row)?;
                last = int(payment.id.0) - 1;
                found.payments.extend(Some(payment).filter(|payment| query.matches(payment)));
            }
            left -= rows.len();
            if rows.len() < taken {
                return Ok(found);
            }
            if left == 0 {
                found.next = Some(PaymentId(uint(last) + 1));
                return Ok(found);
            }
            // What is read fits rarely.
            taken = taken.saturating_mul(4);
        }
    }
}

/// The newest payments between two numbers in the index of the attribute that names the fewest.
async fn walk(
    sql: &Sql,
    query: &PaymentQuery,
    numbers: Option<&Vec<i64>>,
    (first, last): (i64, i64),
    taken: i64,
) -> Result<Vec<tokio_postgres::Row>, StoreError> {
    match (numbers, query) {
        (Some(numbers), _) => sql.rows(WALK_NUMBERS, &[&first, &last, &taken, numbers]).await,
        (None, PaymentQuery { order: Some(order), .. }) => {
            sql.rows(WALK_ORDER, &[&first, &last, &taken, &Text(order)]).await
        }
        (None, PaymentQuery { user: Some(user), .. }) => {
            sql.rows(WALK_USER, &[&first, &last, &taken, &int(user.0)]).await
        }
        (None, PaymentQuery { amount: Some(amount), .. }) => {
            sql.rows(WALK_AMOUNT, &[&first, &last, &taken, &int(*amount)]).await
        }
        (None, PaymentQuery { state: Some(state), .. }) => {
            sql.rows(WALK_STATE, &[&first, &last, &taken, &state.column()]).await
        }
        (None, PaymentQuery { gateway: Some(gateway), .. }) => {
            sql.rows(WALK_GATEWAY, &[&first, &last, &taken, &Text(gateway)]).await
        }
        (None, _) => sql.rows(WALK, &[&first, &last, &taken]).await,
    }
}

/// The numbers of the first and the last payment that may have been made in the query's time.
async fn made_between(sql: &Sql, query: &PaymentQuery) -> Result<Option<(i64, i64)>, StoreError> {
    if query.from.is_none() && query.until.is_none() {
        return Ok(Some((1, i64::MAX)));
    }
    let from = At(query.from.unwrap_or_default());
    let until = At(query.until.unwrap_or(Timestamp::from_micros(u64::MAX)));
    let row = sql.row(MADE_BETWEEN, &[&from, &until]).await?;
    let (first, last): (Option<i64>, Option<i64>) = (row.get("first"), row.get("last"));
    Ok(first.zip(last))
}

/// The payments that have the names which belong to one payment each; none when the query has no such name.
async fn named(sql: &Sql, query: &PaymentQuery) -> Result<Option<Vec<i64>>, StoreError> {
    let mut numbers = query.id.map(|id| vec![int(id.0)]);
    let gateway = query.gateway.as_deref().map(Text);
    for (statement, name) in [(REFERENCE, &query.reference), (RECEIPT, &query.receipt)] {
        let Some(name) = name else { continue };
        let rows = sql.rows(statement, &[&Text(name), &gateway]).await?;
        let mut known: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        if let Some(before) = &numbers {
            known.retain(|number| before.contains(number));
        }
        numbers = Some(known);
    }
    Ok(numbers)
}
