//! Payments, refunds, reversals, wallets.

use chelseru_store::{
    Correction, CorrectionMade, Payment, PaymentId, PaymentQuery, PaymentRefunded, PaymentsFound, Refund,
    RefundQuery, RefundTo, RefundsFound, Reversal, ReversalDecided, ReversalDecision, Spend, StoreError,
    WalletBalance, WalletEntry,
};

use super::Desk;
use crate::idempotency::IdempotencyKey;
use crate::ids::UserId;
use crate::money::Money;
use crate::money::correction::{Confirmed, Waiting};
use crate::money::payment::{NotReversible, Totals, state_name};
use crate::money::wallet::{Actor, CorrectionRequest, RefundRequest, Role, WalletError};
use crate::operator::audit::{AuditEvent, AuditKind};
use crate::operator::role::{
    Act, CorrectionConfirm, PaymentAsk, PaymentExport, PaymentRead, PaymentRefund, Permit, Reason,
    ReversalDecide, WalletCorrect, WalletRead,
};

/// Payments of one exported file.
const EXPORT_MAX: usize = 10_000;
/// Undecided reversals, open holds, and refunds of one payment, in one list.
const LISTED_MAX: usize = 200;

/// A part of an export.
pub struct PaymentFile {
    pub payments: Vec<Payment>,
    /// The next part has payments with smaller numbers.
    pub next: Option<PaymentId>,
}

/// A refund that an operator orders.
#[derive(Debug, Clone)]
pub struct RefundOrder {
    pub payment: PaymentId,
    /// `None`: everything left.
    pub amount: Option<Money>,
    pub to: RefundTo,
    /// A repeat with the same key gets the first answer.
    pub key: Option<IdempotencyKey>,
}

/// A correction that an operator orders.
#[derive(Debug, Clone)]
pub struct CorrectionOrder {
    pub user: UserId,
    pub amount: Money,
    /// Take the amount from the wallet instead of adding it.
    pub takes: bool,
    /// A repeat with the same key gets the first answer. One that waits for a second operator has none.
    pub key: Option<IdempotencyKey>,
}

