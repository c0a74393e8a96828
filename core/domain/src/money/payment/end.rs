//! Reasons why a payment ended without money: a closed list, and the texts in its record.
//!
//! The text is part of the API (`reason` of a payment) and of stored records, so a variant's text never changes.

use super::gateway::GatewayError;

/// Characters of a stored reason.
const TEXT_CHARS_MAX: usize = 64;
/// Characters of a field's name in [`EndReason::Mismatch`].
const FIELD_CHARS_MAX: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndReason {
    /// The gateway refused to begin it. Holds the gateway's code.
    Refused(String),
    /// The gateway refused the account at creation. Holds the gateway's code.
    Unauthorized(String),
    /// The gateway was unreachable at creation.
    Unavailable,
    /// The gateway limited requests at creation.
    Throttled,
    /// The gateway's answer at creation was missing or unreadable.
    Unanswered,
    /// The process stopped before the gateway answered.
    Interrupted,
    NotPaid,
    Cancelled,
    /// The gateway itself reports a final failure. Holds the gateway's code.
    Failed(String),
    /// The gateway returned the money by itself, because the payment was not confirmed in time.
    Returned,
    /// The gateway confirmed another value. Holds the name of the differing field.
    Mismatch(String),
}

impl EndReason {
    /// The reason for a payment that its gateway did not take.
    #[must_use]
    pub fn of(error: &GatewayError) -> EndReason {
        match error {
            GatewayError::Refused(reason) => EndReason::Refused(reason.code.clone()),
            GatewayError::Unauthorized(reason) => EndReason::Unauthorized(reason.code.clone()),
            GatewayError::Throttled(_) => EndReason::Throttled,
            GatewayError::Unavailable(_) => EndReason::Unavailable,
            GatewayError::Unknown(_) => EndReason::Unanswered,
        }
    }

    /// A mismatch in the field that a plugin names. Keeps ASCII letters, digits, `-` and `_` of the name.
    #[must_use]
    pub fn mismatch(field: &str) -> EndReason {
        EndReason::Mismatch(word(field))
    }

    /// A final failure with the gateway's code. Keeps ASCII letters, digits, `-` and `_` of the code.
    #[must_use]
    pub fn failed(code: &str) -> EndReason {
        EndReason::Failed(word(code))
    }

    /// The text for the record, at most 64 characters.
    #[must_use]
    pub fn text(&self) -> String {
        let text = match self {
            EndReason::Refused(code) => format!("refused:{code}"),
            EndReason::Unauthorized(code) => format!("unauthorized:{code}"),
            EndReason::Unavailable => "unavailable".to_owned(),
            EndReason::Throttled => "throttled".to_owned(),
            EndReason::Unanswered => "unanswered".to_owned(),
            EndReason::Interrupted => "interrupted".to_owned(),
            EndReason::NotPaid => "not_paid".to_owned(),
            EndReason::Cancelled => "cancelled".to_owned(),
            EndReason::Failed(code) => format!("failed:{code}"),
            EndReason::Returned => "returned".to_owned(),
            EndReason::Mismatch(field) => format!("mismatch:{field}"),
        };
        text.chars().take(TEXT_CHARS_MAX).collect()
    }
}

/// A plugin's word as part of a stored reason.
fn word(text: &str) -> String {
    let fits = |character: &char| character.is_ascii_alphanumeric() || "-_".contains(*character);
    text.chars().filter(fits).take(FIELD_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_text() {
        let code = || "-9".to_owned();
        for (reason, text) in [
            (EndReason::Refused(code()), "refused:-9"),
            (EndReason::Unauthorized(code()), "unauthorized:-9"),
            (EndReason::Unavailable, "unavailable"),
            (EndReason::Throttled, "throttled"),
            (EndReason::Unanswered, "unanswered"),
            (EndReason::Interrupted, "interrupted"),
            (EndReason::NotPaid, "not_paid"),
            (EndReason::Cancelled, "cancelled"),
            (EndReason::Returned, "returned"),
            (EndReason::mismatch("am ount!"), "mismatch:amount"),
            (EndReason::failed("REVERSED:\n"), "failed:REVERSED"),
        ] {
            assert_eq!(reason.text(), text);
        }
    }

    #[test]
    fn a_stored_text_is_bounded() {
        assert_eq!(EndReason::Refused("x".repeat(100)).text().chars().count(), TEXT_CHARS_MAX);
        assert_eq!(EndReason::mismatch(&"f".repeat(100)), EndReason::Mismatch("f".repeat(FIELD_CHARS_MAX)));
    }
}
