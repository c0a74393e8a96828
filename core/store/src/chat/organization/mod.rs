//! Organisations: owners of group rooms, owned by a user.
//!
//! Invariants: a unique name belongs to one organisation; an organisation with rooms is not removed.

pub(crate) mod postgres;
pub(crate) mod sled;

use crate::chat::{Organization, OrganizationId};
use crate::engine::{Engine, boxed, on_engine};
use crate::{Store, StoreError, Timestamp, UserId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrganizationMade {
    New(Organization),
    NameTaken,
    TooMany,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrganizationChanged {
    Changed(Organization),
    /// The user owns no organisation with this number.
    Missing,
    NameTaken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrganizationRemoved {
    Removed,
    /// The user owns no organisation with this number.
    Missing,
    /// It still has this many rooms.
    HasRooms(usize),
}

impl Store {
    /// Creates an organisation.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn chat_organization_create(
        &self,
        owner: UserId,
        name: String,
        uname: String,
        per_user_max: usize,
        now: Timestamp,
    ) -> Result<OrganizationMade, StoreError> {
        on_engine!(self, chat_organization_create(owner, name, uname, per_user_max, now).await)
    }

    /// Renames a user's organisation; `None` leaves a name unchanged.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn chat_organization_update(
        &self,
        owner: UserId,
        id: OrganizationId,
        name: Option<String>,
        uname: Option<String>,
    ) -> Result<OrganizationChanged, StoreError> {
        on_engine!(self, chat_organization_update(owner, id, name, uname).await)
    }

    /// Removes a user's organisation, unless it has rooms. Its unique name becomes free.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn chat_organization_remove(
        &self,
        owner: UserId,
        id: OrganizationId,
    ) -> Result<OrganizationRemoved, StoreError> {
        on_engine!(self, chat_organization_remove(owner, id).await)
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_organization(&self, id: OrganizationId) -> Result<Option<Organization>, StoreError> {
        on_engine!(self, read chat_organization(id))
    }

    /// Organisations with numbers below `before`, newest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_organizations_before(
        &self,
        before: Option<OrganizationId>,
        limit: usize,
    ) -> Result<Vec<Organization>, StoreError> {
        on_engine!(self, read chat_organizations_before(before, limit))
    }

    /// The organisations a user owns, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_organizations_of(
        &self,
        owner: UserId,
        limit: usize,
    ) -> Result<Vec<Organization>, StoreError> {
        on_engine!(self, read chat_organizations_of(owner, limit))
    }
}
