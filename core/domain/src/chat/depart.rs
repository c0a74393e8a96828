//! What happens in rooms though no member asked: an erased account leaves for good, and old messages go.
//!
//! Unlike a member who leaves, the account leaves whatever the matrix says, because it no longer exists. A group of
//! its own passes to the member who has the most say in it; a room without another member who accepted it ends.

use std::sync::PoisonError;
use std::time::Duration;

use chelseru_store::chat::{
    Judged, MessageChange, MessageEdit, MessageEdited, OlderMessages, Refusal, RoomChange, RoomChanged,
    RoomFacts, RoomId, RoomKind, StoredFile,
};
use tokio::sync::oneshot;

use super::missed::{face_of, file_of};
use super::rights::effective;
use super::service::{ChatService, answer};
use super::stored::{Place, StoredChange};
use super::{ChatError, ChatEvent, Member, Message, MessageView, Removal};
use crate::ids::UserId;

/// Who deletes old messages: no account has this number.
const NOBODY: UserId = UserId(0);
/// Rooms listed at once.
const STEP: usize = 500;
/// Tries to leave a room whose members change meanwhile.
const TRIES_MAX: usize = 20;
/// Organizations listed at once.
const ORGANIZATIONS_MAX: usize = 1000;

impl ChatService {
    /// Takes a user out of all rooms and requests.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub(crate) async fn depart_all(&self, user: UserId) -> Result<(), ChatError> {
        loop {
            let rooms = self.store.chat_rooms_of(user, STEP).await?;
            let mut rooms: Vec<RoomId> = rooms.into_iter().map(|summary| summary.room.id).collect();
            rooms.extend(self.store.chat_requests(user, STEP).await?.into_iter().map(|asked| asked.room));
            if rooms.is_empty() {
                return Ok(());
            }
            for room in rooms {
                self.depart(room, user).await?;
            }
        }
    }

    /// Removes a user's organizations, whose rooms the user has left.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub(crate) async fn organizations_drop(&self, owner: UserId) -> Result<(), ChatError> {
        for organization in self.store.chat_organizations_of(owner, ORGANIZATIONS_MAX).await? {
            self.store.chat_organization_remove(owner, organization.id).await?;
        }
        Ok(())
    }

    /// Takes a file out of what shows it: a message, or a room.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub(crate) async fn file_drop(&self, file: &StoredFile) -> Result<(), ChatError> {
        let (user, id) = (file.uploader, file.id);
        // The picture of an account goes with the account.
        let Some(room) = file.room else { return Ok(()) };
        match file.message {
            None => Ok(()),
            // The number that marks an avatar.
            Some(0) => {
                let judge = move |facts: &RoomFacts| {
                    let shown = facts.room.avatar == Some(id);
                    Ok(shown.then_some(RoomChange::Avatar(None)).into_iter().collect())
                };
                self.decree(room, user, None, judge, move |changed| {
                    Some(ChatEvent::Updated { room: changed.room.clone(), avatar: None, by: user })
                })
                .await
            }
            Some(seq) => self.message_file_drop(room, seq, file).await,
        }
    }

    async fn depart(&self, room: RoomId, user: UserId) -> Result<(), ChatError> {
        for _ in 0..TRIES_MAX {
            let Some(facts) = self.store.chat_facts(room, user).await? else { return Ok(()) };
            let Some(actor) = facts.actor else { return Ok(()) };
            let members = self.store.chat_members(room, usize::MAX).await?;
            let owns = facts.room.kind == RoomKind::Group && facts.room.owner == user;
            match successor(&members, facts.room.owner, user) {
                None if !actor.pending || members.len() == 1 => self.end(room, user).await?,
                Some(heir) if owns => self.bequeath(room, user, heir).await?,
                _ => self.withdraw(room, user).await?,
            }
        }
        // The next run tries again.
        let left = self.store.chat_facts(room, user).await?.is_none_or(|facts| facts.actor.is_none());
        if left { Ok(()) } else { Err(ChatError::Busy) }
    }

    /// Ends a room in which nobody is left.
    async fn end(&self, room: RoomId, user: UserId) -> Result<(), ChatError> {
        let judge = move |facts: &RoomFacts| {
            // Somebody may have been added since.
            let alone = facts.room.members == 1 || facts.room.kind == RoomKind::Pair;
            Ok(if alone || facts.room.owner == user { vec![RoomChange::Delete] } else { Vec::new() })
        };
        self.decree(room, user, None, judge, |changed| {
            Some(ChatEvent::Deleted { former: changed.former.clone() })
        })
        .await
    }

    async fn bequeath(&self, room: RoomId, user: UserId, heir: UserId) -> Result<(), ChatError> {
        let judge = move |facts: &RoomFacts| {
            let fits = facts.room.owner == user && facts.target.is_some_and(|target| !target.pending);
            Ok(if fits { vec![RoomChange::Owner] } else { Vec::new() })
        };
        let avatar = self.avatar(room).await?;
        self.decree(room, user, Some(heir), judge, move |changed| {
            let avatar = avatar.filter(|file| changed.room.avatar == Some(file.id));
            Some(ChatEvent::Updated { room: changed.room.clone(), avatar, by: user })
        })
        .await
    }

    async fn withdraw(&self, room: RoomId, user: UserId) -> Result<(), ChatError> {
        let judge = move |facts: &RoomFacts| {
            let stays = facts.room.kind == RoomKind::Group && facts.room.owner == user;
            Ok(if stays || facts.actor.is_none() { Vec::new() } else { vec![RoomChange::Remove] })
        };
        self.decree(room, user, Some(user), judge, move |changed| {
            Some(match changed.was_pending {
                // Others never saw a member who did not accept.
                true => ChatEvent::Declined { user },
                false => ChatEvent::Removed { user, why: Removal::Left },
            })
        })
        .await
    }

    /// A change of a room that no user asked for. A room that does not exist any more is no error.
    async fn decree(
        &self,
        room: RoomId,
        actor: UserId,
        target: Option<UserId>,
        judge: impl Fn(&RoomFacts) -> Result<Vec<RoomChange>, Refusal> + Send + Sync + 'static,
        event: impl FnOnce(&RoomChanged) -> Option<ChatEvent> + Send + 'static,
    ) -> Result<(), ChatError> {
        let (sender, receiver) = oneshot::channel();
        self.entrance.expect(&self.store, room).await?;
        let stored = self.entrance.sender();
        self.store.chat_room_change(room, actor, target, self.clock.now(), judge, move |result| {
            let shown = match result {
                Ok(Judged::Done(changed)) if changed.changes.is_empty() => (Place::Nowhere, None, Ok(())),
                Ok(Judged::Done(changed)) => (Place::At(changed.position()), event(&changed), Ok(())),
                Ok(Judged::Missing | Judged::Refused(_)) => (Place::Nowhere, None, Ok(())),
                Err(error) => (Place::Nowhere, None, Err(error.into())),
            };
            stored.send(StoredChange::awaited(room, shown, sender));
        })?;
        answer(receiver).await
    }

    async fn message_file_drop(&self, room: RoomId, seq: u64, file: &StoredFile) -> Result<(), ChatError> {
        let id = file.id;
        let fits = move |message: &Message| message.file == Some(id);
        self.decree_message((room, seq), file.uploader, MessageEdit::DropFile, fits).await
    }

    /// A change of a message that no user asked for, if it fits. A message that does not exist is no error.
    async fn decree_message(
        &self,
        (room, seq): (RoomId, u64),
        by: UserId,
        edit: MessageEdit,
        fits: impl Fn(&Message) -> bool + Send + Sync + 'static,
    ) -> Result<(), ChatError> {
        let Some(message) = self.store.chat_message(room, seq).await? else { return Ok(()) };
        let face = face_of(&self.store, message.sender).await;
        let file = file_of(&self.store, &message).await;
        let judge = move |_: &RoomFacts, message: &Message| match fits(message) {
            true => Ok(()),
            false => Err(Refusal::Denied(super::Denied::NoRight)),
        };
        let (sender, receiver) = oneshot::channel();
        self.entrance.expect(&self.store, room).await?;
        let stored = self.entrance.sender();
        let change = MessageChange { room, seq, actor: by, edit, now: self.clock.now() };
        self.store.chat_message_change(change, judge, move |result| {
            let shown = match result {
                Ok(Judged::Done(MessageEdited { message, revision, position })) => {
                    let file = file.filter(|_| message.file.is_some());
                    let view = MessageView { message, sender: face, file };
                    (Place::At(position), Some(ChatEvent::Edited { view, revision, by }), Ok(()))
                }
                Ok(Judged::Missing | Judged::Refused(_)) => (Place::Nowhere, None, Ok(())),
                Err(error) => (Place::Nowhere, None, Err(error.into())),
            };
            stored.send(StoredChange::awaited(room, shown, sender));
        })?;
        answer(receiver).await
    }

    /// Deletes messages older than this, as their senders could, in one bounded step of a walk over all rooms. Returns
    /// how many. The next call continues; after the end it begins anew.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`], [`ChatError::Busy`].
    pub async fn messages_expire(&self, keep: Duration, limit: usize) -> Result<usize, ChatError> {
        let before = self.clock.now().minus(keep);
        let lock = || self.expired.lock().unwrap_or_else(PoisonError::into_inner);
        let after = *lock();
        let OlderMessages { old, next } = self.store.chat_messages_older(after, before, limit).await?;
        let deleted = old.len();
        for place in old {
            let fits = move |message: &Message| message.created_at < before;
            self.decree_message(place, NOBODY, MessageEdit::Delete, fits).await?;
        }
        *lock() = next.unwrap_or((RoomId(0), 0));
        Ok(deleted)
    }
}

