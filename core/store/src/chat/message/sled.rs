//! Messages: numbered, kept, changed, paged.
//!
//! Invariants: the numbers of a room have no gap, a deleted message keeps its number without its text; the same
//! client id of the same user in the same room is one message for ever; sending is reading, so that a user's own
//! messages are never unread (a member's record follows later: see `MemberRecord::as_of`); an edit or deletion has the next revision of its room.

use serde::{Deserialize, Serialize};

use crate::chat::room::{self, Member, MemberRecord, RoomFacts, RoomRecord, unread};
use crate::chat::{FileId, Judged, RoomId, SEQ_MAX};
use crate::engine::sled::error;
use crate::engine::sled::keys::chat as key;
use crate::engine::sled::record::{Record, decode, decode_u64, encode_u64};
use crate::engine::sled::txn::{Newest, Txn};
use crate::files as file;
use crate::{Store, StoreError, Timestamp, UserId};

/// What a message says. The store keeps it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageBody {
    /// `text`, `image`, ...
    pub kind: String,
    pub text: String,
    /// The text is JSON that was sent in the place of a text.
    pub raw: bool,
    /// JSON: a number, or a text that is one.
    pub lat: Option<String>,
    pub lng: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageDraft {
    pub room: RoomId,
    pub sender: UserId,
    pub body: MessageBody,
    /// A file that the sender uploaded to this room and that no message has yet.
    pub file: Option<FileId>,
    /// The client's own name of the message; sending it again is the same message.
    pub client_id: Option<String>,
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub room: RoomId,
    /// Its number in the room, from 1.
    pub seq: u64,
    pub sender: UserId,
    pub body: MessageBody,
    pub file: Option<FileId>,
    /// Name of the file in its link.
    pub file_name: Option<String>,
    pub client_id: Option<String>,
    pub created_at: Timestamp,
    pub edited_at: Option<Timestamp>,
    /// Nothing but number, sender and times are left.
    pub deleted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    New(Message),
    /// The client id is known: this is its message.
    Known(Message),
    /// The file is not the sender's, not of this room, or taken.
    FileUnusable,
    /// The room has as many messages as it may ever have.
    RoomFull,
}

/// An effect on one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageEdit {
    Body(MessageBody),
    Delete,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageEdited {
    pub message: Message,
    pub revision: u64,
}

/// An edit or deletion that somebody missed: the message as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    pub revision: u64,
    pub message: Message,
}

/// Messages in the order that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagePage {
    pub messages: Vec<Message>,
    /// There is more to look at in this direction.
    pub more: bool,
    /// The last number that was looked at, when there was one.
    pub end: u64,
}

/// Deleted messages that a page steps over; then it ends early, maybe empty, and says that there is more. Without it
/// a long row of deletions would make every page at its end a long walk.
const STEPS_MAX: usize = 1000;

impl Store {
    /// Gives a message the next number of its room and keeps it.
    ///
    /// # Errors
    ///
    /// Those of every change; the closure gets them too. See [`StoreError`].
    pub fn chat_message_append<E: Send + 'static>(
        &self,
        draft: MessageDraft,
        judge: impl FnOnce(&RoomFacts) -> Result<(), E> + Send + 'static,
        then: impl FnOnce(Result<Judged<Appended, E>, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.change_then(move |txn| append(txn, draft, judge), then)
    }

    /// Edits or deletes a message as its judge says.
    ///
    /// # Errors
    ///
    /// As [`Store::chat_message_append`].
    pub fn chat_message_change<E: Send + 'static>(
        &self,
        room: RoomId,
        seq: u64,
        actor: UserId,
        now: Timestamp,
        judge: impl FnOnce(&RoomFacts, &Message) -> Result<MessageEdit, E> + Send + 'static,
        then: impl FnOnce(Result<Judged<MessageEdited, E>, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.change_then(move |txn| change(txn, room, seq, actor, now, judge), then)
    }

