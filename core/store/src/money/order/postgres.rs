//! The operations of this folder, in PostgreSQL statements.

use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{Columns, Text, int};
use crate::{PaymentId, SpendId, StoreError, UserId};

// The index of the order has few rows; that of the numbers would be walked for all of them.
const PAID_DIRECTLY: &str = "
    select id from payment where user_id = $1 and order_name = $2 and state = 'paid' and mode = 'direct'
      order by id + 0 desc limit 1";

const SPENT: &str = "
    select id from spend where user_id = $1 and order_name = $2 and state in ('held', 'captured')
      order by id + 0 desc limit 1";

/// The newest payment that paid a user's order without charging the wallet.
pub(crate) async fn paid_directly(
    sql: &Sql,
    user: UserId,
    order: &str,
) -> Result<Option<PaymentId>, StoreError> {
    let row = sql.found(PAID_DIRECTLY, &[&int(user.0), &Text(order)]).await?;
    Ok(row.map(|row| PaymentId(row.uint("id"))))
}

/// The spend of a user's order, unless it was given back.
pub(crate) async fn spent(sql: &Sql, user: UserId, order: &str) -> Result<Option<SpendId>, StoreError> {
    let row = sql.found(SPENT, &[&int(user.0), &Text(order)]).await?;
    Ok(row.map(|row| SpendId(row.uint("id"))))
}
