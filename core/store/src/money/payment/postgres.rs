//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn payment_create(&self, draft: PaymentDraft) -> Result<PaymentCreated, StoreError> {
        todo!()
    }

    pub(crate) async fn payment_started(
        &self,
        id: PaymentId,
        start: PaymentStart,
        check_at: Timestamp,
        now: Timestamp,
    ) -> Result<PaymentStep, StoreError> {
        todo!()
    }

    pub(crate) async fn payment_claimed(
        &self,
        id: PaymentId,
        claim: Option<KeptClaim>,
        asking: Option<Timestamp>,
    ) -> Result<PaymentStep, StoreError> {
        todo!()
    }

    pub(crate) async fn payment_late_answered(&self, id: PaymentId) -> Result<PaymentStep, StoreError> {
        todo!()
    }

    pub(crate) async fn payment_claims_denied(
        &self,
        id: PaymentId,
        denied: Vec<PaymentClaim>,
    ) -> Result<PaymentStep, StoreError> {
        todo!()
    }

    pub(crate) async fn payment_uncredited(
        &self,
        gateway: String,
        reference: String,
        listed: Option<u64>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        todo!()
    }

    pub(crate) async fn payment_settle(
        &self,
        id: PaymentId,
        receipt: PaymentReceipt,
        claim: Option<PaymentClaim>,
        now: Timestamp,
    ) -> Result<PaymentSettled, StoreError> {
        todo!()
    }

    pub(crate) async fn payment_end(
        &self,
        id: PaymentId,
        state: PaymentState,
        reason: String,
        refusal: Option<PaymentRefusal>,
        now: Timestamp,
    ) -> Result<PaymentStep, StoreError> {
        todo!()
    }

    pub(crate) async fn payment_check_later(
        &self,
        id: PaymentId,
        at: Timestamp,
        question: Question,
        claim: Option<KeptClaim>,
    ) -> Result<PaymentStep, StoreError> {
        todo!()
    }

    pub(crate) async fn payment_get(&self, id: PaymentId) -> Result<Option<Payment>, StoreError> {
        todo!()
    }

    pub(crate) async fn payment_by_reference(
        &self,
        gateway: &str,
        reference: &str,
    ) -> Result<Option<Payment>, StoreError> {
        todo!()
    }

    pub(crate) async fn payments_of(
        &self,
        user: UserId,
        before: Option<PaymentId>,
        limit: usize,
    ) -> Result<Vec<Payment>, StoreError> {
        todo!()
    }

    pub(crate) async fn payments_due(
        &self,
        gateway: &str,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Payment>, StoreError> {
        todo!()
    }

    pub(crate) async fn payments_open(&self, gateway: &str, limit: usize) -> Result<usize, StoreError> {
        todo!()
    }

    pub(crate) async fn payments_open_gateways(&self) -> Result<Vec<String>, StoreError> {
        todo!()
    }
}
