//! Users: found by a part of a number or a name, shown with their sessions and messages, and acted on.
//!
//! The page of a user answers "why did I get no code?": the newest messages to the number, each with its tries.

use chelseru_domain::clock::rest_format;
use chelseru_domain::ids::{SessionId, UserId};
use chelseru_domain::login::account::{Rights, UserView};
use chelseru_domain::login::identity::{EraseError, ResetTokenError, UserActError};
use chelseru_domain::login::user_index::UserQuery;
use chelseru_domain::operator::desk::CodeStanding;
use chelseru_domain::operator::role::{
    CapLift, ResetLinkMake, RoomMessageRead, SessionEnd, UserCopy, UserErase, UserExport, UserRead,
    UserSetActive, UserSetRights, WalletRead,
};
use chelseru_domain::sms::shield::Cap;
use http::StatusCode;

use super::filter::Filtered;
use super::page::{Cell, Filters, Form, Input, InputKind, Page, Part, Table, acts};
use super::row::{forms, operation, pages, row};
use super::show::{self, grouped};
use super::visit::{Outcome, Refused, Typed, Visit, own_page, reason_field};
use super::words::Words;
use super::{Console, messages};
use crate::csv::cell;
use crate::personal::export as personal;
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
    row("/console/users/{id}/lift/", &[operation(Verb::Post, "console_user_lift", call!(cap))]),
    row("/console/users/{id}/copy/", &[operation(Verb::Post, "console_user_copy", call!(copy))]),
    row("/console/users/{id}/erase/", &[operation(Verb::Post, "console_user_erase", call!(erase))]),
];

