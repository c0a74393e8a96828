//! `otp/send/` and `authenticate/`: login by a code.

use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::login::identity::AuthenticateError;
use chelseru_domain::login::method::ByCode;
use chelseru_domain::login::otp::{Purpose, SendError};
use chelseru_domain::operator::audit::{AuditEvent, AuditKind};
use chelseru_domain::phone::PhoneNumber;
use chelseru_domain::sms::Disposition;
use chelseru_domain::sms::shield::Admission;
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::failure::{log_send_error, send_failure};
use super::input::{
    DEVICE_NAME, MOBILE_NUMBER, NUMBER, TOKENS, group_or_refuse, mobile_number, named_client, pass_shield,
};
use super::{DETACHED_MAX, Login};
use crate::fields::Fields;
use crate::reply::{Failure, Reply, sentence, whole_seconds};
use crate::request::{Access, Context, Open, Request};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/otp/send/",
        name: "Otp Code Send",
        access: Access::Open,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "otp_send",
            call: call!(otp_send),
            about: About {
                summary: "Send a code to a number",
                parameters: &[],
                fields: &[MOBILE_NUMBER],
                answers: &[
                    (200, "Details"),
                    (403, "This login method is disabled."),
                    (409, "A code is pending; see Retry-After."),
                    (429, "Too many codes for this number, for this address, or in total."),
                    (502, "The provider refused."),
                ],
            },
        }],
    },
    Route {
        path: "/authenticate/",
        name: "Authentication",
        access: Access::Open,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "authenticate",
            call: call!(authenticate),
            about: About {
                summary: "Log in by code; the first login creates the account",
                parameters: &[],
                fields: &[
                    MOBILE_NUMBER,
                    Field("code", Is::Text, "The code, as a text or a number."),
                    Field("group", Is::MayText, "A number that the configuration allows; 0 when absent."),
                    DEVICE_NAME,
                ],
                answers: TOKENS,
            },
        }],
    },
];

/// `POST otp/send/`. The work continues when the client disconnects, because a sent code must stay valid.
async fn otp_send(login: Arc<Login>, request: Request<Open, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let by = login.methods.by_code()?;
    let number = mobile_number(&mut fields, NUMBER);
    let number = fields.all(number)?;
    // A number with a pending code gets the original's 409 from the domain, which sends nothing. So the caps do not
    // apply.
    if !login.otp.is_pending(Purpose::Login, &number, context.client).await.unwrap_or(false) {
        let admission = pass_shield(&login, &context, &number).await?;
        if let Admission::AccountsOnly { account, retry_after, .. } = admission {
            return send_alike(&login, by, context, number, account, retry_after);
        }
    }
    let (id, from, tasks) = (context.id, context.client, login.detached.clone());
    let ip = Some(from);
    let sent = tasks.spawn(async move {
        let sent = login.otp.send(by, &number, from, login.sms.as_ref()).await;
        let event = |kind| AuditEvent::new(kind).ip(ip).subject(&number);
        let audit = login.identity.audit();
        match &sent {
            Ok(sent) => {
                audit.record(event(AuditKind::OtpSent).detail(format!("by {}", sent.provider)));
            }
            // Nothing happened: a code is pending.
            Err(SendError::Pending { .. }) => {}
            Err(error) => {
                if let SendError::Sms(cause) = error
                    && cause.disposition() != Disposition::Unknown
                {
                    login.shield.not_sent(&number);
                }
                audit.record(event(AuditKind::OtpSendFailed));
                log_send_error(&id, &number, error);
            }
        }
        sent
    });
    match sent.await {
        Ok(Ok(_)) => Ok(Reply::json(StatusCode::OK, &json!({"details": "The OTP code was sent correctly."}))),
        Ok(Err(error)) => Err(send_failure(&error)),
        Err(_) => Err(Failure::internal()),
    }
}

/// Answers the same for every number while the shield sends codes to numbers with an account only. The reply waits for
/// nothing, so that neither its time nor a provider's failure tells whether a code was sent.
fn send_alike(
    login: &Arc<Login>,
    by: ByCode,
    context: Context,
    number: PhoneNumber,
    account: bool,
    retry_after: Duration,
) -> Answer {
    if login.detached.len() >= DETACHED_MAX {
        let text = "Too many requests are in progress. Please try again.";
        return Err(Failure::detail(StatusCode::SERVICE_UNAVAILABLE, "busy", text).retry_after(1));
    }
    // Another code to this number has to wait for this one, as after a code that was sent.
    let seconds = whole_seconds(retry_after.max(login.otp.rules().resend_gap()));
    let login = Arc::clone(login);
    let tasks = login.detached.clone();
    tasks.spawn(async move {
        let from = context.client;
        let event = |kind| AuditEvent::new(kind).ip(Some(from)).subject(&number);
        let event = match login.otp.send_alike(by, &number, account, from, login.sms.as_ref()).await {
            Ok(Some(sent)) => event(AuditKind::OtpSent).detail(format!("by {}", sent.provider)),
            Ok(None) => event(AuditKind::OtpSendFailed).detail("codes go to accounts only"),
            // Nothing happened: a code is pending.
            Err(SendError::Pending { .. }) => return,
            Err(error) => {
                log_send_error(&context.id, &number, &error);
                event(AuditKind::OtpSendFailed)
            }
        };
        login.identity.audit().record(event);
    });
    let text = format!(
        "If this number has an account, a code was sent to it. New accounts can be created in {seconds} seconds."
    );
    Ok(Reply::json(StatusCode::OK, &json!({"details": text})).with(header::RETRY_AFTER, seconds.into()))
}

/// `POST authenticate/`.
async fn authenticate(login: Arc<Login>, request: Request<Open, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let by = login.methods.by_code()?;
    let number = mobile_number(&mut fields, NUMBER);
    let code = code(&mut fields, login.otp_length.into());
    let group = group_or_refuse(&mut fields);
    let client = named_client(&context, &mut fields);
    let (number, code) = fields.all((number, code))?;
    let result = login.identity.authenticate(by, &number, &code, group, client).await;
    login.count(result.is_ok());
    match result {
        Ok(tokens) => {
            login.shield.verified(&number, login.clock.now());
            let body = json!({"access": tokens.access, "refresh": tokens.refresh});
            Ok(Reply::json(StatusCode::OK, &body))
        }
        Err(error) => Err(authenticate_failure(&context.id, error)),
    }
}

/// A code that is no text or number is a wrong code, as in the original; only a missing one is a field error.
fn code(fields: &mut Fields, length: usize) -> Option<String> {
    match fields.value("code") {
        None => {
            fields.refuse("code", "This field is required.");
            None
        }
        Some(Value::String(text)) => Some(text.trim().to_owned()),
        // A JSON number has lost its leading zeros.
        Some(Value::Number(number)) => Some(format!("{:0>length$}", number.to_string())),
        Some(_) => Some(String::new()),
    }
}

fn authenticate_failure(request_id: &str, error: AuthenticateError) -> Failure {
    match error {
        AuthenticateError::WrongCode | AuthenticateError::UserInactive => Failure::error(
            StatusCode::UNAUTHORIZED,
            "otp_wrong",
            "The code sent to this mobile number was not found.",
        ),
        AuthenticateError::GroupClosed => Failure::field("group", sentence(&error)),
        AuthenticateError::Store(_) | AuthenticateError::Randomness(_) => {
            tracing::error!(request.id = %request_id, %error, "login failed");
            Failure::internal()
        }
    }
}
