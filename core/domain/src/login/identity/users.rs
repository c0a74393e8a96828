//! Users: their own view and changes, and the operators' actions.

use chelseru_store::{Session, StoreError, User, UserChange};

use super::{Caller, Identity, SessionView, SessionsEnded};
use crate::PhoneNumber;
use crate::ids::{SessionId, UserId};
use crate::login::account::{Rights, UserView, identity_of_name, key_by_look};
use crate::operator::audit::{AuditEvent, AuditKind};
use crate::operator::role::{
    Operator, Permit, Reason, Role, SessionEnd, UserRead, UserSetActive, UserSetRights,
};
use crate::text::name_as_seen;

/// Users in one page of a list.
pub const USERS_PAGE_MAX: usize = 200;

/// Accounts in one step of [`Identity::looks_enter`].
const LOOKS_STEP: usize = 2000;

/// What a caller wants to do as staff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    Any,
    /// Capturing, voiding and refunding, which the configuration can allow to more users.
    Money,
}

/// Why an operator's act on an account is refused.
#[derive(Debug, thiserror::Error)]
pub enum UserActError {
    #[error("there is no such account")]
    NoAccount,
    /// The account has rights or a role; only an admin acts on it.
    #[error("only an admin may act on an account with rights")]
    Protected,
    /// Nobody changes the own rights, so that one admin is left.
    #[error("nobody changes the own rights")]
    Own,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Identity {
    /// The caller's account; `None` after its removal.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn me(&self, caller: &Caller) -> Result<Option<UserView>, StoreError> {
        self.user(caller.user_id).await
    }

