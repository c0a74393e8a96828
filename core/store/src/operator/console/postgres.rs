//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn operator_get(&self, user: UserId) -> Result<Option<OperatorRecord>, StoreError> {
        todo!()
    }

    pub(crate) async fn operators(&self) -> Result<Vec<OperatorRecord>, StoreError> {
        todo!()
    }

    pub(crate) async fn operator_change(
        &self,
        user: UserId,
        change: OperatorChange,
    ) -> Result<Option<OperatorRecord>, StoreError> {
        todo!()
    }

    pub(crate) async fn console_link_put(
        &self,
        user: UserId,
        hash: [u8; 32],
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        todo!()
    }

    pub(crate) async fn console_open(
        &self,
        draft: ConsoleDraft,
    ) -> Result<Option<ConsoleSession>, StoreError> {
        todo!()
    }

    pub(crate) async fn console_session(
        &self,
        user: UserId,
        hash: [u8; 32],
    ) -> Result<Option<ConsoleSession>, StoreError> {
        todo!()
    }

    pub(crate) async fn console_touch(
        &self,
        user: UserId,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        todo!()
    }

    pub(crate) async fn console_sessions(&self, user: UserId) -> Result<Vec<ConsoleSession>, StoreError> {
        todo!()
    }

    pub(crate) async fn console_end(
        &self,
        user: UserId,
        id: Option<u64>,
        except: Option<u64>,
    ) -> Result<usize, StoreError> {
        todo!()
    }
}

/// Ends the sessions of an operator and forgets an unused link.
pub(crate) async fn end_all(sql: &crate::engine::postgres::sql::Sql, user: UserId) -> Result<(), StoreError> {
    Ok(())
}
