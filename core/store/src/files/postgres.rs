//! The operations of this folder, in PostgreSQL statements.
//!
//! Whoever changes the counted bytes locks the row of the uploader, then that of all files. A picture of an account
//! locks the account before.

use tokio_postgres::Row;

use crate::chat::{FileId, RoomId};
use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, Text, int};
use crate::files::{FileDraft, FileKept, Picture, StoredFile, Thumbnail};
use crate::login::postgres::account;
use crate::login::user::Avatar;
use crate::{StoreError, Timestamp, UserId};

macro_rules! columns {
    () => {
        "id, room, uploader, name, folder, title, content_type, bytes, text, width, height, thumbnail_bytes, \
         thumbnail_width, thumbnail_height, created_at, message, shared"
    };
}

/// With the mark of those that are about to be removed.
pub(crate) const ALL: &str = concat!("select ", columns!(), ", doomed from stored_file order by id");

const BY_ID: &str = concat!("select ", columns!(), " from stored_file where id = $1");

impl Postgres {
    /// Locks the account that gets a picture, then the counts of the uploader and of all files.
    pub(crate) async fn chat_file_keep(&self, draft: FileDraft) -> Result<FileKept, StoreError> {
        self.change(draft, |sql, draft| Box::pin(keep(sql, draft))).await
    }

    /// Locks the account, then the file.
    pub(crate) async fn avatar_remove(&self, user: UserId, only: Option<FileId>) -> Result<bool, StoreError> {
        self.change((user, only), |sql, &(user, only)| {
            Box::pin(async move {
                let shown = account::locked(sql, user).await?.and_then(|user| user.avatar);
                let shown = shown.filter(|avatar| only.is_none_or(|only| only == avatar.file));
                let Some(avatar) = shown else { return Ok(false) };
                account::set_avatar(sql, user, None).await?;
                doom(sql, avatar.file).await?;
                Ok(true)
            })
        })
        .await
    }

    pub(crate) async fn avatar_for(
        &self,
        file: FileId,
        reader: UserId,
    ) -> Result<Option<StoredFile>, StoreError> {
        let shown = concat!(
            "select ",
            columns!(),
            " from stored_file where id = $1 and room is null and not doomed
              and not exists (select from chat_block where blocker = uploader and blocked = $2)"
        );
        let sql = self.reader().await?;
        Ok(sql.found(shown, &[&int(file.0), &int(reader.0)]).await?.map(|row| read(&row)))
    }

    pub(crate) async fn chat_file_bytes(&self, user: UserId) -> Result<u64, StoreError> {
        let sql = self.reader().await?;
        let row =
            sql.found("select bytes from stored_file_quota where uploader = $1", &[&int(user.0)]).await?;
        Ok(row.map_or(0, |row| row.uint("bytes")))
    }

    pub(crate) async fn chat_file_total(&self) -> Result<u64, StoreError> {
        let sql = self.reader().await?;
        Ok(sql.row("select bytes from stored_file_total", &[]).await?.uint("bytes"))
    }

    pub(crate) async fn chat_file(&self, id: FileId) -> Result<Option<StoredFile>, StoreError> {
        of_message(&self.reader().await?, Some(id)).await
    }

    pub(crate) async fn chat_file_by_name(&self, name: &str) -> Result<Option<StoredFile>, StoreError> {
        let by_name = concat!("select ", columns!(), " from stored_file where name = $1");
        let sql = self.reader().await?;
        Ok(sql.found(by_name, &[&Text(name)]).await?.map(|row| read(&row)))
    }

    pub(crate) async fn chat_files_newest(
        &self,
        before: Option<FileId>,
        limit: usize,
    ) -> Result<Vec<StoredFile>, StoreError> {
        let newest = concat!(
            "select ",
            columns!(),
            " from stored_file where id < $1 and not doomed order by id desc limit $2"
        );
        let before = before.map_or(i64::MAX, |before| int(before.0));
        let rows = self.reader().await?.rows(newest, &[&before, &int(limit as u64)]).await?;
        Ok(rows.iter().map(read).collect())
    }

    /// A message takes a file by changing its row, so one of the two comes first.
    pub(crate) async fn chat_file_doom(&self, id: FileId) -> Result<bool, StoreError> {
        self.change(id, |sql, id| {
            Box::pin(async move {
                let doom = "update stored_file set shared = false, doomed = true
                    where id = $1 and message is null and not doomed";
                Ok(sql.run(doom, &[&int(id.0)]).await? > 0)
            })
        })
        .await
    }

