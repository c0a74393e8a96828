//! Payments: found by any of their attributes, with sums; asked about, refunded after a preview, and decided about.
//!
//! A refund takes two presses. The first shows what would happen and does nothing; the second, with the typed number of
//! the payment, does it.

use chelseru_domain::clock::rest_format;
use chelseru_domain::money::Money;
use chelseru_domain::money::payment::{
    PayMode, Payment, PaymentId, PaymentQuery, PaymentRefunded, PaymentState, Refund, RefundTo, Reversal,
    ReversalDecided, ReversalDecision, ReversalState, Totals, state_name, state_of,
};
use chelseru_domain::operator::desk::RefundOrder;
use chelseru_domain::operator::role::{
    PaymentAsk, PaymentExport, PaymentRead, PaymentRefund, ReversalDecide, UserRead,
};

use super::Console;
use super::filter::Filtered;
use super::page::{Cell, Filters, Form, Input, InputKind, Page, Part, Table, acts};
use super::row::{forms, operation, pages, row};
use super::show::{digits, grouped, latin, money};
use super::visit::{Outcome, Refused, Typed, Visit, reason_field};
use super::words::{Language, Words};
use crate::csv::cell;
use crate::request::Context;
use crate::route::{Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    row("/console/payments/", &[operation(Verb::Get, "console_payments", call!(list))]),
    row("/console/payments/export/", &[operation(Verb::Get, "console_payments_export", call!(export))]),
    row("/console/payments/{id}/", &[operation(Verb::Get, "console_payment", call!(one))]),
    row("/console/payments/{id}/ask/", &[operation(Verb::Post, "console_payment_ask", call!(ask))]),
    row("/console/payments/{id}/refund/", &[operation(Verb::Post, "console_payment_refund", call!(refund))]),
    row(
        "/console/payments/{id}/reversal/",
        &[operation(Verb::Post, "console_payment_reversal", call!(decide))],
    ),
];

pages!(list = listed, export = exported, one = shown);
forms!(ask = ask_bank, refund = refund_ordered, decide = decided);

/// Payments on one page.
const PAGE: usize = 50;
/// Every state, as the API names it.
const STATES: [&str; 7] = ["created", "pending", "paid", "failed", "cancelled", "expired", "refunded"];

/// The query of an address.
pub(crate) async fn query(
    console: &Console,
    filtered: &mut Filtered<'_>,
    visit: &Visit,
) -> Result<PaymentQuery, Refused> {
    let states: Vec<(&str, PaymentState)> =
        STATES.iter().filter_map(|word| Some((*word, state_of(word)?))).collect();
    let mut amount = |name: &'static str| {
        let text = latin(&filtered.given(name)?);
        let found = Money::parse(&text, console.currency).ok().map(Money::rial);
        if found.is_none() {
            filtered.refuse(name, filtered.words().amount_wrong);
        }
        found
    };
    let (exactly, least, most) = (amount("amount"), amount("amount_min"), amount("amount_max"));
    let mut user = None;
    if let Some(text) = filtered.given("user") {
        let found = console.desk.user_named(&visit.permit::<UserRead>()?, &latin(&text)).await?;
        user = found.map(|user| user.id);
        if user.is_none() {
            filtered.refuse("user", filtered.words().user_wrong);
        }
    }
    Ok(PaymentQuery {
        id: filtered.number("id").map(PaymentId),
        reference: filtered.given("authority").map(|text| latin(&text)),
        receipt: filtered.given("receipt").map(|text| latin(&text)),
        user,
        order: filtered.given("order"),
        gateway: filtered.given("gateway"),
        state: filtered.one_of("state", &states),
        amount: exactly,
        amount_min: least,
        amount_max: most,
        from: filtered.day("from"),
        until: filtered.day("until"),
    })
}

