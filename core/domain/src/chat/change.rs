//! What a request to a room changes: the pure rules between a request and the store.
//!
//! [`judge`] asks the permission matrix and turns a request into changes; [`event`] says what the other members see of
//! them. Neither reads a clock or the store, so the store may run them again.

use std::borrow::Cow;

use chelseru_store::chat::{
    FileId, Limit, Refusal, RoomChange, RoomChanged, RoomFacts, RoomKind, RoomStatus,
};

use super::rights::{Action, Denied, Rights, permit};
use super::{ChatError, ChatEvent, ChatRules, DESCRIPTIONS_CHARS_MAX, NAME_CHARS_MAX, Removal};
use crate::ids::UserId;
use crate::text::name_as_seen;

/// Changes of a room's properties; `None` keeps one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomEdit {
    pub name: Option<Option<String>>,
    pub descriptions: Option<Option<String>>,
    pub status: Option<RoomStatus>,
    pub avatar: Option<Option<FileId>>,
}

/// A request to change a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomRequest {
    Edit(RoomEdit),
    Add(UserId),
    /// Removes a member; the actor leaves. A pair's member who leaves stays one, and sees the room again with its next
    /// message.
    Remove(UserId),
    Ban(UserId),
    Unban(UserId),
    Grant(UserId, Rights),
    Revoke(UserId, Rights),
    Pin(bool),
    Read(u64),
    Delete,
}

impl RoomRequest {
    pub(super) fn target(&self) -> Option<UserId> {
        match self {
            RoomRequest::Add(user)
            | RoomRequest::Remove(user)
            | RoomRequest::Ban(user)
            | RoomRequest::Unban(user)
            | RoomRequest::Grant(user, _)
            | RoomRequest::Revoke(user, _) => Some(*user),
            RoomRequest::Edit(_) | RoomRequest::Pin(_) | RoomRequest::Read(_) | RoomRequest::Delete => None,
        }
    }
}

impl From<Refusal> for ChatError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied(denied) => ChatError::Denied(denied),
            Refusal::Full(Limit::RoomMembers) => ChatError::Full("members of a room"),
            Refusal::Full(Limit::RoomBans) => ChatError::Full("bans of a room"),
            Refusal::Full(Limit::UserRooms) => ChatError::Full("rooms of a user"),
        }
    }
}

/// An edit whose texts fit. The name loses characters that only change the direction of what is shown.
pub(super) fn checked_edit(mut edit: RoomEdit) -> Result<RoomEdit, ChatError> {
    for (field, text, max) in
        [("name", &edit.name, NAME_CHARS_MAX), ("descriptions", &edit.descriptions, DESCRIPTIONS_CHARS_MAX)]
    {
        let Some(Some(text)) = text else { continue };
        if text.chars().count() > max {
            let reason = format!("Ensure this field has no more than {max} characters.");
            return Err(ChatError::Invalid { field, reason });
        }
        if text.contains('\0') {
            return Err(ChatError::Invalid { field, reason: "Null characters are not allowed.".to_owned() });
        }
    }
    if let Some(Some(name)) = &mut edit.name
        && let Cow::Owned(plain) = name_as_seen(name)
    {
        *name = plain;
    }
    Ok(edit)
}

