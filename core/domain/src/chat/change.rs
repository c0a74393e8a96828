//! What a request to a room changes: the pure rules between a request and the store.
//!
//! [`judge`] asks the permission matrix and turns a request into changes; [`event`] says what the other members see of
//! them. Neither reads a clock or the store, so the store may run them again.

use std::borrow::Cow;
use std::sync::Arc;

use chelseru_store::chat::{
    Acquaintance, Additions, FileId, Limit, Refusal, RoomChange, RoomChanged, RoomFacts, RoomKind,
    RoomStatus, StoredFile,
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
    /// Asks the other user of a pair who is no member any more.
    Ask(UserId),
    Accept,
    Decline,
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
    /// The target, which for a declined group is the actor.
    pub(super) fn target(&self, actor: UserId) -> Option<UserId> {
        match self {
            RoomRequest::Add(user)
            | RoomRequest::Ask(user)
            | RoomRequest::Remove(user)
            | RoomRequest::Ban(user)
            | RoomRequest::Unban(user)
            | RoomRequest::Grant(user, _)
            | RoomRequest::Revoke(user, _) => Some(*user),
            RoomRequest::Edit(_)
            | RoomRequest::Accept
            | RoomRequest::Pin(_)
            | RoomRequest::Read(_)
            | RoomRequest::Delete => None,
            RoomRequest::Decline => Some(actor),
        }
    }

    /// Bytes with which the request counts as a message of the actor; `None` for what concerns the actor alone, or
    /// only takes the actor away: nobody may be kept in a room for having sent too much.
    pub(super) fn counted_bytes(&self, actor: UserId) -> Option<usize> {
        match self {
            RoomRequest::Edit(RoomEdit { name, descriptions, .. }) => {
                let texts = [name, descriptions].into_iter().flatten().flatten();
                Some(texts.map(String::len).sum())
            }
            RoomRequest::Remove(user) => (*user != actor).then_some(0),
            RoomRequest::Add(_)
            | RoomRequest::Ask(_)
            | RoomRequest::Ban(_)
            | RoomRequest::Unban(_)
            | RoomRequest::Grant(..)
            | RoomRequest::Revoke(..)
            | RoomRequest::Delete => Some(0),
            RoomRequest::Accept | RoomRequest::Decline | RoomRequest::Pin(_) | RoomRequest::Read(_) => None,
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
            Refusal::Full(Limit::Requests) => ChatError::Full("requests of one user that wait for another"),
            Refusal::Full(Limit::RequestsOfHour) => ChatError::Full("requests of one user in an hour"),
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
    additions: Additions,
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
            vec![addition(Rights::member(), facts, rules, additions)?]
        }
        RoomRequest::Ask(_) | RoomRequest::Accept | RoomRequest::Decline => {
            judge_asking(request, facts, rules, additions)?
        }
        RoomRequest::Remove(user) if *user == actor && facts.actor.is_some_and(|actor| actor.pending) => {
            permit(Action::Leave, facts)?;
            decline(facts)
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
            rights_if_changed(target_rights, target_rights.and(*granted))
        }
        RoomRequest::Revoke(_, revoked) => {
            permit(Action::Revoke(*revoked), facts)?;
            rights_if_changed(target_rights, target_rights.without(*revoked))
        }
        RoomRequest::Pin(pinned) => {
            permit(Action::Attend, facts)?;
            let unchanged = facts.actor.is_some_and(|actor| actor.pinned == *pinned);
            if unchanged { Vec::new() } else { vec![RoomChange::Pin(*pinned)] }
        }
        RoomRequest::Read(seq) => {
            permit(Action::Attend, facts)?;
            let read = facts.actor.is_some_and(|actor| *seq <= actor.read_seq);
            if read { Vec::new() } else { vec![RoomChange::Read(*seq)] }
        }
        RoomRequest::Delete => {
            permit(Action::DeleteRoom, facts)?;
            vec![RoomChange::Delete]
        }
    })
}

