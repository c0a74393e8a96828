//! Webhooks: endpoints, which can be paused; events with their deliveries, which can be made again.

use std::collections::{BTreeMap, BTreeSet};

use chelseru_domain::operator::role::{WebhookPause, WebhookRead, WebhookReplay, WebhookTest};
use chelseru_domain::operator::webhook::{self, EventFilter, Pause};
use serde_json::Value;

use super::Console;
use super::filter::Filtered;
use super::page::{Cell, Filters, Form, Input, Page, Part, Table, acts, cut};
use super::row::{forms, operation, pages, row};
use super::visit::{Outcome, Refused, Typed, Visit, reason_field};
use crate::request::Context;
use crate::route::{Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    row("/console/webhooks/", &[operation(Verb::Get, "console_webhooks", call!(list))]),
    row("/console/webhooks/{id}/", &[operation(Verb::Get, "console_webhook", call!(one))]),
    row("/console/webhooks/replay/", &[operation(Verb::Post, "console_webhook_replay", call!(replay))]),
    row("/console/webhooks/test/", &[operation(Verb::Post, "console_webhook_test", call!(test))]),
    row("/console/webhooks/pause/", &[operation(Verb::Post, "console_webhook_pause", call!(pause))]),
    row("/console/webhooks/resume/", &[operation(Verb::Post, "console_webhook_resume", call!(resume))]),
];

pages!(list = listed, one = shown);
forms!(replay = replayed, test = tested, pause = paused, resume = resumed);

/// Events on one page.
const PAGE: usize = 50;

async fn listed(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    list_page(console, context, visit, None).await
}

async fn list_page(
    console: &Console,
    context: &Context,
    visit: &Visit,
    answered: Option<Form>,
) -> Result<Outcome, Refused> {
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
    let paused = console.desk.endpoints_paused(&permit).await?;
    let offered = [pause_form(console, &paused, visit), resume_form(&paused, visit)];
    parts.extend(acts(offered, answered.as_ref()));
    parts.push(Part::Table(table));
    parts.push(Part::Table(endpoints_table(console, &paused, visit)));
    let page = Page { live: filtered.first().is_none(), ..Page::new(t.webhooks.to_owned(), parts) };
    if answered.is_some() { Ok(Outcome::Again(page)) } else { filtered.outcome(page) }
}

type Paused = BTreeMap<String, Pause>;

/// Every endpoint, with those that are paused and no longer configured.
fn endpoints_table(console: &Console, paused: &Paused, visit: &Visit) -> Table {
    let t = visit.t;
    let mut table = Table::new(t.endpoints, vec![t.name, t.state, t.since, t.actor, t.reason]);
    let names: BTreeSet<&String> = console.desk.endpoints().iter().chain(paused.keys()).collect();
    for name in names {
        table.rows.push(match paused.get(name) {
            None => vec![
                Cell::code(name),
                Cell::good(t.delivering),
                Cell::code(""),
                Cell::code(""),
                Cell::text(""),
            ],
            Some(pause) => vec![
                Cell::code(name),
                Cell::bad(t.paused),
                Cell::time(pause.at, visit.language),
                Cell::code(pause.by),
                Cell::text(&pause.reason),
            ],
        });
    }
    table
}

fn pause_form(console: &Console, paused: &Paused, visit: &Visit) -> Option<Form> {
    let names = console.desk.endpoints().iter().filter(|name| !paused.contains_key(*name));
    endpoint_form(names, "pause", visit)
}

fn resume_form(paused: &Paused, visit: &Visit) -> Option<Form> {
    endpoint_form(paused.keys(), "resume", visit)
}

/// A form that acts on one of these endpoints; none without any, and for roles without the act.
fn endpoint_form<'a>(names: impl Iterator<Item = &'a String>, act: &str, visit: &Visit) -> Option<Form> {
    let t = visit.t;
    let choices: Vec<(&str, &str)> = names.map(|name| (name.as_str(), name.as_str())).collect();
    let first = choices.first().filter(|_| visit.may::<WebhookPause>())?.0.to_owned();
    let (title, text) = match act {
        "pause" => (t.pause, t.pause_text),
        _ => (t.resume, t.resume_text),
    };
    let form = Form::new(title, text, format!("/console/webhooks/{act}/"));
    Some(form.field(Input::select("endpoint", t.endpoint, first, choices)).field(reason_field(t)))
}

async fn paused(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let form = pause_form(console, &BTreeMap::new(), visit);
    pause_set(console, context, visit, typed, form, true).await
}

async fn resumed(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let paused = console.desk.endpoints_paused(&visit.permit::<WebhookRead>()?).await?;
    pause_set(console, context, visit, typed, resume_form(&paused, visit), false).await
}

async fn pause_set(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
    form: Option<Form>,
    pause: bool,
) -> Result<Outcome, Refused> {
    let permit = visit.permit::<WebhookPause>()?;
    let mut form = form.ok_or(Refused::Missing)?;
    typed.fill(&mut form);
    let Some(reason) = typed.reason(&mut form, visit.t) else {
        return list_page(console, context, visit, Some(form)).await;
    };
    if console.desk.endpoint_pause(&permit, &typed.get("endpoint"), pause, &reason).await? {
        return Ok(Outcome::Done("/console/webhooks/".to_owned()));
    }
    form.refuse("endpoint", visit.t.choice_wrong);
    list_page(console, context, visit, Some(form)).await
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
    Ok(Outcome::Page(Page::new(name, parts)))
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
