//! `otp/send/`, `authenticate/` and `sessions/`: between fields and the domain.
//!
//! Each domain error becomes a status in one function here: [`token_failure`], [`send_failure`],
//! [`authenticate_failure`]. A wrong, used, burned or expired code and an unknown number are one and the same
//! answer.

use chelseru_domain::audit::{AuditEvent, AuditKind};
use chelseru_domain::clock::rest_format;
use chelseru_domain::group::Group;
use chelseru_domain::identity::{AuthenticateError, ClientInfo, SessionView};
use chelseru_domain::operator::Meter;
use chelseru_domain::otp::SendError;
use chelseru_domain::phone::PhoneNumber;
use chelseru_domain::sms::{Disposition, SmsError};
use chelseru_domain::token::TokenError;
use http::{StatusCode, header};
use serde::Serialize;
use serde_json::json;

use super::Context;
use super::fields::{Fields, Text};
use super::password::require_method;
use super::reply::{Failure, Reply};
use crate::config::AuthMethod;

/// Characters of a number as typed: 11 digits, a country prefix, spaces and direction marks.
pub(crate) const NUMBER: Text = Text { chars_max: 32 };

/// `POST otp/send/`. The work goes on when the client goes away: a code that was sent must stay valid.
pub(crate) async fn otp_send(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    require_method(&context, AuthMethod::Otp)?;
    let number = mobile_number(&mut fields, NUMBER);
    fields.finish()?;
    let number = number.ok_or_else(Failure::internal)?;
    // A number with a pending code gets the original's 409 from the domain, which sends nothing and so is no
    // matter of caps on messages.
    if !context.live.otp.is_pending(&number).unwrap_or(false) {
        pass_shield(&context, &number)?;
    }
    let request_id = context.request_id.clone();
    let (app, live) = (context.app.clone(), context.live.clone());
    let ip = Some(context.client_ip());
    let sent = context.app.detached.spawn(async move {
        let sent = live.otp.send(&number, live.sms.as_ref()).await;
        let event = |kind| AuditEvent::new(kind).ip(ip).subject(&number);
        match &sent {
            Ok(sent) => {
                live.identity
                    .audit()
                    .record(event(AuditKind::OtpSent).detail(format!("by {}", sent.provider)));
            }
            // Nothing happened: a code is pending.
            Err(SendError::Pending { .. }) => {}
            Err(error) => {
                if let SendError::Sms(cause) = error
                    && cause.disposition() != Disposition::Unknown
                {
                    app.shield.not_sent(&number);
                }
                live.identity.audit().record(event(AuditKind::OtpSendFailed));
                log_send_error(&request_id, &number, error);
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

/// Asks the shield whether a message may be sent to a number at this client's wish.
pub(crate) fn pass_shield(context: &Context, number: &PhoneNumber) -> Result<(), Failure> {
    let rules = crate::config::rules::shield_rules(&context.live.config);
    let now = context.app.clock.now();
    context.app.shield.admit(&rules, number, context.client_ip(), now).map_err(|refusal| {
        context
            .app
            .metrics
            .counter("chelseru_sms_shield_refusals_total", &[("cap", refusal.cap.as_str())])
            .increment();
        tracing::warn!(
            request.id = %context.request_id, phone = %number, client.ip = %context.client_ip(),
            cap = refusal.cap.as_str(), "code refused by the shield"
        );
        Failure::details(
            StatusCode::TOO_MANY_REQUESTS,
            "sms_limited",
            "Too many codes were asked for. Please try again later.",
        )
        .retry_after(refusal.retry_after.as_secs().max(1))
    })
}

/// `POST authenticate/`.
pub(crate) async fn authenticate(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    require_method(&context, AuthMethod::Otp)?;
    let number = mobile_number(&mut fields, NUMBER);
    // A code that is no text or number is a wrong code, as in the original; only a missing one is an error.
    let code = match fields.value("code") {
        None => {
            fields.refuse("code", "This field is required.");
            None
        }
        Some(serde_json::Value::String(text)) => Some(text.trim().to_owned()),
        // A number has lost the zeros a code may begin with.
        Some(serde_json::Value::Number(number)) => {
            let length = usize::from(context.live.config.auth.otp_length);
            Some(format!("{:0>length$}", number.to_string()))
        }
        Some(_) => Some(String::new()),
    };
    let group = group_or_refuse(&mut fields);
    fields.finish()?;
    let (Some(number), Some(code)) = (number, code) else { return Err(Failure::internal()) };
    let client = client_info(&context);
    let result = context.live.identity.authenticate(&number, &code, group, client).await;
    context.app.metrics.login(result.is_ok());
    match result {
        Ok(tokens) => {
            context.app.shield.verified(&number, context.app.clock.now());
            let body = json!({"access": tokens.access, "refresh": tokens.refresh});
            Ok(Reply::json(StatusCode::OK, &body))
        }
        Err(error) => Err(authenticate_failure(&context.request_id, error)),
    }
}

/// `GET sessions/`: the caller's own, newest first.
pub(crate) fn session_list(context: &Context) -> Result<Reply, Failure> {
    let sessions = context.live.identity.sessions(context.user()?).map_err(|error| {
        tracing::error!(request.id = %context.request_id, %error, "sessions could not be read");
        Failure::internal()
    })?;
    let sessions: Vec<_> = sessions.iter().map(session_json).collect();
    Ok(Reply::json(StatusCode::OK, &sessions))
}

fn session_json(session: &SessionView) -> impl Serialize + '_ {
    #[derive(Serialize)]
    struct Session<'a> {
        id: u64,
        session_key: String,
        user_agent: &'a str,
        ip_address: String,
        device: &'a str,
        browser: &'a str,
        platform: &'a str,
        last_seen: String,
        created_at: String,
        user: u64,
        current: bool,
    }
    Session {
        id: session.id.0,
        session_key: session.session_key.to_string(),
        user_agent: &session.user_agent,
        ip_address: session.ip_address.map(|ip| ip.to_string()).unwrap_or_default(),
        device: &session.agent.device,
        browser: &session.agent.browser,
        platform: &session.agent.platform,
        last_seen: rest_format(session.last_seen),
        created_at: rest_format(session.created_at),
        user: session.user.0,
        current: session.current,
    }
}

/// What is kept of the client that logs in.
pub(crate) fn client_info(context: &Context) -> ClientInfo {
    ClientInfo { ip: Some(context.client_ip()), user_agent: context.header(header::USER_AGENT).to_owned() }
}

pub(crate) fn mobile_number(fields: &mut Fields, rule: Text) -> Option<PhoneNumber> {
    let text = fields.required("mobile_number", rule)?;
    match PhoneNumber::parse(&text) {
        Ok(number) => Some(number),
        Err(error) => {
            fields.refuse("mobile_number", sentence(&format!("{error}")));
            None
        }
    }
}

/// An error's text as a field error: a capital first, a full stop last.
pub(crate) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let stop = if text.ends_with('.') { "" } else { "." };
    format!("{first}{}{stop}", chars.as_str())
}

/// The group a client names; group 0 when it is refused.
pub(crate) fn group_or_refuse(fields: &mut Fields) -> Group {
    group(fields).unwrap_or_else(|text| {
        fields.refuse("group", text);
        Group::default()
    })
}

/// The group a client names: a number or its text; absent or null is group 0.
fn group(fields: &Fields) -> Result<Group, String> {
    use serde_json::Value;
    let text = match fields.value("group") {
        None | Some(Value::Null) => return Ok(Group::default()),
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => String::new(),
    };
    Group::parse(&text).map_err(|error| sentence(&error.to_string()))
}

/// 401 in the words of the original's clients.
pub(crate) fn token_failure(error: TokenError) -> Failure {
    let no_user = |code, text| Failure::detail(StatusCode::UNAUTHORIZED, code, text).challenge();
    match error {
        TokenError::Expired => Failure::token("Token is expired"),
        TokenError::WrongType => Failure::token("Token has wrong type"),
        TokenError::NoUserId => {
            no_user("token_not_valid", "Token contained no recognizable user identification")
        }
        TokenError::UserNotFound => no_user("user_not_found", "User not found"),
        TokenError::UserInactive => no_user("user_inactive", "User is inactive"),
        TokenError::Store => Failure::internal(),
        TokenError::Invalid | TokenError::SessionEnded => Failure::token("Token is invalid"),
    }
}

fn send_failure(error: &SendError) -> Failure {
    match error {
        SendError::Pending { retry_after } => {
            let seconds = (retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0)).max(1);
            let text = format!(
                "An OTP code has already been sent. Please wait {seconds} seconds before trying again."
            );
            Failure::details(StatusCode::CONFLICT, "otp_pending", text).retry_after(seconds)
        }
        SendError::Sms(error) => sms_failure(error),
        SendError::Store(_) | SendError::Randomness(_) => Failure::internal(),
    }
}

/// What a client learns of a provider's failure: that it refused, that it cannot be reached, or that nobody
/// knows. The provider's own words stay in the log.
fn sms_failure(error: &SmsError) -> Failure {
    let refused = |code, provider_code: &str| {
        let details = "The SMS service provider was unable to process the request.";
        let mut data = json!({"details": details});
        let number = provider_code.parse::<i64>();
        if let Ok(number) = number {
            data["errorcode"] = number.into();
        }
        let body = json!({"data": data, "obj_status": number.unwrap_or(502), "status": 502});
        Failure::object(StatusCode::BAD_GATEWAY, code, body)
    };
    let unavailable =
        |code| Failure::error(StatusCode::INTERNAL_SERVER_ERROR, code, "An internal server error occurred.");
    match error {
        SmsError::InvalidRecipient(rejection) => refused("sms_invalid_recipient", &rejection.code),
        SmsError::InvalidMessage(rejection)
        | SmsError::InvalidTemplate(rejection)
        | SmsError::Unauthorized(rejection)
        | SmsError::InsufficientCredit(rejection)
        | SmsError::Rejected(rejection) => refused("sms_refused", &rejection.code),
        SmsError::Throttled(_) => refused("sms_throttled", ""),
        SmsError::UnknownOutcome(_) => Failure::object(
            StatusCode::INTERNAL_SERVER_ERROR,
            "sms_outcome_unknown",
            json!({
                "details": "Invalid response structure.",
                "error": "The SMS service provider gave no usable answer; the message may have been sent.",
            }),
        ),
        SmsError::Busy => unavailable("sms_busy"),
        _ => unavailable("sms_unavailable"),
    }
}

pub(crate) fn log_send_error(request_id: &str, number: &PhoneNumber, error: &SendError) {
    match error {
        SendError::Pending { .. } => {}
        SendError::Sms(cause) if cause.disposition() == Disposition::Final => {
            tracing::warn!(request.id = %request_id, phone = %number, %cause, "code not sent");
        }
        SendError::Sms(cause) => {
            tracing::error!(request.id = %request_id, phone = %number, %cause, "code not sent");
        }
        SendError::Store(_) | SendError::Randomness(_) => {
            tracing::error!(request.id = %request_id, phone = %number, cause = %error, "code not sent");
        }
    }
}

fn authenticate_failure(request_id: &str, error: AuthenticateError) -> Failure {
    match error {
        AuthenticateError::WrongCode | AuthenticateError::UserInactive => Failure::error(
            StatusCode::UNAUTHORIZED,
            "otp_wrong",
            "The code sent to this mobile number was not found.",
        ),
        AuthenticateError::GroupClosed => Failure::field("group", sentence(&error.to_string())),
        AuthenticateError::Store(_) | AuthenticateError::Randomness(_) => {
            tracing::error!(request.id = %request_id, %error, "login failed");
            Failure::internal()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_become_sentences() {
        assert_eq!(sentence("the number is too short"), "The number is too short.");
        assert_eq!(sentence(""), ".");
    }
}
