//! `message/file/tus/...`: resumable uploads by the tus protocol, version 1.0.0.
//!
//! Core, creation, expiration and termination (<https://tus.io/protocols/resumable-upload>, read 2026-11-24). The
//! metadata names `chatroom`, and may name `filename` and `text`. With its last byte the upload becomes a
//! file: `GET` on the upload shows its number, and so does the header `Upload-File-Id`. The route's kind,
//! [`Kind::Resumable`], adds what every answer of the protocol has.
//!
//! Not here: the bytes and the state of an upload (`store`).

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;

use crate::drain::Incoming;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chelseru_domain::chat::{Action, ChatError, RoomId, StoredFile};
use chelseru_domain::clock::rest_format;
use chelseru_domain::ids::UserId;
use chelseru_domain::login::identity::Caller;
use futures_util::StreamExt;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::json;
use tokio::sync::OwnedMutexGuard;

use super::Files;
use super::body::{cut_off, pieces};
use super::failure::{file_failure, unreadable_name, upload_failure};
use super::json::file_json;
use super::store::{FileError, FileWords, Upload, UploadDraft};
use crate::chat::failure as chat;
use crate::disposition::{Unreadable, file_name};
use crate::generation::Generation;
use crate::reply::{Failure, Reply};
use crate::request::{Access, Context, Request, header_text, not_found};
use crate::route::{About, Answer, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/message/file/tus/",
        name: "Resumable Upload List",
        access: Access::User,
        kind: Kind::Resumable(describe),
        operations: &[Operation {
            verb: Verb::Post,
            id: "tus_create",
            call: call!(create),
            about: About {
                summary: "Begin a resumable upload (tus 1.0)",
                parameters: &[],
                fields: &[],
                answers: &[
                    (201, "Location holds its address."),
                    (400, "Field errors, in Upload-Metadata."),
                    (412, "Tus-Resumable is not 1.0.0."),
                    (413, "The file would be too large."),
                    (507, "The space for files is used up."),
                ],
            },
        }],
    },
    Route {
        path: "/message/file/tus/{upload}/",
        name: "Resumable Upload Instance",
        access: Access::User,
        kind: Kind::Resumable(describe),
        operations: &[
            Operation {
                verb: Verb::Get,
                id: "tus_get",
                call: call!(get),
                about: About {
                    summary: "Get the offset of a resumable upload",
                    parameters: &[],
                    fields: &[],
                    answers: &[(200, "Upload")],
                },
            },
            Operation {
                verb: Verb::Patch,
                id: "tus_patch",
                call: call!(patch),
                about: About {
                    summary: "Send the next bytes of a resumable upload",
                    parameters: &[],
                    fields: &[],
                    answers: &[
                        (204, "Upload-Offset is the new one."),
                        (409, "Upload-Offset is not the current one, or the upload is at another gateway."),
                        (423, "Another request uses this upload."),
                    ],
                },
            },
            Operation {
                verb: Verb::Delete,
                id: "tus_delete",
                call: call!(delete),
                about: About {
                    summary: "Delete a resumable upload",
                    parameters: &[],
                    fields: &[],
                    answers: &[(204, "Done.")],
                },
            },
        ],
    },
];

pub(crate) const RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const VERSION: HeaderName = HeaderName::from_static("tus-version");
const EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
const MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
const METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");
const FILE_ID: HeaderName = HeaderName::from_static("upload-file-id");

pub(crate) const OURS: HeaderValue = HeaderValue::from_static("1.0.0");
const PIECE_TYPE: &str = "application/offset+octet-stream";
/// Characters of `Upload-Metadata`.
const METADATA_MAX: usize = 8192;

/// The method of a request. Where a client, or a proxy before it, can send none but `POST`, a header names another
/// one.
pub(crate) fn method(head: &Parts) -> Method {
    let named = header_text(&head.headers, METHOD_OVERRIDE).to_ascii_uppercase();
    match named.parse() {
        Ok(method) if head.method == Method::POST && !named.is_empty() => method,
        _ => head.method.clone(),
    }
}

/// `OPTIONS`: the supported parts of the protocol.
fn describe(generation: &Generation, reply: Reply) -> Reply {
    reply
        .with(VERSION, OURS)
        .with(EXTENSION, HeaderValue::from_static("creation,expiration,termination"))
        .with(MAX_SIZE, HeaderValue::from(generation.files.limits.file_bytes_max))
}

/// `POST message/file/tus/`: 201 with the upload's address.
async fn create(files: Arc<Files>, request: Request<Caller>) -> Answer {
    check_version(&request)?;
    let draft = draft(&files, &request, request.caller.user_id)?;
    let room = draft.words.room;
    let begun = files.store.begin(draft, &files.limits).await;
    let upload = begun.map_err(|error| upload_failure(&request, error, room))?;
    let location = request.address(&format!("{}{}/", request.path(), upload.id));
    let location = HeaderValue::from_str(&location).map_err(|_| Failure::internal())?;
    let reply = Reply::bare(StatusCode::CREATED).with(header::LOCATION, location);
    if upload.bytes > 0 {
        return Ok(state(reply, &upload, 0, None));
    }
    // An empty file is complete; no request follows.
    let upload = locked(&files, &request, &upload.id, &request.caller).await?;
    let (upload, kept) = complete(&files, &request, upload).await?;
    Ok(state(reply, &upload, 0, kept.as_ref()))
}