/// Who stays when a member goes: whoever accepted the room, an admin first, then who has the most rights, then who
/// joined first.
fn successor(members: &[Member], owner: UserId, leaving: UserId) -> Option<UserId> {
    let rank = |member: &&Member| {
        let rights = effective(member, owner);
        let count = rights.iter().count();
        (std::cmp::Reverse((rights.is_admin(), count)), member.joined_at, member.user)
    };
    let others = members.iter().filter(|member| member.user != leaving && !member.pending);
    others.min_by_key(rank).map(|member| member.user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::chat::rights::{Access, Rights};

    fn member(user: u64, rights: &[Access], joined: u64) -> Member {
        Member {
            user: UserId(user),
            rights: Rights::of(rights).bits(),
            read_seq: 0,
            deleted_unread: 0,
            pinned: false,
            joined_at: Timestamp::from_secs(joined),
            hidden_at: None,
            pending: false,
        }
    }

    #[test]
    fn a_group_passes_to_an_admin_then_to_the_oldest_member() {
        use Access::{Add, Kick, Member as Plain};
        let owner = member(1, &[], 1);
        let mut members = vec![owner, member(2, &[Plain], 2), member(3, &[Plain], 3)];
        let heir = |members: &[Member]| successor(members, UserId(1), UserId(1)).map(|user| user.0);
        assert_eq!(heir(&members), Some(2), "who joined first");
        members.push(member(4, &[Plain, Add], 9));
        assert_eq!(heir(&members), Some(4), "an admin");
        members.push(member(5, &[Plain, Add, Kick], 10));
        assert_eq!(heir(&members), Some(5), "an admin with more rights");
        for member in &mut members[1..] {
            member.pending = true;
        }
        assert_eq!(heir(&members), None, "nobody accepted the room");
        assert_eq!(heir(&[owner]), None);
    }
}
