//! The operator's own account: sessions, second factor, language.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use qrcodegen::{QrCode, QrCodeEcc};

use chelseru_domain::operator::console::{FactorDraft, FactorError};

use super::Console;
use super::page::{Cell, Form, Input, Page, Part, Table};
use super::row::{forms, operation, pages, row};
use super::visit::{Outcome, Refused, Typed, Visit, own_page, role_text};
use crate::request::Context;
use crate::route::{Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    row("/console/me/filters/save/", &[operation(Verb::Post, "console_filter_save", call!(filter_save))]),
    row(
        "/console/me/filters/remove/",
        &[operation(Verb::Post, "console_filter_remove", call!(filter_remove))],
    ),
    row("/console/me/", &[operation(Verb::Get, "console_me", call!(me))]),
    row(
        "/console/me/factor/",
        &[
            operation(Verb::Get, "console_factor_page", call!(factor_page)),
            operation(Verb::Post, "console_factor", call!(factor)),
        ],
    ),
    row("/console/me/language/", &[operation(Verb::Post, "console_language", call!(language))]),
    row("/console/me/sessions/end/", &[operation(Verb::Post, "console_session_end", call!(end))]),
];

pages!(me = shown, factor_page = factor_shown);
forms!(
    factor = factor_confirm,
    language = language_set,
    end = session_end,
    filter_save = filter_saved,
    filter_remove = filter_removed,
);

async fn shown(console: &Console, _: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let (t, language) = (visit.t, visit.language);
    let facts = vec![
        (t.username, Cell::text(&visit.seat.user.username)),
        (t.role, Cell::plain(role_text(visit.seat.operator.role(), t))),
        (t.factor, if visit.seat.has_factor { Cell::good(t.yes) } else { Cell::bad(t.factor_none) }),
    ];
    let mut parts = vec![Part::Facts { title: String::new(), facts }];
    if !visit.seat.has_factor {
        parts.push(Part::Note(t.factor_missing.to_owned()));
    }
    if !visit.seat.has_factor || visit.seat.session.by_link {
        let link = Cell::link("/console/me/factor/".to_owned(), t.factor_setup);
        parts.push(Part::Facts { title: String::new(), facts: vec![(t.factor, link)] });
    }
    let mut table = Table::new(t.sessions, vec![t.ip, t.browser, t.created, t.last_seen, t.state]);
    for session in console.desk.console().sessions(&visit.seat).await? {
        let state = if session.id == visit.seat.session.id {
            Cell::good(t.current)
        } else {
            let mut form = Form::new(t.end_session, "", "/console/me/sessions/end/".to_owned());
            form.hidden.push(("session", session.id.to_string()));
            Cell::Form(Box::new(form))
        };
        table.rows.push(vec![
            Cell::code(&session.ip_address),
            Cell::text(&session.user_agent),
            Cell::time(session.created_at, language),
            Cell::time(session.last_seen_at, language),
            state,
        ]);
    }
    parts.push(Part::Table(table));
    let others = Form::new(t.end_others, "", "/console/me/sessions/end/".to_owned());
    parts.push(Part::Form(Box::new(others)));
    Ok(Outcome::Page(Page::new(t.me.to_owned(), parts)))
}

async fn factor_shown(console: &Console, _: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    if visit.seat.has_factor && !visit.seat.session.by_link {
        let note = Part::Note(visit.t.factor_exists.to_owned());
        return Ok(Outcome::Page(Page::new(visit.t.factor.to_owned(), vec![note])));
    }
    let draft = console.desk.console().factor_begin(&visit.seat).map_err(failed)?;
    Ok(Outcome::Page(factor_form(visit, &draft, None)))
}

