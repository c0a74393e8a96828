//! Asks a gateway about one payment, and acts on its answer.
//!
//! Every question passes here: from the reconciler, a callback, the gateway's list, or staff. Each payment has at most
//! one question in flight; waiting callers share its answer, unless they bring a new claim. Claims are tried by weight
//! ([`by_weight`]). One that the gateway denies is dropped and proves nothing. One whose question fails stays stored,
//! because it may be true, and does not stand in the way of the others ([`conclude`]): it is tried last from then on.
//! Neither does one that anybody may have invented, whatever the gateway says to it. The last question has no claim.
//! A question is recorded before it is asked, because it may confirm the payment and a crash must not hide it: by the
//! record of the payment's start already, and otherwise by a change of its own. A claim is stored before it is asked
//! about, unless it says nothing that the gateway does not know ([`is_bare`]). Repeated callbacks without news are
//! answered from the store for [`REPEAT_MIN`], so refreshing a page asks the bank once. A gateway that limits requests
//! is not asked during its wait ([`Holds`]).

use std::time::Duration;

use chelseru_store::{
    CheckedLater, KeptClaim, Payment, PaymentClaim, PaymentId, PaymentReceipt, PaymentSettled, PaymentState,
    PaymentStep, Question, StoreError,
};

use super::end::EndReason;
use super::flight::{Asked, REMEMBERED};
use super::gateway::{GatewayError, PaymentGateway, PaymentGateways, StoredPayment, Verdict};
use super::service::Payments;
use super::verdict::{self, Next};
use crate::Timestamp;

/// Most claims tried in one check, the weightiest first; then the gateway is asked without a claim.
const CLAIMS_TRIED_MAX: usize = 3;
/// How long a callback without news is answered without asking the gateway.
const REPEAT_MIN: Duration = Duration::from_secs(10);
/// The same for a callback from the payer's browser, and for a claim that anybody may have invented.
const CLAIM_MIN: Duration = Duration::from_secs(2);
/// The same for a payment that has ended.
const LATE_REPEAT_MIN: Duration = REMEMBERED;
/// How long after a payment's end a callback still triggers a question.
const LATE_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// Why a gateway is asked about a payment.
#[derive(Debug)]
pub(super) enum Why {
    /// It is due.
    Due,
    Callback {
        claim: PaymentClaim,
        vouched: bool,
    },
    /// The gateway lists it as paid, with this amount in rial if reported.
    Listed {
        amount: Option<u64>,
    },
    Staff,
}

/// A payment after a question.
pub(super) struct Looked {
    pub(super) payment: Payment,
    /// The gateway was asked and did not answer.
    pub(super) silent: bool,
    /// The gateway answered clearly.
    pub(super) answered: bool,
}

impl Looked {
    /// No question was asked.
    pub(super) fn at(payment: Payment) -> Looked {
        Looked { payment, silent: false, answered: false }
    }
}

/// The gateway's answer after all questions of one check.
struct Answer {
    verdict: Result<Verdict, GatewayError>,
    denied: Vec<PaymentClaim>,
    /// Claims whose question failed.
    failed: Vec<PaymentClaim>,
    /// The verdict is about what this claim names.
    by_claim: Option<PaymentClaim>,
    /// No question can have had an effect.
    nothing_done: bool,
    /// The last question had no answer.
    silent: bool,
}

impl Payments {
    /// Asks the gateway about a payment now, for staff; returns the payment. `None` when there is none.
    ///
    /// # Errors
    ///
    /// Those of the store. A gateway that does not answer is no error.
    pub async fn ask(
        &self,
        gateways: &dyn PaymentGateways,
        id: PaymentId,
    ) -> Result<Option<Payment>, StoreError> {
        let Some(payment) = self.store.payment_get(id).await? else { return Ok(None) };
        Ok(Some(self.confirm(gateways, payment, Why::Staff).await?.payment))
    }

    /// Checks a due payment: one that its gateway never began fails; about any other the gateway is asked.
    pub(super) async fn look(
        &self,
        gateways: &dyn PaymentGateways,
        payment: Payment,
        why: Why,
    ) -> Result<Looked, StoreError> {
        if payment.state != PaymentState::Created {
            let listed = match why {
                Why::Listed { amount } => Some(amount),
                Why::Due | Why::Callback { .. } | Why::Staff => None,
            };
            let looked = self.confirm(gateways, payment, why).await?;
            if let Some(amount) = listed {
                self.check_listed(&looked, amount).await?;
            }
            return Ok(looked);
        }
        let (end, reason) = (PaymentState::Failed, EndReason::Interrupted.text());
        let step = self.store.payment_end(payment.id, end, reason, None, self.clock.now()).await?;
        Ok(Looked::at(step_payment(step, payment)))
    }