/// The changes of an operator's request. An operator is no member and needs no right in the room, but keeps its shape:
/// a pair keeps its two users, and a room its owner.
pub(super) fn decree(
    request: &RoomRequest,
    facts: &RoomFacts,
    rules: &ChatRules,
) -> Result<Vec<RoomChange>, Refusal> {
    let of_a_group = || match facts.room.kind {
        RoomKind::Pair => Err(Refusal::from(Denied::PairRoom)),
        RoomKind::Group => Ok(()),
    };
    let not_the_owner = |user: UserId| match user == facts.room.owner {
        true => Err(Refusal::from(Denied::OwnerProtected)),
        false => Ok(()),
    };
    Ok(match request {
        RoomRequest::Edit(RoomEdit { status: Some(status), .. }) if *status != facts.room.status => {
            vec![RoomChange::Status(*status)]
        }
        RoomRequest::Edit(_) => Vec::new(),
        RoomRequest::Remove(user) => {
            of_a_group()?;
            not_the_owner(*user)?;
            facts.target.ok_or(Denied::TargetNotMember)?;
            vec![RoomChange::Remove]
        }
        RoomRequest::Ban(user) => {
            of_a_group()?;
            not_the_owner(*user)?;
            if !facts.target_exists {
                return Err(Denied::TargetMissing.into());
            }
            if !facts.target_banned && facts.room.bans >= rules.bans_max {
                return Err(Refusal::Full(Limit::RoomBans));
            }
            vec![RoomChange::Ban]
        }
        RoomRequest::Unban(_) => {
            of_a_group()?;
            vec![RoomChange::Unban]
        }
        RoomRequest::Delete => vec![RoomChange::Delete],
        _ => return Err(Denied::NoRight.into()),
    })
}

/// The changes of a request that asks, or that answers.
fn judge_asking(
    request: &RoomRequest,
    facts: &RoomFacts,
    rules: &ChatRules,
    additions: Additions,
) -> Result<Vec<RoomChange>, Refusal> {
    Ok(match request {
        RoomRequest::Ask(user) => {
            permit(Action::See, facts)?;
            if facts.room.kind != RoomKind::Pair || facts.target.is_some() || !facts.target_exists {
                return Ok(Vec::new());
            }
            if facts.target_banned {
                return Err(Denied::TargetBanned.into());
            }
            if facts.acquaintance.blocks {
                return Err(Denied::Blocked.into());
            }
            let owner = *user == facts.room.owner;
            let rights = if owner { Rights::owner() } else { Rights::partner() };
            vec![addition(rights, facts, rules, additions)?]
        }
        RoomRequest::Accept => {
            permit(Action::Accept, facts)?;
            if facts.actor_rooms >= rules.rooms_per_user_max {
                return Err(Refusal::Full(Limit::UserRooms));
            }
            vec![RoomChange::Accept]
        }
        RoomRequest::Decline => {
            permit(Action::Decline, facts)?;
            decline(facts)
        }
        _ => Vec::new(),
    })
}

/// How the target becomes a member: at once, or once it accepts.
fn addition(
    rights: Rights,
    facts: &RoomFacts,
    rules: &ChatRules,
    additions: Additions,
) -> Result<RoomChange, Refusal> {
    let rights = rights.bits();
    let Acquaintance { share_a_room, left, declined, waiting, .. } = facts.acquaintance;
    // A pair's user who is no member was blocked or blocked the other one.
    let known = share_a_room && !left && facts.room.kind == RoomKind::Group;
    match additions {
        Additions::Ask { waiting_max, waiting_per_sender_max, requests_max } if !known => {
            if waiting >= waiting_per_sender_max {
                return Err(Refusal::Full(Limit::Requests));
            }
            if requests_max == 0 {
                return Err(Refusal::Full(Limit::RequestsOfHour));
            }
            // Who declined the pair is not asked again, and who asks sees no difference.
            Ok(match declined && facts.room.kind == RoomKind::Pair {
                true => RoomChange::Await { rights },
                false => RoomChange::Invite { rights, waiting_max },
            })
        }
        _ if facts.target_rooms >= rules.rooms_per_user_max => Err(Refusal::Full(Limit::UserRooms)),
        _ => Ok(RoomChange::Member { rights }),
    }
}

