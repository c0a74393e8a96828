//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn erasure_begin(&self, draft: ErasureDraft) -> Result<ErasureBegun, StoreError> {
        todo!()
    }

    pub(crate) async fn erasures_open(&self, limit: usize) -> Result<Vec<Erasure>, StoreError> {
        todo!()
    }

    pub(crate) async fn erasure_rooms(
        &self,
        user: UserId,
        after: RoomId,
        limit: usize,
    ) -> Result<Option<RoomId>, StoreError> {
        todo!()
    }

    pub(crate) async fn erasure_files(
        &self,
        user: UserId,
        after: FileId,
        limit: usize,
    ) -> Result<(Vec<StoredFile>, Option<FileId>), StoreError> {
        todo!()
    }

    pub(crate) async fn erasure_file_doom(&self, file: FileId) -> Result<(), StoreError> {
        todo!()
    }

    pub(crate) async fn erasure_own(&self, user: UserId, limit: usize) -> Result<usize, StoreError> {
        todo!()
    }

    pub(crate) async fn erasure_blocks(
        &self,
        user: UserId,
        after: (UserId, UserId),
        limit: usize,
    ) -> Result<Option<(UserId, UserId)>, StoreError> {
        todo!()
    }

    pub(crate) async fn erasure_payments(
        &self,
        user: UserId,
        after: PaymentId,
        limit: usize,
    ) -> Result<Option<PaymentId>, StoreError> {
        todo!()
    }

    pub(crate) async fn erasure_spends(
        &self,
        user: UserId,
        after: SpendId,
        limit: usize,
    ) -> Result<Option<SpendId>, StoreError> {
        todo!()
    }

    pub(crate) async fn erasure_messages(
        &self,
        number: &str,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        todo!()
    }

    pub(crate) async fn erasure_end(&self, user: UserId) -> Result<(), StoreError> {
        todo!()
    }
}
