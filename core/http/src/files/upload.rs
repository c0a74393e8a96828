//! `message/file/upload/`: a file in one request, written to disk as it arrives, without buffering.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::drain::Incoming;
use chelseru_domain::chat::{Action, ChatError, Denied, RoomId};
use chelseru_domain::files::held_bytes;
use chelseru_domain::ids::UserId;
use chelseru_domain::login::identity::Caller;
use http::{StatusCode, header};

use super::Files;
use super::body::{cut_off, pieces};
use super::failure::{chat_failure, file_failure, no_room, unreadable_name, upload_failure};
use super::json::file_json;
use super::store::{FileError, FileWords, Incoming as Upload, Slot};
use crate::body::read_bytes;
use crate::disposition::{Disposition, Unreadable};
use crate::reply::{Failure, Reply};
use crate::request::{Access, Context, Request};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[Route {
    path: "/message/file/upload/",
    name: "Upload File",
    access: Access::User,
    kind: Kind::Plain,
    operations: &[Operation {
        verb: Verb::Post,
        id: "file_upload",
        call: call!(upload),
        about: About {
            summary: "Upload a file to a room",
            parameters: &[],
            fields: &[
                Field("file", Is::File, "The bytes."),
                Field("chatroom", Is::Integer, "The room."),
                Field("text", Is::MayText, "Free text."),
            ],
            answers: &[
                (201, "UploadedFile"),
                (403, "A right is missing."),
                (507, "The space for files is used up."),
                (503, "The store of files does not answer (files_away)."),
                (429, "Too many uploads at once."),
            ],
        },
    }],
}];

/// Bytes of a field that is not a file.
const FIELD_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of a body besides its file.
const OVERHEAD_BYTES_MAX: u64 = 1024 * 1024;
const FIELDS_MAX: usize = 20;

/// The content of an upload form.
#[derive(Default)]
pub(crate) struct Form {
    /// With the uploader's title of it.
    pub(crate) file: Option<(Upload, String)>,
    /// `file` was present, but held no file.
    file_is_text: bool,
    chatroom: Option<String>,
    text: Option<String>,
}

impl Form {
    /// Why it is refused without a file.
    pub(crate) fn without_file(&self) -> &'static str {
        match self.file_is_text {
            true => "The submitted data was not a file. Check the encoding type on the form.",
            false => "No file was submitted.",
        }
    }
}

/// Reads a form whose file has at most this many bytes, and refuses early what would be refused at the end.
pub(crate) async fn multipart(
    files: &Files,
    context: &Context,
    user: UserId,
    bytes_max: u64,
    body: Incoming,
) -> Result<Form, Failure> {
    let limits = &files.limits;
    let content_type = context.header(header::CONTENT_TYPE).to_owned();
    if essence(&content_type) != "multipart/form-data" {
        return Err(unsupported(&content_type));
    }
    let refuse = |error| file_failure(context, error, "file");
    let promised = context.header(header::CONTENT_LENGTH).parse().unwrap_or(0);
    if bytes_max.saturating_add(OVERHEAD_BYTES_MAX) < promised {
        return Err(refuse(FileError::TooLarge(bytes_max)));
    }
    let slot = files.store.slot(user, limits).map_err(refuse)?;
    // The smallest file that is accepted.
    let least = held_bytes(1, None, None);
    files.store.check_quota(user, least, least, limits).await.map_err(refuse)?;
    receive(files, context, user, bytes_max, (&content_type, &slot, body)).await
}

fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn unsupported(content_type: &str) -> Failure {
    let text = format!("Unsupported media type \"{content_type}\" in request.");
    Failure::detail(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", text)
}

/// `POST message/file/upload/`: multipart `file`, `chatroom`, `text`.
async fn upload(files: Arc<Files>, request: Request<Caller, Incoming>) -> Answer {
    let Request { mut context, caller, body } = request;
    let user = caller.user_id;
    let form = match essence(context.header(header::CONTENT_TYPE)).as_str() {
        // This encoding cannot carry a file, so the file is missing.
        "application/x-www-form-urlencoded" => {
            let bounds = context.edge.body_bounds();
            let bytes = read_bytes(body, bounds, &mut context.memory).await?;
            let value = |name: &str| {
                let mut pairs = form_urlencoded::parse(&bytes);
                pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
            };
            Form { chatroom: value("chatroom").or_else(|| value("chat_room")), ..Form::default() }
        }
        _ => multipart(&files, &context, user, files.limits.file_bytes_max, body).await?,
    };
    let (incoming, words) = checked(&files, &context, user, form).await?;
    let charged = files.chat.charge_file_text(user, words.text.as_deref());
    let charged = charged.map_err(|error| chat_failure(&context, error))?;
    let (room, keeper) = (words.room, files.clone());
    let keeping = async move {
        let kept = keeper.store.keep(incoming, words, &keeper.limits).await?;
        if let Some(charged) = charged {
            charged.came_about();
        }
        Ok::<_, FileError>(kept)
    };
    let kept = files.detached.spawn(keeping).await.map_err(|_| Failure::internal())?;
    let kept = kept.map_err(|error| upload_failure(&context, error, room))?;
    Ok(Reply::json(StatusCode::CREATED, &file_json(&kept)))
}

/// Reports the errors of all fields at once, as the original does.
async fn checked(
    files: &Files,
    context: &Context,
    user: UserId,
    form: Form,
) -> Result<(Upload, FileWords), Failure> {
    let mut faults = BTreeMap::new();
    if form.file.is_none() {
        faults.insert("file", vec![form.without_file().to_owned()]);
    }
    let room = match form.chatroom.as_deref().map(str::trim) {
        None => Err("This field is required.".to_owned()),
        Some("") => Err("This field may not be null.".to_owned()),
        Some(text) => match text.parse().map(RoomId) {
            Ok(room) => match files.chat.check(room, user, Action::Post).await {
                Ok(_) => Ok(room),
                Err(ChatError::RoomMissing | ChatError::Denied(Denied::NotMember)) => Err(no_room(room)),
                Err(error) => return Err(chat_failure(context, error)),
            },
            Err(_) => Err("Incorrect type. Expected pk value, received str.".to_owned()),
        },
    };
    let checked = form.text.as_ref().map_or(Ok(()), |text| files.chat.check_text(text));
    if let Err(ChatError::Invalid { field, reason }) = checked {
        faults.insert(field, vec![reason]);
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

/// Reads a multipart body, the file directly to disk.
async fn receive(
    files: &Files,
    context: &Context,
    user: UserId,
    bytes_max: u64,
    (content_type, slot, body): (&str, &Slot, Incoming),
) -> Result<Form, Failure> {
    let broken = |error| broken(context, bytes_max, error);
    let whole = bytes_max.saturating_add(OVERHEAD_BYTES_MAX);
    let sizes = multer::SizeLimit::new().whole_stream(whole);
    let boundary = multer::parse_boundary(content_type).map_err(&broken)?;
    let constraints = multer::Constraints::new().size_limit(sizes);
    let idle = context.edge.body_bounds().timeout;
    let pieces = pieces(&files.limits, idle, slot, body);
    let mut multipart = multer::Multipart::with_constraints(pieces, boundary, constraints);
    let mut form = Form::default();
    for _ in 0..FIELDS_MAX {
        let Some(mut field) = multipart.next_field().await.map_err(&broken)? else { return Ok(form) };
        let Disposition { name, file } = Disposition::of(field.headers());
        let title = file.transpose().map_err(|Unreadable| unreadable_name())?;
        match (name.as_str(), title) {
            ("file", Some(title)) => {
                permit_early(files, context, user, form.chatroom.as_deref()).await?;
                let taken = files.store.receive(bytes_max).await;
                let mut incoming = taken.map_err(|error| file_failure(context, error, "file"))?;
                while let Some(piece) = field.chunk().await.map_err(&broken)? {
                    incoming.write(&piece).await.map_err(|error| file_failure(context, error, "file"))?;
                }
                form.file = Some((incoming, title));
            }
            ("file", None) => form.file_is_text = true,
            (name @ ("chatroom" | "chat_room" | "text"), _) => {
                let mut value = Vec::new();
                while let Some(piece) = field.chunk().await.map_err(&broken)? {
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

/// Refuses early when the room comes before the file. The check at the end decides.
async fn permit_early(
    files: &Files,
    context: &Context,
    user: UserId,
    chatroom: Option<&str>,
) -> Result<(), Failure> {
    let Some(room) = chatroom.and_then(|text| text.trim().parse().ok()).map(RoomId) else { return Ok(()) };
    let permitted = files.chat.check(room, user, Action::Post);
    permitted.await.map(drop).map_err(|error| upload_failure(context, error.into(), room))
}

fn broken(context: &Context, bytes_max: u64, error: multer::Error) -> Failure {
    match error {
        multer::Error::StreamSizeExceeded { .. } => {
            file_failure(context, FileError::TooLarge(bytes_max), "file")
        }
        multer::Error::StreamReadFailed(cause) => {
            let cut = cause.downcast_ref().and_then(cut_off);
            cut.unwrap_or_else(|| unparsed(&multer::Error::StreamReadFailed(cause)))
        }
        error => unparsed(&error),
    }
}

fn unparsed(error: &multer::Error) -> Failure {
    Failure::detail(StatusCode::BAD_REQUEST, "parse_error", format!("Multipart form parse error - {error}"))
}
