//! The audit log: who did what to whom, when and why.

use chelseru_domain::clock::rest_format;
use chelseru_domain::ids::UserId;
use chelseru_domain::operator::audit::{AuditEntry, AuditKind, AuditQuery};
use chelseru_domain::operator::role::{AuditExport, AuditRead};

use super::Console;
use super::filter::Filtered;
use super::page::{Cell, Filters, Page, Part, Table};
use super::row::{operation, pages, row};
use super::visit::{Outcome, Refused, Visit};
use crate::csv::cell;
use crate::request::Context;
use crate::route::{Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    row("/console/audit/", &[operation(Verb::Get, "console_audit", call!(list))]),
    row("/console/audit/export/", &[operation(Verb::Get, "console_audit_export", call!(export))]),
];

pages!(list = listed, export = exported);

/// Entries on one page.
const PAGE: usize = 100;

pub(crate) fn query(filtered: &mut Filtered<'_>, limit: usize) -> AuditQuery {
    let kinds: Vec<(&str, &str)> = AuditKind::ALL.iter().map(|kind| (kind.as_str(), kind.as_str())).collect();
    AuditQuery {
        before: filtered.before(),
        event: filtered.one_of("event", &kinds).map(str::to_owned),
        user: filtered.number("user").map(UserId),
        actor: filtered.number("actor").map(UserId),
        from: filtered.day("from"),
        until: filtered.day("until"),
        limit,
        ..AuditQuery::default()
    }
}

async fn listed(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let (t, language) = (visit.t, visit.language);
    let permit = visit.permit::<AuditRead>()?;
    let mut filtered = Filtered::new(context, t);
    let query = query(&mut filtered, PAGE);
    let mut table = Table::new(
        "",
        vec![t.created, t.event, t.actor, t.user, t.subject, t.detail, t.change, t.reason, t.ip],
    );
    if !filtered.is_wrong() {
        let page = console.desk.audit_page(&permit, query).await?;
        table.next = page.more_at.map(|at| filtered.at(at));
        let of = |user: Option<UserId>| match user {
            Some(user) => Cell::link(format!("/console/users/{user}/"), user),
            None => Cell::code(""),
        };
        for AuditEntry { draft, .. } in &page.entries {
            table.rows.push(vec![
                Cell::time(draft.at, language),
                Cell::code(&draft.event),
                of(draft.actor),
                of(draft.user),
                Cell::text(&draft.subject),
                Cell::text(&draft.detail),
                Cell::text(&changed(&draft.before, &draft.after)),
                Cell::text(&draft.reason),
                Cell::code(&draft.ip_address),
            ]);
        }
    }
    table.first = filtered.first();
    table.csv = visit.may::<AuditExport>().then(|| filtered.address("/console/audit/export/"));
    let kinds: Vec<(&str, &str)> = AuditKind::ALL.iter().map(|kind| (kind.as_str(), kind.as_str())).collect();
    let fields = vec![
        filtered.choice("event", t.event, &kinds),
        filtered.input("actor", t.actor),
        filtered.input("user", t.user),
        filtered.day_input("from", t.from),
        filtered.day_input("until", t.until),
    ];
    let filters = Filters { fields, clear: "/console/audit/".to_owned() };
    let parts = vec![Part::Filters(filters), Part::Table(table)];
    filtered.outcome(Page::new(t.audit.to_owned(), parts))
}

async fn exported(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let permit = visit.permit::<AuditExport>()?;
    let mut filtered = Filtered::new(context, visit.t);
    let query = query(&mut filtered, 0);
    if filtered.is_wrong() {
        return Err(Refused::Missing);
    }
    let page = console.desk.audit_export(&permit, query).await?;
    let mut text = String::from(
        "id,created_at,event,actor,user,session,ip_address,subject,detail,before,after,reason\r\n",
    );
    for AuditEntry { id, draft } in &page.entries {
        let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        let cells = [
            id.to_string(),
            rest_format(draft.at),
            draft.event.clone(),
            number(draft.actor.map(|user| user.0)),
            number(draft.user.map(|user| user.0)),
            number(draft.session.map(|session| session.0)),
            cell(&draft.ip_address),
            cell(&draft.subject),
            cell(&draft.detail),
            cell(&draft.before),
            cell(&draft.after),
            cell(&draft.reason),
        ];
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    Ok(filtered.file("audit.csv", text, page.more_at))
}

/// What changed, in one cell.
fn changed(before: &str, after: &str) -> String {
    match (before, after) {
        ("", "") => String::new(),
        (before, after) => format!("{before} → {after}"),
    }
}
