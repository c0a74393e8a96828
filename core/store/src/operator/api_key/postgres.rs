//! The operations of this folder, in PostgreSQL statements.

use tokio_postgres::Row;

use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::{Args, Lock};
use crate::engine::postgres::value::{At, Columns, Text, int};
use crate::operator::api_key::{API_KEYS_MAX, ApiKey, ApiKeyDraft};
use crate::{StoreError, Timestamp};

macro_rules! columns {
    () => {
        "id, hash, name, scope, daily_cap, created_at, revoked_at"
    };
}

pub(crate) const ALL: &str = concat!("select ", columns!(), " from api_key order by id");

impl Postgres {
    /// Locks the set of keys, so that their number stays within its limit.
    pub(crate) async fn api_key_create(&self, draft: ApiKeyDraft) -> Result<Option<ApiKey>, StoreError> {
        self.change(draft, |sql, draft| {
            Box::pin(async move {
                sql.lock(Lock::ApiKeys, 0).await?;
                let count = sql.row("select count(*) as keys from api_key", &[]).await?.uint("keys");
                if count >= API_KEYS_MAX as u64 {
                    return Ok(None);
                }
                let insert = concat!(
                    "insert into api_key (id, hash, name, scope, daily_cap, created_at)
                     values (nextval('api_key_id'), $1, $2, $3, $4, $5) returning ",
                    columns!()
                );
                let args: Args<'_> = &[
                    &draft.hash.as_slice(),
                    &Text(&draft.name),
                    &Text(&draft.scope),
                    &draft.daily_cap.map(int),
                    &At(draft.created_at),
                ];
                Ok(Some(read(&sql.row(insert, args).await?)))
            })
        })
        .await
    }

    pub(crate) async fn api_key_get(&self, id: u64) -> Result<Option<ApiKey>, StoreError> {
        let sql = self.reader().await?;
        Ok(sql
            .found(concat!("select ", columns!(), " from api_key where id = $1"), &[&int(id)])
            .await?
            .map(|row| read(&row)))
    }

    pub(crate) async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        let sql = self.reader().await?;
        Ok(sql.rows(ALL, &[]).await?.iter().map(read).collect())
    }

    /// One statement.
    pub(crate) async fn api_key_revoke(&self, id: u64, now: Timestamp) -> Result<bool, StoreError> {
        self.change((id, now), |sql, &(id, now)| {
            Box::pin(async move {
                let revoke = "update api_key set revoked_at = $2 where id = $1 and revoked_at is null";
                Ok(sql.run(revoke, &[&int(id), &At(now)]).await? > 0)
            })
        })
        .await
    }
}

pub(crate) fn read(row: &Row) -> ApiKey {
    ApiKey {
        hash: row.bytes("hash"),
        id: row.uint("id"),
        name: row.text("name"),
        scope: row.text("scope"),
        daily_cap: row.uint_opt("daily_cap"),
        created_at: row.at("created_at"),
        revoked_at: row.at_opt("revoked_at"),
    }
}
