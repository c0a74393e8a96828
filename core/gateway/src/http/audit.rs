//! `audit/`: what happened, for staff, newest first, by cursor.
//!
//! `?event=` and `?user=` narrow it; `?cursor=` is what `next` and `previous` hold: base64 of `p=<entry>`, with
//! `r=1` in front of it for pages towards the newest, in the manner of the original's cursors.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chelseru_domain::audit::AuditQuery;
use chelseru_domain::clock::rest_format;
use chelseru_domain::ids::UserId;
use http::StatusCode;
use serde_json::{Value, json};

use super::Context;
use super::reply::{Failure, Reply};

/// Entries on one page.
const PAGE: usize = 50;

/// `GET audit/`.
pub(crate) fn list(context: &Context) -> Result<Reply, Failure> {
    let failed = |error| {
        tracing::error!(request.id = %context.request_id, %error, "the audit log could not be read");
        Failure::internal()
    };
    let identity = &context.live.identity;
    let me = identity.me(context.user()?).map_err(failed)?;
    if !me.is_some_and(|user| user.staff || user.superuser) {
        let text = "You do not have permission to perform this action.";
        return Err(Failure::detail(StatusCode::FORBIDDEN, "permission_denied", text));
    }
    let mut query = AuditQuery { limit: PAGE, ..AuditQuery::default() };
    let asked = context.head.uri.query().unwrap_or("");
    for (name, value) in form_urlencoded::parse(asked.as_bytes()) {
        match &*name {
            "event" => query.event = Some(value.into_owned()),
            "user" => {
                let id = value.parse().map_err(|_| Failure::field("user", "A valid integer is required."))?;
                query.user = Some(UserId(id));
            }
            "cursor" => {
                let invalid = || Failure::detail(StatusCode::NOT_FOUND, "invalid_cursor", "Invalid cursor");
                match Cursor::read(&value).ok_or_else(invalid)? {
                    Cursor::Older(than) => (query.before, query.after) = (Some(than), None),
                    Cursor::Newer(than) => (query.before, query.after) = (None, Some(than)),
                }
            }
            _ => {}
        }
    }
    let page = identity.audit().page(query.clone()).map_err(failed)?;

    let first = page.entries.first().map(|entry| entry.id);
    let last = page.entries.last().map(|entry| entry.id);
    let (next, previous) = match query.after {
        // Where a walk towards the newest began there are older ones; where it stopped early, newer ones.
        Some(after) => (last.or(Some(after.saturating_add(1))), page.more_at),
        None => (page.more_at, query.before.map(|before| first.unwrap_or(before.saturating_sub(1)))),
    };
    let results: Vec<Value> = page
        .entries
        .iter()
        .map(|entry| {
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
            })
        })
        .collect();
    let link = |cursor: Option<Cursor>| cursor.map(|cursor| url(context, &cursor));
    let body = json!({
        "next": link(next.map(Cursor::Older)),
        "previous": link(previous.map(Cursor::Newer)),
        "results": results,
    });
    Ok(Reply::json(StatusCode::OK, &body))
}

#[derive(Debug, PartialEq)]
enum Cursor {
    Older(u64),
    Newer(u64),
}

impl Cursor {
    fn read(text: &str) -> Option<Cursor> {
        let bytes = STANDARD.decode(text).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        match text.strip_prefix("r=1&") {
            Some(rest) => rest.strip_prefix("p=")?.parse().ok().map(Cursor::Newer),
            None => text.strip_prefix("p=")?.parse().ok().map(Cursor::Older),
        }
    }

    fn write(&self) -> String {
        STANDARD.encode(match self {
            Cursor::Older(than) => format!("p={than}"),
            Cursor::Newer(than) => format!("r=1&p={than}"),
        })
    }
}

/// This request's address with another cursor: keys in alphabetical order, other parameters kept.
fn url(context: &Context, cursor: &Cursor) -> String {
    let uri = &context.head.uri;
    let mut pairs: Vec<(String, String)> = form_urlencoded::parse(uri.query().unwrap_or("").as_bytes())
        .into_owned()
        .filter(|(name, _)| name != "cursor")
        .collect();
    pairs.push(("cursor".to_owned(), cursor.write()));
    pairs.sort();
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("{}{}?{query}", context.origin(), uri.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_and_anything_else_is_none() {
        for cursor in [Cursor::Older(7), Cursor::Newer(u64::MAX)] {
            assert_eq!(Cursor::read(&cursor.write()), Some(cursor));
        }
        for text in ["", "x", "cD0=", "cD1hYmM=", "cj0xJnA9", "%%%", "cD0tMQ=="] {
            assert_eq!(Cursor::read(text), None, "{text}");
        }
    }
}
