//! Sessions of all users, found by user, address and device.

use chelseru_domain::ids::{SessionId, UserId};
use chelseru_domain::operator::desk::{SessionPlace, SessionQuery};
use chelseru_domain::operator::role::{SessionEnd, UserRead};

use super::Console;
use super::filter::Filtered;
use super::page::{Cell, Filters, Input, InputKind, Page, Part, Table};
use super::row::{operation, pages, row};
use super::show::latin;
use super::users::session_form;
use super::visit::{Outcome, Refused, Visit};
use crate::request::Context;
use crate::route::{Route, Verb, call};

pub(crate) const ROUTES: &[Route] =
    &[row("/console/sessions/", &[operation(Verb::Get, "console_sessions", call!(list))])];

pages!(list = listed);

/// Sessions on one page.
const PAGE: usize = 50;

/// A place in the list, as an address holds it: user and session.
fn place(text: &str) -> Option<SessionPlace> {
    let (user, session) = text.split_once('-')?;
    Some((UserId(user.parse().ok()?), SessionId(session.parse().ok()?)))
}

async fn listed(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let (t, language) = (visit.t, visit.language);
    let permit = visit.permit::<UserRead>()?;
    let mut filtered = Filtered::new(context, t);
    let mut query = SessionQuery {
        address: latin(&filtered.text("address")),
        device: filtered.text("device"),
        user: None,
    };
    if let Some(text) = filtered.given("user") {
        query.user = console.desk.user_named(&permit, &latin(&text)).await?.map(|user| user.id);
        if query.user.is_none() {
            filtered.refuse("user", t.user_wrong);
        }
    }
    let mut table = Table::new("", vec![t.user, t.ip, t.device, t.browser, t.created, t.last_seen, ""]);
    let mut parts = Vec::new();
    if !filtered.is_wrong() {
        let before = filtered.before_text().and_then(place);
        let found = console.desk.sessions(&permit, &query, before, PAGE).await?;
        table.next = found.next.map(|(user, session)| filtered.at(format_args!("{user}-{session}")));
        if found.next.is_some() && found.sessions.len() < PAGE {
            parts.push(Part::Note(t.more_looked.to_owned()));
        }
        for session in &found.sessions {
            let end = || session_form(session.user, session.id, t).hide("then", "/console/sessions/");
            table.rows.push(vec![
                Cell::link(format!("/console/users/{}/", session.user), session.user),
                Cell::code(session.ip_address.map(|ip| ip.to_canonical().to_string()).unwrap_or_default()),
                Cell::text(session.device_name.as_deref().unwrap_or_default()),
                Cell::text(&session.user_agent),
                Cell::time(session.created_at, language),
                Cell::time(session.last_seen, language),
                if visit.may::<SessionEnd>() { Cell::Form(Box::new(end())) } else { Cell::code("") },
            ]);
        }
    }
    table.first = filtered.first();
    let fields = vec![
        Input { kind: InputKind::Search, ..filtered.input("address", t.ip) },
        filtered.input("device", t.device),
        filtered.input("user", t.user),
    ];
    parts.insert(0, Part::Filters(Filters { fields, clear: "/console/sessions/".to_owned() }));
    parts.push(Part::Table(table));
    filtered.outcome(Page::new(t.sessions.to_owned(), parts))
}
