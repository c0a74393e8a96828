//! `message/file/upload/`, `chat/files/{id}/` and the files themselves under `/media/`, beside the base
//! path.
//!
//! An upload is written to disk as it arrives; nothing of it is held in memory. Downloads are for members: by
//! `Authorization`, or by a signed link for where no header can be sent. They never come from a cache, run nothing
//! (`sandbox`, `nosniff`), and what is no plain picture, sound or film is handed over to be saved.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use chelseru_domain::chat::{Action, ChatError, Denied, FileId, RoomId, StoredFile};
use chelseru_domain::clock::rest_format;
use chelseru_domain::ids::UserId;
use futures_util::Stream;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Body;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::body::FileBody;
use super::reply::{Failure, Reply};
use super::{Context, no_credentials, not_found};
use crate::files::{self, FileError, FileWords, Incoming, kind};

/// A request's body, to be read piece by piece.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, io::Error>;

pub(crate) fn request_body<B>(body: B) -> RequestBody
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    body.map_err(io::Error::other).boxed_unsync()
}

/// Bytes of a field that is no file.
const FIELD_BYTES_MAX: u64 = 64 * 1024;
/// What a body may hold beside its file.
const OVERHEAD_BYTES_MAX: u64 = 1024 * 1024;
const FIELDS_MAX: usize = 20;
/// A body that comes slower than this, after a start of [`SLOW_START`], would keep others from uploading for little:
/// the slowest phones send several times as much.
const BYTES_PER_SECOND_MIN: u64 = 2048;
const SLOW_START: Duration = Duration::from_secs(30);

/// What was sent with a file.
#[derive(Default)]
struct Form {
    file: Option<(Incoming, String)>,
    /// `file` was there, without a file in it.
    file_is_text: bool,
    chatroom: Option<String>,
    text: Option<String>,
}

/// `POST message/file/upload/`: multipart `file`, `chatroom`, `text`.
pub(crate) async fn upload(context: Context, body: RequestBody) -> Result<Reply, Failure> {
    let user = context.user()?.user_id;
    let limits = &context.live.config.files;
    let content_type = context.header(header::CONTENT_TYPE).to_owned();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let files = &context.app.files;
    let form = match essence.as_str() {
        "multipart/form-data" => {
            let promised = content_length(&context).unwrap_or(0);
            if promised > limits.file_bytes_max.saturating_add(OVERHEAD_BYTES_MAX) {
                return Err(failure(&context, FileError::TooLarge(limits.file_bytes_max), "file"));
            }
            let slot = files.slot(user, limits);
            let _slot = slot.map_err(|error| failure(&context, error, "file"))?;
            files.check_quota(user, 1, 1, limits).map_err(|error| failure(&context, error, "file"))?;
            receive(&context, &content_type, body).await?
        }
        // Has no place for a file, which is then missing.
        "application/x-www-form-urlencoded" => {
            let timeout = Duration::from_secs(context.app.limits.body_read_timeout_seconds);
            let bytes = super::fields::read_bytes(body, context.app.limits.body_bytes_max, timeout).await?;
            let value = |name: &str| {
                form_urlencoded::parse(&bytes)
                    .find(|(key, _)| key == name)
                    .map(|(_, value)| value.into_owned())
            };
            Form { chatroom: value("chatroom").or_else(|| value("chat_room")), ..Form::default() }
        }
        _ => {
            let text = format!("Unsupported media type \"{content_type}\" in request.");
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Failure::detail(status, "unsupported_media_type", text));
        }
    };
    let (incoming, words) = checked(&context, user, form)?;
    let room = words.room;
    let (app, limits) = (context.app.clone(), limits.clone());
    let keeping = async move { app.files.keep(incoming, words, &limits).await };
    let kept = context.app.detached.spawn(keeping).await.map_err(|_| Failure::internal())?;
    let kept = kept.map_err(|error| upload_failure(&context, error, room))?;
    Ok(Reply::json(StatusCode::CREATED, &file_json(&kept)))
}

