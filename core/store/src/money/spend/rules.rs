//! Judging spends, on the record alone.

use crate::money::ledger::{Account, signed};
use crate::money::spend::{Spend, SpendDraft, SpendEnded, SpendState};
use crate::{SpendId, Timestamp};

impl SpendDraft {
    /// The legs of its posting; the wallet's comes first.
    ///
    /// # Panics
    ///
    /// For an amount outside 1 to 2^63 - 1: a defect, because no such amount is accepted.
    pub(crate) fn legs(&self) -> [(Account, i64); 2] {
        assert!((1..=i64::MAX as u64).contains(&self.amount), "amounts are checked when they come in");
        let to = if self.hold { Account::Held(self.user) } else { Account::Merchant };
        [(Account::Wallet(self.user), -signed(self.amount)), (to, signed(self.amount))]
    }
}

/// A captured spend: the legs of its posting and the spend afterwards.
pub(crate) type Capture = (Vec<(Account, i64)>, Spend);

impl Spend {
    /// A spend that is posted; `balance` is what the wallet has afterwards.
    pub(crate) fn made(id: SpendId, balance: u64, draft: SpendDraft) -> Spend {
        let SpendDraft { user, amount, hold, expires_at, order, description, now, .. } = draft;
        Spend {
            id,
            user,
            state: if hold { SpendState::Held } else { SpendState::Captured },
            hold,
            amount,
            captured: if hold { 0 } else { amount },
            balance,
            order,
            description,
            created_at: now,
            ended_at: (!hold).then_some(now),
            expires_at: expires_at.filter(|_| hold),
        }
    }

    /// Captures a hold: all of it, or `amount` of it. `Err` when there is nothing to post; it holds the answer, a
    /// `Done` with a balance that the caller fills in.
    pub(crate) fn capture(mut self, amount: Option<u64>, now: Timestamp) -> Result<Capture, Box<SpendEnded>> {
        let captured = amount.unwrap_or(self.amount);
        if self.state != SpendState::Held {
            let same = self.hold && self.state == SpendState::Captured && self.captured == captured;
            return Err(Box::new(if same { SpendEnded::Done(self, 0) } else { SpendEnded::Was(self) }));
        }
        if captured > self.amount || captured == 0 {
            return Err(Box::new(SpendEnded::TooMuch { held: self.amount }));
        }
        let rest = self.amount - captured;
        let mut legs =
            vec![(Account::Held(self.user), -signed(self.amount)), (Account::Merchant, signed(captured))];
        if rest > 0 {
            legs.push((Account::Wallet(self.user), signed(rest)));
        }
        self.captured = captured;
        self.end(SpendState::Captured, now);
        Ok((legs, self))
    }

    /// The legs that return held money to its wallet.
    pub(crate) fn return_legs(&self) -> [(Account, i64); 2] {
        let amount = signed(self.amount);
        [(Account::Wallet(self.user), amount), (Account::Held(self.user), -amount)]
    }

    pub(crate) fn end(&mut self, state: SpendState, now: Timestamp) {
        self.state = state;
        self.ended_at = Some(now);
    }
}
