//! From sled to PostgreSQL: inserts, sent without waiting for each other's answers.

use std::ops::Bound;

use futures_util::future::{TryFutureExt, try_join_all};
use sled::IVec;
use tokio_postgres::types::ToSql;

use super::{CHUNK, Count, Progress};
use crate::StoreError;
use crate::engine::postgres::change::Running;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{escaped, int};
use crate::engine::sled::record::decode_u64;
use crate::engine::sled::{Sled, error};

/// Writes rows, and reads the records that they come from.
pub(crate) struct Rows<'a> {
    pub(crate) sled: &'a Sled,
    pub(crate) sql: &'a Sql,
    progress: Progress<'a>,
}

/// The columns of a row.
pub(crate) type Values = Vec<Box<dyn ToSql + Send + Sync>>;

macro_rules! row {
    ($($value:expr),* $(,)?) => {
        vec![$(Box::new($value) as Box<dyn tokio_postgres::types::ToSql + Send + Sync>),*]
    };
}
pub(crate) use row;

/// Free text in a column, which outlives the record.
pub(crate) fn column(text: &str) -> String {
    escaped(text).into_owned()
}

pub(crate) fn column_opt(text: Option<&str>) -> Option<String> {
    text.map(column)
}

/// Waits for the statements of a chunk, each with the place of its record. Takes no type of a record: what waits for
/// many futures is much code, which is compiled once here and not once per kind of record.
async fn finish(puts: Vec<(usize, Running<'_, ()>)>, count: &Count<'_>) -> Result<(), StoreError> {
    let mut puts = puts.into_iter().map(|(place, put)| put.map_err(move |error| count.error(place, error)));
    if count.count == 0
        && let Some(first) = puts.next()
    {
        // Alone, so that its statements are prepared once.
        first.await?;
    }
    try_join_all(puts).await.map(drop)
}

impl<'a> Rows<'a> {
    pub(crate) fn new(sled: &'a Sled, sql: &'a Sql, progress: Progress<'a>) -> Rows<'a> {
        Rows { sled, sql, progress }
    }

    /// Reads the records whose keys begin so, and stores what becomes of each; nothing becomes of `None`.
    pub(crate) async fn each<R>(
        &self,
        what: &'static str,
        prefix: &[u8],
        mut read: impl FnMut(&[u8], &[u8]) -> Result<Option<R>, StoreError>,
        put: impl for<'s> Fn(&'s Sql, &'s R) -> Running<'s, ()>,
    ) -> Result<(), StoreError> {
        let mut count = Count::new(what, self.progress);
        let mut last = None;
        loop {
            let chunk = self.chunk(prefix, last)?;
            let Some((key, _)) = chunk.last() else { return Ok(()) };
            last = Some(key.clone());
            let mut found = Vec::with_capacity(chunk.len());
            for (place, (key, value)) in chunk.iter().enumerate() {
                let record = read(key, value).map_err(|error| count.error(place, error))?;
                found.extend(record.map(|record| (place, record)));
            }
            let puts = found.iter().map(|(place, record)| (*place, put(self.sql, record))).collect();
            finish(puts, &count).await?;
            count.add(chunk.len());
        }
    }

    /// Reads the records whose keys begin so, and inserts the row that each becomes, if any.
    pub(crate) async fn insert(
        &self,
        what: &'static str,
        prefix: &[u8],
        statement: &'static str,
        read: impl FnMut(&[u8], &[u8]) -> Result<Option<Values>, StoreError>,
    ) -> Result<(), StoreError> {
        self.each(what, prefix, read, move |sql, values: &Values| {
            Box::pin(async move {
                let args: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| &**value as _).collect();
                sql.run(statement, &args).await.map(drop)
            })
        })
        .await
    }

    /// The next records whose keys begin so.
    pub(crate) fn chunk(&self, prefix: &[u8], after: Option<IVec>) -> Result<Vec<(IVec, IVec)>, StoreError> {
        let first = match &after {
            Some(last) => Bound::Excluded(last.as_ref()),
            None => Bound::Included(prefix),
        };
        let entries = self.sled.tree.range::<&[u8], _>((first, Bound::Unbounded));
        let within = |entry: &sled::Result<(IVec, IVec)>| {
            entry.as_ref().map_or(true, |(key, _)| key.starts_with(prefix))
        };
        entries.take_while(within).take(CHUNK).map(|entry| entry.map_err(error::read)).collect()
    }

    /// Lets a sequence go on where the other one stands.
    pub(crate) async fn sequence(&self, name: &'static str, key: &[u8]) -> Result<(), StoreError> {
        let last = self.sled.tree.get(key).map_err(error::read)?;
        let last = last.map_or(Ok(0), |bytes| decode_u64("sequence", &bytes))?;
        self.sequence_at(name, last).await
    }

    /// Lets a sequence go on after a number.
    pub(crate) async fn sequence_at(&self, name: &'static str, last: u64) -> Result<(), StoreError> {
        let set = "select setval($1::text::regclass, $2) where $2 > 0";
        self.sql.rows(set, &[&name, &int(last)]).await?;
        Ok(())
    }

    /// Reports the records of a kind that this type does not count.
    pub(crate) fn count(&self, what: &'static str) -> Count<'_> {
        Count::new(what, self.progress)
    }
}
