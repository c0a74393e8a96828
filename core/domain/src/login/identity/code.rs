//! Login by code: consumes the code and opens a session in one durable change.

use chelseru_store::{LoginDraft, LoginOutcome, StoreError};

use super::{ClientInfo, Identity, LoggedIn, TokenPair};
use crate::PhoneNumber;
use crate::login::account::name_of_identity;
use crate::login::group::Group;
use crate::login::otp::Purpose;
use crate::operator::audit::{AuditEvent, AuditKind};

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
        number: &PhoneNumber,
        code: &str,
        group: Group,
        client: ClientInfo,
    ) -> Result<LoggedIn, AuthenticateError> {
        let now = self.clock.now();
        let ip = client.ip;
        let event = |kind| AuditEvent::new(kind).ip(ip).subject(number);
        let draft = LoginDraft {
            number: number.e164().to_owned(),
            mac: self.otp.mac(Purpose::Login, number, code),
            group: group.number(),
            username: name_of_identity(group, number),
            create: self.rules.groups.may_create(group),
            now,
            session: self.session_draft(client, now).map_err(AuthenticateError::Randomness)?,
        };
        let (session, new_user) = match self.store.login_with_challenge(draft).await? {
            LoginOutcome::LoggedIn { session, new_user, ended, .. } => {
                self.give_way(session.user, ended, ip);
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
                    LoginOutcome::Wrong { attempts_left: 0 } => (AuditKind::OtpBurned, "the last guess"),
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