/// The changes of a request, if the matrix permits it.
pub(super) fn judge(
    request: &RoomRequest,
    actor: UserId,
    facts: &RoomFacts,
    rules: &ChatRules,
) -> Result<Vec<RoomChange>, Refusal> {
    let target_rights = facts.target.map_or(Rights::NONE, |target| Rights::from_bits(target.rights));
    Ok(match request {
        RoomRequest::Edit(edit) => {
            permit(Action::See, facts)?;
            judge_edit(edit, facts)?
        }
        RoomRequest::Add(_) => {
            permit(Action::Add, facts)?;
            if facts.target.is_some() {
                return Ok(Vec::new());
            }
            if facts.room.members >= rules.members_max {
                return Err(Refusal::Full(Limit::RoomMembers));
            }
            if facts.target_rooms >= rules.rooms_per_user_max {
                return Err(Refusal::Full(Limit::UserRooms));
            }
            vec![RoomChange::Member { rights: Rights::member().bits() }]
        }
        RoomRequest::Remove(user) if *user == actor && facts.room.kind == RoomKind::Pair => {
            permit(Action::Leave, facts)?;
            vec![RoomChange::Hide]
        }
        RoomRequest::Remove(user) => {
            permit(if *user == actor { Action::Leave } else { Action::Kick }, facts)?;
            vec![RoomChange::Remove]
        }
        RoomRequest::Ban(_) => {
            permit(Action::Ban, facts)?;
            if !facts.target_banned && facts.room.bans >= rules.bans_max {
                return Err(Refusal::Full(Limit::RoomBans));
            }
            vec![RoomChange::Ban]
        }
        RoomRequest::Unban(_) => {
            permit(Action::Unban, facts)?;
            vec![RoomChange::Unban]
        }
        RoomRequest::Grant(_, granted) => {
            permit(Action::Grant(*granted), facts)?;
            vec![RoomChange::Member { rights: target_rights.and(*granted).bits() }]
        }
        RoomRequest::Revoke(_, revoked) => {
            permit(Action::Revoke(*revoked), facts)?;
            vec![RoomChange::Member { rights: target_rights.without(*revoked).bits() }]
        }
        RoomRequest::Pin(pinned) => {
            permit(Action::See, facts)?;
            vec![RoomChange::Pin(*pinned)]
        }
        RoomRequest::Read(seq) => {
            permit(Action::See, facts)?;
            vec![RoomChange::Read(*seq)]
        }
        RoomRequest::Delete => {
            permit(Action::DeleteRoom, facts)?;
            vec![RoomChange::Delete]
        }
    })
}

/// An unchanged value needs no right.
fn judge_edit(edit: &RoomEdit, facts: &RoomFacts) -> Result<Vec<RoomChange>, Denied> {
    let room = &facts.room;
    let mut changes = Vec::new();
    if let Some(name) = edit.name.as_ref().filter(|name| **name != room.name) {
        permit(Action::Rename, facts)?;
        changes.push(RoomChange::Name(name.clone()));
    }
    if let Some(text) = edit.descriptions.as_ref().filter(|text| **text != room.descriptions) {
        permit(Action::Rename, facts)?;
        changes.push(RoomChange::Descriptions(text.clone()));
    }
    if let Some(avatar) = edit.avatar.filter(|avatar| *avatar != room.avatar) {
        permit(Action::Avatar, facts)?;
        changes.push(RoomChange::Avatar(avatar));
    }
    if let Some(status) = edit.status.filter(|status| *status != room.status) {
        let action = match status {
            RoomStatus::Open => Action::Reopen,
            RoomStatus::Closed => Action::Close,
            RoomStatus::Hold => Action::Hold,
        };
        permit(action, facts)?;
        // From closed to on hold is an opening too.
        if room.status == RoomStatus::Closed {
            permit(Action::Reopen, facts)?;
        }
        changes.push(RoomChange::Status(status));
    }
    Ok(changes)
}

/// The event that other members see.
pub(super) fn event(request: &RoomRequest, actor: UserId, changed: &RoomChanged) -> Option<ChatEvent> {
    if changed.changes.is_empty() {
        return None;
    }
    let room = changed.room.clone();
    Some(match request {
        RoomRequest::Edit(_) => ChatEvent::Updated { room, by: actor },
        RoomRequest::Add(user) => ChatEvent::Joined { room, user: *user },
        RoomRequest::Remove(user) if changed.changes.contains(&RoomChange::Hide) => {
            ChatEvent::Hidden { user: *user }
        }
        RoomRequest::Remove(user) => {
            let why = if *user == actor { Removal::Left } else { Removal::Kicked };
            ChatEvent::Removed { user: *user, why }
        }
        RoomRequest::Ban(user) => ChatEvent::Removed { user: *user, why: Removal::Banned },
        RoomRequest::Unban(_) | RoomRequest::Pin(_) => return None,
        RoomRequest::Grant(user, _) | RoomRequest::Revoke(user, _) => {
            let rights = changed.changes.iter().find_map(|change| match change {
                RoomChange::Member { rights } => Some(Rights::from_bits(*rights)),
                _ => None,
            });
            ChatEvent::Rights { user: *user, rights: rights? }
        }
        RoomRequest::Read(seq) => {
            // An unmoved marker is no event. A marker past the end stands at the end.
            let member = changed.actor?;
            (*seq >= member.read_seq).then_some(ChatEvent::Read { user: actor, seq: member.read_seq })?
        }
        RoomRequest::Delete => ChatEvent::Deleted { former: changed.former.clone() },
    })
}
