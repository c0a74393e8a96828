//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn sms_report(
        &self,
        provider: &str,
        provider_message_id: &str,
        progress: SmsProgress,
        now: Timestamp,
    ) -> Result<SmsReported, StoreError> {
        todo!()
    }

    pub(crate) async fn sms_to_poll(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<SmsRecord>, StoreError> {
        todo!()
    }

    pub(crate) async fn sms_polled(&self, next: Vec<(u64, Option<Timestamp>)>) -> Result<(), StoreError> {
        todo!()
    }
}