async fn listed(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let (t, language) = (visit.t, visit.language);
    let permit = visit.permit::<PaymentRead>()?;
    let mut filtered = Filtered::new(context, t);
    let query = query(console, &mut filtered, visit).await?;
    let mut parts = Vec::new();
    let mut table = empty("", t);
    if !filtered.is_wrong() {
        let found = console.desk.payments(&permit, &query, filtered.before().map(PaymentId), PAGE).await?;
        table.next = found.next.map(|next| filtered.at(next.0));
        if found.payments.len() < PAGE && found.next.is_some() {
            parts.push(Part::Note(t.more_looked.to_owned()));
        }
        // Summing looks at every payment that fits, so it is asked for: a page must not wait for a million of them.
        let facts = match filtered.given("sums") {
            Some(_) => sums(&console.desk.payment_totals(&permit, &query).await?, visit),
            None => {
                vec![(t.totals, Cell::link(filtered.with("/console/payments/", "sums", "1"), t.totals_show))]
            }
        };
        parts.push(Part::Facts { title: t.totals.to_owned(), facts });
        table.rows.extend(found.payments.iter().map(|payment| line(payment, language)));
        let stuck = console.desk.reversals_undecided(&permit).await?;
        if !stuck.is_empty() {
            parts.insert(0, Part::Table(reversals(&stuck, visit)));
        }
    }
    table.first = filtered.first();
    table.csv = visit.may::<PaymentExport>().then(|| filtered.address("/console/payments/export/"));
    let states: Vec<(&str, &'static str)> = STATES.iter().map(|word| (*word, *word)).collect();
    let fields = vec![
        Input { kind: InputKind::Search, ..filtered.input("order", t.order) },
        filtered.input("id", t.id),
        filtered.input("authority", t.authority),
        filtered.input("receipt", t.receipt),
        filtered.input("user", t.user),
        filtered.choice("state", t.state, &states),
        filtered.input("gateway", t.gateway),
        filtered.input("amount", t.amount),
        filtered.input("amount_min", t.amount_min),
        filtered.input("amount_max", t.amount_max),
        filtered.day_input("from", t.from),
        filtered.day_input("until", t.until),
    ];
    let filters = Filters { fields, clear: "/console/payments/".to_owned() };
    parts.insert(0, Part::Filters(filters));
    parts.push(Part::Table(table));
    let live = filtered.first().is_none();
    filtered.outcome(Page { live, ..Page::new(t.payments.to_owned(), parts) })
}

/// What a query finds, summed, and whether there is more of it.
fn sums(totals: &Totals, visit: &Visit) -> Vec<(&'static str, Cell)> {
    let (t, language) = (visit.t, visit.language);
    let sum = |rial: u128| Cell::money(u64::try_from(rial).unwrap_or(u64::MAX), language);
    let mut facts = vec![
        (t.count, Cell::code(grouped(totals.payments, language))),
        (t.amount, sum(totals.amount)),
        (t.paid_count, Cell::code(grouped(totals.paid, language))),
        (t.paid_amount, sum(totals.paid_amount)),
        (t.refunded, sum(totals.refunded_amount)),
    ];
    if totals.next.is_some() {
        facts.push((t.detail, Cell::bad(t.totals_cut)));
    }
    facts
}

fn empty(title: &str, t: &Words) -> Table {
    let columns =
        vec![t.id, t.created, t.user, t.state, t.amount, t.refunded, t.order, t.gateway, t.authority];
    Table::new(title, columns)
}

/// A payment as a row.
fn line(payment: &Payment, language: Language) -> Vec<Cell> {
    let reference = payment.start.as_ref().map(|start| start.reference.clone()).unwrap_or_default();
    vec![
        Cell::link(format!("/console/payments/{}/", payment.id), payment.id),
        Cell::time(payment.created_at, language),
        Cell::link(format!("/console/users/{}/", payment.user), payment.user),
        state(payment.state),
        Cell::money(payment.amount, language),
        if payment.refunded > 0 { Cell::money(payment.refunded, language) } else { Cell::code("") },
        Cell::text(&payment.order),
        Cell::code(&payment.gateway),
        Cell::code(reference),
    ]
}

/// Payments of one user, for the user's page.
pub(crate) fn table(title: &str, payments: &[Payment], visit: &Visit) -> Table {
    let mut table = empty(title, visit.t);
    table.rows = payments.iter().map(|payment| line(payment, visit.language)).collect();
    table
}

fn state(state: PaymentState) -> Cell {
    let name = state_name(state);
    match state {
        PaymentState::Paid => Cell::good(name),
        PaymentState::Failed | PaymentState::Cancelled | PaymentState::Expired => Cell::bad(name),
        PaymentState::Created | PaymentState::Pending | PaymentState::Refunded => Cell::plain(name),
    }
}

fn reversals(stuck: &[Reversal], visit: &Visit) -> Table {
    let t = visit.t;
    let mut table = Table::new(t.reversals, vec![t.payment, t.gateway, t.state, t.updated]);
    for reversal in stuck {
        table.rows.push(vec![
            Cell::link(format!("/console/payments/{}/", reversal.payment), reversal.payment),
            Cell::code(&reversal.gateway),
            reversal_state(reversal),
            Cell::time(reversal.updated_at, visit.language),
        ]);
    }
    table
}

fn reversal_state(reversal: &Reversal) -> Cell {
    match &reversal.state {
        ReversalState::Open => Cell::plain("open"),
        ReversalState::Done => Cell::good("done"),
        ReversalState::Refused(code) => Cell::bad(&format!("refused: {code}")),
    }
}

/// The filtered list as CSV, at most ten thousand payments; a `Link` header names the rest. Amounts are rial.
async fn exported(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let permit = visit.permit::<PaymentExport>()?;
    let mut filtered = Filtered::new(context, visit.t);
    let query = query(console, &mut filtered, visit).await?;
    if filtered.is_wrong() {
        return Err(Refused::Missing);
    }
    let file = console.desk.payments_export(&permit, &query, filtered.before().map(PaymentId)).await?;
    let mut text = String::from(
        "id,created_at,user,state,reason,amount_rial,refunded_rial,order_id,gateway,authority,ref_id,paid_at\r\n",
    );
    for payment in &file.payments {
        let cells = [
            payment.id.to_string(),
            rest_format(payment.created_at),
            payment.user.to_string(),
            state_name(payment.state).to_owned(),
            cell(&payment.reason),
            payment.amount.to_string(),
            payment.refunded.to_string(),
            cell(&payment.order),
            cell(&payment.gateway),
            cell(payment.start.as_ref().map_or("", |start| start.reference.as_str())),
            cell(payment.receipt.as_ref().map_or("", |receipt| receipt.number.as_str())),
            payment.paid_at.map(rest_format).unwrap_or_default(),
        ];
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    Ok(filtered.file("payments.csv", text, file.next.map(|next| next.0)))
}

type Found = (Payment, Vec<Refund>, Option<Reversal>);

async fn found(console: &Console, context: &Context, visit: &Visit) -> Result<Found, Refused> {
    let id = context.id("id").map_err(|_| Refused::Missing)?;
    console.desk.payment(&visit.permit::<PaymentRead>()?, PaymentId(id)).await?.ok_or(Refused::Missing)
}

async fn shown(console: &Console, context: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let found = found(console, context, visit).await?;
    Ok(Outcome::Page(payment_page(&found, visit, None)))
}

/// The page of a payment; `replaced` stands for the form of its address.
fn payment_page(found: &Found, visit: &Visit, replaced: Option<Form>) -> Page {
    let (payment, refunds, reversal) = found;
    let (t, language) = (visit.t, visit.language);
    let mut parts = vec![Part::Facts { title: String::new(), facts: facts(payment, visit) }];
    let left = payment.amount.saturating_sub(payment.refunded);
    let refused = reversal.as_ref().is_some_and(|one| matches!(one.state, ReversalState::Refused(_)));
    let undecided = reversal.as_ref().is_some_and(|one| one.state != ReversalState::Done);
    let offered = [
        visit.may::<PaymentAsk>().then(|| ask_form(payment, t)),
        (visit.may::<PaymentRefund>() && payment.state == PaymentState::Paid && left > 0)
            .then(|| refund_form(payment, visit)),
        (visit.may::<ReversalDecide>() && (refused || undecided)).then(|| decide_form(payment, t)),
    ];
    parts.extend(acts(offered, replaced.as_ref()));
    if let Some(reversal) = reversal {
        parts.push(Part::Table(reversals(std::slice::from_ref(reversal), visit)));
    }
    let mut table =
        Table::new(t.refunds, vec![t.id, t.created, t.amount, t.refund_to, t.actor, t.reason, t.state]);
    for refund in refunds {
        table.rows.push(vec![
            Cell::code(refund.number),
            Cell::time(refund.at, language),
            Cell::money(refund.amount, language),
            Cell::plain(to_text(refund.to, t)),
            Cell::code(refund.by),
            Cell::text(&refund.note),
            Cell::code(format!("{:?}", refund.state)),
        ]);
    }
    parts.push(Part::Table(table));
    let number = digits(&payment.id.to_string(), language);
    Page::new(format!("{} {number}", t.payment), parts)
}

fn facts(payment: &Payment, visit: &Visit) -> Vec<(&'static str, Cell)> {
    let (t, language) = (visit.t, visit.language);
    let receipt = payment.receipt.as_ref();
    let mode = if payment.mode == PayMode::Charge { t.mode_wallet } else { t.mode_order };
    let mut facts = vec![
        (t.id, Cell::code(payment.id)),
        (t.user, Cell::link(format!("/console/users/{}/", payment.user), payment.user)),
        (t.state, state(payment.state)),
        (t.amount, Cell::money(payment.amount, language)),
        (t.refunded, Cell::money(payment.refunded, language)),
        (t.mode, Cell::plain(mode)),
        (t.order, Cell::text(&payment.order)),
        (t.description, Cell::text(&payment.description)),
        (t.gateway, Cell::code(&payment.gateway)),
        (t.authority, Cell::code(payment.start.as_ref().map_or("", |start| start.reference.as_str()))),
        (t.receipt, Cell::code(receipt.map_or("", |receipt| receipt.number.as_str()))),
        (t.card, Cell::code(receipt.map_or("", |receipt| receipt.card_pan.as_str()))),
        (t.created, Cell::time(payment.created_at, language)),
        (t.paid_at, Cell::maybe_time(payment.paid_at, language)),
    ];
    if !payment.reason.is_empty() {
        facts.push((t.detail, Cell::text(&payment.reason)));
    }
    facts
}

fn to_text(to: RefundTo, t: &Words) -> &'static str {
    match to {
        RefundTo::Wallet => t.to_wallet,
        RefundTo::Reverse => t.to_payer,
        RefundTo::Gateway => t.to_outside,
    }
}

fn ask_form(payment: &Payment, t: &Words) -> Form {
    Form::new(t.ask_bank, t.ask_bank_text, format!("/console/payments/{}/ask/", payment.id))
}

/// Where a refund goes: word and place.
const PLACES: [(&str, RefundTo); 3] =
    [("payer", RefundTo::Reverse), ("wallet", RefundTo::Wallet), ("payer_outside", RefundTo::Gateway)];

fn refund_form(payment: &Payment, visit: &Visit) -> Form {
    let t = visit.t;
    let left = money(payment.amount.saturating_sub(payment.refunded), visit.language);
    let text = format!("{} {}: {left}", t.refund_text, t.refund_left);
    let places = PLACES.map(|(word, to)| (word, to_text(to, t)));
    let form = Form::new(t.refund, &text, format!("/console/payments/{}/refund/", payment.id))
        .field(Input::select("to", t.refund_to, "payer".to_owned(), places))
        .field(Input::code("amount", t.refund_amount, String::new()))
        .field(reason_field(t));
    Form { button: t.preview, ..form }
}

fn decide_form(payment: &Payment, t: &Words) -> Form {
    let action = format!("/console/payments/{}/reversal/", payment.id);
    let choices = DECISIONS.map(|(word, decision)| (word, decision_text(decision, t)));
    Form::new(t.decide, t.decide_text, action)
        .danger(payment.id)
        .field(Input::select("decision", t.decide, "retry".to_owned(), choices))
        .field(reason_field(t))
}

const DECISIONS: [(&str, ReversalDecision); 4] = [
    ("retry", ReversalDecision::AskAgain),
    ("undo", ReversalDecision::Undo),
    ("wallet", ReversalDecision::ToWallet),
    ("paid_outside", ReversalDecision::PaidOutside),
];

fn decision_text(decision: ReversalDecision, t: &Words) -> &'static str {
    match decision {
        ReversalDecision::AskAgain => t.decide_retry,
        ReversalDecision::Undo => t.decide_undo,
        ReversalDecision::ToWallet => t.decide_wallet,
        ReversalDecision::PaidOutside => t.decide_outside,
    }
}

