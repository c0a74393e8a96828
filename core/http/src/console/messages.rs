//! Messages (SMS): found by number, status, provider and time, with every try and its reason.

use chelseru_domain::PhoneNumber;
use chelseru_domain::operator::desk::{MessageQuery, ResendError};
use chelseru_domain::operator::role::{MessageRead, MessageResend, OverviewRead};
use chelseru_domain::sms::queue::SubmitError;
use chelseru_domain::sms::{
    SmsClass, SmsContent, SmsFilter, SmsOrder, SmsRange, SmsRecord, SmsStatus, SmsTried, holding,
};

use super::Console;
use super::filter::Filtered;
use super::page::{Cell, Filters, Form, Input, InputKind, Page, Part, Table, acts};
use super::row::{forms, operation, pages, row};
use super::show;
use super::visit::{Outcome, Refused, Typed, Visit, reason_field};
use super::words::Words;
use crate::request::Context;
use crate::route::{Route, Verb, call};
use crate::sms::json::{local, status_of, status_word};

pub(crate) const ROUTES: &[Route] = &[
    row("/console/messages/", &[operation(Verb::Get, "console_messages", call!(list))]),
    row("/console/messages/{id}/", &[operation(Verb::Get, "console_message", call!(one))]),
    row("/console/messages/{id}/again/", &[operation(Verb::Post, "console_message_again", call!(again))]),
];

pages!(list = listed, one = shown);
forms!(again = sent_again);

/// Messages on one page.
const PAGE: usize = 50;

const STATUSES: [&str; 7] = ["queued", "sending", "accepted", "delivered", "failed", "unknown", "expired"];

pub(crate) fn query(filtered: &mut Filtered<'_>) -> MessageQuery {
    let typed = show::latin(&filtered.text("number"));
    let number = PhoneNumber::parse(&typed).ok();
    if number.is_none() && !typed.is_empty() {
        filtered.refuse("number", filtered.words().phone_wrong);
    }
    let statuses: Vec<(&str, SmsStatus)> =
        STATUSES.iter().filter_map(|word| Some((*word, status_of(word)?))).collect();
    let filter = SmsFilter {
        number: number.map(|number| number.e164().to_owned()),
        status: filtered.one_of("status", &statuses),
        provider: filtered.given("provider"),
        owner: None,
        text: holding(&filtered.text("text")),
    };
    // Ids are microseconds, so times are a range of ids.
    let from = filtered.day("from").map_or(0, |from| from.as_micros());
    let until = filtered.day("until").map_or(u64::MAX, |until| until.as_micros());
    let to = filtered.before().map_or(until, |before| until.min(before)).max(from);
    MessageQuery { filter, range: SmsRange { from, to, order: SmsOrder::NewestFirst } }
}