/// `HEAD` (and `GET`) on an upload: how far it is, and the file it became.
async fn get(files: Arc<Files>, request: Request<Caller>) -> Answer {
    check_version(&request)?;
    let upload = locked(&files, &request, request.parameter("upload"), &request.caller).await?;
    let (upload, kept) = complete(&files, &request, upload).await?;
    let offset = offset(&files, &request, &upload).await?;
    let body = json!({
        "id": upload.id,
        "offset": offset,
        "length": upload.bytes,
        "expires_at": rest_format(upload.expires_at()),
        "file": kept.as_ref().map(file_json),
    });
    Ok(state(Reply::json(StatusCode::OK, &body), &upload, offset, kept.as_ref()))
}

/// `PATCH`: appends bytes. Bytes that arrived before a disconnect stay.
async fn patch(files: Arc<Files>, request: Request<Caller, Incoming>) -> Answer {
    let Request { context, caller, body } = request;
    check_version(&context)?;
    let essence =
        context.header(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_owned();
    if !essence.eq_ignore_ascii_case(PIECE_TYPE) {
        let text = format!("Unsupported media type \"{essence}\" in request.");
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Failure::detail(status, "unsupported_media_type", text));
    }
    let Some(from) = number_header(&context, OFFSET) else {
        return Err(refuse("upload_offset_missing", "Upload-Offset must be a whole number."));
    };
    let id = context.parameter("upload");
    let found = found(&files, &context, id, &caller).await?;
    let upload = found.ok_or_else(|| match files.store.is_elsewhere(id) {
        // At a 409 clients ask for the offset, here or at the right gateway, and go on or begin anew. At a 404 to their
        // bytes many give up.
        true => {
            let text = "The upload is at another gateway; ask for its offset.";
            Failure::detail(StatusCode::CONFLICT, "upload_elsewhere", text)
        }
        false => not_found(),
    })?;
    // A removed member cannot add to the room.
    let permitted = files.chat.check(upload.room, caller.user_id, Action::Post);
    permitted.await.map_err(|error| chat::failure(&context, error, not_found))?;
    let there = offset(&files, &context, &upload).await?;
    if from != there {
        let text = format!("The upload is at {there}.");
        let failure = Failure::detail(StatusCode::CONFLICT, "upload_offset_mismatch", text);
        return Err(failure.with(OFFSET, HeaderValue::from(there)));
    }
    if there < upload.bytes {
        receive(&files, &context, caller.user_id, &upload, body).await?;
    }
    let (upload, kept) = complete(&files, &context, upload).await?;
    let offset = offset(&files, &context, &upload).await?;
    Ok(state(Reply::empty(), &upload, offset, kept.as_ref()))
}

/// `DELETE`: ends an upload and removes its bytes; a finished file stays.
async fn delete(files: Arc<Files>, request: Request<Caller>) -> Answer {
    check_version(&request)?;
    let upload = locked(&files, &request, request.parameter("upload"), &request.caller).await?;
    files.store.give_up(&upload).await.map_err(|error| failure(&request, error))?;
    Ok(Reply::empty())
}

async fn receive(
    files: &Files,
    context: &Context,
    user: UserId,
    upload: &Upload,
    body: Incoming,
) -> Result<(), Failure> {
    let slot = files.store.slot(user, &files.limits).map_err(|error| failure(context, error))?;
    let mut end = files.store.go_on(upload).await.map_err(|error| failure(context, error))?;
    let idle = context.edge.body_bounds().timeout;
    let mut pieces = pin!(pieces(&files.limits, idle, &slot, body));
    let mut fault = None;
    while let Some(piece) = pieces.next().await {
        fault = match piece {
            Ok(piece) => end.write(&piece).await.err().map(|error| failure(context, error)),
            Err(error) => Some(match cut_off(&error) {
                Some(failure) => failure.with(RESUMABLE, OURS),
                None => refuse("body_unreadable", "The request body could not be read."),
            }),
        };
        if fault.is_some() {
            break;
        }
    }
    end.flush().await.map_err(|error| failure(context, error))?;
    fault.map_or(Ok(()), Err)
}

/// Turns a complete upload into a file, even when the client disconnects.
async fn complete(
    files: &Arc<Files>,
    context: &Context,
    mut upload: OwnedMutexGuard<Upload>,
) -> Result<(OwnedMutexGuard<Upload>, Option<StoredFile>), Failure> {
    let (room, keeper) = (upload.room, files.clone());
    let completing = async move {
        let kept = keeper.store.complete(&mut upload, &keeper.limits).await;
        (upload, kept)
    };
    let completed = files.detached.spawn(completing).await;
    let (upload, kept) = completed.map_err(|_| Failure::internal())?;
    let kept = kept.map_err(|error| upload_failure(context, error, room))?;
    Ok((upload, kept))
}

