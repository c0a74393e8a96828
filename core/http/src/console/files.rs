//! Uploaded files: found by uploader, room, kind, size and day, and removed with what shows them.

use chelseru_domain::chat::{FileId, RoomId, StoredFile};
use chelseru_domain::operator::desk::FileQuery;
use chelseru_domain::operator::role::{RoomChange, RoomMessageRead};

use super::Console;
use super::filter::Filtered;
use super::page::{Cell, Filters, Form, Input, InputKind, Page, Part, Table};
use super::rooms::{failed, paged, user_filter, user_link};
use super::row::{forms, operation, pages, row};
use super::show::grouped;
use super::visit::{Outcome, Refused, Typed, Visit, reason_field};
use super::words::Words;
use crate::request::Context;
use crate::route::{Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    row("/console/files/", &[operation(Verb::Get, "console_files", call!(list))]),
    row("/console/files/remove/", &[operation(Verb::Post, "console_file_remove", call!(remove))]),
];

pages!(list = listed);
forms!(remove = removed => again);

/// Files on one page.
const PAGE: usize = 50;

const KINDS: [(&str, &str); 5] = [
    ("image", "image/"),
    ("video", "video/"),
    ("audio", "audio/"),
    ("text", "text/"),
    ("application", "application/"),
];

async fn listed(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let (filtered, page) = page(console, context, visit, None).await?;
    filtered.outcome(page)
}

/// The list, with the refused form of one file open.
async fn again(console: &Console, context: &Context, visit: &Visit, form: Form) -> Result<Page, Refused> {
    Ok(page(console, context, visit, Some(form)).await?.1)
}

/// `refused` is the form of one file.
async fn page<'a>(
    console: &Console,
    context: &'a Context,
    visit: &Visit,
    mut refused: Option<Form>,
) -> Result<(Filtered<'a>, Page), Refused> {
    let (t, language) = (visit.t, visit.language);
    let permit = visit.permit::<RoomMessageRead>()?;
    let mut filtered = Filtered::new(context, t);
    let query = FileQuery {
        title: filtered.text("q"),
        kind: filtered.one_of("kind", &KINDS).unwrap_or_default().to_owned(),
        uploader: user_filter(console, &mut filtered, visit, "user").await?,
        room: filtered.number("room").map(RoomId),
        bytes_min: filtered.number("bytes"),
        from: filtered.day("from"),
        until: filtered.day("until"),
    };
    let columns = vec![t.id, t.created, t.name, t.file_kind, t.bytes, t.user, t.room, t.message, ""];
    let mut table = Table::new("", columns);
    let mut parts = Vec::new();
    if !filtered.is_wrong() {
        let looked = console.desk.files(&permit, &query, filtered.before(), PAGE).await?;
        for file in &looked.found {
            let form = refused.take_if(|form| form.hides("file", file.id.0));
            let form = form.unwrap_or_else(|| remove_form(file.id, t));
            table.rows.push(line(file, form, visit));
        }
        paged(&filtered, &looked, &mut table, &mut parts);
    }
    let kinds = KINDS.map(|(word, _)| (word, word));
    let fields = vec![
        Input { kind: InputKind::Search, ..filtered.input("q", t.name) },
        filtered.input("user", t.user),
        filtered.input("room", t.room),
        filtered.choice("kind", t.file_kind, &kinds),
        filtered.input("bytes", t.bytes_min),
        filtered.day_input("from", t.from),
        filtered.day_input("until", t.until),
    ];
    parts.insert(0, Part::Filters(Filters { fields, clear: "/console/files/".to_owned() }));
    let bytes = console.desk.files_bytes(&permit).await.map_err(failed)?;
    let facts = vec![(t.uploads_bytes, Cell::code(grouped(bytes, language)))];
    parts.push(Part::Facts { title: String::new(), facts });
    // A form whose file is not on this page.
    parts.extend(refused.map(|form| Part::Form(Box::new(form))));
    parts.push(Part::Note(t.messages_read_text.to_owned()));
    parts.push(Part::Table(table));
    Ok((filtered, Page::new(t.uploads.to_owned(), parts)))
}

fn line(file: &StoredFile, form: Form, visit: &Visit) -> Vec<Cell> {
    let message = match (file.room, file.message) {
        (None, _) => Cell::plain(visit.t.picture),
        (Some(_), Some(0)) => Cell::plain(visit.t.avatar),
        (Some(RoomId(room)), Some(seq)) => {
            let after = seq.saturating_add(1);
            Cell::link(format!("/console/rooms/{room}/messages/?before={after}"), seq)
        }
        (Some(_), None) => Cell::code(""),
    };
    let room = match file.room {
        Some(RoomId(room)) => Cell::link(format!("/console/rooms/{room}/"), room),
        None => Cell::code(""),
    };
    vec![
        Cell::code(file.id.0),
        Cell::time(file.created_at, visit.language),
        Cell::text(&file.title),
        Cell::code(&file.content_type),
        Cell::code(grouped(file.bytes, visit.language)),
        user_link(file.uploader),
        room,
        message,
        if visit.may::<RoomChange>() { Cell::Form(Box::new(form)) } else { Cell::code("") },
    ]
}

fn remove_form(id: FileId, t: &Words) -> Form {
    Form::new(t.file_remove, "", "/console/files/remove/".to_owned())
        .danger(id.0)
        .hide("file", id.0)
        .field(reason_field(t))
}

async fn removed(console: &Console, _: &Context, visit: &Visit, typed: &Typed) -> Result<Outcome, Refused> {
    let permit = visit.permit::<RoomChange>()?;
    let id = FileId(typed.get("file").parse().map_err(|_| Refused::Missing)?);
    let (_, reason) = typed.reasoned(remove_form(id, visit.t), visit.t)?;
    match console.desk.file_remove(&permit, id, &reason).await.map_err(failed)? {
        true => Ok(Outcome::Done("/console/files/".to_owned())),
        false => Err(Refused::Missing),
    }
}
