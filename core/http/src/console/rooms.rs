//! Rooms and organisations: found by name, member and status; members, bans and messages of one; and acts on it.

use std::sync::Arc;

use chelseru_domain::chat::{ChatError, OrganizationId, RoomId, RoomKind, RoomStatus};
use chelseru_domain::ids::UserId;
use chelseru_domain::operator::desk::{Looked, RoomAct, RoomQuery, RoomSeen, WrittenMessage};
use chelseru_domain::operator::role::{RoomChange, RoomMessageRead, RoomRead, UserRead};

use super::Console;
use super::filter::Filtered;
use super::page::{Cell, Filters, Form, Input, InputKind, Page, Part, Table, acts};
use super::row::{forms, operation, pages, row};
use super::show::{digits, grouped, latin};
use super::visit::{Outcome, Refused, Typed, Visit, reason_field};
use super::words::Words;
use crate::request::Context;
use crate::route::{Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    row("/console/rooms/", &[operation(Verb::Get, "console_rooms", call!(list))]),
    row("/console/rooms/{id}/", &[operation(Verb::Get, "console_room", call!(one))]),
    row("/console/rooms/{id}/messages/", &[operation(Verb::Get, "console_room_messages", call!(texts))]),
    row("/console/rooms/{id}/status/", &[operation(Verb::Post, "console_room_status", call!(status))]),
    row("/console/rooms/{id}/member/", &[operation(Verb::Post, "console_room_member", call!(member))]),
    row("/console/rooms/{id}/delete/", &[operation(Verb::Post, "console_room_delete", call!(delete))]),
    row(
        "/console/rooms/{id}/messages/delete/",
        &[operation(Verb::Post, "console_room_message_delete", call!(delete_text))],
    ),
    row("/console/organizations/", &[operation(Verb::Get, "console_organizations", call!(organizations))]),
];

pages!(list = listed, one = shown, texts = messages_shown, organizations = organizations_listed);
forms!(
    status = status_set => again,
    member = member_acted => again,
    delete = deleted => again,
    delete_text = message_deleted => messages_again,
);

/// Rooms, members or messages on one page.
const PAGE: usize = 50;

const STATUSES: [(&str, RoomStatus); 3] =
    [("open", RoomStatus::Open), ("hold", RoomStatus::Hold), ("closed", RoomStatus::Closed)];

pub(super) fn failed(error: ChatError) -> Refused {
    match error {
        ChatError::RoomMissing | ChatError::MessageMissing => Refused::Missing,
        error => Refused::Failed(error.to_string()),
    }
}

/// Sets the next page of a list, and says when it was not looked at whole.
pub(super) fn paged<T>(
    filtered: &Filtered<'_>,
    looked: &Looked<T>,
    table: &mut Table,
    parts: &mut Vec<Part>,
) {
    table.next = looked.next.map(|next| filtered.at(next));
    table.first = filtered.first();
    if looked.next.is_some() && looked.found.len() < PAGE {
        parts.push(Part::Note(filtered.words().more_looked.to_owned()));
    }
}

/// The user that a filter names.
pub(super) async fn user_filter(
    console: &Console,
    filtered: &mut Filtered<'_>,
    visit: &Visit,
    name: &'static str,
) -> Result<Option<UserId>, Refused> {
    let Some(text) = filtered.given(name) else { return Ok(None) };
    let found = console.desk.user_named(&visit.permit::<UserRead>()?, &latin(&text)).await?;
    if found.is_none() {
        filtered.refuse(name, filtered.words().user_wrong);
    }
    Ok(found.map(|user| user.id))
}

