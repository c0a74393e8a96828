//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn chat_position(&self, room: RoomId) -> Result<Option<Position>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_barrier(&self) -> Result<(), StoreError> {
        todo!()
    }
}
