//! Messages: sent, changed, read, and resumed after an absence.
//!
//! The text, kind and client id are checked here, the sender's right in the store's change. Invariants: a message is
//! shown only after it is durable; one client id of a sender stands for one message of a room; a client never receives
//! a part of a gap as if it were the whole.

use std::sync::Arc;

use chelseru_store::chat::{
    Appended, FileId, Judged, Limit, MessageBody, MessageChange, MessageDraft, MessageEdit, MessageEdited,
    MessagePage, Position, Refusal, Room, RoomFacts, RoomId, StoredFile,
};
use tokio::sync::oneshot;

use super::missed::{face_of, file_of, missed};
use super::publish::Entry;
use super::rights::{Action, permit};
use super::service::{ChatService, answer};
use super::stored::{Place, StoredChange};
use super::{
    CLIENT_ID_CHARS_MAX, COORDINATE_CHARS_MAX, ChatError, ChatEvent, Face, Gap, KINDS, Message, MessageView,
    OPERATOR, Posted, TEXT_BYTES_MAX, message_of,
};
use crate::Timestamp;
use crate::ids::UserId;

/// A message to send.
#[derive(Debug, Clone)]
pub struct Post {
    pub sender: UserId,
    /// As others see the sender: [`ChatService::face`].
    pub face: Face,
    pub body: MessageBody,
    pub file: Option<FileId>,
    pub client_id: Option<String>,
}

impl ChatService {
    /// Room and number of a public message id: of one made here, or of one that an imported message had before.
    ///
    /// # Errors
    ///
    /// [`ChatError::MessageMissing`], [`ChatError::Store`].
    pub async fn message_place(&self, id: u64) -> Result<(RoomId, u64), ChatError> {
        let (room, seq) = message_of(id);
        // Rooms are numbered from 1, so an id below the first one of a room was made elsewhere.
        if room != RoomId(0) {
            return Ok((room, seq));
        }
        self.store.chat_message_by_old_id(id).await?.ok_or(ChatError::MessageMissing)
    }