/// All fields' faults at once, as the original does.
fn checked(context: &Context, user: UserId, form: Form) -> Result<(Incoming, FileWords), Failure> {
    let mut faults = std::collections::BTreeMap::new();
    if form.file.is_none() {
        let text = match form.file_is_text {
            true => "The submitted data was not a file. Check the encoding type on the form.",
            false => "No file was submitted.",
        };
        faults.insert("file", vec![text.to_owned()]);
    }
    let room = match form.chatroom.as_deref().map(str::trim) {
        None => Err("This field is required.".to_owned()),
        Some("") => Err("This field may not be null.".to_owned()),
        Some(text) => match text.parse().map(RoomId) {
            Ok(room) => match context.app.chat.check(room, user, Action::Post) {
                Ok(_) => Ok(room),
                Err(ChatError::RoomMissing | ChatError::Denied(Denied::NotMember)) => Err(no_room(room)),
                Err(error) => return Err(chat_failure(context, error)),
            },
            Err(_) => Err("Incorrect type. Expected pk value, received str.".to_owned()),
        },
    };
    let text_max = context.live.config.chat.text_chars_max;
    if form.text.as_ref().is_some_and(|text| text.chars().count() > text_max) {
        faults.insert("text", vec![format!("Ensure this field has no more than {text_max} characters.")]);
    }
    match (room, form.file) {
        (Ok(room), Some((incoming, title))) if faults.is_empty() => {
            Ok((incoming, FileWords { room, uploader: user, title, text: form.text }))
        }
        (room, _) => {
            if let Err(text) = room {
                faults.insert("chatroom", vec![text]);
            }
            Err(Failure::fields(faults))
        }
    }
}

