//! The first page: what serves, what fails, what waits.

use serde_json::Value;

use chelseru_domain::operator::doctor::State;
use chelseru_domain::operator::role::{OverviewRead, UserRead};

use super::page::{Cell, Page, Part, Trend};
use super::row::{operation, pages, row};
use super::show::grouped;
use super::visit::{Outcome, Refused, Visit};
use super::{Console, doctor, stream};
use crate::request::Context;
use crate::route::{Route, Verb, call};

pub(crate) const ROUTES: &[Route] =
    &[row("/console/", &[operation(Verb::Get, "console_overview", call!(overview))])];

pages!(overview = shown);

async fn shown(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let permit = visit.permit::<OverviewRead>()?;
    // The search that usually comes next finds its table.
    if let (false, Ok(permit)) = (stream::is_asked(context), visit.permit::<UserRead>()) {
        console.desk.users_soon(permit);
    }
    let status = console.desk.overview(&permit).await;
    let (t, language) = (visit.t, visit.language);
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let number = |value: &Value| Cell::code(grouped(value.as_u64().unwrap_or(0), language));
    let health = |well: bool| if well { Cell::good(t.ok) } else { Cell::bad(t.not_ok) };
    let config = &status["config"];
    let open = status["payment"]["open"].as_object().into_iter().flatten();
    let open = open.filter_map(|(_, count)| count.as_u64()).sum();
    let mut facts = vec![
        (t.version, Cell::code(text(&status["version"]))),
        (t.store, health(status["store"]["healthy"] == true)),
        (t.providers, health(status["plugins"]["degraded"] != true)),
        (t.sockets, number(&status["chat"]["sockets"])),
        (t.queue, number(&status["sms"]["waiting"])),
        (t.open_payments, Cell::code(grouped(open, language))),
    ];
    if let Some(error) = config["last_error"].as_str() {
        facts.push((t.config_error, Cell::bad(error)));
    }
    let waits: Vec<String> = config["restart_keys"].as_array().into_iter().flatten().map(text).collect();
    if !waits.is_empty() {
        facts.push((t.restart_keys, Cell::Lines(waits)));
    }
    let findings = console.desk.doctor(&permit).await.map_err(super::config::failed)?;
    let wrong: Vec<_> = findings.into_iter().filter(|one| one.state != State::Well).collect();
    let mut parts = vec![Part::Facts { title: String::new(), facts }];
    if !wrong.is_empty() {
        parts.push(Part::Table(doctor::table(t.attention, &wrong, visit)));
    }
    parts.push(Part::Table(super::providers::table(&status, visit, false)));
    parts.extend(trends(&status["trends"]["series"], visit));
    Ok(Outcome::Page(Page { title: t.overview.to_owned(), parts, live: true }))
}

/// The last 24 hours; nothing before the first numbers.
fn trends(series: &Value, visit: &Visit) -> Option<Part> {
    let t = visit.t;
    let labels = [
        ("requests", t.trend_requests),
        ("logins", t.trend_logins),
        ("messages", t.trend_messages),
        ("messages_failed", t.trend_messages_failed),
        ("provider_errors", t.trend_provider_errors),
        ("webhooks", t.trend_webhooks),
    ];
    let drawn = |(name, label): (&str, &'static str)| {
        let values: Vec<u64> = series[name].as_array()?.iter().filter_map(Value::as_u64).collect();
        Some(Trend::new(label, &values, visit.language))
    };
    let drawn: Vec<Trend> = labels.into_iter().filter_map(drawn).collect();
    (!drawn.is_empty()).then_some(Part::Trends(drawn))
}
