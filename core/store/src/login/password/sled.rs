//! The operations of this folder, in sled statements.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::sled::record::{Record, decode};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error, keys};
use crate::login::challenge::code::Guess;
use crate::login::password::{
    Guard, GuardOutcome, GuardRecord, PasswordLogin, PasswordLoginDraft, PasswordSet, ResetDraft,
    ResetOutcome, ResetToken, count_all,
};
use crate::login::session::sled as session;
use crate::login::session::sled::revoke_all;
use crate::login::sled::contact::guess;
use crate::login::sled::user;
use crate::{PurgeStep, SessionId, StoreError, Timestamp, UserId};

impl Sled {
    pub(crate) fn password_of(&self, user: UserId) -> Result<Option<String>, StoreError> {
        let bytes = self.tree.get(keys::password(user)).map_err(error::read)?;
        bytes.map(|bytes| Ok(decode::<PasswordRecord>(&bytes)?.hash)).transpose()
    }

    pub(crate) async fn password_guard(
        &self,
        guards: Vec<Guard>,
        now: Timestamp,
    ) -> Result<GuardOutcome, StoreError> {
        self.change(move |txn| {
            let mut records = Vec::with_capacity(guards.len());
            for Guard { key, .. } in &guards {
                records.push(txn.get_record::<GuardRecord>(&keys::guard(key))?.unwrap_or_default());
            }
            let outcome = count_all(&guards, &mut records, now);
            if outcome == GuardOutcome::Open {
                for (Guard { key, .. }, record) in guards.iter().zip(&records) {
                    txn.put_record(keys::guard(key), record);
                }
            }
            Ok(outcome)
        })
        .await
    }

    pub(crate) async fn guards_clear(&self, keys: Vec<[u8; 32]>) -> Result<(), StoreError> {
        self.change(move |txn| {
            keys.iter().for_each(|key| txn.delete(keys::guard(key)));
            Ok(())
        })
        .await
    }

    pub(crate) async fn login_with_password(
        &self,
        draft: PasswordLoginDraft,
    ) -> Result<PasswordLogin, StoreError> {
        let PasswordLoginDraft { user, checked, renewed, guard, total, now, session } = draft;
        let seed = self.session_seed(session);
        let login = self.change(move |txn| {
            let Some(mut user) = user::get(txn, user)?.filter(|user| user.active) else {
                return Ok(PasswordLogin::Refused);
            };
            if kept(txn, user.id)?.as_ref() != Some(&checked) {
                return Ok(PasswordLogin::Refused);
            }
            txn.delete(keys::guard(&guard));
            if let Some(mut record) = txn.get_record::<GuardRecord>(&keys::guard(&total))? {
                record.guesses = record.guesses.saturating_sub(1);
                txn.put_record(keys::guard(&total), &record);
            }
            if let Some(hash) = renewed {
                put(txn, user.id, hash, now);
            }
            user.last_login_at = Some(now);
            user::put(txn, &user);
            let (session, ended) = session::create(txn, user.id, false, seed, now)?;
            Ok(PasswordLogin::LoggedIn { user, session, ended })
        });
        let login = login.await?;
        if let PasswordLogin::LoggedIn { session, .. } = &login {
            self.agents.learn(Arc::clone(&session.user_agent), &self.committer);
        }
        Ok(login)
    }

    pub(crate) async fn password_set(
        &self,
        user: UserId,
        checked: Option<String>,
        hash: String,
        except: Option<SessionId>,
        now: Timestamp,
    ) -> Result<PasswordSet, StoreError> {
        self.change(move |txn| {
            if user::get(txn, user)?.is_none() || (checked.is_some() && kept(txn, user)? != checked) {
                return Ok(PasswordSet::Refused);
            }
            replace(txn, user, hash, now);
            Ok(PasswordSet::Set(revoke_all(txn, user, except)?))
        })
        .await
    }

    pub(crate) async fn password_reset(&self, draft: ResetDraft) -> Result<ResetOutcome, StoreError> {
        self.change(move |txn| {
            let ResetDraft { number, group, challenge, mac, guesser, hash, now } = draft;
            let (guess, mut contact) = guess(txn, &challenge, &mac, guesser, now)?;
            match guess {
                Guess::Right => {}
                Guess::Wrong { attempts_left: 0 } => return Ok(ResetOutcome::Burned),
                Guess::Burned => return Ok(ResetOutcome::Exhausted),
                _ => return Ok(ResetOutcome::Refused),
            }
            contact.challenge = None;
            contact.put(txn, &challenge);
            match user::find_by_identity(txn, group, &number)?.filter(|user| user.active) {
                None => Ok(ResetOutcome::Refused),
                Some(user) => {
                    replace(txn, user.id, hash, now);
                    let ended = revoke_all(txn, user.id, None)?;
                    Ok(ResetOutcome::Reset(user, ended))
                }
            }
        })
        .await
    }

    pub(crate) async fn reset_token_put(&self, user: UserId, token: ResetToken) -> Result<bool, StoreError> {
        self.change(move |txn| {
            if user::get(txn, user)?.is_none_or(|user| !user.active) {
                return Ok(false);
            }
            txn.put_record(keys::reset_token(user), &token);
            Ok(true)
        })
        .await
    }

    pub(crate) fn reset_token_fits(
        &self,
        user: UserId,
        mac: [u8; 32],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let bytes = self.tree.get(keys::reset_token(user)).map_err(error::read)?;
        let record = bytes.map(|bytes| decode::<ResetToken>(&bytes)).transpose()?;
        Ok(record.is_some_and(|record| record.fits(&mac, now)))
    }

    pub(crate) async fn password_reset_by_token(
        &self,
        user: UserId,
        mac: [u8; 32],
        hash: String,
        now: Timestamp,
    ) -> Result<PasswordSet, StoreError> {
        self.change(move |txn| {
            let record = txn.get_record::<ResetToken>(&keys::reset_token(user))?;
            let active = user::get(txn, user)?.is_some_and(|user| user.active);
            if !active || !record.is_some_and(|record| record.fits(&mac, now)) {
                return Ok(PasswordSet::Refused);
            }
            replace(txn, user, hash, now);
            Ok(PasswordSet::Set(revoke_all(txn, user, None)?))
        })
        .await
    }

    pub(crate) async fn guards_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        let due = move |bytes: &[u8]| Ok((decode::<GuardRecord>(bytes)?.forget_at <= now).into());
        self.purge_step(keys::GUARDS, &self.purge.guards, limit, due).await
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct PasswordRecord {
    /// In the PHC text form.
    pub(crate) hash: String,
    pub(crate) changed_at: Timestamp,
}

impl Record for PasswordRecord {
    const KIND: &'static str = "password";
    const SCHEMA: u8 = 1;
}

impl Record for GuardRecord {
    const KIND: &'static str = "password guard";
    const SCHEMA: u8 = 1;
}

impl Record for ResetToken {
    const KIND: &'static str = "password reset token";
    const SCHEMA: u8 = 1;
}

/// [`put`] in place of another password. An operator's token for the old one ends.
fn replace(txn: &mut Txn, user: UserId, hash: String, now: Timestamp) {
    put(txn, user, hash, now);
    txn.delete(keys::reset_token(user));
}

pub(crate) fn put(txn: &mut Txn, user: UserId, hash: String, now: Timestamp) {
    txn.put_record(keys::password(user), &PasswordRecord { hash, changed_at: now });
}

pub(crate) fn kept(txn: &Txn, user: UserId) -> Result<Option<String>, StoreError> {
    Ok(txn.get_record::<PasswordRecord>(&keys::password(user))?.map(|record| record.hash))
}
