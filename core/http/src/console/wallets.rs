//! Wallets: balance, entries and holds of a user, and corrections as balanced postings. A large correction waits for a
//! second operator, who confirms it on its own page.

use chelseru_domain::ids::UserId;
use chelseru_domain::login::account::UserView;
use chelseru_domain::money::Money;
use chelseru_domain::money::correction::{Confirmed, Waiting};
use chelseru_domain::money::payment::PaymentQuery;
use chelseru_domain::money::wallet::CorrectionMade;
use chelseru_domain::operator::desk::{Corrected, CorrectionOrder};
use chelseru_domain::operator::role::{CorrectionConfirm, PaymentRead, UserRead, WalletCorrect, WalletRead};

use super::filter::Filtered;
use super::page::{Cell, Filters, Form, Input, InputKind, Page, Part, Table, acts};
use super::row::{forms, operation, pages, row};
use super::show::{latin, money};
use super::visit::{Outcome, Refused, Typed, Visit, reason_field};
use super::words::Words;
use super::{Console, payments};
use crate::request::Context;
use crate::route::{Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    row("/console/wallets/", &[operation(Verb::Get, "console_wallets", call!(list))]),
    row("/console/wallets/{id}/", &[operation(Verb::Get, "console_wallet", call!(one))]),
    row("/console/wallets/{id}/correct/", &[operation(Verb::Post, "console_wallet_correct", call!(correct))]),
    row("/console/corrections/{id}/", &[operation(Verb::Get, "console_correction", call!(asked))]),
    row(
        "/console/corrections/{id}/confirm/",
        &[operation(Verb::Post, "console_correction_confirm", call!(confirm))],
    ),
    row(
        "/console/corrections/{id}/withdraw/",
        &[operation(Verb::Post, "console_correction_withdraw", call!(withdraw))],
    ),
];

pages!(list = listed, one = shown, asked = correction_shown);
forms!(
    correct = corrected => correct_again,
    confirm = confirmed => correction_again,
    withdraw = withdrawn => correction_again,
);

/// Lines on one page.
const PAGE: usize = 50;

/// The way to a user's wallet, and the open holds of all.
async fn listed(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let (t, language) = (visit.t, visit.language);
    let permit = visit.permit::<WalletRead>()?;
    let mut filtered = Filtered::new(context, t);
    if let Some(text) = filtered.given("user") {
        match console.desk.user_named(&visit.permit::<UserRead>()?, &latin(&text)).await? {
            Some(user) => return Ok(Outcome::To(format!("/console/wallets/{}/", user.id))),
            None => filtered.refuse("user", t.user_wrong),
        }
    }
    let search = Input { kind: InputKind::Search, ..filtered.input("user", t.user) };
    let filters = Filters { fields: vec![search], clear: "/console/wallets/".to_owned() };
    let mut table =
        Table::new(t.holds, vec![t.id, t.user, t.amount, t.order, t.description, t.created, t.expires]);
    for hold in console.desk.holds(&permit).await? {
        table.rows.push(vec![
            Cell::code(hold.id),
            Cell::link(format!("/console/wallets/{}/", hold.user), hold.user),
            Cell::money(hold.amount, language),
            Cell::text(&hold.order),
            Cell::text(&hold.description),
            Cell::time(hold.created_at, language),
            Cell::maybe_time(hold.expires_at, language),
        ]);
    }
    let facts = vec![(t.ledger, Cell::link("/console/ledger/".to_owned(), t.ledger_verify))];
    let mut parts = vec![Part::Filters(filters), Part::Facts { title: String::new(), facts }];
    let waiting = console.desk.corrections_waiting(&permit).await?;
    if !waiting.is_empty() {
        parts.push(Part::Table(waiting_table(&waiting, visit)));
    }
    parts.push(Part::Table(table));
    filtered.outcome(Page::new(t.wallets.to_owned(), parts))
}

async fn found(console: &Console, context: &Context, visit: &Visit) -> Result<UserView, Refused> {
    let id = context.id("id").map_err(|_| Refused::Missing)?;
    console.desk.user(&visit.permit::<UserRead>()?, UserId(id)).await?.ok_or(Refused::Missing)
}

async fn shown(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let user = found(console, context, visit).await?;
    Ok(Outcome::Page(wallet_page(console, context, visit, &user, None).await?))
}

