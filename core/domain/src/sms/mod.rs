//! SMS: the port that sends a message, and the words that both sides share.
//!
//! The errors are those of the provider interface (`wit/v0.1/types.wit`) and two of the host's own. The case decides
//! what happens next: see [`SmsError::disposition`]. Invariant: a message that may have been sent is never blindly sent
//! again. Not here: provider protocols (plugins) and permission to send (the callers). Next: [`route`], the failover
//! over several providers, and [`queue`], which keeps a record of each message.

pub mod credit;
pub mod gate;
mod inbox;
pub mod parts;
pub mod queue;
mod report;
pub mod route;
pub mod shield;

mod ask_credit;
mod carry;
mod record;
pub mod rules;
mod submit;

use std::fmt;
use std::time::{Duration, Instant};

use async_trait::async_trait;
pub use chelseru_store::{
    SmsClass, SmsContent, SmsFilter, SmsOrder, SmsOwner, SmsPage, SmsProgress, SmsRange, SmsRecord,
    SmsReported, SmsStatus, SmsText, SmsTried,
};

pub use inbox::{Inbox, ShownMessage};
pub(crate) use record::body as body_of;
pub use report::{Delivery, ReportDecoder, ReportError};

use crate::PhoneNumber;
use crate::login::account::look_alike;

/// Words of one search in texts; the rest is ignored.
const TEXT_WORDS_MAX: usize = 8;

/// Messages whose text holds all words of this one, as it looks to people; `None` without words.
#[must_use]
pub fn holding(text: &str) -> Option<SmsText> {
    let parts: Vec<String> =
        look_alike(text).split_whitespace().take(TEXT_WORDS_MAX).map(str::to_owned).collect();
    (!parts.is_empty()).then_some(SmsText { parts, folded: look_alike })
}

/// Sends messages by the configured providers.
#[async_trait]
pub trait SmsPort: Send + Sync {
    /// Sends one message to one recipient. Returns at the message's deadline at the latest.
    ///
    /// Cancellation: after a dropped call the message may have been sent.
    ///
    /// # Errors
    ///
    /// See [`SmsError`].
    async fn send(&self, message: SmsMessage) -> Result<SmsReceipt, SmsError>;
}

/// One message to one recipient. `Debug` shows neither number nor content.
#[derive(Clone)]
pub struct SmsMessage {
    pub to: PhoneNumber,
    /// The providers' de-duplication key, 1 to 2^53 - 1. Stays the same across retries and is never reused.
    pub local_id: u64,
    pub body: SmsBody,
    pub class: SmsClass,
    /// No provider is asked after this.
    pub deadline: Instant,
}

#[derive(Clone, PartialEq, Eq)]
pub enum SmsBody {
    Text {
        text: String,
    },
    /// A template by its logical name; each provider has its own id for it.
    Template {
        name: String,
        /// Names and values in the template's order; the code comes first.
        values: Vec<(String, String)>,
        /// Sent as plain text by a provider without this template.
        fallback_text: Option<String>,
    },
}

/// A provider took the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmsReceipt {
    /// The configured name of the provider that took it.
    pub provider: String,
    /// The provider's id of the message, if it gives one.
    pub message_id: Option<String>,
    /// The provider had this message already and does not send it again.
    pub duplicate: bool,
    /// Price in rial, if the provider reports it.
    pub cost_rial: Option<u64>,
}

/// A provider's own refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The provider's code as text.
    pub code: String,
    /// The provider's words, for the log.
    pub text: String,
}

/// Why a message was not sent, or not certainly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SmsError {
    #[error("the provider cannot reach this recipient ({})", .0.code)]
    InvalidRecipient(Rejection),
    #[error("the provider refuses the message ({})", .0.code)]
    InvalidMessage(Rejection),
    /// The provider does not know the template, or has not approved it.
    #[error("the provider refuses the template ({})", .0.code)]
    InvalidTemplate(Rejection),
    #[error("the provider refuses the account ({})", .0.code)]
    Unauthorized(Rejection),
    #[error("the account at the provider has no credit ({})", .0.code)]
    InsufficientCredit(Rejection),
    /// Too many requests. The wait, if the provider names one.
    #[error("the provider limits requests")]
    Throttled(Option<Duration>),
    #[error("the provider was unavailable: {0}")]
    Unavailable(String),
    /// Any other refusal.
    #[error("the provider refused ({})", .0.code)]
    Rejected(Rejection),
    /// The request was sent; the answer is missing or unreadable.
    #[error("whether the message was sent is unknown: {0}")]
    UnknownOutcome(String),
    /// The provider reports its own failure. The message may have been sent.
    #[error("the provider broke down: {0}")]
    BrokeDown(String),
    /// A setting is unusable in a way that only a call shows.
    #[error("the provider's settings are unusable: {0}")]
    Misconfigured(String),
    /// A limit of this gateway was reached. The provider was not asked.
    #[error("too many messages were being sent")]
    Busy,
    /// The provider failed repeatedly and is not asked for a while.
    #[error("the provider failed repeatedly and is not asked for a while")]
    CircuitOpen,
    /// The provider has no id for this template and cannot send the text instead. It was not asked.
    #[error("the provider has no id for this template")]
    NotMapped,
    /// The plugin failed: it trapped, timed out, or gave an invalid answer.
    #[error("the provider's plugin failed: {reason}")]
    PluginFault {
        reason: String,
        /// Whether it had sent a request before.
        request_sent: bool,
    },
}

