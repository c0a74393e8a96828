//! `audit/`: security events for staff, newest first. `?event=` and `?user=` filter them.

use std::fmt::Display;
use std::sync::Arc;

use chelseru_domain::clock::rest_format;
use chelseru_domain::ids::UserId;
use chelseru_domain::login::identity::Caller;
use chelseru_domain::operator::audit::{AuditEntry, AuditQuery};
use serde_json::{Value, json};

use super::Operator;
use crate::page::{CURSOR, Cursor, cursor, page};
use crate::reply::Failure;
use crate::request::{Access, Context, Request};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};
use crate::staff::require_staff;

pub(crate) const ROUTES: &[Route] = &[Route {
    path: "/audit/",
    name: "Audit Log",
    access: Access::User,
    kind: Kind::Plain,
    operations: &[Operation {
        verb: Verb::Get,
        id: "audit_list",
        call: call!(list),
        about: About {
            summary: "List security events, newest first; staff only",
            parameters: &[
                CURSOR,
                Field("event", Is::MayText, "Only this kind of event."),
                Field("user", Is::MayInteger, "Only of this account."),
            ],
            fields: &[],
            answers: &[(200, "Page<AuditEvent>"), (403, "Not staff.")],
        },
    }],
}];

/// Entries on one page.
const PAGE: usize = 50;

/// `GET audit/`.
async fn list(operator: Arc<Operator>, request: Request<Caller>) -> Answer {
    require_staff(&operator.identity, request.caller.user_id, &request).await?;
    let query = query(&request)?;
    let page_of =
        operator.identity.audit().page(query.clone()).await.map_err(|error| failed(&request, &error))?;
    let first = page_of.entries.first().map(|entry| entry.id);
    let last = page_of.entries.last().map(|entry| entry.id);
    let (next, previous) = match query.after {
        // A page towards the newest has older entries before it, and newer ones if it stopped early.
        Some(after) => (last.or(Some(after.saturating_add(1))), page_of.more_at),
        None => (page_of.more_at, query.before.map(|before| first.unwrap_or(before.saturating_sub(1)))),
    };
    let results: Vec<Value> = page_of.entries.iter().map(entry_json).collect();
    Ok(page(&request, next.map(Cursor::Next), previous.map(Cursor::Previous), &results))
}

pub(crate) fn query(context: &Context) -> Result<AuditQuery, Failure> {
    let user = context.query("user").map(|text| text.parse().map(UserId)).transpose();
    let user = user.map_err(|_| Failure::field("user", "A valid integer is required."))?;
    let (before, after) = match cursor(context)? {
        None => (None, None),
        Some(Cursor::Next(than)) => (Some(than), None),
        Some(Cursor::Previous(than)) => (None, Some(than)),
    };
    let event = context.query("event");
    Ok(AuditQuery { limit: PAGE, event, user, before, after, ..AuditQuery::default() })
}

/// An entry about an account, for its user: what operators wrote and where they were stays theirs.
pub(crate) fn entry_json_for_user(entry: &AuditEntry) -> Value {
    let mut shown = entry_json(entry);
    if entry.draft.actor.is_some() || !entry.draft.reason.is_empty() {
        for name in ["actor", "ip_address", "reason"] {
            shown[name] = Value::Null;
        }
    }
    shown
}

pub(crate) fn entry_json(entry: &AuditEntry) -> Value {
    let draft = &entry.draft;
    json!({
        "id": entry.id,
        "created_at": rest_format(draft.at),
        "event": draft.event,
        "user": draft.user.map(|user| user.0),
        "session": draft.session.map(|session| session.0),
        "ip_address": draft.ip_address,
        "subject": draft.subject,
        "detail": draft.detail,
        "actor": draft.actor.map(|actor| actor.0),
        "before": draft.before,
        "after": draft.after,
        "reason": draft.reason,
    })
}

fn failed(context: &Context, error: &dyn Display) -> Failure {
    tracing::error!(request.id = %context.id, %error, "the audit log could not be read");
    Failure::internal()
}
