//! Users: found by a part of a number or a name, shown with their sessions and messages, and acted on.
//!
//! The page of a user answers "why did I get no code?": the newest messages to the number, each with its tries.

use chelseru_domain::clock::rest_format;
use chelseru_domain::ids::{SessionId, UserId};
use chelseru_domain::login::account::{Rights, UserView};
use chelseru_domain::login::identity::{ResetTokenError, UserActError};
use chelseru_domain::login::user_index::UserQuery;
use chelseru_domain::operator::role::{
    ResetLinkMake, SessionEnd, UserExport, UserRead, UserSetActive, UserSetRights, WalletRead,
};

use super::filter::Filtered;
use super::page::{Cell, Filters, Form, Input, InputKind, Page, Part, Table};
use super::row::{forms, operation, pages, row};
use super::visit::{Outcome, Refused, Typed, Visit, reason_field};
use super::words::Words;
use super::{Console, messages};
use crate::csv::cell;
use crate::request::Context;
use crate::route::{Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    row("/console/users/", &[operation(Verb::Get, "console_users", call!(list))]),
    row("/console/users/export/", &[operation(Verb::Get, "console_users_export", call!(export))]),
    row("/console/users/{id}/", &[operation(Verb::Get, "console_user", call!(one))]),
    row("/console/users/{id}/active/", &[operation(Verb::Post, "console_user_active", call!(active))]),
    row("/console/users/{id}/rights/", &[operation(Verb::Post, "console_user_rights", call!(rights))]),
    row("/console/users/{id}/sessions/end/", &[operation(Verb::Post, "console_user_sessions", call!(end))]),
    row("/console/users/{id}/reset/", &[operation(Verb::Post, "console_user_reset", call!(reset))]),
];

pages!(list = listed, export = exported, one = shown);
forms!(active = set_active, rights = set_rights, end = sessions_end, reset = reset_link);

/// Users on one page.
const PAGE: usize = 50;

/// The query of an address. Wrong fields are marked, and narrow nothing.
fn query(filtered: &mut Filtered<'_>) -> UserQuery {
    UserQuery {
        text: filtered.text("q"),
        group: filtered.number("group").and_then(|group| u32::try_from(group).ok()),
        active: filtered.one_of("state", &[("active", true), ("disabled", false)]),
        rights: filtered.one_of("rights", &RIGHTS),
        from: filtered.day("from"),
        until: filtered.day("until"),
    }
}

const RIGHTS: [(&str, Rights); 3] =
    [("none", Rights::None), ("staff", Rights::Staff), ("superuser", Rights::Superuser)];

async fn listed(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let (t, language) = (visit.t, visit.language);
    let permit = visit.permit::<UserRead>()?;
    let mut filtered = Filtered::new(context, t);
    let query = query(&mut filtered);
    let mut table =
        Table::new("", vec![t.id, t.username, t.number, t.name, t.group, t.state, t.rights, t.joined]);
    if !filtered.is_wrong() {
        let found = console.desk.users(&permit, &query, filtered.before().map(UserId), PAGE).await?;
        table.next = found.next.map(|next| filtered.at(next.0));
        for user in &found.users {
            table.rows.push(vec![
                Cell::link(format!("/console/users/{}/", user.id), user.id),
                Cell::link(format!("/console/users/{}/", user.id), &user.username),
                Cell::code(&user.mobile_number),
                Cell::text(&format!("{} {}", user.first_name, user.last_name)),
                Cell::code(user.group),
                state(user, t),
                Cell::plain(rights_text(user.rights(), t)),
                Cell::time(user.date_joined, language),
            ]);
        }
    }
    table.first = filtered.first();
    table.csv = visit.may::<UserExport>().then(|| filtered.address("/console/users/export/"));
    let search = Input { kind: InputKind::Search, hint: t.search_user, ..filtered.input("q", t.search) };
    let fields = vec![
        search,
        filtered.choice("state", t.state, &[("active", t.active), ("disabled", t.disabled)]),
        filtered.choice(
            "rights",
            t.rights,
            &[("none", t.rights_none), ("staff", t.rights_staff), ("superuser", t.rights_superuser)],
        ),
        filtered.input("group", t.group),
        filtered.day_input("from", t.from),
        filtered.day_input("until", t.until),
    ];
    let filters = Filters { fields, clear: "/console/users/".to_owned() };
    let parts = vec![Part::Filters(filters), Part::Table(table)];
    filtered.outcome(Page { title: t.users.to_owned(), parts })
}

