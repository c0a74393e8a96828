//! Changes of a room that a client or the publisher missed: read from the store in their current state.

use std::collections::HashMap;
use std::sync::Arc;

use chelseru_store::chat::RoomId;
use chelseru_store::{Store, StoreError};

use super::{Face, Message, MessageView, StoredFile};
use crate::ids::UserId;

/// Messages, and edits with their revision.
pub(super) type Missed = (Vec<MessageView>, Vec<(u64, MessageView)>);

/// Messages by number, and edits by revision, between the seen position and the heads, in their current state.
pub(super) async fn missed(
    store: &Store,
    room: RoomId,
    seen: (u64, u64),
    heads: (u64, u64),
) -> Result<Missed, StoreError> {
    let mut faces = Faces { store, known: HashMap::new() };
    let mut messages = Vec::new();
    for message in store.chat_gap(room, seen.0, heads.0).await? {
        messages.push(faces.view(message).await);
    }
    let mut edits = Vec::new();
    for edit in store.chat_revisions(room, seen.1, heads.1).await? {
        edits.push((edit.revision, faces.view(edit.message).await));
    }
    Ok((messages, edits))
}

/// The senders, each read once.
struct Faces<'a> {
    store: &'a Store,
    known: HashMap<UserId, Face>,
}

impl Faces<'_> {
    async fn view(&mut self, message: Message) -> MessageView {
        let sender = match self.known.get(&message.sender) {
            Some(face) => face.clone(),
            None => {
                let face = face_of(self.store, message.sender).await;
                self.known.insert(message.sender, face.clone());
                face
            }
        };
        let file = file_of(self.store, &message).await;
        MessageView { sender, message, file }
    }
}

/// The message's file. Asks the store only when it has one.
pub(super) async fn file_of(store: &Store, message: &Message) -> Option<Arc<StoredFile>> {
    store.chat_file(message.file?).await.ok().flatten().map(Arc::new)
}

pub(super) async fn face_of(store: &Store, user: UserId) -> Face {
    match store.user_get(user).await {
        Ok(Some(user)) => Face::of(&user),
        _ => Face::gone(),
    }
}
