//! The moves of a payment, on the record alone. An engine reads the payment for update, asks for a move, and stores
//! what came of it.

use crate::money::ledger::{Account, signed};
use crate::money::payment::{
    CheckedLater, KeptClaim, PayMode, Payment, PaymentDraft, PaymentReceipt, PaymentStart, PaymentState,
    Question,
};
use crate::{PaymentId, Timestamp};

/// What a claim changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claimed {
    Nothing,
    /// The record only.
    Record,
    /// The payment is to be checked again at this instant.
    Recheck(Timestamp),
}

impl Payment {
    /// # Panics
    ///
    /// For an amount outside 1 to 2^63 - 1: a defect, because no such amount is accepted.
    pub(crate) fn created(id: PaymentId, draft: PaymentDraft) -> Payment {
        assert!((1..=i64::MAX as u64).contains(&draft.amount), "amounts are checked when they come in");
        Payment {
            id,
            user: draft.user,
            state: PaymentState::Created,
            reason: String::new(),
            amount: draft.amount,
            currency: draft.currency,
            mode: draft.mode,
            order: draft.order,
            gateway: draft.gateway,
            plugin: draft.plugin,
            description: draft.description,
            callback_url: draft.callback_url,
            frontend_url: draft.frontend_url,
            created_at: draft.now,
            window_ends_at: draft.window_ends_at,
            paid_at: None,
            ended_at: None,
            start: None,
            claims: Vec::new(),
            asked: false,
            attempts: 0,
            check_at: draft.check_at,
            receipt: None,
            refunded: 0,
            refunds: 0,
            callback_key: draft.callback_key,
            refusal: None,
            uncredited: false,
            late_question: false,
            imported: false,
        }
    }

    /// A repeated request gets this payment. One that its gateway never took can be tried again: no payer has an
    /// address to pay at.
    pub(crate) fn answers_repeats(&self) -> bool {
        self.start.is_some() || self.state.is_open()
    }

    pub(crate) fn started(&mut self, start: PaymentStart) {
        self.state = PaymentState::Pending;
        self.asked = true;
        self.start = Some(start);
    }

    /// A payment that is paid, or unknown to its gateway, takes no claim.
    pub(crate) fn takes_claims(&self) -> bool {
        self.state == PaymentState::Pending || self.may_be_late()
    }

    pub(crate) fn claimed(&mut self, claim: Option<KeptClaim>, asking: Option<Timestamp>) -> Claimed {
        let kept = claim.is_some_and(|claim| self.keep_claim(claim));
        match (self.state, asking) {
            (PaymentState::Pending, Some(_)) if !self.asked => {
                self.asked = true;
                Claimed::Record
            }
            (state, Some(at)) if state != PaymentState::Pending && !self.late_question => {
                self.late_question = true;
                self.attempts = 0;
                Claimed::Recheck(at)
            }
            _ if kept => Claimed::Record,
            _ => Claimed::Nothing,
        }
    }

    /// Whether one provider may have given both payments their receipts.
    pub(crate) fn shares_receipts(&self, other: &Payment) -> bool {
        let parts = |payment: &'_ Payment| {
            let (name, digest) = payment.plugin.rsplit_once('@').unwrap_or(("", &payment.plugin));
            (name.to_owned(), digest.to_owned())
        };
        let ((name, digest), (other_name, other_digest)) = (parts(self), parts(other));
        let same = |one: &str, other: &str| !one.is_empty() && one == other;
        self.gateway == other.gateway || same(&name, &other_name) || same(&digest, &other_digest)
    }

    /// Counts a check without a clear answer; the caller sets the next one.
    pub(crate) fn unanswered(&mut self, checked: &CheckedLater) {
        self.attempts = self.attempts.saturating_add(1);
        self.asked &= checked.question == Question::MayBeHeard;
        if let Some(claim) = &checked.claim {
            self.keep_claim(claim.clone());
        }
        self.put_behind(&checked.failed);
    }

    pub(crate) fn end(&mut self, state: PaymentState, reason: &str, now: Timestamp) {
        self.state = state;
        reason.clone_into(&mut self.reason);
        self.ended_at = Some(now);
    }

    /// Pending, or an end without money -> Paid.
    pub(crate) fn paid(&mut self, receipt: PaymentReceipt, now: Timestamp) {
        let before = match self.state {
            PaymentState::Failed => "after_failed",
            PaymentState::Cancelled => "after_cancelled",
            PaymentState::Expired => "after_expired",
            _ => "",
        };
        self.receipt = Some(receipt);
        self.paid_at = Some(now);
        self.late_question = false;
        self.end(PaymentState::Paid, before, now);
    }

    /// The legs of its credit.
    pub(crate) fn credit(&self) -> [(Account, i64); 2] {
        let to = match self.mode {
            PayMode::Charge => Account::Wallet(self.user),
            PayMode::Direct => Account::Merchant,
        };
        [(to, signed(self.amount)), (Account::Gateway(self.gateway.clone()), -signed(self.amount))]
    }
}