async fn listed(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let (t, language) = (visit.t, visit.language);
    let permit = visit.permit::<RoomRead>()?;
    let mut filtered = Filtered::new(context, t);
    let query = RoomQuery {
        name: filtered.text("q"),
        member: user_filter(console, &mut filtered, visit, "member").await?,
        status: filtered.one_of("status", &STATUSES),
        organization: filtered.number("organization").map(OrganizationId),
    };
    let columns =
        vec![t.id, t.name, t.kind, t.owner, t.members, t.messages_count, t.state, t.created, t.updated];
    let mut table = Table::new("", columns);
    let mut parts = Vec::new();
    if !filtered.is_wrong() {
        let looked = console.desk.rooms(&permit, &query, filtered.before(), PAGE).await.map_err(failed)?;
        for (room, newest) in &looked.found {
            let name = room.name.as_deref().unwrap_or_default();
            table.rows.push(vec![
                Cell::link(format!("/console/rooms/{}/", room.id.0), room.id.0),
                Cell::text(name),
                kind(room.kind, t),
                user_link(room.owner),
                Cell::code(grouped(u64::from(room.members), language)),
                Cell::code(grouped(*newest, language)),
                state(room.status, t),
                Cell::time(room.created_at, language),
                Cell::time(room.updated_at, language),
            ]);
        }
        paged(&filtered, &looked, &mut table, &mut parts);
    }
    let fields = vec![
        Input { kind: InputKind::Search, ..filtered.input("q", t.name) },
        filtered.input("member", t.member),
        filtered.choice("status", t.state, &status_choices(t)),
        filtered.input("organization", t.organization),
    ];
    let organizations = Cell::link("/console/organizations/".to_owned(), t.organizations);
    parts.insert(0, Part::Facts { title: String::new(), facts: vec![(t.organizations, organizations)] });
    parts.insert(0, Part::Filters(Filters { fields, clear: "/console/rooms/".to_owned() }));
    parts.push(Part::Table(table));
    filtered.outcome(Page::new(t.rooms.to_owned(), parts))
}

fn status_choices(t: &Words) -> [(&'static str, &'static str); 3] {
    [("open", t.room_open), ("hold", t.room_hold), ("closed", t.room_closed)]
}

fn kind(kind: RoomKind, t: &Words) -> Cell {
    Cell::plain(if kind == RoomKind::Pair { t.room_pair } else { t.room_group })
}

fn state(status: RoomStatus, t: &Words) -> Cell {
    match status {
        RoomStatus::Open => Cell::good(t.room_open),
        RoomStatus::Hold => Cell::plain(t.room_hold),
        RoomStatus::Closed => Cell::bad(t.room_closed),
    }
}

pub(super) fn user_link(user: UserId) -> Cell {
    Cell::link(format!("/console/users/{user}/"), user)
}

fn room_id(context: &Context) -> Result<RoomId, Refused> {
    context.id("id").map(RoomId).map_err(|_| Refused::Missing)
}

async fn found(console: &Console, context: &Context, visit: &Visit) -> Result<RoomSeen, Refused> {
    let (permit, id) = (visit.permit::<RoomRead>()?, room_id(context)?);
    let from = UserId(Filtered::new(context, visit.t).before().unwrap_or(0));
    console.desk.room(&permit, id, from, PAGE).await.map_err(failed)?.ok_or(Refused::Missing)
}

async fn shown(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let seen = found(console, context, visit).await?;
    Ok(Outcome::Page(room_page(console, context, visit, &seen, None).await?))
}

