//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn audit_append(
        &self,
        drafts: Vec<(AuditLog, AuditDraft)>,
        keep: u64,
    ) -> Result<(), StoreError> {
        todo!()
    }

    pub(crate) async fn audit_purge(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        todo!()
    }

    pub(crate) async fn audit_page(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        todo!()
    }
}
