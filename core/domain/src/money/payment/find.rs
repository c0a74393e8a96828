//! Finding payments and refunds for staff, page by page, and what they sum to.
//!
//! A page costs at most [`LOOKS_MAX`] index entries, so a query that finds little answers with fewer payments than a
//! page has and says where to go on. Totals are counted over many pages and yield to other work between them.

use chelseru_store::{
    PaymentId, PaymentQuery, PaymentState, PaymentsFound, RefundQuery, RefundState, RefundsFound, StoreError,
};

use super::service::Payments;

/// Index entries that one page looks at.
const LOOKS_MAX: usize = 500;
/// Payments or refunds that one request counts for totals.
const TOTALS_MAX: usize = 100_000;

/// What payments sum to, in rial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub payments: u64,
    pub amount: u128,
    /// Paid ones, given back or not.
    pub paid: u64,
    pub paid_amount: u128,
    pub refunded_amount: u128,
    /// Not all was counted: go on before this payment.
    pub next: Option<PaymentId>,
}

/// What refunds sum to, in rial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RefundTotals {
    /// In every state.
    pub refunds: u64,
    pub amount: u128,
    /// Those that stand: not taken back.
    pub standing: u64,
    pub standing_amount: u128,
    /// Not all was counted: go on before this position.
    pub next: Option<u64>,
}

impl Payments {
    /// A page of what a query finds, newest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn find(
        &self,
        query: &PaymentQuery,
        before: Option<PaymentId>,
        limit: usize,
    ) -> Result<PaymentsFound, StoreError> {
        self.store.payments_find(query, before, limit, LOOKS_MAX).await
    }

    /// A page of refunds that a query finds, newest first, each with its payment.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn find_refunds(
        &self,
        query: &RefundQuery,
        before: Option<u64>,
        limit: usize,
    ) -> Result<RefundsFound, StoreError> {
        self.store.refunds_find(query, before, limit, LOOKS_MAX).await
    }

    /// What a query finds, summed: at most [`TOTALS_MAX`] payments.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn totals(
        &self,
        query: &PaymentQuery,
        before: Option<PaymentId>,
    ) -> Result<Totals, StoreError> {
        let mut totals = Totals { next: before, ..Totals::default() };
        let mut looked = 0;
        loop {
            let found = self.store.payments_find(query, totals.next, LOOKS_MAX, LOOKS_MAX).await?;
            for payment in &found.payments {
                totals.payments += 1;
                totals.amount += u128::from(payment.amount);
                if matches!(payment.state, PaymentState::Paid | PaymentState::Refunded) {
                    totals.paid += 1;
                    totals.paid_amount += u128::from(payment.amount);
                    totals.refunded_amount += u128::from(payment.refunded);
                }
            }
            totals.next = found.next;
            looked += LOOKS_MAX;
            if totals.next.is_none() || looked >= TOTALS_MAX {
                return Ok(totals);
            }
            tokio::task::yield_now().await;
        }
    }

    /// What a query of refunds finds, summed: at most [`TOTALS_MAX`] of them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn refund_totals(
        &self,
        query: &RefundQuery,
        before: Option<u64>,
    ) -> Result<RefundTotals, StoreError> {
        let mut totals = RefundTotals { next: before, ..RefundTotals::default() };
        let mut looked = 0;
        loop {
            let found = self.store.refunds_find(query, totals.next, LOOKS_MAX, LOOKS_MAX).await?;
            for (refund, _) in &found.refunds {
                totals.refunds += 1;
                totals.amount += u128::from(refund.amount);
                if refund.state != RefundState::Undone {
                    totals.standing += 1;
                    totals.standing_amount += u128::from(refund.amount);
                }
            }
            totals.next = found.next;
            looked += LOOKS_MAX;
            if totals.next.is_none() || looked >= TOTALS_MAX {
                return Ok(totals);
            }
            tokio::task::yield_now().await;
        }
    }
}