/// What a failure means for the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Not sent. No other provider would do better.
    Final,
    /// Not sent, or very probably not. Another provider may be asked.
    TryNext,
    /// May have been sent. Not retried.
    Unknown,
}

impl SmsError {
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            SmsError::InvalidRecipient(_) | SmsError::InvalidMessage(_) | SmsError::InvalidTemplate(_) => {
                Disposition::Final
            }
            SmsError::NotMapped
            | SmsError::CircuitOpen
            | SmsError::Unauthorized(_)
            | SmsError::InsufficientCredit(_)
            | SmsError::Throttled(_)
            | SmsError::Unavailable(_)
            | SmsError::BrokeDown(_)
            | SmsError::Rejected(_)
            | SmsError::Misconfigured(_)
            | SmsError::Busy
            | SmsError::PluginFault { request_sent: false, .. } => Disposition::TryNext,
            SmsError::UnknownOutcome(_) | SmsError::PluginFault { request_sent: true, .. } => {
                Disposition::Unknown
            }
        }
    }

    /// Whether a retry a little later can help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            SmsError::Throttled(_)
                | SmsError::Unavailable(_)
                | SmsError::Busy
                | SmsError::CircuitOpen
                | SmsError::PluginFault { request_sent: false, .. }
        )
    }

    /// A stable word, for records, replies and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            SmsError::InvalidRecipient(_) => "invalid_recipient",
            SmsError::InvalidMessage(_) => "invalid_message",
            SmsError::InvalidTemplate(_) => "invalid_template",
            SmsError::NotMapped => "not_mapped",
            SmsError::Unauthorized(_) => "unauthorized",
            SmsError::InsufficientCredit(_) => "insufficient_credit",
            SmsError::Throttled(_) => "throttled",
            SmsError::Unavailable(_) => "unavailable",
            SmsError::Rejected(_) => "rejected",
            SmsError::UnknownOutcome(_) => "unknown_outcome",
            SmsError::BrokeDown(_) => "broke_down",
            SmsError::Misconfigured(_) => "misconfigured",
            SmsError::Busy => "busy",
            SmsError::CircuitOpen => "circuit_open",
            SmsError::PluginFault { .. } => "plugin_fault",
        }
    }

    /// The provider's own refusal, if it is one.
    #[must_use]
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            SmsError::InvalidRecipient(rejection)
            | SmsError::InvalidMessage(rejection)
            | SmsError::InvalidTemplate(rejection)
            | SmsError::Unauthorized(rejection)
            | SmsError::InsufficientCredit(rejection)
            | SmsError::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }
}

impl fmt::Debug for SmsMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmsMessage")
            .field("to", &self.to)
            .field("local_id", &self.local_id)
            .field("body", &self.body)
            .field("class", &self.class)
            .finish_non_exhaustive()
    }
}

/// The content is often a code.
impl fmt::Debug for SmsBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SmsBody::Text { text } => write!(f, "Text({} characters)", text.chars().count()),
            SmsBody::Template { name, values, .. } => {
                write!(f, "Template({name:?}, {} values)", values.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_shown_without_number_and_content() {
        let message = |body| SmsMessage {
            to: PhoneNumber::parse("09121234567").unwrap(),
            local_id: 7,
            body,
            class: SmsClass::Otp,
            deadline: Instant::now(),
        };
        let text = format!("{:?}", message(SmsBody::Text { text: "code 123456".to_owned() }));
        assert_eq!(
            text,
            "SmsMessage { to: PhoneNumber(0912***4567), local_id: 7, body: Text(11 characters), class: Otp, .. }"
        );
        let template = format!(
            "{:?}",
            message(SmsBody::Template {
                name: "login".to_owned(),
                values: vec![("code".to_owned(), "123456".to_owned())],
                fallback_text: Some("code 123456".to_owned()),
            })
        );
        assert!(template.contains("Template(\"login\", 1 values)") && !template.contains("123456"));
    }

    #[test]
    fn a_broken_plugin_is_unknown_only_after_a_request_left() {
        let fault = |request_sent| SmsError::PluginFault { reason: "trap".to_owned(), request_sent };
        assert_eq!(fault(false).disposition(), Disposition::TryNext);
        assert_eq!(fault(true).disposition(), Disposition::Unknown);
    }
}
