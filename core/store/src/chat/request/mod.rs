//! Requests, blocks and contacts: who may reach a user, and who finds one.
//!
//! A member who has not accepted a room is *pending*: the room waits in the user's list of requests and not among the
//! user's rooms. Invariants: a user has at most as many requests as the caller allows, and the oldest one goes first; a
//! request and its pending member change together, except that a pair outlives its request, whose dropping or
//! dismissal nobody notices.
//!
//! A block is one user's decision against another. Blocking within a pair's room bans the other one there and makes a
//! block as well, so it outlives the room. Pairs that were blocked before blocks existed have the ban only.
//!
//! A declined pair leaves a mark that outlives the room, too: the other user's pair waits without a request from then
//! on, whatever becomes of the room. The mark ends when the user who declined accepts or opens their pair.

pub(crate) mod postgres;
pub(crate) mod sled;

use crate::chat::RoomId;
use crate::engine::{Engine, boxed, on_engine};
use crate::{Store, StoreError, Timestamp, UserId};

/// Users that one user may block. A pair's ban beyond it holds in the pair's room only.
pub const BLOCKS_MAX: usize = 1000;

/// Users whose pairs one user declined; one more drops the oldest.
pub const DECLINES_MAX: usize = 1000;

/// A room that waits for a user's acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChatRequest {
    pub room: RoomId,
    /// Who opened the pair, or added the user to the group.
    pub by: UserId,
    pub at: Timestamp,
}

/// How the target of an addition stands to the user who adds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Acquaintance {
    /// Both accepted some room.
    pub share_a_room: bool,
    /// The target blocks the user who adds it.
    pub blocks: bool,
    /// The target left this room, or declined it.
    pub left: bool,
    /// The target declined a pair of theirs.
    pub declined: bool,
    /// Requests of the user that wait for the target already.
    pub waiting: usize,
}

/// The outcome of blocking a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    Done,
    UserMissing,
    TooMany,
}

impl Store {
    /// The requests that wait for a user, unordered, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_requests(&self, user: UserId, limit: usize) -> Result<Vec<ChatRequest>, StoreError> {
        on_engine!(self, read chat_requests(user, limit))
    }

    /// Blocks a user for another one. Their pair's room is not touched.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn chat_block(&self, blocker: UserId, blocked: UserId) -> Result<Blocked, StoreError> {
        on_engine!(self, chat_block(blocker, blocked).await)
    }

    /// Ends a block. Their pair's room is not touched.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn chat_unblock(&self, blocker: UserId, blocked: UserId) -> Result<(), StoreError> {
        on_engine!(self, chat_unblock(blocker, blocked).await)
    }

    /// The users that a user blocks, by number from `from` on, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    #[boxed]
    pub async fn chat_blocks(
        &self,
        blocker: UserId,
        from: UserId,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError> {
        on_engine!(self, read chat_blocks(blocker, from, limit))
    }

    /// The room of a pair, if there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_pair(&self, one: UserId, other: UserId) -> Result<Option<RoomId>, StoreError> {
        on_engine!(self, read chat_pair(one, other))
    }

    /// Whether two users have both accepted some room.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    #[boxed]
    pub async fn chat_share_a_room(&self, one: UserId, other: UserId) -> Result<bool, StoreError> {
        on_engine!(self, read chat_share_a_room(one, other))
    }

    /// Adds marks of phone numbers to a user's contacts; false, and nothing is added, when they would be more than
    /// `max`.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn contacts_add(
        &self,
        user: UserId,
        marks: Vec<[u8; 16]>,
        max: usize,
    ) -> Result<bool, StoreError> {
        on_engine!(self, contacts_add(user, marks, max).await)
    }

    /// Forgets at most `limit` of a user's contacts and returns their number; 0 means none remain.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn contacts_forget(&self, user: UserId, limit: usize) -> Result<usize, StoreError> {
        on_engine!(self, contacts_forget(user, limit).await)
    }

    /// Whether a mark is among a user's contacts.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    #[boxed]
    pub async fn contacts_have(&self, user: UserId, mark: [u8; 16]) -> Result<bool, StoreError> {
        on_engine!(self, read contacts_have(user, mark))
    }
}
