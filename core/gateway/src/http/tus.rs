//! `message/file/tus/...`: resumable uploads by the tus protocol, version 1.0.0.
//!
//! Core, creation, expiration and termination (<https://tus.io/protocols/resumable-upload>, read 2026-11-24). The
//! metadata names `chatroom`, and may name `filename` and `text`. When the last byte is there the upload has become a
//! file: `GET` on the upload tells its number, and so does the header `Upload-File-Id`.
//!
//! Not here: what is kept of an upload (`crate::files`).

use std::io;
use std::pin::pin;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chelseru_domain::chat::{Action, RoomId, StoredFile};
use chelseru_domain::ids::UserId;
use futures_util::StreamExt;
use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};
use serde_json::json;
use tokio::sync::OwnedMutexGuard;

use super::file::{self, RequestBody, file_json, number_header};
use super::reply::{Failure, Reply};
use super::{Context, not_found};
use crate::app::Live;
use crate::files::{FileError, FileWords, Upload, UploadDraft};

const RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const VERSION: HeaderName = HeaderName::from_static("tus-version");
const EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
const MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
const FILE_ID: HeaderName = HeaderName::from_static("upload-file-id");

const OURS: HeaderValue = HeaderValue::from_static("1.0.0");
const PIECE_TYPE: &str = "application/offset+octet-stream";
/// Characters of `Upload-Metadata`.
const METADATA_MAX: usize = 8192;

/// Whether a route is one of these.
pub(crate) fn is_tus(path: &str) -> bool {
    path.starts_with("/message/file/tus/")
}

/// `OPTIONS`: what of the protocol there is.
pub(crate) fn describe(reply: Reply, live: &Live) -> Reply {
    reply
        .with(RESUMABLE, OURS)
        .with(VERSION, OURS)
        .with(EXTENSION, HeaderValue::from_static("creation,expiration,termination"))
        .with(MAX_SIZE, HeaderValue::from(live.config.files.file_bytes_max))
}

/// `POST message/file/tus/`: 201 with the upload's address.
pub(crate) async fn create(context: Context) -> Result<Reply, Failure> {
    check_version(&context)?;
    let user = context.user()?.user_id;
    let draft = draft(&context, user)?;
    let room = draft.words.room;
    let begun = context.app.files.begin(draft, &context.live.config.files).await;
    let upload = begun.map_err(|error| file::upload_failure(&context, error, room).with(RESUMABLE, OURS))?;
    let location = format!("{}{}{}/", context.origin(), context.head.uri.path(), upload.id);
    let location = HeaderValue::from_str(&location).map_err(|_| Failure::internal())?;
    let reply = Reply::bare(StatusCode::CREATED).with(header::LOCATION, location);
    Ok(state(reply, &upload, 0, None))
}

/// `HEAD` (and `GET`) on an upload: how far it is, and the file it became.
pub(crate) async fn get(context: Context) -> Result<Reply, Failure> {
    check_version(&context)?;
    let (upload, kept) = complete(&context, locked(&context).await?).await?;
    let offset = offset(&context, &upload).await?;
    let body = json!({
        "id": upload.id,
        "offset": offset,
        "length": upload.bytes,
        "expires_at": chelseru_domain::clock::rest_format(upload.expires_at()),
        "file": kept.as_ref().map(file_json),
    });
    Ok(state(Reply::json(StatusCode::OK, &body), &upload, offset, kept.as_ref()))
}

/// `PATCH`: the next bytes. What arrived before a cut stays.
pub(crate) async fn patch(context: Context, body: RequestBody) -> Result<Reply, Failure> {
    check_version(&context)?;
    let essence =
        context.header(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_owned();
    if !essence.eq_ignore_ascii_case(PIECE_TYPE) {
        let text = format!("Unsupported media type \"{essence}\" in request.");
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Failure::detail(status, "unsupported_media_type", text).with(RESUMABLE, OURS));
    }
    let Some(from) = number_header(&context, OFFSET) else {
        return Err(refuse("upload_offset_missing", "Upload-Offset must be a whole number."));
    };
    let user = context.user()?.user_id;
    let upload = locked(&context).await?;
    // Who was taken out of the room brings nothing more into it.
    let permitted = context.app.chat.check(upload.room, user, Action::Post);
    permitted.map_err(|error| super::chat::failure(&context, error, not_found).with(RESUMABLE, OURS))?;
    let there = offset(&context, &upload).await?;
    if from != there {
        let text = format!("The upload is at {there}.");
        let failure = Failure::detail(StatusCode::CONFLICT, "upload_offset_mismatch", text);
        return Err(failure.with(RESUMABLE, OURS).with(OFFSET, HeaderValue::from(there)));
    }
    if there < upload.bytes {
        receive(&context, user, &upload, body).await?;
    }
    let (upload, kept) = complete(&context, upload).await?;
    let offset = offset(&context, &upload).await?;
    Ok(state(Reply::empty(), &upload, offset, kept.as_ref()))
}

/// `DELETE`: ends an upload and removes what came of it; a file that it became stays.
pub(crate) async fn delete(context: Context) -> Result<Reply, Failure> {
    check_version(&context)?;
    let upload = locked(&context).await?;
    let ended = context.app.files.give_up(&upload).await;
    ended.map_err(|error| failure(&context, error))?;
    Ok(Reply::empty().with(RESUMABLE, OURS))
}

