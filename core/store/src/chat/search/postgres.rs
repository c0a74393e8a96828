//! The operations of this folder, in PostgreSQL statements.

use crate::StoreError;
use crate::chat::RoomId;
use crate::chat::postgres::room::lock;
use crate::chat::search::{WORD_BLOCK_BYTES_MAX, WordBlock};
use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{Columns, int, size};

impl Postgres {
    pub(crate) async fn chat_word_blocks(
        &self,
        room: RoomId,
        below: u64,
        limit: usize,
        each: &mut (dyn FnMut(WordBlock<&[u8]>) + Send),
    ) -> Result<usize, StoreError> {
        let statement = "select first, last, content from word_block where room = $1 and first < $2 \
                         order by first desc limit $3";
        let rows = self.reader().await?.rows(statement, &[&int(room.0), &int(below), &size(limit)]).await?;
        for row in &rows {
            each(WordBlock { first: row.uint("first"), last: row.uint("last"), bytes: row.get("content") });
        }
        Ok(rows.len())
    }

    /// Locks the room's row.
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
                if lock(sql, *room).await?.is_none_or(|kept| kept.room.revision != *revision) {
                    return Ok(false);
                }
                remove_covering(sql, *room, block.first, block.last).await?;
                let insert = "insert into word_block (room, first, last, content) values ($1, $2, $3, $4)";
                sql.run(insert, &[&int(room.0), &int(block.first), &int(block.last), &block.bytes]).await?;
                Ok(true)
            })
        })
        .await
    }
}

/// Removes the blocks that cover a message from `first` to `last`, in a change that has locked the room's row.
pub(crate) async fn remove_covering(
    sql: &Sql,
    room: RoomId,
    first: u64,
    last: u64,
) -> Result<(), StoreError> {
    let statement = "delete from word_block where room = $1 and first <= $3 and last >= $2";
    sql.run(statement, &[&int(room.0), &int(first), &int(last)]).await?;
    Ok(())
}