/// The page of a room; `answered` stands for the form of its address.
async fn room_page(
    console: &Console,
    context: &Context,
    visit: &Visit,
    seen: &RoomSeen,
    answered: Option<Form>,
) -> Result<Page, Refused> {
    let (t, language) = (visit.t, visit.language);
    let permit = visit.permit::<RoomRead>()?;
    let room = &seen.room;
    let mut facts = vec![
        (t.id, Cell::code(room.id.0)),
        (t.name, Cell::text(room.name.as_deref().unwrap_or_default())),
        (t.description, Cell::text(room.descriptions.as_deref().unwrap_or_default())),
        (t.kind, kind(room.kind, t)),
        (t.state, state(room.status, t)),
        (t.owner, user_link(room.owner)),
        (t.members, Cell::code(grouped(u64::from(room.members), language))),
        (t.messages_count, Cell::code(grouped(seen.newest, language))),
        (t.created, Cell::time(room.created_at, language)),
        (t.updated, Cell::time(room.updated_at, language)),
    ];
    if let Some(organization) = room.organization {
        let found = console.desk.organization(&permit, organization).await?;
        let name = found.map_or_else(|| organization.0.to_string(), |found| found.name);
        facts.push((
            t.organization,
            Cell::link(format!("/console/rooms/?organization={}", organization.0), name),
        ));
    }
    if visit.may::<RoomMessageRead>() {
        let link = Cell::link(format!("/console/rooms/{}/messages/", room.id.0), t.messages_read);
        facts.push((t.messages_count, link));
    }
    let mut parts = vec![Part::Facts { title: String::new(), facts }];
    let changes = visit.may::<RoomChange>();
    let offered = [
        changes.then(|| status_form(seen, t)),
        (changes && room.kind == RoomKind::Group).then(|| member_form(seen, t)),
        changes.then(|| delete_form(seen, t)),
    ];
    parts.extend(acts(offered, answered.as_ref()));
    let mut table = Table::new(t.members, vec![t.user, t.name, t.role, t.joined]);
    for member in &seen.members {
        let owner = member.user == room.owner;
        let role = match (owner, member.pending) {
            (true, _) => t.owner,
            (false, true) => t.member_asked,
            (false, false) => t.member,
        };
        table.rows.push(vec![
            user_link(member.user),
            Cell::text(&console.desk.name_shown(&permit, member.user).await),
            Cell::plain(role),
            Cell::time(member.joined_at, language),
        ]);
    }
    let filtered = Filtered::new(context, t);
    table.next = seen.members_next.map(|next| filtered.at(next.0));
    table.first = filtered.first();
    parts.push(Part::Table(table));
    if !seen.bans.is_empty() {
        let mut table = Table::new(t.bans, vec![t.user, t.name]);
        for user in &seen.bans {
            let name = console.desk.name_shown(&permit, *user).await;
            table.rows.push(vec![user_link(*user), Cell::text(&name)]);
        }
        parts.push(Part::Table(table));
    }
    let number = digits(&room.id.0.to_string(), language);
    Ok(Page::new(format!("{} {number}", t.room), parts))
}

fn form(seen: &RoomSeen, act: &str, title: &'static str, text: &str, t: &Words) -> Form {
    let action = format!("/console/rooms/{}/{act}/", seen.room.id.0);
    Form::new(title, text, action).field(reason_field(t))
}

fn status_form(seen: &RoomSeen, t: &Words) -> Form {
    let is = STATUSES.iter().find(|(_, status)| *status == seen.room.status).map_or("open", |(word, _)| word);
    let status = Input::select("status", t.state, is.to_owned(), status_choices(t));
    form(seen, "status", t.room_status, t.room_status_text, t).danger(seen.room.id.0).field(status)
}

/// An act on one user.
type OnUser = fn(UserId) -> RoomAct;

const MEMBER_ACTS: [(&str, OnUser); 3] =
    [("remove", RoomAct::Remove), ("ban", RoomAct::Ban), ("unban", RoomAct::Unban)];

fn member_form(seen: &RoomSeen, t: &Words) -> Form {
    let choices = [("remove", t.member_remove), ("ban", t.member_ban), ("unban", t.member_unban)];
    form(seen, "member", t.members, t.member_text, t)
        .danger_of_choice()
        .field(Input { name: "user", label: t.user, ..Input::default() })
        .field(Input::select("act", t.change, "remove".to_owned(), choices))
}

fn delete_form(seen: &RoomSeen, t: &Words) -> Form {
    form(seen, "delete", t.room_delete, t.room_delete_text, t).danger(seen.room.id.0)
}

