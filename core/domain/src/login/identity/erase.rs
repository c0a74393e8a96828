//! Erasing an account: by its user, with a fresh code or the password, and by the staff.
//!
//! A stolen session must not erase an account, so the user proves more than the session: with a code that was sent to
//! the account's number (the login's, valid for `ttl`), or with the password, whose guesses are counted. Money is
//! never lost by accident: an open payment, held money and a balance refuse the erasure, and only an explicit word
//! gives a balance up. An account with rights is refused, because an operator takes the rights first.

use std::net::IpAddr;
use std::sync::Arc;

use chelseru_store::{ErasureBegun, ErasureDraft, ErasureProof, Guesser, PaymentId, StoreError};
use tokio::sync::Notify;

use super::{Caller, Identity, PasswordError, SessionsEnded};
use crate::PhoneNumber;
use crate::ids::UserId;
use crate::login::account::key_by_look;
use crate::login::method::ByPassword;
use crate::login::otp::Purpose;
use crate::login::password::Password;
use crate::operator::audit::{AuditEvent, AuditKind};
use crate::operator::role::{Permit, Reason, UserErase};

/// Payments read at once.
const PAYMENTS_STEP: usize = 200;

/// What a user proves the own account with.
#[derive(Debug, Clone, Copy)]
pub enum Proof<'a> {
    /// A login code that was sent to the account's number.
    Code(&'a str),
    Password(ByPassword, &'a Password),
}

#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    #[error("there is no such account")]
    Missing,
    /// Wrong, expired, used or never sent; or the account has no number.
    #[error("the code is wrong")]
    WrongCode,
    /// [`PasswordError::Wrong`] is a wrong password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error("the account has rights; take them first")]
    HasRights,
    #[error("payment {0} is open")]
    PaymentOpen(PaymentId),
    #[error("{0} rial are held")]
    Held(u64),
    #[error("the wallet has {0} rial")]
    Balance(u64),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Identity {
    /// Erases the caller's account. Its traces follow: see [`crate::erasure`].
    ///
    /// # Errors
    ///
    /// See [`EraseError`]. Nothing changed then, except a guess that was counted.
    pub async fn erase(
        &self,
        caller: &Caller,
        proof: Proof<'_>,
        forfeit: bool,
        ip: Option<IpAddr>,
    ) -> Result<(), EraseError> {
        let user = self.store.user_get(caller.user_id).await?.ok_or(EraseError::Missing)?;
        let draft = |proof| ErasureDraft {
            user: user.id,
            look: key_by_look(&user.username),
            proof,
            forfeit,
            by: user.id,
            now: self.clock.now(),
        };
        let begun = match proof {
            Proof::Password(_, password) => {
                let checked = self.prove_password(caller, password, ip).await?;
                self.erasure_begin(draft(ErasureProof::Password { checked })).await?
            }
            Proof::Code(code) => {
                let number = PhoneNumber::parse(&user.number).map_err(|_| EraseError::WrongCode)?;
                let guess = |guesser| ErasureProof::Code {
                    challenge: Purpose::Login.challenge(&number),
                    mac: self.otp.mac(Purpose::Login, &number, code),
                    guesser,
                };
                let guesser = self.guesser(ip);
                let begun = self.erasure_begin(draft(guess(guesser))).await?;
                match begun {
                    ErasureBegun::Exhausted if self.user_was_at(user.id, ip).await? => {
                        self.erasure_begin(draft(guess(Guesser { known: true, ..guesser }))).await?
                    }
                    begun => begun,
                }
            }
        };
        let wrong = matches!(begun, ErasureBegun::Refused | ErasureBegun::Exhausted);
        if wrong {
            let event = AuditEvent::new(AuditKind::OtpFailed).user(user.id).session(caller.session_id).ip(ip);
            self.audit.record(event.detail("to erase the account"));
        }
        self.erasure_began(begun, user.id, AuditEvent::new(AuditKind::UserErased))
    }

    /// Erases any account without rights, disabled ones included. For staff and operators; `by` is `None` for the
    /// latter.
    ///
    /// # Errors
    ///
    /// See [`EraseError`].
    pub async fn erase_by_staff(
        &self,
        user: UserId,
        by: Option<UserId>,
        forfeit: bool,
    ) -> Result<(), EraseError> {
        let who = by.map_or("an operator".to_owned(), |by| format!("staff {by}"));
        let event = AuditEvent::new(AuditKind::UserErasedByStaff).detail(who);
        self.erase_other(user, by, forfeit, event).await
    }

    /// Erases an account for an operator.
    ///
    /// # Errors
    ///
    /// See [`EraseError`].
    pub async fn erase_by_operator(
        &self,
        permit: &Permit<UserErase>,
        user: UserId,
        forfeit: bool,
        reason: &Reason,
    ) -> Result<(), EraseError> {
        let operator = permit.operator();
        let event = AuditEvent::by(operator, AuditKind::UserErasedByStaff).reason(reason);
        self.erase_other(user, operator.user(), forfeit, event).await
    }

    async fn erase_other(
        &self,
        user: UserId,
        by: Option<UserId>,
        forfeit: bool,
        event: AuditEvent,
    ) -> Result<(), EraseError> {
        let found = self.store.user_get(user).await?.ok_or(EraseError::Missing)?;
        let draft = ErasureDraft {
            user,
            look: key_by_look(&found.username),
            proof: ErasureProof::Staff,
            forfeit,
            by: by.unwrap_or(UserId(0)),
            now: self.clock.now(),
        };
        let begun = self.erasure_begin(draft).await?;
        self.erasure_began(begun, user, event)
    }

    /// Told when an account was erased and its traces wait.
    #[must_use]
    pub fn erasures(&self) -> Arc<Notify> {
        Arc::clone(&self.erasures)
    }

    /// Begins an erasure, unless any of the account's payments is open. The change itself examines the newest ones
    /// again.
    async fn erasure_begin(&self, draft: ErasureDraft) -> Result<ErasureBegun, StoreError> {
        let mut before = None;
        loop {
            let payments = self.store.payments_of(draft.user, before, PAYMENTS_STEP).await?;
            if let Some(open) = payments.iter().find(|payment| payment.state.is_open()) {
                return Ok(ErasureBegun::PaymentOpen(open.id));
            }
            if payments.len() < PAYMENTS_STEP {
                return self.store.erasure_begin(draft).await;
            }
            before = payments.last().map(|payment| payment.id);
            tokio::task::yield_now().await;
        }
    }

    fn erasure_began(&self, begun: ErasureBegun, user: UserId, event: AuditEvent) -> Result<(), EraseError> {
        match begun {
            ErasureBegun::Begun { forfeited } => {
                // Without address and name: the record outlives the account.
                let event = event.user(user).subject(format!("forfeited rial: {forfeited}"));
                self.audit.record(event);
                self.index.changed(user);
                // There may be no subscriber.
                let _ = self.ended.send(SessionsEnded::All(user));
                self.erasures.notify_one();
                Ok(())
            }
            ErasureBegun::Missing => Err(EraseError::Missing),
            ErasureBegun::Refused | ErasureBegun::Exhausted => Err(EraseError::WrongCode),
            ErasureBegun::HasRights => Err(EraseError::HasRights),
            ErasureBegun::PaymentOpen(payment) => Err(EraseError::PaymentOpen(payment)),
            ErasureBegun::Held(rial) => Err(EraseError::Held(rial)),
            ErasureBegun::Balance(rial) => Err(EraseError::Balance(rial)),
        }
    }
}
