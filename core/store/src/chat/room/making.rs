//! Who gets into a new room, decided from facts that an engine read: the same on every engine.

use crate::UserId;
use crate::chat::Acquaintance;
use crate::chat::room::{Additions, RoomKind, RoomMade};

/// A user whom a new room is to have, besides the one who makes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) user: UserId,
    pub(crate) acquaintance: Acquaintance,
    /// The user is in as many rooms as allowed.
    pub(crate) full: bool,
}

/// The users of a new room who have to accept it.
pub(crate) struct Asked {
    pub(crate) by: UserId,
    /// Sorted.
    pub(crate) users: Vec<UserId>,
    /// Those of them who get no request.
    pub(crate) unasked: Vec<UserId>,
    pub(crate) waiting_max: usize,
    kind: RoomKind,
    additions: Additions,
}

impl Asked {
    pub(crate) fn new(by: UserId, kind: RoomKind, additions: Additions) -> Asked {
        let (users, unasked) = (Vec::new(), Vec::new());
        Asked { by, users, unasked, waiting_max: usize::MAX, kind, additions }
    }

    /// Admits or asks the next user, in order of the numbers.
    ///
    /// Errors: why the room is refused.
    pub(crate) fn add(&mut self, candidate: Candidate) -> Result<(), Box<RoomMade>> {
        let Candidate { user, acquaintance, full } = candidate;
        if acquaintance.blocks {
            return Err(Box::new(RoomMade::Blocked));
        }
        match self.additions {
            Additions::Ask { waiting_max, waiting_per_sender_max, .. } if !acquaintance.share_a_room => {
                if acquaintance.waiting >= waiting_per_sender_max {
                    return Err(Box::new(RoomMade::TooManyRequests));
                }
                self.waiting_max = waiting_max;
                self.users.push(user);
                // The one who asks sees no difference.
                if acquaintance.declined && self.kind == RoomKind::Pair {
                    self.unasked.push(user);
                }
                Ok(())
            }
            // A request is no room of the user yet.
            _ if full => Err(Box::new(RoomMade::TooManyRooms)),
            _ => Ok(()),
        }
    }

    /// The decision after the last user.
    pub(crate) fn whole(self) -> Result<Asked, Box<RoomMade>> {
        match self.additions {
            Additions::Ask { requests_max, .. } if self.users.len() > requests_max => {
                Err(Box::new(RoomMade::RequestsExhausted))
            }
            _ => Ok(self),
        }
    }

    pub(crate) fn includes(&self, user: UserId) -> bool {
        self.users.binary_search(&user).is_ok()
    }
}

/// The members of a new group besides its owner, sorted and each once.
pub(crate) fn others(owner: UserId, mut members: Vec<UserId>) -> Vec<UserId> {
    members.retain(|member| *member != owner);
    members.sort_unstable();
    members.dedup();
    members
}
