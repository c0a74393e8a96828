//! The rules of a code, the same for every engine: when it is pending, who has guesses left, and what a guess does.

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::Timestamp;
use crate::login::challenge::{ChallengeDraft, Guesser};

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Challenge {
    pub(crate) id: u64,
    pub(crate) mac: [u8; 32],
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) resend_at: Timestamp,
    /// Guesses of one address.
    pub(crate) attempts_max: u32,
    /// Guesses of all addresses but `from` and known ones.
    pub(crate) others_max: u32,
    /// Who asked for the code.
    pub(crate) from: u64,
    /// Guesses so far, by address; at most as many entries as there are guesses.
    pub(crate) guesses: Vec<(u64, u32)>,
    /// Guesses so far from addresses that the account was used from before.
    pub(crate) known: u32,
}

impl From<ChallengeDraft> for Challenge {
    fn from(draft: ChallengeDraft) -> Challenge {
        Challenge {
            id: draft.id,
            mac: draft.mac,
            created_at: draft.created_at,
            expires_at: draft.expires_at,
            resend_at: draft.resend_at,
            attempts_max: draft.attempts_max.max(1),
            others_max: draft.others_max,
            from: draft.from,
            guesses: Vec::new(),
            known: 0,
        }
    }
}

impl Challenge {
    pub(crate) fn expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }

    /// Whether another code has to wait, asked for by `from`.
    pub(crate) fn pending(&self, from: u64, now: Timestamp) -> bool {
        let own_used = self.guesses_of(self.from) >= self.attempts_max;
        let burned = own_used && (from == self.from || self.guesses_of_others() >= self.others_max);
        !self.expired(now) && !burned && now < self.resend_at
    }

    fn guesses_of(&self, address: u64) -> u32 {
        self.guesses.iter().find(|(known, _)| *known == address).map_or(0, |(_, count)| *count)
    }

    fn guesses_of_others(&self) -> u32 {
        self.guesses.iter().filter(|(address, _)| *address != self.from).map(|(_, count)| count).sum()
    }

    /// Guesses that a guesser has left.
    pub(crate) fn left(&self, guesser: Guesser) -> u32 {
        let own = self.attempts_max.saturating_sub(self.guesses_of(guesser.address));
        match guesser {
            Guesser { address, .. } if address == self.from => own,
            Guesser { known: true, .. } => self.attempts_max.saturating_sub(self.known),
            Guesser { .. } => own.min(self.others_max.saturating_sub(self.guesses_of_others())),
        }
    }

    fn count(&mut self, guesser: Guesser) {
        if guesser.known && guesser.address != self.from {
            self.known = self.known.saturating_add(1);
            return;
        }
        match self.guesses.iter_mut().find(|(address, _)| *address == guesser.address) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => self.guesses.push((guesser.address, 1)),
        }
    }

    /// Counts a guess, then compares it in constant time.
    pub(crate) fn guess(&mut self, mac: &[u8; 32], guesser: Guesser, now: Timestamp) -> Guess {
        if self.expired(now) {
            return Guess::Expired;
        }
        if self.left(guesser) == 0 {
            return Guess::Burned;
        }
        self.count(guesser);
        let right = bool::from(self.mac.ct_eq(mac));
        let attempts_left = self.left(guesser);
        if right { Guess::Right } else { Guess::Wrong { attempts_left } }
    }
}

/// The result of a guess. A right one is counted, too, and does not consume the code by itself.
pub(crate) enum Guess {
    Right,
    Wrong { attempts_left: u32 },
    Burned,
    Expired,
    Missing,
}
