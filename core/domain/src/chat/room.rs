//! Rooms: opened, changed, listed, and swept after their end.
//!
//! A pair of users has at most one pair room. Limits on a user's rooms, on members and on bans are enforced inside
//! the store's change, so concurrent requests cannot exceed them together.

use std::sync::Arc;

use chelseru_store::StoreError;
use chelseru_store::chat::{
    Additions, Judged, Limit, OrganizationId, PairDraft, Position, Refusal, Room, RoomChange, RoomChanged,
    RoomDraft, RoomFacts, RoomId, RoomMade, RoomStatus, RoomSummary, StoredFile,
};
use tokio::sync::oneshot;

use super::allowance::{Charged, Reserved};
use super::change::{RoomEdit, RoomRequest, checked_edit, decree, event, judge};
use super::rights::{Action, Denied, Rights, effective};
use super::service::{ChatService, answer};
use super::stored::{Place, StoredChange};
use super::{ChatError, ChatEvent, Member, OPERATOR};
use crate::ids::UserId;

impl ChatService {
    /// Finds or creates the room of a pair. True when it is new.
    ///
    /// # Errors
    ///
    /// See [`ChatError`].
    pub async fn pair_open(
        &self,
        user: UserId,
        other: UserId,
        edit: RoomEdit,
    ) -> Result<(Room, bool), ChatError> {
        let edit = checked_edit(edit)?;
        let reserved = self.reserve(user, 1, u64::from(other != user))?;
        let draft = PairDraft {
            user,
            other,
            name: edit.name.flatten(),
            descriptions: edit.descriptions.flatten(),
            status: edit.status.unwrap_or(RoomStatus::Open),
            owner_rights: Rights::owner().bits(),
            other_rights: Rights::partner().bits(),
            limits: self.limits(),
            additions: self.additions(user, reserved.requests).await?,
            now: self.clock.now(),
        };
        let (sender, receiver) = oneshot::channel();
        let stored = self.entrance.sender();
        self.store.chat_pair_open(draft, move |result| {
            stored.send(made(result, vec![user, other], user, reserved, sender));
        })?;
        let (room, new) = answer(receiver).await?;
        if !new {
            self.reopen(room.id, user, other).await?;
        }
        Ok((room, new))
    }

    /// Creates a group room.
    ///
    /// # Errors
    ///
    /// See [`ChatError`].
    pub async fn group_create(
        &self,
        owner: UserId,
        members: Vec<UserId>,
        organization: Option<OrganizationId>,
        edit: RoomEdit,
    ) -> Result<Room, ChatError> {
        let edit = checked_edit(edit)?;
        let mut everybody = members.clone();
        everybody.push(owner);
        let reserved = self.reserve(owner, 1, members.len() as u64)?;
        let draft = RoomDraft {
            owner,
            owner_rights: Rights::owner().bits(),
            members,
            member_rights: Rights::member().bits(),
            name: edit.name.flatten(),
            descriptions: edit.descriptions.flatten(),
            status: edit.status.unwrap_or(RoomStatus::Open),
            organization,
            limits: self.limits(),
            additions: self.additions(owner, reserved.requests).await?,
            now: self.clock.now(),
        };
        let (sender, receiver) = oneshot::channel();
        let stored = self.entrance.sender();
        self.store.chat_group_create(draft, move |result| {
            stored.send(made(result, everybody, owner, reserved, sender));
        })?;
        answer(receiver).await.map(|(room, _)| room)
    }

    /// Carries out a request if the matrix permits it. What changes a room or its members for others counts as a
    /// message of the actor.
    ///
    /// # Errors
    ///
    /// See [`ChatError`].
    pub async fn room_change(
        &self,
        room: RoomId,
        actor: UserId,
        request: RoomRequest,
    ) -> Result<RoomChanged, ChatError> {
        let counted = request.counted_bytes(actor);
        self.requested(room, actor, request, counted).await
    }

    /// [`ChatService::room_change`] with the bytes that count as a message; `None` counts nothing.
    pub(super) async fn requested(
        &self,
        room: RoomId,
        actor: UserId,
        request: RoomRequest,
        counted: Option<usize>,
    ) -> Result<RoomChanged, ChatError> {
        let request = match request {
            RoomRequest::Edit(edit) => RoomRequest::Edit(checked_edit(edit)?),
            other => other,
        };
        if let RoomRequest::Edit(edit) = &request
            && let Some(Some(avatar)) = edit.avatar
        {
            let file = self.store.chat_file(avatar).await?;
            let fits = |file: &StoredFile| {
                file.room == Some(room) && file.uploader == actor && file.content_type.starts_with("image/")
            };
            if !file.as_ref().is_some_and(fits) {
                return Err(ChatError::FileUnusable);
            }
        }
        let adds = matches!(request, RoomRequest::Add(_) | RoomRequest::Ask(_));
        let charged = counted.map(|bytes| self.charge_for(actor, bytes)).transpose()?;
        let reserved = self.reserve(actor, 0, u64::from(adds))?;
        let additions = if adds { self.additions(actor, reserved.requests).await? } else { Additions::Admit };
        let rules = self.rules();
        let asked = request.clone();
        let judge = move |facts: &RoomFacts| judge(&asked, actor, facts, &rules, additions);
        self.room_changed(room, actor, request, (Some(reserved), charged), judge).await
    }