/// Reads a multipart body, the file straight to disk.
async fn receive(context: &Context, content_type: &str, body: RequestBody) -> Result<Form, Failure> {
    let limits = &context.live.config.files;
    let broken = |error: multer::Error| {
        let text = format!("Multipart form parse error - {error}");
        Failure::detail(StatusCode::BAD_REQUEST, "parse_error", text)
    };
    let whole = limits.file_bytes_max.saturating_add(OVERHEAD_BYTES_MAX);
    let sizes = multer::SizeLimit::new().whole_stream(whole);
    let boundary = multer::parse_boundary(content_type).map_err(broken)?;
    let constraints = multer::Constraints::new().size_limit(sizes);
    let mut multipart = multer::Multipart::with_constraints(pieces(context, body), boundary, constraints);
    let broken = |error: multer::Error| match error {
        multer::Error::StreamSizeExceeded { .. } => {
            failure(context, FileError::TooLarge(limits.file_bytes_max), "file")
        }
        multer::Error::StreamReadFailed(cause)
            if cause
                .downcast_ref()
                .is_some_and(|cause: &io::Error| cause.kind() == io::ErrorKind::TimedOut) =>
        {
            too_slow()
        }
        error => broken(error),
    };
    let mut form = Form::default();
    for _ in 0..FIELDS_MAX {
        let Some(mut field) = multipart.next_field().await.map_err(broken)? else { return Ok(form) };
        let name = field.name().unwrap_or_default().to_owned();
        let title = field.file_name().map(str::to_owned);
        match (name.as_str(), title) {
            ("file", Some(title)) => {
                // Whose room is named first is refused before the file is received; the last word is said in the end.
                if let Some(room) =
                    form.chatroom.as_deref().and_then(|text| text.trim().parse().ok()).map(RoomId)
                {
                    let permitted = context.app.chat.check(room, context.user()?.user_id, Action::Post);
                    permitted.map_err(|error| upload_failure(context, error.into(), room))?;
                }
                let taken = context.app.files.receive(limits.file_bytes_max).await;
                let mut incoming = taken.map_err(|error| failure(context, error, "file"))?;
                while let Some(piece) = field.chunk().await.map_err(broken)? {
                    incoming.write(&piece).await.map_err(|error| failure(context, error, "file"))?;
                }
                form.file = Some((incoming, title));
            }
            ("file", None) => form.file_is_text = true,
            (name @ ("chatroom" | "chat_room" | "text"), _) => {
                let mut value = Vec::new();
                while let Some(piece) = field.chunk().await.map_err(broken)? {
                    value.extend_from_slice(&piece);
                    if value.len() as u64 > FIELD_BYTES_MAX {
                        let text = format!("A field may have at most {FIELD_BYTES_MAX} bytes.");
                        return Err(Failure::detail(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", text));
                    }
                }
                let value = String::from_utf8_lossy(&value).into_owned();
                let place = if name == "text" { &mut form.text } else { &mut form.chatroom };
                *place = Some(value);
            }
            _ => {}
        }
    }
    Err(Failure::field("non_field_errors", format!("A body has at most {FIELDS_MAX} fields.")))
}

pub(crate) fn too_slow() -> Failure {
    let text = "The request body did not arrive in time.";
    Failure::detail(StatusCode::REQUEST_TIMEOUT, "body_timeout", text)
}

/// The pieces of a body, each within the time between two pieces and all within the time of an upload; what takes
/// longer ends with [`io::ErrorKind::TimedOut`].
pub(crate) fn pieces(
    context: &Context,
    body: RequestBody,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let start = Instant::now();
    let end = start + Duration::from_secs(context.live.config.files.upload_seconds_max);
    let idle = Duration::from_secs(context.app.limits.body_read_timeout_seconds);
    futures_util::stream::unfold(Some((body, 0)), move |state| async move {
        let (mut body, received) = state?;
        let paced = start + SLOW_START + Duration::from_secs(received / BYTES_PER_SECOND_MIN);
        let until = end.min(Instant::now() + idle).min(paced);
        loop {
            return match tokio::time::timeout_at(until, body.frame()).await {
                Err(_) => Some((Err(io::ErrorKind::TimedOut.into()), None)),
                Ok(None) => None,
                Ok(Some(Err(error))) => Some((Err(error), None)),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(piece) => {
                        let received = received + piece.len() as u64;
                        Some((Ok(piece), Some((body, received))))
                    }
                    // Trailers say nothing here.
                    Err(_) => continue,
                },
            };
        }
    })
}

/// `GET chat/files/{id}/`: what is known of a file, with a signed link to it.
pub(crate) fn get(context: &Context) -> Result<Reply, Failure> {
    let user = context.user()?.user_id;
    let id = FileId(context.path_id()?);
    let file = context.app.chat.file(id).map_err(|error| chat_failure(context, error))?;
    let file = allowed(context, file, user)?;
    let expires = context.app.clock.now().as_secs() + context.live.config.files.link_seconds;
    let mut body = file_json(&file);
    let link = files::url(context, &file.path());
    body["link"] = format!("{link}?{}", context.app.files.sign(&file, user, expires)).into();
    body["link_expires_at"] = rest_format(chelseru_domain::clock::Timestamp::from_secs(expires)).into();
    Ok(Reply::json(StatusCode::OK, &body))
}

/// `GET /media/uploads/chat_files/{year}/{month}/{day}/{name}`: the bytes, or a part of them.
pub(crate) async fn download(context: Context) -> Result<Reply, Failure> {
    let app = &context.app;
    let file = app.files.find(context.head.uri.path()).map_err(|error| chat_failure(&context, error))?;
    let by_link = match &file {
        Some(file) => signer(&context, file)?,
        None => None,
    };
    // Without a word on who asks, nothing is said about the file either.
    let user = match (&context.caller, by_link) {
        (Some(caller), _) => caller.user_id,
        (None, Some(user)) => user,
        (None, None) => return Err(no_credentials()),
    };
    let file = allowed(&context, file, user)?;
    let bytes = app.files.bytes(&file).await.map_err(|error| {
        tracing::error!(request.id = %context.request_id, %error, file.id = file.id.0, "a file cannot be read");
        Failure::internal()
    })?;
    send(&context, &file, bytes).await
}

/// Whom a signed link serves: a user whose account is active.
fn signer(context: &Context, file: &StoredFile) -> Result<Option<UserId>, Failure> {
    let app = &context.app;
    let query = context.head.uri.query().unwrap_or("");
    let Some(user) = app.files.signer(file, query, app.clock.now()) else { return Ok(None) };
    let account = app.store.user_get(user).map_err(|error| chat_failure(context, error.into()))?;
    Ok(account.filter(|account| account.active).map(|account| account.id))
}

async fn send(context: &Context, file: &StoredFile, bytes: tokio::fs::File) -> Result<Reply, Failure> {
    let text = |text: String| HeaderValue::from_str(&text).map_err(|_| Failure::internal());
    let tag = format!("\"{}\"", file.name);
    let range = match context.head.headers.get(header::IF_RANGE) {
        // Only of the very file that a part is there of already.
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
        .with(header::ETAG, text(tag)?)
        .with(header::CONTENT_DISPOSITION, text(format!("{disposition}; {}", file_name(file)))?)
        .with(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("sandbox; default-src 'none'; frame-ancestors 'none'"),
        );
    if range.is_some() {
        let shown = format!("bytes {start}-{}/{}", start + count - 1, file.bytes);
        reply = reply.with(header::CONTENT_RANGE, text(shown)?);
    }
    if context.head.method == Method::GET {
        let body = FileBody::open(bytes, start, count).await.map_err(|_| Failure::internal())?;
        reply.file = Some(Box::new(body));
    }
    Ok(reply)
}

/// The one range of a `Range` header as start and count; several, or another unit, are taken as none. An error when
/// it lies outside.
fn range(header: &str, bytes: u64) -> Result<Option<(u64, u64)>, ()> {
    let Some(spec) = header.strip_prefix("bytes=").filter(|spec| !spec.contains(',')) else {
        return Ok(None);
    };
    let Some((from, to)) = spec.trim().split_once('-') else { return Ok(None) };
    let (start, end) = match (from.parse::<u64>(), to.parse::<u64>()) {
        (Ok(start), Ok(end)) if end < start => return Ok(None),
        (Ok(start), Ok(end)) => (start, end.min(bytes.saturating_sub(1))),
        (Ok(start), Err(_)) if to.is_empty() => (start, bytes.saturating_sub(1)),
        // The last so many.
        (Err(_), Ok(0)) if from.is_empty() => return Err(()),
        (Err(_), Ok(count)) if from.is_empty() => (bytes.saturating_sub(count), bytes.saturating_sub(1)),
        _ => return Ok(None),
    };
    if start >= bytes { Err(()) } else { Ok(Some((start, end - start + 1))) }
}

/// A name to save it by: the uploader's, percent-encoded, and one for clients that do not read that.
fn file_name(file: &StoredFile) -> String {
    let plain = format!("filename=\"{}\"", file.name);
    if file.title.is_empty() {
        return plain;
    }
    let encoded: String = file
        .title
        .bytes()
        .map(|byte| match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    format!("{plain}; filename*=UTF-8''{encoded}")
}

/// The file if the user may have it; 404 otherwise, whatever the reason, but for those whom the room banned.
fn allowed(context: &Context, file: Option<StoredFile>, user: UserId) -> Result<StoredFile, Failure> {
    let Some(file) = file else { return Err(not_found()) };
    let file = context.app.chat.file_for(file, user).map_err(|error| chat_failure(context, error))?;
    file.ok_or_else(not_found)
}

fn chat_failure(context: &Context, error: ChatError) -> Failure {
    super::chat::failure(context, error, not_found)
}

/// A file in replies: the original's fields and what is known beside.
pub(crate) fn file_json(file: &StoredFile) -> Value {
    json!({
        "id": file.id.0,
        "file": file.path(),
        "chatroom": file.room.0,
        "text": file.text,
        "created_at": rest_format(file.created_at),
        "name": file.title,
        "content_type": file.content_type,
        "size": file.bytes,
    })
}

fn no_room(room: RoomId) -> String {
    format!("Invalid pk \"{}\" - object does not exist.", room.0)
}

/// [`failure`] of an upload to a room, which may not be the uploader's.
pub(crate) fn upload_failure(context: &Context, error: FileError, room: RoomId) -> Failure {
    match error {
        FileError::Chat(ChatError::RoomMissing | ChatError::Denied(Denied::NotMember)) => {
            Failure::field("chatroom", no_room(room))
        }
        error => failure(context, error, "file"),
    }
}

/// What the caller learns of a file that was not taken.
pub(crate) fn failure(context: &Context, error: FileError, field: &'static str) -> Failure {
    let text = super::auth::sentence(&error.to_string());
    let detail = |status, code| Failure::detail(status, code, text.clone());
    match error {
        FileError::Empty => Failure::field(field, "The submitted file is empty."),
        FileError::TooLarge(_) => detail(StatusCode::PAYLOAD_TOO_LARGE, "file_too_large"),
        FileError::QuotaExceeded(_) => detail(StatusCode::PAYLOAD_TOO_LARGE, "quota_exceeded"),
        FileError::TotalExceeded(_) => {
            // Only the operator can help.
            tracing::error!(request.id = %context.request_id, "files.total_bytes_max is used up");
            detail(StatusCode::INSUFFICIENT_STORAGE, "files_full")
        }
        FileError::TooManyUploads { own: true } => {
            detail(StatusCode::TOO_MANY_REQUESTS, "too_many_uploads").retry_after(1)
        }
        FileError::TooManyUploads { own: false } => {
            detail(StatusCode::SERVICE_UNAVAILABLE, "too_many_uploads").retry_after(1)
        }
        FileError::TooManyResumable => detail(StatusCode::TOO_MANY_REQUESTS, "too_many_uploads"),
        FileError::Chat(error) => chat_failure(context, error),
        FileError::Disk(error) => {
            tracing::error!(request.id = %context.request_id, %error, "a file could not be written");
            Failure::internal()
        }
    }
}

fn content_length(context: &Context) -> Option<u64> {
    context.header(header::CONTENT_LENGTH).parse().ok()
}

/// A header's value that must be a whole number.
pub(crate) fn number_header(context: &Context, name: HeaderName) -> Option<u64> {
    let text = context.header(name);
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
