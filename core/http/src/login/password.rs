//! `register/`, `login/` and `password/...`: login by user name and password.
//!
//! All routes need `PASSWD` in `auth.method`; otherwise they answer 403 `auth_method_disabled`. A password is taken
//! as typed, white space included. `password/reset/send/` answers before anything is looked up and continues in the
//! background, so neither text nor time reveals whether a number has an account.

use std::fmt::Display;
use std::sync::Arc;

use chelseru_domain::login::account::{USERNAME_CHARS_MAX, username_check};
use chelseru_domain::login::identity::{Caller, PasswordError, RegisterError};
use chelseru_domain::login::method::ByPassword;
use chelseru_domain::login::otp::SendError;
use chelseru_domain::login::password::{HashError, Password};
use chelseru_domain::operator::audit::{AuditEvent, AuditKind};
use http::StatusCode;
use serde_json::json;

use super::failure::log_send_error;
use super::input::{
    DEVICE_NAME, MOBILE_NUMBER, NUMBER, TOKENS, email, group_or_refuse, mobile_number, named_client,
    pass_shield,
};
use super::{DETACHED_MAX, Login};
use crate::fields::{Fields, Text};
use crate::reply::{Failure, Reply, whole_seconds};
use crate::request::{Access, Context, Request, Tokenless};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/register/",
        name: "Register",
        access: Access::Tokenless,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "register",
            call: call!(register),
            about: About {
                summary: "Create an account with a password",
                parameters: &[],
                fields: &[
                    Field("username", Is::Text, "At most 150 letters, digits and @.+-_"),
                    Field("password", Is::Text, "8 to 128 characters."),
                    Field("password2", Is::Text, "The same password."),
                    Field("email", Is::MayText, "A mail address."),
                ],
                answers: &[(201, "Registered"), (403, "This login method is disabled.")],
            },
        }],
    },
    Route {
        path: "/login/",
        name: "Token Obtain Pair",
        access: Access::Tokenless,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "login",
            call: call!(log_in),
            about: About {
                summary: "Log in by user name and password",
                parameters: &[],
                fields: &[
                    Field("username", Is::Text, "The user name."),
                    Field("password", Is::Text, "The password."),
                    DEVICE_NAME,
                ],
                answers: TOKENS,
            },
        }],
    },
    Route {
        path: "/password/change/",
        name: "Password Change",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "password_change",
            call: call!(change),
            about: About {
                summary: "Change the caller's password and end the other sessions",
                parameters: &[],
                fields: &[
                    Field("old_password", Is::Text, "The current password."),
                    Field("new_password", Is::Text, "8 to 128 characters."),
                ],
                answers: &[(200, "PasswordChanged"), (403, "This login method is disabled.")],
            },
        }],
    },
    Route {
        path: "/password/reset/send/",
        name: "Password Reset Code Send",
        access: Access::Tokenless,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "password_reset_send",
            call: call!(reset_send),
            about: About {
                summary: "Send a code for a new password, if the number has an account",
                parameters: &[],
                fields: &[MOBILE_NUMBER],
                answers: &[(200, "Details"), (403, "This login method is disabled.")],
            },
        }],
    },
    Route {
        path: "/password/reset/",
        name: "Password Reset",
        access: Access::Tokenless,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "password_reset",
            call: call!(reset),
            about: About {
                summary: "Set a password by code or by an operator's token; ends all sessions",
                parameters: &[],
                fields: &[
                    Field("mobile_number", Is::MayText, "The number of the account; not beside `token`."),
                    Field("code", Is::MayText, "The code of password/reset/send/; not beside `token`."),
                    Field("token", Is::MayText, "The token of `chelseru user reset-link`."),
                    Field("new_password", Is::Text, "8 to 128 characters."),
                ],
                answers: &[
                    (200, "Details"),
                    (401, "Wrong code or token."),
                    (403, "This login method is disabled."),
                    (429, "Too many wrong tokens from this address."),
                ],
            },
        }],
    },
];

const USERNAME: Text = Text { chars_max: USERNAME_CHARS_MAX };
const CODE: Text = Text { chars_max: 32 };
const TOKEN: Text = Text { chars_max: 64 };

