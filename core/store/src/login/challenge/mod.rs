//! One-time codes: opened, guessed, and exchanged for a login.
//!
//! A number has at most one challenge. It moves Open -> Consumed | Burned | Expired | Released, never back. A
//! consumed or released one is removed; a burned or expired one stays until it is replaced or purged. Invariants: a
//! code yields at most one login, whatever runs in parallel. No guess is answered before its count is durable, so a
//! crash cannot give guesses back. The store never sees the code, only its keyed MAC.
//!
//! Login is here and not beside sessions because consuming the code, finding or creating the user and opening the
//! session are one change. A crash between two of them would lose a code or leave a user without a session.

pub(crate) mod code;
pub(crate) mod postgres;
pub(crate) mod sled;

use crate::engine::{Engine, boxed, on_engine};
use crate::login::session::{Session, SessionDraft};
use crate::login::user::User;
use crate::{PurgeStep, SessionId, Store, StoreError, Timestamp, UserId};

/// A code about to be sent.
#[derive(Clone)]
pub struct ChallengeDraft {
    /// Canonical phone number.
    pub number: String,
    /// Distinguishes this challenge from others of its number, so a late report about an older one has no effect.
    pub id: u64,
    /// Keyed MAC over number and code.
    pub mac: [u8; 32],
    pub created_at: Timestamp,
    /// When the code expires.
    pub expires_at: Timestamp,
    /// Guesses of one address, at least 1. Whoever asked for the code has these apart from all others.
    pub attempts_max: u32,
    /// Guesses of all addresses together that did not ask for the code.
    pub others_max: u32,
    /// Who asked for it; see [`Guesser::address`].
    pub from: u64,
    /// From this instant on another code may be opened.
    pub resend_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeOpened {
    Opened,
    /// A valid code was already sent; another may be opened from `retry_at` on.
    Pending {
        retry_at: Timestamp,
    },
}

/// Who guesses at a code. One address's guesses burn its own chance only; `others_max` bounds all addresses together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Guesser {
    /// A keyed hash of the address, so that no address is kept.
    pub address: u64,
    /// The account has been used from this address before: its guesses are counted apart, so that others cannot use
    /// them up.
    pub known: bool,
}

/// A guess, and the session to open when it is right.
#[derive(Clone)]
pub struct LoginDraft {
    /// Canonical phone number.
    pub number: String,
    /// Keyed MAC over number and guessed code.
    pub mac: [u8; 32],
    pub guesser: Guesser,
    /// Which of the number's accounts: the pair (number, group) is an account.
    pub group: u32,
    /// User name of a new account, derived from number and group; `-2` and so on is appended while it is taken.
    pub username: String,
    /// Whether a missing account may be created.
    pub create: bool,
    pub now: Timestamp,
    pub session: SessionDraft,
}

#[derive(Debug, Clone, PartialEq)]
pub enum LoginOutcome {
    LoggedIn {
        user: User,
        session: Session,
        new_user: bool,
        /// The user's oldest sessions, ended to make room for this one.
        ended: Vec<SessionId>,
    },
    /// Counted. With none left the code is burned for this guesser.
    Wrong {
        attempts_left: u32,
    },
    /// Guessed wrong too often by this guesser or by all; the guess was not looked at.
    Burned,
    Expired,
    /// No code was sent, or it was used.
    Missing,
    /// Correct and used up, but the account is disabled.
    UserInactive,
    /// Correct and still valid for another account; this account does not exist and may not be created.
    CreationRefused,
}

impl Store {
    /// Opens a challenge unless one is pending. A pending one is neither expired nor burned, and its `resend_at`
    /// is still to come (compared with the draft's `created_at`). Any other is replaced: its code is dead. Who asked
    /// for a code and used up the own guesses may replace it; a stranger may not.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn challenge_open(&self, draft: ChallengeDraft) -> Result<ChallengeOpened, StoreError> {
        on_engine!(self, challenge_open(draft).await)
    }

    /// Returns true when [`Store::challenge_open`] would find a pending challenge.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn challenge_pending(
        &self,
        number: &str,
        from: u64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        on_engine!(self, read challenge_pending(number, from, now))
    }

    /// The accounts that log in with a number.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn accounts_of_number(&self, number: &str) -> Result<Vec<UserId>, StoreError> {
        on_engine!(self, read accounts_of_number(number))
    }

    /// Removes a challenge whose code was certainly not sent, so another may be opened at once. False when the number
    /// has another challenge by now.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn challenge_release(&self, number: &str, id: u64) -> Result<bool, StoreError> {
        on_engine!(self, challenge_release(number, id).await)
    }

    /// When a number's pending challenge lets another one be opened, in the view of a stranger; `None` without one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn challenge_resend_at(
        &self,
        number: &str,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        on_engine!(self, read challenge_resend_at(number, now))
    }

    /// Removes a number's challenge whatever it is: its code is dead, and another may be opened. False without one.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn challenge_forget(&self, number: &str) -> Result<bool, StoreError> {
        on_engine!(self, challenge_forget(number).await)
    }

    /// Allows another code from `now` on while this one stays valid: for a code that may or may not have been sent.
    /// False when the number has another challenge by now.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn challenge_allow_resend(
        &self,
        number: &str,
        id: u64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        on_engine!(self, challenge_allow_resend(number, id, now).await)
    }

    /// Counts a guess and compares it in constant time. A right guess consumes the code, finds or creates the account
    /// and opens a session, all in one change. The count is written before the comparison and answered only when
    /// durable.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn login_with_challenge(&self, draft: LoginDraft) -> Result<LoginOutcome, StoreError> {
        on_engine!(self, login_with_challenge(draft).await)
    }

    /// Continues the walk over challenges, at most `limit` of them, and removes those that expired at or before
    /// `now`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and any error of a change; the next call then starts over.
    #[boxed]
    pub async fn challenges_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        on_engine!(self, challenges_purge(now, limit).await)
    }
}
