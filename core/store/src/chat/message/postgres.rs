//! The operations of this folder, in PostgreSQL statements.

use futures_util::future::try_join;
use tokio_postgres::Row;

use crate::chat::message::rules::{self, Pager};
use crate::chat::message::{
    AppendJudge, Appended, Edited, Message, MessageBody, MessageChange, MessageDraft, MessageEdit,
    MessageEdited, MessageJudge, MessagePage, OlderMessages,
};
use crate::chat::postgres::facts::{facts, rooms_if_asked};
use crate::chat::postgres::request::accept;
use crate::chat::postgres::room::{Kept, LOCK, lock, member, member_columns};
use crate::chat::room::RoomFacts;
use crate::chat::search::postgres::remove_covering;
use crate::chat::{FileId, Judged, Position, RoomId, SEQ_MAX};
use crate::engine::Then;
use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, Text, escaped, int, size};
use crate::files::postgres as file;
use crate::{StoreError, Timestamp, UserId};

/// The columns of [`message`], from `messages`.
macro_rules! message_columns {
    () => {
        "room, seq, sender, message.kind, text, raw, lat, lng, file, file_name, client_id, \
         message.created_at, edited_at, deleted, message.revision"
    };
}

pub(crate) use message_columns;

/// Messages read at once for a page that needs more than its limit: it skips deleted ones.
const CHUNK: i64 = 250;

impl Postgres {
    /// Locks the room, whose row gives the number.
    pub(crate) fn chat_message_append(
        &self,
        draft: MessageDraft,
        judge: AppendJudge,
        then: Then<Judged<Appended>>,
    ) -> Result<(), StoreError> {
        self.change_in_order_then(
            draft.room.0,
            (draft, judge),
            |sql, (draft, judge)| Box::pin(append(sql, draft, judge)),
            then,
        )
    }

    /// Locks the room.
    pub(crate) fn chat_message_change(
        &self,
        wanted: MessageChange,
        judge: MessageJudge,
        then: Then<Judged<MessageEdited>>,
    ) -> Result<(), StoreError> {
        self.change_in_order_then(
            wanted.room.0,
            (wanted, judge),
            |sql, (wanted, judge)| Box::pin(change(sql, wanted, judge)),
            then,
        )
    }

    pub(crate) async fn chat_message(&self, room: RoomId, seq: u64) -> Result<Option<Message>, StoreError> {
        let statement = concat!("select ", message_columns!(), " from message where room = $1 and seq = $2");
        let found = self.reader().await?.found(statement, &[&int(room.0), &int(seq)]).await?;
        Ok(found.map(|row| message(&row)))
    }

    pub(crate) async fn chat_messages_older(
        &self,
        after: (RoomId, u64),
        before: Timestamp,
        limit: usize,
    ) -> Result<OlderMessages, StoreError> {
        // Times of a room rise with its numbers, so a room whose first message is newer has no older one.
        let statement = "
            select next.room, next.seq, next.created_at, next.deleted
            from room cross join lateral (
                select room, seq, created_at, deleted from message
                where room = room.id and seq > case when room.id = $1 then $2::bigint else 0 end
                order by seq limit $4
            ) as next
            where room.id >= $1
                and (select created_at from message where room = room.id order by seq limit 1) < $3
            order by next.room, next.seq limit $4";
        let args: (i64, i64) = (int(after.0.0), int(after.1));
        let reader = self.reader().await?;
        let rows = reader.rows(statement, &[&args.0, &args.1, &At(before), &size(limit)]).await?;
        let (mut old, mut next) = (Vec::new(), None);
        for row in &rows {
            let at = (RoomId(row.uint("room")), row.uint("seq"));
            if next.is_some_and(|(room, seq)| room == at.0 && seq == u64::MAX) {
                continue;
            }
            next = Some(at);
            if row.at("created_at") >= before {
                next = Some((at.0, u64::MAX));
            } else if !row.get::<_, bool>("deleted") {
                old.push(at);
            }
        }
        Ok(OlderMessages { old, next: next.filter(|_| rows.len() == limit) })
    }

