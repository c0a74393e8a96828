//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) fn chat_message_append(
        &self,
        draft: MessageDraft,
        judge: impl Fn(&RoomFacts) -> Result<(), Refusal> + Send + Sync + 'static,
        then: impl FnOnce(Result<Judged<Appended>, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        todo!()
    }

    pub(crate) fn chat_message_change(
        &self,
        wanted: MessageChange,
        judge: impl Fn(&RoomFacts, &Message) -> Result<(), Refusal> + Send + Sync + 'static,
        then: impl FnOnce(Result<Judged<MessageEdited>, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        todo!()
    }

    pub(crate) async fn chat_message(&self, room: RoomId, seq: u64) -> Result<Option<Message>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_messages_older(
        &self,
        after: (RoomId, u64),
        before: Timestamp,
        limit: usize,
    ) -> Result<OlderMessages, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_last_seq(&self, room: RoomId) -> Result<u64, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_messages_before(
        &self,
        room: RoomId,
        before: u64,
        limit: usize,
    ) -> Result<MessagePage, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_messages_after(
        &self,
        room: RoomId,
        after: u64,
        limit: usize,
    ) -> Result<MessagePage, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_gap(
        &self,
        room: RoomId,
        after: u64,
        last: u64,
    ) -> Result<Vec<Message>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_revisions(
        &self,
        room: RoomId,
        after: u64,
        last: u64,
    ) -> Result<Vec<Edited>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_unread_recount(
        &self,
        room: RoomId,
        user: UserId,
    ) -> Result<Option<u64>, StoreError> {
        todo!()
    }
}
