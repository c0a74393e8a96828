//! `me/mobile/send/` and `me/mobile/`: an account without a phone number gets one.
//!
//! Both replies are the same whether or not another account has the number. Only the right code, which the number's
//! owner has, is answered `number_taken`.

use std::sync::Arc;

use chelseru_domain::login::identity::{AddNumberError, Caller, PasswordError};
use chelseru_domain::login::otp::{Purpose, SendError};
use chelseru_domain::login::password::Password;
use chelseru_domain::operator::audit::{AuditEvent, AuditKind};
use chelseru_domain::sms::Disposition;
use http::StatusCode;
use serde_json::json;

use super::Login;
use super::failure::{log_send_error, send_failure};
use super::input::{MOBILE_NUMBER, NUMBER, mobile_number, pass_shield_as_stranger};
use super::me::account_json;
use super::password::password_failure;
use crate::fields::{Fields, Text};
use crate::reply::{Failure, Reply};
use crate::request::{Access, Context, Request};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/me/mobile/send/",
        name: "Me Mobile Code Send",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "me_mobile_send",
            call: call!(send),
            about: About {
                summary: "Send a code to the number that the caller's account is to get",
                parameters: &[],
                fields: &[MOBILE_NUMBER],
                answers: &[
                    (200, "Details"),
                    (409, "The account has a number, or a code is pending; see `code`."),
                    (429, "Too many codes for this number, for this address, or in total."),
                    (502, "The provider refused."),
                ],
            },
        }],
    },
    Route {
        path: "/me/mobile/",
        name: "Me Mobile",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "me_mobile",
            call: call!(add),
            about: About {
                summary: "Add a phone number to the caller's account, which has none",
                parameters: &[],
                fields: &[
                    MOBILE_NUMBER,
                    Field("code", Is::Text, "The code of me/mobile/send/."),
                    Field("password", Is::MayText, "The account's password; required when it has one."),
                ],
                answers: &[
                    (200, "Account"),
                    (401, "Wrong code."),
                    (409, "The account has a number, or another account has this one; see `code`."),
                    (429, "Too many wrong passwords."),
                ],
            },
        }],
    },
];

const CODE: Text = Text { chars_max: 32 };

/// `POST me/mobile/send/`. The work continues when the client disconnects, because a sent code must stay valid.
async fn send(login: Arc<Login>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let number = mobile_number(&mut fields, NUMBER);
    let number = fields.all(number)?;
    let me = login.identity.me(&caller).await.map_err(|error| failed(&context, &error))?;
    if me.is_some_and(|me| !me.mobile_number.is_empty()) {
        return Err(has_number());
    }
    let purpose = Purpose::AddNumber(caller.user_id);
    if !login.otp.is_pending(purpose, &number, context.client).await.unwrap_or(false) {
        pass_shield_as_stranger(&login, &context, &number)?;
    }
    let (id, from, tasks) = (context.id, context.client, login.detached.clone());
    let sent = tasks.spawn(async move {
        let sent = login.otp.send_to_add(&number, caller.user_id, from, login.sms.as_ref()).await;
        let event = |kind| AuditEvent::new(kind).user(caller.user_id).ip(Some(from)).subject(&number);
        let event = match &sent {
            Ok(sent) => event(AuditKind::OtpSent).detail(format!("to add a number, by {}", sent.provider)),
            // Nothing happened: a code is pending.
            Err(SendError::Pending { .. }) => return sent,
            Err(error) => {
                if let SendError::Sms(cause) = error
                    && cause.disposition() != Disposition::Unknown
                {
                    login.shield.not_sent(&number);
                }
                log_send_error(&id, &number, error);
                event(AuditKind::OtpSendFailed).detail("to add a number")
            }
        };
        login.identity.audit().record(event);
        sent
    });
    match sent.await {
        Ok(Ok(_)) => Ok(Reply::json(StatusCode::OK, &json!({"details": "The code was sent."}))),
        Ok(Err(error)) => Err(send_failure(&error)),
        Err(_) => Err(Failure::internal()),
    }
}

/// `POST me/mobile/`.
async fn add(login: Arc<Login>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let number = mobile_number(&mut fields, NUMBER);
    let code = fields.required("code", CODE);
    let password = fields.value("password").is_some().then(|| fields.required_as_typed("password"));
    let (number, code) = fields.all((number, code))?;
    let password = password.flatten().map(Password::new);
    let added = login.identity.number_add(&caller, &number, &code, password.as_ref(), Some(context.client));
    match added.await {
        Ok(user) => {
            login.shield.verified(&number, login.clock.now());
            Ok(Reply::json(StatusCode::OK, &account_json(&login, &context, caller, &user).await?))
        }
        Err(AddNumberError::WrongCode) => {
            let text = "The code sent to this mobile number was not found.";
            Err(Failure::error(StatusCode::UNAUTHORIZED, "otp_wrong", text))
        }
        Err(AddNumberError::Taken) => {
            let text = "Another account has this number. Log in to it by code.";
            Err(Failure::error(StatusCode::CONFLICT, "number_taken", text))
        }
        Err(AddNumberError::HasNumber) => Err(has_number()),
        Err(AddNumberError::PasswordMissing) => Err(Failure::field("password", "This field is required.")),
        Err(AddNumberError::Password(PasswordError::Wrong)) => {
            Err(Failure::field("password", "The password is wrong."))
        }
        Err(AddNumberError::Password(error)) => Err(password_failure(&context, error, Failure::internal)),
        Err(AddNumberError::Store(error)) => Err(failed(&context, &error)),
    }
}

fn has_number() -> Failure {
    let text = "This account has a mobile number.";
    Failure::error(StatusCode::CONFLICT, "number_present", text)
}

fn failed(context: &Context, error: &dyn std::fmt::Display) -> Failure {
    tracing::error!(request.id = %context.id, %error, "a number could not be added to an account");
    Failure::internal()
}