    pub(crate) async fn chat_last_seq(&self, room: RoomId) -> Result<u64, StoreError> {
        let statement = "select last_seq from room where id = $1";
        let found = self.reader().await?.found(statement, &[&int(room.0)]).await?;
        Ok(found.map_or(0, |row| row.uint("last_seq")))
    }

    pub(crate) async fn chat_messages_before(
        &self,
        room: RoomId,
        before: u64,
        limit: usize,
    ) -> Result<MessagePage, StoreError> {
        let statement = concat!(
            "select ",
            message_columns!(),
            " from message where room = $1 and seq < $2 order by seq desc limit $3"
        );
        self.page(statement, room, before, limit).await
    }

    pub(crate) async fn chat_messages_after(
        &self,
        room: RoomId,
        after: u64,
        limit: usize,
    ) -> Result<MessagePage, StoreError> {
        let statement = concat!(
            "select ",
            message_columns!(),
            " from message where room = $1 and seq > $2 order by seq limit $3"
        );
        self.page(statement, room, after, limit).await
    }

    /// Reads a page's messages and the one behind it; more only where the page skips deleted ones.
    async fn page(
        &self,
        statement: &'static str,
        room: RoomId,
        mut from: u64,
        limit: usize,
    ) -> Result<MessagePage, StoreError> {
        let reader = self.reader().await?;
        let (mut pager, mut wanted) = (Pager::new(limit), size(limit.saturating_add(1)));
        loop {
            wanted = wanted.max(1).min(if limit == usize::MAX { CHUNK } else { i64::MAX });
            let rows = reader.rows(statement, &[&int(room.0), &int(from), &wanted]).await?;
            for row in &rows {
                let message = message(row);
                from = message.seq;
                if !pager.take(message) {
                    return Ok(pager.page());
                }
            }
            if i64::try_from(rows.len()).is_ok_and(|read| read < wanted) {
                return Ok(pager.page());
            }
            wanted = CHUNK;
        }
    }

    pub(crate) async fn chat_gap(
        &self,
        room: RoomId,
        after: u64,
        last: u64,
    ) -> Result<Vec<Message>, StoreError> {
        let statement = concat!(
            "select ",
            message_columns!(),
            " from message where room = $1 and seq > $2 and seq <= $3 order by seq"
        );
        let rows = self.reader().await?.rows(statement, &[&int(room.0), &int(after), &int(last)]).await?;
        Ok(rows.iter().map(message).collect())
    }

    pub(crate) async fn chat_revisions(
        &self,
        room: RoomId,
        after: u64,
        last: u64,
    ) -> Result<Vec<Edited>, StoreError> {
        let statement = concat!(
            "select ",
            message_columns!(),
            " from message where room = $1 and revision > $2 and revision <= $3 and revision > 0 order by revision"
        );
        let rows = self.reader().await?.rows(statement, &[&int(room.0), &int(after), &int(last)]).await?;
        let edited = |row: &Row| Edited { revision: row.uint("revision"), message: message(row) };
        Ok(rows.iter().map(edited).collect())
    }

    pub(crate) async fn chat_unread_recount(
        &self,
        room: RoomId,
        user: UserId,
    ) -> Result<Option<u64>, StoreError> {
        let statement = "select (select count(*) from message where message.room = $1 and seq > read_seq \
                         and not deleted and sender <> $2) as unread \
                         from room_member where room = $1 and account = $2";
        let found = self.reader().await?.found(statement, &[&int(room.0), &int(user.0)]).await?;
        Ok(found.map(|row| row.uint("unread")))
    }
}

