//! `operator/v1/`: what the console's pages show and do, as JSON and with the same rights.
//!
//! The caller sends `Authorization: Bearer` with the token of a console session (`operator/v1/login/`),
//! `Authorization: Api-Key` with a key whose scope is `operator:ROLE`, or, as a command on this machine, the token in
//! the data folder. Invariant: a handler makes the calls of a console's page, so a role means the same in both.
//!
//! Reading order: this file, `users`, `money`, `treasury`, `records`, `files`, `webhooks`, `house`.

pub(crate) mod files;
pub mod house;
pub(crate) mod money;
pub(crate) mod records;
pub(crate) mod treasury;
pub(crate) mod users;
pub(crate) mod webhooks;

use std::collections::BTreeMap;
use std::sync::Arc;

use chelseru_domain::ids::UserId;
use chelseru_domain::login::password::Password;
use chelseru_domain::operator::audit::AuditQuery;
use chelseru_domain::operator::console::{ConsoleError, Opened, Visitor};
use chelseru_domain::operator::role::{Act, AuditRead, Operator, Permit, REASON_CHARS_MAX, Reason, UserRead};
use chelseru_domain::{StoreError, Timestamp, clock::rest_format};
use http::StatusCode;
use http::header;
use serde_json::{Value, json};

use super::audit::{entry_json, query};
use crate::console::Console;
use crate::console::show::day;
use crate::fields::{Fields, Text};
use crate::page::{CURSOR, Cursor, page};
use crate::reply::{Failure, Reply, whole_seconds};
use crate::request::{Access, ByOperator, Context, Request, no_credentials, number};
use crate::route::{About, Answer, Call, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    route(
        "/operator/v1/login/",
        "Operator Login",
        &[Operation {
            verb: Verb::Post,
            id: "operator_login",
            call: call!(login),
            about: About {
                summary: "Open a session with a password and a second factor",
                parameters: &[],
                fields: &[
                    Field("username", Is::Text, "The operator's user name."),
                    Field("password", Is::Text, "The password."),
                    Field("code", Is::Text, "A code of the second factor, or a recovery code."),
                ],
                answers: &[
                    (200, "OperatorSession"),
                    (403, "The name, the password or the code is wrong."),
                    (429, "Too many attempts; Retry-After says how long to wait."),
                ],
            },
        }],
    ),
    route(
        "/operator/v1/audit/",
        "Operator Audit Log",
        &[Operation {
            verb: Verb::Get,
            id: "operator_audit_list",
            call: call!(audit),
            about: About {
                summary: "List audit events, newest first",
                parameters: &[
                    CURSOR,
                    Field("event", Is::MayText, "Only this kind of event."),
                    Field("user", Is::MayInteger, "Only of this account."),
                ],
                fields: &[],
                answers: &[
                    (200, "Page<AuditEvent>"),
                    (401, NO_TOKEN),
                    (403, NO_ROLE),
                    (404, "An invalid cursor."),
                ],
            },
        }],
    ),
];

const NO_TOKEN: &str = "Neither the token of an open session nor a key for operators.";
const NO_ROLE: &str = "The role does not include this.";
/// Entries on one page.
const PAGE: usize = 50;
const NAME: Text = Text { chars_max: 150 };
const CODE: Text = Text { chars_max: 32 };
const REASON: Text = Text { chars_max: REASON_CHARS_MAX };

const fn route(path: &'static str, name: &'static str, operations: &'static [Operation]) -> Route {
    Route { path, name, access: Access::Operator, kind: Kind::Plain, operations }
}

/// A read.
const fn read(
    id: &'static str,
    summary: &'static str,
    parameters: &'static [Field],
    answers: &'static [(u16, &'static str)],
    call: Call,
) -> Operation {
    Operation { verb: Verb::Get, id, call, about: About { summary, parameters, fields: &[], answers } }
}

/// An act, with a reason.
const fn act(
    id: &'static str,
    summary: &'static str,
    fields: &'static [Field],
    answers: &'static [(u16, &'static str)],
    call: Call,
) -> Operation {
    Operation { verb: Verb::Post, id, call, about: About { summary, parameters: &[], fields, answers } }
}

const WHY: Field = Field("reason", Is::Text, "Why, for the audit log.");

/// The reason of an act.
///
/// # Errors
///
/// A field error.
fn reason(fields: &mut Fields) -> Result<Reason, Failure> {
    let text = fields.required("reason", REASON);
    let text = fields.all(text)?;
    Reason::new(&text).map_err(|error| Failure::field("reason", error.to_string()))
}

/// The filters of a request. Wrong ones are answered together.
struct Filters<'a> {
    context: &'a Context,
    errors: BTreeMap<&'static str, Vec<String>>,
}

