//! The operations of this folder, in sled statements.

use crate::chat::message::rules::{self, Pager};
use crate::chat::message::{
    AppendJudge, Appended, Edited, Message, MessageChange, MessageDraft, MessageEdit, MessageEdited,
    MessageJudge, MessagePage, OlderMessages,
};
use crate::chat::search::sled::remove_covering;
use crate::chat::sled::facts::facts;
use crate::chat::sled::message::{MessageRecord, newest};
use crate::chat::sled::request::accept;
use crate::chat::sled::room::{MemberRecord, RoomRecord, member};
use crate::chat::{Judged, Position, RoomId, SEQ_MAX};
use crate::engine::Then;
use crate::engine::sled::keys::chat as key;
use crate::engine::sled::record::{decode, decode_u64, encode_u64};
use crate::engine::sled::txn::{Newest, Txn};
use crate::engine::sled::{Sled, error};
use crate::files::{StoredFile, sled as file};
use crate::{StoreError, Timestamp, UserId};

impl Sled {
    pub(crate) fn chat_message_append(
        &self,
        draft: MessageDraft,
        judge: AppendJudge,
        then: Then<Judged<Appended>>,
    ) -> Result<(), StoreError> {
        self.change_then_with_room(move |txn| append(txn, draft, judge), then)
    }

    pub(crate) fn chat_message_change(
        &self,
        wanted: MessageChange,
        judge: MessageJudge,
        then: Then<Judged<MessageEdited>>,
    ) -> Result<(), StoreError> {
        self.change_then(move |txn| change(txn, wanted, judge), then)
    }

    pub(crate) fn chat_message(&self, room: RoomId, seq: u64) -> Result<Option<Message>, StoreError> {
        let record = self.record::<MessageRecord>(&key::message(room, seq))?;
        Ok(record.map(|record| record.with_id(room, seq)))
    }

    pub(crate) fn chat_messages_older(
        &self,
        after: (RoomId, u64),
        before: Timestamp,
        limit: usize,
    ) -> Result<OlderMessages, StoreError> {
        let (mut old, (mut room, mut seq)) = (Vec::new(), after);
        let from = |room: RoomId, seq: u64| self.tree.range(key::message(room, seq.saturating_add(1))..);
        let mut entries = from(room, seq);
        for _ in 0..limit {
            let Some(entry) = entries.next() else { return Ok(OlderMessages { old, next: None }) };
            let (at, value) = entry.map_err(error::read)?;
            let Some(found) = key::message_of(&at) else { return Ok(OlderMessages { old, next: None }) };
            (room, seq) = found;
            let record = decode::<MessageRecord>(&value)?;
            if record.created_at >= before {
                seq = u64::MAX;
                entries = from(room, seq);
            } else if !record.deleted {
                old.push((room, seq));
            }
        }
        Ok(OlderMessages { old, next: Some((room, seq)) })
    }

    pub(crate) fn chat_last_seq(&self, room: RoomId) -> Result<u64, StoreError> {
        let newest = self.tree.scan_prefix(key::messages(room)).keys().next_back();
        Ok(newest.transpose().map_err(error::read)?.map_or(0, |key| key::last(&key)))
    }

    pub(crate) fn chat_messages_before(
        &self,
        room: RoomId,
        before: u64,
        limit: usize,
    ) -> Result<MessagePage, StoreError> {
        let range = self.tree.range(key::message(room, 0)..key::message(room, before));
        page(room, range.rev(), limit)
    }

    pub(crate) fn chat_messages_after(
        &self,
        room: RoomId,
        after: u64,
        limit: usize,
    ) -> Result<MessagePage, StoreError> {
        let first = key::message(room, after.saturating_add(1));
        page(room, self.tree.range(first..=key::message(room, u64::MAX)), limit)
    }

    pub(crate) fn chat_gap(&self, room: RoomId, after: u64, last: u64) -> Result<Vec<Message>, StoreError> {
        if after >= last {
            return Ok(Vec::new());
        }
        let range = self.tree.range(key::message(room, after + 1)..=key::message(room, last));
        let message = |entry: sled::Result<(sled::IVec, sled::IVec)>| {
            let (key, value) = entry.map_err(error::read)?;
            Ok(decode::<MessageRecord>(&value)?.with_id(room, key::last(&key)))
        };
        range.map(message).collect()
    }