pub(crate) fn message(row: &Row) -> Message {
    Message {
        room: RoomId(row.uint("room")),
        seq: row.uint("seq"),
        sender: UserId(row.uint("sender")),
        body: MessageBody {
            kind: row.text("kind"),
            text: row.text("text"),
            raw: row.get("raw"),
            lat: row.text_opt("lat"),
            lng: row.text_opt("lng"),
        },
        file: row.uint_opt("file").map(FileId),
        file_name: row.text_opt("file_name"),
        client_id: row.text_opt("client_id"),
        created_at: row.at("created_at"),
        edited_at: row.at_opt("edited_at"),
        deleted: row.get("deleted"),
    }
}

async fn append(
    sql: &Sql,
    draft: &MessageDraft,
    judge: &AppendJudge,
) -> Result<Judged<Appended>, StoreError> {
    // Sent together; the second one is run when the first one has the lock, and sees what was committed before that.
    sql.prepare(&[LOCK, STANDING]).await?;
    let (kept, row) = try_join(lock(sql, draft.room), standing(sql, draft)).await?;
    let Some(kept) = kept else { return Ok(Judged::Missing) };
    let last_seq = kept.last_seq;
    let (facts, known) = (facts_of(sql, kept, &row).await?, row.uint_opt("known"));
    // This comes before the judge: an accepted message stays accepted, whatever happened to the room since. Only a
    // member may ask.
    if let (Some(seq), Some(_)) = (known, &facts.actor) {
        let statement = concat!("select ", message_columns!(), " from message where room = $1 and seq = $2");
        let message = message(&sql.row(statement, &[&int(draft.room.0), &int(seq)]).await?);
        let file = file::of_message(sql, message.file).await?.map(Box::new);
        return Ok(Judged::Done(Appended::Known { message, file }));
    }
    if let Err(refusal) = judge(&facts) {
        return Ok(Judged::Refused(refusal));
    }
    let seq = last_seq + 1;
    if seq > SEQ_MAX {
        return Ok(Judged::Done(Appended::RoomFull));
    }
    let file = match draft.file {
        None => None,
        Some(id) => match file::attach(sql, id, draft.room, draft.sender, seq).await? {
            Some(file) => Some(Box::new(file)),
            None => return Ok(Judged::Done(Appended::FileUnusable)),
        },
    };
    let message = Message {
        room: draft.room,
        seq,
        sender: draft.sender,
        body: draft.body.clone(),
        file: draft.file,
        file_name: file.as_ref().map(|file| file.path()),
        client_id: draft.client_id.clone(),
        created_at: draft.now,
        edited_at: None,
        deleted: false,
    };
    let accepts = facts.actor.is_some_and(|member| member.pending);
    let mut room = facts.room;
    if accepts {
        // An answer accepts the room that its sender was asked into. The acceptance comes before the message.
        accept(sql, &room, draft.sender, draft.now).await?;
        room.changes += 1;
    }
    put(sql, &message, accepts).await?;
    let position = Position { seq, revision: room.revision, changes: room.changes };
    if !accepts {
        return Ok(Judged::Done(Appended::New { message, file, position }));
    }
    Ok(Judged::Done(Appended::Accepting { message, file, position, room: Box::new(room) }))
}

const STANDING: &str = concat!(
    "select ",
    member_columns!(),
    ", exists (select from room_ban where room = $1 and account = $2) as banned, \
     (select seq from message where room = $1 and sender = $2 and client_id = $3) as known \
     from (values (1)) as one left join room_member on room = $1 and account = $2"
);

/// The sender's membership and ban, and the message that has the draft's client id.
async fn standing(sql: &Sql, draft: &MessageDraft) -> Result<Row, StoreError> {
    let client_id = draft.client_id.as_deref().map(Text);
    sql.row(STANDING, &[&int(draft.room.0), &int(draft.sender.0), &client_id]).await
}

async fn facts_of(sql: &Sql, kept: Kept, standing: &Row) -> Result<RoomFacts, StoreError> {
    let member = member(standing);
    let actor_rooms = rooms_if_asked(sql, member).await?;
    Ok(RoomFacts { actor_banned: standing.get("banned"), actor_rooms, ..RoomFacts::of(kept.room, member) })
}

