//! Wallets: balance, entries and holds of a user, and corrections as balanced postings.

use chelseru_domain::ids::UserId;
use chelseru_domain::login::account::UserView;
use chelseru_domain::money::Money;
use chelseru_domain::money::payment::PaymentQuery;
use chelseru_domain::money::wallet::CorrectionMade;
use chelseru_domain::operator::role::{PaymentRead, UserRead, WalletCorrect, WalletRead};

use super::filter::Filtered;
use super::page::{Cell, Filters, Form, Input, InputKind, Page, Part, Table};
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
];

pages!(list = listed, one = shown);
forms!(correct = corrected);

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
    let parts = vec![Part::Filters(filters), Part::Table(table)];
    filtered.outcome(Page { title: t.wallets.to_owned(), parts })
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
    Ok(Page { title: format!("{} {}", t.wallet, user.username), parts })
}

fn correct_form(user: &UserView, t: &Words) -> Form {
    let directions = [("in", t.direction_in), ("out", t.direction_out)];
    Form::new(t.correct, t.correct_text, format!("/console/wallets/{}/correct/", user.id))
        .danger()
        .confirm(&user.username)
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
    let (Some(reason), Some(takes), Some(amount)) = (typed.reason(&mut form, t), takes, amount) else {
        return Ok(Outcome::Again(wallet_page(console, context, visit, &user, Some(form)).await?));
    };
    let made = console.desk.wallet_correct(&permit, user.id, amount, takes, &reason).await;
    let text = match made.map_err(|error| Refused::Failed(error.to_string()))? {
        CorrectionMade::Done(_) | CorrectionMade::Repeated(_) => {
            return Ok(Outcome::Done(format!("/console/wallets/{}/", user.id)));
        }
        CorrectionMade::Overdraft { .. } => t.overdraft,
        CorrectionMade::TooLarge | CorrectionMade::KeyReused => t.too_large,
    };
    form.refuse("amount", text);
    Ok(Outcome::Again(wallet_page(console, context, visit, &user, Some(form)).await?))
}