/// The room's page, with the refused form open.
async fn again(console: &Console, context: &Context, visit: &Visit, form: Form) -> Result<Page, Refused> {
    let seen = found(console, context, visit).await?;
    room_page(console, context, visit, &seen, Some(form)).await
}

/// The answer to an act on a room; `field` is the form's that a refusal is about.
fn acted(
    visit: &Visit,
    seen: &RoomSeen,
    (form, field): (Form, &'static str),
    done: Result<(), ChatError>,
) -> Result<Outcome, Refused> {
    use chelseru_domain::chat::Denied;
    let t = visit.t;
    let text = match done {
        Ok(()) => return Ok(Outcome::Done(format!("/console/rooms/{}/", seen.room.id.0))),
        Err(ChatError::Denied(Denied::OwnerProtected)) => t.room_owner_stays,
        Err(ChatError::Denied(Denied::TargetNotMember)) => t.room_no_member,
        Err(ChatError::Denied(Denied::TargetMissing)) => t.user_wrong,
        Err(ChatError::Denied(_)) => t.room_denied,
        Err(ChatError::Full(_)) => t.room_full,
        Err(error) => return Err(failed(error)),
    };
    Err(form.refused(field, text))
}

async fn status_set(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let permit = visit.permit::<RoomChange>()?;
    let seen = found(console, context, visit).await?;
    let mut form = status_form(&seen, visit.t);
    typed.fill(&mut form);
    let status = typed.one_of(&mut form, "status", &STATUSES, visit.t);
    let (form, reason, status) = typed.complete(form, status, visit.t)?;
    let done = console.desk.room_act(&permit, seen.room.id, RoomAct::Status(status), &reason).await;
    acted(visit, &seen, (form, "status"), done)
}

async fn member_acted(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let t = visit.t;
    let permit = visit.permit::<RoomChange>()?;
    let seen = found(console, context, visit).await?;
    let mut form = member_form(&seen, t);
    typed.fill(&mut form);
    let act = typed.one_of(&mut form, "act", &MEMBER_ACTS, t);
    let user = console.desk.user_named(&visit.permit::<UserRead>()?, &typed.latin("user")).await?;
    match &user {
        Some(user) => form.target(&user.username),
        None => form.refuse("user", t.user_wrong),
    }
    let (form, reason, (act, user)) = typed.complete(form, act.zip(user), t)?;
    let done = console.desk.room_act(&permit, seen.room.id, act(user.id), &reason).await;
    acted(visit, &seen, (form, "user"), done)
}

async fn deleted(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let permit = visit.permit::<RoomChange>()?;
    let seen = found(console, context, visit).await?;
    let (_, reason) = typed.reasoned(delete_form(&seen, visit.t), visit.t)?;
    console.desk.room_act(&permit, seen.room.id, RoomAct::Delete, &reason).await.map_err(failed)?;
    Ok(Outcome::Done("/console/rooms/".to_owned()))
}

async fn messages_shown(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    messages_page(console, context, visit, None).await.map(Outcome::Page)
}

/// The messages, with the refused form of one open.
async fn messages_again(
    console: &Console,
    context: &Context,
    visit: &Visit,
    form: Form,
) -> Result<Page, Refused> {
    messages_page(console, context, visit, Some(form)).await
}

/// What people wrote in a room. `refused` is the form of one message.
async fn messages_page(
    console: &Console,
    context: &Context,
    visit: &Visit,
    mut refused: Option<Form>,
) -> Result<Page, Refused> {
    let t = visit.t;
    let permit = visit.permit::<RoomMessageRead>()?;
    let seen = found(console, context, visit).await?;
    let filtered = Filtered::new(context, t);
    let (text, id) = (filtered.text("q"), seen.room.id);
    let looked = console.desk.room_messages(&permit, id, &text, filtered.before(), PAGE).await;
    let looked = looked.map_err(failed)?;
    let mut table = Table::new("", vec![t.id, t.created, t.user, t.name, t.kind, t.text, ""]);
    for view in &looked.found {
        let seq = view.message.seq;
        let form = refused.take_if(|form| form.hides("seq", seq)).unwrap_or_else(|| text_form(id, seq, t));
        table.rows.push(text_line(view, form, visit));
    }
    let mut parts = Vec::new();
    paged(&filtered, &looked, &mut table, &mut parts);
    let search = Input { kind: InputKind::Search, ..filtered.input("q", t.text) };
    let clear = format!("/console/rooms/{}/messages/", id.0);
    parts.insert(0, Part::Filters(Filters { fields: vec![search], clear }));
    // A form whose message is not on this page.
    parts.extend(refused.map(|form| Part::Form(Box::new(form))));
    parts.push(Part::Note(t.messages_read_text.to_owned()));
    parts.push(Part::Table(table));
    let number = digits(&id.0.to_string(), visit.language);
    Ok(Page::new(format!("{}: {} {number}", t.messages_count, t.room), parts))
}

fn text_line(view: &WrittenMessage, form: Form, visit: &Visit) -> Vec<Cell> {
    let WrittenMessage { message, sender_name } = view;
    let sender_name: &Arc<str> = sender_name;
    vec![
        Cell::code(message.seq),
        Cell::time(message.created_at, visit.language),
        user_link(message.sender),
        Cell::text(sender_name),
        Cell::code(&message.body.kind),
        Cell::text(&message.body.text),
        if visit.may::<RoomChange>() { Cell::Form(Box::new(form)) } else { Cell::code("") },
    ]
}

fn text_form(room: RoomId, seq: u64, t: &Words) -> Form {
    Form::new(t.message_delete, "", format!("/console/rooms/{}/messages/delete/", room.0))
        .danger(seq)
        .hide("seq", seq)
        .field(reason_field(t))
}

async fn message_deleted(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let permit = visit.permit::<RoomChange>()?;
    let (room, seq) = (room_id(context)?, typed.get("seq").parse().map_err(|_| Refused::Missing)?);
    let (_, reason) = typed.reasoned(text_form(room, seq, visit.t), visit.t)?;
    let act = RoomAct::DeleteMessage(seq);
    console.desk.room_act(&permit, room, act, &reason).await.map_err(failed)?;
    Ok(Outcome::Done(format!("/console/rooms/{}/messages/", room.0)))
}

async fn organizations_listed(
    console: &Console,
    context: &Context,
    visit: &Visit,
) -> Result<Outcome, Refused> {
    let t = visit.t;
    let permit = visit.permit::<RoomRead>()?;
    let mut filtered = Filtered::new(context, t);
    let owner = user_filter(console, &mut filtered, visit, "owner").await?;
    let mut table = Table::new("", vec![t.id, t.name, t.unique_name, t.owner, t.created, t.rooms]);
    let mut parts = Vec::new();
    if !filtered.is_wrong() {
        let name = filtered.text("q");
        let looked = console.desk.organizations(&permit, &name, owner, filtered.before(), PAGE).await;
        let looked = looked.map_err(failed)?;
        for one in &looked.found {
            table.rows.push(vec![
                Cell::link(format!("/console/organizations/{}/", one.id.0), one.id.0),
                Cell::text(&one.name),
                Cell::code(&one.uname),
                user_link(one.owner),
                Cell::time(one.created_at, visit.language),
                Cell::link(format!("/console/rooms/?organization={}", one.id.0), t.rooms),
            ]);
        }
        paged(&filtered, &looked, &mut table, &mut parts);
    }
    let search = Input { kind: InputKind::Search, ..filtered.input("q", t.name) };
    let fields = vec![search, filtered.input("owner", t.owner)];
    parts.insert(0, Part::Filters(Filters { fields, clear: "/console/organizations/".to_owned() }));
    parts.push(Part::Table(table));
    filtered.outcome(Page::new(t.organizations.to_owned(), parts))
}