    /// One message, deleted ones too.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn chat_message(&self, room: RoomId, seq: u64) -> Result<Option<Message>, StoreError> {
        let record = self.chat_record::<MessageRecord>(&key::message(room, seq))?;
        Ok(record.map(|record| record.with_id(room, seq)))
    }

    /// The newest number of a room; 0 when it is empty.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub fn chat_last_seq(&self, room: RoomId) -> Result<u64, StoreError> {
        let newest = self.tree.scan_prefix(key::messages(room)).keys().next_back();
        Ok(newest.transpose().map_err(error::read)?.map_or(0, |key| key::last(&key)))
    }

    /// Messages that were not deleted, newest first, numbers below `before`, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn chat_messages_before(
        &self,
        room: RoomId,
        before: u64,
        limit: usize,
    ) -> Result<MessagePage, StoreError> {
        let range = self.tree.range(key::message(room, 0)..key::message(room, before));
        page(room, range.rev(), limit, true)
    }

    /// Messages that were not deleted, oldest first, numbers above `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn chat_messages_after(
        &self,
        room: RoomId,
        after: u64,
        limit: usize,
    ) -> Result<MessagePage, StoreError> {
        let first = key::message(room, after.saturating_add(1));
        page(room, self.tree.range(first..=key::message(room, u64::MAX)), limit, true)
    }

    /// All messages with numbers above `after` up to `last`, deleted ones too, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn chat_gap(&self, room: RoomId, after: u64, last: u64) -> Result<Vec<Message>, StoreError> {
        if after >= last {
            return Ok(Vec::new());
        }
        let range = self.tree.range(key::message(room, after + 1)..=key::message(room, last));
        Ok(page(room, range, usize::MAX, false)?.messages)
    }

    /// The messages that were edited or deleted by revisions above `after` up to `last`, by revision; a message
    /// that was changed several times comes once, by its last revision.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn chat_revisions(&self, room: RoomId, after: u64, last: u64) -> Result<Vec<Edited>, StoreError> {
        let mut edits = Vec::new();
        if after >= last {
            return Ok(edits);
        }
        for entry in self.tree.range(key::revision(room, after + 1)..=key::revision(room, last)) {
            let (key, value) = entry.map_err(error::read)?;
            let seq = decode_u64("revision", &value)?;
            if let Some(message) = self.chat_message(room, seq)? {
                edits.push(Edited { revision: key::last(&key), message });
            }
        }
        Ok(edits)
    }

    /// Unread messages by walking over them: what the count that is kept must equal. For tests and repairs.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn chat_unread_recount(&self, room: RoomId, user: UserId) -> Result<Option<u64>, StoreError> {
        let Some(member) = self.chat_member(room, user)? else { return Ok(None) };
        let page = self.chat_messages_after(room, member.read_seq, usize::MAX)?;
        Ok(Some(page.messages.iter().filter(|message| message.sender != user).count() as u64))
    }
}

fn page(
    room: RoomId,
    entries: impl Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>>,
    limit: usize,
    skip_deleted: bool,
) -> Result<MessagePage, StoreError> {
    let (mut messages, mut end, mut steps) = (Vec::new(), 0, 0);
    for entry in entries {
        let (key, value) = entry.map_err(error::read)?;
        let record = decode::<MessageRecord>(&value)?;
        if skip_deleted && record.deleted {
            // Without a limit nothing may be left out.
            if steps >= STEPS_MAX && limit != usize::MAX {
                return Ok(MessagePage { messages, more: true, end });
            }
            steps += 1;
            end = key::last(&key);
            continue;
        }
        if messages.len() >= limit {
            return Ok(MessagePage { messages, more: true, end });
        }
        end = key::last(&key);
        messages.push(record.with_id(room, end));
    }
    Ok(MessagePage { messages, more: false, end })
}

#[derive(Serialize, Deserialize)]
pub(crate) struct MessageRecord {
    pub(crate) created_at: Timestamp,
    pub(crate) deleted: bool,
    sender: UserId,
    body: MessageBody,
    file: Option<FileId>,
    file_name: Option<String>,
    client_id: Option<String>,
    edited_at: Option<Timestamp>,
    /// The room's revision by which it was last changed; 0: never.
    revision: u64,
}

/// Before a message knew its revision, and each of them stayed.
#[derive(Serialize, Deserialize)]
struct MessageRecord1 {
    created_at: Timestamp,
    deleted: bool,
    sender: UserId,
    body: MessageBody,
    file: Option<FileId>,
    file_name: Option<String>,
    client_id: Option<String>,
    edited_at: Option<Timestamp>,
}

