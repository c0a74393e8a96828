//! Ways back into an account without a phone number: an operator's token, and a number that its user adds.
//!
//! A token sets the password once within its lifetime, at most [`RESET_TOKEN_HOURS`]. It has 130 random bits, so it
//! cannot be guessed; wrong ones are limited per address only to keep them cheap. A right one is never held up by wrong
//! ones: behind a provider's translation of addresses thousands share one. The store has its keyed MAC. A user
//! has at most one; a newer token and any new password replace it.
//!
//! A number is added by its code and the account's password, because a number opens the account by code, and a stolen
//! session must not become a stolen account. The code is sent whether or not another account has the number. Only
//! who has the code learns it, and that is the number's owner.

use std::net::IpAddr;
use std::time::Duration;

use chelseru_store::{Guesser, NumberAdded, NumberDraft, PasswordSet, ResetToken, StoreError};

use super::{Caller, Identity, PasswordError, SessionsEnded, UserActError};
use crate::ids::UserId;
use crate::login::account::UserView;
use crate::login::method::ByPassword;
use crate::login::otp::Purpose;
use crate::login::password::Password;
use crate::operator::audit::{AuditEvent, AuditKind};
use crate::operator::role::{Permit, Reason, ResetLinkMake};
use crate::rate::{Exhausted, Rate};
use crate::{PhoneNumber, Range, Timestamp};

/// Lifetime of an operator's token.
pub const RESET_TOKEN_HOURS: Range<u64> = Range::new(1, 168, 24);

/// Wrong tokens of one address in an hour.
const WRONG_TOKENS: Rate = Rate::per_hour("wrong-tokens", 20);

const TOKEN_CHARS: usize = 26;
/// No `0`, `1`, `l` and `o`, because a token may be read out.
const TOKEN_ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A token for one new password, and until when it is valid.
#[derive(Clone)]
pub struct MadeResetToken {
    pub token: String,
    pub expires_at: Timestamp,
}

