//! Payments that a gateway lists as paid and unconfirmed.
//!
//! A listed payment is checked in any state. A payment that cannot be credited, and a reference without a payment,
//! are reported once: as an error in the log, as an event, and in [`Payments::uncredited`]. Another application that
//! shares the account at the gateway appears here, too.

use std::collections::BTreeMap;

use chelseru_store::{Payment, PaymentState, StoreError};

use super::confirm::{Looked, Why};
use super::gateway::PaymentGateways;
use super::reconcile::ROUND_MAX;
use super::service::Payments;
use crate::Timestamp;

impl Payments {
    /// Number of listed payments per gateway that were reported as not credited since the start.
    #[must_use]
    pub fn uncredited(&self) -> BTreeMap<String, u64> {
        self.lists.uncredited()
    }

    /// The payments of a gateway's list that may still be credited.
    pub(super) async fn unverified(
        &self,
        gateways: &dyn PaymentGateways,
        name: &str,
        now: Timestamp,
    ) -> Result<Vec<(Payment, Why)>, StoreError> {
        let mut found = Vec::new();
        let Some(gateway) = gateways.by_name(name) else { return Ok(found) };
        if !gateway.rules().lists_unverified {
            return Ok(found);
        }
        let open = self.store.payments_open(name, 1).await? > 0;
        if !self.lists.is_due(name, open, now) {
            return Ok(found);
        }
        self.lists.read(name, now);
        let listed = match gateway.list_unverified().await {
            Ok(listed) => listed,
            Err(error) => {
                self.holds.note(name, &error, self.clock.now());
                tracing::warn!(plugin.id = name, %error, "the list of unverified payments could not be read");
                return Ok(found);
            }
        };
        for item in listed.into_iter().take(ROUND_MAX) {
            match self.store.payment_by_reference(name, &item.reference).await? {
                Some(payment) if payment.state == PaymentState::Pending || payment.may_be_late() => {
                    found.push((payment, Why::Listed { amount: item.amount }));
                }
                // Confirmed while the list was in transit, or not at the bank yet.
                Some(_) => {}
                None if self.lists.is_new(name, &item.reference) => {
                    self.report_uncredited(name, &item.reference, item.amount).await?;
                }
                None => {}
            }
        }
        Ok(found)
    }

    /// Reports a listed payment that is still not credited after the question.
    pub(super) async fn check_listed(&self, looked: &Looked, amount: Option<u64>) -> Result<(), StoreError> {
        let payment = &looked.payment;
        let credited = matches!(payment.state, PaymentState::Paid | PaymentState::Refunded);
        if credited || payment.state.is_open() || payment.uncredited || !looked.answered {
            return Ok(());
        }
        let Some(start) = &payment.start else { return Ok(()) };
        self.report_uncredited(&payment.gateway, &start.reference, amount).await
    }

    async fn report_uncredited(
        &self,
        gateway: &str,
        reference: &str,
        amount: Option<u64>,
    ) -> Result<(), StoreError> {
        let (owned, name) = (gateway.to_owned(), reference.to_owned());
        if self.store.payment_uncredited(owned, name, amount, self.clock.now()).await? {
            self.lists.count(gateway);
            tracing::error!(
                plugin.id = gateway,
                payment.reference = reference,
                amount,
                "the gateway lists a payment as paid that is not credited"
            );
        }
        Ok(())
    }
}
