//! Rooms and organisations, as operators see and change them.
//!
//! Names are found by looking: a page looks at [`LOOKED_MAX`] records at most and says where it stopped. Reading what
//! people wrote is an act of its own, with a record of each look.

use std::sync::Arc;

use chelseru_store::StoreError;

use super::Desk;
use crate::chat::{
    ChatError, Member, Message, Organization, OrganizationId, Room, RoomEdit, RoomId, RoomRequest,
    RoomStatus, organization,
};
use crate::ids::UserId;
use crate::login::account::look_alike;
use crate::operator::audit::{AuditEvent, AuditKind};
use crate::operator::role::{Permit, Reason, RoomChange, RoomMessageRead, RoomRead};

/// Rooms, organisations or messages that one page looks at: some milliseconds.
pub(super) const LOOKED_MAX: usize = 5000;
pub(super) const LOOK_STEP: usize = 500;
/// Rooms of an organisation, and bans of a room, on one page.
const LISTED_MAX: usize = 200;

/// Which rooms to list. Everything given must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomQuery {
    /// A part of the name.
    pub name: String,
    pub member: Option<UserId>,
    pub status: Option<RoomStatus>,
    pub organization: Option<OrganizationId>,
}

/// A page of a list that is found by looking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked<T> {
    pub found: Vec<T>,
    /// The next page looks below this number.
    pub next: Option<u64>,
}

/// A room with the number of its newest message.
pub type ListedRoom = (Room, u64);

/// A room as a page shows it.
#[derive(Debug, Clone)]
pub struct RoomSeen {
    pub room: Room,
    pub newest: u64,
    pub members: Vec<Member>,
    /// The next page of members begins here.
    pub members_next: Option<UserId>,
    pub bans: Vec<UserId>,
}

/// A message with its sender's public name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenMessage {
    pub message: Message,
    pub sender_name: Arc<str>,
}

/// What an operator does to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomAct {
    Status(RoomStatus),
    Remove(UserId),
    Ban(UserId),
    Unban(UserId),
    /// Deletes one message.
    DeleteMessage(u64),
    /// Deletes the room with everything in it.
    Delete,
}

/// What an operator does to an organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrganizationAct {
    Rename {
        name: String,
        uname: String,
    },
    /// Removes one without rooms.
    Remove,
}

impl RoomQuery {
    fn fits(&self, room: &Room, wanted: &str) -> bool {
        self.status.is_none_or(|status| status == room.status)
            && self.organization.is_none_or(|organization| room.organization == Some(organization))
            && (wanted.is_empty() || room.name.as_ref().is_some_and(|name| look_alike(name).contains(wanted)))
    }
}

impl Desk {
    /// The rooms that fit a query, newest first.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn rooms(
        &self,
        _permit: &Permit<RoomRead>,
        query: &RoomQuery,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Looked<ListedRoom>, ChatError> {
        let wanted = look_alike(query.name.trim());
        let chat = &self.services.chat;
        if let Some(member) = query.member {
            let mut rooms = chat.rooms_and_hidden(member).await?;
            rooms.retain(|one| before.is_none_or(|at| one.room.id.0 < at) && query.fits(&one.room, &wanted));
            rooms.sort_by_key(|one| std::cmp::Reverse(one.room.id));
            let next = (rooms.len() > limit).then(|| rooms[limit - 1].room.id.0);
            let found = rooms.into_iter().take(limit).map(|one| (one.room, one.last_seq)).collect();
            return Ok(Looked { found, next });
        }
        let mut place = before.map(RoomId);
        let mut found = Vec::new();
        for _ in 0..LOOKED_MAX / LOOK_STEP {
            let step = chat.rooms_before(place, LOOK_STEP).await?;
            for (room, newest) in &step {
                place = Some(room.id);
                if query.fits(room, &wanted) {
                    found.push((room.clone(), *newest));
                    if found.len() == limit {
                        return Ok(Looked { found, next: Some(room.id.0) });
                    }
                }
            }
            if step.len() < LOOK_STEP {
                return Ok(Looked { found, next: None });
            }
            tokio::task::yield_now().await;
        }
        Ok(Looked { found, next: place.map(|place| place.0) })
    }

