//! `chat/files/{id}/`, and the files themselves under `/media/`, outside the base path.
//!
//! Downloads are for members of the file's room, and for whoever may see the picture of an account: by `Authorization`,
//! or by a signed link where no header can be sent. A browser keeps the bytes and asks before each use. Replies run
//! nothing (`sandbox`, `nosniff`). Everything except plain pictures, sound and film is sent as an attachment.

use std::sync::Arc;

use chelseru_domain::chat::{FileId, StoredFile};
use chelseru_domain::files::place::Part;
use chelseru_domain::ids::UserId;
use chelseru_domain::login::identity::Caller;
use chelseru_domain::text::name_as_seen;
use http::header::{self, HeaderValue};
use http::{Method, StatusCode};

use super::Files;
use super::failure::{chat_failure, file_failure};
use super::json::file_json;
use super::shown::Signs;
use super::store::{FileError, SignedBy, kind, picture};
use crate::reply::{Failure, Reply};
use crate::reply_body::FileBody;
use crate::request::{Access, Context, Link, Request, no_credentials, not_found};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/chat/files/{id}/",
        name: "File Instance",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "file_get",
            call: call!(get),
            about: About {
                summary: "Get a file's facts and a short-lived link",
                parameters: &[],
                fields: &[],
                answers: &[(200, "UploadedFile")],
            },
        }],
    },
    Route {
        path: "/media/uploads/chat_files/{year}/{month}/{day}/{name}",
        name: "File",
        access: Access::Link,
        kind: Kind::File,
        operations: &[Operation {
            verb: Verb::Get,
            id: "file_download",
            call: call!(download),
            about: About {
                summary: "Download a file, as a member of its room or one who may see its uploader's picture",
                parameters: &[Field("thumbnail", Is::MayInteger, "1: the picture's thumbnail, a JPEG.")],
                fields: &[],
                answers: &[
                    (200, "The bytes."),
                    (304, "The bytes have the ETag of If-None-Match."),
                    (401, "Neither a token nor a valid link."),
                    (404, "No such file, or it has no thumbnail."),
                    (206, "A part of the bytes."),
                    (416, "No such part."),
                    (503, "The store of files does not answer (files_away)."),
                ],
            },
        }],
    },
];

/// `GET chat/files/{id}/`: a file's facts, with a signed link to it.
async fn get(files: Arc<Files>, request: Request<Caller>) -> Answer {
    let user = request.caller.user_id;
    let id = FileId(request.id("id")?);
    let file = files.chat.file(id).await.map_err(|error| chat_failure(&request, error))?;
    let file = allowed(&files, &request, file, user, false).await?;
    let signs = Signs::of(&files, request.caller).await;
    let signs = signs.map_err(|error| chat_failure(&request, error))?;
    // A session that ended since the token was checked.
    let Some(signs) = signs else { return Err(no_credentials()) };
    let mut body = file_json(&file);
    let mut facts = signs.facts(&files, &request, &file);
    for key in ["link", "link_expires_at", "thumbnail"] {
        body[key] = facts[key].take();
    }
    Ok(Reply::json(StatusCode::OK, &body))
}

/// `GET /media/uploads/chat_files/{year}/{month}/{day}/{name}`: the bytes, or a part of them.
async fn download(files: Arc<Files>, request: Request<Link>) -> Answer {
    let file = files.store.find(request.path()).await.map_err(|error| chat_failure(&request, error))?;
    let by_link = match &file {
        Some(file) => signer(&files, &request, file).await?,
        None => None,
    };
    // An unknown caller learns nothing about the file.
    let user = request.caller.0.as_ref().map(|caller| caller.user_id).or(by_link);
    let user = user.ok_or_else(no_credentials)?;
    let file = allowed(&files, &request, file, user, by_link == Some(user)).await?;
    let small = request.query("thumbnail").as_deref() == Some("1");
    let shown = if small { thumbnail_of(&file).ok_or_else(no_thumbnail)? } else { file.clone() };
    let (mut reply, part) = answer(&request, &shown)?;
    if let Some(part) = part {
        let bytes = match small {
            true => files.store.thumbnail_bytes(&file, part).await,
            false => files.store.bytes(&file, part).await,
        };
        let bytes = bytes.map_err(|error| match error {
            FileError::Disk(error) => {
                tracing::error!(request.id = %request.id, %error, file.id = file.id.0, "a file cannot be read");
                Failure::internal()
            }
            error => file_failure(&request, error, "file"),
        })?;
        reply.file = Some(Box::new(FileBody::new(bytes, part.bytes)));
    }
    Ok(reply)
}

