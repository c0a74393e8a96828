//! Operators as other operators see them: roles, second factors, sessions.

use chelseru_store::{OperatorChange, OperatorRecord, StoreError};

use super::{Console, role};
use crate::Timestamp;
use crate::ids::UserId;
use crate::login::account::UserView;
use crate::operator::audit::{AuditEvent, AuditKind};
use crate::operator::role::{OperatorRead, OperatorReset, OperatorSetRole, Permit, Reason, Role, role_name};

/// An operator in the list.
#[derive(Debug, Clone)]
pub struct OperatorView {
    pub user: UserView,
    /// `None` for an account whose role was taken, or that is disabled.
    pub role: Option<Role>,
    /// The role comes from the rights of a superuser.
    pub by_rights: bool,
    pub factor_since: Option<Timestamp>,
    pub sessions: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    #[error("there is no such account")]
    NoAccount,
    /// An operator cannot take or lower the own role, so that one admin is left.
    #[error("nobody changes the own role")]
    Own,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Console {
    /// Accounts with an operator's record, by number. `rights` are the accounts with the rights of a superuser, which
    /// are operators with or without one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn operators(
        &self,
        _permit: &Permit<OperatorRead>,
        rights: Vec<UserView>,
    ) -> Result<Vec<OperatorView>, StoreError> {
        let mut records = self.store.operators().await?;
        for user in &rights {
            if !records.iter().any(|record| record.user == user.id) {
                records.push(OperatorRecord::new(user.id));
            }
        }
        records.sort_unstable_by_key(|record| record.user);
        let mut views = Vec::with_capacity(records.len());
        for record in records {
            let Some(user) = self.identity.user(record.user).await? else { continue };
            let sessions = self.store.console_sessions(user.id).await?;
            let now = self.clock.now();
            views.push(OperatorView {
                role: role(user.superuser, &record).filter(|_| user.active),
                by_rights: user.superuser,
                factor_since: record.factor.map(|factor| factor.since),
                sessions: sessions.iter().filter(|session| now < session.expires_at).count(),
                user,
            });
        }
        Ok(views)
    }

    /// Gives an account a role, changes it, or takes it. The console sessions of the account end.
    ///
    /// # Errors
    ///
    /// See [`RoleError`].
    pub async fn role_set(
        &self,
        permit: &Permit<OperatorSetRole>,
        user: UserId,
        role: Option<Role>,
        reason: &Reason,
    ) -> Result<(), RoleError> {
        if permit.operator().user() == Some(user) {
            return Err(RoleError::Own);
        }
        if self.store.user_get(user).await?.is_none() {
            return Err(RoleError::NoAccount);
        }
        let name = |role: Option<Role>| role.map_or("none", role_name);
        let before = self.store.operator_change(user, OperatorChange::Role(role)).await?;
        let before = name(before.and_then(|record| record.role));
        let event = AuditEvent::by(permit.operator(), AuditKind::OperatorRoleChanged).user(user);
        self.identity.audit().record(event.change(before, name(role)).reason(reason));
        Ok(())
    }

    /// Removes an operator's second factor and ends the console sessions. The operator then needs a link.
    ///
    /// # Errors
    ///
    /// See [`RoleError`].
    pub async fn factor_reset(
        &self,
        permit: &Permit<OperatorReset>,
        user: UserId,
        reason: &Reason,
    ) -> Result<(), RoleError> {
        let Some(record) = self.store.operator_get(user).await? else { return Err(RoleError::NoAccount) };
        self.store.operator_change(user, OperatorChange::Factor(None)).await?;
        let before = if record.factor.is_some() { "set" } else { "none" };
        let event = AuditEvent::by(permit.operator(), AuditKind::SecondFactorChanged).user(user);
        self.identity.audit().record(event.change(before, "none").reason(reason));
        Ok(())
    }
}