    /// A room with a page of its members.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn room(
        &self,
        _permit: &Permit<RoomRead>,
        id: RoomId,
        from: UserId,
        limit: usize,
    ) -> Result<Option<RoomSeen>, ChatError> {
        let chat = &self.services.chat;
        let Some((room, newest)) = chat.room_seen(id).await? else { return Ok(None) };
        let mut members = chat.members_from(id, from, limit + 1).await?;
        let members_next = members.get(limit).map(|member| member.user);
        members.truncate(limit);
        let bans = chat.bans_from(id, UserId(0), LISTED_MAX).await?;
        Ok(Some(RoomSeen { room, newest, members, members_next, bans }))
    }

    /// A user's public name, for a list of members.
    pub async fn name_shown(&self, _permit: &Permit<RoomRead>, user: UserId) -> Arc<str> {
        self.services.chat.face(user).await.name
    }

    /// Messages of a room with numbers below `before`, newest first, whose text holds `text`. In the audit log.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn room_messages(
        &self,
        permit: &Permit<RoomMessageRead>,
        room: RoomId,
        text: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Looked<WrittenMessage>, ChatError> {
        let event = AuditEvent::by(permit.operator(), AuditKind::RoomMessagesRead);
        self.audit().record(event.subject(format!("room {}", room.0)));
        let wanted = look_alike(text.trim());
        let fits = |message: &Message| wanted.is_empty() || look_alike(&message.body.text).contains(&wanted);
        let chat = &self.services.chat;
        let mut place = before.unwrap_or(u64::MAX);
        let mut found = Vec::new();
        for _ in 0..LOOKED_MAX / LOOK_STEP {
            let page = chat.messages_before(room, place, LOOK_STEP).await?;
            for message in &page.messages {
                place = message.seq;
                if !message.deleted && fits(message) {
                    let sender_name = chat.face(message.sender).await.name;
                    found.push(WrittenMessage { message: message.clone(), sender_name });
                    if found.len() == limit {
                        return Ok(Looked { found, next: Some(place) });
                    }
                }
            }
            if !page.more {
                return Ok(Looked { found, next: None });
            }
            place = page.end;
        }
        Ok(Looked { found, next: Some(place) })
    }

    /// Does something to a room. Members see it happen, made by nobody they know.
    ///
    /// # Errors
    ///
    /// See [`ChatError`]; nothing changed then.
    pub async fn room_act(
        &self,
        permit: &Permit<RoomChange>,
        room: RoomId,
        act: RoomAct,
        reason: &Reason,
    ) -> Result<(), ChatError> {
        let chat = &self.services.chat;
        let edit = |status| RoomRequest::Edit(RoomEdit { status: Some(status), ..RoomEdit::default() });
        let (request, user, before, after) = match act {
            RoomAct::Status(status) => {
                let before = chat.room_seen(room).await?.map(|(room, _)| status_name(room.status));
                (edit(status), None, before.unwrap_or_default(), status_name(status))
            }
            RoomAct::Remove(user) => (RoomRequest::Remove(user), Some(user), "member", "removed"),
            RoomAct::Ban(user) => (RoomRequest::Ban(user), Some(user), "not banned", "banned"),
            RoomAct::Unban(user) => (RoomRequest::Unban(user), Some(user), "banned", "not banned"),
            RoomAct::Delete => (RoomRequest::Delete, None, "there", "deleted"),
            RoomAct::DeleteMessage(seq) => {
                chat.message_decree_delete(room, seq).await?;
                let event = AuditEvent::by(permit.operator(), AuditKind::RoomChanged);
                let event = event.subject(format!("room {}, message {seq}", room.0));
                self.audit().record(event.change("there", "deleted").reason(reason));
                return Ok(());
            }
        };
        chat.room_decree(room, request).await?;
        let event = AuditEvent::by(permit.operator(), AuditKind::RoomChanged);
        let event = event.subject(format!("room {}", room.0)).change(before, after).reason(reason);
        self.audit().record(AuditEvent { user, ..event });
        if act == RoomAct::Delete {
            // The periodic upkeep finishes what a stop interrupts.
            let chat = Arc::clone(chat);
            self.services.detached.spawn(async move {
                if let Err(error) = chat.sweep(room).await {
                    tracing::warn!(%error, "the messages of a deleted room could not be removed");
                }
            });
        }
        Ok(())
    }

    /// Organisations by a part of either name, newest first.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn organizations(
        &self,
        _permit: &Permit<RoomRead>,
        name: &str,
        owner: Option<UserId>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Looked<Organization>, ChatError> {
        let wanted = look_alike(name.trim());
        let fits = |one: &Organization| {
            let named = [&one.name, &one.uname].into_iter().any(|name| look_alike(name).contains(&wanted));
            named && owner.is_none_or(|owner| owner == one.owner)
        };
        let mut place = before.map(OrganizationId);
        let mut found = Vec::new();
        for _ in 0..LOOKED_MAX / LOOK_STEP {
            let step = self.services.chat.organizations_before(place, LOOK_STEP).await?;
            for one in &step {
                place = Some(one.id);
                if fits(one) {
                    found.push(one.clone());
                    if found.len() == limit {
                        return Ok(Looked { found, next: Some(one.id.0) });
                    }
                }
            }
            if step.len() < LOOK_STEP {
                return Ok(Looked { found, next: None });
            }
        }
        Ok(Looked { found, next: place.map(|place| place.0) })
    }

    /// Renames an organisation, or removes one without rooms.
    ///
    /// # Errors
    ///
    /// See [`ChatError`]; nothing changed then.
    pub async fn organization_act(
        &self,
        permit: &Permit<RoomChange>,
        id: OrganizationId,
        act: OrganizationAct,
        reason: &Reason,
    ) -> Result<(), ChatError> {
        let chat = &self.services.chat;
        let one = chat.organization(id).await?.ok_or(ChatError::OrganizationMissing)?;
        let before = format!("{} ({})", one.name, one.uname);
        // The owner's own operations: an organisation belongs to nobody else.
        let after = match act {
            OrganizationAct::Rename { name, uname } => {
                let (name, uname) = organization::named(&name, &uname)?;
                let changed = chat.organization_update(one.owner, id, Some(name), Some(uname)).await?;
                format!("{} ({})", changed.name, changed.uname)
            }
            OrganizationAct::Remove => {
                chat.organization_remove(one.owner, id).await?;
                "removed".to_owned()
            }
        };
        let event = AuditEvent::by(permit.operator(), AuditKind::RoomChanged).user(one.owner);
        let event = event.subject(format!("organization {}", id.0));
        self.audit().record(event.change(before, after).reason(reason));
        Ok(())
    }

    /// The organisation of a number.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn organization(
        &self,
        _permit: &Permit<RoomRead>,
        id: OrganizationId,
    ) -> Result<Option<Organization>, StoreError> {
        match self.services.chat.organization(id).await {
            Ok(found) => Ok(found),
            Err(ChatError::Store(error)) => Err(error),
            Err(_) => Ok(None),
        }
    }
}

/// The word of a status.
#[must_use]
pub fn status_name(status: RoomStatus) -> &'static str {
    match status {
        RoomStatus::Open => "open",
        RoomStatus::Closed => "closed",
        RoomStatus::Hold => "on hold",
    }
}