/// `POST register/`.
async fn register(login: Arc<Login>, request: Request<Tokenless, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let by = login.methods.by_password()?;
    let username = fields.required("username", USERNAME);
    let password = fields.required_as_typed("password");
    let password2 = fields.required_as_typed("password2");
    let email = email(&mut fields).unwrap_or_default();
    if let Some(Err(fault)) = username.as_deref().map(username_check) {
        fields.refuse("username", fault.to_string());
    }
    let (username, password, password2) = fields.all((username, password, password2))?;
    if password != password2 {
        return Err(Failure::field("password", "رمز عبور و تکرار آن یکسان نیستند."));
    }
    let ip = Some(context.client);
    match login.identity.register(by, &username, &Password::new(password), &email, ip).await {
        Ok(user) => {
            Ok(Reply::json(StatusCode::CREATED, &json!({"username": user.username, "email": user.email})))
        }
        Err(RegisterError::Username(fault)) => Err(Failure::field("username", fault.to_string())),
        Err(RegisterError::Password(faults)) => Err(faults_failure("password", &faults)),
        Err(RegisterError::Waiting(exhausted)) => {
            let text = "Too many accounts were created from this address. Please try again later.";
            Err(Failure::detail(StatusCode::TOO_MANY_REQUESTS, "registrations_limited", text)
                .exhausted(exhausted))
        }
        Err(RegisterError::Hash(error)) => Err(hash_failure(&context, &error)),
        Err(RegisterError::Store(error)) => Err(internal(&context, &error)),
    }
}

/// `POST login/`.
async fn log_in(login: Arc<Login>, request: Request<Tokenless, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let by = login.methods.by_password()?;
    let username = fields.required("username", Text { chars_max: 1024 });
    let password = fields.required_as_typed("password");
    let client = named_client(&context, &mut fields);
    let (username, password) = fields.all((username, password))?;
    let result = login.identity.login(by, &username, &Password::new(password), client).await;
    login.count(result.is_ok());
    let wrong = || {
        let text = "No active account found with the given credentials";
        Failure::detail(StatusCode::UNAUTHORIZED, "no_active_account", text).challenge()
    };
    match result {
        Ok(tokens) => {
            let body = json!({"refresh": tokens.refresh, "access": tokens.access});
            Ok(Reply::json(StatusCode::OK, &body))
        }
        Err(error) => Err(password_failure(&context, error, wrong)),
    }
}

/// `POST password/change/`: needs the old password and ends the other sessions.
async fn change(login: Arc<Login>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let by = login.methods.by_password()?;
    let old = fields.required_as_typed("old_password");
    let new = fields.required_as_typed("new_password");
    let (old, new) = fields.all((old, new))?;
    let (old, new) = (Password::new(old), Password::new(new));
    match login.identity.password_change(by, &caller, &old, &new, Some(context.client)).await {
        Ok(ended) => {
            Ok(Reply::json(StatusCode::OK, &json!({"details": "The password was changed.", "ended": ended})))
        }
        Err(error) => Err(password_failure(&context, error, || {
            let text = "Your old password was entered incorrectly. Please enter it again.";
            Failure::field("old_password", text)
        })),
    }
}

/// `POST password/reset/send/`: sends a code for `password/reset/`, if the number has an account.
async fn reset_send(login: Arc<Login>, request: Request<Tokenless, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let by = login.methods.by_password()?;
    let number = mobile_number(&mut fields, NUMBER);
    let group = group_or_refuse(&mut fields);
    let number = fields.all(number)?;
    // The caps count numbers without an account too, so that they reveal nothing. A code goes to accounts only anyway.
    pass_shield(&login, &context, &number).await?;
    if login.detached.len() >= DETACHED_MAX {
        return Err(hash_failure(&context, &HashError::Busy));
    }
    let (id, from, tasks) = (context.id, context.client, login.detached.clone());
    let ip = Some(from);
    tasks.spawn(async move {
        let sent = login.otp.send_reset(by, &number, group, from, login.sms.as_ref()).await;
        let event = |kind| AuditEvent::new(kind).ip(ip).subject(&number);
        let event = match &sent {
            Ok(Some(sent)) => {
                event(AuditKind::OtpSent).detail(format!("to reset a password, by {}", sent.provider))
            }
            Ok(None) => event(AuditKind::OtpSendFailed).detail("to reset a password of no account"),
            // Nothing happened: a code is pending.
            Err(SendError::Pending { .. }) => return,
            Err(error) => {
                log_send_error(&id, &number, error);
                event(AuditKind::OtpSendFailed).detail("to reset a password")
            }
        };
        login.identity.audit().record(event);
    });
    let text = "If this number has an account, a code was sent to it.";
    Ok(Reply::json(StatusCode::OK, &json!({"details": text})))
}

