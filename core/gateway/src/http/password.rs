//! `register/`, `login/` and `password/...`: between fields and the domain.
//!
//! All of it exists only with `PASSWD` among `auth.method`; without, it answers 403 with `auth_method_disabled`.
//! A password is taken as it was typed, white space and all. The answer to `password/reset/send/` is given before
//! anything was looked up, and the work goes on without the client, so that neither words nor time tell whether a
//! number has an account.

use chelseru_domain::account::{EMAIL_CHARS_MAX, USERNAME_CHARS_MAX, email_fits, username_check};
use chelseru_domain::audit::{AuditEvent, AuditKind};
use chelseru_domain::identity::{PasswordError, RegisterError};
use chelseru_domain::otp::SendError;
use chelseru_domain::password::{HashError, Password};
use http::StatusCode;
use serde_json::json;

use super::Context;
use super::auth::{NUMBER, client_info, group_or_refuse, log_send_error, mobile_number, pass_shield};
use super::fields::{Fields, Text};
use super::reply::{Failure, Reply};
use crate::config::AuthMethod;

const USERNAME: Text = Text { chars_max: USERNAME_CHARS_MAX };
const EMAIL: Text = Text { chars_max: EMAIL_CHARS_MAX };
const CODE: Text = Text { chars_max: 32 };

/// Messages on their way at once before no further one is begun without its client waiting for it.
const DETACHED_MAX: usize = 1000;

/// `POST register/`.
pub(crate) async fn register(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    require_method(&context, AuthMethod::Password)?;
    let username = fields.required("username", USERNAME);
    let password = fields.required_as_typed("password");
    let password2 = fields.required_as_typed("password2");
    let email = email(&mut fields).unwrap_or_default();
    if let Some(Err(fault)) = username.as_deref().map(username_check) {
        fields.refuse("username", fault.to_string());
    }
    fields.finish()?;
    let (Some(username), Some(password), Some(password2)) = (username, password, password2) else {
        return Err(Failure::internal());
    };
    if password != password2 {
        return Err(Failure::field("password", "رمز عبور و تکرار آن یکسان نیستند."));
    }
    let ip = Some(context.client_ip());
    match context.live.identity.register(&username, &Password::new(password), &email, ip).await {
        Ok(user) => {
            Ok(Reply::json(StatusCode::CREATED, &json!({"username": user.username, "email": user.email})))
        }
        Err(RegisterError::Username(fault)) => Err(Failure::field("username", fault.to_string())),
        Err(RegisterError::Password(faults)) => Err(faults_failure("password", &faults)),
        Err(RegisterError::Hash(error)) => Err(hash_failure(&context, &error)),
        Err(RegisterError::Store(error)) => Err(internal(&context, &error)),
    }
}