    /// Carries out an operator's request, whoever is in the room: closing and opening, removing and banning members,
    /// deleting. Others see it as made by user 0, who exists nowhere. Callers record it.
    ///
    /// # Errors
    ///
    /// See [`ChatError`].
    pub(crate) async fn room_decree(
        &self,
        room: RoomId,
        request: RoomRequest,
    ) -> Result<RoomChanged, ChatError> {
        let (asked, rules) = (request.clone(), self.rules());
        let judge = move |facts: &RoomFacts| decree(&asked, facts, &rules);
        self.room_changed(room, OPERATOR, request, (None, None), judge).await
    }

    async fn room_changed(
        &self,
        room: RoomId,
        actor: UserId,
        request: RoomRequest,
        (reserved, charged): (Option<Reserved>, Option<Charged>),
        judge: impl Fn(&RoomFacts) -> Result<Vec<RoomChange>, Refusal> + Send + Sync + 'static,
    ) -> Result<RoomChanged, ChatError> {
        let target = request.target(actor);
        let (sender, receiver) = oneshot::channel();
        self.entrance.expect(&self.store, room).await?;
        let avatars = self.avatars(room, &request).await?;
        let stored = self.entrance.sender();
        let now = self.clock.now();
        self.store.chat_room_change(room, actor, target, now, judge, move |result| {
            let result = match (result, &reserved) {
                (Ok(Judged::Done(changed)), _) => Ok(changed),
                (Ok(Judged::Missing), _) => Err(ChatError::RoomMissing),
                (Ok(Judged::Refused(Refusal::Full(Limit::RequestsOfHour))), Some(reserved)) => {
                    Err(reserved.renewed.into())
                }
                (Ok(Judged::Refused(refusal)), _) => Err(refusal.into()),
                (Err(error), _) => Err(error.into()),
            };
            // Counted alike, so that who asks sees no difference.
            let invites =
                |change: &RoomChange| matches!(change, RoomChange::Invite { .. } | RoomChange::Await { .. });
            let invited = result.as_ref().is_ok_and(|changed| changed.changes.iter().any(invites));
            if let Some(reserved) = reserved {
                reserved.used(0, u64::from(invited));
            }
            // What changes nothing, or is refused, was shown to nobody and is given back.
            let done = result.as_ref().is_ok_and(|changed| !changed.changes.is_empty());
            if let (Some(charged), true) = (charged, done) {
                charged.came_about();
            }
            let place = match &result {
                Ok(changed) if changed.numbered => Place::At(changed.position()),
                Ok(changed) => Place::After(changed.position()),
                Err(_) => Place::Nowhere,
            };
            let event = result.as_ref().ok().and_then(|changed| event(&request, actor, changed, &avatars));
            stored.send(StoredChange::awaited(room, (place, event, result), sender));
        })?;
        answer(receiver).await
    }

    /// The files that a room may show as its avatar after an edit. A file never changes, so reading it early is enough.
    async fn avatars(&self, room: RoomId, request: &RoomRequest) -> Result<Vec<Arc<StoredFile>>, ChatError> {
        let RoomRequest::Edit(edit) = request else { return Ok(Vec::new()) };
        let mut avatars = Vec::from_iter(self.avatar(room).await?);
        if let Some(Some(id)) = edit.avatar
            && let Some(file) = self.store.chat_file(id).await?
        {
            avatars.push(Arc::new(file));
        }
        Ok(avatars)
    }

    /// The file of a room's avatar.
    pub(super) async fn avatar(&self, room: RoomId) -> Result<Option<Arc<StoredFile>>, ChatError> {
        let facts = self.store.chat_facts(room, OPERATOR).await?;
        let Some(id) = facts.and_then(|facts| facts.room.avatar) else { return Ok(None) };
        Ok(self.store.chat_file(id).await?.map(Arc::new))
    }

    /// Rooms for operators: with numbers below `before`, newest first.
    pub(crate) async fn rooms_before(
        &self,
        before: Option<RoomId>,
        limit: usize,
    ) -> Result<Vec<(Room, u64)>, ChatError> {
        Ok(self.store.chat_rooms_before(before, limit).await?)
    }

    /// A room for operators, with the number of its newest message.
    pub(crate) async fn room_seen(&self, room: RoomId) -> Result<Option<(Room, u64)>, ChatError> {
        let facts = self.store.chat_facts(room, OPERATOR).await?;
        let newest = self.store.chat_last_seq(room).await?;
        Ok(facts.map(|facts| (facts.room, newest)))
    }