/// A file's thumbnail as a file of its own.
fn thumbnail_of(file: &StoredFile) -> Option<StoredFile> {
    let thumbnail = file.picture?.thumbnail?;
    let name = format!("{}.jpg", file.name);
    let content_type = picture::TYPE.to_owned();
    Some(StoredFile { name, content_type, bytes: thumbnail.bytes, ..file.clone() })
}

fn no_thumbnail() -> Failure {
    Failure::detail(StatusCode::NOT_FOUND, "no_thumbnail", "The file has no thumbnail.")
}

/// The user of a signed link whose session is valid.
async fn signer(files: &Files, context: &Context, file: &StoredFile) -> Result<Option<UserId>, Failure> {
    let Some(by) = SignedBy::read(context.query_text(), files.clock.now()) else { return Ok(None) };
    let binding = files.identity.session_binding(&by.caller).await;
    let binding = binding.map_err(|error| chat_failure(context, error.into()))?;
    let fits = binding.is_some_and(|binding| files.store.is_signed(file, &by, binding));
    Ok(fits.then_some(by.caller.user_id))
}

/// The reply without its body, and the part of the file that belongs into it.
fn answer(context: &Context, file: &StoredFile) -> Result<(Reply, Option<Part>), Failure> {
    let text = |text: String| HeaderValue::from_str(&text).map_err(|_| Failure::internal());
    let tag = format!("\"{}\"", file.name);
    let fresh = |reply: Reply| -> Result<Reply, Failure> {
        // Each use asks again, so a kick takes effect; the bytes need not travel again.
        let cached = HeaderValue::from_static("private, no-cache");
        Ok(reply.with(header::ETAG, text(tag.clone())?).with(header::CACHE_CONTROL, cached))
    };
    if is_known(context.header(header::IF_NONE_MATCH), &tag) {
        return Ok((fresh(Reply::bare(StatusCode::NOT_MODIFIED))?, None));
    }
    let range = match context.head.headers.get(header::IF_RANGE) {
        // A range is of a GET only (RFC 9110, section 14.2).
        _ if context.head.method != Method::GET => Ok(None),
        // A part is only useful to a client that has a part of this same file.
        Some(of) if of.as_bytes() != tag.as_bytes() => Ok(None),
        _ => range(context.header(header::RANGE), file.bytes),
    };
    let Ok(range) = range else {
        let failure = Failure::detail(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "range_not_satisfiable",
            "There is no such range.",
        );
        return Err(failure.with(header::CONTENT_RANGE, text(format!("bytes */{}", file.bytes))?));
    };
    let (start, count) = range.unwrap_or((0, file.bytes));
    let passive = kind::is_passive(&file.content_type);
    let disposition = if passive { "inline" } else { "attachment" };
    let status = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut reply = Reply::bare(status)
        .with(header::CONTENT_TYPE, text(kind::sent_as(&file.content_type).to_owned())?)
        .with(header::CONTENT_LENGTH, HeaderValue::from(count))
        .with(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"))
        .with(header::CONTENT_DISPOSITION, text(format!("{disposition}; {}", file_name(file)))?)
        .with(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("sandbox; default-src 'none'; frame-ancestors 'none'"),
        );
    reply = fresh(reply)?;
    if range.is_some() {
        let shown = format!("bytes {start}-{}/{}", start + count - 1, file.bytes);
        reply = reply.with(header::CONTENT_RANGE, text(shown)?);
    }
    let part = Part { start, bytes: count, of: file.bytes };
    Ok((reply, Some(part).filter(|_| context.head.method == Method::GET)))
}

/// Whether an `If-None-Match` names the tag, weak or not, or any.
fn is_known(header: &str, tag: &str) -> bool {
    let named = |given: &str| given == "*" || given.strip_prefix("W/").unwrap_or(given) == tag;
    header.split(',').map(str::trim).any(named)
}

/// The one range of a `Range` header as start and count; several ranges, or another unit, are ignored. An error when
/// it lies outside the file.
fn range(header: &str, bytes: u64) -> Result<Option<(u64, u64)>, ()> {
    let Some(spec) = header.strip_prefix("bytes=").filter(|spec| !spec.contains(',')) else {
        return Ok(None);
    };
    let Some((from, to)) = spec.trim().split_once('-') else { return Ok(None) };
    let (start, end) = match (from.parse::<u64>(), to.parse::<u64>()) {
        (Ok(start), Ok(end)) if end < start => return Ok(None),
        (Ok(start), Ok(end)) => (start, end.min(bytes.saturating_sub(1))),
        (Ok(start), Err(_)) if to.is_empty() => (start, bytes.saturating_sub(1)),
        // The last bytes of the file.
        (Err(_), Ok(0)) if from.is_empty() => return Err(()),
        (Err(_), Ok(count)) if from.is_empty() => (bytes.saturating_sub(count), bytes.saturating_sub(1)),
        _ => return Ok(None),
    };
    if start >= bytes { Err(()) } else { Ok(Some((start, end - start + 1))) }
}

/// The file name for saving: the uploader's, percent-encoded, and a plain one for clients that do not read that.
fn file_name(file: &StoredFile) -> String {
    let plain = format!("filename=\"{}\"", file.name);
    if file.title.is_empty() {
        return plain;
    }
    // Files of older versions may have any title.
    let title =
        kind::Kind::stored(&file.content_type, &file.name).named(&name_as_seen(&file.title), usize::MAX);
    let encoded: String = title
        .bytes()
        .map(|byte| match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    format!("{plain}; filename*=UTF-8''{encoded}")
}

/// The file, if the user may have it; `by_link` when a link says that a reply showed it to the user. Otherwise 404,
/// except for users that the room banned.
async fn allowed(
    files: &Files,
    context: &Context,
    file: Option<StoredFile>,
    user: UserId,
    by_link: bool,
) -> Result<StoredFile, Failure> {
    let Some(file) = file else { return Err(not_found()) };
    let file =
        files.chat.file_for(file, user, by_link).await.map_err(|error| chat_failure(context, error))?;
    file.ok_or_else(not_found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_when_it_is_named() {
        for header in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*"] {
            assert!(is_known(header, "\"a\""), "{header}");
        }
        for header in ["", "a", "\"b\"", "\"ab\""] {
            assert!(!is_known(header, "\"a\""), "{header}");
        }
    }

    #[test]
    fn a_range_is_within_the_file_or_refused() {
        for (header, expected) in [
            ("", Ok(None)),
            ("bytes=0-", Ok(Some((0, 10)))),
            ("bytes=2-4", Ok(Some((2, 3)))),
            ("bytes=9-9", Ok(Some((9, 1)))),
            ("bytes=5-99", Ok(Some((5, 5)))),
            ("bytes=-3", Ok(Some((7, 3)))),
            ("bytes=-99", Ok(Some((0, 10)))),
            ("bytes=10-", Err(())),
            ("bytes=-0", Err(())),
            ("bytes=4-2", Ok(None)),
            ("bytes=0-1,3-4", Ok(None)),
            ("lines=1-2", Ok(None)),
            ("bytes=a-b", Ok(None)),
        ] {
            assert_eq!(range(header, 10), expected, "{header}");
        }
    }
}