/// `POST login/`.
pub(crate) async fn login(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    require_method(&context, AuthMethod::Password)?;
    let username = fields.required("username", Text { chars_max: 1024 });
    let password = fields.required_as_typed("password");
    fields.finish()?;
    let (Some(username), Some(password)) = (username, password) else { return Err(Failure::internal()) };
    let identity = &context.live.identity;
    let result = identity.login(&username, &Password::new(password), client_info(&context)).await;
    context.app.metrics.login(result.is_ok());
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

/// `POST password/change/`: needs the old password; ends the other sessions.
pub(crate) async fn change(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    require_method(&context, AuthMethod::Password)?;
    let old = fields.required_as_typed("old_password");
    let new = fields.required_as_typed("new_password");
    fields.finish()?;
    let (Some(old), Some(new)) = (old, new) else { return Err(Failure::internal()) };
    let (old, new) = (Password::new(old), Password::new(new));
    let ip = Some(context.client_ip());
    match context.live.identity.password_change(context.user()?, &old, &new, ip).await {
        Ok(ended) => {
            Ok(Reply::json(StatusCode::OK, &json!({"details": "The password was changed.", "ended": ended})))
        }
        Err(error) => Err(password_failure(&context, error, || {
            let text = "Your old password was entered incorrectly. Please enter it again.";
            Failure::field("old_password", text)
        })),
    }
}

/// `POST password/reset/send/`: a code for `password/reset/`, when the number has an account.
pub(crate) async fn reset_send(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    require_method(&context, AuthMethod::Password)?;
    let number = mobile_number(&mut fields, NUMBER);
    let group = group_or_refuse(&mut fields);
    fields.finish()?;
    let number = number.ok_or_else(Failure::internal)?;
    // Whether the number has an account or not: the caps must not tell.
    pass_shield(&context, &number)?;
    if context.app.detached.len() >= DETACHED_MAX {
        return Err(hash_failure(&context, &HashError::Busy));
    }
    let (request_id, live) = (context.request_id.clone(), context.live.clone());
    let ip = Some(context.client_ip());
    context.app.detached.spawn(async move {
        let sent = live.otp.send_reset(&number, group, live.sms.as_ref()).await;
        let event = |kind| AuditEvent::new(kind).ip(ip).subject(&number);
        let event = match &sent {
            Ok(Some(sent)) => {
                event(AuditKind::OtpSent).detail(format!("to reset a password, by {}", sent.provider))
            }
            Ok(None) => event(AuditKind::OtpSendFailed).detail("to reset a password of no account"),
            // Nothing happened: a code is pending.
            Err(SendError::Pending { .. }) => return,
            Err(error) => {
                log_send_error(&request_id, &number, error);
                event(AuditKind::OtpSendFailed).detail("to reset a password")
            }
        };
        live.identity.audit().record(event);
    });
    let text = "If this number has an account, a code was sent to it.";
    Ok(Reply::json(StatusCode::OK, &json!({"details": text})))
}

/// `POST password/reset/`: sets the password of a number's account by code; ends its sessions.
pub(crate) async fn reset(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    require_method(&context, AuthMethod::Password)?;
    let number = mobile_number(&mut fields, NUMBER);
    let group = group_or_refuse(&mut fields);
    let code = fields.required("code", CODE);
    let new = fields.required_as_typed("new_password");
    fields.finish()?;
    let (Some(number), Some(code), Some(new)) = (number, code, new) else {
        return Err(Failure::internal());
    };
    let identity = &context.live.identity;
    let ip = Some(context.client_ip());
    match identity.password_reset(&number, &code, group, &Password::new(new), ip).await {
        Ok(_) => Ok(Reply::json(StatusCode::OK, &json!({"details": "The password was set."}))),
        Err(error) => Err(password_failure(&context, error, || {
            let text = "The code sent to this mobile number was not found.";
            Failure::error(StatusCode::UNAUTHORIZED, "otp_wrong", text)
        })),
    }
}

/// 403 when the configuration has switched a way to log in off.
pub(crate) fn require_method(context: &Context, method: AuthMethod) -> Result<(), Failure> {
    if context.live.config.auth.method.has(method) {
        return Ok(());
    }
    let text = "Authentication method is not configured correctly.";
    Err(Failure::error(StatusCode::FORBIDDEN, "auth_method_disabled", text))
}

/// An optional mail address; nothing when it is absent, empty when it is empty.
pub(crate) fn email(fields: &mut Fields) -> Option<String> {
    let email = fields.optional("email", EMAIL)?;
    if !email.is_empty() && !email_fits(&email) {
        fields.refuse("email", "Enter a valid email address.");
        return None;
    }
    Some(email)
}

fn password_failure(context: &Context, error: PasswordError, wrong: impl FnOnce() -> Failure) -> Failure {
    match error {
        PasswordError::Wrong => wrong(),
        PasswordError::Waiting { retry_after } => {
            let seconds = (retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0)).max(1);
            let text = format!("Too many attempts. Please wait {seconds} seconds before trying again.");
            Failure::detail(StatusCode::TOO_MANY_REQUESTS, "password_locked", text).retry_after(seconds)
        }
        PasswordError::Faults(faults) => faults_failure("new_password", &faults),
        PasswordError::Hash(error) => hash_failure(context, &error),
        PasswordError::Store(error) => internal(context, &error),
        PasswordError::Randomness(error) => internal(context, &error),
    }
}

fn faults_failure(field: &'static str, faults: &[impl std::fmt::Display]) -> Failure {
    Failure::fields([(field, faults.iter().map(ToString::to_string).collect())].into())
}

fn hash_failure(context: &Context, error: &HashError) -> Failure {
    match error {
        HashError::Busy => {
            let text = "Too many requests are being worked on. Please try again.";
            Failure::detail(StatusCode::SERVICE_UNAVAILABLE, "busy", text).retry_after(1)
        }
        HashError::Randomness(_) | HashError::Failed(_) => internal(context, error),
    }
}

fn internal(context: &Context, error: &dyn std::fmt::Display) -> Failure {
    tracing::error!(request.id = %context.request_id, %error, "a password could not be handled");
    Failure::internal()
}
