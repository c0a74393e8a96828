//! The reconciler: asks about open payments without a callback, gateway by gateway. A gateway that is down delays no
//! other gateway's payments.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chelseru_store::{Payment, PaymentState, StoreError};
use futures_util::StreamExt;

use super::confirm::Looked;
use super::gateway::PaymentGateways;
use super::service::Payments;
use crate::{Range, Timestamp};

/// Time between two rounds of the reconciler.
pub const RECONCILE_SECS: Range<u64> = Range::new(1, 60, 5);
/// Payments per gateway in one round, and how many at once.
pub const ROUND_MAX: usize = 256;
pub const ROUND_PARALLEL: usize = 8;
/// Consecutive questions without an answer that end a gateway's round: it is down, and each further one would wait for
/// another timeout. The remaining payments stay due.
pub const ROUND_SILENT_MAX: usize = 8;
/// Time between two reads of a gateway's list of unverified payments.
const LIST_INTERVAL: Duration = Duration::from_secs(30);

/// The results of one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Round {
    pub looked_at: usize,
    pub settled: usize,
    pub ended: usize,
    /// More payments are due, and the gateway answers.
    pub more: bool,
}

impl Payments {
    /// One round over every gateway with open payments, concurrently: see [`Payments::reconcile_gateway`].
    ///
    /// # Errors
    ///
    /// Those of reading a queue. A payment that fails is logged and stays due.
    pub async fn reconcile(&self, gateways: &dyn PaymentGateways) -> Result<Round, StoreError> {
        let names = self.open_gateways()?;
        let rounds = names.iter().map(|name| self.reconcile_gateway(gateways, name));
        let mut all = Round::default();
        for round in futures_util::future::join_all(rounds).await {
            let Round { looked_at, settled, ended, more } = round?;
            all.looked_at += looked_at;
            all.settled += settled;
            all.ended += ended;
            all.more |= more;
        }
        Ok(all)
    }

    /// The gateways that have open payments, configured or not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub fn open_gateways(&self) -> Result<Vec<String>, StoreError> {
        self.store.payments_open_gateways()
    }

    /// One round over a gateway's due payments and its list of unverified ones. Callers run the gateways concurrently,
    /// so that a slow one delays no other.
    ///
    /// Limits: [`ROUND_MAX`] payments, [`ROUND_PARALLEL`] at once; no further question after [`ROUND_SILENT_MAX`]
    /// without an answer.
    ///
    /// # Errors
    ///
    /// Those of reading the queue. A payment that fails is logged and stays due.
    pub async fn reconcile_gateway(
        &self,
        gateways: &dyn PaymentGateways,
        name: &str,
    ) -> Result<Round, StoreError> {
        let now = self.clock.now();
        let mut work = self.unverified(gateways, name, now).await?;
        let due = self.store.payments_due(name, now, ROUND_MAX)?;
        let full = due.len() == ROUND_MAX;
        for payment in due {
            if work.iter().all(|other| other.id != payment.id) {
                work.push(payment);
            }
        }
        let silent = AtomicUsize::new(0);
        let answers = || silent.load(Ordering::Relaxed) < ROUND_SILENT_MAX;
        let mut round = Round::default();
        let mut looks = futures_util::stream::iter(work)
            // A question that was begun completes; one dropped half way would count as asked for ever.
            .take_while(|_| std::future::ready(answers()))
            .map(|payment| async move {
                let id = payment.id;
                let was_open = payment.state.is_open();
                (id, was_open, self.look(gateways, payment).await)
            })
            .buffer_unordered(ROUND_PARALLEL);
        while let Some((id, was_open, looked)) = looks.next().await {
            round.looked_at += 1;
            let Looked { payment, silent: unanswered } = match looked {
                Ok(looked) => looked,
                Err(error) => {
                    tracing::error!(payment.id = id.0, %error, "a payment could not be reconciled");
                    continue;
                }
            };
            if unanswered {
                silent.fetch_add(1, Ordering::Relaxed);
            } else {
                silent.store(0, Ordering::Relaxed);
            }
            if was_open && payment.state == PaymentState::Paid {
                round.settled += 1;
            } else if was_open && !payment.state.is_open() {
                round.ended += 1;
            }
        }
        drop(looks);
        round.more = full && answers();
        Ok(round)
    }

    /// The pending payments that a gateway lists as paid and unconfirmed.
    async fn unverified(
        &self,
        gateways: &dyn PaymentGateways,
        name: &str,
        now: Timestamp,
    ) -> Result<Vec<Payment>, StoreError> {
        let mut found = Vec::new();
        let Some(gateway) = gateways.by_name(name) else { return Ok(found) };
        if !gateway.rules().lists_unverified || !self.list_is_due(name, now) {
            return Ok(found);
        }
        match gateway.list_unverified().await {
            Ok(references) => {
                for reference in references.into_iter().take(ROUND_MAX) {
                    let payment = self.store.payment_by_reference(name, &reference)?;
                    found.extend(payment.filter(|payment| payment.state == PaymentState::Pending));
                }
            }
            Err(error) => {
                tracing::warn!(plugin.id = name, %error, "the list of unverified payments could not be read")
            }
        }
        Ok(found)
    }

    fn list_is_due(&self, gateway: &str, now: Timestamp) -> bool {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        match listed.get(gateway) {
            Some(last) if now.since(*last) < LIST_INTERVAL && *last <= now => false,
            _ => {
                listed.insert(gateway.to_owned(), now);
                true
            }
        }
    }
}
