//! Result codes of the older interfaces, and delivery codes of all.
//!
//! `rest` and `soap` answer a send with one text per recipient: a message id or a code. What tells them apart is
//! the length, because `RetStatus` is 1 in either case. The case of the error decides what the gateway does:
//! `invalid-recipient` and `invalid-message` are final, `throttled` and `unavailable` are tried again, the others
//! go to the next provider.
//!
//! Source: the provider's page of status codes and its official clients; the class of a code is this project's
//! own reading.

use chelseru_plugin_sdk::sms::{Accepted, State};
use chelseru_plugin_sdk::{Error, number};

/// Digits of a message id, at least. Sources say 10 or 15; codes have up to three.
const ID_DIGITS_MIN: usize = 10;

/// What one result says.
pub(crate) fn outcome(result: &str) -> Result<Accepted, Error> {
    let result = number::fold_digits(result.trim());
    if result.len() >= ID_DIGITS_MIN && result.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(accepted(&result));
    }
    let code =
        result.parse().map_err(|_| Error::unknown_outcome("a result that is neither an id nor a code"))?;
    Err(error(code))
}

/// Whether a result is a code that refuses, and so certainly no message id.
pub(crate) fn is_code(result: &str) -> bool {
    let refuses = |error: &Error| !matches!(error, Error::UnknownOutcome(_));
    outcome(result).as_ref().is_err_and(refuses)
}

pub(crate) fn accepted(id: &str) -> Accepted {
    Accepted { message_id: id.to_owned(), duplicate: false, cost_rial: None }
}

fn error(code: i64) -> Error {
    match code {
        0 => Error::unauthorized(code, "wrong user or password"),
        // Old methods answered a bare 1 for success; the ones used here promise an id.
        1 => Error::unknown_outcome("success without a message id"),
        2 => Error::insufficient_credit(code, "no credit"),
        3 => Error::rejected(code, "daily limit"),
        4 => Error::rejected(code, "volume limit"),
        5 => Error::rejected(code, "sender line is invalid"),
        6 => Error::unavailable("6 system is being updated"),
        7 => Error::invalid_message(code, "filtered word"),
        9 => Error::rejected(code, "public lines cannot send by web service"),
        10 => Error::unauthorized(code, "account is not active"),
        11 => Error::unavailable("11 not sent"),
        12 => Error::unauthorized(code, "account's papers are incomplete"),
        // One client says 13, the others 14.
        13 | 14 => Error::invalid_message(code, "text has a link"),
        15 => Error::invalid_message(code, "several recipients need the opt-out word at the end"),
        16 => Error::invalid_recipient(code, "no recipient"),
        17 => Error::invalid_message(code, "text is empty"),
        18 => Error::invalid_recipient(code, "recipient is invalid"),
        19 => Error::Throttled(None),
        35 => Error::invalid_recipient(code, "recipient is on the carrier's blacklist"),
        -1 => Error::unauthorized(code, "web service access is off"),
        -2 => Error::invalid_message(code, "one number per call"),
        -3 => Error::rejected(code, "line is not defined"),
        -4 => Error::invalid_template(code, "template is unknown or not approved"),
        -5 => Error::invalid_message(code, "values do not match the template"),
        -6 => Error::unavailable("-6 internal error"),
        -7 => Error::rejected(code, "sender error"),
        -10 => Error::invalid_message(code, "link in a value"),
        -108 => Error::unauthorized(code, "address is blocked after failures"),
        -109 => Error::unauthorized(code, "no allowed address is set"),
        -110 => Error::unauthorized(code, "ApiKey must be used as password"),
        -111 => Error::unauthorized(code, "address is not allowed"),
        _ => Error::rejected(code, "code in no source"),
    }
}

