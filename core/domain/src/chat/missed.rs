//! What a client, or the publisher, missed of a room: read from the store again, as it is now.

use std::collections::HashMap;
use std::sync::Arc;

use chelseru_store::chat::RoomId;
use chelseru_store::{Store, StoreError};

use super::{Message, MessageView, PublicUser};
use crate::ids::UserId;

/// Messages, and edits with their revision.
pub(super) type Missed = (Vec<MessageView>, Vec<(u64, MessageView)>);

/// Messages by number, and edits by revision, after what was seen up to the heads. Each message comes as it is now.
pub(super) fn missed(
    store: &Store,
    room: RoomId,
    seen: (u64, u64),
    heads: (u64, u64),
) -> Result<Missed, StoreError> {
    let mut names: HashMap<UserId, Arc<str>> = HashMap::new();
    let mut view = |message: Message| {
        let name = names.entry(message.sender).or_insert_with(|| name_of(store, message.sender));
        MessageView { sender_name: Arc::clone(name), message }
    };
    let messages = store.chat_gap(room, seen.0, heads.0)?.into_iter().map(&mut view).collect();
    let edits = store.chat_revisions(room, seen.1, heads.1)?;
    Ok((messages, edits.into_iter().map(|edit| (edit.revision, view(edit.message))).collect()))
}

pub(super) fn name_of(store: &Store, user: UserId) -> Arc<str> {
    match store.user_get(user) {
        Ok(Some(user)) => PublicUser::of(&user).username.into(),
        _ => Arc::from(""),
    }
}
