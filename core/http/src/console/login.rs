//! The way in and out: name, password and second factor, or a one-time link.

use std::sync::Arc;

use chelseru_domain::login::password::Password;
use chelseru_domain::operator::console::{ConsoleError, Opened};
use http::StatusCode;
use http::header::{self, HeaderValue};

use super::page::Door;
use super::row::{forms, operation, row};
use super::visit::{self, Outcome, Refused, Typed, Visit, door, is_own_site, own_page, see_other};
use super::words::Language;
use super::{Console, LINK_PATH};
use crate::fields::Fields;
use crate::reply::{Reply, whole_seconds};
use crate::request::{ByOperator, Context, Request};
use crate::route::{Answer, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    row("/", &[operation(Verb::Get, "console_root", call!(root))]),
    row(
        "/console/login/",
        &[
            operation(Verb::Get, "console_login_page", call!(page)),
            operation(Verb::Post, "console_login", call!(login)),
        ],
    ),
    row(
        LINK_PATH,
        &[
            operation(Verb::Get, "console_link_page", call!(link_page)),
            operation(Verb::Post, "console_link", call!(link)),
        ],
    ),
    row("/console/logout/", &[operation(Verb::Post, "console_logout", call!(logout))]),
];

/// `GET /`: leads to the console.
async fn root(_: Arc<Console>, _: Request<ByOperator>) -> Answer {
    Ok(see_other("/console/"))
}

async fn page(_: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let then = request.query("then").unwrap_or_default();
    Ok(shown(StatusCode::OK, Spoken::of(&request.context), None, "", own_page(&then)))
}

/// `POST /console/login/`.
async fn login(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body, .. } = request;
    let typed = Typed::new(body);
    let spoken = Spoken::typed(&typed);
    let (username, then) = (typed.get("username"), typed.get("then"));
    let then = own_page(&then);
    if !is_own_site(&context) {
        let text = spoken.language.words().form_wrong;
        return Ok(shown(StatusCode::FORBIDDEN, spoken, Some(text), &username, then));
    }
    let password = Password::new(typed.raw("password").to_owned());
    let logins = console.desk.console();
    let opened = logins.login(&username, &password, &typed.get("code"), visit::visitor(&context)).await;
    keep(&console, &context, spoken, &opened).await;
    Ok(entered(
        &context,
        opened,
        then,
        |status, text| shown(status, spoken, Some(text), &username, then),
        spoken.language,
    ))
}

async fn link_page(_: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let token = request.query("token").unwrap_or_default();
    Ok(link_shown(StatusCode::OK, Spoken::of(&request.context), None, &token))
}

/// `POST /console/link/`.
async fn link(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body, .. } = request;
    let typed = Typed::new(body);
    let spoken = Spoken::typed(&typed);
    let t = spoken.language.words();
    if !is_own_site(&context) {
        return Ok(link_shown(StatusCode::FORBIDDEN, spoken, Some(t.form_wrong), ""));
    }
    let opened = console.desk.console().login_by_link(&typed.get("token"), visit::visitor(&context)).await;
    keep(&console, &context, spoken, &opened).await;
    Ok(entered(
        &context,
        opened,
        "/console/me/",
        |status, text| {
            let text = if status == StatusCode::FORBIDDEN { t.link_wrong } else { text };
            link_shown(status, spoken, Some(text), "")
        },
        spoken.language,
    ))
}

forms!(logout = end);

/// Ends the session and removes the cookie.
async fn end(console: &Console, context: &Context, visit: &Visit, _: &Typed) -> Result<Outcome, Refused> {
    console.desk.console().session_end(&visit.seat, Some(visit.seat.session.id)).await?;
    Ok(Outcome::File(Console::unseated(context)))
}

/// The answer to a login.
fn entered(
    context: &Context,
    opened: Result<Opened, ConsoleError>,
    then: &str,
    refused: impl Fn(StatusCode, &'static str) -> Reply,
    language: Language,
) -> Reply {
    let t = language.words();
    match opened {
        Ok(opened) => Console::seated(context, &opened, then),
        Err(ConsoleError::Wrong) => refused(StatusCode::FORBIDDEN, t.login_wrong),
        Err(ConsoleError::Waiting { retry_after }) => {
            let seconds = HeaderValue::from(whole_seconds(retry_after));
            refused(StatusCode::TOO_MANY_REQUESTS, t.login_waiting).with(header::RETRY_AFTER, seconds)
        }
        Err(ConsoleError::Busy) => refused(StatusCode::SERVICE_UNAVAILABLE, t.login_busy),
        Err(error @ (ConsoleError::Store(_) | ConsoleError::Randomness(_))) => {
            tracing::error!(request.id = %context.id, %error, "an operator could not log in");
            refused(StatusCode::INTERNAL_SERVER_ERROR, t.failed)
        }
    }
}

/// The language of a login, and whether the visitor asked for it.
#[derive(Clone, Copy)]
struct Spoken {
    language: Language,
    asked_for: bool,
}

impl Spoken {
    /// The language asked for, otherwise that of the browser when it is English only.
    fn of(context: &Context) -> Spoken {
        match context.query("language") {
            Some(code) => Spoken { language: Language::of(&code), asked_for: true },
            None => {
                let accepted = context.header(header::ACCEPT_LANGUAGE);
                let english = accepted.starts_with("en") && !accepted.contains("fa");
                let language = if english { Language::English } else { Language::Persian };
                Spoken { language, asked_for: false }
            }
        }
    }

    /// The language of the page on which a form was filled in.
    fn typed(typed: &Typed) -> Spoken {
        let asked_for = typed.get("language_kept") == "1";
        Spoken { language: Language::of(&typed.get("language")), asked_for }
    }
}

/// Keeps the language of a login. The login stands when that fails.
async fn keep(console: &Console, context: &Context, spoken: Spoken, opened: &Result<Opened, ConsoleError>) {
    let Ok(opened) = opened else { return };
    let Spoken { language, asked_for } = spoken;
    let kept = console.desk.console().language_keep(opened, language.code(), asked_for).await;
    if let Err(error) = kept {
        tracing::warn!(request.id = %context.id, %error, "the language of a login could not be kept");
    }
}

fn shown(status: StatusCode, spoken: Spoken, error: Option<&str>, username: &str, then: &str) -> Reply {
    let username: String = username.chars().take(150).collect();
    let Spoken { language, asked_for } = spoken;
    let t = language.words();
    door(status, &Door { language, t, error, username: &username, link: None, then, asked_for })
}

fn link_shown(status: StatusCode, spoken: Spoken, error: Option<&str>, token: &str) -> Reply {
    let Spoken { language, asked_for } = spoken;
    let t = language.words();
    // A refused link leads to the login.
    let link = (!token.is_empty() && token.len() < 200).then_some(token);
    door(status, &Door { language, t, error, username: "", link, then: "/console/me/", asked_for })
}