impl<'a> Filters<'a> {
    fn new(context: &'a Context) -> Filters<'a> {
        Filters { context, errors: BTreeMap::new() }
    }

    fn text(&self, name: &str) -> Option<String> {
        self.context.query(name).filter(|text| !text.is_empty())
    }

    fn refuse(&mut self, name: &'static str, text: &str) {
        self.errors.insert(name, vec![text.to_owned()]);
    }

    fn number(&mut self, name: &'static str) -> Option<u64> {
        let found = number(&self.text(name)?);
        if found.is_none() {
            self.refuse(name, "A valid integer is required.");
        }
        found
    }

    /// A day in Tehran, as the console reads it.
    fn day(&mut self, name: &'static str) -> Option<Timestamp> {
        let found = day(&self.text(name)?);
        if found.is_none() {
            self.refuse(name, "A day such as 2026-11-26 or 1405/09/05 is required.");
        }
        found
    }

    fn one_of<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let word = self.text(name)?;
        let found = choices.iter().find(|(choice, _)| *choice == word).map(|(_, value)| *value);
        if found.is_none() {
            let accepted: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
            self.refuse(name, &format!("Must be one of: {}.", accepted.join(", ")));
        }
        found
    }

    /// The user that a filter names.
    async fn user(
        &mut self,
        console: &Console,
        permit: &Permit<UserRead>,
        name: &'static str,
    ) -> Result<Option<UserId>, Failure> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let found = console.desk.user_named(permit, &text).await;
        let found = found.map_err(|error| failed(self.context, &error))?;
        if found.is_none() {
            self.refuse(name, "There is no such user.");
        }
        Ok(found.map(|user| user.id))
    }

    /// # Errors
    ///
    /// 400 with every wrong filter.
    fn finish(self) -> Result<(), Failure> {
        if self.errors.is_empty() { Ok(()) } else { Err(Failure::fields(self.errors)) }
    }
}

/// The fields of a page that begins at a place of its own form.
fn placed(context: &Context, next: Option<String>, results: &[Value]) -> Reply {
    let next = next.map(|before| {
        let pairs = form_urlencoded::parse(context.query_text().as_bytes()).into_owned();
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(pairs.filter(|(name, _)| name != "before")).append_pair("before", &before);
        format!("{}{}?{}", context.origin(), context.path(), query.finish())
    });
    Reply::json(StatusCode::OK, &json!({"next": next, "previous": null, "results": results}))
}

impl Console {
    /// The permission of the caller for an act.
    ///
    /// # Errors
    ///
    /// 401 without a valid token or key, 403 when the role does not include the act.
    async fn allow<A: Act>(&self, context: &Context) -> Result<Permit<A>, Failure> {
        let operator = self.program(context).await?;
        operator.permit().map_err(|forbidden| {
            let text = format!("Not allowed: {forbidden}.");
            Failure::detail(StatusCode::FORBIDDEN, "role_forbids", text)
        })
    }

    async fn program(&self, context: &Context) -> Result<Operator, Failure> {
        // A command on the gateway's machine.
        if self.token.is_known(context) {
            return Ok(Operator::of_this_machine());
        }
        let mut words = context.header(header::AUTHORIZATION).split_ascii_whitespace();
        let (scheme, token) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let ip = Some(context.client);
        let found = match scheme {
            "Bearer" => self.desk.console().seat(token, ip).await.map(|seat| seat.map(|seat| seat.operator)),
            "Api-Key" => self.desk.operator_of_key(token, ip).await,
            _ => Ok(None),
        };
        found.map_err(|error| failed(context, &error))?.ok_or_else(no_credentials)
    }
}

/// `POST operator/v1/login/`.
async fn login(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let name = fields.required("username", NAME);
    let password = fields.required_as_typed("password");
    let code = fields.required("code", CODE);
    let (name, password, code) = fields.all((name, password, code))?;
    let visitor =
        Visitor { ip: Some(context.client), user_agent: context.header(header::USER_AGENT).to_owned() };
    match console.desk.console().login(&name, &Password::new(password), &code, visitor).await {
        Ok(Opened { token, expires_at }) => {
            let body = json!({"token": token, "expires_at": rest_format(expires_at)});
            Ok(Reply::json(StatusCode::OK, &body))
        }
        Err(ConsoleError::Wrong) => {
            let text = "The name, the password or the code is wrong.";
            Err(Failure::detail(StatusCode::FORBIDDEN, "operator_login_refused", text))
        }
        Err(ConsoleError::Waiting { retry_after }) => {
            let text = "Too many attempts; try again later.";
            let status = StatusCode::TOO_MANY_REQUESTS;
            let failure = Failure::detail(status, "operator_login_waits", text);
            Err(failure.retry_after(whole_seconds(retry_after)))
        }
        Err(ConsoleError::Busy) => Err(Failure::store_busy()),
        Err(error) => Err(failed(&context, &error)),
    }
}

/// `GET operator/v1/audit/`.
async fn audit(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<AuditRead>(&request).await?;
    let query = AuditQuery { limit: PAGE, ..query(&request)? };
    let found: Result<_, StoreError> = console.desk.audit_page(&permit, query).await;
    let found = found.map_err(|error| failed(&request, &error))?;
    let results: Vec<Value> = found.entries.iter().map(entry_json).collect();
    Ok(page(&request, found.more_at.map(Cursor::Next), None, &results))
}

fn failed(context: &Context, error: &dyn std::fmt::Display) -> Failure {
    tracing::error!(request.id = %context.id, %error, "a request of an operator failed");
    Failure::internal()
}
