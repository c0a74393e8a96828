//! `operator/v1/`: users and the audit log as in the console, as JSON and with the same rights.
//!
//! The caller sends `Authorization: Bearer` with the token of a console session (`operator/v1/login/`), or
//! `Authorization: Api-Key` with a key whose scope is `operator:ROLE`. The calls are those of the console's pages.

use std::sync::Arc;

use chelseru_domain::ids::UserId;
use chelseru_domain::login::identity::UserActError;
use chelseru_domain::login::password::Password;
use chelseru_domain::login::user_index::UserQuery;
use chelseru_domain::operator::audit::AuditQuery;
use chelseru_domain::operator::console::{ConsoleError, Opened, Visitor};
use chelseru_domain::operator::role::{
    Act, AuditRead, Operator, Permit, REASON_CHARS_MAX, Reason, UserRead, UserSetActive,
};
use chelseru_domain::{StoreError, clock::rest_format};
use http::StatusCode;
use http::header;
use serde_json::{Value, json};

use super::audit::{entry_json, query};
use crate::console::Console;
use crate::fields::{Fields, Text};
use crate::login::me::user_json;
use crate::page::{CURSOR, Cursor, page, start};
use crate::reply::{Failure, Reply, whole_seconds};
use crate::request::{Access, ByOperator, Context, Request, no_credentials, not_found};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

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
        "/operator/v1/users/",
        "Operator User List",
        &[Operation {
            verb: Verb::Get,
            id: "operator_user_list",
            call: call!(users),
            about: About {
                summary: "Find users by a part of a number, a name or a mail address, newest first",
                parameters: &[CURSOR, Field("search", Is::MayText, "Parts that must all be found.")],
                fields: &[],
                answers: &[
                    (200, "Page<Account>"),
                    (401, NO_TOKEN),
                    (403, NO_ROLE),
                    (404, "An invalid cursor."),
                ],
            },
        }],
    ),
    route(
        "/operator/v1/users/{id}/",
        "Operator User",
        &[Operation {
            verb: Verb::Get,
            id: "operator_user",
            call: call!(user),
            about: About {
                summary: "Show a user",
                parameters: &[],
                fields: &[],
                answers: &[(200, "Account"), (401, NO_TOKEN), (403, NO_ROLE)],
            },
        }],
    ),
    route(
        "/operator/v1/users/{id}/disable/",
        "Operator User Disable",
        &[act("operator_user_disable", "Disable a user and end the sessions", call!(disable))],
    ),
    route(
        "/operator/v1/users/{id}/enable/",
        "Operator User Enable",
        &[act("operator_user_enable", "Enable a disabled user", call!(enable))],
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

/// An act on a user, with a reason.
const fn act(id: &'static str, summary: &'static str, call: crate::route::Call) -> Operation {
    let about = About {
        summary,
        parameters: &[],
        fields: &[Field("reason", Is::Text, "Why, for the audit log.")],
        answers: &[
            (200, "Account"),
            (401, NO_TOKEN),
            (403, "The role does not include this, or the account has rights."),
        ],
    };
    Operation { verb: Verb::Post, id, call, about }
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

/// `GET operator/v1/users/`.
async fn users(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<UserRead>(&request).await?;
    let query = UserQuery { text: request.query("search").unwrap_or_default(), ..UserQuery::default() };
    let found = console.desk.users(&permit, &query, start(&request)?.map(UserId), PAGE).await;
    let found = found.map_err(|error| failed(&request, &error))?;
    let results: Vec<Value> = found.users.iter().map(user_json).collect();
    Ok(page(&request, found.next.map(|next| Cursor::Next(next.0)), None, &results))
}

/// `GET operator/v1/users/{id}/`.
async fn user(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<UserRead>(&request).await?;
    let found = console.desk.user(&permit, UserId(request.id("id")?)).await;
    let user = found.map_err(|error| failed(&request, &error))?.ok_or_else(not_found)?;
    Ok(Reply::json(StatusCode::OK, &user_json(&user)))
}

/// `POST operator/v1/users/{id}/disable/`.
async fn disable(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    set_active(&console, request, false).await
}

/// `POST operator/v1/users/{id}/enable/`.
async fn enable(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    set_active(&console, request, true).await
}

async fn set_active(console: &Console, request: Request<ByOperator, Fields>, active: bool) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<UserSetActive>(&context).await?;
    let id = UserId(context.id("id")?);
    let text = fields.required("reason", REASON);
    let text = fields.all(text)?;
    let reason = Reason::new(&text).map_err(|error| Failure::field("reason", error.to_string()))?;
    match console.desk.user_set_active(&permit, id, active, &reason).await {
        Ok(user) => Ok(Reply::json(StatusCode::OK, &user_json(&user))),
        Err(UserActError::NoAccount) => Err(not_found()),
        Err(error @ (UserActError::Protected | UserActError::Own)) => {
            let text = crate::reply::sentence(&error);
            Err(Failure::detail(StatusCode::FORBIDDEN, "account_protected", text))
        }
        Err(UserActError::Store(error)) => Err(failed(&context, &error)),
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
