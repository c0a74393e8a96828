//! Providers and plugins: what serves, how it does, its settings without secrets, its place in the order, and a test.

use chelseru_domain::PhoneNumber;
use chelseru_domain::clock::Timestamp;
use chelseru_domain::operator::house::{ConfigSeen, HouseError};
use chelseru_domain::operator::role::{ConfigRead, ConfigWrite, OverviewRead, ProviderTest};
use serde_json::Value;

use super::Console;
use super::config::failed;
use super::page::{Cell, Form, Input, Page, Part, Table, acts};
use super::row::{forms, operation, pages, row};
use super::show::grouped;
use super::visit::{Outcome, Refused, Typed, Visit, reason_field};
use super::words::Words;
use crate::request::Context;
use crate::route::{Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    row("/console/providers/", &[operation(Verb::Get, "console_providers", call!(list))]),
    row("/console/providers/{name}/", &[operation(Verb::Get, "console_provider", call!(one))]),
    row("/console/providers/{name}/move/", &[operation(Verb::Post, "console_provider_move", call!(place))]),
    row("/console/providers/{name}/test/", &[operation(Verb::Post, "console_provider_test", call!(test))]),
];

pages!(list = listed, one = shown);
forms!(place = moved, test = tested);

/// Characters of a test message.
const TEST_CHARS_MAX: usize = 160;

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

async fn listed(console: &Console, _: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let t = visit.t;
    let status = console.desk.overview(&visit.permit::<OverviewRead>()?).await;
    let seen = console.desk.config(&visit.permit::<ConfigRead>()?).await.map_err(failed)?;
    let order = Cell::Lines(seen.order.iter().map(|name| super::page::cut(name)).collect());
    let components = Cell::link("/console/components/".to_owned(), t.components);
    let facts = vec![(t.order_of_messages, order), (t.components, components)];
    let parts = vec![Part::Facts { title: String::new(), facts }, Part::Table(table(&status, visit, true))];
    Ok(Outcome::Page(Page::new(t.providers.to_owned(), parts)))
}

/// The providers of a status, for this page and for the overview.
pub(super) fn table(status: &Value, visit: &Visit, alone: bool) -> Table {
    let (t, language) = (visit.t, visit.language);
    let number = |value: &Value| Cell::code(grouped(value.as_u64().unwrap_or(0), language));
    let columns =
        vec![t.name, t.plugin, t.state, t.circuit, t.version, t.calls, t.errors, "p99", t.last_error];
    let mut table = Table::new(if alone { "" } else { t.providers }, columns);
    for provider in status["providers"].as_array().into_iter().flatten() {
        let name = text(&provider["name"]);
        table.rows.push(vec![
            Cell::link(format!("/console/providers/{}/", path_part(&name)), &name),
            Cell::code(text(&provider["plugin"])),
            state(provider),
            circuit(status, &name),
            Cell::code(text(&provider["version"])),
            number(&provider["calls"]),
            number(&provider["call_errors"]),
            p99(provider),
            Cell::text(&text(&provider["last_error"])),
        ]);
    }
    table
}

