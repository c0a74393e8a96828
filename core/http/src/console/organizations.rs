//! One organisation: its facts, its rooms, and what operators change about it. The list is in `rooms`.

use chelseru_domain::chat::{ChatError, Organization, OrganizationId};
use chelseru_domain::operator::desk::OrganizationAct;
use chelseru_domain::operator::role::{RoomChange, RoomRead};

use super::Console;
use super::page::{Cell, Form, Input, Page, Part, acts};
use super::rooms::{failed, user_link};
use super::row::{forms, operation, pages, row};
use super::visit::{Outcome, Refused, Typed, Visit, reason_field};
use super::words::Words;
use crate::request::Context;
use crate::route::{Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    row("/console/organizations/{id}/", &[operation(Verb::Get, "console_organization", call!(one))]),
    row(
        "/console/organizations/{id}/rename/",
        &[operation(Verb::Post, "console_organization_rename", call!(rename))],
    ),
    row(
        "/console/organizations/{id}/remove/",
        &[operation(Verb::Post, "console_organization_remove", call!(remove))],
    ),
];

pages!(one = shown);
forms!(rename = renamed, remove = removed);

async fn found(console: &Console, context: &Context, visit: &Visit) -> Result<Organization, Refused> {
    let id = context.id("id").map_err(|_| Refused::Missing)?;
    let permit = visit.permit::<RoomRead>()?;
    console.desk.organization(&permit, OrganizationId(id)).await?.ok_or(Refused::Missing)
}

async fn shown(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let one = found(console, context, visit).await?;
    Ok(Outcome::Page(page(&one, visit, None)))
}

fn page(one: &Organization, visit: &Visit, answered: Option<Form>) -> Page {
    let t = visit.t;
    let facts = vec![
        (t.id, Cell::code(one.id.0)),
        (t.name, Cell::text(&one.name)),
        (t.unique_name, Cell::code(&one.uname)),
        (t.owner, user_link(one.owner)),
        (t.created, Cell::time(one.created_at, visit.language)),
        (t.rooms, Cell::link(format!("/console/rooms/?organization={}", one.id.0), t.rooms)),
    ];
    let mut parts = vec![Part::Facts { title: String::new(), facts }];
    let may = visit.may::<RoomChange>();
    let offered = [may.then(|| rename_form(one, t)), may.then(|| remove_form(one, t))];
    parts.extend(acts(offered, answered.as_ref()));
    Page::new(one.name.clone(), parts)
}

fn rename_form(one: &Organization, t: &Words) -> Form {
    let action = format!("/console/organizations/{}/rename/", one.id.0);
    let name = Input { name: "name", label: t.name, value: one.name.clone(), ..Input::default() };
    Form::new(t.rename, t.rename_text, action)
        .field(name)
        .field(Input::code("uname", t.unique_name, one.uname.clone()))
        .field(reason_field(t))
}

fn remove_form(one: &Organization, t: &Words) -> Form {
    Form::new(
        t.organization_remove,
        t.organization_remove_text,
        format!("/console/organizations/{}/remove/", one.id.0),
    )
    .danger(&one.uname)
    .field(reason_field(t))
}

async fn renamed(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let one = found(console, context, visit).await?;
    let mut form = rename_form(&one, visit.t);
    typed.fill(&mut form);
    let act = OrganizationAct::Rename { name: typed.get("name"), uname: typed.get("uname") };
    acted(console, visit, typed, &one, form, act).await
}

async fn removed(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let one = found(console, context, visit).await?;
    let form = remove_form(&one, visit.t);
    acted(console, visit, typed, &one, form, OrganizationAct::Remove).await
}

async fn acted(
    console: &Console,
    visit: &Visit,
    typed: &Typed,
    one: &Organization,
    mut form: Form,
    act: OrganizationAct,
) -> Result<Outcome, Refused> {
    let permit = visit.permit::<RoomChange>()?;
    let Some(reason) = typed.reason(&mut form, visit.t) else {
        return Ok(Outcome::Again(page(one, visit, Some(form))));
    };
    let back = match act {
        OrganizationAct::Remove => "/console/organizations/".to_owned(),
        OrganizationAct::Rename { .. } => format!("/console/organizations/{}/", one.id.0),
    };
    match console.desk.organization_act(&permit, one.id, act, &reason).await {
        Ok(()) => return Ok(Outcome::Done(back)),
        Err(ChatError::OrganizationHasRooms(rooms)) => {
            form.refuse("", &format!("{} {rooms}", visit.t.organization_has_rooms));
        }
        Err(ChatError::Invalid { field: "uname", .. }) => form.refuse("uname", visit.t.uname_wrong),
        Err(ChatError::Invalid { .. }) => form.refuse("name", visit.t.name_wrong),
        Err(error) => return Err(failed(error)),
    }
    Ok(Outcome::Again(page(one, visit, Some(form))))
}