/// The filtered list as CSV, at most ten thousand users; a `Link` header names the rest.
async fn exported(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let (permit, read) = (visit.permit::<UserExport>()?, visit.permit::<UserRead>()?);
    let mut filtered = Filtered::new(context, visit.t);
    let query = query(&mut filtered);
    if filtered.is_wrong() {
        return Err(Refused::Missing);
    }
    let file = console.desk.users_export(&permit, &read, &query, filtered.before().map(UserId)).await?;
    let mut text =
        String::from("id,username,mobile_number,first_name,last_name,email,group,active,rights,joined\r\n");
    for user in &file.users {
        let cells = [
            user.id.to_string(),
            cell(&user.username),
            cell(&user.mobile_number),
            cell(&user.first_name),
            cell(&user.last_name),
            cell(&user.email),
            user.group.to_string(),
            user.active.to_string(),
            user.rights().as_str().to_owned(),
            rest_format(user.date_joined),
        ];
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    Ok(filtered.file("users.csv", text, file.next.map(|next| next.0)))
}

async fn shown(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let user = found(console, context, visit).await?;
    Ok(Outcome::Page(user_page(console, visit, &user, None).await?))
}

async fn found(console: &Console, context: &Context, visit: &Visit) -> Result<UserView, Refused> {
    let id = context.id("id").map_err(|_| Refused::Missing)?;
    console.desk.user(&visit.permit::<UserRead>()?, UserId(id)).await?.ok_or(Refused::Missing)
}

/// The page of a user; `refused` replaces the form of its address.
async fn user_page(
    console: &Console,
    visit: &Visit,
    user: &UserView,
    refused: Option<Form>,
) -> Result<Page, Refused> {
    let (t, language) = (visit.t, visit.language);
    let permit = visit.permit::<UserRead>()?;
    let facts = vec![
        (t.id, Cell::code(user.id)),
        (t.number, Cell::code(&user.mobile_number)),
        (t.name, Cell::text(&format!("{} {}", user.first_name, user.last_name))),
        (t.email, Cell::code(&user.email)),
        (t.group, Cell::code(user.group)),
        (t.state, state(user, t)),
        (t.rights, Cell::plain(rights_text(user.rights(), t))),
        (t.password, Cell::plain(if user.has_password { t.yes } else { t.no })),
        (t.joined, Cell::time(user.date_joined, language)),
        (t.last_login, Cell::maybe_time(user.last_login, language)),
    ];
    let mut parts = vec![Part::Facts { title: String::new(), facts }];
    let forms = [
        visit.may::<UserSetActive>().then(|| active_form(user, t)),
        visit.may::<SessionEnd>().then(|| sessions_form(user, t)),
        visit.may::<ResetLinkMake>().then(|| reset_form(user, t)),
        visit.may::<UserSetRights>().then(|| rights_form(user, t)),
    ];
    for mut form in forms.into_iter().flatten() {
        if let Some(refused) = refused.as_ref().filter(|refused| refused.action == form.action) {
            form = refused.clone();
        }
        parts.push(Part::Form(Box::new(form)));
    }
    if visit.may::<WalletRead>() {
        let link = Cell::link(format!("/console/wallets/{}/", user.id), t.wallet);
        parts.push(Part::Facts { title: String::new(), facts: vec![(t.balance, link)] });
    }
    let mut table = Table::new(t.sessions, vec![t.id, t.ip, t.device, t.created, t.last_seen]);
    for session in console.desk.user_sessions(&permit, user.id).await? {
        let device = session.device_name.clone().unwrap_or_else(|| session.user_agent.to_string());
        table.rows.push(vec![
            Cell::code(session.id),
            Cell::code(session.ip_address.map(|ip| ip.to_string()).unwrap_or_default()),
            Cell::text(&device),
            Cell::time(session.created_at, language),
            Cell::time(session.last_seen, language),
        ]);
    }
    parts.push(Part::Table(table));
    let sent = console.desk.user_messages(&permit, user).await?;
    if sent.is_empty() {
        parts.push(Part::Facts {
            title: t.why_no_code.to_owned(),
            facts: vec![(t.messages, Cell::text(t.no_messages))],
        });
    } else {
        parts.push(Part::Table(messages::table(t.why_no_code, &sent, visit)));
    }
    Ok(Page { title: user.username.clone(), parts })
}

fn state(user: &UserView, t: &Words) -> Cell {
    if user.active { Cell::good(t.active) } else { Cell::bad(t.disabled) }
}

fn rights_text(rights: Rights, t: &Words) -> &'static str {
    match rights {
        Rights::None => t.rights_none,
        Rights::Staff => t.rights_staff,
        Rights::Superuser => t.rights_superuser,
    }
}

fn active_form(user: &UserView, t: &Words) -> Form {
    let action = format!("/console/users/{}/active/", user.id);
    let mut form = match user.active {
        true => Form::new(t.disable, t.disable_text, action),
        false => Form::new(t.enable, t.enable_text, action),
    };
    form.danger = user.active;
    form.confirm = user.active.then(|| user.username.clone());
    form.hidden.push(("active", (!user.active).to_string()));
    form.fields.push(reason_field(t));
    form
}