/// Stores a message as the newest one of its room, whose row is locked. Its sender has read everything.
async fn put(sql: &Sql, message: &Message, accepts: bool) -> Result<(), StoreError> {
    let statement = "
        with number as (
            update room set last_seq = $2, last_at = $12, changes = changes + $13 where id = $1
        ), reader as (
            update room_member set read_seq = $2, deleted_unread = 0 where room = $1 and account = $3
        )
        insert into message
            (room, seq, sender, kind, text, raw, lat, lng, file, file_name, client_id, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    let MessageBody { kind, text, raw, lat, lng } = &message.body;
    let kept = |text: &str| escaped(text).into_owned();
    sql.run_last(
        statement,
        vec![
            Box::new(int(message.room.0)),
            Box::new(int(message.seq)),
            Box::new(int(message.sender.0)),
            Box::new(kept(kind)),
            Box::new(kept(text)),
            Box::new(*raw),
            Box::new(lat.as_deref().map(kept)),
            Box::new(lng.as_deref().map(kept)),
            Box::new(message.file.map(|file| int(file.0))),
            Box::new(message.file_name.as_deref().map(kept)),
            Box::new(message.client_id.as_deref().map(kept)),
            Box::new(At(message.created_at)),
            Box::new(i64::from(accepts)),
        ],
    )
    .await
}

async fn change(
    sql: &Sql,
    wanted: &MessageChange,
    judge: &MessageJudge,
) -> Result<Judged<MessageEdited>, StoreError> {
    let MessageChange { room, seq, actor, ref edit, now } = *wanted;
    let Some(kept) = lock(sql, room).await? else { return Ok(Judged::Missing) };
    let facts = facts(sql, &kept, actor).await?;
    let statement =
        concat!("select ", message_columns!(), " from message where room = $1 and seq = $2 and not deleted");
    let Some(found) = sql.found(statement, &[&int(room.0), &int(seq)]).await? else {
        return Ok(Judged::Missing);
    };
    let mut message = message(&found);
    if let Err(refusal) = judge(&facts, &message) {
        return Ok(Judged::Refused(refusal));
    }
    if *edit != MessageEdit::DropFile {
        remove_covering(sql, room, seq, seq).await?;
    }
    let deletes = *edit == MessageEdit::Delete;
    if let Some(file) = rules::edit(&mut message, edit.clone(), now) {
        file::detach(sql, file).await?;
    }
    if deletes {
        let statement = "update room_member set deleted_unread = deleted_unread + 1 \
                         where room = $1 and read_seq < $2";
        sql.run(statement, &[&int(room.0), &int(seq)]).await?;
    }
    // A returning client needs only a message's last change, which is the message's own revision.
    let revision = kept.room.revision + 1;
    rewrite(sql, &message, revision).await?;
    let position = Position { seq: kept.last_seq, revision, changes: kept.room.changes };
    Ok(Judged::Done(MessageEdited { message, revision, position }))
}

/// Stores a changed message and its room's revision.
async fn rewrite(sql: &Sql, message: &Message, revision: u64) -> Result<(), StoreError> {
    let statement = "
        with revised as (update room set revision = $3 where id = $1)
        update message set revision = $3, kind = $4, text = $5, raw = $6, lat = $7, lng = $8, file = $9,
            file_name = $10, edited_at = $11, deleted = $12
        where room = $1 and seq = $2";
    let MessageBody { kind, text, raw, lat, lng } = &message.body;
    sql.run(
        statement,
        &[
            &int(message.room.0),
            &int(message.seq),
            &int(revision),
            &Text(kind),
            &Text(text),
            raw,
            &lat.as_deref().map(Text),
            &lng.as_deref().map(Text),
            &message.file.map(|file| int(file.0)),
            &message.file_name.as_deref().map(Text),
            &message.edited_at.map(At),
            &message.deleted,
        ],
    )
    .await
    .map(drop)
}
