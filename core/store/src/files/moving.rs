//! Records of files, from one engine to the other. Their bytes are in a folder, on both.

use super::postgres as row;
use super::sled::FileRecord;
use crate::UserId;
use crate::chat::FileId;
use crate::engine::moving::{Part, Records, Rows, column, row};
use crate::engine::postgres::change::Running;
use crate::engine::postgres::value::{Columns, int};
use crate::engine::sled::keys::chat as keys;
use crate::engine::sled::record::{decode, decode_u64, encode, encode_u64};

pub(crate) const PART: Part = Part {
    keys: &[keys::FILES, b"Cg", OLD_PATHS, keys::FILE_BYTES, keys::FILE_TOTAL, keys::FILE_SEQUENCE],
    tables: &["stored_file", "stored_file_quota", "stored_file_total", "imported_file"],
    to_postgres,
    to_sled,
};

const OLD_PATHS: &[u8] = b"Ck";

fn to_postgres<'a>(rows: &'a Rows<'a>) -> Running<'a, ()> {
    Box::pin(async move {
        let file = |key: &[u8], value: &[u8]| {
            let record: FileRecord = decode(value)?;
            let doomed = record.doomed;
            Ok(Some((record.with_id(FileId(keys::last(key))), doomed)))
        };
        rows.each("files", keys::FILES, file, |sql, (file, doomed)| {
            Box::pin(async move {
                row::put(sql, file).await?;
                if *doomed {
                    let doom = "update stored_file set doomed = true where id = $1";
                    sql.run(doom, &[&int(file.id.0)]).await?;
                }
                Ok(())
            })
        })
        .await?;
        let quota = "insert into stored_file_quota (uploader, bytes) values ($1, $2)";
        rows.insert("bytes of files", keys::FILE_BYTES, quota, |key, value| {
            Ok(Some(row![int(keys::last(key)), int(decode_u64("file quota", value)?)]))
        })
        .await?;
        let total = rows.sled.chat_file_total()?;
        rows.sql.run("update stored_file_total set bytes = $1", &[&int(total)]).await?;
        let path = "insert into imported_file (old_path, file) values ($1, $2)";
        rows.insert("old paths of files", OLD_PATHS, path, |key, value| {
            let path = String::from_utf8_lossy(key.get(2..).unwrap_or_default()).into_owned();
            Ok(Some(row![column(&path), int(decode_u64("old path", value)?)]))
        })
        .await?;
        rows.sequence("stored_file_id", keys::FILE_SEQUENCE).await
    })
}

fn to_sled<'a>(records: &'a Records<'a>) -> Running<'a, ()> {
    Box::pin(async move {
        records
            .put("files", row::ALL, |row| {
                let file = row::read(row);
                let (id, name) = (file.id, keys::file_name(&file.name));
                let mut record = FileRecord::of(file);
                record.doomed = row.get("doomed");
                Ok([(name, encode_u64(id.0)), (keys::file(id), encode(&record))])
            })
            .await?;
        records
            .put("bytes of files", "select uploader, bytes from stored_file_quota", |row| {
                Ok([(keys::file_bytes(UserId(row.uint("uploader"))), encode_u64(row.uint("bytes")))])
            })
            .await?;
        records
            .put("bytes of files", "select bytes from stored_file_total where bytes > 0", |row| {
                Ok([(keys::FILE_TOTAL.into(), encode_u64(row.uint("bytes")))])
            })
            .await?;
        records
            .put("old paths of files", "select old_path, file from imported_file", |row| {
                Ok([(keys::old_path(&row.text("old_path")), encode_u64(row.uint("file")))])
            })
            .await?;
        records.sequence("stored_file_id", keys::FILE_SEQUENCE).await
    })
}
