//! Organizations: named groups of rooms that one user owns.
//!
//! The owner is a member of each of its rooms, so listing an organization's rooms needs no right of its own.

use chelseru_store::chat::{
    Organization, OrganizationChanged, OrganizationId, OrganizationMade, OrganizationRemoved, RoomSummary,
};

use super::ChatError;
use super::service::ChatService;
use crate::ids::UserId;
use crate::text::name_as_seen;

impl ChatService {
    /// # Errors
    ///
    /// [`ChatError::Full`], [`ChatError::Invalid`], [`ChatError::Store`].
    pub async fn organization_create(
        &self,
        owner: UserId,
        name: String,
        uname: String,
    ) -> Result<Organization, ChatError> {
        let max = self.rules().organizations_per_user_max;
        let name = name_as_seen(&name).into_owned();
        match self.store.chat_organization_create(owner, name, uname, max, self.clock.now()).await? {
            OrganizationMade::New(organization) => Ok(organization),
            OrganizationMade::NameTaken => Err(uname_taken()),
            OrganizationMade::TooMany => Err(ChatError::Full("organizations of a user")),
        }
    }

    /// Renames a user's organization. `None` keeps a name.
    ///
    /// # Errors
    ///
    /// [`ChatError::OrganizationMissing`], [`ChatError::Invalid`], [`ChatError::Store`].
    pub async fn organization_update(
        &self,
        owner: UserId,
        id: OrganizationId,
        name: Option<String>,
        uname: Option<String>,
    ) -> Result<Organization, ChatError> {
        let name = name.map(|name| name_as_seen(&name).into_owned());
        match self.store.chat_organization_update(owner, id, name, uname).await? {
            OrganizationChanged::Changed(organization) => Ok(organization),
            OrganizationChanged::Missing => Err(ChatError::OrganizationMissing),
            OrganizationChanged::NameTaken => Err(uname_taken()),
        }
    }

    /// Removes a user's organization without rooms.
    ///
    /// # Errors
    ///
    /// [`ChatError::OrganizationMissing`], [`ChatError::OrganizationHasRooms`], [`ChatError::Store`].
    pub async fn organization_remove(&self, owner: UserId, id: OrganizationId) -> Result<(), ChatError> {
        match self.store.chat_organization_remove(owner, id).await? {
            OrganizationRemoved::Removed => Ok(()),
            OrganizationRemoved::Missing => Err(ChatError::OrganizationMissing),
            OrganizationRemoved::HasRooms(rooms) => Err(ChatError::OrganizationHasRooms(rooms)),
        }
    }

    /// The rooms of an organization that a user is in, latest change first. Its owner is in all of them.
    ///
    /// # Errors
    ///
    /// [`ChatError::OrganizationMissing`] when the user cannot know of it, [`ChatError::Store`].
    pub async fn organization_rooms(
        &self,
        user: UserId,
        id: OrganizationId,
    ) -> Result<Vec<RoomSummary>, ChatError> {
        let mut rooms = self.rooms(user).await?;
        rooms.retain(|summary| summary.room.organization == Some(id));
        if rooms.is_empty() && self.organization(id).await?.is_none_or(|found| found.owner != user) {
            return Err(ChatError::OrganizationMissing);
        }
        Ok(rooms)
    }

    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn organization(&self, id: OrganizationId) -> Result<Option<Organization>, ChatError> {
        Ok(self.store.chat_organization(id).await?)
    }

    /// Organisations for operators: with numbers below `before`, newest first.
    pub(crate) async fn organizations_before(
        &self,
        before: Option<OrganizationId>,
        limit: usize,
    ) -> Result<Vec<Organization>, ChatError> {
        Ok(self.store.chat_organizations_before(before, limit).await?)
    }

    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn organizations(&self, owner: UserId) -> Result<Vec<Organization>, ChatError> {
        Ok(self.store.chat_organizations_of(owner, self.rules().organizations_per_user_max).await?)
    }
}

/// Characters of an organization's name, and of its unique name.
const NAME_CHARS_MAX: usize = 100;
const UNAME_CHARS_MAX: usize = 45;

/// A name, and a unique name in lower case.
///
/// # Errors
///
/// [`ChatError::Invalid`] names the wrong one.
pub(crate) fn named(name: &str, uname: &str) -> Result<(String, String), ChatError> {
    let (name, uname) = (name.trim(), uname.trim());
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
        let reason = format!("A name has 1 to {NAME_CHARS_MAX} characters.");
        return Err(ChatError::Invalid { field: "name", reason });
    }
    let plain = uname.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if uname.is_empty() || uname.len() > UNAME_CHARS_MAX || !plain {
        let reason = format!("A unique name has 1 to {UNAME_CHARS_MAX} ASCII letters, digits and _ - .");
        return Err(ChatError::Invalid { field: "uname", reason });
    }
    Ok((name.to_owned(), uname.to_ascii_lowercase()))
}

fn uname_taken() -> ChatError {
    let reason = "organization with this uname already exists.".to_owned();
    ChatError::Invalid { field: "uname", reason }
}