/// `POST password/reset/`: sets the password of a number's account by code, or of any account by an operator's token,
/// and ends its sessions.
async fn reset(login: Arc<Login>, request: Request<Tokenless, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let by = login.methods.by_password()?;
    if fields.value("token").is_some() {
        return reset_by_token(&login, by, &context, fields).await;
    }
    let number = mobile_number(&mut fields, NUMBER);
    let group = group_or_refuse(&mut fields);
    let code = fields.required("code", CODE);
    let new = fields.required_as_typed("new_password");
    let (number, code, new) = fields.all((number, code, new))?;
    let (new, ip) = (Password::new(new), Some(context.client));
    match login.identity.password_reset(by, &number, &code, group, &new, ip).await {
        Ok(_) => Ok(Reply::json(StatusCode::OK, &json!({"details": "The password was set."}))),
        Err(error) => Err(password_failure(&context, error, || {
            let text = "The code sent to this mobile number was not found.";
            Failure::error(StatusCode::UNAUTHORIZED, "otp_wrong", text)
        })),
    }
}

async fn reset_by_token(login: &Login, by: ByPassword, context: &Context, mut fields: Fields) -> Answer {
    let token = fields.required("token", TOKEN);
    let new = fields.required_as_typed("new_password");
    for name in ["mobile_number", "code"] {
        if fields.value(name).is_some() {
            fields.refuse(name, "Send either this field or `token`.");
        }
    }
    let (token, new) = fields.all((token, new))?;
    let (new, ip) = (Password::new(new), Some(context.client));
    match login.identity.password_reset_by_token(by, &token, &new, ip).await {
        Ok(_) => Ok(Reply::json(StatusCode::OK, &json!({"details": "The password was set."}))),
        Err(error) => Err(password_failure(context, error, || {
            let text = "This token is wrong, expired or used.";
            Failure::error(StatusCode::UNAUTHORIZED, "reset_token_wrong", text)
        })),
    }
}

pub(super) fn password_failure(
    context: &Context,
    error: PasswordError,
    wrong: impl FnOnce() -> Failure,
) -> Failure {
    match error {
        PasswordError::Wrong => wrong(),
        PasswordError::Waiting { retry_after } => {
            let seconds = whole_seconds(retry_after);
            let text = format!("Too many attempts. Please wait {seconds} seconds before trying again.");
            Failure::detail(StatusCode::TOO_MANY_REQUESTS, "password_locked", text).retry_after(seconds)
        }
        PasswordError::Faults(faults) => faults_failure("new_password", &faults),
        PasswordError::Hash(error) => hash_failure(context, &error),
        PasswordError::Store(error) => internal(context, &error),
        PasswordError::Randomness(error) => internal(context, &error),
    }
}

fn faults_failure(field: &'static str, faults: &[impl Display]) -> Failure {
    Failure::fields([(field, faults.iter().map(ToString::to_string).collect())].into())
}

fn hash_failure(context: &Context, error: &HashError) -> Failure {
    match error {
        HashError::Busy => {
            let text = "Too many requests are in progress. Please try again.";
            Failure::detail(StatusCode::SERVICE_UNAVAILABLE, "busy", text).retry_after(1)
        }
        HashError::Randomness(_) | HashError::Failed(_) => internal(context, error),
    }
}

fn internal(context: &Context, error: &dyn Display) -> Failure {
    tracing::error!(request.id = %context.id, %error, "a password could not be handled");
    Failure::internal()
}
