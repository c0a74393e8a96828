//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) fn chat_pair_open(
        &self,
        draft: PairDraft,
        then: impl FnOnce(Result<RoomMade, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        todo!()
    }

    pub(crate) fn chat_group_create(
        &self,
        draft: RoomDraft,
        then: impl FnOnce(Result<RoomMade, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        todo!()
    }

    pub(crate) fn chat_room_change(
        &self,
        room: RoomId,
        actor: UserId,
        target: Option<UserId>,
        now: Timestamp,
        judge: impl Fn(&RoomFacts) -> Result<Vec<RoomChange>, Refusal> + Send + Sync + 'static,
        then: impl FnOnce(Result<Judged<RoomChanged>, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        todo!()
    }

    pub(crate) async fn chat_rooms_before(
        &self,
        before: Option<RoomId>,
        limit: usize,
    ) -> Result<Vec<(Room, u64)>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_facts(
        &self,
        room: RoomId,
        actor: UserId,
    ) -> Result<Option<RoomFacts>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_members(&self, room: RoomId, limit: usize) -> Result<Vec<Member>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_members_from(
        &self,
        room: RoomId,
        from: UserId,
        limit: usize,
    ) -> Result<Vec<Member>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_bans(&self, room: RoomId, limit: usize) -> Result<Vec<UserId>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_bans_from(
        &self,
        room: RoomId,
        from: UserId,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_rooms_of(
        &self,
        user: UserId,
        limit: usize,
    ) -> Result<Vec<RoomSummary>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_summary(
        &self,
        room: RoomId,
        user: UserId,
    ) -> Result<Option<RoomSummary>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_rooms_to_sweep(&self, limit: usize) -> Result<Vec<RoomId>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_room_sweep(&self, room: RoomId, limit: usize) -> Result<usize, StoreError> {
        todo!()
    }
}
