//! The operations of this folder, in PostgreSQL statements. Whoever changes the blocks of a room locks its row.

use crate::StoreError;
use crate::chat::RoomId;
use crate::chat::search::{WORD_BLOCK_BYTES_MAX, WordBlock};
use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{Columns, int};

impl Postgres {
    pub(crate) async fn chat_word_blocks(
        &self,
        room: RoomId,
        below: u64,
        limit: usize,
    ) -> Result<Vec<WordBlock>, StoreError> {
        let sql = self.reader().await?;
        let list = "select first, last, words from chat_word_block where room = $1 and first < $2
            order by first desc limit $3";
        let rows = sql.rows(list, &[&int(room.0), &int(below), &int(limit as u64)]).await?;
        let read = |row: &tokio_postgres::Row| WordBlock {
            first: row.uint("first"),
            last: row.uint("last"),
            bytes: row.get("words"),
        };
        Ok(rows.iter().map(read).collect())
    }

    /// Locks the room: an edit beside this either comes first, and the revision differs, or removes the block.
    pub(crate) async fn chat_word_block_put(
        &self,
        room: RoomId,
        block: WordBlock,
        revision: u64,
    ) -> Result<bool, StoreError> {
        if block.bytes.len() > WORD_BLOCK_BYTES_MAX {
            return Err(StoreError::Record { kind: "word block", reason: "it is too long".to_owned() });
        }
        self.change((room, block, revision), |sql, (room, block, revision)| {
            Box::pin(async move {
                let lock = "select revision from room where id = $1 and state <> 'deleted' for no key update";
                let current = sql.found(lock, &[&int(room.0)]).await?;
                if current.is_none_or(|row| row.uint("revision") != *revision) {
                    return Ok(false);
                }
                remove_covering(sql, *room, block.first, block.last).await?;
                let put = "insert into chat_word_block (room, first, last, words) values ($1, $2, $3, $4)";
                sql.run(put, &[&int(room.0), &int(block.first), &int(block.last), &block.bytes]).await?;
                Ok(true)
            })
        })
        .await
    }
}

/// Removes the blocks that cover a message from `first` to `last` of a locked room.
pub(crate) async fn remove_covering(
    sql: &Sql,
    room: RoomId,
    first: u64,
    last: u64,
) -> Result<(), StoreError> {
    let remove = "delete from chat_word_block where room = $1 and first <= $3 and last >= $2";
    sql.run(remove, &[&int(room.0), &int(first), &int(last)]).await?;
    Ok(())
}