pages!(list = listed, export = exported, one = shown);
forms!(
    active = set_active => again,
    rights = set_rights => again,
    end = sessions_end => again,
    reset = reset_link => again,
    cap = lift => again,
    copy = copied => again,
    erase = erased => again,
);

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
    let mut notes = Vec::new();
    let mut table =
        Table::new("", vec![t.id, t.username, t.number, t.name, t.group, t.state, t.rights, t.joined]);
    if !filtered.is_wrong() {
        let found = console.desk.users(&permit, &query, filtered.before().map(UserId), PAGE).await?;
        table.next = found.next.map(|next| filtered.at(next.0));
        if let Some(last) = found.unsearched {
            notes.push(Part::Note(t.users_unsearched.replace("{id}", &last.to_string())));
        }
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
    let mut parts = vec![Part::Filters(filters)];
    parts.append(&mut notes);
    parts.push(Part::Table(table));
    filtered.outcome(Page::new(t.users.to_owned(), parts))
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
    let mut facts = vec![
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
    if user.avatar.is_some() && visit.may::<RoomMessageRead>() {
        let files = format!("/console/files/?user={}", user.id);
        facts.push((t.picture, Cell::link(files, t.uploads)));
    }
    let mut parts = vec![Part::Facts { title: String::new(), facts }];
    let codes = console.desk.user_codes(&permit, user).await?;
    let offered = [
        visit.may::<UserSetActive>().then(|| active_form(user, t)),
        visit.may::<SessionEnd>().then(|| sessions_form(user, t)),
        visit.may::<ResetLinkMake>().then(|| reset_form(user, t)),
        (visit.may::<CapLift>() && codes.is_some()).then(|| lift_form(user, t)),
        visit.may::<UserSetRights>().then(|| rights_form(user, t)),
        visit.may::<UserCopy>().then(|| copy_form(user, t)),
        visit.may::<UserErase>().then(|| erase_form(user, t)),
    ];
    parts.extend(acts(offered, refused.as_ref()));
    if visit.may::<WalletRead>() {
        let link = Cell::link(format!("/console/wallets/{}/", user.id), t.wallet);
        parts.push(Part::Facts { title: String::new(), facts: vec![(t.balance, link)] });
    }
    let mut table = Table::new(t.sessions, vec![t.id, t.ip, t.device, t.created, t.last_seen, ""]);
    for session in console.desk.user_sessions(&permit, user.id).await? {
        let device = session.device_name.clone().unwrap_or_else(|| session.user_agent.to_string());
        table.rows.push(vec![
            Cell::code(session.id),
            Cell::code(session.ip_address.map(|ip| ip.to_string()).unwrap_or_default()),
            Cell::text(&device),
            Cell::time(session.created_at, language),
            Cell::time(session.last_seen, language),
            match visit.may::<SessionEnd>() {
                true => Cell::Form(Box::new(session_form(user.id, session.id, t))),
                false => Cell::code(""),
            },
        ]);
    }
    parts.push(Part::Table(table));
    if let Some(codes) = codes {
        parts.push(Part::Facts { title: t.why_no_code.to_owned(), facts: standing(&codes, visit) });
    }
    let sent = console.desk.user_messages(&permit, user).await?;
    if sent.is_empty() {
        parts.push(Part::Note(t.no_messages.to_owned()));
    } else {
        parts.push(Part::Table(messages::table(t.messages, &sent, visit)));
    }
    Ok(Page::new(user.username.clone(), parts))
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

/// Why the next code would wait, or that it would not.
fn standing(codes: &CodeStanding, visit: &Visit) -> Vec<(&'static str, Cell)> {
    let (t, language) = (visit.t, visit.language);
    let next = match (codes.caps.refused, codes.pending_until) {
        (Some(refusal), _) => {
            let minutes = refusal.retry_after.as_secs().div_ceil(60);
            Cell::bad(&format!("{}: {} {}", cap_text(refusal.cap, t), grouped(minutes, language), t.minutes))
        }
        (None, Some(until)) => Cell::bad(&format!("{}: {}", t.code_pending, show::time(until, language))),
        (None, None) => Cell::good(t.code_free),
    };
    vec![
        (t.code_next, next),
        (t.codes_hour, Cell::code(grouped(codes.caps.hour as u64, language))),
        (t.codes_day, Cell::code(grouped(codes.caps.day as u64, language))),
    ]
}

fn cap_text(cap: Cap, t: &Words) -> &'static str {
    match cap {
        Cap::NumberGap => t.cap_gap,
        Cap::NumberHour => t.cap_hour,
        Cap::NumberDay => t.cap_day,
        Cap::Address | Cap::Network => t.cap_address,
        Cap::Prefix | Cap::PrefixSlowed => t.cap_prefix,
        Cap::Total => t.cap_total,
    }
}

fn act_form(user: &UserView, act: &str, title: &'static str, text: &str, t: &Words) -> Form {
    Form::new(title, text, format!("/console/users/{}/{act}/", user.id)).field(reason_field(t))
}

fn active_form(user: &UserView, t: &Words) -> Form {
    let form = match user.active {
        true => act_form(user, "active", t.disable, t.disable_text, t).danger(&user.username),
        false => act_form(user, "active", t.enable, t.enable_text, t),
    };
    form.hide("active", !user.active)
}

fn sessions_form(user: &UserView, t: &Words) -> Form {
    act_form(user, "sessions/end", t.end_sessions, t.end_sessions_text, t)
}

/// Ends one session of a user.
pub(super) fn session_form(user: UserId, session: SessionId, t: &Words) -> Form {
    Form::new(t.end_session, "", format!("/console/users/{user}/sessions/end/"))
        .field(reason_field(t))
        .hide("session", session)
}

fn reset_form(user: &UserView, t: &Words) -> Form {
    act_form(user, "reset", t.reset_link, t.reset_link_text, t)
}

fn lift_form(user: &UserView, t: &Words) -> Form {
    act_form(user, "lift", t.cap_lift, t.cap_lift_text, t)
}

fn copy_form(user: &UserView, t: &Words) -> Form {
    act_form(user, "copy", t.user_copy, t.user_copy_text, t)
}

fn erase_form(user: &UserView, t: &Words) -> Form {
    let form = act_form(user, "erase", t.erase, t.erase_text, t).danger(&user.username);
    let balance = [("keep", t.forfeit_no), ("forfeit", t.forfeit_yes)];
    form.field(Input::select("balance", t.forfeit, "keep".to_owned(), balance))
}

fn rights_form(user: &UserView, t: &Words) -> Form {
    let choices = [("none", t.rights_none), ("staff", t.rights_staff), ("superuser", t.rights_superuser)];
    let rights = Input::select("rights", t.rights, user.rights().as_str().to_owned(), choices);
    act_form(user, "rights", t.set_rights, t.set_rights_text, t).danger(&user.username).field(rights)
}

async fn set_active(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let permit = visit.permit::<UserSetActive>()?;
    let user = found(console, context, visit).await?;
    // What the form showed, so that a stale page does the opposite of nothing.
    let active = typed.get("active") == "true";
    let (form, reason) = typed.reasoned(active_form(&user, visit.t), visit.t)?;
    let done = console.desk.user_set_active(&permit, user.id, active, &reason).await;
    acted(visit, &user, form, done.map(drop))
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
    typed.fill(&mut form);
    let rights = typed.one_of(&mut form, "rights", &RIGHTS, visit.t);
    let (form, reason, rights) = typed.complete(form, rights, visit.t)?;
    let done = console.desk.user_set_rights(&permit, user.id, rights, &reason).await;
    acted(visit, &user, form, done.map(drop))
}

async fn sessions_end(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let permit = visit.permit::<SessionEnd>()?;
    let user = found(console, context, visit).await?;
    let session = match typed.get("session").as_str() {
        "" => None,
        text => Some(SessionId(text.parse().map_err(|_| Refused::Missing)?)),
    };
    let form = match session {
        Some(session) => session_form(user.id, session, visit.t),
        None => sessions_form(&user, visit.t),
    };
    let (form, reason) = typed.reasoned(form, visit.t)?;
    let done = console.desk.user_sessions_end(&permit, user.id, session, &reason).await;
    let then = typed.get("then");
    if done.is_ok() && !then.is_empty() {
        return Ok(Outcome::Done(own_page(&then).to_owned()));
    }
    acted(visit, &user, form, done.map(drop))
}

async fn lift(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let permit = visit.permit::<CapLift>()?;
    let user = found(console, context, visit).await?;
    let (form, reason) = typed.reasoned(lift_form(&user, visit.t), visit.t)?;
    let done = console.desk.cap_lift(&permit, &user, &reason).await;
    acted(visit, &user, form, done.map(drop))
}

/// Everything of a user as an archive.
async fn copied(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let permit = visit.permit::<UserCopy>()?;
    let user = found(console, context, visit).await?;
    let (form, reason) = typed.reasoned(copy_form(&user, visit.t), visit.t)?;
    match personal::export(&console.personal, context, user.id).await {
        Ok(archive) => {
            console.desk.user_copied(&permit, user.id, &reason);
            Ok(Outcome::File(archive))
        }
        Err(failure) if failure.status == StatusCode::NOT_FOUND => Err(Refused::Missing),
        Err(failure) if failure.status == StatusCode::INTERNAL_SERVER_ERROR => {
            Err(Refused::Failed(failure.code.to_owned()))
        }
        Err(_) => Err(form.refused("", visit.t.user_copy_waits)),
    }
}

async fn erased(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let t = visit.t;
    let permit = visit.permit::<UserErase>()?;
    let user = found(console, context, visit).await?;
    let mut form = erase_form(&user, t);
    typed.fill(&mut form);
    let forfeit = typed.one_of(&mut form, "balance", &[("keep", false), ("forfeit", true)], t);
    let (form, reason, forfeit) = typed.complete(form, forfeit, t)?;
    let text = match console.desk.user_erase(&permit, user.id, forfeit, &reason).await {
        Ok(()) => return Ok(Outcome::Done("/console/users/".to_owned())),
        Err(EraseError::Missing) => return Err(Refused::Missing),
        Err(EraseError::Store(error)) => return Err(error.into()),
        Err(EraseError::HasRights) => t.erase_rights.to_owned(),
        Err(EraseError::PaymentOpen(payment)) => format!("{} {payment}", t.erase_payment),
        Err(EraseError::Held(rial)) => format!("{} {}", t.erase_held, show::money(rial, visit.language)),
        Err(EraseError::Balance(rial)) => {
            format!("{} {}", t.erase_balance, show::money(rial, visit.language))
        }
        Err(error @ (EraseError::WrongCode | EraseError::Password(_))) => {
            return Err(Refused::Failed(error.to_string()));
        }
    };
    Err(form.refused("", &text))
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
    let (form, reason) = typed.reasoned(reset_form(&user, t), t)?;
    match console.desk.reset_token_make(&permit, user.id, &reason).await {
        Ok(made) => {
            let parts = vec![Part::Secret { text: t.reset_link_made, lines: vec![made.token] }];
            Ok(Outcome::Page(Page::new(user.username, parts)))
        }
        Err(ResetTokenError::Protected) => acted(visit, &user, form, Err(UserActError::Protected)),
        Err(ResetTokenError::NoAccount) => acted(visit, &user, form, Err(UserActError::NoAccount)),
        Err(error) => Err(Refused::Failed(error.to_string())),
    }
}

/// The user's page, with the refused form open.
async fn again(console: &Console, context: &Context, visit: &Visit, form: Form) -> Result<Page, Refused> {
    let user = found(console, context, visit).await?;
    user_page(console, visit, &user, Some(form)).await
}

fn acted(
    visit: &Visit,
    user: &UserView,
    form: Form,
    done: Result<(), UserActError>,
) -> Result<Outcome, Refused> {
    match done {
        Ok(()) => Ok(Outcome::Done(format!("/console/users/{}/", user.id))),
        Err(UserActError::NoAccount) => Err(Refused::Missing),
        Err(UserActError::Store(error)) => Err(error.into()),
        Err(UserActError::Protected) => Err(form.refused("", visit.t.protected)),
        Err(UserActError::Own) => Err(form.refused("", visit.t.own_refused)),
    }
}