    /// A user's rooms, most recently changed first, without those that the user hid.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn rooms(&self, user: UserId) -> Result<Vec<RoomSummary>, ChatError> {
        let mut rooms = self.rooms_and_hidden(user).await?;
        rooms.retain(|summary| !summary.is_hidden());
        Ok(rooms)
    }

    /// [`ChatService::rooms`] with those that the user hid, which come back with their next message.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn rooms_and_hidden(&self, user: UserId) -> Result<Vec<RoomSummary>, ChatError> {
        let mut rooms = self.store.chat_rooms_of(user, self.rules().rooms_per_user_max).await?;
        rooms.sort_by_key(|summary| std::cmp::Reverse((summary.updated_at, summary.room.id)));
        Ok(rooms)
    }

    /// A room as one of its members sees it.
    ///
    /// # Errors
    ///
    /// [`ChatError::RoomMissing`], [`ChatError::Denied`], [`ChatError::Store`].
    pub async fn room(&self, room: RoomId, user: UserId) -> Result<RoomSummary, ChatError> {
        self.check(room, user, Action::See).await?;
        self.store.chat_summary(room, user).await?.ok_or(ChatError::RoomMissing)
    }

    /// All members of a room.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn members(&self, room: RoomId) -> Result<Vec<Member>, ChatError> {
        Ok(self.store.chat_members(room, self.rules().members_max as usize).await?)
    }

    /// Members by user number from `from` on, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn members_from(
        &self,
        room: RoomId,
        from: UserId,
        limit: usize,
    ) -> Result<Vec<Member>, ChatError> {
        Ok(self.store.chat_members_from(room, from, limit).await?)
    }

    /// Banned users by user number from `from` on, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn bans_from(
        &self,
        room: RoomId,
        from: UserId,
        limit: usize,
    ) -> Result<Vec<UserId>, ChatError> {
        Ok(self.store.chat_bans_from(room, from, limit).await?)
    }

    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn bans(&self, room: RoomId) -> Result<Vec<UserId>, ChatError> {
        Ok(self.store.chat_bans(room, self.rules().bans_max as usize).await?)
    }

    /// A member's rights in a room.
    #[must_use]
    pub fn rights(&self, room: &Room, member: &Member) -> Rights {
        effective(member, room.owner)
    }

    /// Purges the remains of all deleted rooms whose purge was interrupted.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn sweep_all(&self) -> Result<(), ChatError> {
        for room in self.store.chat_rooms_to_sweep(100).await? {
            self.sweep(room).await?;
        }
        Ok(())
    }

    /// Purges the remains of a deleted room.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn sweep(&self, room: RoomId) -> Result<(), ChatError> {
        while self.store.chat_room_sweep(room, 500).await? > 0 {
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

fn made(
    result: Result<RoomMade, StoreError>,
    mut members: Vec<UserId>,
    by: UserId,
    reserved: Reserved,
    sender: oneshot::Sender<Result<(Room, bool), ChatError>>,
) -> StoredChange {
    let mut id = RoomId(0);
    // A room begins at position 0, before everything that happens in it.
    let (event, result) = match result {
        Ok(RoomMade::New { room, mut asked, unasked }) => {
            id = room.id;
            reserved.used(1, asked.len() as u64);
            // Who declined the pair before is not told of it.
            for users in [&mut members, &mut asked] {
                users.retain(|user| !unasked.contains(user));
            }
            (Some(ChatEvent::Made { room: room.clone(), members, asked, by }), Ok((room, true)))
        }
        Ok(RoomMade::RequestsExhausted) => (None, Err(reserved.renewed.into())),
        Ok(RoomMade::TooManyRequests) => (None, Err(Refusal::Full(Limit::Requests).into())),
        Ok(RoomMade::Blocked) => (None, Err(Denied::Blocked.into())),
        Ok(RoomMade::TargetBlocked) => (None, Err(Denied::TargetBanned.into())),
        Ok(RoomMade::Existing(room)) => (None, Ok((room, false))),
        Ok(RoomMade::UserMissing) => (None, Err(ChatError::UserMissing)),
        Ok(RoomMade::Banned) => (None, Err(Denied::Banned.into())),
        Ok(RoomMade::OrganizationMissing) => (None, Err(ChatError::OrganizationMissing)),
        Ok(RoomMade::TooManyRooms) => (None, Err(ChatError::Full("rooms of a user"))),
        Ok(RoomMade::TooManyMembers) => (None, Err(ChatError::Full("members of a room"))),
        Err(error) => (None, Err(error.into())),
    };
    let place = if event.is_some() { Place::After(Position::default()) } else { Place::Nowhere };
    StoredChange::awaited(id, (place, event, result), sender)
}