async fn receive(context: &Context, user: UserId, upload: &Upload, body: RequestBody) -> Result<(), Failure> {
    let files = &context.app.files;
    let limits = &context.live.config.files;
    let _slot = files.slot(user, limits).map_err(|error| failure(context, error))?;
    let mut end = files.go_on(upload).await.map_err(|error| failure(context, error))?;
    let mut pieces = pin!(file::pieces(context, body));
    let mut fault = None;
    while let Some(piece) = pieces.next().await {
        fault = match piece {
            Ok(piece) => end.write(&piece).await.err().map(|error| failure(context, error)),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Some(file::too_slow()),
            Err(_) => Some(refuse("body_unreadable", "The request body could not be read.")),
        };
        if fault.is_some() {
            break;
        }
    }
    end.flush().await.map_err(|error| failure(context, error))?;
    fault.map_or(Ok(()), Err)
}

/// Makes a file of an upload that is all there, whether the client stays or not.
async fn complete(
    context: &Context,
    mut upload: OwnedMutexGuard<Upload>,
) -> Result<(OwnedMutexGuard<Upload>, Option<StoredFile>), Failure> {
    let room = upload.room;
    let (app, limits) = (context.app.clone(), context.live.config.files.clone());
    let completing = async move {
        let kept = app.files.complete(&mut upload, &limits).await;
        (upload, kept)
    };
    let completed = context.app.detached.spawn(completing).await;
    let (upload, kept) = completed.map_err(|_| Failure::internal())?;
    let kept = kept.map_err(|error| file::upload_failure(context, error, room).with(RESUMABLE, OURS))?;
    Ok((upload, kept))
}

async fn offset(context: &Context, upload: &Upload) -> Result<u64, Failure> {
    context.app.files.offset(upload).await.map_err(|error| failure(context, error))
}

/// The caller's upload of the path; 423 while another request is at it.
async fn locked(context: &Context) -> Result<OwnedMutexGuard<Upload>, Failure> {
    let user = context.user()?.user_id;
    let id = context.head.uri.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    match context.app.files.upload(id, user).await {
        Ok(Some(upload)) => Ok(upload),
        Ok(None) => Err(not_found().with(RESUMABLE, OURS)),
        Err(_) => {
            let text = "Another request is at this upload.";
            Err(Failure::detail(StatusCode::LOCKED, "upload_locked", text)
                .with(RESUMABLE, OURS)
                .retry_after(1))
        }
    }
}

fn check_version(context: &Context) -> Result<(), Failure> {
    if context.header(RESUMABLE) == "1.0.0" {
        return Ok(());
    }
    let text = "Tus-Resumable must be 1.0.0.";
    let failure = Failure::detail(StatusCode::PRECONDITION_FAILED, "tus_version", text);
    Err(failure.with(RESUMABLE, OURS).with(VERSION, OURS))
}

/// What the headers of a creation say.
fn draft(context: &Context, uploader: UserId) -> Result<UploadDraft, Failure> {
    let Some(bytes) = number_header(context, LENGTH) else {
        return Err(refuse("upload_length_missing", "Upload-Length must be a whole number."));
    };
    let metadata = context.header(METADATA);
    if metadata.len() > METADATA_MAX {
        return Err(refuse("upload_metadata", "Upload-Metadata is too long."));
    }
    let Some(metadata) = parse_metadata(metadata) else {
        return Err(refuse("upload_metadata", "Upload-Metadata must be names and base64 values."));
    };
    let value = |name: &str| metadata.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let room = value("chatroom").or_else(|| value("chat_room"));
    let Some(room) = room.and_then(|text| text.trim().parse().ok()).map(RoomId) else {
        return Err(refuse("upload_metadata", "Upload-Metadata must name the chatroom."));
    };
    let text = value("text");
    let text_max = context.live.config.chat.text_chars_max;
    if text.as_ref().is_some_and(|text| text.chars().count() > text_max) {
        return Err(refuse("upload_metadata", "The text is too long."));
    }
    let title = value("filename").or_else(|| value("name")).unwrap_or_default();
    Ok(UploadDraft { words: FileWords { room, uploader, title, text }, bytes })
}

fn parse_metadata(header: &str) -> Option<Vec<(String, String)>> {
    let pairs = header.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once(' ').unwrap_or((pair, ""));
            let value = STANDARD.decode(value.trim()).ok()?;
            Some((name.to_owned(), String::from_utf8(value).ok()?))
        })
        .collect()
}

fn state(reply: Reply, upload: &Upload, offset: u64, file: Option<&StoredFile>) -> Reply {
    let seconds = i64::try_from(upload.expires_at().as_secs()).unwrap_or(i64::MAX);
    let expires = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    let expires = expires.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let mut reply = reply
        .with(RESUMABLE, OURS)
        .with(OFFSET, HeaderValue::from(offset))
        .with(LENGTH, HeaderValue::from(upload.bytes));
    if let Ok(expires) = HeaderValue::from_str(&expires) {
        reply = reply.with(EXPIRES, expires);
    }
    match file {
        Some(file) => reply.with(FILE_ID, HeaderValue::from(file.id.0)),
        None => reply,
    }
}

fn refuse(code: &'static str, text: &str) -> Failure {
    Failure::detail(StatusCode::BAD_REQUEST, code, text).with(RESUMABLE, OURS)
}

fn failure(context: &Context, error: FileError) -> Failure {
    file::failure(context, error, "file").with(RESUMABLE, OURS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_names_and_base64() {
        let read = parse_metadata("filename 2LMudHh0, chatroom NA==,empty").expect("read");
        let expected = [("filename", "س.txt"), ("chatroom", "4"), ("empty", "")];
        assert!(read.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(expected));
        assert_eq!(parse_metadata("filename ***"), None);
        assert_eq!(parse_metadata(""), Some(Vec::new()));
    }
}