    /// The number of the last message of a room that was sent before an instant; 0 when there is none.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn last_seq_before(&self, room: RoomId, before: Timestamp) -> Result<u64, ChatError> {
        Ok(self.store.chat_last_seq_before(room, before).await?)
    }

    /// The entry of a room whose position is known in memory; otherwise see [`ChatService::enter`].
    pub fn entered(&self, room: RoomId) -> Option<Entry> {
        self.entrance.known(room)
    }

    /// The entry of a room. Reads where the room stands once; a room that does not exist is refused by the change.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn enter(&self, room: RoomId) -> Result<Entry, ChatError> {
        self.entrance.expect(&self.store, room).await
    }

    /// Stores a message and shows it to its room, then calls `done` with the result. Calls of one task keep their
    /// order.
    ///
    /// # Errors
    ///
    /// Errors found before the store is asked; `done` is not called then.
    pub fn post<D>(&self, entry: &Entry, post: Post, done: D) -> Result<(), ChatError>
    where
        D: FnOnce(Result<Posted, ChatError>) + Send + 'static,
    {
        self.check_body(&post.body)?;
        if let Some(id) = &post.client_id {
            check_client_id(id)?;
        }
        self.charge(post.sender, post.body.text.len())?;
        let room = entry.room();
        let Post { sender, face, body, file, client_id } = post;
        let draft = MessageDraft { room, sender, body, file, client_id, now: self.clock.now() };
        let stored = self.entrance.sender();
        let rooms_max = self.rules().rooms_per_user_max;
        let judge = move |facts: &RoomFacts| {
            permit(Action::Post, facts)?;
            // An answer accepts a request, which becomes one of the sender's rooms.
            let accepts = facts.actor.is_some_and(|actor| actor.pending);
            if accepts && facts.actor_rooms >= rooms_max {
                return Err(Refusal::Full(Limit::UserRooms));
            }
            Ok(())
        };
        self.store.chat_message_append(draft, judge, move |result| {
            let view = |message, file: Option<Box<StoredFile>>| {
                let file = file.map(|file| Arc::new(*file));
                MessageView { message, sender: face, file }
            };
            let (place, event, result) = match result {
                Ok(Judged::Done(Appended::New { message, file, position })) => {
                    let view = view(message, file);
                    let event = ChatEvent::Posted(view.clone());
                    (Place::At(position), Some(event), Ok(Posted { view, duplicate: false }))
                }
                Ok(Judged::Done(Appended::Accepting { message, file, position, room })) => {
                    stored.send(accepted(*room, message.sender, position));
                    let view = view(message, file);
                    let event = ChatEvent::Posted(view.clone());
                    (Place::At(position), Some(event), Ok(Posted { view, duplicate: false }))
                }
                Ok(Judged::Done(Appended::Known { message, file })) => {
                    (Place::Nowhere, None, Ok(Posted { view: view(message, file), duplicate: true }))
                }
                Ok(Judged::Done(Appended::FileUnusable)) => {
                    (Place::Nowhere, None, Err(ChatError::FileUnusable))
                }
                Ok(Judged::Done(Appended::RoomFull)) => {
                    (Place::Nowhere, None, Err(ChatError::Full("messages of a room")))
                }
                Ok(Judged::Missing) => (Place::Nowhere, None, Err(ChatError::RoomMissing)),
                Ok(Judged::Refused(refusal)) => (Place::Nowhere, None, Err(refusal.into())),
                Err(error) => (Place::Nowhere, None, Err(error.into())),
            };
            stored.send(StoredChange { room, place, event, done: Some(Box::new(move || done(result))) });
        })?;
        Ok(())
    }

    /// [`ChatService::post`], waiting.
    ///
    /// # Errors
    ///
    /// See [`ChatError`].
    pub async fn post_and_wait(&self, room: RoomId, post: Post) -> Result<Posted, ChatError> {
        let entry = self.enter(room).await?;
        let (sender, receiver) = oneshot::channel();
        self.post(&entry, post, move |result| drop(sender.send(result)))?;
        answer(receiver).await
    }

    /// Edits or deletes a message. Returns the message and its revision.
    ///
    /// # Errors
    ///
    /// See [`ChatError`].
    pub async fn message_change(
        &self,
        room: RoomId,
        seq: u64,
        actor: UserId,
        edit: MessageEdit,
    ) -> Result<(MessageView, u64), ChatError> {
        if let MessageEdit::Body(body) = &edit {
            self.check_body(body)?;
            self.charge(actor, body.text.len())?;
        }
        // Only members may learn whether the message exists.
        self.check(room, actor, Action::See).await?;
        let deletes = edit == MessageEdit::Delete;
        let judge = move |facts: &RoomFacts, message: &Message| {
            let own = message.sender == actor;
            let action = if deletes { Action::DeleteMessage { own } } else { Action::EditMessage { own } };
            Ok(permit(action, facts)?)
        };
        self.message_changed(room, seq, actor, edit, judge).await
    }

    /// Deletes a message for an operator, whoever is in the room. Callers record it.
    ///
    /// # Errors
    ///
    /// See [`ChatError`].
    pub(crate) async fn message_decree_delete(&self, room: RoomId, seq: u64) -> Result<(), ChatError> {
        let edit = MessageEdit::Delete;
        self.message_changed(room, seq, OPERATOR, edit, |_: &RoomFacts, _: &Message| Ok(())).await.map(drop)
    }

    async fn message_changed(
        &self,
        room: RoomId,
        seq: u64,
        actor: UserId,
        edit: MessageEdit,
        judge: impl Fn(&RoomFacts, &Message) -> Result<(), Refusal> + Send + Sync + 'static,
    ) -> Result<(MessageView, u64), ChatError> {
        // The sender of a message never changes, and a file is only taken away, so both may be read before the change.
        let Some(message) = self.store.chat_message(room, seq).await? else {
            return Err(ChatError::MessageMissing);
        };
        let face = face_of(&self.store, message.sender).await;
        let file = file_of(&self.store, &message).await;
        self.entrance.expect(&self.store, room).await?;
        let (sender, receiver) = oneshot::channel();
        let stored = self.entrance.sender();
        let change = MessageChange { room, seq, actor, edit, now: self.clock.now() };
        self.store.chat_message_change(change, judge, move |result| {
            let shown = match result {
                Ok(Judged::Done(MessageEdited { message, revision, position })) => {
                    let file = file.filter(|_| message.file.is_some());
                    let view = MessageView { message, sender: face, file };
                    let event = ChatEvent::Edited { view: view.clone(), revision, by: actor };
                    (Place::At(position), Some(event), Ok((view, revision)))
                }
                Ok(Judged::Missing) => (Place::Nowhere, None, Err(ChatError::MessageMissing)),
                Ok(Judged::Refused(refusal)) => (Place::Nowhere, None, Err(refusal.into())),
                Err(error) => (Place::Nowhere, None, Err(error.into())),
            };
            stored.send(StoredChange::awaited(room, shown, sender));
        })?;
        answer(receiver).await
    }

    /// A page of messages: numbers below `before`, newest first. The caller must be checked already.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn messages_before(
        &self,
        room: RoomId,
        before: u64,
        limit: usize,
    ) -> Result<MessagePage, ChatError> {
        Ok(self.store.chat_messages_before(room, before, limit).await?)
    }

    /// A page of messages: numbers above `after`, oldest first. The caller must be checked already.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn messages_after(
        &self,
        room: RoomId,
        after: u64,
        limit: usize,
    ) -> Result<MessagePage, ChatError> {
        Ok(self.store.chat_messages_after(room, after, limit).await?)
    }

    /// # Errors
    ///
    /// [`ChatError::MessageMissing`], and those of [`ChatService::check`].
    pub async fn message(&self, room: RoomId, seq: u64, user: UserId) -> Result<Message, ChatError> {
        self.check(room, user, Action::See).await?;
        let message = self.store.chat_message(room, seq).await?.filter(|message| !message.deleted);
        message.ok_or(ChatError::MessageMissing)
    }

    /// The newest number of a room.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn newest_seq(&self, room: RoomId) -> Result<u64, ChatError> {
        Ok(self.store.chat_last_seq(room).await?)
    }

    /// The newest number and revision of a room, all of it durable.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn heads(&self, room: RoomId) -> Result<(u64, u64), ChatError> {
        let seq = self.store.chat_last_seq(room).await?;
        let revision = self.store.chat_facts(room, UserId(0)).await?.map_or(0, |facts| facts.room.revision);
        // The heads just read may be applied but not flushed.
        self.store.chat_barrier().await?;
        Ok((seq, revision))
    }

    /// The changes between what a client has seen and what was published.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn gap(&self, room: RoomId, seen: (u64, u64), heads: (u64, u64)) -> Result<Gap, ChatError> {
        let max = self.rules().resume_max;
        // A client ahead of the room comes from a restored or different store.
        if seen.0 > heads.0 || seen.1 > heads.1 || heads.0 - seen.0 > max || heads.1 - seen.1 > max {
            return Ok(Gap::Reset);
        }
        let (messages, edits) = missed(&self.store, room, seen, heads).await?;
        Ok(Gap::Whole { messages, edits })
    }

    /// Checks the text of a message or a file.
    ///
    /// # Errors
    ///
    /// [`ChatError::Invalid`] of `text`: too long in characters or bytes, or with a null character.
    pub fn check_text(&self, text: &str) -> Result<(), ChatError> {
        let max = self.rules().text_chars_max;
        // A character has at least one byte: most texts need no counting.
        let reason = if text.len() > max && text.chars().count() > max {
            format!("Ensure this field has no more than {max} characters.")
        } else if text.len() > TEXT_BYTES_MAX {
            format!("Ensure this field has no more than {TEXT_BYTES_MAX} bytes.")
        } else if text.contains('\0') {
            "Null characters are not allowed.".to_owned()
        } else {
            return Ok(());
        };
        Err(ChatError::Invalid { field: "text", reason })
    }

    fn check_body(&self, body: &MessageBody) -> Result<(), ChatError> {
        let invalid = |field, reason: String| Err(ChatError::Invalid { field, reason });
        if !KINDS.contains(&body.kind.as_str()) {
            return invalid("message_type", format!("\"{}\" is not a valid choice.", short(&body.kind)));
        }
        self.check_text(&body.text)?;
        for (field, value) in [("lat", &body.lat), ("lng", &body.lng)] {
            let number = value.as_ref().map(|value| value.trim_matches('"').trim().parse::<f64>());
            let is_long = value.as_ref().is_some_and(|value| value.len() > COORDINATE_CHARS_MAX);
            if is_long || number.is_some_and(|number| !number.is_ok_and(f64::is_finite)) {
                return invalid(field, "A valid number is required.".to_owned());
            }
        }
        Ok(())
    }
}

/// The acceptance that came just before a message.
fn accepted(room: Room, user: UserId, message: Position) -> StoredChange {
    let place = Place::At(Position { seq: message.seq - 1, ..message });
    let id = room.id;
    StoredChange {
        room: id,
        place,
        event: Some(ChatEvent::Accepted { room, user }),
        done: Some(Box::new(|| {})),
    }
}

fn short(text: &str) -> String {
    text.chars().take(45).collect()
}

fn check_client_id(id: &str) -> Result<(), ChatError> {
    let fits =
        !id.is_empty() && id.len() <= CLIENT_ID_CHARS_MAX && id.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        return Ok(());
    }
    let reason = format!("Must be 1 to {CLIENT_ID_CHARS_MAX} printable ASCII characters.");
    Err(ChatError::Invalid { field: "client_id", reason })
}
