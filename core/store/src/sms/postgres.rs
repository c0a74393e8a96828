//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn sms_insert(&self, draft: SmsDraft) -> Result<SmsInserted, StoreError> {
        todo!()
    }

    pub(crate) async fn sms_begin(
        &self,
        id: u64,
        begun: SmsBegun,
        failed: Vec<SmsTried>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        todo!()
    }

    pub(crate) async fn sms_rest(
        &self,
        id: u64,
        failed: Vec<SmsTried>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        todo!()
    }

    pub(crate) async fn sms_end(
        &self,
        id: u64,
        end: SmsEnd,
        failed: Vec<SmsTried>,
        now: Timestamp,
    ) -> Result<Option<SmsRecord>, StoreError> {
        todo!()
    }

    pub(crate) async fn sms_due(
        &self,
        now: Timestamp,
        limit: usize,
        skip: impl Fn(u64) -> bool,
    ) -> Result<Vec<SmsRecord>, StoreError> {
        todo!()
    }

    pub(crate) async fn sms_next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        todo!()
    }

    pub(crate) async fn sms_waiting(&self) -> Result<u64, StoreError> {
        todo!()
    }

    pub(crate) async fn sms_recover(&self, now: Timestamp) -> Result<SmsRecovered, StoreError> {
        todo!()
    }

    pub(crate) async fn sms_get(&self, id: u64) -> Result<Option<SmsRecord>, StoreError> {
        todo!()
    }

    pub(crate) async fn sms_last_id(&self) -> Result<u64, StoreError> {
        todo!()
    }

    pub(crate) async fn sms_page(
        &self,
        filter: &SmsFilter,
        range: SmsRange,
        limit: usize,
        looked_max: usize,
    ) -> Result<SmsPage, StoreError> {
        todo!()
    }

    pub(crate) async fn sms_purge(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        todo!()
    }

    pub(crate) async fn sms_idempotency_purge(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        todo!()
    }
}
