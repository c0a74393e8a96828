//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn api_key_create(&self, draft: ApiKeyDraft) -> Result<Option<ApiKey>, StoreError> {
        todo!()
    }

    pub(crate) async fn api_key_get(&self, id: u64) -> Result<Option<ApiKey>, StoreError> {
        todo!()
    }

    pub(crate) async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        todo!()
    }

    pub(crate) async fn api_key_revoke(&self, id: u64, now: Timestamp) -> Result<bool, StoreError> {
        todo!()
    }
}
