//! The permission matrix: one pure function for every route and frame.
//!
//! The owner always has every right. Members have the rights that were granted to them; a member with a management
//! right is an admin. A member can only grant rights that the member has. Nothing can be done against the owner, and
//! acting against an admin needs [`Access::KickAdmin`]. A closed room accepts nothing new. A room on hold accepts
//! messages only from members who can reopen it. Nobody edits another member's message. Each of a pair may leave and
//! block the other, and nobody kicks anybody from a pair. Everything that is not permitted here is refused.

use super::RoomKind;
use std::fmt;

pub use chelseru_store::chat::Denied;
use chelseru_store::chat::{Member, RoomFacts, RoomStatus};

use crate::ids::UserId;

/// The original's levels of access, with their numbers in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// May only read, whatever else is granted.
    ReadOnly = 1,
    Member = 2,
    Add = 3,
    Kick = 4,
    Ban = 5,
    Grant = 6,
    Revoke = 7,
    KickAdmin = 8,
    Close = 9,
    Reopen = 10,
    Rename = 11,
    Avatar = 12,
    /// Delete the room, and other members' messages.
    Delete = 13,
}

impl Access {
    pub const ALL: [Access; 13] = [
        Access::ReadOnly,
        Access::Member,
        Access::Add,
        Access::Kick,
        Access::Ban,
        Access::Grant,
        Access::Revoke,
        Access::KickAdmin,
        Access::Close,
        Access::Reopen,
        Access::Rename,
        Access::Avatar,
        Access::Delete,
    ];

    #[must_use]
    pub fn from_number(number: u64) -> Option<Access> {
        Access::ALL.into_iter().find(|access| access.number() == number)
    }

    #[must_use]
    pub fn number(self) -> u64 {
        self as u64
    }
}

/// A set of levels of access.
#[derive(Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Rights(u16);

impl Rights {
    pub const NONE: Rights = Rights(0);

    #[must_use]
    pub fn of(access: &[Access]) -> Rights {
        access.iter().fold(Rights::NONE, |rights, access| rights.with(*access))
    }

    /// The initial rights of a member.
    #[must_use]
    pub fn member() -> Rights {
        Rights::of(&[Access::Member])
    }

    /// All rights that can be granted.
    #[must_use]
    pub fn owner() -> Rights {
        Access::ALL.into_iter().filter(|access| *access != Access::ReadOnly).fold(Rights::NONE, Rights::with)
    }

    /// The initial rights of a pair's second user.
    #[must_use]
    pub fn partner() -> Rights {
        Rights::of(&[Access::Member, Access::Rename])
    }

    #[must_use]
    pub const fn from_bits(bits: u16) -> Rights {
        Rights(bits)
    }

    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    #[must_use]
    pub fn with(self, access: Access) -> Rights {
        Rights(self.0 | 1 << access as u16)
    }

    #[must_use]
    pub fn without(self, other: Rights) -> Rights {
        Rights(self.0 & !other.0)
    }