#[derive(Debug, thiserror::Error)]
pub enum ResetTokenError {
    /// There is no such account, or it is disabled.
    #[error("the account does not exist or is disabled")]
    NoAccount,
    /// The account has rights or a role; only an admin acts on it.
    #[error("only an admin may act on an account with rights")]
    Protected,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no randomness from the operating system")]
    Randomness(#[source] std::io::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum AddNumberError {
    /// Wrong, expired, used or never sent. The client must not learn which.
    #[error("the code is wrong")]
    WrongCode,
    /// The code was right, and another account has the number.
    #[error("another account has this number")]
    Taken,
    #[error("the account has a number")]
    HasNumber,
    /// The account has a password, and none was given.
    #[error("the password is missing")]
    PasswordMissing,
    /// [`PasswordError::Wrong`] is a wrong password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Identity {
    /// Makes the token with which a user sets a new password once, in place of an older one.
    ///
    /// # Errors
    ///
    /// See [`ResetTokenError`].
    pub async fn reset_token_make(
        &self,
        permit: &Permit<ResetLinkMake>,
        user: UserId,
        valid_for: Duration,
        reason: &Reason,
    ) -> Result<MadeResetToken, ResetTokenError> {
        match self.acted_on(permit.operator(), user).await {
            Err(UserActError::Store(error)) => return Err(error.into()),
            Err(UserActError::Protected | UserActError::Own) => return Err(ResetTokenError::Protected),
            Err(UserActError::NoAccount) => return Err(ResetTokenError::NoAccount),
            Ok(_) => {}
        }
        let token = random_token(user).map_err(ResetTokenError::Randomness)?;
        let expires_at = self.clock.now().plus(valid_for);
        let kept = ResetToken { mac: self.otp.labelled_mac("reset-token", &token), expires_at };
        if !self.store.reset_token_put(user, kept).await? {
            return Err(ResetTokenError::NoAccount);
        }
        let event = AuditEvent::by(permit.operator(), AuditKind::ResetTokenMade).user(user);
        self.audit.record(event.reason(reason));
        Ok(MadeResetToken { token, expires_at })
    }

    /// Sets the password of a token's user and ends all sessions of the account.
    ///
    /// # Errors
    ///
    /// See [`PasswordError`]. [`PasswordError::Waiting`] is a wrong token, past the bound on those. A refused password
    /// does not use the token up.
    pub async fn password_reset_by_token(
        &self,
        _by: ByPassword,
        token: &str,
        new: &Password,
        ip: Option<IpAddr>,
    ) -> Result<UserId, PasswordError> {
        let set = self.reset_by_token(token, new, ip).await;
        if !matches!(set, Err(PasswordError::Wrong)) {
            return set;
        }
        // Counted after the token was looked at, which costs one read, because nobody guesses 130 bits meanwhile.
        if let Some(subject) = self.registrant(ip) {
            let taken = self.wrong_tokens.take(&subject, 1, WRONG_TOKENS, self.clock.now());
            taken.map_err(|Exhausted { retry_after, .. }| PasswordError::Waiting { retry_after })?;
        }
        let event = AuditEvent::new(AuditKind::PasswordResetFailed).ip(ip);
        self.audit.record(event.detail("a wrong token of an operator"));
        set
    }

    async fn reset_by_token(
        &self,
        token: &str,
        new: &Password,
        ip: Option<IpAddr>,
    ) -> Result<UserId, PasswordError> {
        let user = token.split_once('-').and_then(|(user, _)| user.parse().ok()).map(UserId);
        let Some(user) = user else { return Err(PasswordError::Wrong) };
        let mac = self.otp.labelled_mac("reset-token", token);
        // Before the password is hashed: a wrong token costs one read.
        if !self.store.reset_token_fits(user, mac, self.clock.now()).await? {
            return Err(PasswordError::Wrong);
        }
        let Some(found) = self.store.user_get(user).await? else { return Err(PasswordError::Wrong) };
        let faults = new.faults(&found.username);
        if !faults.is_empty() {
            return Err(PasswordError::Faults(faults));
        }
        let hash = self.hashes.hash(new, ip).await?;
        match self.store.password_reset_by_token(user, mac, hash, self.clock.now()).await? {
            PasswordSet::Refused => Err(PasswordError::Wrong),
            PasswordSet::Set(_) => {
                let event = AuditEvent::new(AuditKind::PasswordReset).user(user).ip(ip);
                self.audit.record(event.detail("by a token of an operator"));
                let _ = self.ended.send(SessionsEnded::All(user));
                self.store.guards_clear(self.guard_keys(&found.username, ip)).await?;
                Ok(user)
            }
        }
    }

    /// Adds a phone number to the caller's account, which has none.
    ///
    /// # Errors
    ///
    /// See [`AddNumberError`].
    pub async fn number_add(
        &self,
        caller: &Caller,
        number: &PhoneNumber,
        code: &str,
        password: Option<&Password>,
        ip: Option<IpAddr>,
    ) -> Result<UserView, AddNumberError> {
        let event = |kind| {
            AuditEvent::new(kind).user(caller.user_id).session(caller.session_id).ip(ip).subject(number)
        };
        match (self.store.password_of(caller.user_id).await?, password) {
            (None, _) => {}
            (Some(_), None) => return Err(AddNumberError::PasswordMissing),
            (Some(_), Some(password)) => {
                self.prove_password(caller, password, ip).await?;
            }
        }
        let purpose = Purpose::AddNumber(caller.user_id);
        let draft = NumberDraft {
            user: caller.user_id,
            number: number.e164().to_owned(),
            challenge: purpose.challenge(number),
            mac: self.otp.mac(purpose, number, code),
            guesser: self.guesser(ip),
            now: self.clock.now(),
        };
        let mut added = self.store.number_add(draft.clone()).await?;
        if added == NumberAdded::Exhausted && self.user_was_at(caller.user_id, ip).await? {
            let guesser = Guesser { known: true, ..draft.guesser };
            added = self.store.number_add(NumberDraft { guesser, ..draft }).await?;
        }
        match added {
            NumberAdded::Added(user) => {
                self.index.changed(caller.user_id);
                self.audit.record(event(AuditKind::NumberAdded));
                Ok(self.user_view(Some(user)).await?.expect("an account has a view"))
            }
            NumberAdded::Taken => {
                self.audit.record(event(AuditKind::OtpFailed).detail("another account has the number"));
                Err(AddNumberError::Taken)
            }
            NumberAdded::HasNumber => Err(AddNumberError::HasNumber),
            NumberAdded::Refused | NumberAdded::Exhausted => {
                self.audit.record(event(AuditKind::OtpFailed).detail("to add a number"));
                Err(AddNumberError::WrongCode)
            }
        }
    }
}

/// The account's id and 130 random bits.
fn random_token(user: UserId) -> std::io::Result<String> {
    let mut random = [0; TOKEN_CHARS];
    getrandom::fill(&mut random).map_err(std::io::Error::other)?;
    let letters = random.iter().map(|byte| char::from(TOKEN_ALPHABET[usize::from(byte % 32)]));
    Ok(format!("{user}-{}", letters.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_account_and_is_never_repeated() {
        let (one, other) = (random_token(UserId(7)).unwrap(), random_token(UserId(7)).unwrap());
        assert_ne!(one, other);
        let (user, secret) = one.split_once('-').unwrap();
        assert_eq!((user, secret.len()), ("7", TOKEN_CHARS));
        assert_eq!(TOKEN_ALPHABET.iter().collect::<std::collections::HashSet<_>>().len(), 32);
    }
}