fn path_part(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn state(provider: &Value) -> Cell {
    let state = text(&provider["state"]);
    match state.as_str() {
        "serving" => Cell::good(&state),
        "compiling" => Cell::plain(&state),
        _ => Cell::bad(&state),
    }
}

fn circuit(status: &Value, name: &str) -> Cell {
    match status["sms"]["providers"][name]["circuit"].as_str() {
        Some("open") => Cell::bad("open"),
        Some(other) => Cell::plain(other),
        None => Cell::code(""),
    }
}

fn p99(provider: &Value) -> Cell {
    Cell::code(format!("{} ms", provider["p99_micros"].as_u64().unwrap_or(0) / 1000))
}

struct Found {
    name: String,
    status: Value,
    seen: ConfigSeen,
}

impl Found {
    fn provider(&self) -> Option<&Value> {
        let mut providers = self.status["providers"].as_array().into_iter().flatten();
        providers.find(|provider| provider["name"] == self.name.as_str())
    }
}

async fn found(console: &Console, context: &Context, visit: &Visit) -> Result<Found, Refused> {
    let name = context.parameter("name").to_owned();
    let status = console.desk.overview(&visit.permit::<OverviewRead>()?).await;
    let seen = console.desk.config(&visit.permit::<ConfigRead>()?).await.map_err(failed)?;
    let found = Found { name, status, seen };
    if found.provider().is_some() { Ok(found) } else { Err(Refused::Missing) }
}

async fn shown(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let found = found(console, context, visit).await?;
    Ok(Outcome::Page(provider_page(&found, visit, None)))
}

/// The page of a provider; `answered` stands for the form of its address.
fn provider_page(found: &Found, visit: &Visit, answered: Option<Form>) -> Page {
    let (t, language) = (visit.t, visit.language);
    let provider = found.provider().cloned().unwrap_or_default();
    let number = |name: &str| Cell::code(grouped(provider[name].as_u64().unwrap_or(0), language));
    let loaded = provider["loaded_at"].as_u64().filter(|at| *at > 0);
    let facts = vec![
        (t.name, Cell::code(&found.name)),
        (t.kind, Cell::code(text(&provider["kind"]))),
        (t.plugin, Cell::code(text(&provider["plugin"]))),
        (t.version, Cell::code(text(&provider["version"]))),
        (t.interface, Cell::code(text(&provider["interface_version"]))),
        (t.digest, Cell::code(text(&provider["blake3"]))),
        (t.state, state(&provider)),
        (t.circuit, circuit(&found.status, &found.name)),
        (t.generation, number("generation")),
        (t.reloads, number("reloads")),
        (t.reload_failures, number("reload_failures")),
        (t.compile_ms, number("compile_ms")),
        (
            t.since,
            loaded.map_or(Cell::code(""), |at| Cell::time(Timestamp::from_micros(at * 1000), language)),
        ),
        (t.calls, number("calls")),
        (t.errors, number("call_errors")),
        ("p99", p99(&provider)),
        (t.last_error, Cell::text(&text(&provider["last_error"]))),
    ];
    let mut parts = vec![Part::Facts { title: String::new(), facts }];
    let place = found.seen.order.iter().position(|name| *name == found.name);
    let ordered = place.is_some() && found.seen.order.len() > 1;
    let offered = [
        (visit.may::<ConfigWrite>() && ordered).then(|| move_form(found, t)),
        (visit.may::<ProviderTest>() && place.is_some()).then(|| test_form(found, t)),
    ];
    parts.extend(acts(offered, answered.as_ref()));
    let mut table = Table::new(t.settings, vec![t.name, t.text]);
    for (name, value) in found.seen.settings.get(&found.name).into_iter().flatten() {
        let value = if value == chelseru_config::HIDDEN { Cell::good(t.set) } else { Cell::code(value) };
        table.rows.push(vec![Cell::code(name), value]);
    }
    parts.push(Part::Table(table));
    Page::new(found.name.clone(), parts)
}

fn form(found: &Found, act: &str, title: &'static str, about: &str, t: &Words) -> Form {
    let action = format!("/console/providers/{}/{act}/", path_part(&found.name));
    Form::new(title, about, action).field(reason_field(t))
}

fn move_form(found: &Found, t: &Words) -> Form {
    let choices = [("earlier", t.move_earlier), ("later", t.move_later)];
    let place = Input::select("place", t.change, "earlier".to_owned(), choices);
    form(found, "move", t.move_title, t.move_text, t).field(place)
}

fn test_form(found: &Found, t: &Words) -> Form {
    form(found, "test", t.test_send, t.test_send_text, t)
        .field(Input::code("number", t.number, String::new()))
        .field(Input { name: "text", label: t.text, value: "chelseru".to_owned(), ..Input::default() })
}

async fn moved(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let t = visit.t;
    let permit = visit.permit::<ConfigWrite>()?;
    let found = found(console, context, visit).await?;
    let mut form = move_form(&found, t);
    typed.fill(&mut form);
    let earlier = typed.one_of(&mut form, "place", &[("earlier", true), ("later", false)], t);
    let (Some(reason), Some(earlier)) = (typed.reason(&mut form, t), earlier) else {
        return Ok(Outcome::Again(provider_page(&found, visit, Some(form))));
    };
    match console.desk.provider_move(&permit, &found.name, earlier, &reason).await {
        Ok(()) => return Ok(Outcome::Done(format!("/console/providers/{}/", path_part(&found.name)))),
        Err(HouseError::Stale) => form.refuse("", t.config_stale),
        Err(HouseError::Failed(text)) => form.refuse("", &super::page::cut(&text)),
        Err(HouseError::Refused(lines)) => form.refuse("", &super::page::cut(&lines.join("; "))),
    }
    Ok(Outcome::Again(provider_page(&found, visit, Some(form))))
}

/// Sends a message by this provider and leads to its record.
async fn tested(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let t = visit.t;
    let permit = visit.permit::<ProviderTest>()?;
    let found = found(console, context, visit).await?;
    let mut form = test_form(&found, t);
    typed.fill(&mut form);
    let (number, body) = (PhoneNumber::parse(&typed.latin("number")).ok(), typed.get("text"));
    if number.is_none() {
        form.refuse("number", t.phone_wrong);
    }
    let fits = !body.is_empty() && body.chars().count() <= TEST_CHARS_MAX;
    if !fits {
        form.refuse("text", t.test_text_wrong);
    }
    let (Some(reason), Some(number), true) = (typed.reason(&mut form, t), number, fits) else {
        return Ok(Outcome::Again(provider_page(&found, visit, Some(form))));
    };
    match console.desk.provider_test(&permit, &found.name, number, body, &reason).await {
        Ok(id) => Ok(Outcome::Done(format!("/console/messages/{id}/"))),
        Err(error) => {
            form.refuse("", &super::page::cut(&error.to_string()));
            Ok(Outcome::Again(provider_page(&found, visit, Some(form))))
        }
    }
}
