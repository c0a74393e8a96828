//! One-time codes: opened, guessed at, and turned into a login.
//!
//! A number has at most one challenge. It moves Open -> Consumed | Burned | Expired | Released, never back; a
//! consumed or released one is removed, a burned or expired one stays until it is replaced or purged. Invariants:
//! a code is one login at most, whatever runs in parallel; no guess is answered before its count is durable, so
//! a crash cannot give guesses back; the code itself never comes here, only its keyed MAC.
//!
//! Login is here and not beside sessions because consuming the code, finding or making the user and opening the
//! session are one change: a crash between two of them would lose a code or leave a user without a session.

pub(crate) mod sled;

use crate::engine::{Engine, on_engine};
use crate::login::session::{Session, SessionDraft};
use crate::login::user::User;
use crate::{PurgeStep, SessionId, Store, StoreError, Timestamp};

/// A code that is about to be sent.
#[derive(Clone)]
pub struct ChallengeDraft {
    /// Canonical phone number.
    pub number: String,
    /// Names this challenge among those of its number, so that a late report about an older one changes nothing.
    pub id: u64,
    /// Keyed MAC over number and code.
    pub mac: [u8; 32],
    pub created_at: Timestamp,
    /// From this instant on the code is refused.
    pub expires_at: Timestamp,
    /// Wrong guesses that burn the code, at least 1.
    pub attempts_max: u32,
    /// From this instant on another code may be opened.
    pub resend_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeOpened {
    Opened,
    /// A code that still works was sent; another may be opened from `retry_at` on.
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
    /// Which of the number's accounts: the pair (number, group) is an account.
    pub group: u32,
    /// User name of the account when it has to be made, which follows from number and group; `-2` and so on is added
    /// while it is taken.
    pub username: String,
    /// Whether an account may be made when there is none.
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
        /// The user's oldest sessions, which gave way to this one.
        ended: Vec<SessionId>,
    },
    /// Counted. With none left the code is burned.
    Wrong {
        attempts_left: u32,
    },
    /// Guessed wrong too often; the guess was not looked at.
    Burned,
    Expired,
    /// No code was sent, or it was used.
    Missing,
    /// Right, and used up; the account is switched off.
    UserInactive,
    /// Right, and still good for another account: this one does not exist and may not be made.
    CreationRefused,
}

impl Store {
    /// Opens a challenge unless one is pending. A pending one is neither expired nor burned, and its `resend_at`
    /// is still to come (compared with the draft's `created_at`). Any other is replaced: its code is dead.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn challenge_open(&self, draft: ChallengeDraft) -> Result<ChallengeOpened, StoreError> {
        on_engine!(self, challenge_open(draft).await)
    }

    /// Whether [`Store::challenge_open`] would find a pending challenge.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn challenge_pending(&self, number: &str, now: Timestamp) -> Result<bool, StoreError> {
        on_engine!(self, read challenge_pending(number, now))
    }

    /// Removes a challenge whose code was certainly not sent, so that another may be opened at once. False when
    /// the number's challenge is another one by now.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn challenge_release(&self, number: &str, id: u64) -> Result<bool, StoreError> {
        on_engine!(self, challenge_release(number, id).await)
    }

    /// Lets another code be opened from `now` on, while this one keeps working: for a code that may or may not
    /// have been sent. False when the number's challenge is another one by now.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn challenge_allow_resend(
        &self,
        number: &str,
        id: u64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        on_engine!(self, challenge_allow_resend(number, id, now).await)
    }

    /// Counts a guess, compares it in constant time and, when it is right, uses the code up, finds or makes the
    /// account and opens a session: one change. The count is written before the comparison and answered only
    /// when durable.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn login_with_challenge(&self, draft: LoginDraft) -> Result<LoginOutcome, StoreError> {
        on_engine!(self, login_with_challenge(draft).await)
    }

    /// Walks on through the challenges, at most `limit` of them, and removes those that expired at or before `now`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and those of every change; the next call then starts over.
    pub async fn challenges_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        on_engine!(self, challenges_purge(now, limit).await)
    }
}
