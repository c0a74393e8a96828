//! The operations of this folder, in PostgreSQL statements.
//!
//! Of two requests with one new key, the second one's record is a duplicate; it runs again and finds the first one's.

use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, int};
use crate::money::once::{Once, Subject};
use crate::{PurgeStep, StoreError, Timestamp, UserId};

/// An expired record makes room for the next one of its key.
const EXPIRE: &str = "delete from idempotency where user_id = $1 and key = $2 and keep_until <= $3";

const KEPT: &str = "select request, subject, keep_until from idempotency where user_id = $1 and key = $2";

const KEEP: &str =
    "insert into idempotency (user_id, key, request, subject, keep_until) values ($1, $2, $3, $4, $5)";

const FORGET: &str = "delete from idempotency where user_id = $1 and key = $2";

const PURGE: &str = "
    delete from idempotency where ctid = any(array(
        select ctid from idempotency where keep_until <= $1 order by keep_until limit $2 for update skip locked))";

pub(crate) async fn look(
    sql: &Sql,
    user: UserId,
    once: &Once,
    now: Timestamp,
) -> Result<Subject, StoreError> {
    let (user, key) = (int(user.0), once.key.as_slice());
    let Some(row) = sql.found(KEPT, &[&user, &key]).await? else { return Ok(Subject::New) };
    if row.at("keep_until") <= now {
        sql.run(EXPIRE, &[&user, &key, &At(now)]).await?;
        return Ok(Subject::New);
    }
    let same = row.bytes::<32>("request") == once.request;
    Ok(if same { Subject::Known(row.uint("subject")) } else { Subject::Other })
}

/// Forgets what the key made before, so that it can make something else.
pub(crate) async fn forget(sql: &Sql, user: UserId, once: &Once) -> Result<(), StoreError> {
    sql.run(FORGET, &[&int(user.0), &once.key.as_slice()]).await?;
    Ok(())
}

/// The key is new, expired or forgotten in this change.
pub(crate) async fn keep(sql: &Sql, user: UserId, once: &Once, subject: u64) -> Result<(), StoreError> {
    let (key, request) = (once.key.as_slice(), once.request.as_slice());
    sql.run(KEEP, &[&int(user.0), &key, &request, &int(subject), &At(once.keep_until)]).await?;
    Ok(())
}

impl Postgres {
    /// Locks the records that it removes, and leaves locked ones to whoever has them.
    pub(crate) async fn once_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        self.change((now, limit), |sql, &(now, limit)| {
            Box::pin(async move {
                let removed = sql.run(PURGE, &[&At(now), &int(limit as u64)]).await?;
                let removed = usize::try_from(removed).unwrap_or(usize::MAX);
                Ok(PurgeStep { removed, finished: removed < limit })
            })
        })
        .await
    }
}