impl Desk {
    /// A page of payments, newest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn payments(
        &self,
        _permit: &Permit<PaymentRead>,
        query: &PaymentQuery,
        before: Option<PaymentId>,
        limit: usize,
    ) -> Result<PaymentsFound, StoreError> {
        self.services.payments.find(query, before, limit).await
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn payment_totals(
        &self,
        _permit: &Permit<PaymentRead>,
        query: &PaymentQuery,
    ) -> Result<Totals, StoreError> {
        self.services.payments.totals(query, None).await
    }

    /// What a query finds, to take away: in the audit log.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn payments_export(
        &self,
        permit: &Permit<PaymentExport>,
        query: &PaymentQuery,
        mut before: Option<PaymentId>,
    ) -> Result<PaymentFile, StoreError> {
        let mut payments = Vec::new();
        loop {
            let found = self.services.payments.find(query, before, EXPORT_MAX - payments.len()).await?;
            payments.extend(found.payments);
            before = found.next;
            if before.is_none() || payments.len() >= EXPORT_MAX {
                break;
            }
        }
        let event = AuditEvent::by(permit.operator(), AuditKind::ListExported).subject("payments");
        self.audit().record(event.change("", payments.len()));
        Ok(PaymentFile { payments, next: before })
    }

    /// A payment, its refunds, and its reversal.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn payment(
        &self,
        _permit: &Permit<PaymentRead>,
        id: PaymentId,
    ) -> Result<Option<(Payment, Vec<Refund>, Option<Reversal>)>, StoreError> {
        let payments = &self.services.payments;
        let Some(payment) = payments.get(id).await? else { return Ok(None) };
        let query = RefundQuery { payment: Some(id), ..RefundQuery::default() };
        let found = payments.find_refunds(&query, None, LISTED_MAX).await?;
        let refunds = found.refunds.into_iter().map(|(refund, _)| refund).collect();
        Ok(Some((payment, refunds, payments.reversal(id).await?)))
    }

    /// A page of refunds, newest first, each with its payment.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn refunds(
        &self,
        _permit: &Permit<PaymentRead>,
        query: &RefundQuery,
        before: Option<u64>,
        limit: usize,
    ) -> Result<RefundsFound, StoreError> {
        self.services.payments.find_refunds(query, before, limit).await
    }

    /// The reversals that are open or refused.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn reversals_undecided(
        &self,
        _permit: &Permit<PaymentRead>,
    ) -> Result<Vec<Reversal>, StoreError> {
        self.services.payments.reversals_undecided(LISTED_MAX).await
    }

    /// Asks the gateway about a payment now. Must run to its end once begun.
    ///
    /// # Errors
    ///
    /// Those of the store. A gateway that does not answer is no error.
    pub async fn payment_ask(
        &self,
        permit: &Permit<PaymentAsk>,
        id: PaymentId,
    ) -> Result<Option<Payment>, StoreError> {
        let Some(before) = self.services.payments.get(id).await? else { return Ok(None) };
        let after = self.services.payments.ask(self.services.gateways.as_ref(), id).await?;
        let state = after.as_ref().map_or("", |payment| state_name(payment.state));
        let event = money_event(permit, before.user, format!("payment {id}"));
        self.audit().record(event.detail("asked the gateway").change(state_name(before.state), state));
        Ok(after)
    }

    /// Whether the gateway can give a payment back now.
    ///
    /// # Errors
    ///
    /// See [`NotReversible`].
    pub fn payment_reversible(
        &self,
        _permit: &Permit<PaymentRead>,
        payment: &Payment,
    ) -> Result<(), NotReversible> {
        self.services.payments.reversible(self.services.gateways.as_ref(), payment)
    }

    /// Refunds a part or all of a payment. One by reversal is booked; [`Desk::reversal_continue`] asks the gateway.
    ///
    /// # Errors
    ///
    /// See [`WalletError`].
    pub async fn payment_refund(
        &self,
        permit: &Permit<PaymentRefund>,
        order: RefundOrder,
        reason: &Reason,
    ) -> Result<PaymentRefunded, WalletError> {
        let RefundOrder { payment, amount, to, key } = order;
        let note = reason.as_str().chars().take(NOTE_CHARS_MAX).collect();
        let request = RefundRequest { payment, amount, to, note, idempotency_key: key };
        let refunded = self.services.wallets.refund(actor(permit), request).await?;
        if let PaymentRefunded::Done(payment, refund) = &refunded {
            let event = money_event(permit, payment.user, format!("payment {}", payment.id));
            let before = format!("{} rial refunded", payment.refunded.saturating_sub(refund.amount));
            let after = format!("{} rial refunded", payment.refunded);
            self.audit().record(event.change(before, after).reason(reason));
        }
        Ok(refunded)
    }

    /// Asks the gateway to give back a payment whose reversal is open. Must run to its end once begun.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn reversal_continue(
        &self,
        _permit: &Permit<PaymentRefund>,
        id: PaymentId,
    ) -> Result<Option<Reversal>, StoreError> {
        self.services.payments.reverse(self.services.gateways.as_ref(), id).await
    }

    /// Decides about a reversal that the gateway refuses.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn reversal_decide(
        &self,
        permit: &Permit<ReversalDecide>,
        id: PaymentId,
        decision: ReversalDecision,
        reason: &Reason,
    ) -> Result<ReversalDecided, StoreError> {
        let payments = &self.services.payments;
        let before = payments.reversal(id).await?.map(|reversal| format!("{:?}", reversal.state));
        let decided = payments.decide_reversal(id, decision, by(permit)).await?;
        if let (ReversalDecided::Done(_), Some(payment)) = (&decided, payments.get(id).await?) {
            let event = money_event(permit, payment.user, format!("payment {id}"));
            let after = format!("{decision:?}");
            self.audit().record(event.change(before.unwrap_or_default(), after).reason(reason));
        }
        if decision == ReversalDecision::AskAgain {
            payments.reverse(self.services.gateways.as_ref(), id).await?;
        }
        Ok(decided)
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn wallet(
        &self,
        _permit: &Permit<WalletRead>,
        user: UserId,
    ) -> Result<WalletBalance, StoreError> {
        self.services.wallets.balance(user).await
    }

    /// A page of a wallet's lines, newest first, and the start of the next page.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn wallet_entries(
        &self,
        _permit: &Permit<WalletRead>,
        user: UserId,
        from: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<WalletEntry>, Option<u64>), StoreError> {
        self.services.wallets.entries(user, from, limit).await
    }

    /// The open holds, the next one to expire first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn holds(&self, _permit: &Permit<WalletRead>) -> Result<Vec<Spend>, StoreError> {
        self.services.wallets.holds(LISTED_MAX).await
    }

    /// Corrects a wallet by a balanced posting. What exceeds an operator's sum of a day waits for a second operator;
    /// programs cannot ask for it, because nobody could tell whose it is.
    ///
    /// # Errors
    ///
    /// See [`WalletError`].
    pub async fn wallet_correct(
        &self,
        permit: &Permit<WalletCorrect>,
        order: CorrectionOrder,
        reason: &Reason,
    ) -> Result<Corrected, WalletError> {
        let CorrectionOrder { user, amount, takes, key } = order;
        let text: String = reason.as_str().chars().take(NOTE_CHARS_MAX).collect();
        let (alone, wallets) = (self.services.correction_alone, &self.services.wallets);
        let request = CorrectionRequest { user, amount, takes, reason: text.clone(), idempotency_key: key };
        let made = match (wallets.correct(actor(permit), request, alone).await, permit.operator().user()) {
            (Err(WalletError::NeedsSecond), Some(by)) => {
                let asked = wallets.correction_ask(by, user, amount, takes, text).await?;
                let Some(waiting) = asked else { return Ok(Corrected::TooMany) };
                let event = money_event(permit, user, format!("wallet of user {user}"));
                self.audit().record(event.change("", correction_text("asked for", &waiting)).reason(reason));
                return Ok(Corrected::Waits(waiting));
            }
            (made, _) => made?,
        };
        if let CorrectionMade::Done(correction) = &made {
            self.correction_posted(permit, user, correction, "", reason);
        }
        Ok(Corrected::Made(made))
    }

    fn correction_posted<A: Act>(
        &self,
        permit: &Permit<A>,
        user: UserId,
        correction: &Correction,
        how: &str,
        reason: &Reason,
    ) {
        let Correction { number, amount, balance, .. } = correction;
        let event = money_event(permit, user, format!("wallet of user {user}"));
        let before = i128::from(*balance) - i128::from(*amount);
        let event = event.detail(format!("correction {number}, in rial{how}"));
        self.audit().record(event.change(before, balance).reason(reason));
    }

    /// The corrections that wait for a second operator, oldest first.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn corrections_waiting(
        &self,
        _permit: &Permit<WalletRead>,
    ) -> Result<Vec<Waiting>, StoreError> {
        let (waiting, expired) = self.services.wallets.corrections_waiting().await?;
        for one in &expired {
            let event = AuditEvent::new(AuditKind::MoneyDecided).user(one.user);
            let event = event.subject(format!("wallet of user {}", one.user));
            self.audit().record(event.change(correction_text("asked for", one), "expired"));
        }
        Ok(waiting)
    }

    /// Posts a correction that another operator asked for.
    ///
    /// # Errors
    ///
    /// See [`WalletError`].
    pub async fn correction_confirm(
        &self,
        permit: &Permit<CorrectionConfirm>,
        id: &str,
        reason: &Reason,
    ) -> Result<Confirmed, WalletError> {
        let by = permit.operator().user().ok_or(WalletError::NeedsSecond)?;
        let confirmed = self.services.wallets.correction_confirm(by, id).await?;
        if let Confirmed::Ended(
            waiting,
            CorrectionMade::Done(correction) | CorrectionMade::Repeated(correction),
        ) = &confirmed
        {
            let how = format!(", asked for by user {}", waiting.by);
            self.correction_posted(permit, waiting.user, correction, &how, reason);
        }
        Ok(confirmed)
    }

    /// Withdraws a correction that waits; false when it does not wait any more.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn correction_withdraw(
        &self,
        permit: &Permit<CorrectionConfirm>,
        id: &str,
        reason: &Reason,
    ) -> Result<bool, StoreError> {
        let (waiting, _) = self.services.wallets.corrections_waiting().await?;
        let Some(one) = waiting.into_iter().find(|one| one.id == id && one.confirmed_by.is_none()) else {
            return Ok(false);
        };
        let ended = self.services.wallets.correction_end(&one).await?;
        if ended {
            let event = money_event(permit, one.user, format!("wallet of user {}", one.user));
            let before = correction_text("asked for", &one);
            self.audit().record(event.change(before, "withdrawn").reason(reason));
        }
        Ok(ended)
    }
}

fn correction_text(verb: &str, waiting: &Waiting) -> String {
    let sign = if waiting.takes { "-" } else { "+" };
    format!("{verb} by user {}: {sign}{} rial", waiting.by, waiting.amount.rial())
}

/// What became of a correction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Corrected {
    Made(CorrectionMade),
    /// It waits for a second operator.
    Waits(Waiting),
    /// Too many wait.
    TooMany,
}

/// Characters of a note in the ledger; the audit log has the whole reason.
const NOTE_CHARS_MAX: usize = 255;

/// The account that the ledger names; 0 is a program.
fn by<A: Act>(permit: &Permit<A>) -> UserId {
    permit.operator().user().unwrap_or(UserId(0))
}

fn actor<A: Act>(permit: &Permit<A>) -> Actor {
    Actor { user: by(permit), role: Role::Staff }
}

fn money_event<A: Act>(permit: &Permit<A>, user: UserId, subject: String) -> AuditEvent {
    AuditEvent::by(permit.operator(), AuditKind::MoneyDecided).user(user).subject(subject)
}