    /// Locks the files, in order of their numbers. A message takes a file by changing its row, so it either comes
    /// first and keeps the file, or finds the mark.
    pub(crate) async fn chat_files_doom(
        &self,
        after: FileId,
        limit: usize,
        before: Timestamp,
    ) -> Result<(Vec<StoredFile>, Option<FileId>), StoreError> {
        self.change((after, limit, before), |sql, &(after, limit, before)| {
            Box::pin(async move {
                let look = "select id from stored_file where id > $1 order by id limit $2 for update";
                let seen = sql.rows(look, &[&int(after.0), &int(limit as u64)]).await?;
                let seen: Vec<i64> = seen.iter().map(|row| row.get(0)).collect();
                let doom = concat!(
                    "update stored_file f set doomed = true where id = any($1)
                     and (doomed or (f.room is not null and not exists
                              (select from room where room.id = f.room and room.state <> 'deleted'))
                          or (message is null and not shared and created_at <= $2))
                     returning ",
                    columns!()
                );
                let doomed = sql.rows(doom, &[&seen, &At(before)]).await?;
                let mut doomed: Vec<_> = doomed.iter().map(read).collect();
                doomed.sort_unstable_by_key(|file| file.id);
                // Fewer than requested: this is the end.
                let last = seen.last().filter(|_| seen.len() == limit);
                Ok((doomed, last.map(|id| FileId(id.cast_unsigned()))))
            })
        })
        .await
    }

    /// Locks the counts of the uploader and of all files.
    pub(crate) async fn chat_file_forget(&self, id: FileId) -> Result<bool, StoreError> {
        self.change(id, |sql, id| {
            Box::pin(async move {
                let forget =
                    concat!("delete from stored_file where id = $1 and doomed returning ", columns!());
                let Some(row) = sql.found(forget, &[&int(id.0)]).await? else { return Ok(false) };
                let file = read(&row);
                let held = int(file.held());
                let own = "update stored_file_quota set bytes = greatest(bytes - $2, 0) where uploader = $1";
                sql.run(own, &[&int(file.uploader.0), &held]).await?;
                sql.run("update stored_file_total set bytes = greatest(bytes - $1, 0)", &[&held]).await?;
                Ok(true)
            })
        })
        .await
    }
}

async fn keep(sql: &Sql, draft: &FileDraft) -> Result<FileKept, StoreError> {
    let owner = match draft.room {
        Some(_) => None,
        None => match account::locked(sql, draft.uploader).await? {
            None => return Ok(FileKept::UploaderMissing),
            owner => owner,
        },
    };
    let held = draft.held();
    if add(sql, draft.uploader, held).await? > draft.quota_bytes {
        take_back(sql, draft.uploader, held).await?;
        return Ok(FileKept::QuotaExceeded);
    }
    if add_to_all(sql, held).await? > draft.total_bytes {
        take_back(sql, draft.uploader, held).await?;
        sql.run("update stored_file_total set bytes = bytes - $1", &[&int(held)]).await?;
        return Ok(FileKept::TotalExceeded);
    }
    let id = sql.row("select nextval('stored_file_id')", &[]).await?.uint("nextval");
    let file = StoredFile {
        id: FileId(id),
        room: draft.room,
        uploader: draft.uploader,
        name: draft.name.clone(),
        folder: draft.folder.clone(),
        title: draft.title.clone(),
        content_type: draft.content_type.clone(),
        bytes: draft.bytes,
        text: draft.text.clone(),
        picture: draft.picture,
        created_at: draft.now,
        message: draft.room.is_none().then_some(0),
        shared: false,
    };
    put(sql, &file).await?;
    if let Some(owner) = owner {
        let avatar = Avatar { file: file.id, path: file.path() };
        account::set_avatar(sql, owner.id, Some(&avatar)).await?;
        if let Some(former) = owner.avatar {
            doom(sql, former.file).await?;
        }
    }
    Ok(FileKept::Kept(file))
}

/// Counts a user's bytes, and returns the sum.
async fn add(sql: &Sql, uploader: UserId, held: u64) -> Result<u64, StoreError> {
    let add = "insert into stored_file_quota (uploader, bytes) values ($1, $2)
        on conflict (uploader) do update set bytes = stored_file_quota.bytes + excluded.bytes returning bytes";
    Ok(sql.row(add, &[&int(uploader.0), &int(held)]).await?.uint("bytes"))
}

async fn add_to_all(sql: &Sql, held: u64) -> Result<u64, StoreError> {
    let add = "update stored_file_total set bytes = bytes + $1 returning bytes";
    Ok(sql.row(add, &[&int(held)]).await?.uint("bytes"))
}

async fn take_back(sql: &Sql, uploader: UserId, held: u64) -> Result<(), StoreError> {
    let take = "update stored_file_quota set bytes = bytes - $2 where uploader = $1";
    sql.run(take, &[&int(uploader.0), &int(held)]).await?;
    Ok(())
}

