//! Steps shared by several chat operations inside a change of sled.

pub(crate) mod facts;
pub(crate) mod message;
pub(crate) mod request;
pub(crate) mod room;

use crate::StoreError;
use crate::chat::sled::room::RoomRecord;
use crate::chat::{Position, RoomId};
use crate::engine::sled::Sled;
use crate::engine::sled::keys::chat as key;

impl Sled {
    pub(crate) fn chat_position(&self, room: RoomId) -> Result<Option<Position>, StoreError> {
        let Some(record) = self.record::<RoomRecord>(&key::room(room))? else { return Ok(None) };
        let seq = self.chat_last_seq(room)?;
        Ok(Some(Position { seq, revision: record.revision, changes: record.changes }))
    }

    pub(crate) fn chat_positions(&self, rooms: &[RoomId]) -> Result<Vec<(RoomId, Position)>, StoreError> {
        let place = |room: &RoomId| Ok(self.chat_position(*room)?.map(|position| (*room, position)));
        rooms.iter().filter_map(|room| place(room).transpose()).collect()
    }

    pub(crate) async fn chat_barrier(&self) -> Result<(), StoreError> {
        self.change(|_| Ok(())).await
    }
}
