//! From PostgreSQL to sled: rows as they come, and changes of many records each.

use std::pin::pin;

use futures_util::TryStreamExt;
use sled::IVec;
use tokio_postgres::Row;

use super::{CHUNK, Count, Progress};
use crate::StoreError;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::Columns;
use crate::engine::sled::Sled;
use crate::engine::sled::record::encode_u64;
use crate::engine::sled::txn::Txn;

/// Writes records, and reads the rows that they come from.
pub(crate) struct Records<'a> {
    pub(crate) sql: &'a Sql,
    pub(crate) sled: &'a Sled,
    progress: Progress<'a>,
}

/// The change that a row becomes.
type Change = Box<dyn FnOnce(&mut Txn) -> Result<(), StoreError> + Send>;

impl<'a> Records<'a> {
    pub(crate) fn new(sql: &'a Sql, sled: &'a Sled, progress: Progress<'a>) -> Records<'a> {
        Records { sql, sled, progress }
    }

    /// Reads the rows of a statement, and makes the change that each becomes, in the order of the rows.
    pub(crate) async fn each<C>(
        &self,
        what: &'static str,
        select: &'static str,
        read: impl Fn(&Row) -> Result<C, StoreError> + Sync,
    ) -> Result<(), StoreError>
    where
        C: FnOnce(&mut Txn) -> Result<(), StoreError> + Send + 'static,
    {
        self.change_each(what, select, &|row| Ok(Box::new(read(row)?))).await
    }

    /// [`Records::each`] without a type of a record: compiled once and not once per kind.
    async fn change_each(
        &self,
        what: &'static str,
        select: &'static str,
        read: &(dyn Fn(&Row) -> Result<Change, StoreError> + Sync),
    ) -> Result<(), StoreError> {
        let mut count = Count::new(what, self.progress);
        let mut rows = pin!(self.sql.stream(select).await?.try_chunks(CHUNK));
        loop {
            let chunk =
                rows.try_next().await.map_err(|error| count.error(error.0.len(), Sql::failed(&error.1)))?;
            let Some(chunk) = chunk else { return Ok(()) };
            let mut changes = Vec::with_capacity(chunk.len());
            for (place, row) in chunk.iter().enumerate() {
                changes.push(read(row).map_err(|error| count.error(place, error))?);
            }
            let made = self.sled.change(move |txn| {
                for (place, change) in changes.into_iter().enumerate() {
                    if let Err(error) = change(txn) {
                        return Ok(Err((place, error)));
                    }
                }
                Ok(Ok(()))
            });
            made.await?.map_err(|(place, error)| count.error(place, error))?;
            count.add(chunk.len());
        }
    }

    /// Reads the rows of a statement, and stores the records that each becomes.
    pub(crate) async fn put<I>(
        &self,
        what: &'static str,
        select: &'static str,
        read: impl Fn(&Row) -> Result<I, StoreError> + Sync,
    ) -> Result<(), StoreError>
    where
        I: IntoIterator<Item = (IVec, IVec)> + Send + 'static,
    {
        self.each(what, select, |row| {
            let entries = read(row)?;
            Ok(move |txn: &mut Txn| {
                entries.into_iter().for_each(|(key, value)| txn.put(key, value));
                Ok(())
            })
        })
        .await
    }

    /// Lets a sequence go on where the other one stands.
    pub(crate) async fn sequence(&self, name: &'static str, key: &'static [u8]) -> Result<(), StoreError> {
        let last = "select coalesce(pg_sequence_last_value($1::text::regclass), 0) as last";
        let last = self.sql.row(last, &[&name]).await?.uint("last");
        self.put_number(key, last).await
    }

    /// Stores a number that is not 0.
    pub(crate) async fn put_number(&self, key: &'static [u8], number: u64) -> Result<(), StoreError> {
        if number == 0 {
            return Ok(());
        }
        self.sled
            .change(move |txn| {
                txn.put(key.into(), encode_u64(number));
                Ok(())
            })
            .await
    }
}