    /// Asks the gateway that began a payment, and settles or ends it by the answer.
    pub(super) async fn confirm(
        &self,
        gateways: &dyn PaymentGateways,
        payment: Payment,
        why: Why,
    ) -> Result<Looked, StoreError> {
        let now = self.clock.now();
        if !is_askable(&payment, &why, now) {
            return Ok(Looked::at(payment));
        }
        let flight = self.flights.of(payment.id, now);
        let asked_before = flight.asked();
        let mut turn = flight.turn().await;
        let Some(payment) = self.store.payment_get(payment.id).await? else { return Ok(Looked::at(payment)) };
        let now = self.clock.now();
        if !is_askable(&payment, &why, now) {
            return Ok(Looked::at(payment));
        }
        let shared = flight.asked() != asked_before;
        let asks = asks_now(&payment, &why, shared, *turn, now);
        let by_payer = matches!(why, Why::Callback { vouched: true, .. });
        let listed = matches!(why, Why::Listed { .. });
        let held = self.holds.left(&payment.gateway, now).is_some();
        let last = turn.map(|last| last.at);
        let payment = match self.note_claim(payment, why, asks && !held, last, now).await? {
            Ok(payment) => payment,
            Err(looked) => return Ok(looked),
        };
        if !asks || held {
            return Ok(Looked::at(payment.payment));
        }
        let Noted { payment, asked_before, claim } = payment;
        let Some(gateway) = gateways.by_name(&payment.gateway) else {
            tracing::error!(payment.id = payment.id.0, plugin.id = %payment.gateway, "the gateway of a payment is not configured");
            return Ok(Looked::at(self.ask_soon(payment, claim).await?));
        };
        let asked_before = asked_before && !self.unasked.asking(payment.id);
        let payment = payment.with_claim(claim.clone());
        let answer = self.question(gateway.as_ref(), &payment).await;
        let now = self.clock.now();
        flight.note(&mut turn, Asked { at: now, by_payer });
        // The gateway knows a listed payment, so its question stays open until there is an answer.
        let keep_asking = asked_before || listed;
        self.act(gateway.as_ref(), Asking { payment, answer, keep_asking, claim }, now).await
    }

