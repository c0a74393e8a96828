//! The reconciler: asks about open payments without a callback, gateway by gateway. A gateway that is down delays no
//! other gateway's payments.

use std::sync::atomic::{AtomicUsize, Ordering};

use chelseru_store::{Due, PaymentState, StoreError};
use futures_util::StreamExt;

use super::confirm::{Looked, Why};
use super::gateway::PaymentGateways;
use super::service::Payments;
use super::verdict::AHEAD_MAX;
use crate::Range;

/// Time between two rounds of the reconciler.
pub const RECONCILE_SECS: Range<u64> = Range::new(1, 60, 5);
/// Payments per gateway in one round, and how many concurrently.
pub const ROUND_MAX: usize = 256;
pub const ROUND_PARALLEL: usize = 8;
/// Consecutive questions without an answer that end a gateway's round: it is down, and each further one would wait for
/// another timeout. The remaining payments stay due.
pub const ROUND_SILENT_MAX: usize = 8;

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
    /// One round over every gateway of [`Payments::due_gateways`], all at once: see [`Payments::reconcile_gateway`].
    ///
    /// # Errors
    ///
    /// Those of reading a queue. A payment that fails is logged and stays due.
    pub async fn reconcile(&self, gateways: &dyn PaymentGateways) -> Result<Round, StoreError> {
        let names = self.due_gateways(gateways).await?;
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

    /// The gateways of a round: those with open payments, configured or not, and those whose list of unverified
    /// payments is due.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub async fn due_gateways(&self, gateways: &dyn PaymentGateways) -> Result<Vec<String>, StoreError> {
        let mut names = self.open_gateways().await?;
        let now = self.clock.now();
        for gateway in gateways.all() {
            let idle = !names.iter().any(|name| name == gateway.name());
            if idle && gateway.rules().lists_unverified && self.lists.is_due(gateway.name(), false, now) {
                names.push(gateway.name().to_owned());
            }
        }
        Ok(names)
    }

    /// The gateways with open payments, configured or not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub async fn open_gateways(&self) -> Result<Vec<String>, StoreError> {
        self.store.payments_open_gateways().await
    }

    /// One round over a gateway's due payments and its list of unverified ones. Callers run the gateways
    /// concurrently, so a slow one delays no other.
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
        if self.holds.left(name, now).is_some() {
            return Ok(Round::default());
        }
        let mut work = self.unverified(gateways, name, now).await?;
        let due = self.store.payments_due(name, Due::new(now, AHEAD_MAX), ROUND_MAX).await?;
        let full = due.len() == ROUND_MAX;
        for payment in due {
            if work.iter().all(|(other, _)| other.id != payment.id) {
                work.push((payment, Why::Due));
            }
        }
        let silent = AtomicUsize::new(0);
        let held = || self.holds.left(name, self.clock.now()).is_some();
        let answers = || silent.load(Ordering::Relaxed) < ROUND_SILENT_MAX && !held();
        let mut round = Round::default();
        let mut looks = futures_util::stream::iter(work)
            // A started question completes; a cancelled one would count as asked forever.
            .take_while(|_| std::future::ready(answers()))
            .map(|(payment, why)| async move {
                let id = payment.id;
                let was_open = payment.state.is_open();
                (id, was_open, self.look(gateways, payment, why).await)
            })
            .buffer_unordered(ROUND_PARALLEL);
        while let Some((id, was_open, looked)) = looks.next().await {
            round.looked_at += 1;
            let Looked { payment, silent: unanswered, .. } = match looked {
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
            if payment.state == PaymentState::Paid {
                round.settled += 1;
            } else if was_open && !payment.state.is_open() {
                round.ended += 1;
            }
        }
        drop(looks);
        round.more = full && answers();
        Ok(round)
    }
}