pub(crate) async fn put(sql: &Sql, file: &StoredFile) -> Result<(), StoreError> {
    let put = concat!(
        "insert into stored_file (",
        columns!(),
        ") values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)"
    );
    let picture = file.picture;
    let side = |side: fn(&Picture) -> u32| picture.as_ref().map(|picture| i64::from(side(picture)));
    let small = picture.and_then(|picture| picture.thumbnail);
    let args: crate::engine::postgres::sql::Args<'_> = &[
        &int(file.id.0),
        &file.room.map(|room| int(room.0)),
        &int(file.uploader.0),
        &Text(&file.name),
        &Text(&file.folder),
        &Text(&file.title),
        &Text(&file.content_type),
        &int(file.bytes),
        &file.text.as_deref().map(Text),
        &side(|picture| picture.width),
        &side(|picture| picture.height),
        &small.map(|small| int(small.bytes)),
        &small.map(|small| i64::from(small.width)),
        &small.map(|small| i64::from(small.height)),
        &At(file.created_at),
        &file.message.map(int),
        &file.shared,
    ];
    sql.run(put, args).await?;
    Ok(())
}

pub(crate) fn read(row: &Row) -> StoredFile {
    let thumbnail = row.uint_opt("thumbnail_bytes").map(|bytes| Thumbnail {
        bytes,
        width: row.uint32("thumbnail_width"),
        height: row.uint32("thumbnail_height"),
    });
    let picture = row.uint_opt("width").map(|_| Picture {
        width: row.uint32("width"),
        height: row.uint32("height"),
        thumbnail,
    });
    StoredFile {
        id: FileId(row.uint("id")),
        room: row.uint_opt("room").map(RoomId),
        uploader: UserId(row.uint("uploader")),
        name: row.text("name"),
        folder: row.text("folder"),
        title: row.text("title"),
        content_type: row.text("content_type"),
        bytes: row.uint("bytes"),
        text: row.text_opt("text"),
        picture,
        created_at: row.at("created_at"),
        message: row.uint_opt("message"),
        shared: row.get("shared"),
    }
}

/// Gives a file to a message. `None` when the sender may not give it.
pub(crate) async fn attach(
    sql: &Sql,
    id: FileId,
    room: RoomId,
    sender: UserId,
    seq: u64,
) -> Result<Option<StoredFile>, StoreError> {
    let attach = concat!(
        "update stored_file set message = $4
         where id = $1 and room = $2 and uploader = $3 and message is null and not doomed returning ",
        columns!()
    );
    let row = sql.found(attach, &[&int(id.0), &int(room.0), &int(sender.0), &int(seq)]).await?;
    Ok(row.map(|row| read(&row)))
}

/// Takes a file from its message; it is then removed with the orphans.
pub(crate) async fn detach(sql: &Sql, id: FileId) -> Result<(), StoreError> {
    sql.run("update stored_file set message = null, shared = false where id = $1", &[&int(id.0)]).await?;
    Ok(())
}

/// The file of a message.
pub(crate) async fn of_message(sql: &Sql, id: Option<FileId>) -> Result<Option<StoredFile>, StoreError> {
    let Some(id) = id else { return Ok(None) };
    Ok(sql.found(BY_ID, &[&int(id.0)]).await?.map(|row| read(&row)))
}

/// Marks a file for removal, whatever uses it.
pub(crate) async fn doom(sql: &Sql, id: FileId) -> Result<(), StoreError> {
    let doom = "update stored_file set message = null, shared = false, doomed = true where id = $1";
    sql.run(doom, &[&int(id.0)]).await?;
    Ok(())
}

/// The files that a user uploaded among `limit` files after one, and where to continue.
pub(crate) async fn of_uploader(
    sql: &Sql,
    user: UserId,
    after: FileId,
    limit: usize,
) -> Result<(Vec<StoredFile>, Option<FileId>), StoreError> {
    let own = concat!(
        "select ",
        columns!(),
        " from stored_file where uploader = $1 and id > $2 order by id limit $3"
    );
    let rows = sql.rows(own, &[&int(user.0), &int(after.0), &int(limit as u64)]).await?;
    let files: Vec<_> = rows.iter().map(read).collect();
    let last = files.last().map(|file| file.id).filter(|_| files.len() == limit);
    Ok((files, last))
}

/// Stores the record of an imported file under its id, and counts its bytes.
pub(crate) async fn put_imported(sql: &Sql, file: &StoredFile) -> Result<(), StoreError> {
    let held = file.held();
    add(sql, file.uploader, held).await?;
    add_to_all(sql, held).await?;
    put(sql, file).await
}
