//! One-time codes: opened, guessed at, and turned into a login.
//!
//! A number has at most one challenge. It moves Open -> Consumed | Burned | Expired | Released, never back; a
//! consumed or released one is removed, a burned or expired one stays until it is replaced or purged. Invariants:
//! a code is one login at most, whatever runs in parallel; no guess is answered before its count is durable, so
//! a crash cannot give guesses back; the code itself never comes here, only its keyed MAC.
//!
//! Login is here and not beside sessions because consuming the code, finding or making the user and opening the
//! session are one change: a crash between two of them would lose a code or leave a user without a session.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::engine::sled::keys;
use crate::engine::sled::purge::PurgeStep;
use crate::engine::sled::record::decode;
use crate::engine::sled::txn::Txn;
use crate::login::contact::Contact;
use crate::login::session::{self, Session, SessionDraft, SessionSeed};
use crate::login::user::{self, User};
use crate::{SessionId, Store, StoreError, Timestamp};

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
        self.change(move |txn| {
            let mut contact = Contact::get(txn, &draft.number)?;
            if let Some(old) = contact.challenge.filter(|old| old.pending(draft.created_at)) {
                return Ok(ChallengeOpened::Pending { retry_at: old.resend_at.min(old.expires_at) });
            }
            contact.challenge = Some(Challenge {
                id: draft.id,
                mac: draft.mac,
                created_at: draft.created_at,
                expires_at: draft.expires_at,
                resend_at: draft.resend_at,
                attempts: 0,
                attempts_max: draft.attempts_max.max(1),
            });
            contact.put(txn, &draft.number);
            Ok(ChallengeOpened::Opened)
        })
        .await
    }

    /// Whether [`Store::challenge_open`] would find a pending challenge.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn challenge_pending(&self, number: &str, now: Timestamp) -> Result<bool, StoreError> {
        Ok(Contact::read(&self.tree, number)?.challenge.is_some_and(|old| old.pending(now)))
    }

    /// Removes a challenge whose code was certainly not sent, so that another may be opened at once. False when
    /// the number's challenge is another one by now.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn challenge_release(&self, number: &str, id: u64) -> Result<bool, StoreError> {
        let number = number.to_owned();
        self.change(move |txn| {
            let mut contact = Contact::get(txn, &number)?;
            let ours = contact.challenge.take_if(|challenge| challenge.id == id).is_some();
            if ours {
                contact.put(txn, &number);
            }
            Ok(ours)
        })
        .await
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
        let number = number.to_owned();
        self.change(move |txn| {
            let mut contact = Contact::get(txn, &number)?;
            let Some(challenge) = contact.challenge.as_mut().filter(|challenge| challenge.id == id) else {
                return Ok(false);
            };
            challenge.resend_at = challenge.resend_at.min(now);
            contact.put(txn, &number);
            Ok(true)
        })
        .await
    }

    /// Counts a guess, compares it in constant time and, when it is right, uses the code up, finds or makes the
    /// account and opens a session: one change. The count is written before the comparison and answered only
    /// when durable.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn login_with_challenge(&self, draft: LoginDraft) -> Result<LoginOutcome, StoreError> {
        let seed = self.session_seed(draft.session.clone());
        let outcome = self.change(move |txn| login(txn, draft, seed)).await?;
        if let LoginOutcome::LoggedIn { session, .. } = &outcome {
            self.agent_learn(Arc::clone(&session.user_agent));
        }
        Ok(outcome)
    }

    /// Walks on through the challenges, at most `limit` of them, and removes those that expired at or before `now`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and those of every change; the next call then starts over.
    pub async fn challenges_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        let purge =
            move |bytes: &[u8]| Ok(decode::<Contact>(bytes)?.purge(|challenge| challenge.expired(now)));
        self.purge_step(keys::CONTACTS, &self.purge.challenges, limit, purge).await
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Challenge {
    id: u64,
    mac: [u8; 32],
    created_at: Timestamp,
    expires_at: Timestamp,
    resend_at: Timestamp,
    /// Guesses so far.
    attempts: u32,
    attempts_max: u32,
}

impl Challenge {
    fn expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }

    fn pending(&self, now: Timestamp) -> bool {
        !self.expired(now) && !self.burned() && now < self.resend_at
    }

    fn burned(&self) -> bool {
        self.attempts >= self.attempts_max
    }
}

/// What a guess came to. A right one is counted too, and does not use the code up by itself.
pub(crate) enum Guess {
    Right,
    Wrong { attempts_left: u32 },
    Burned,
    Expired,
    Missing,
}

/// Counts a guess, then compares it in constant time. Gives what is kept under the number as well, with the guess in
/// it; after a right one it is the caller's to put.
pub(crate) fn guess(
    txn: &mut Txn,
    number: &str,
    mac: &[u8; 32],
    now: Timestamp,
) -> Result<(Guess, Contact), StoreError> {
    let mut contact = Contact::get(txn, number)?;
    let Some(challenge) = &mut contact.challenge else { return Ok((Guess::Missing, contact)) };
    if challenge.expired(now) {
        return Ok((Guess::Expired, contact));
    }
    if challenge.burned() {
        return Ok((Guess::Burned, contact));
    }
    challenge.attempts += 1;
    let right = bool::from(challenge.mac.ct_eq(mac));
    let attempts_left = challenge.attempts_max - challenge.attempts;
    if right {
        return Ok((Guess::Right, contact));
    }
    contact.put(txn, number);
    Ok((Guess::Wrong { attempts_left }, contact))
}

fn login(txn: &mut Txn, draft: LoginDraft, seed: SessionSeed) -> Result<LoginOutcome, StoreError> {
    let LoginDraft { number, mac, group, username, create, now, .. } = draft;
    let (guess, mut contact) = guess(txn, &number, &mac, now)?;
    match guess {
        Guess::Right => {}
        Guess::Wrong { attempts_left } => return Ok(LoginOutcome::Wrong { attempts_left }),
        Guess::Burned => return Ok(LoginOutcome::Burned),
        Guess::Expired => return Ok(LoginOutcome::Expired),
        Guess::Missing => return Ok(LoginOutcome::Missing),
    }

    let known = contact.account(group, &number, |key| txn.get(key))?;
    let found = known.map(|id| user::get(txn, id)).transpose()?.flatten();
    if found.is_none() && !create {
        contact.put(txn, &number);
        return Ok(LoginOutcome::CreationRefused);
    }
    let new_user = found.is_none();
    let mut user = match found {
        Some(user) => user,
        None => {
            let user = user::create(txn, &number, group, &username, now)?;
            contact.add_account(group, user.id);
            user
        }
    };
    contact.challenge = None;
    contact.put(txn, &number);
    if !user.active {
        return Ok(LoginOutcome::UserInactive);
    }
    user.last_login_at = Some(now);
    user::put(txn, &user);
    let (session, ended) = session::create(txn, user.id, new_user, seed, now)?;
    Ok(LoginOutcome::LoggedIn { user, session, new_user, ended })
}
