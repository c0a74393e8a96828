//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn import_organizations(
        &self,
        organizations: Vec<Organization>,
    ) -> Result<(), StoreError> {
        todo!()
    }

    pub(crate) async fn import_rooms(&self, rooms: Vec<ImportedRoom>) -> Result<(), StoreError> {
        todo!()
    }

    pub(crate) async fn import_messages(&self, messages: Vec<ImportedMessage>) -> Result<(), StoreError> {
        todo!()
    }

    pub(crate) async fn import_files(&self, files: Vec<ImportedFile>) -> Result<(), StoreError> {
        todo!()
    }

    pub(crate) async fn import_ids(&self, last: ImportedIds) -> Result<(), StoreError> {
        todo!()
    }

    pub(crate) async fn chat_message_by_old_id(
        &self,
        old_id: u64,
    ) -> Result<Option<(RoomId, u64)>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_file_by_old_path(&self, path: &str) -> Result<Option<StoredFile>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_last_seq_before(
        &self,
        room: RoomId,
        before: Timestamp,
    ) -> Result<u64, StoreError> {
        todo!()
    }
}