/// The state a delivery code stands for.
pub(crate) fn delivery(code: i64) -> State {
    match code {
        1 => State::Delivered,
        // Not delivered, carrier error, did not reach the carrier, blacklist, filtered, rejected.
        2 | 3 | 16 | 35 | 300 | 500 => State::Failed,
        // With the carrier (0, 8), sent (200), and an error that may pass (5).
        0 | 5 | 8 | 200 => State::Sent,
        // In the send list.
        400 => State::Queued,
        // 100 "unknown" and what no source names.
        _ => State::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each documented code, its class in the provider's table, and our case.
    const TABLE: &[(i64, &str, &str)] = &[
        (0, "fail over", "Unauthorized"),
        (2, "fail over", "InsufficientCredit"),
        (3, "fail over", "Rejected"),
        (4, "fail over", "Rejected"),
        (5, "fail over", "Rejected"),
        (6, "retry", "Unavailable"),
        (7, "final", "InvalidMessage"),
        (9, "fail over", "Rejected"),
        (10, "fail over", "Unauthorized"),
        (11, "retry", "Unavailable"),
        (12, "fail over", "Unauthorized"),
        (13, "final", "InvalidMessage"),
        (14, "final", "InvalidMessage"),
        (15, "final", "InvalidMessage"),
        (16, "final", "InvalidRecipient"),
        (17, "final", "InvalidMessage"),
        (18, "final", "InvalidRecipient"),
        (19, "retry", "Throttled"),
        (35, "final", "InvalidRecipient"),
        (-1, "fail over", "Unauthorized"),
        (-2, "final", "InvalidMessage"),
        (-3, "fail over", "Rejected"),
        (-4, "fail over", "InvalidTemplate"),
        (-5, "final", "InvalidMessage"),
        (-6, "retry", "Unavailable"),
        (-7, "fail over", "Rejected"),
        (-10, "final", "InvalidMessage"),
        (-108, "fail over", "Unauthorized"),
        (-109, "fail over", "Unauthorized"),
        (-110, "fail over", "Unauthorized"),
        (-111, "fail over", "Unauthorized"),
        // In no table.
        (8, "fail over", "Rejected"),
        (999, "fail over", "Rejected"),
    ];

    #[test]
    fn each_documented_code_is_its_typed_error() {
        for (code, class, case) in TABLE {
            let error = outcome(&code.to_string()).expect_err("a code");
            let expected = match error {
                Error::InvalidRecipient(_) | Error::InvalidMessage(_) => "final",
                Error::Throttled(_) | Error::Unavailable(_) => "retry",
                Error::UnknownOutcome(_) | Error::Misconfigured(_) => "unclear",
                _ => "fail over",
            };
            assert_eq!(*class, expected, "{code}: {error:?}");
            assert!(format!("{error:?}").starts_with(&format!("Error::{case}")), "{code}: {error:?}");
        }
    }

    #[test]
    fn only_ten_digits_or_more_are_an_id() {
        for id in ["5461268677656004204", "1234567890", " ۵۴۶۱۲۶۸۶۷۷ "] {
            let expected = number::fold_digits(id.trim()).into_owned();
            assert_eq!(outcome(id).map(|accepted| accepted.message_id), Ok(expected));
        }
        assert!(
            matches!(outcome("123456789"), Err(Error::Rejected(_))),
            "nine digits are a code of no source"
        );
        for unclear in ["1", "", "ok", "InvalidUser", "<html>", "-", "1.5", "5461268677656004204x"] {
            assert!(matches!(outcome(unclear), Err(Error::UnknownOutcome(_))), "{unclear}");
        }
    }

    #[test]
    fn each_documented_delivery_code_is_its_state() {
        for (code, state) in [
            (0, State::Sent),
            (1, State::Delivered),
            (2, State::Failed),
            (3, State::Failed),
            (5, State::Sent),
            (8, State::Sent),
            (16, State::Failed),
            (35, State::Failed),
            (100, State::Unknown),
            (200, State::Sent),
            (300, State::Failed),
            (400, State::Queued),
            (500, State::Failed),
            (77, State::Unknown),
        ] {
            assert_eq!(delivery(code), state, "{code}");
        }
    }
}
