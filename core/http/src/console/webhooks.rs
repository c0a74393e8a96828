//! Webhooks: events with their deliveries, and deliveries that are made again.

use chelseru_domain::operator::role::{WebhookRead, WebhookReplay, WebhookTest};
use chelseru_domain::operator::webhook::{self, EventFilter};
use serde_json::Value;

use super::Console;
use super::filter::Filtered;
use super::page::{Cell, Filters, Form, Input, Page, Part, Table, cut};
use super::row::{forms, operation, pages, row};
use super::visit::{Outcome, Refused, Typed, Visit};
use crate::request::Context;
use crate::route::{Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    row("/console/webhooks/", &[operation(Verb::Get, "console_webhooks", call!(list))]),
    row("/console/webhooks/{id}/", &[operation(Verb::Get, "console_webhook", call!(one))]),
    row("/console/webhooks/replay/", &[operation(Verb::Post, "console_webhook_replay", call!(replay))]),
    row("/console/webhooks/test/", &[operation(Verb::Post, "console_webhook_test", call!(test))]),
];

pages!(list = listed, one = shown);
forms!(replay = replayed, test = tested);

/// Events on one page.
const PAGE: usize = 50;

async fn listed(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let t = visit.t;
    let permit = visit.permit::<WebhookRead>()?;
    let mut filtered = Filtered::new(context, t);
    let which = filtered.one_of("state", &[("dead", EventFilter::Dead)]).unwrap_or(EventFilter::All);
    let mut table = Table::new("", vec![t.id, t.created, t.event, t.deliveries]);
    if !filtered.is_wrong() {
        let before = filtered.before().map(webhook::event_numbered);
        let events = console.desk.events(&permit, before, which, PAGE).await?;
        if events.len() == PAGE {
            table.next = events.last().map(|last| filtered.at(last.event.id.0));
        }
        for report in &events {
            let body = webhook::report_json(report);
            let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
            table.rows.push(vec![
                Cell::link(format!("/console/webhooks/{}/", text("id")), text("id")),
                Cell::time(report.event.at, visit.language),
                Cell::code(text("type")),
                deliveries(&body),
            ]);
        }
    }
    table.first = filtered.first();
    let fields = vec![filtered.choice("state", t.state, &[("dead", t.dead_only)])];
    let mut parts = vec![Part::Filters(Filters { fields, clear: "/console/webhooks/".to_owned() })];
    if visit.may::<WebhookReplay>() {
        let mut form = Form::new(t.replay_dead, "", "/console/webhooks/replay/".to_owned());
        form.hidden.push(("event", "dead".to_owned()));
        parts.push(Part::Form(Box::new(form)));
    }
    let endpoints: Vec<(&str, &str)> =
        console.desk.endpoints().iter().map(|name| (name.as_str(), name.as_str())).collect();
    if let Some((first, _)) = endpoints.first().filter(|_| visit.may::<WebhookTest>()) {
        let mut form = Form::new(t.test_event, "", "/console/webhooks/test/".to_owned());
        form.fields.push(Input::select("endpoint", t.endpoint, (*first).to_owned(), endpoints.clone()));
        parts.push(Part::Form(Box::new(form)));
    }
    parts.push(Part::Table(table));
    filtered.outcome(Page { title: t.webhooks.to_owned(), parts })
}

/// Each endpoint with the state of its delivery.
fn deliveries(body: &Value) -> Cell {
    let line = |delivery: &Value| {
        let text = |name: &str| delivery[name].as_str().unwrap_or_default();
        cut(&format!("{}: {} {}", text("endpoint"), text("state"), text("error")))
    };
    Cell::Lines(body["deliveries"].as_array().into_iter().flatten().map(line).collect())
}

async fn shown(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let t = visit.t;
    let permit = visit.permit::<WebhookRead>()?;
    let id = webhook::event_of(context.parameter("id")).ok_or(Refused::Missing)?;
    // The newest event that is not newer is the event itself, or it is gone.
    let after = webhook::event_numbered(id.0.saturating_add(1));
    let found = console.desk.events(&permit, Some(after), EventFilter::All, 1).await?;
    let report = found.first().filter(|report| report.event.id == id).ok_or(Refused::Missing)?;
    let body = webhook::report_json(report);
    let name = body["id"].as_str().unwrap_or_default().to_owned();
    let facts = vec![
        (t.id, Cell::code(&name)),
        (t.event, Cell::code(body["type"].as_str().unwrap_or_default())),
        (t.created, Cell::time(report.event.at, visit.language)),
        (t.deliveries, deliveries(&body)),
    ];
    let mut parts = vec![Part::Facts { title: String::new(), facts }];
    if visit.may::<WebhookReplay>() {
        let mut form = Form::new(t.replay, "", "/console/webhooks/replay/".to_owned());
        form.hidden.push(("event", name.clone()));
        parts.push(Part::Form(Box::new(form)));
    }
    let data = body["data"].as_object().into_iter().flatten();
    let mut table = Table::new(t.details, vec![t.name, t.text]);
    for (key, value) in data {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        table.rows.push(vec![Cell::code(key), Cell::text(&text)]);
    }
    parts.push(Part::Table(table));
    Ok(Outcome::Page(Page { title: name, parts }))
}

/// Delivers one event again, or every dead one.
async fn replayed(console: &Console, _: &Context, visit: &Visit, typed: &Typed) -> Result<Outcome, Refused> {
    let permit = visit.permit::<WebhookReplay>()?;
    let event = typed.get("event");
    if event == "dead" {
        console.desk.events_replay_dead(&permit).await?;
        return Ok(Outcome::Done("/console/webhooks/".to_owned()));
    }
    let id = webhook::event_of(&event).ok_or(Refused::Missing)?;
    match console.desk.event_replay(&permit, id).await? {
        0 => Err(Refused::Missing),
        _ => Ok(Outcome::Done(format!("/console/webhooks/{event}/"))),
    }
}

async fn tested(console: &Console, _: &Context, visit: &Visit, typed: &Typed) -> Result<Outcome, Refused> {
    let permit = visit.permit::<WebhookTest>()?;
    let sent = console.desk.event_test(&permit, &typed.get("endpoint")).await?;
    sent.ok_or(Refused::Missing)?;
    Ok(Outcome::Done("/console/webhooks/".to_owned()))
}
