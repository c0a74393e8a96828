//! The ledger: recomputed on demand beside the serving store, with its progress and its result.

use chelseru_domain::operator::house::{LedgerCheck, LedgerPhase};
use chelseru_domain::operator::role::{LedgerVerify, WalletRead};

use super::Console;
use super::page::{Cell, Form, Page, Part, acts};
use super::row::{forms, operation, pages, row};
use super::show::{grouped, money};
use super::visit::{Outcome, Refused, Typed, Visit};
use crate::request::Context;
use crate::route::{Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    row("/console/ledger/", &[operation(Verb::Get, "console_ledger", call!(page))]),
    row("/console/ledger/verify/", &[operation(Verb::Post, "console_ledger_verify", call!(verify))]),
];

pages!(page = shown);
forms!(verify = verified);

async fn shown(console: &Console, _: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let t = visit.t;
    let check = console.desk.ledger_check(&visit.permit::<WalletRead>()?);
    let running = matches!(check, LedgerCheck::Running { .. });
    let mut parts = vec![Part::Facts { title: String::new(), facts: facts(&check, visit) }];
    let verify = (visit.may::<LedgerVerify>() && !running).then(|| {
        let form = Form::new(t.ledger_verify, t.ledger_verify_text, "/console/ledger/verify/".to_owned());
        Form { open: true, ..form }
    });
    parts.extend(acts([verify], None));
    Ok(Outcome::Page(Page { title: t.ledger.to_owned(), parts, live: running }))
}

fn facts(check: &LedgerCheck, visit: &Visit) -> Vec<(&'static str, Cell)> {
    let (t, language) = (visit.t, visit.language);
    match check {
        LedgerCheck::Never => vec![(t.state, Cell::plain(t.ledger_never))],
        LedgerCheck::Running { since, phase, copied_bytes } => {
            let phase = match phase {
                LedgerPhase::Copying => t.ledger_copying,
                LedgerPhase::Reading => t.ledger_reading,
                LedgerPhase::Recomputing => t.ledger_recomputing,
            };
            vec![
                (t.state, Cell::plain(phase)),
                (t.since, Cell::time(*since, language)),
                (t.bytes, Cell::code(grouped(*copied_bytes, language))),
            ]
        }
        LedgerCheck::Done { at, seconds, outcome } => {
            let mut facts = vec![
                match outcome {
                    Ok(_) => (t.state, Cell::good(t.ledger_well)),
                    Err(reason) => (t.state, Cell::bad(reason)),
                },
                (t.created, Cell::time(*at, language)),
                (t.seconds, Cell::code(grouped(*seconds, language))),
            ];
            if let Ok(counts) = outcome {
                facts.extend([
                    (t.postings, Cell::code(grouped(counts.postings, language))),
                    (t.accounts, Cell::code(grouped(counts.accounts, language))),
                    (t.payments, Cell::code(grouped(counts.payments, language))),
                    (t.users_total, Cell::code(money(counts.users_total, language))),
                    (t.last_hash, Cell::code(&counts.head)),
                ]);
            }
            facts
        }
    }
}

async fn verified(console: &Console, _: &Context, visit: &Visit, _: &Typed) -> Result<Outcome, Refused> {
    let permit = visit.permit::<LedgerVerify>()?;
    // One that runs already is shown.
    console.desk.ledger_check_start(&permit);
    Ok(Outcome::To("/console/ledger/".to_owned()))
}