    #[must_use]
    pub fn and(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    #[must_use]
    pub fn has(self, access: Access) -> bool {
        self.0 & 1 << access as u16 != 0
    }

    #[must_use]
    pub fn has_all(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }

    /// Has a management right.
    #[must_use]
    pub fn is_admin(self) -> bool {
        self.without(Rights::of(&[Access::ReadOnly, Access::Member, Access::Rename])).0 != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Access> {
        Access::ALL.into_iter().filter(move |access| self.has(*access))
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// An action in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// See the room, its members, messages and files.
    See,
    /// What others notice, or what is for rooms that were accepted: hold a socket, mark as read, pin.
    Attend,
    /// Send a message or a file. In a pair it accepts a request.
    Post,
    /// Send a signal or a typing notice.
    Signal,
    /// Accept a request.
    Accept,
    /// Decline a request.
    Decline,
    EditMessage {
        own: bool,
    },
    DeleteMessage {
        own: bool,
    },
    Add,
    Leave,
    Kick,
    Ban,
    Unban,
    Grant(Rights),
    Revoke(Rights),
    Close,
    Hold,
    Reopen,
    Rename,
    Avatar,
    DeleteRoom,
}

/// Whether the actor may do this.
///
/// # Errors
///
/// The first rule against it.
pub fn permit(action: Action, facts: &RoomFacts) -> Result<(), Denied> {
    if facts.actor_banned {
        return Err(Denied::Banned);
    }
    let Some(actor) = facts.actor else { return Err(Denied::NotMember) };
    let rights = rights_of(&actor, facts);
    if actor.pending {
        of_a_request(action, facts)?;
    }
    if let Some(answer) = of_a_pair(action, actor.user, facts) {
        return answer;
    }
    let reads =
        matches!(action, Action::See | Action::Attend | Action::Leave | Action::Accept | Action::Decline);
    if rights.has(Access::ReadOnly) && !reads {
        return Err(Denied::ReadOnly);
    }
    let needs = |access| if rights.has(access) { Ok(()) } else { Err(Denied::NoRight) };
    match action {
        Action::See | Action::Attend => Ok(()),
        Action::Accept | Action::Decline if actor.pending => Ok(()),
        Action::Accept | Action::Decline => Err(Denied::NoRequest),
        Action::Post | Action::Signal | Action::EditMessage { own: true } => {
            needs(Access::Member)?;
            match facts.room.status {
                RoomStatus::Open => Ok(()),
                RoomStatus::Hold if rights.has(Access::Reopen) => Ok(()),
                RoomStatus::Hold => Err(Denied::RoomOnHold),
                RoomStatus::Closed => Err(Denied::RoomClosed),
            }
        }
        Action::EditMessage { own: false } => Err(Denied::NoRight),
        Action::DeleteMessage { own: true } => needs(Access::Member),
        Action::DeleteMessage { own: false } | Action::DeleteRoom => needs(Access::Delete),
        Action::Leave if actor.user == facts.room.owner => Err(Denied::OwnerStays),
        Action::Leave => Ok(()),
        Action::Add => {
            needs(Access::Add)?;
            addable(facts)
        }
        Action::Kick => {
            needs(Access::Kick)?;
            upon(target(facts)?, rights, facts)
        }
        Action::Ban => {
            needs(Access::Ban)?;
            match facts.target {
                Some(target) => upon(target, rights, facts),
                None if facts.target_exists => Ok(()),
                None => Err(Denied::TargetMissing),
            }
        }
        Action::Unban => needs(Access::Ban),
        Action::Grant(granted) => grantable(granted, rights, facts),
        Action::Revoke(revoked) => revocable(revoked, rights, facts),
        Action::Close | Action::Hold => needs(Access::Close),
        Action::Reopen => needs(Access::Reopen),
        Action::Rename => needs(Access::Rename),
        Action::Avatar => needs(Access::Avatar),
    }
}

/// What a member may do who has not accepted the room. A request shows a pair's messages, so that one can decide, and
/// nothing of a group but its name; nobody notices anything before the acceptance.
fn of_a_request(action: Action, facts: &RoomFacts) -> Result<(), Denied> {
    match (action, facts.room.kind) {
        (Action::Accept | Action::Decline | Action::Leave, _) => Ok(()),
        (Action::See | Action::Post | Action::Ban | Action::Unban, RoomKind::Pair) => Ok(()),
        (_, RoomKind::Pair) => Err(Denied::NotAccepted),
        (_, RoomKind::Group) => Err(Denied::NotMember),
    }
}

/// Each of a pair may leave and block the other, whatever was granted and whoever opened it. Leaving hides the pair, so
/// its owner may, too. Neither kicks the other: a kick would undo a declined request, and let the opener ask again.
/// `None` for other actions, and in groups.
fn of_a_pair(action: Action, actor: UserId, facts: &RoomFacts) -> Option<Result<(), Denied>> {
    if facts.room.kind != RoomKind::Pair {
        return None;
    }
    match (action, facts.target) {
        (Action::Leave, _) => Some(Ok(())),
        (Action::Kick, _) => Some(Err(Denied::PairRoom)),
        (Action::Ban | Action::Unban, Some(target)) if target.user == actor => Some(Err(Denied::NoRight)),
        (Action::Ban, None) if !facts.target_exists => Some(Err(Denied::TargetMissing)),
        (Action::Ban | Action::Unban, _) => Some(Ok(())),
        _ => None,
    }
}

/// What a member may do in a room.
#[must_use]
pub fn rights_of(member: &Member, facts: &RoomFacts) -> Rights {
    effective(member, facts.room.owner)
}

/// What a member may do in a room with this owner.
#[must_use]
pub fn effective(member: &Member, owner: UserId) -> Rights {
    if member.user == owner { Rights::owner() } else { Rights::from_bits(member.rights) }
}

fn target(facts: &RoomFacts) -> Result<Member, Denied> {
    facts.target.ok_or(Denied::TargetNotMember)
}

/// Whether the actor may grant rights to the target. Read-only takes rights away, so it is judged as a revocation.
fn grantable(granted: Rights, rights: Rights, facts: &RoomFacts) -> Result<(), Denied> {
    let needs = |access| if rights.has(access) { Ok(()) } else { Err(Denied::NoRight) };
    let (read_only, others) = parts(granted);
    if read_only {
        needs(Access::Revoke)?;
        upon(target(facts)?, rights, facts)?;
    }
    let Some(others) = others else { return Ok(()) };
    needs(Access::Grant)?;
    if target(facts)?.user == facts.room.owner {
        return Err(Denied::OwnerProtected);
    }
    if rights.has_all(others) { Ok(()) } else { Err(Denied::NoRight) }
}

/// Whether the actor may revoke rights of the target. Revoking read-only gives rights back, so it is judged as a grant.
fn revocable(revoked: Rights, rights: Rights, facts: &RoomFacts) -> Result<(), Denied> {
    let needs = |access| if rights.has(access) { Ok(()) } else { Err(Denied::NoRight) };
    let target = target(facts)?;
    let (read_only, others) = parts(revoked);
    if read_only {
        needs(Access::Grant)?;
        if target.user == facts.room.owner {
            return Err(Denied::OwnerProtected);
        }
    }
    if others.is_none() {
        return Ok(());
    }
    needs(Access::Revoke)?;
    upon(target, rights, facts)
}

/// The two parts of a set of rights, which need different rights: whether it has [`Access::ReadOnly`], and the others;
/// `None` if it has nothing else.
fn parts(set: Rights) -> (bool, Option<Rights>) {
    let read_only = Rights::of(&[Access::ReadOnly]);
    (set.has_all(read_only), (set != read_only).then(|| set.without(read_only)))
}

/// Whether the target may be added.
fn addable(facts: &RoomFacts) -> Result<(), Denied> {
    if facts.room.kind == RoomKind::Pair {
        return Err(Denied::PairRoom);
    }
    if facts.target_banned {
        return Err(Denied::TargetBanned);
    }
    if facts.acquaintance.blocks {
        return Err(Denied::Blocked);
    }
    if facts.target_exists { Ok(()) } else { Err(Denied::TargetMissing) }
}

/// Whether the actor may act against a member.
fn upon(target: Member, actor: Rights, facts: &RoomFacts) -> Result<(), Denied> {
    if target.user == facts.room.owner {
        return Err(Denied::OwnerProtected);
    }
    if rights_of(&target, facts).is_admin() && !actor.has(Access::KickAdmin) {
        return Err(Denied::NoRight);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
