//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn chat_requests(
        &self,
        user: UserId,
        limit: usize,
    ) -> Result<Vec<ChatRequest>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_block(&self, blocker: UserId, blocked: UserId) -> Result<Blocked, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_unblock(&self, blocker: UserId, blocked: UserId) -> Result<(), StoreError> {
        todo!()
    }

    pub(crate) async fn chat_blocks(
        &self,
        blocker: UserId,
        from: UserId,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_pair(&self, one: UserId, other: UserId) -> Result<Option<RoomId>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_share_a_room(&self, one: UserId, other: UserId) -> Result<bool, StoreError> {
        todo!()
    }

    pub(crate) async fn contacts_add(
        &self,
        user: UserId,
        marks: Vec<[u8; 16]>,
        max: usize,
    ) -> Result<bool, StoreError> {
        todo!()
    }

    pub(crate) async fn contacts_forget(&self, user: UserId, limit: usize) -> Result<usize, StoreError> {
        todo!()
    }

    pub(crate) async fn contacts_have(&self, user: UserId, mark: [u8; 16]) -> Result<bool, StoreError> {
        todo!()
    }
}
