//! Users: their own view and changes, and the operators' actions.

use chelseru_store::{StoreError, User, UserChange};

use super::{Caller, Identity, SessionsEnded};
use crate::PhoneNumber;
use crate::ids::UserId;
use crate::login::account::{Rights, UserView, identity_of_name, look_alike};
use crate::operator::audit::{AuditEvent, AuditKind};
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
            return self.store.user_by_look(&look_alike(name)).await;
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
            let step = self.store.looks_enter(look_alike, LOOKS_STEP).await?;
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

    /// Activates or deactivates an account. Deactivating ends its sessions at once. False when there is none.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn user_set_active(&self, id: UserId, active: bool) -> Result<bool, StoreError> {
        let known = self.store.user_set_active(id, active).await?;
        if known {
            let kind = if active { AuditKind::UserEnabled } else { AuditKind::UserDisabled };
            self.audit.record(AuditEvent::new(kind).user(id));
        }
        if known && !active {
            // There may be no subscriber.
            let _ = self.ended.send(SessionsEnded::All(id));
        }
        Ok(known)
    }

    /// Sets an account's rights. For operators only. Returns the account, or `None` when there is none.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn user_set_rights(&self, id: UserId, rights: Rights) -> Result<Option<UserView>, StoreError> {
        let Some(user) = self.store.user_set_rights(id, rights).await? else { return Ok(None) };
        let event = AuditEvent::new(AuditKind::UserRightsChanged).user(id);
        self.audit.record(event.detail(rights.as_str()));
        self.user_view(Some(user)).await
    }

    pub(super) async fn user_view(&self, user: Option<User>) -> Result<Option<UserView>, StoreError> {
        let Some(user) = user else { return Ok(None) };
        let has_password = self.store.password_of(user.id).await?.is_some();
        Ok(Some(UserView::new(user, has_password)))
    }
}