async fn wallet_page(
    console: &Console,
    context: &Context,
    visit: &Visit,
    user: &UserView,
    refused: Option<Form>,
) -> Result<Page, Refused> {
    let (t, language) = (visit.t, visit.language);
    let permit = visit.permit::<WalletRead>()?;
    let filtered = Filtered::new(context, t);
    let balance = console.desk.wallet(&permit, user.id).await?;
    let facts = vec![
        (t.user, Cell::link(format!("/console/users/{}/", user.id), &user.username)),
        (t.available, Cell::money(balance.available, language)),
        (t.held, Cell::money(balance.held, language)),
    ];
    let mut parts = vec![Part::Facts { title: String::new(), facts }];
    if visit.may::<WalletCorrect>() {
        parts.push(Part::Form(Box::new(refused.unwrap_or_else(|| correct_form(user, t)))));
    }
    let (lines, next) = console.desk.wallet_entries(&permit, user.id, filtered.before(), PAGE).await?;
    let mut table =
        Table::new(t.entries, vec![t.id, t.created, t.kind, t.subject, t.amount, t.balance_after]);
    table.next = next.map(|next| filtered.at(next));
    table.first = filtered.first();
    for line in &lines {
        let (kind, subject) = line.key.split_once(':').unwrap_or((line.key.as_str(), ""));
        let sign = if line.amount < 0 { "−" } else { "+" };
        table.rows.push(vec![
            Cell::code(line.number),
            Cell::time(line.at, language),
            Cell::code(if line.is_hold { "hold" } else { kind }),
            Cell::code(subject),
            Cell::code(format!("{sign}{}", money(line.amount.unsigned_abs(), language))),
            Cell::money(u64::try_from(line.balance).unwrap_or(0), language),
        ]);
    }
    parts.push(Part::Table(table));
    if visit.may::<PaymentRead>() {
        let query = PaymentQuery { user: Some(user.id), ..Default::default() };
        let found = console.desk.payments(&visit.permit::<PaymentRead>()?, &query, None, 10).await?;
        parts.push(Part::Table(payments::table(t.payments, &found.payments, visit)));
    }
    Ok(Page::new(format!("{} {}", t.wallet, user.username), parts))
}

fn correct_form(user: &UserView, t: &Words) -> Form {
    let directions = [("in", t.direction_in), ("out", t.direction_out)];
    Form::new(t.correct, t.correct_text, format!("/console/wallets/{}/correct/", user.id))
        .danger(&user.username)
        .field(Input::select("direction", t.direction, "in".to_owned(), directions))
        .field(Input::code("amount", t.amount, String::new()))
        .field(reason_field(t))
}

async fn corrected(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let t = visit.t;
    let permit = visit.permit::<WalletCorrect>()?;
    let user = found(console, context, visit).await?;
    let mut form = correct_form(&user, t);
    typed.fill(&mut form);
    let takes = typed.one_of(&mut form, "direction", &[("in", false), ("out", true)], t);
    let amount = Money::parse(&typed.latin("amount"), console.currency).ok();
    if amount.is_none() {
        form.refuse("amount", t.amount_wrong);
    }
    let (form, reason, (takes, amount)) = typed.complete(form, takes.zip(amount), t)?;
    let order = CorrectionOrder { user: user.id, amount, takes, key: None };
    let made = console.desk.wallet_correct(&permit, order, &reason).await;
    let text = match made.map_err(|error| Refused::Failed(error.to_string()))? {
        Corrected::Waits(waiting) => {
            return Ok(Outcome::Done(format!("/console/corrections/{}/", waiting.id)));
        }
        Corrected::TooMany => t.corrections_full,
        Corrected::Made(made) => match not_made(&made, t) {
            None => return Ok(Outcome::Done(format!("/console/wallets/{}/", user.id))),
            Some(text) => text,
        },
    };
    Err(form.refused("amount", text))
}

/// The wallet's page, with the refused form open.
async fn correct_again(
    console: &Console,
    context: &Context,
    visit: &Visit,
    form: Form,
) -> Result<Page, Refused> {
    let user = found(console, context, visit).await?;
    wallet_page(console, context, visit, &user, Some(form)).await
}

/// Why a correction was not made.
fn not_made(made: &CorrectionMade, t: &Words) -> Option<&'static str> {
    match made {
        CorrectionMade::Done(_) | CorrectionMade::Repeated(_) => None,
        CorrectionMade::Overdraft { .. } => Some(t.overdraft),
        CorrectionMade::TooLarge | CorrectionMade::KeyReused => Some(t.too_large),
    }
}

