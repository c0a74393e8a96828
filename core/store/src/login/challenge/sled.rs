//! The operations of this folder, in sled statements.

use std::sync::Arc;

use crate::engine::sled::record::decode;
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error, keys};
use crate::login::challenge::code::Guess;
use crate::login::challenge::{ChallengeDraft, ChallengeOpened, LoginDraft, LoginOutcome};
use crate::login::session::sled as session;
use crate::login::session::sled::SessionSeed;
use crate::login::sled::contact::{Contact, guess};
use crate::login::sled::user;
use crate::{PurgeStep, StoreError, Timestamp, UserId};

impl Sled {
    pub(crate) async fn challenge_open(&self, draft: ChallengeDraft) -> Result<ChallengeOpened, StoreError> {
        self.change(move |txn| {
            let mut contact = Contact::get(txn, &draft.number)?;
            if let Some(old) =
                contact.challenge.as_ref().filter(|old| old.pending(draft.from, draft.created_at))
            {
                return Ok(ChallengeOpened::Pending { retry_at: old.resend_at.min(old.expires_at) });
            }
            let number = draft.number.clone();
            contact.challenge = Some(draft.into());
            contact.put(txn, &number);
            Ok(ChallengeOpened::Opened)
        })
        .await
    }

    pub(crate) fn challenge_pending(
        &self,
        number: &str,
        from: u64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        Ok(Contact::read(&self.tree, number)?.challenge.is_some_and(|old| old.pending(from, now)))
    }

    pub(crate) fn accounts_of_number(&self, number: &str) -> Result<Vec<UserId>, StoreError> {
        let contact = Contact::read(&self.tree, number)?;
        // Accounts of the versions before have keys of their own; theirs of group 0 are found.
        let get = |key: &[u8]| self.tree.get(key).map_err(error::read);
        let first = contact.account(0, number, get)?;
        Ok(contact.accounts().map(|(_, user)| user).chain(first).collect())
    }

    pub(crate) async fn challenge_release(&self, number: &str, id: u64) -> Result<bool, StoreError> {
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

    pub(crate) fn challenge_resend_at(
        &self,
        number: &str,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let challenge = Contact::read(&self.tree, number)?.challenge;
        let pending = challenge.filter(|challenge| now < challenge.expires_at && now < challenge.resend_at);
        Ok(pending.map(|challenge| challenge.resend_at.min(challenge.expires_at)))
    }

    pub(crate) async fn challenge_forget(&self, number: &str) -> Result<bool, StoreError> {
        let number = number.to_owned();
        self.change(move |txn| {
            let mut contact = Contact::get(txn, &number)?;
            let was = contact.challenge.take().is_some();
            if was {
                contact.put(txn, &number);
            }
            Ok(was)
        })
        .await
    }

    pub(crate) async fn challenge_allow_resend(
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

    pub(crate) async fn login_with_challenge(&self, draft: LoginDraft) -> Result<LoginOutcome, StoreError> {
        let seed = self.session_seed(draft.session.clone());
        let outcome = self.change(move |txn| login(txn, draft, seed)).await?;
        if let LoginOutcome::LoggedIn { session, .. } = &outcome {
            self.agents.learn(Arc::clone(&session.user_agent), &self.committer);
        }
        Ok(outcome)
    }

    pub(crate) async fn challenges_purge(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<PurgeStep, StoreError> {
        let purge =
            move |bytes: &[u8]| Ok(decode::<Contact>(bytes)?.purge(|challenge| challenge.expired(now)));
        self.purge_step(keys::CONTACTS, &self.purge.challenges, limit, purge).await
    }
}

fn login(txn: &mut Txn, draft: LoginDraft, seed: SessionSeed) -> Result<LoginOutcome, StoreError> {
    let LoginDraft { number, mac, guesser, group, username, create, now, .. } = draft;
    let (guess, mut contact) = guess(txn, &number, &mac, guesser, now)?;
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