impl Record for MessageRecord {
    const KIND: &'static str = "message";
    const SCHEMA: u8 = 2;
    const SCHEMA_OLDEST: u8 = 1;

    fn decode_older(_schema: u8, body: &[u8]) -> Result<Self, postcard::Error> {
        let old: MessageRecord1 = postcard::from_bytes(body)?;
        Ok(MessageRecord {
            created_at: old.created_at,
            deleted: old.deleted,
            sender: old.sender,
            body: old.body,
            file: old.file,
            file_name: old.file_name,
            client_id: old.client_id,
            edited_at: old.edited_at,
            revision: 0,
        })
    }
}

impl MessageRecord {
    fn with_id(self, room: RoomId, seq: u64) -> Message {
        Message {
            room,
            seq,
            sender: self.sender,
            body: self.body,
            file: self.file,
            file_name: self.file_name,
            client_id: self.client_id,
            created_at: self.created_at,
            edited_at: self.edited_at,
            deleted: self.deleted,
        }
    }
}

/// The newest message of a room, as of the running change; `None` when it has none. A deleted one counts too.
pub(crate) fn newest(txn: &Txn, room: RoomId) -> Result<Option<Newest>, StoreError> {
    if let Some(newest) = txn.newest(room.0) {
        return Ok(Some(newest));
    }
    let Some(key) = txn.last_key(&key::messages(room))? else { return Ok(None) };
    let Some(record) = txn.get_record::<MessageRecord>(&key)? else {
        return Err(StoreError::Record {
            kind: MessageRecord::KIND,
            reason: "it was there a moment ago".into(),
        });
    };
    Ok(Some(Newest { seq: key::last(&key), sender: record.sender }))
}

impl Store {
    /// [`newest`], and when it was sent.
    pub(crate) fn chat_newest(&self, room: RoomId) -> Result<Option<(Newest, Timestamp)>, StoreError> {
        let newest = self.tree.scan_prefix(key::messages(room)).next_back();
        let Some((key, value)) = newest.transpose().map_err(error::read)? else { return Ok(None) };
        let record = decode::<MessageRecord>(&value)?;
        Ok(Some((Newest { seq: key::last(&key), sender: record.sender }, record.created_at)))
    }
}

fn append<E>(
    txn: &mut Txn,
    draft: MessageDraft,
    judge: impl FnOnce(&RoomFacts) -> Result<(), E>,
) -> Result<Judged<Appended, E>, StoreError> {
    let MessageDraft { room, sender, body, file, client_id, now } = draft;
    let Some(facts) = room::facts(txn, room, sender, None)? else { return Ok(Judged::Missing) };
    let dedupe = client_id.as_deref().map(|id| key::client_id(room, sender, id));
    // Before the judge: a message that was taken stays taken, whatever became of the room since. Only a member
    // may ask.
    if let (Some(dedupe), Some(_)) = (&dedupe, &facts.actor)
        && let Some(bytes) = txn.get(dedupe)?
    {
        let seq = decode_u64("client message id", &bytes)?;
        if let Some(known) = txn.get_record::<MessageRecord>(&key::message(room, seq))? {
            return Ok(Judged::Done(Appended::Known(known.with_id(room, seq))));
        }
    }
    if let Err(refusal) = judge(&facts) {
        return Ok(Judged::Refused(refusal));
    }
    let newest = newest(txn, room)?;
    let seq = newest.map_or(0, |newest| newest.seq) + 1;
    if seq > SEQ_MAX {
        return Ok(Judged::Done(Appended::RoomFull));
    }
    let file_name = match file {
        None => None,
        Some(id) => match file::attach(txn, id, room, sender, seq)? {
            Some(name) => Some(name),
            None => return Ok(Judged::Done(Appended::FileUnusable)),
        },
    };
    if let Some(dedupe) = dedupe {
        txn.put(dedupe, encode_u64(seq));
    }
    // The sender's own record need not move as long as the newest message is theirs: see `MemberRecord::as_of`.
    if let Some(newest) = newest.filter(|newest| newest.sender != sender)
        && let Some(member) = room::member(txn, room, newest.sender, Some(newest))?
    {
        txn.put_record(key::member(room, newest.sender), &member);
    }
    let record = MessageRecord {
        created_at: now,
        deleted: false,
        sender,
        body,
        file,
        file_name,
        client_id,
        edited_at: None,
        revision: 0,
    };
    txn.put_record(key::message(room, seq), &record);
    txn.note_newest(room.0, Newest { seq, sender });
    Ok(Judged::Done(Appended::New(record.with_id(room, seq))))
}