async fn offset(files: &Files, context: &Context, upload: &Upload) -> Result<u64, Failure> {
    files.store.offset(upload).await.map_err(|error| failure(context, error))
}

/// The caller's upload; 423 while another request uses it.
async fn locked(
    files: &Files,
    context: &Context,
    id: &str,
    caller: &Caller,
) -> Result<OwnedMutexGuard<Upload>, Failure> {
    found(files, context, id, caller).await?.ok_or_else(not_found)
}

async fn found(
    files: &Files,
    context: &Context,
    id: &str,
    caller: &Caller,
) -> Result<Option<OwnedMutexGuard<Upload>>, Failure> {
    files.store.upload(id, caller.user_id).await.map_err(|error| failure(context, error))
}

fn check_version(context: &Context) -> Result<(), Failure> {
    if context.header(RESUMABLE) == "1.0.0" {
        return Ok(());
    }
    let text = "Tus-Resumable must be 1.0.0.";
    let failure = Failure::detail(StatusCode::PRECONDITION_FAILED, "tus_version", text);
    Err(failure.with(VERSION, OURS))
}

/// The upload that the headers of a creation describe.
fn draft(files: &Files, context: &Context, uploader: UserId) -> Result<UploadDraft, Failure> {
    let Some(bytes) = number_header(context, LENGTH) else {
        return Err(refuse("upload_length_missing", "Upload-Length must be a whole number."));
    };
    let header = context.header(METADATA);
    if header.len() > METADATA_MAX {
        return Err(refuse("upload_metadata", "Upload-Metadata is too long."));
    }
    let Some(metadata) = parse_metadata(header) else {
        return Err(refuse("upload_metadata", "Upload-Metadata must be names and base64 values."));
    };
    let bytes_of =
        |name: &str| metadata.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice());
    let value = |name: &str| bytes_of(name).map(String::from_utf8_lossy);
    let room = value("chatroom").or_else(|| value("chat_room"));
    let Some(room) = room.and_then(|text| text.trim().parse().ok()).map(RoomId) else {
        return Err(refuse("upload_metadata", "Upload-Metadata must name the chatroom."));
    };
    let text = value("text").map(Cow::into_owned);
    if let Some(Err(ChatError::Invalid { reason, .. })) =
        text.as_ref().map(|text| files.chat.check_text(text))
    {
        return Err(refuse("upload_metadata", &format!("Upload-Metadata has an unusable text: {reason}")));
    }
    let title = file_name(bytes_of("filename").or_else(|| bytes_of("name")).unwrap_or_default());
    let title = title.map_err(|Unreadable| unreadable_name())?;
    let words = FileWords { room, uploader, title, text };
    Ok(UploadDraft { words, bytes, metadata: header.to_owned() })
}

/// Names and decoded values.
fn parse_metadata(header: &str) -> Option<Vec<(String, Vec<u8>)>> {
    let pairs = header.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once(' ').unwrap_or((pair, ""));
            Some((name.to_owned(), STANDARD.decode(value.trim()).ok()?))
        })
        .collect()
}

fn state(reply: Reply, upload: &Upload, offset: u64, file: Option<&StoredFile>) -> Reply {
    let seconds = i64::try_from(upload.expires_at().as_secs()).unwrap_or(i64::MAX);
    let expires = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    let expires = expires.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let mut reply =
        reply.with(OFFSET, HeaderValue::from(offset)).with(LENGTH, HeaderValue::from(upload.bytes));
    if let Ok(expires) = HeaderValue::from_str(&expires) {
        reply = reply.with(EXPIRES, expires);
    }
    if !upload.metadata.is_empty()
        && let Ok(metadata) = HeaderValue::from_str(&upload.metadata)
    {
        reply = reply.with(METADATA, metadata);
    }
    match file {
        Some(file) => reply.with(FILE_ID, HeaderValue::from(file.id.0)),
        None => reply,
    }
}

fn refuse(code: &'static str, text: &str) -> Failure {
    Failure::detail(StatusCode::BAD_REQUEST, code, text)
}

fn failure(context: &Context, error: FileError) -> Failure {
    file_failure(context, error, "file")
}

/// A header's value that must be a whole number.
fn number_header(context: &Context, name: HeaderName) -> Option<u64> {
    let text = context.header(name);
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_names_and_base64() {
        let read = parse_metadata("filename 2LMudHh0, chatroom NA==,empty").expect("read");
        let expected = [("filename", "س.txt"), ("chatroom", "4"), ("empty", "")];
        let read = read.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        assert!(read.eq(expected.map(|(name, value)| (name, value.as_bytes()))));
        assert_eq!(parse_metadata("filename ***"), None);
        assert_eq!(parse_metadata(""), Some(Vec::new()));
    }
}
