//! The operations of the store itself.

use super::Postgres;
use super::sql::Sql;
use crate::StoreError;

/// See [`Store::is_empty`](crate::Store::is_empty).
pub(crate) async fn is_empty(sql: &Sql) -> Result<bool, StoreError> {
    let used = "select has_rows('{migration, commit_mark, node, lease}')
        or exists (select from audit_count where entries > 0)";
    Ok(!sql.row(used, &[]).await?.get::<_, bool>(0))
}

/// See [`Store::key_mark`](crate::Store::key_mark).
pub(crate) async fn key_mark(sql: &Sql) -> Result<Option<Vec<u8>>, StoreError> {
    let row = sql.found("select mark from key_mark", &[]).await?;
    Ok(row.map(|row| row.get(0)))
}

impl Postgres {
    pub(crate) async fn is_empty(&self) -> Result<bool, StoreError> {
        is_empty(&self.reader().await?).await
    }

    pub(crate) async fn is_unused(&self) -> Result<bool, StoreError> {
        let sql = self.reader().await?;
        let used = "select has_rows('{migration, commit_mark, audit_entry, node, lease}')";
        Ok(!sql.row(used, &[]).await?.get::<_, bool>(0))
    }

    /// The server's own estimate, in one step: to count large tables again and again would cost more than it tells.
    pub(crate) async fn count_on(
        &self,
        _after: &[u8],
        _limit: usize,
    ) -> Result<(usize, Option<Vec<u8>>), StoreError> {
        let sql = self.reader().await?;
        let estimate = "select coalesce(sum(n_live_tup), 0)::bigint from pg_stat_user_tables
            where schemaname = 'chelseru'";
        let count = sql.row(estimate, &[]).await?.get::<_, i64>(0);
        Ok((usize::try_from(count).unwrap_or(0), None))
    }

    pub(crate) async fn key_mark(&self) -> Result<Option<Vec<u8>>, StoreError> {
        key_mark(&self.reader().await?).await
    }

    /// One statement.
    pub(crate) async fn key_mark_set(&self, mark: [u8; 16]) -> Result<(), StoreError> {
        self.change(mark, |sql, mark| {
            Box::pin(async move {
                let set = "insert into key_mark (mark) values ($1) on conflict (one) do update set mark = $1";
                sql.run(set, &[&mark.as_slice()]).await?;
                Ok(())
            })
        })
        .await
    }

    /// Two statements; the table's key decides between gateways.
    pub(crate) async fn key_mark_claim(&self, mark: [u8; 16]) -> Result<bool, StoreError> {
        self.change(mark, |sql, mark| {
            Box::pin(async move {
                let claim = "insert into key_mark (mark) values ($1) on conflict (one) do nothing";
                sql.run(claim, &[&mark.as_slice()]).await?;
                Ok(key_mark(sql).await?.is_some_and(|stored| stored == mark))
            })
        })
        .await
    }

    /// One statement.
    pub(crate) async fn probe_put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.change((key.to_owned(), value.to_owned()), |sql, (key, value)| {
            Box::pin(async move {
                let put = "insert into probe (key, value) values ($1, $2)
                    on conflict (key) do update set value = $2";
                sql.run(put, &[key, value]).await?;
                Ok(())
            })
        })
        .await
    }

    pub(crate) async fn probe_get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = self.reader().await?;
        let row = sql.found("select value from probe where key = $1", &[&key]).await?;
        Ok(row.map(|row| row.get(0)))
    }
}
