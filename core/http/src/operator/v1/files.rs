//! `operator/v1/` of uploaded files.

use std::sync::Arc;

use chelseru_domain::chat::{ChatError, FileId, RoomId, StoredFile};
use chelseru_domain::clock::rest_format;
use chelseru_domain::operator::desk::FileQuery;
use chelseru_domain::operator::role::{RoomChange, RoomMessageRead, UserRead};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Filters, NO_ROLE, NO_TOKEN, PAGE, WHY, act, failed, read, reason, route};
use crate::console::Console;
use crate::fields::Fields;
use crate::page::{CURSOR, Cursor, page, start};
use crate::reply::{Failure, Reply, sentence};
use crate::request::{ByOperator, Request, not_found};
use crate::route::{Answer, Field, Is, Route, call};

pub(crate) const ROUTES: &[Route] = &[
    route(
        "/operator/v1/files/",
        "Operator File List",
        &[read(
            "operator_file_list",
            "Find uploaded files, newest first",
            &[
                CURSOR,
                Field("title", Is::MayText, "A part of the uploader's title."),
                Field("kind", Is::MayText, "The beginning of the content type, such as image/."),
                Field("user", Is::MayText, "Of this uploader: a number, a name or an account number."),
                Field("room", Is::MayInteger, "Of this room."),
                Field("bytes_min", Is::MayInteger, "At least this large."),
                Field("from", Is::MayText, "Uploaded on this day or later: 2026-11-26 or 1405/09/05."),
                Field("until", Is::MayText, "Uploaded before this day."),
            ],
            &[(200, "Page<OperatorFile>"), (401, NO_TOKEN), (403, NO_ROLE), (404, "An invalid cursor.")],
            call!(list),
        )],
    ),
    route(
        "/operator/v1/files/{id}/remove/",
        "Operator File Remove",
        &[act(
            "operator_file_remove",
            "Remove a file with the message or the avatar that shows it",
            &[WHY],
            &[(204, "Removed."), (401, NO_TOKEN), (403, NO_ROLE), (409, "The room does not allow it.")],
            call!(remove),
        )],
    ),
];

async fn list(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<RoomMessageRead>(&request).await?;
    let users = console.allow::<UserRead>(&request).await?;
    let mut filters = Filters::new(&request);
    let query = FileQuery {
        title: filters.text("title").unwrap_or_default(),
        kind: filters.text("kind").unwrap_or_default(),
        uploader: filters.user(&console, &users, "user").await?,
        room: filters.number("room").map(RoomId),
        bytes_min: filters.number("bytes_min"),
        from: filters.day("from"),
        until: filters.day("until"),
    };
    filters.finish()?;
    let looked = console.desk.files(&permit, &query, start(&request)?, PAGE).await;
    let looked = looked.map_err(|error| failed(&request, &error))?;
    let results: Vec<Value> = looked.found.iter().map(file_json).collect();
    Ok(page(&request, looked.next.map(Cursor::Next), None, &results))
}

fn file_json(file: &StoredFile) -> Value {
    json!({
        "id": file.id.0,
        "title": file.title,
        "content_type": file.content_type,
        "bytes": file.bytes,
        "user": file.uploader.0,
        "room": file.room.map(|room| room.0),
        "message": file.message.filter(|seq| *seq > 0),
        "avatar": file.message == Some(0),
        "created_at": rest_format(file.created_at),
    })
}

async fn remove(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<RoomChange>(&context).await?;
    let (id, reason) = (FileId(context.id("id")?), reason(&mut fields)?);
    match console.desk.file_remove(&permit, id, &reason).await {
        Ok(true) => Ok(Reply::empty()),
        Ok(false) | Err(ChatError::RoomMissing | ChatError::MessageMissing) => Err(not_found()),
        Err(error @ (ChatError::Denied(_) | ChatError::Full(_))) => {
            Err(Failure::detail(StatusCode::CONFLICT, "room_refuses", sentence(&error)))
        }
        Err(error) => Err(failed(&context, &error)),
    }
}