    pub(crate) fn chat_revisions(
        &self,
        room: RoomId,
        after: u64,
        last: u64,
    ) -> Result<Vec<Edited>, StoreError> {
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

    pub(crate) fn chat_unread_recount(&self, room: RoomId, user: UserId) -> Result<Option<u64>, StoreError> {
        let Some(member) = self.chat_member(room, user)? else { return Ok(None) };
        let page = self.chat_messages_after(room, member.read_seq, usize::MAX)?;
        Ok(Some(page.messages.iter().filter(|message| message.sender != user).count() as u64))
    }
}

fn page(
    room: RoomId,
    entries: impl Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>>,
    limit: usize,
) -> Result<MessagePage, StoreError> {
    let mut pager = Pager::new(limit);
    for entry in entries {
        let (key, value) = entry.map_err(error::read)?;
        if !pager.take(decode::<MessageRecord>(&value)?.with_id(room, key::last(&key))) {
            break;
        }
    }
    Ok(pager.page())
}

impl Sled {
    /// [`newest`], and when it was sent.
    pub(crate) fn chat_newest(&self, room: RoomId) -> Result<Option<(Newest, Timestamp)>, StoreError> {
        let newest = self.tree.scan_prefix(key::messages(room)).next_back();
        let Some((key, value)) = newest.transpose().map_err(error::read)? else { return Ok(None) };
        let record = decode::<MessageRecord>(&value)?;
        Ok(Some((Newest { seq: key::last(&key), sender: record.sender }, record.created_at)))
    }
}

fn append(txn: &mut Txn, draft: MessageDraft, judge: AppendJudge) -> Result<Judged<Appended>, StoreError> {
    let MessageDraft { room, sender, body, file, client_id, now } = draft;
    let Some(facts) = facts(txn, room, sender, None)? else { return Ok(Judged::Missing) };
    let dedupe = client_id.as_deref().map(|id| key::client_id(room, sender, id));
    // This comes before the judge: an accepted message stays accepted, whatever happened to the room since. Only a
    // member may ask.
    if let (Some(dedupe), Some(_)) = (&dedupe, &facts.actor)
        && let Some(bytes) = txn.get(dedupe)?
    {
        let seq = decode_u64("client message id", &bytes)?;
        if let Some(known) = txn.get_record::<MessageRecord>(&key::message(room, seq))? {
            let file = file::of_message(txn, known.file)?.map(Box::new);
            return Ok(Judged::Done(Appended::Known { message: known.with_id(room, seq), file }));
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
    let attached = match file {
        None => None,
        Some(id) => match file::attach(txn, id, room, sender, seq)? {
            Some(file) => Some(Box::new(file)),
            None => return Ok(Judged::Done(Appended::FileUnusable)),
        },
    };
    if let Some(dedupe) = dedupe {
        txn.put(dedupe, encode_u64(seq));
    }
    // The sender's own record need not move while the newest message is theirs: see `MemberRecord::as_of`.
    if let Some(newest) = newest.filter(|newest| newest.sender != sender)
        && let Some(member) = member(txn, room, newest.sender, Some(newest))?
    {
        txn.put_record(key::member(room, newest.sender), &member);
    }
    let record = MessageRecord {
        created_at: now,
        deleted: false,
        sender,
        body,
        file,
        file_name: attached.as_ref().map(|file| file.path()),
        client_id,
        edited_at: None,
        revision: 0,
    };
    txn.put_record(key::message(room, seq), &record);
    txn.note_newest(room.0, Newest { seq, sender });
    let position = Position { seq, revision: facts.room.revision, changes: facts.room.changes };
    if facts.actor.is_some_and(|member| member.pending) {
        return accepting(txn, (record.with_id(room, seq), attached), position);
    }
    Ok(Judged::Done(Appended::New { message: record.with_id(room, seq), file: attached, position }))
}

/// An answer accepts the room that its sender was asked into. The acceptance comes before the message.
fn accepting(
    txn: &mut Txn,
    (message, file): (Message, Option<Box<StoredFile>>),
    position: Position,
) -> Result<Judged<Appended>, StoreError> {
    let (id, sender, now) = (message.room, message.sender, message.created_at);
    let Some(mut room) = txn.get_record::<RoomRecord>(&key::room(id))? else { return Ok(Judged::Missing) };
    accept(txn, id, &room, sender, now)?;
    room.changes += 1;
    txn.put_record(key::room(id), &room);
    let position = Position { changes: room.changes, ..position };
    let room = Box::new(room.with_id(id));
    Ok(Judged::Done(Appended::Accepting { message, file, position, room }))
}

fn change(
    txn: &mut Txn,
    wanted: MessageChange,
    judge: MessageJudge,
) -> Result<Judged<MessageEdited>, StoreError> {
    let MessageChange { room, seq, actor, edit, now } = wanted;
    let Some(facts) = facts(txn, room, actor, None)? else { return Ok(Judged::Missing) };
    let key = key::message(room, seq);
    let Some(found) = txn.get_record::<MessageRecord>(&key)?.filter(|record| !record.deleted) else {
        return Ok(Judged::Missing);
    };
    let revision_before = found.revision;
    let mut message = found.with_id(room, seq);
    if let Err(refusal) = judge(&facts, &message) {
        return Ok(Judged::Refused(refusal));
    }
    let newest = newest(txn, room)?;
    if edit != MessageEdit::DropFile {
        remove_covering(txn, room, seq, seq)?;
    }
    let deletes = edit == MessageEdit::Delete;
    if let Some(file) = rules::edit(&mut message, edit, now) {
        file::detach(txn, file)?;
    }
    if deletes {
        txn.put(key::deletion(room, seq), sled::IVec::default());
        // Deletions are rare, and a room has a bounded number of members; unread counts are read all the time.
        for (key, value) in txn.scan(&key::members(room), usize::MAX)? {
            let member = decode::<MemberRecord>(&value)?;
            let mut member = member.as_of(UserId(key::last(&key)), newest);
            if member.read_seq < seq {
                member.deleted_unread += 1;
                txn.put_record(key, &member);
            }
        }
    }
    let revision = facts.room.revision + 1;
    txn.put_record(key, &MessageRecord::of(message.clone(), revision));
    RoomRecord::revise(txn, room, revision)?;
    // A returning client needs only a message's last change, so older revisions are removed.
    if revision_before > 0 {
        txn.delete(key::revision(room, revision_before));
    }
    txn.put(key::revision(room, revision), encode_u64(seq));
    let seq = newest.map_or(0, |newest| newest.seq);
    let position = Position { seq, revision, changes: facts.room.changes };
    Ok(Judged::Done(MessageEdited { message, revision, position }))
}
