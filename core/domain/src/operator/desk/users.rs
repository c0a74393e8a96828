//! Users, their sessions, and why a user got no code.

use std::sync::Arc;
use std::time::Duration;

use chelseru_store::{Rights, SmsFilter, SmsOrder, SmsRange, SmsRecord, StoreError};

use super::Desk;
use crate::ids::{SessionId, UserId};
use crate::login::account::UserView;
use crate::login::identity::{
    EraseError, MadeResetToken, RESET_TOKEN_HOURS, ResetTokenError, SessionView, UserActError, UsersFound,
};
use crate::login::user_index::UserQuery;
use crate::operator::audit::{AuditEvent, AuditKind};
use crate::operator::role::{
    CapLift, Permit, Reason, ResetLinkMake, SessionEnd, UserCopy, UserErase, UserExport, UserRead,
    UserSetActive, UserSetRights,
};
use crate::sms::shield::Standing;
use crate::{PhoneNumber, Timestamp};

/// Users of one exported file.
const EXPORT_MAX: usize = 10_000;
/// Messages shown with a user, and records looked at for them.
const MESSAGES_MAX: usize = 10;
const MESSAGES_LOOKED_MAX: usize = 2000;

/// A part of an export.
pub struct UserFile {
    pub users: Vec<UserView>,
    /// The next part has users with smaller numbers.
    pub next: Option<UserId>,
}

/// Why the next code to a number waits.
#[derive(Debug, Clone, Copy)]
pub struct CodeStanding {
    pub caps: Standing,
    /// A code is pending; another one is sent from this instant on.
    pub pending_until: Option<Timestamp>,
}