/// Stores the second factor once its first code is right, and shows the recovery codes.
async fn factor_confirm(
    console: &Console,
    _: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let t = visit.t;
    let sealed = URL_SAFE_NO_PAD.decode(typed.get("sealed")).unwrap_or_default();
    let logins = console.desk.console();
    match logins.factor_confirm(&visit.seat, &sealed, &typed.get("code")).await {
        Ok(lines) => {
            let parts = vec![Part::Secret { text: t.recovery_text, lines }];
            Ok(Outcome::Page(Page::new(t.recovery.to_owned(), parts)))
        }
        Err(FactorError::Wrong) => match logins.factor_again(&visit.seat, &sealed) {
            Ok(draft) => Ok(Outcome::Again(factor_form(visit, &draft, Some(t.factor_wrong)))),
            Err(FactorError::Wrong) => Err(Refused::Form),
            Err(error) => Err(failed(error)),
        },
        Err(FactorError::Exists) => {
            let note = Part::Note(t.factor_exists.to_owned());
            Ok(Outcome::Again(Page::new(t.factor.to_owned(), vec![note])))
        }
        Err(error) => Err(failed(error)),
    }
}

fn factor_form(visit: &Visit, draft: &FactorDraft, error: Option<&str>) -> Page {
    let t = visit.t;
    let mut parts = vec![Part::Note(t.factor_text.to_owned())];
    let name = utf8_percent_encode(&visit.seat.user.username, NON_ALPHANUMERIC);
    let address = format!("otpauth://totp/chelseru:{name}?secret={}&issuer=chelseru", draft.secret);
    if let Ok(code) = QrCode::encode_text(&address, QrCodeEcc::Medium) {
        let (size, path) = drawn(&code);
        parts.push(Part::Picture { size, path });
    }
    let secret = Cell::code(&draft.secret);
    parts.push(Part::Facts { title: String::new(), facts: vec![(t.factor_secret, secret)] });
    let mut form = Form::new(t.save, "", "/console/me/factor/".to_owned());
    form.hidden.push(("sealed", URL_SAFE_NO_PAD.encode(&draft.sealed)));
    let input = Input::code("code", t.factor_code, String::new());
    form.fields.push(Input { error: error.map(str::to_owned), ..input });
    form.open = true;
    parts.push(Part::Form(Box::new(form)));
    Page::new(t.factor_setup.to_owned(), parts)
}

/// A code as the path of an SVG picture, with its quiet zone of four modules.
fn drawn(code: &QrCode) -> (i32, String) {
    let mut path = String::new();
    for y in 0..code.size() {
        for x in 0..code.size() {
            if code.get_module(x, y) {
                path.push_str(&format!("M{},{}h1v1h-1z", x + 4, y + 4));
            }
        }
    }
    (code.size() + 8, path)
}

async fn language_set(
    console: &Console,
    _: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    console.desk.console().language_set(&visit.seat, &typed.get("language")).await?;
    Ok(Outcome::To(own_page(&typed.get("then")).to_owned()))
}

/// Ends one of the own sessions, or all others.
async fn session_end(
    console: &Console,
    _: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let id = match typed.get("session").as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| Refused::Missing)?),
    };
    console.desk.console().session_end(&visit.seat, id).await?;
    Ok(Outcome::Done("/console/me/".to_owned()))
}

/// Saves the address of a list under a name.
async fn filter_saved(
    console: &Console,
    _: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let address = own_page(&typed.get("address")).to_owned();
    match console.desk.console().filter_save(&visit.seat.operator, &typed.get("name"), &address).await? {
        true => Ok(Outcome::Done(address)),
        false => Ok(Outcome::Again(Page::new(
            visit.t.filters_saved.to_owned(),
            vec![Part::Note(visit.t.filter_wrong.to_owned())],
        ))),
    }
}

async fn filter_removed(
    console: &Console,
    _: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    match console.desk.console().filter_remove(&visit.seat.operator, &typed.get("name")).await? {
        true => Ok(Outcome::Done(own_page(&typed.get("then")).to_owned())),
        false => Err(Refused::Missing),
    }
}

fn failed(error: FactorError) -> Refused {
    Refused::Failed(error.to_string())
}
