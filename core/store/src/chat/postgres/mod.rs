//! What the operations of several folders share inside a change.
//!
//! A change of a room locks the room's row first, or after the rows of the users it is about; users are locked in order
//! of their numbers. Whoever holds a room's row sees its members, bans and messages as they are and stay. Limits of a
//! user (rooms, requests, blocks, contacts) are counted under the user's row. A request that gives way to a newer one
//! is in another room, whose row is locked last; two changes may meet there crosswise, and one of them runs again.

pub(crate) mod facts;
pub(crate) mod request;
pub(crate) mod room;

use crate::StoreError;
use crate::chat::{Position, RoomId};
use crate::engine::postgres::Postgres;
use crate::engine::postgres::value::{Columns, int};

impl Postgres {
    pub(crate) async fn chat_position(&self, room: RoomId) -> Result<Option<Position>, StoreError> {
        let statement = "select last_seq, revision, changes from room where id = $1 and state = 'live'";
        let found = self.reader().await?.found(statement, &[&int(room.0)]).await?;
        Ok(found.as_ref().map(position))
    }

    pub(crate) async fn chat_positions(
        &self,
        rooms: &[RoomId],
    ) -> Result<Vec<(RoomId, Position)>, StoreError> {
        let statement =
            "select id, last_seq, revision, changes from room where id = any($1) and state = 'live'";
        let asked: Vec<i64> = rooms.iter().map(|room| int(room.0)).collect();
        let rows = self.reader().await?.rows(statement, &[&asked]).await?;
        Ok(rows.iter().map(|row| (RoomId(row.uint("id")), position(row))).collect())
    }

    /// A read sees only what is committed, and thus durable.
    pub(crate) async fn chat_barrier(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn position(row: &tokio_postgres::Row) -> Position {
    Position { seq: row.uint("last_seq"), revision: row.uint("revision"), changes: row.uint("changes") }
}