fn sessions_form(user: &UserView, t: &Words) -> Form {
    let action = format!("/console/users/{}/sessions/end/", user.id);
    let mut form = Form::new(t.end_sessions, t.end_sessions_text, action);
    form.fields.push(reason_field(t));
    form
}

fn reset_form(user: &UserView, t: &Words) -> Form {
    let mut form = Form::new(t.reset_link, t.reset_link_text, format!("/console/users/{}/reset/", user.id));
    form.fields.push(reason_field(t));
    form
}

fn rights_form(user: &UserView, t: &Words) -> Form {
    let mut form = Form::new(t.set_rights, t.set_rights_text, format!("/console/users/{}/rights/", user.id));
    let choices = [("none", t.rights_none), ("staff", t.rights_staff), ("superuser", t.rights_superuser)];
    form.fields.push(Input::select("rights", t.rights, user.rights().as_str().to_owned(), choices));
    form.fields.push(reason_field(t));
    form.confirm = Some(user.username.clone());
    form.danger = true;
    form
}

async fn set_active(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let permit = visit.permit::<UserSetActive>()?;
    let user = found(console, context, visit).await?;
    let mut form = active_form(&user, visit.t);
    // What the form showed, so that a stale page does the opposite of nothing.
    let active = typed.get("active") == "true";
    let Some(reason) = typed.reason(&mut form, visit.t) else {
        return again(console, visit, &user, form).await;
    };
    let done = console.desk.user_set_active(&permit, user.id, active, &reason).await;
    acted(console, visit, &user, form, done.map(drop)).await
}

async fn set_rights(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let permit = visit.permit::<UserSetRights>()?;
    let user = found(console, context, visit).await?;
    let mut form = rights_form(&user, visit.t);
    let name = typed.get("rights");
    let chosen = RIGHTS.into_iter().find(|(word, _)| *word == name).map(|(_, rights)| rights);
    form.fields[0].value = name;
    form.fields[0].error = chosen.is_none().then(|| visit.t.choice_wrong.to_owned());
    let (Some(reason), Some(rights)) = (typed.reason(&mut form, visit.t), chosen) else {
        form.open = true;
        return again(console, visit, &user, form).await;
    };
    let done = console.desk.user_set_rights(&permit, user.id, rights, &reason).await;
    acted(console, visit, &user, form, done.map(drop)).await
}

async fn sessions_end(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let permit = visit.permit::<SessionEnd>()?;
    let user = found(console, context, visit).await?;
    let mut form = sessions_form(&user, visit.t);
    let Some(reason) = typed.reason(&mut form, visit.t) else {
        return again(console, visit, &user, form).await;
    };
    let session = typed.get("session").parse().ok().map(SessionId);
    let done = console.desk.user_sessions_end(&permit, user.id, session, &reason).await;
    acted(console, visit, &user, form, done.map(drop)).await
}

/// Makes the token for a new password and shows it once.
async fn reset_link(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let t = visit.t;
    let permit = visit.permit::<ResetLinkMake>()?;
    let user = found(console, context, visit).await?;
    let mut form = reset_form(&user, t);
    let Some(reason) = typed.reason(&mut form, t) else {
        return again(console, visit, &user, form).await;
    };
    match console.desk.reset_token_make(&permit, user.id, &reason).await {
        Ok(made) => {
            let parts = vec![Part::Secret { text: t.reset_link_made, lines: vec![made.token] }];
            Ok(Outcome::Page(Page { title: user.username, parts }))
        }
        Err(ResetTokenError::Protected) => {
            acted(console, visit, &user, form, Err(UserActError::Protected)).await
        }
        Err(ResetTokenError::NoAccount) => {
            acted(console, visit, &user, form, Err(UserActError::NoAccount)).await
        }
        Err(error) => Err(Refused::Failed(error.to_string())),
    }
}

/// The page again, with the refused form open.
async fn again(console: &Console, visit: &Visit, user: &UserView, form: Form) -> Result<Outcome, Refused> {
    Ok(Outcome::Again(user_page(console, visit, user, Some(form)).await?))
}

async fn acted(
    console: &Console,
    visit: &Visit,
    user: &UserView,
    mut form: Form,
    done: Result<(), UserActError>,
) -> Result<Outcome, Refused> {
    let text = match done {
        Ok(()) => return Ok(Outcome::Done(format!("/console/users/{}/", user.id))),
        Err(UserActError::NoAccount) => return Err(Refused::Missing),
        Err(UserActError::Store(error)) => return Err(error.into()),
        Err(UserActError::Protected) => visit.t.protected,
        Err(UserActError::Own) => visit.t.own_refused,
    };
    form.open = true;
    form.text = text.to_owned();
    again(console, visit, user, form).await
}