/// Asks the gateway. The question goes on when the browser goes away.
async fn ask_bank(
    console: &Console,
    context: &Context,
    visit: &Visit,
    _: &Typed,
) -> Result<Outcome, Refused> {
    let permit = visit.permit::<PaymentAsk>()?;
    let (payment, ..) = found(console, context, visit).await?;
    console.desk.payment_ask(&permit, payment.id).await?;
    Ok(Outcome::Done(format!("/console/payments/{}/", payment.id)))
}

/// The first press shows what would happen; the second, with the payment's number typed, does it.
async fn refund_ordered(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let (t, language) = (visit.t, visit.language);
    let permit = visit.permit::<PaymentRefund>()?;
    let found = found(console, context, visit).await?;
    let payment = &found.0;
    let mut form = refund_form(payment, visit);
    typed.fill(&mut form);
    let to = typed.one_of(&mut form, "to", &PLACES, t);
    let rial = match typed.latin("amount").as_str() {
        "" => Ok(None),
        text => Money::parse(text, payment.currency).map(Some),
    };
    if rial.is_err() {
        form.refuse("amount", t.amount_wrong);
    }
    let reason = typed.reason(&mut form, t);
    let (Some(reason), Some(to), Ok(amount)) = (reason, to, rial) else {
        return Ok(Outcome::Again(payment_page(&found, visit, Some(form))));
    };
    let left = payment.amount.saturating_sub(payment.refunded);
    let whole = amount.map_or(left, Money::rial);
    form.text = format!("{}: {} · {}. {}", t.preview, money(whole, language), to_text(to, t), t.preview_text);
    form.button = t.refund;
    form.target(payment.id);
    let reversible = to != RefundTo::Reverse
        || console.desk.payment_reversible(&visit.permit::<PaymentRead>()?, payment).is_ok();
    if !reversible {
        form.refuse("to", t.not_reversible);
    }
    if !form.is_named(&typed.get("confirm")) || !reversible {
        // A preview, or a wrong number.
        return Ok(match typed.get("confirm").is_empty() && reversible {
            true => Outcome::Page(payment_page(&found, visit, Some(form))),
            false => Outcome::Again(payment_page(&found, visit, Some(form))),
        });
    }
    let order = RefundOrder { payment: payment.id, amount, to, key: None };
    let refunded = console.desk.payment_refund(&permit, order, &reason).await;
    let refunded = refunded.map_err(|error| Refused::Failed(error.to_string()))?;
    let (field, text) = match refunded {
        PaymentRefunded::Done(..) | PaymentRefunded::Repeated(..) => {
            if to == RefundTo::Reverse {
                console.desk.reversal_continue(&permit, payment.id).await?;
            }
            return Ok(Outcome::Done(format!("/console/payments/{}/", payment.id)));
        }
        PaymentRefunded::Missing => return Err(Refused::Missing),
        PaymentRefunded::TooMuch { .. } => ("amount", t.too_much),
        PaymentRefunded::NotWhole => ("amount", t.not_whole),
        PaymentRefunded::TooLarge | PaymentRefunded::KeyReused => ("amount", t.too_large),
        PaymentRefunded::Overdraft { .. } => ("to", t.overdraft),
        PaymentRefunded::InWallet => ("to", t.in_wallet),
        PaymentRefunded::NotPaid(_) => ("to", t.not_paid),
        PaymentRefunded::Imported(_) => ("to", t.imported),
    };
    form.refuse(field, text);
    Ok(Outcome::Again(payment_page(&found, visit, Some(form))))
}

/// Decides about a reversal that the gateway refuses.
async fn decided(
    console: &Console,
    context: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let t = visit.t;
    let permit = visit.permit::<ReversalDecide>()?;
    let found = found(console, context, visit).await?;
    let id = found.0.id;
    let mut form = decide_form(&found.0, t);
    typed.fill(&mut form);
    let decision = typed.one_of(&mut form, "decision", &DECISIONS, t);
    let (Some(reason), Some(decision)) = (typed.reason(&mut form, t), decision) else {
        return Ok(Outcome::Again(payment_page(&found, visit, Some(form))));
    };
    let text = match console.desk.reversal_decide(&permit, id, decision, &reason).await? {
        ReversalDecided::Done(_) => return Ok(Outcome::Done(format!("/console/payments/{id}/"))),
        ReversalDecided::Missing => return Err(Refused::Missing),
        ReversalDecided::Open => t.reversal_open,
        ReversalDecided::InWallet => t.in_wallet,
        ReversalDecided::TooLarge => t.too_large,
    };
    form.refuse("decision", text);
    Ok(Outcome::Again(payment_page(&found, visit, Some(form))))
}