impl Desk {
    /// The users that fit a query, newest first.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn users(
        &self,
        permit: &Permit<UserRead>,
        query: &UserQuery,
        before: Option<UserId>,
        limit: usize,
    ) -> Result<UsersFound, StoreError> {
        self.services.identity.users_find(permit, query, before, limit).await
    }

    /// Prepares the first search of users while an operator looks at something else.
    pub fn users_soon(&self, permit: Permit<UserRead>) {
        let identity = Arc::clone(&self.services.identity);
        drop(self.services.detached.spawn(async move {
            if let Err(error) = identity.users_find_soon(&permit).await {
                tracing::warn!(error = %error, "the search of users could not be prepared");
            }
        }));
    }

    /// The same, to take away: in the audit log.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn users_export(
        &self,
        permit: &Permit<UserExport>,
        read: &Permit<UserRead>,
        query: &UserQuery,
        before: Option<UserId>,
    ) -> Result<UserFile, StoreError> {
        let UsersFound { users, next, .. } =
            self.services.identity.users_find(read, query, before, EXPORT_MAX).await?;
        let event = AuditEvent::by(permit.operator(), AuditKind::ListExported).subject("users");
        self.audit().record(event.change("", users.len()));
        Ok(UserFile { users, next })
    }

    /// One user.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn user(&self, _permit: &Permit<UserRead>, id: UserId) -> Result<Option<UserView>, StoreError> {
        self.services.identity.user(id).await
    }

    /// The user of a number, a name or an account number.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn user_named(
        &self,
        _permit: &Permit<UserRead>,
        text: &str,
    ) -> Result<Option<UserView>, StoreError> {
        self.services.identity.user_find(text).await
    }

    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn user_sessions(
        &self,
        permit: &Permit<UserRead>,
        id: UserId,
    ) -> Result<Vec<SessionView>, StoreError> {
        self.services.identity.user_sessions(permit, id).await
    }

    /// The newest messages to a user's number, with each try: why no code came.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn user_messages(
        &self,
        _permit: &Permit<UserRead>,
        user: &UserView,
    ) -> Result<Vec<SmsRecord>, StoreError> {
        let Ok(number) = PhoneNumber::parse(&user.mobile_number) else { return Ok(Vec::new()) };
        let filter = SmsFilter { number: Some(number.e164().to_owned()), ..SmsFilter::default() };
        let all = SmsRange { from: 0, to: u64::MAX, order: SmsOrder::NewestFirst };
        let page = self.services.sms.queue().page(&filter, all, MESSAGES_MAX, MESSAGES_LOOKED_MAX).await?;
        Ok(page.messages)
    }

    /// Why the next code to a user waits; `None` for a user without a number.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn user_codes(
        &self,
        _permit: &Permit<UserRead>,
        user: &UserView,
    ) -> Result<Option<CodeStanding>, StoreError> {
        let Ok(number) = PhoneNumber::parse(&user.mobile_number) else { return Ok(None) };
        let now = self.services.clock.now();
        let pending_until = self.services.identity.code_pending_until(&number).await?;
        let caps = self.services.shield.standing(&self.services.shield_rules, &number, now);
        Ok(Some(CodeStanding { caps, pending_until }))
    }

    /// Forgets the codes that count against a user's number, and a pending code. Returns false when there was neither.
    ///
    /// # Errors
    ///
    /// See [`UserActError`].
    pub async fn cap_lift(
        &self,
        permit: &Permit<CapLift>,
        user: &UserView,
        reason: &Reason,
    ) -> Result<bool, UserActError> {
        let Ok(number) = PhoneNumber::parse(&user.mobile_number) else { return Ok(false) };
        let was_pending = self.services.identity.code_forget(&number).await?;
        let counted = self.services.shield.lift(&number);
        let lifted = counted || was_pending;
        if lifted {
            let before = match (counted, was_pending) {
                (true, true) => "codes counted, one pending",
                (true, false) => "codes counted",
                (false, _) => "one pending",
            };
            let event = AuditEvent::by(permit.operator(), AuditKind::CapLifted).user(user.id);
            self.audit().record(event.subject(&number).change(before, "none").reason(reason));
        }
        Ok(lifted)
    }

    /// Erases an account without rights. Its traces follow.
    ///
    /// # Errors
    ///
    /// See [`EraseError`].
    pub async fn user_erase(
        &self,
        permit: &Permit<UserErase>,
        id: UserId,
        forfeit: bool,
        reason: &Reason,
    ) -> Result<(), EraseError> {
        self.services.identity.erase_by_operator(permit, id, forfeit, reason).await
    }

    /// Records that an operator took a copy of everything of a user.
    pub fn user_copied(&self, permit: &Permit<UserCopy>, id: UserId, reason: &Reason) {
        let event = AuditEvent::by(permit.operator(), AuditKind::UserExported).user(id);
        self.audit().record(event.reason(reason));
    }

    /// # Errors
    ///
    /// See [`UserActError`].
    pub async fn user_set_active(
        &self,
        permit: &Permit<UserSetActive>,
        id: UserId,
        active: bool,
        reason: &Reason,
    ) -> Result<UserView, UserActError> {
        self.services.identity.user_set_active(permit, id, active, reason).await
    }

    /// # Errors
    ///
    /// See [`UserActError`].
    pub async fn user_set_rights(
        &self,
        permit: &Permit<UserSetRights>,
        id: UserId,
        rights: Rights,
        reason: &Reason,
    ) -> Result<UserView, UserActError> {
        self.services.identity.user_set_rights(permit, id, rights, reason).await
    }

    /// Ends one session of a user, or all. Returns their number.
    ///
    /// # Errors
    ///
    /// See [`UserActError`].
    pub async fn user_sessions_end(
        &self,
        permit: &Permit<SessionEnd>,
        id: UserId,
        session: Option<SessionId>,
        reason: &Reason,
    ) -> Result<usize, UserActError> {
        self.services.identity.user_sessions_end(permit, id, session, reason).await
    }

    /// The token with which a user sets a new password once.
    ///
    /// # Errors
    ///
    /// See [`ResetTokenError`].
    pub async fn reset_token_make(
        &self,
        permit: &Permit<ResetLinkMake>,
        id: UserId,
        reason: &Reason,
    ) -> Result<MadeResetToken, ResetTokenError> {
        let ttl = Duration::from_secs(RESET_TOKEN_HOURS.default * 60 * 60);
        self.services.identity.reset_token_make(permit, id, ttl, reason).await
    }
}