fn waiting_table(waiting: &[Waiting], visit: &Visit) -> Table {
    let (t, language) = (visit.t, visit.language);
    let columns = vec![t.id, t.user, t.amount, t.actor, t.reason, t.expires];
    let mut table = Table::new(t.corrections_waiting, columns);
    for one in waiting {
        table.rows.push(vec![
            Cell::link(format!("/console/corrections/{}/", one.id), &one.id),
            Cell::link(format!("/console/wallets/{}/", one.user), one.user),
            signed(one, visit),
            Cell::link(format!("/console/users/{}/", one.by), one.by),
            Cell::text(&one.reason),
            Cell::time(one.expires_at(), language),
        ]);
    }
    table
}

fn signed(one: &Waiting, visit: &Visit) -> Cell {
    let sign = if one.takes { "−" } else { "+" };
    Cell::code(format!("{sign}{}", money(one.amount.rial(), visit.language)))
}

/// The waiting correction of the address.
async fn waiting(console: &Console, context: &Context, visit: &Visit) -> Result<Waiting, Refused> {
    let id = context.parameter("id");
    let waiting = console.desk.corrections_waiting(&visit.permit::<WalletRead>()?).await?;
    waiting.into_iter().find(|one| one.id == id).ok_or(Refused::Missing)
}

async fn correction_shown(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let one = waiting(console, context, visit).await?;
    Ok(Outcome::Page(correction_page(&one, visit, None)))
}

fn correction_page(one: &Waiting, visit: &Visit, answered: Option<Form>) -> Page {
    let (t, language) = (visit.t, visit.language);
    let facts = vec![
        (t.user, Cell::link(format!("/console/wallets/{}/", one.user), one.user)),
        (t.amount, signed(one, visit)),
        (t.reason, Cell::text(&one.reason)),
        (t.actor, Cell::link(format!("/console/users/{}/", one.by), one.by)),
        (t.created, Cell::time(one.at, language)),
        (t.expires, Cell::time(one.expires_at(), language)),
    ];
    let mut parts =
        vec![Part::Note(t.correction_waits.to_owned()), Part::Facts { title: String::new(), facts }];
    let may = visit.may::<CorrectionConfirm>();
    let own = visit.seat.operator.user() == Some(one.by);
    let offered = [
        (may && !own).then(|| confirm_form(one, t)),
        (may && one.confirmed_by.is_none()).then(|| withdraw_form(one, t)),
    ];
    parts.extend(acts(offered, answered.as_ref()));
    Page::new(t.correction.to_owned(), parts)
}

fn confirm_form(one: &Waiting, t: &Words) -> Form {
    Form::new(
        t.correction_confirm,
        t.correction_confirm_text,
        format!("/console/corrections/{}/confirm/", one.id),
    )
    .danger(one.user)
    .field(reason_field(t))
}

fn withdraw_form(one: &Waiting, t: &Words) -> Form {
    Form::new(t.correction_withdraw, "", format!("/console/corrections/{}/withdraw/", one.id))
        .field(reason_field(t))
}

async fn confirmed(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let t = visit.t;
    let permit = visit.permit::<CorrectionConfirm>()?;
    let one = waiting(console, context, visit).await?;
    let (form, reason) = typed.reasoned(confirm_form(&one, t), t)?;
    let done = console.desk.correction_confirm(&permit, &one.id, &reason).await;
    let text = match done.map_err(|error| Refused::Failed(error.to_string()))? {
        Confirmed::Missing => return Err(Refused::Missing),
        Confirmed::Own => t.correction_own,
        Confirmed::Ended(_, made) => match not_made(&made, t) {
            None => return Ok(Outcome::Done(format!("/console/wallets/{}/", one.user))),
            Some(text) => text,
        },
    };
    Err(form.refused("", text))
}

/// The correction's page, with the refused form open.
async fn correction_again(
    console: &Console,
    context: &Context,
    visit: &Visit,
    form: Form,
) -> Result<Page, Refused> {
    Ok(correction_page(&waiting(console, context, visit).await?, visit, Some(form)))
}

async fn withdrawn(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let permit = visit.permit::<CorrectionConfirm>()?;
    let one = waiting(console, context, visit).await?;
    let (_, reason) = typed.reasoned(withdraw_form(&one, visit.t), visit.t)?;
    match console.desk.correction_withdraw(&permit, &one.id, &reason).await? {
        true => Ok(Outcome::Done(format!("/console/wallets/{}/", one.user))),
        false => Err(Refused::Missing),
    }
}
