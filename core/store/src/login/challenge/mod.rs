//! One-time codes: opened, guessed, and exchanged for a login.
//!
//! A number has at most one challenge. It moves Open -> Consumed | Burned | Expired | Released, never back. A
//! consumed or released one is removed; a burned or expired one stays until it is replaced or purged. Invariants: a
//! code yields at most one login, whatever runs in parallel. No guess is answered before its count is durable, so a
//! crash cannot give guesses back. The store never sees the code, only its keyed MAC.
//!
//! Login is here and not beside sessions because consuming the code, finding or creating the user and opening the
//! session are one change. A crash between two of them would lose a code or leave a user without a session.

pub(crate) mod sled;

use crate::engine::{Engine, on_engine};
use crate::login::session::{Session, SessionDraft};
use crate::login::user::User;
use crate::{PurgeStep, SessionId, Store, StoreError, Timestamp};

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
    /// Wrong guesses that burn the code, at least 1.
    pub attempts_max: u32,
    /// When another code may be opened.
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

/// A guess, and the session to open when it is right.
#[derive(Clone)]
pub struct LoginDraft {
    /// Canonical phone number.
    pub number: String,
    /// Keyed MAC over number and guessed code.
    pub mac: [u8; 32],
    /// The account's group; (number, group) identifies an account.
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
    /// Counted. When none are left the code is burned.
    Wrong {
        attempts_left: u32,
    },
    /// Guessed wrong too often; the guess was not compared.
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
    /// Opens a challenge unless one is pending. A pending one is neither expired nor burned, and its `resend_at` is
    /// after the draft's `created_at`. Any other is replaced, and its code becomes invalid.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn challenge_open(&self, draft: ChallengeDraft) -> Result<ChallengeOpened, StoreError> {
        on_engine!(self, challenge_open(draft).await)
    }

    /// Returns true when [`Store::challenge_open`] would find a pending challenge.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn challenge_pending(&self, number: &str, now: Timestamp) -> Result<bool, StoreError> {
        on_engine!(self, read challenge_pending(number, now))
    }

    /// Removes a challenge whose code was certainly not sent, so another may be opened at once. False when the number
    /// has another challenge by now.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn challenge_release(&self, number: &str, id: u64) -> Result<bool, StoreError> {
        on_engine!(self, challenge_release(number, id).await)
    }

    /// Allows another code from `now` on while this one stays valid: for a code that may or may not have been sent.
    /// False when the number has another challenge by now.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
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
    pub async fn login_with_challenge(&self, draft: LoginDraft) -> Result<LoginOutcome, StoreError> {
        on_engine!(self, login_with_challenge(draft).await)
    }

    /// Continues the walk over challenges, at most `limit` of them, and removes those that expired at or before
    /// `now`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and any error of a change; the next call then starts over.
    pub async fn challenges_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        on_engine!(self, challenges_purge(now, limit).await)
    }
}