    /// Stores a callback's claim, and records that the gateway is being asked, or will be. Returns the payment, or the
    /// end of the check. `last`: the last question.
    async fn note_claim(
        &self,
        payment: Payment,
        why: Why,
        asking: bool,
        last: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Result<Noted, Looked>, StoreError> {
        let asked_before =
            if payment.state == PaymentState::Pending { payment.asked } else { payment.late_question };
        // Recorded by an earlier question already; writing it again would only wait for the disk.
        let records = asking && !asked_before;
        let claim = match why {
            Why::Callback { claim, vouched } => Some(KeptClaim { claim, vouched }),
            Why::Due | Why::Listed { .. } | Why::Staff => None,
        };
        let mut claim = claim.filter(|claim| !payment.has_claim(claim));
        // One that says nothing by itself is stored with the answer.
        let unstored = claim.take_if(|claim| asking && is_bare(&claim.claim));
        if !records && claim.is_none() {
            return Ok(Ok(Noted { payment, asked_before, claim: unstored }));
        }
        let soon = now.plus(verdict::DELAY_MIN);
        let look_again = match &claim {
            _ if asking => Some(soon),
            // The reconciler asks about it when its turn has come.
            Some(claim) if payment.state != PaymentState::Pending && may_be_true(claim) => {
                Some(last.map_or(soon, |last| last.plus(LATE_REPEAT_MIN).max(soon)))
            }
            _ => None,
        };
        let payment = match self.store.payment_claimed(payment.id, claim, look_again).await? {
            PaymentStep::Done(payment) => payment,
            other => return Ok(Err(Looked::at(step_payment(other, payment)))),
        };
        if !asking && payment.state == PaymentState::Pending && payment.check_at > soon {
            // Stored without a question yet, so the reconciler asks soon.
            let payment = self.ask_later(payment, CheckedLater::at(soon)).await?;
            return Ok(Ok(Noted { payment, asked_before, claim: None }));
        }
        Ok(Ok(Noted { payment, asked_before, claim: unstored }))
    }

    /// Asks with the weightiest claims in turn, until the gateway's answer about one counts, then without one.
    async fn question(&self, gateway: &dyn PaymentGateway, payment: &Payment) -> Answer {
        let mut denied = Vec::new();
        let mut failed = Vec::new();
        let mut nothing_done = true;
        let Some(stored) = StoredPayment::of(payment) else {
            let verdict = Err(GatewayError::Unavailable("the gateway does not know it".to_owned()));
            return Answer { verdict, denied, failed, by_claim: None, nothing_done, silent: true };
        };
        let mut by_claim = None;
        let mut doubt = None;
        let claims = by_weight(&payment.claims).into_iter().take(CLAIMS_TRIED_MAX);
        let claims = claims.map(|kept| Some(kept.clone()));
        let mut verdict = Ok(Verdict::UnknownReference);
        for kept in claims.chain([None]) {
            let claim = kept.as_ref().map(|kept| kept.claim.clone());
            verdict = gateway.verify(stored.clone(), claim.clone()).await;
            nothing_done &= verdict.as_ref().is_err_and(GatewayError::nothing_done);
            match (&verdict, kept) {
                (Ok(Verdict::ClaimDenied(reason)), Some(kept)) => {
                    tracing::warn!(payment.id = payment.id.0, plugin.id = %payment.gateway, %reason, "the gateway denies a callback's claim");
                    denied.push(kept.claim);
                }
                // Anybody can post a claim, and the gateway may choke on what it names.
                (Err(error), Some(kept)) if names_something(&kept.claim) && !is_throttled(error) => {
                    tracing::warn!(payment.id = payment.id.0, plugin.id = %payment.gateway, %error, "the question about a callback's claim failed");
                    doubt = heavier(doubt, Err(error.clone()));
                    failed.push(kept.claim);
                }
                (Ok(Verdict::Pending(_) | Verdict::NotPaid(_) | Verdict::UnknownReference), Some(kept))
                    if names_something(&kept.claim) && !kept.vouched =>
                {
                    if let Ok(Verdict::Pending(wait)) = &verdict {
                        doubt = heavier(doubt, Ok(*wait));
                    }
                }
                (_, _) => {
                    by_claim = claim.filter(|claim| claim.receipt.is_some());
                    break;
                }
            }
        }
        let silent = matches!(&verdict, Err(GatewayError::Unavailable(_) | GatewayError::Unknown(_)));
        let verdict = conclude(verdict, doubt);
        if let Err(error) = &verdict {
            self.holds.note(gateway.name(), error, self.clock.now());
            tracing::warn!(payment.id = payment.id.0, plugin.id = %payment.gateway, %error, "whether it is paid is unknown; it stays unchanged");
        }
        Answer { verdict, denied, failed, by_claim, nothing_done, silent }
    }

    /// Applies the meaning of an answer.
    async fn act(
        &self,
        gateway: &dyn PaymentGateway,
        asking: Asking,
        now: Timestamp,
    ) -> Result<Looked, StoreError> {
        let Asking { payment, answer, keep_asking, mut claim } = asking;
        let Answer { verdict, denied, failed, by_claim, nothing_done, silent } = answer;
        claim.take_if(|claim| denied.contains(&claim.claim));
        if !denied.is_empty() {
            self.store.payment_claims_denied(payment.id, denied).await?;
        }
        // Pending means that an answer will follow.
        let answered = matches!(&verdict, Ok(verdict) if !matches!(verdict, Verdict::Pending(_)));
        let question = match nothing_done && !keep_asking {
            true => Question::Unheard,
            false => Question::MayBeHeard,
        };
        let late = payment.state != PaymentState::Pending;
        // The gateway was not reached, and the payer may have paid.
        let claimed = claim.iter().chain(&payment.claims).any(may_be_true);
        let closed = answered || (question == Question::Unheard && !claimed);
        let payment = match verdict::judge(&payment, &gateway.rules(), verdict, keep_asking, now) {
            Next::Settle(receipt) => self.settle(payment, receipt, by_claim, now).await?,
            // Only a paid answer changes an end.
            Next::AskAt(_) | Next::End { .. } if late && closed => self.answered_late(payment).await?,
            Next::AskAt(at) => {
                let checked = CheckedLater { at, question, claim: claim.clone(), failed };
                let after = self.ask_later(payment, checked).await?;
                match late || question == Question::Unheard {
                    true => after,
                    false => self.ask_late(after, claim, at).await?,
                }
            }
            Next::End { .. } if late => {
                let at = now.plus(verdict::delay(payment.attempts));
                let checked = CheckedLater { at, question: Question::MayBeHeard, claim, failed };
                self.ask_later(payment, checked).await?
            }
            Next::End { state, reason } => {
                if matches!(reason, EndReason::Mismatch(_)) {
                    tracing::error!(payment.id = payment.id.0, plugin.id = %payment.gateway, reason = reason.text(), "the gateway confirms another payment or amount; not credited");
                }
                let step = self.store.payment_end(payment.id, state, reason.text(), None, now).await?;
                step_payment(step, payment)
            }
        };
        Ok(Looked { payment, silent, answered })
    }

    async fn answered_late(&self, payment: Payment) -> Result<Payment, StoreError> {
        let step = self.store.payment_late_answered(payment.id).await?;
        Ok(step_payment(step, payment))
    }

    async fn settle(
        &self,
        payment: Payment,
        receipt: PaymentReceipt,
        claim: Option<PaymentClaim>,
        now: Timestamp,
    ) -> Result<Payment, StoreError> {
        Ok(match self.store.payment_settle(payment.id, receipt, claim, now).await? {
            PaymentSettled::Now(settled) if settled.reason.is_empty() => {
                tracing::info!(payment.id = settled.id.0, plugin.id = %settled.gateway, "payment settled");
                settled
            }
            PaymentSettled::Now(settled) => {
                tracing::warn!(payment.id = settled.id.0, plugin.id = %settled.gateway, reason = %settled.reason, "payment settled after it had ended");
                if self.store.user_get(settled.user).await?.is_none() {
                    // Nobody can spend it. Only a person knows where the payer is.
                    tracing::error!(
                        payment.id = settled.id.0,
                        user.id = settled.user.0,
                        "a payment of an erased account was paid; refund it"
                    );
                }
                settled
            }
            PaymentSettled::Was(payment) => payment,
            PaymentSettled::ReceiptReused(payment) => {
                tracing::error!(payment.id = payment.id.0, plugin.id = %payment.gateway, "the gateway's receipt belongs to another payment; not credited");
                match payment.state {
                    // Somebody claimed it; the payer may still be at the bank.
                    PaymentState::Pending => self.ask_soon(payment, None).await?,
                    _ => self.answered_late(payment).await?,
                }
            }
            PaymentSettled::TooLarge => {
                tracing::error!(
                    payment.id = payment.id.0,
                    "the wallet cannot hold this payment; a person has to look"
                );
                // An ended payment is not asked about forever.
                if payment.state == PaymentState::Pending {
                    self.ask_soon(payment, None).await?
                } else {
                    self.answered_late(payment).await?
                }
            }
            PaymentSettled::Missing => payment,
        })
    }

    async fn ask_later(&self, payment: Payment, checked: CheckedLater) -> Result<Payment, StoreError> {
        let step = self.store.payment_check_later(payment.id, checked).await?;
        Ok(step_payment(step, payment))
    }

    /// Asks again although nothing new is known about the payment.
    async fn ask_soon(&self, payment: Payment, claim: Option<KeptClaim>) -> Result<Payment, StoreError> {
        let at = self.clock.now().plus(verdict::delay(payment.attempts));
        self.ask_later(payment, CheckedLater { claim, ..CheckedLater::at(at) }).await
    }

    /// Asks again about a payment that another gateway over the same store ended while this one asked: this question
    /// may have confirmed it.
    async fn ask_late(
        &self,
        payment: Payment,
        claim: Option<KeptClaim>,
        at: Timestamp,
    ) -> Result<Payment, StoreError> {
        if !payment.may_be_late() {
            return Ok(payment);
        }
        let step = self.store.payment_claimed(payment.id, claim, Some(at)).await?;
        Ok(step_payment(step, payment))
    }
}

/// A payment with a recorded question.
struct Noted {
    payment: Payment,
    /// An earlier question may have arrived at the gateway.
    asked_before: bool,
    /// A claim to ask about that is not stored yet.
    claim: Option<KeptClaim>,
}

/// A payment that its gateway was asked about.
struct Asking {
    payment: Payment,
    answer: Answer,
    /// A question may have been heard whose answer is not known.
    keep_asking: bool,
    /// The claim that is not stored yet.
    claim: Option<KeptClaim>,
}

/// Claims in the order in which they are tried: those that name something before those that name nothing, because a
/// gateway that needs a receipt answers "not paid" without one; then those with the payment's key, which strangers do
/// not have; then the newest, unless its question failed.
fn by_weight(claims: &[KeptClaim]) -> Vec<&KeptClaim> {
    let mut claims: Vec<&KeptClaim> = claims.iter().rev().collect();
    claims.sort_by_key(|kept| (!names_something(&kept.claim), !kept.vouched));
    claims
}

/// Whether a claim of a payment that has ended is worth a question.
fn may_be_true(kept: &KeptClaim) -> bool {
    kept.vouched || names_something(&kept.claim)
}

/// Whether a claim names something that the gateway is asked about.
fn names_something(claim: &PaymentClaim) -> bool {
    claim.receipt.is_some() || !claim.data.is_empty()
}

/// Whether the gateway is not to be asked anything else now.
fn is_throttled(error: &GatewayError) -> bool {
    matches!(error, GatewayError::Throttled(_))
}

/// What remains open about claims that anybody may have invented: a question failed, or the gateway said that it is in
/// progress, with the time to ask again.
type Doubt = Result<Option<Duration>, GatewayError>;

/// The doubt that counts of two: an outcome that is unknown outweighs a question that did nothing.
fn heavier(doubt: Option<Doubt>, next: Doubt) -> Option<Doubt> {
    let weight = |doubt: &Doubt| match doubt {
        Err(error) => 1 + u8::from(!error.nothing_done()),
        Ok(_) => 0,
    };
    match doubt {
        Some(doubt) if weight(&doubt) > weight(&next) => Some(doubt),
        _ => Some(next),
    }
}

/// The answer of a check with a doubt: the last one, unless that says no. A doubtful claim may be the payer's own, and
/// a gateway that needs its receipt says "not paid" without it, so a no must not end the payment.
fn conclude(last: Result<Verdict, GatewayError>, doubt: Option<Doubt>) -> Result<Verdict, GatewayError> {
    let Some(doubt) = doubt else { return last };
    let weak = match &last {
        Ok(verdict) => {
            matches!(verdict, Verdict::NotPaid(_) | Verdict::UnknownReference | Verdict::ClaimDenied(_))
        }
        Err(error) => error.nothing_done() && !is_throttled(error),
    };
    if weak { doubt.map(Verdict::Pending) } else { last }
}

/// Whether a claim says nothing but that the payer came back. It need not survive a crash: the gateway is asked without
/// it too.
fn is_bare(claim: &PaymentClaim) -> bool {
    let PaymentClaim { cancelled, receipt, data } = claim;
    !cancelled && receipt.is_none() && data.is_empty()
}

/// Returns true when asking can change anything: always for a pending payment; for one that ended without money, when
/// its gateway may have taken money later.
fn is_askable(payment: &Payment, why: &Why, now: Timestamp) -> bool {
    match (payment.state, why) {
        (PaymentState::Pending, _) => true,
        (_, Why::Due) => payment.late_question,
        // A reported payment needs a person.
        (_, Why::Listed { .. }) => payment.may_be_late() && (!payment.uncredited || payment.late_question),
        (_, Why::Callback { .. }) => {
            payment.may_be_late() && payment.ended_at.is_some_and(|ended_at| now <= ended_at.plus(LATE_FOR))
        }
        (_, Why::Staff) => payment.may_be_late(),
    }
}

/// Returns true when a caller's question goes to the gateway now. `shared`: another caller asked while this one
/// waited. The payer's browser does not share a question that somebody else caused: it may have been answered before
/// the payer paid.
fn asks_now(payment: &Payment, why: &Why, shared: bool, last: Option<Asked>, now: Timestamp) -> bool {
    let Why::Callback { claim, vouched } = why else { return !shared };
    let (vouched, pending) = (*vouched, payment.state == PaymentState::Pending);
    if vouched && pending && last.is_some_and(|last| !last.by_payer) {
        return true;
    }
    let news = !payment.has_claim(&KeptClaim { claim: claim.clone(), vouched });
    if shared && !news {
        return false;
    }
    let gap = match (pending, news, vouched) {
        (_, true, true) => Duration::ZERO,
        (true, true, false) | (true, false, true) => CLAIM_MIN,
        (true, false, false) => REPEAT_MIN,
        (false, ..) => LATE_REPEAT_MIN,
    };
    last.is_none_or(|last| now.since(last.at) >= gap)
}

fn step_payment(step: PaymentStep, before: Payment) -> Payment {
    match step {
        PaymentStep::Done(payment) | PaymentStep::Was(payment) => payment,
        PaymentStep::Missing => before,
    }
}
