//! Typed errors: short constructors for the cases of `types.error`, and the cleaning of their texts.
//!
//! The case decides what the gateway does next (try another provider, wait, stop, ask a person); the text only
//! reaches the log. Every text made here is cut to [`LOG_TEXT_CHARS_MAX`] characters and each run of four or
//! more digits in it becomes `#`, so that a provider that quotes a phone number or a one-time code in its
//! message does not put it into the operator's log.
//!
//! Not here: how a failed HTTP exchange becomes an error (see [`crate::http`]).

use crate::{Error, Rejection, number};

/// Characters of a provider's message that are kept for the log. Our own choice: providers' messages are one
/// sentence; a longer one is a page that was not meant for us.
pub const LOG_TEXT_CHARS_MAX: usize = 200;

/// Runs of at least this many digits are hidden in log texts; one-time codes have four or more.
const DIGITS_HIDDEN_MIN: usize = 4;

impl Rejection {
    /// A provider's refusal: its code, and its message cleaned for the log.
    pub fn new(code: impl ToString, text: &str) -> Self {
        Self { code: code.to_string(), text: log_text(text), field: None }
    }

    /// Names the field of the request that the provider refuses. An empty name is none.
    pub fn field(self, name: &str) -> Self {
        let name = log_text(name.trim());
        Self { field: Some(name).filter(|name| !name.is_empty()), ..self }
    }
}

impl Error {
    /// The recipient cannot be reached by this provider. Final.
    pub fn invalid_recipient(code: impl ToString, text: &str) -> Self {
        Self::InvalidRecipient(Rejection::new(code, text))
    }

    /// The text, its length or a template value is refused. Final.
    pub fn invalid_message(code: impl ToString, text: &str) -> Self {
        Self::InvalidMessage(Rejection::new(code, text))
    }

    /// The provider does not know or has not approved the template. Final.
    pub fn invalid_template(code: impl ToString, text: &str) -> Self {
        Self::InvalidTemplate(Rejection::new(code, text))
    }

    /// Credentials, permissions or the account are refused. Another provider may work.
    pub fn unauthorized(code: impl ToString, text: &str) -> Self {
        Self::Unauthorized(Rejection::new(code, text))
    }

    /// No credit left. Another provider may work.
    pub fn insufficient_credit(code: impl ToString, text: &str) -> Self {
        Self::InsufficientCredit(Rejection::new(code, text))
    }

    /// Any other refusal; nothing was done.
    pub fn rejected(code: impl ToString, text: &str) -> Self {
        Self::Rejected(Rejection::new(code, text))
    }

    /// [`Self::rejected`] for one field of the request.
    pub fn rejected_field(code: impl ToString, text: &str, field: &str) -> Self {
        Self::Rejected(Rejection::new(code, text).field(field))
    }

    /// The provider cannot serve now; nothing was done.
    pub fn unavailable(text: &str) -> Self {
        Self::Unavailable(log_text(text))
    }

    /// It may or may not have been done.
    pub fn unknown_outcome(text: &str) -> Self {
        Self::UnknownOutcome(log_text(text))
    }

    /// A setting is unusable.
    pub fn misconfigured(text: &str) -> Self {
        Self::Misconfigured(log_text(text))
    }
}

/// The text as it may be logged: at most [`LOG_TEXT_CHARS_MAX`] characters, control characters as spaces, runs
/// of four or more digits (Latin, Persian, Arabic) as one `#`.
pub fn log_text(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len().min(2 * LOG_TEXT_CHARS_MAX));
    let mut characters = 0;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if characters == LOG_TEXT_CHARS_MAX {
            cleaned.push('…');
            break;
        }
        let digits_end = rest.find(|c| number::digit(c).is_none()).unwrap_or(rest.len());
        let (run, after) = rest.split_at(digits_end);
        if run.chars().take(DIGITS_HIDDEN_MIN).count() == DIGITS_HIDDEN_MIN {
            cleaned.push('#');
            rest = after;
        } else {
            cleaned.push(if first.is_control() { ' ' } else { first });
            rest = &rest[first.len_utf8()..];
        }
        characters += 1;
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_numbers_are_hidden_in_log_texts() {
        assert_eq!(log_text("code 4829 to 09121234567, 418"), "code # to #, 418");
        assert_eq!(log_text("کد ۴۸۲۹۱۳ و ٤٢٣٤"), "کد # و #");
        assert_eq!(log_text("123 12 1"), "123 12 1");
    }

    #[test]
    fn a_refused_field_is_named_when_there_is_one() {
        assert_eq!(Rejection::new(-9, "m").field(" amount ").field.as_deref(), Some("amount"));
        assert_eq!(Rejection::new(-9, "m").field(" ").field, None);
        assert_eq!(Rejection::new(-9, "m").field("09121234567").field.as_deref(), Some("#"));
    }

    #[test]
    fn log_texts_end_at_the_limit() {
        let at = "ک".repeat(LOG_TEXT_CHARS_MAX);
        assert_eq!(log_text(&at), at);
        let over = "ک".repeat(LOG_TEXT_CHARS_MAX + 1);
        assert_eq!(log_text(&over), format!("{at}…"));
        assert_eq!(log_text("a\nb\u{7}c"), "a b c");
    }

    #[test]
    fn a_short_run_that_is_the_tail_of_a_long_one_does_not_escape() {
        assert_eq!(log_text("x1234567890"), "x#");
        assert_eq!(log_text("123"), "123");
    }
}