fn change<E>(
    txn: &mut Txn,
    room: RoomId,
    seq: u64,
    actor: UserId,
    now: Timestamp,
    judge: impl FnOnce(&RoomFacts, &Message) -> Result<MessageEdit, E>,
) -> Result<Judged<MessageEdited, E>, StoreError> {
    let Some(facts) = room::facts(txn, room, actor, None)? else { return Ok(Judged::Missing) };
    let key = key::message(room, seq);
    let Some(found) = txn.get_record::<MessageRecord>(&key)?.filter(|record| !record.deleted) else {
        return Ok(Judged::Missing);
    };
    let revision_before = found.revision;
    let mut message = found.with_id(room, seq);
    match judge(&facts, &message) {
        Err(refusal) => return Ok(Judged::Refused(refusal)),
        Ok(MessageEdit::Body(body)) => {
            message.body = body;
            message.edited_at = Some(now);
        }
        Ok(MessageEdit::Delete) => {
            if let Some(file) = message.file.take() {
                file::detach(txn, file)?;
            }
            message.body = MessageBody { kind: message.body.kind, ..MessageBody::default() };
            message.file_name = None;
            message.edited_at = Some(now);
            message.deleted = true;
            txn.put(key::deletion(room, seq), sled::IVec::default());
            let newest = newest(txn, room)?;
            // Deleting is rare and a room has a bounded number of members; counting unread ones is neither.
            for (key, value) in txn.scan(&key::members(room), usize::MAX)? {
                let member = decode::<MemberRecord>(&value)?;
                let mut member = member.as_of(UserId(key::last(&key)), newest);
                if member.read_seq < seq {
                    member.deleted_unread += 1;
                    txn.put_record(key, &member);
                }
            }
        }
    }
    let revision = facts.room.revision + 1;
    txn.put_record(
        key,
        &MessageRecord {
            created_at: message.created_at,
            deleted: message.deleted,
            sender: message.sender,
            body: message.body.clone(),
            file: message.file,
            file_name: message.file_name.clone(),
            client_id: message.client_id.clone(),
            edited_at: message.edited_at,
            revision,
        },
    );
    RoomRecord::revise(txn, room, revision)?;
    // Whoever was away learns of a message's last change alone, so that edits do not pile up.
    if revision_before > 0 {
        txn.delete(key::revision(room, revision_before));
    }
    txn.put(key::revision(room, revision), encode_u64(seq));
    Ok(Judged::Done(MessageEdited { message, revision }))
}

impl Member {
    /// Unread messages when the room's newest number is `last_seq`.
    #[must_use]
    pub fn unread(&self, last_seq: u64) -> u64 {
        unread(self, last_seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sled::record::encode;

    impl Record for MessageRecord1 {
        const KIND: &'static str = "message";
        const SCHEMA: u8 = 1;
    }

    #[test]
    fn a_message_of_the_version_before_is_read() {
        let old = MessageRecord1 {
            created_at: Timestamp::from_secs(5),
            deleted: false,
            sender: UserId(3),
            body: MessageBody { kind: "text".into(), text: "hello".into(), ..MessageBody::default() },
            file: None,
            file_name: Some("a.txt".into()),
            client_id: Some("c".into()),
            edited_at: Some(Timestamp::from_secs(6)),
        };
        let record = decode::<MessageRecord>(&encode(&old)).unwrap();
        assert_eq!((record.revision, record.edited_at), (0, Some(Timestamp::from_secs(6))));
        let message = record.with_id(RoomId(1), 9);
        assert_eq!((message.sender, message.seq, message.body.text.as_str()), (UserId(3), 9, "hello"));
        assert_eq!((message.file_name.as_deref(), message.client_id.as_deref()), (Some("a.txt"), Some("c")));
    }
}
