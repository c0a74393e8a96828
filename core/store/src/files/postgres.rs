//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn chat_file_keep(&self, draft: FileDraft) -> Result<FileKept, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_file_bytes(&self, user: UserId) -> Result<u64, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_file_total(&self) -> Result<u64, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_file(&self, id: FileId) -> Result<Option<StoredFile>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_file_by_name(&self, name: &str) -> Result<Option<StoredFile>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_files_doom(
        &self,
        after: FileId,
        limit: usize,
        before: Timestamp,
    ) -> Result<(Vec<StoredFile>, Option<FileId>), StoreError> {
        todo!()
    }

    pub(crate) async fn chat_file_forget(&self, id: FileId) -> Result<bool, StoreError> {
        todo!()
    }
}