/// Rights that stay as they are take no number of the room, and nobody is told of them.
fn rights_if_changed(before: Rights, after: Rights) -> Vec<RoomChange> {
    if before == after { Vec::new() } else { vec![RoomChange::Member { rights: after.bits() }] }
}

/// A declined pair stays for the one who opened it, who notices nothing and cannot ask again; an invitation ends.
fn decline(facts: &RoomFacts) -> Vec<RoomChange> {
    vec![if facts.room.kind == RoomKind::Pair { RoomChange::Dismiss } else { RoomChange::Remove }]
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

/// The event of a change, if somebody sees one. `avatars` are files that the room may show after it.
pub(super) fn event(
    request: &RoomRequest,
    actor: UserId,
    changed: &RoomChanged,
    avatars: &[Arc<StoredFile>],
) -> Option<ChatEvent> {
    if changed.changes.is_empty() {
        return None;
    }
    let room = changed.room.clone();
    Some(match request {
        RoomRequest::Edit(_) => {
            let avatar = avatars.iter().find(|file| room.avatar == Some(file.id)).cloned();
            ChatEvent::Updated { room, avatar, by: actor }
        }
        RoomRequest::Add(user) | RoomRequest::Ask(user) => match changed.changes.first() {
            Some(RoomChange::Invite { .. }) => ChatEvent::Asked { room, user: *user, by: actor },
            // Nobody is told.
            Some(RoomChange::Await { .. }) => return None,
            _ => ChatEvent::Joined { room, user: *user },
        },
        RoomRequest::Accept => ChatEvent::Accepted { room, user: actor },
        RoomRequest::Decline => ChatEvent::Declined { user: actor },
        RoomRequest::Remove(user) if changed.was_pending && *user == actor => {
            ChatEvent::Declined { user: actor }
        }
        // Other members never saw an invitation that is taken back, or that a ban ends. Nor does a user who declined
        // the pair see the ban.
        RoomRequest::Remove(user) | RoomRequest::Ban(user) if changed.target_was_pending => {
            changed.target_was_asked.then_some(ChatEvent::Declined { user: *user })?
        }
        RoomRequest::Remove(user) if changed.changes.contains(&RoomChange::Hide) => {
            ChatEvent::Hidden { user: *user }
        }
        RoomRequest::Remove(user) => {
            let why = if *user == actor { Removal::Left } else { Removal::Kicked };
            ChatEvent::Removed { user: *user, why }
        }
        // Nobody leaves the room when a user is banned who was no member.
        RoomRequest::Ban(_) if !changed.target_was_member => return None,
        RoomRequest::Ban(user) => ChatEvent::Removed { user: *user, why: Removal::Banned },
        RoomRequest::Unban(_) | RoomRequest::Pin(_) => return None,
        RoomRequest::Grant(user, _) | RoomRequest::Revoke(user, _) => {
            let rights = changed.changes.iter().find_map(|change| match change {
                RoomChange::Member { rights } => Some(Rights::from_bits(*rights)),
                _ => None,
            });
            ChatEvent::Rights { user: *user, rights: rights? }
        }
        RoomRequest::Read(_) => {
            // An unmoved marker is no event, also where the request named a number past the end.
            let seq = changed.actor?.read_seq;
            (seq > changed.was_read).then_some(ChatEvent::Read { user: actor, seq })?
        }
        RoomRequest::Delete => ChatEvent::Deleted { former: changed.former.clone() },
    })
}
