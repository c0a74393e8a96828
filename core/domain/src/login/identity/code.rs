//! Login by code: consumes the code and opens a session in one durable change.

use std::net::IpAddr;

use chelseru_store::{Guesser, LoginDraft, LoginOutcome, StoreError};

use super::{ClientInfo, Identity, LoggedIn, TokenPair};
use crate::ids::UserId;
use crate::login::account::name_of_identity;
use crate::login::group::Group;
use crate::login::method::ByCode;
use crate::login::otp::Purpose;
use crate::operator::audit::{AuditEvent, AuditKind};
use crate::share::{is_own_machine, network};
use crate::{PhoneNumber, Timestamp};

#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// Wrong, expired, burned, used, or never sent. The client must not learn which.
    #[error("the code does not open a session")]
    WrongCode,
    #[error("user is inactive")]
    UserInactive,
    /// The code is right, but no account may be created in this group. The code stays valid for another group.
    #[error("no account may be created in this group")]
    GroupClosed,
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system provided no randomness. The code is consumed.
    #[error("no randomness from the operating system")]
    Randomness(#[source] std::io::Error),
}

impl Identity {
    pub(super) fn guesser(&self, ip: Option<IpAddr>) -> Guesser {
        Guesser { address: ip.map_or(0, |ip| self.otp.guesser(ip)), known: false }
    }

    /// Until when a login code to a number is pending, so that no other one is sent.
    pub(crate) async fn code_pending_until(
        &self,
        number: &PhoneNumber,
    ) -> Result<Option<Timestamp>, StoreError> {
        self.store.challenge_resend_at(&Purpose::Login.challenge(number), self.clock.now()).await
    }

    /// Makes a pending login code void, so that another one can be sent. False without one.
    pub(crate) async fn code_forget(&self, number: &PhoneNumber) -> Result<bool, StoreError> {
        self.store.challenge_forget(&Purpose::Login.challenge(number)).await
    }

    /// Whether a number has an account.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn has_account(&self, number: &PhoneNumber) -> Result<bool, StoreError> {
        Ok(!self.store.accounts_of_number(number.e164()).await?.is_empty())
    }

    /// Whether an account of a number has a session from the network of an address.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn knows(&self, number: &PhoneNumber, ip: Option<IpAddr>) -> Result<bool, StoreError> {
        for user in self.store.accounts_of_number(number.e164()).await? {
            if self.user_was_at(user, ip).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a user has a session from the network of an address. This machine's address is a proxy's that nobody
    /// declared, so it is nobody's in particular.
    pub(super) async fn user_was_at(&self, user: UserId, ip: Option<IpAddr>) -> Result<bool, StoreError> {
        let Some(ip) = ip.filter(|ip| !is_own_machine(*ip)) else { return Ok(false) };
        let here = network(ip.to_canonical());
        let sessions = self.store.sessions_of(user, None, self.rules.sessions_per_user_max).await?;
        Ok(sessions.iter().any(|one| one.ip_address.is_some_and(|ip| network(ip.to_canonical()) == here)))
    }

    /// Consumes a code and opens a session. Creates the account `G<group>-<number>` at the number's first login in the
    /// group. Every call counts as a guess before the code is compared.
    ///
    /// Cancellation: a started change completes, so a disconnected client may have consumed its code.
    ///
    /// # Errors
    ///
    /// See [`AuthenticateError`].
    pub async fn authenticate(
        &self,
        _by: ByCode,
        number: &PhoneNumber,
        code: &str,
        group: Group,
        client: ClientInfo,
    ) -> Result<LoggedIn, AuthenticateError> {
        let now = self.clock.now();
        let ip = client.ip;
        let event = |kind| AuditEvent::new(kind).ip(ip).subject(number);
        let guesser = self.guesser(ip);
        let mut draft = LoginDraft {
            number: number.e164().to_owned(),
            mac: self.otp.mac(Purpose::Login, number, code),
            guesser,
            group: group.number(),
            username: name_of_identity(group, number),
            create: self.rules.groups.may_create(group),
            now,
            session: self.session_draft(client, now).map_err(AuthenticateError::Randomness)?,
        };
        let mut outcome = self.store.login_with_challenge(draft.clone()).await?;
        // Read only when it decides: whether the account was used from here before.
        if outcome == LoginOutcome::Burned && self.knows(number, ip).await? {
            draft.guesser.known = true;
            outcome = self.store.login_with_challenge(draft).await?;
        }
        let (session, new_user) = match outcome {
            LoginOutcome::LoggedIn { session, new_user, ended, .. } => {
                self.give_way(session.user, ended, ip);
                if new_user {
                    self.index.changed(session.user);
                }
                (session, new_user)
            }
            LoginOutcome::UserInactive => {
                self.audit.record(event(AuditKind::OtpFailed).detail("the account is switched off"));
                return Err(AuthenticateError::UserInactive);
            }
            LoginOutcome::CreationRefused => {
                self.audit
                    .record(event(AuditKind::OtpFailed).detail("no account may be created in this group"));
                return Err(AuthenticateError::GroupClosed);
            }
            refused @ (LoginOutcome::Wrong { .. }
            | LoginOutcome::Burned
            | LoginOutcome::Expired
            | LoginOutcome::Missing) => {
                let (kind, detail) = match refused {
                    LoginOutcome::Wrong { attempts_left: 0 } => {
                        (AuditKind::OtpBurned, "the last guess of this address")
                    }
                    LoginOutcome::Wrong { .. } => (AuditKind::OtpFailed, "a wrong code"),
                    LoginOutcome::Burned => (AuditKind::OtpFailed, "the code was burned before"),
                    LoginOutcome::Expired => (AuditKind::OtpFailed, "the code has expired"),
                    _ => (AuditKind::OtpFailed, "no code is pending"),
                };
                self.audit.record(event(kind).detail(detail));
                return Err(AuthenticateError::WrongCode);
            }
        };
        let login = event(AuditKind::Login).user(session.user).session(session.id);
        self.audit.record(login.detail(if new_user { "by code, a new account" } else { "by code" }));
        self.agents.prepare(&session.user_agent);
        let TokenPair { access, refresh } =
            self.token_pair(&session, now).map_err(AuthenticateError::Randomness)?;
        Ok(LoggedIn { access, refresh, user_id: session.user, session_id: session.id, new_user })
    }
}
