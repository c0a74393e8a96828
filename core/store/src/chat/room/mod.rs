//! Rooms.

pub(crate) mod sled;

pub use sled::{
    Member, PairDraft, Room, RoomChange, RoomChanged, RoomDraft, RoomFacts, RoomLimits, RoomMade, RoomSummary,
};
pub(crate) use sled::{MemberRecord, RoomRecord, facts, member, of_organization, unread};