    /// Changes the caller's names and mail address. The edge has checked the texts. Names lose characters that only
    /// change the direction of what is shown.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn me_update(
        &self,
        caller: &Caller,
        change: UserChange,
    ) -> Result<Option<UserView>, StoreError> {
        let plain = |name: Option<String>| name.map(|name| name_as_seen(&name).into_owned());
        let UserChange { first_name, last_name, email } = change;
        let change = UserChange { first_name: plain(first_name), last_name: plain(last_name), email };
        let user = self.store.user_update(caller.user_id, change).await?;
        self.index.changed(caller.user_id);
        self.user_view(user).await
    }

    /// An account by its id.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn user(&self, id: UserId) -> Result<Option<UserView>, StoreError> {
        let user = self.store.user_get(id).await?;
        self.user_view(user).await
    }

    /// An account by user name, otherwise by phone number (in group 0), otherwise by id.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn user_find(&self, text: &str) -> Result<Option<UserView>, StoreError> {
        let mut found = self.user_named(text).await?;
        if let (None, Ok(number)) = (&found, PhoneNumber::parse(text)) {
            found = self.store.user_by_identity(0, number.e164()).await?;
        }
        if let (None, Ok(id)) = (&found, text.parse()) {
            found = self.store.user_get(UserId(id)).await?;
        }
        self.user_view(found).await
    }

    /// The account with a user name, otherwise the one whose name looks like it. The name of a login by code tells its
    /// number and group, so the store has no second entry for it.
    pub(super) async fn user_named(&self, name: &str) -> Result<Option<User>, StoreError> {
        if let Some(user) = self.store.user_by_name(name).await? {
            return Ok(Some(user));
        }
        let Some((group, number)) = identity_of_name(name) else {
            return self.store.user_by_look(&key_by_look(name)).await;
        };
        let found = self.store.user_by_identity(group.number(), number.e164()).await?;
        Ok(found.filter(|user| user.username == name))
    }

    /// Enters the looks of names that an older version registered. Run once at start, before anybody logs in.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn looks_enter(&self) -> Result<(), StoreError> {
        loop {
            let step = self.store.looks_enter(key_by_look, LOOKS_STEP).await?;
            for (user, older) in &step.alike {
                tracing::warn!(
                    user.id = user.0,
                    older = older.0,
                    "a user name looks like that of an older account; both stay usable as they are written"
                );
            }
            if step.read == 0 {
                return Ok(());
            }
        }
    }

    /// Returns true for staff: an active account with staff or superuser rights, or, for money, one that
    /// `payment.staff_users` lists. Reads the account each time, so a withdrawn right ends at once.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn is_staff(&self, id: UserId, area: Area) -> Result<bool, StoreError> {
        let listed = area == Area::Money && self.rules.money_staff.contains(&id);
        let user = self.store.user_get(id).await?;
        Ok(user.is_some_and(|user| user.active && (listed || user.staff || user.superuser)))
    }

    /// At most [`USERS_PAGE_MAX`] accounts with ids above `after`, by id.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn users(&self, after: Option<UserId>) -> Result<Vec<UserView>, StoreError> {
        let users = self.store.users_list(after, USERS_PAGE_MAX).await?;
        let mut views = Vec::with_capacity(users.len());
        for user in users {
            views.extend(self.user_view(Some(user)).await?);
        }
        Ok(views)
    }

    /// Activates or deactivates an account. Deactivating ends its sessions at once. Returns the account.
    ///
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
        let user = self.acted_on(permit.operator(), id).await?;
        if !self.store.user_set_active(id, active).await? {
            return Err(UserActError::NoAccount);
        }
        self.index.changed(id);
        let kind = if active { AuditKind::UserEnabled } else { AuditKind::UserDisabled };
        let name = |active| if active { "active" } else { "disabled" };
        let event = AuditEvent::by(permit.operator(), kind).user(id);
        self.audit.record(event.change(name(user.active), name(active)).reason(reason));
        if !active {
            // There may be no subscriber.
            let _ = self.ended.send(SessionsEnded::All(id));
        }
        Ok(UserView { active, ..user })
    }

    /// Sets an account's rights. Returns the account.
    ///
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
        if permit.operator().user() == Some(id) {
            return Err(UserActError::Own);
        }
        let before = self.acted_on(permit.operator(), id).await?.rights();
        let user = self.store.user_set_rights(id, rights).await?;
        self.index.changed(id);
        let event = AuditEvent::by(permit.operator(), AuditKind::UserRightsChanged).user(id);
        self.audit.record(event.change(before.as_str(), rights.as_str()).reason(reason));
        self.user_view(user).await?.ok_or(UserActError::NoAccount)
    }

    /// The sessions of a user, newest first.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn user_sessions(
        &self,
        _permit: &Permit<UserRead>,
        id: UserId,
    ) -> Result<Vec<SessionView>, StoreError> {
        // No session has this number, so none is shown as the reader's own.
        let caller = Caller { user_id: id, session_id: SessionId(0) };
        self.sessions(&caller).await
    }

    /// Sessions of all users below a place, those of the newest user first, expired ones included.
    pub(crate) async fn sessions_before(
        &self,
        _permit: &Permit<UserRead>,
        before: Option<(UserId, SessionId)>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        self.store.sessions_before(before, limit).await
    }

    /// A session as an operator sees it.
    pub(crate) async fn session_shown(&self, session: Session) -> SessionView {
        // No session has this number, so none is shown as the reader's own.
        let caller = Caller { user_id: session.user, session_id: SessionId(0) };
        self.view(session, &caller).await
    }

    /// Ends one session of a user, or all when `session` is `None`. Returns their number.
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
        self.acted_on(permit.operator(), id).await?;
        let ended = match session {
            Some(session) if self.store.session_revoke(id, session).await? => vec![session],
            Some(_) => Vec::new(),
            None => self.store.sessions_revoke_all(id, None).await?,
        };
        let count = ended.len();
        let event = AuditEvent::by(permit.operator(), AuditKind::SessionRevoked).user(id);
        let event = match session {
            Some(session) => event.session(session),
            None => event,
        };
        self.audit.record(event.change(count, 0).reason(reason));
        self.announce_ended(id, ended);
        Ok(count)
    }

    /// The account, when the operator may act on it: accounts with rights or a role are for admins only.
    pub(super) async fn acted_on(&self, operator: &Operator, id: UserId) -> Result<UserView, UserActError> {
        let user = self.user(id).await?.ok_or(UserActError::NoAccount)?;
        let role = self.store.operator_get(id).await?.and_then(|record| record.role);
        let is_protected = user.staff || user.superuser || role.is_some();
        match is_protected && operator.role() != Role::Admin {
            true => Err(UserActError::Protected),
            false => Ok(user),
        }
    }

    pub(super) async fn user_view(&self, user: Option<User>) -> Result<Option<UserView>, StoreError> {
        let Some(user) = user else { return Ok(None) };
        let has_password = self.store.password_of(user.id).await?.is_some();
        Ok(Some(UserView::new(user, has_password)))
    }
}
