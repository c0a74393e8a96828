//! Meeting strangers: requests, invitations and blocks.
//!
//! A user who shares no room with the one who opens a pair, or adds the user to a group, is asked. The pair exists at
//! once and its opener writes; for the other one it is a request until the user answers, accepts, or blocks. An
//! invitation shows the group's name only. Requests are no rooms: they have a list of their own, and its bound drops
//! the oldest. A user who left a group is asked, whoever adds the user. A user who declined a pair is not asked
//! again by the other one, whatever becomes of the room, until the user accepts or opens their pair.
//!
//! A blocked user opens no pair with the one who blocks, adds that user to no group, and does not see whether that user
//! is present. Staff accounts ask nobody, as the operator's own.

use chelseru_store::chat::{Additions, Blocked, ChatRequest, RoomId, RoomSummary};

use super::{ChatError, ChatRules, ChatService, RoomRequest, Strangers};
use crate::ids::UserId;

/// Requests of one user that may wait for another one, so that nobody fills another's list alone.
const PER_SENDER_MAX: usize = 5;

/// A request with the room it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingRequest {
    pub request: ChatRequest,
    pub summary: RoomSummary,
}

impl ChatService {
    /// How this user's additions to rooms are made.
    pub(super) async fn additions(&self, user: UserId, requests: u64) -> Result<Additions, ChatError> {
        let rules = self.rules();
        if rules.strangers == Strangers::Admit {
            return Ok(Additions::Admit);
        }
        let account = self.store.user_get(user).await?;
        if account.is_some_and(|account| account.staff || account.superuser) {
            return Ok(Additions::Admit);
        }
        Ok(asking(&rules, requests))
    }

    /// The requests that wait for a user, newest first. Those of a disabled account are left out while it is.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn requests(&self, user: UserId) -> Result<Vec<WaitingRequest>, ChatError> {
        let mut requests = self.store.chat_requests(user, self.rules().requests_max).await?;
        requests.sort_by_key(|request| std::cmp::Reverse((request.at, request.room)));
        let mut waiting = Vec::with_capacity(requests.len());
        for request in requests {
            let asker = self.store.user_get(request.by).await?;
            if asker.is_some_and(|asker| !asker.active) {
                continue;
            }
            // The room may be deleted between the two reads.
            if let Some(summary) = self.store.chat_summary(request.room, user).await? {
                waiting.push(WaitingRequest { request, summary });
            }
        }
        Ok(waiting)
    }

    /// After a user named the other one of an existing pair: accepts what waits for the user, and asks the other one
    /// if only the user is left.
    pub(super) async fn reopen(&self, room: RoomId, user: UserId, other: UserId) -> Result<(), ChatError> {
        let Some(facts) = self.store.chat_facts(room, user).await? else { return Ok(()) };
        if facts.actor.is_some_and(|member| member.pending) {
            self.room_change(room, user, RoomRequest::Accept).await?;
        }
        if other == user || facts.room.members > 1 {
            return Ok(());
        }
        match self.room_change(room, user, RoomRequest::Ask(other)).await {
            // The user has the room all the same.
            Err(ChatError::Denied(_) | ChatError::Full(_) | ChatError::Exhausted(_)) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Blocks a user, and bans that user from the pair's room if there is one.
    ///
    /// # Errors
    ///
    /// [`ChatError::UserMissing`], [`ChatError::Full`], [`ChatError::Store`].
    pub async fn block(&self, user: UserId, other: UserId) -> Result<(), ChatError> {
        if user == other {
            let reason = "Nobody can be blocked by oneself.".to_owned();
            return Err(ChatError::Invalid { field: "user_id", reason });
        }
        match self.store.chat_block(user, other).await? {
            Blocked::Done => {}
            Blocked::UserMissing => return Err(ChatError::UserMissing),
            Blocked::TooMany => return Err(ChatError::Full("blocked users")),
        }
        self.in_pair(user, other, RoomRequest::Ban(other)).await
    }

    /// Ends a block.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn unblock(&self, user: UserId, other: UserId) -> Result<(), ChatError> {
        self.store.chat_unblock(user, other).await?;
        self.in_pair(user, other, RoomRequest::Unban(other)).await
    }

    /// Carries out a request in the room of a pair, if there is one that the user is in. It counts against nothing: who
    /// has sent too much may block all the same, and the one other user sees no more than the block.
    async fn in_pair(&self, user: UserId, other: UserId, request: RoomRequest) -> Result<(), ChatError> {
        let Some(room) = self.store.chat_pair(user, other).await? else { return Ok(()) };
        match self.requested(room, user, request, None).await {
            Err(ChatError::Denied(_) | ChatError::RoomMissing) => Ok(()),
            other => other.map(drop),
        }
    }

    /// The users that a user blocks, by number from `from` on, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn blocks(&self, user: UserId, from: UserId, limit: usize) -> Result<Vec<UserId>, ChatError> {
        Ok(self.store.chat_blocks(user, from, limit).await?)
    }
}

fn asking(rules: &ChatRules, requests: u64) -> Additions {
    Additions::Ask {
        waiting_max: rules.requests_max,
        waiting_per_sender_max: PER_SENDER_MAX,
        requests_max: usize::try_from(requests).unwrap_or(usize::MAX),
    }
}
