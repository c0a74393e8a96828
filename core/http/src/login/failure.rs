//! Status codes of login errors.
//!
//! A wrong, used, burned or expired code and an unknown number get the same answer.

use chelseru_domain::login::otp::SendError;
use chelseru_domain::login::token::TokenError;
use chelseru_domain::phone::PhoneNumber;
use chelseru_domain::sms::{Disposition, SmsError};
use http::StatusCode;
use serde_json::json;

use crate::reply::{Failure, whole_seconds};

/// 401 with the original's texts.
pub(crate) fn token_failure(error: TokenError) -> Failure {
    match error {
        TokenError::Expired => Failure::token("Token is expired"),
        TokenError::WrongType => Failure::token("Token has wrong type"),
        TokenError::Invalid | TokenError::SessionEnded => Failure::token("Token is invalid"),
        error => bare_token_failure(error),
    }
}

/// 401 without the list of attempts, as the token routes of the original's library answer.
pub(crate) fn bare_token_failure(error: TokenError) -> Failure {
    let refused = |code, text| Failure::detail(StatusCode::UNAUTHORIZED, code, text).challenge();
    match error {
        TokenError::Expired => refused("token_not_valid", "Token is expired"),
        TokenError::WrongType => refused("token_not_valid", "Token has wrong type"),
        TokenError::NoUserId => {
            refused("token_not_valid", "Token contained no recognizable user identification")
        }
        TokenError::UserNotFound => refused("user_not_found", "User not found"),
        TokenError::UserInactive => refused("user_inactive", "User is inactive"),
        TokenError::Invalid | TokenError::SessionEnded => refused("token_not_valid", "Token is invalid"),
        TokenError::Store => Failure::internal(),
    }
}

pub(crate) fn send_failure(error: &SendError) -> Failure {
    match error {
        SendError::Pending { retry_after } => {
            let seconds = whole_seconds(*retry_after);
            let text = format!(
                "An OTP code has already been sent. Please wait {seconds} seconds before trying again."
            );
            Failure::details(StatusCode::CONFLICT, "otp_pending", text).retry_after(seconds)
        }
        SendError::Sms(error) => sms_failure(error),
        SendError::Store(_) | SendError::Randomness(_) => Failure::internal(),
    }
}

/// Translates a provider's failure for the client: refused, unreachable, or unknown outcome. The provider's own text
/// stays in the log.
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
