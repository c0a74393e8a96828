//! `message/` and `message/{id}/`: messages and their states.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use chelseru_domain::phone::PhoneNumber;
use chelseru_domain::sms::{SmsFilter, SmsOrder, SmsOwner, SmsRange};
use http::StatusCode;

use super::Sms;
use super::json::{message_json, status_of};
use crate::page::{CURSOR, Cursor, cursor, page};
use crate::reply::{Failure, Reply, sentence};
use crate::request::{Access, Context, Request, Sender, not_found};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/message/",
        name: "Message List",
        access: Access::Sender,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "message_list",
            call: call!(list),
            about: About {
                summary: "List messages, newest first",
                parameters: &[
                    CURSOR,
                    Field("mobile_number", Is::MayText, "Only to this number."),
                    Field("status", Is::MayText, "Only in this state."),
                    Field("provider", Is::MayText, "Only by this provider."),
                ],
                fields: &[],
                answers: &[
                    (200, "Page<Message>"),
                    (401, "Neither a valid API key nor staff."),
                    (403, "Not staff."),
                ],
            },
        }],
    },
    Route {
        path: "/message/{id}/",
        name: "Message",
        access: Access::Sender,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "message_get",
            call: call!(get),
            about: About {
                summary: "Get a message with its state",
                parameters: &[],
                fields: &[],
                answers: &[
                    (200, "Message"),
                    (401, "Neither a valid API key nor staff."),
                    (403, "Not staff."),
                ],
            },
        }],
    },
];

/// Messages on one page.
const PAGE_MAX: usize = 30;
/// Records that the filters of one page may read.
const PAGE_LOOKED_MAX: usize = 5000;

/// `GET message/`: the caller's messages, newest first, a page at a time.
async fn list(sms: Arc<Sms>, request: Request<Sender>) -> Answer {
    let sender = sms.admit(&request, &request.caller).await?;
    let (mut filter, whole) = query(&request)?;
    filter.owner = (sender.owner != SmsOwner::Gateway).then_some(sender.owner);
    let cursor = cursor(&request)?;
    let range = within(whole, cursor);
    let found = sms.route.queue().page(&filter, range, PAGE_MAX + 1, PAGE_LOOKED_MAX);
    let mut found = found.await.map_err(|error| failed(&request, &error))?;
    let full = found.messages.len() > PAGE_MAX;
    found.messages.truncate(PAGE_MAX);
    let last = found.messages.last().map(|message| message.id);
    let further = if full { last } else { found.stopped_at };
    let (next, previous) = if range.order == SmsOrder::OldestFirst {
        found.messages.reverse();
        let oldest = found.messages.last().map_or(range.from, |message| message.id);
        (Some(Cursor::Next(oldest)), further.map(Cursor::Previous))
    } else {
        let newest = found.messages.first().map(|message| message.id);
        let back = cursor.and(Some(newest.unwrap_or(range.to.saturating_sub(1)))).map(Cursor::Previous);
        (further.map(Cursor::Next), back)
    };
    let results: Vec<_> = found.messages.iter().map(|message| message_json(&sms, message)).collect();
    Ok(page(&request, next, previous, &results))
}

/// `GET message/{id}/`.
async fn get(sms: Arc<Sms>, request: Request<Sender>) -> Answer {
    let sender = sms.admit(&request, &request.caller).await?;
    let message = sms.route.queue().get(request.id("id")?).await.map_err(|error| failed(&request, &error))?;
    match message.filter(|message| sender.owner == SmsOwner::Gateway || message.owner == sender.owner) {
        Some(message) => Ok(Reply::json(StatusCode::OK, &message_json(&sms, &message))),
        None => Err(not_found()),
    }
}

/// The part of a range that belongs to a page.
fn within(whole: SmsRange, cursor: Option<Cursor>) -> SmsRange {
    let range = match cursor {
        None => whole,
        Some(Cursor::Next(id)) => SmsRange { to: whole.to.min(id), ..whole },
        Some(Cursor::Previous(id)) => {
            SmsRange { from: whole.from.max(id.saturating_add(1)), order: SmsOrder::OldestFirst, ..whole }
        }
    };
    SmsRange { to: range.to.max(range.from), ..range }
}

/// The filters and the range of a query. Ids are microseconds, so times are a range of ids.
fn query(context: &Context) -> Result<(SmsFilter, SmsRange), Failure> {
    let (mut filter, mut range) =
        (SmsFilter::default(), SmsRange { from: 0, to: u64::MAX, order: SmsOrder::NewestFirst });
    let mut errors = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(context.query_text().as_bytes()) {
        let mut refuse = |name: &'static str, text: String| drop(errors.insert(name, vec![text]));
        match name.as_ref() {
            "mobile_number" => match PhoneNumber::parse(&value) {
                Ok(number) => filter.number = Some(number.e164().to_owned()),
                Err(error) => refuse("mobile_number", sentence(&error)),
            },
            "status" => match status_of(&value) {
                Some(status) => filter.status = Some(status),
                None => refuse("status", format!("\"{value}\" is not a valid choice.")),
            },
            "provider" => filter.provider = Some(value.into_owned()).filter(|name| !name.is_empty()),
            "created_after" => match micros(&value) {
                Some(at) => range.from = at,
                None => refuse("created_after", NO_INSTANT.to_owned()),
            },
            "created_before" => match micros(&value) {
                Some(at) => range.to = at,
                None => refuse("created_before", NO_INSTANT.to_owned()),
            },
            _ => {}
        }
    }
    if errors.is_empty() { Ok((filter, range)) } else { Err(Failure::fields(errors)) }
}

const NO_INSTANT: &str = "Not an instant such as 2026-01-31T12:00:00Z.";

fn micros(text: &str) -> Option<u64> {
    let at: jiff::Timestamp = text.parse().ok()?;
    Some(u64::try_from(at.as_microsecond()).unwrap_or(0))
}

fn failed(context: &Context, error: &dyn Display) -> Failure {
    tracing::error!(request.id = %context.id, %error, "messages could not be read");
    Failure::internal()
}