async fn listed(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let t = visit.t;
    let permit = visit.permit::<MessageRead>()?;
    let mut filtered = Filtered::new(context, t);
    let query = query(&mut filtered);
    let (mut found, mut next) = (Vec::new(), None);
    let mut parts = Vec::new();
    if !filtered.is_wrong() {
        let page = console.desk.messages(&permit, &query, PAGE).await?;
        let full = page.messages.len() == PAGE;
        next = if full { page.messages.last().map(|last| last.id) } else { page.stopped_at };
        if !full && page.stopped_at.is_some() {
            parts.push(Part::Note(t.more_looked.to_owned()));
        }
        found = page.messages;
    }
    let mut table = table("", &found, visit);
    table.next = next.map(|next| filtered.at(next));
    table.first = filtered.first();
    let statuses: Vec<(&str, &'static str)> = STATUSES.iter().map(|word| (*word, *word)).collect();
    let fields = vec![
        Input { kind: InputKind::Search, ..filtered.input("number", t.number) },
        filtered.input("text", t.text),
        filtered.choice("status", t.state, &statuses),
        filtered.input("provider", t.provider),
        filtered.day_input("from", t.from),
        filtered.day_input("until", t.until),
    ];
    parts.insert(0, Part::Filters(Filters { fields, clear: "/console/messages/".to_owned() }));
    parts.push(Part::Table(table));
    parts.extend(credits(console, visit).await?.map(Part::Table));
    let live = filtered.first().is_none();
    filtered.outcome(Page { live, ..Page::new(t.messages.to_owned(), parts) })
}

/// What is left at each provider.
async fn credits(console: &Console, visit: &Visit) -> Result<Option<Table>, Refused> {
    let (t, language) = (visit.t, visit.language);
    let status = console.desk.overview(&visit.permit::<OverviewRead>()?).await;
    let mut table = Table::new(t.credit, vec![t.provider, t.credit, t.asked, t.state, t.last_error]);
    for (name, provider) in status["sms"]["providers"].as_object().into_iter().flatten() {
        let credit = &provider["credit"];
        let Some(asked) = credit.as_object() else { continue };
        let amount = asked["amount"].as_i64().map_or_else(String::new, |amount| {
            let sign = if amount < 0 { "−" } else { "" };
            let unit = if asked["unit"] == "rial" { t.rial } else { t.messages };
            format!("{sign}{} {unit}", show::grouped(amount.unsigned_abs(), language))
        });
        table.rows.push(vec![
            Cell::code(name),
            Cell::code(amount),
            Cell::code(asked["asked_at"].as_str().unwrap_or_default()),
            match asked["low"] == true || asked["stepped_back"] == true {
                true => Cell::bad(t.credit_low),
                false => Cell::good(t.ok),
            },
            Cell::code(asked["error"].as_str().unwrap_or_default()),
        ]);
    }
    Ok((!table.rows.is_empty()).then_some(table))
}

async fn found(console: &Console, context: &Context, visit: &Visit) -> Result<SmsRecord, Refused> {
    let permit = visit.permit::<MessageRead>()?;
    let id = context.id("id").map_err(|_| Refused::Missing)?;
    console.desk.message(&permit, id).await?.ok_or(Refused::Missing)
}

async fn shown(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let message = found(console, context, visit).await?;
    Ok(Outcome::Page(message_page(&message, visit, None)))
}

fn again_form(message: &SmsRecord, t: &Words) -> Form {
    Form::new(t.send_again, t.send_again_text, format!("/console/messages/{}/again/", message.id))
        .field(reason_field(t))
}

/// Sends a notice once more and leads to the new message.
async fn sent_again(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let t = visit.t;
    let permit = visit.permit::<MessageResend>()?;
    let message = found(console, context, visit).await?;
    let mut form = again_form(&message, t);
    let Some(reason) = typed.reason(&mut form, t) else {
        return Ok(Outcome::Again(message_page(&message, visit, Some(form))));
    };
    let text = match console.desk.message_resend(&permit, message.id, &reason).await {
        Ok(id) => return Ok(Outcome::Done(format!("/console/messages/{id}/"))),
        Err(ResendError::Missing) => return Err(Refused::Missing),
        Err(ResendError::Code) => t.send_again_code,
        Err(ResendError::Running) => t.send_again_running,
        Err(ResendError::Submit(SubmitError::Full | SubmitError::StorageFull)) => t.send_again_full,
        Err(error @ ResendError::Submit(_)) => return Err(Refused::Failed(error.to_string())),
    };
    form.refuse("", text);
    Ok(Outcome::Again(message_page(&message, visit, Some(form))))
}

/// The page of a message; `answered` stands for the form of its address.
fn message_page(message: &SmsRecord, visit: &Visit, answered: Option<Form>) -> Page {
    let (t, language) = (visit.t, visit.language);
    let content = match &message.content {
        SmsContent::Hidden => Cell::plain(t.hidden),
        SmsContent::Text(text) => Cell::text(text),
        SmsContent::Template { name, values, .. } => {
            let line = |(key, value): &(String, String)| super::page::cut(&format!("{key}: {value}"));
            Cell::Lines(std::iter::once(super::page::cut(name)).chain(values.iter().map(line)).collect())
        }
    };
    let facts = vec![
        (t.id, Cell::code(message.id)),
        (t.number, Cell::code(local(&message.number))),
        (t.state, status(message)),
        (t.class, Cell::plain(class(message, visit))),
        (t.text, content),
        (t.provider, Cell::code(message.provider.clone().unwrap_or_default())),
        (t.provider_id, Cell::code(message.provider_message_id.clone().unwrap_or_default())),
        (t.cost, message.cost_rial.map_or(Cell::code(""), |rial| Cell::money(rial, language))),
        (t.last_error, Cell::code(message.error.clone().unwrap_or_default())),
        (t.tries, tries(message)),
        (t.created, Cell::time(message.created_at, language)),
        (t.updated, Cell::time(message.updated_at, language)),
    ];
    let mut parts = vec![Part::Facts { title: String::new(), facts }];
    let sends = visit.may::<MessageResend>() && message.class == SmsClass::Notice;
    parts.extend(acts([sends.then(|| again_form(message, t))], answered.as_ref()));
    Page::new(format!("{} {}", t.message, show::digits(&message.id.to_string(), language)), parts)
}

/// Messages as a table, for this page and for that of a user.
pub(crate) fn table(title: &str, messages: &[SmsRecord], visit: &Visit) -> Table {
    let t = visit.t;
    let mut table =
        Table::new(title, vec![t.created, t.number, t.class, t.state, t.provider, t.last_error, t.tries]);
    for message in messages {
        let time = show::time(message.created_at, visit.language);
        let time = match visit.may::<MessageRead>() {
            true => Cell::link(format!("/console/messages/{}/", message.id), time),
            false => Cell::Code(time),
        };
        table.rows.push(vec![
            time,
            Cell::code(local(&message.number)),
            Cell::plain(class(message, visit)),
            status(message),
            Cell::code(message.provider.clone().unwrap_or_default()),
            Cell::code(message.error.clone().unwrap_or_default()),
            tries(message),
        ]);
    }
    table
}

fn class(message: &SmsRecord, visit: &Visit) -> &'static str {
    match message.class {
        SmsClass::Otp => visit.t.otp,
        SmsClass::Notice => visit.t.notice,
    }
}

fn status(message: &SmsRecord) -> Cell {
    let word = status_word(message.status);
    match message.status {
        SmsStatus::Accepted | SmsStatus::Delivered => Cell::good(word),
        SmsStatus::Failed | SmsStatus::Unknown | SmsStatus::Expired => Cell::bad(word),
        SmsStatus::Queued | SmsStatus::Sending => Cell::plain(word),
    }
}

/// Each provider that was asked, with its reason.
fn tries(message: &SmsRecord) -> Cell {
    let line = |tried: &SmsTried| {
        let code = tried.provider_code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
        super::page::cut(&format!("{}: {}{code}", tried.provider, tried.code))
    };
    Cell::Lines(message.tried.iter().map(line).collect())
}
