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
        Ok(found.map(|row| Position {
            seq: row.uint("last_seq"),
            revision: row.uint("revision"),
            changes: row.uint("changes"),
        }))
    }

    /// A read sees only what is committed, and thus durable.
    pub(crate) async fn chat_barrier(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
