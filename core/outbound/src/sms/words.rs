//! Translation between the domain's message types and those of the SMS interfaces.

use std::time::Duration;

use chelseru_domain::sms::{Rejection, SmsBody, SmsError, SmsMessage, SmsProgress};
use chelseru_plugin_host::CallError;

use crate::bindings::{sms_template, sms_types, types};

/// The sandbox's view of a message.
pub(super) fn shown(body: &SmsBody) -> String {
    match body {
        SmsBody::Text { text } => text.clone(),
        SmsBody::Template { fallback_text: Some(text), .. } => text.clone(),
        SmsBody::Template { name, values, .. } => {
            let values: Vec<String> = values.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("template {name}: {}", values.join(", "))
        }
    }
}

pub(super) fn template_message(
    message: &SmsMessage,
    id: &str,
    values: &[(String, String)],
) -> sms_template::Message {
    let value =
        |(name, value): &(String, String)| sms_template::Value { name: name.clone(), value: value.clone() };
    sms_template::Message {
        recipient: recipient(message),
        template: id.to_owned(),
        values: values.iter().map(value).collect(),
    }
}

/// A provider's report about one message, as domain types.
pub(super) fn report(report: sms_types::Report) -> (String, SmsProgress) {
    let progress = match report.state {
        sms_types::State::Queued | sms_types::State::Sent => SmsProgress::Underway,
        sms_types::State::Delivered => SmsProgress::Delivered,
        sms_types::State::Failed => SmsProgress::Failed,
        sms_types::State::Unknown => SmsProgress::NotKnown,
    };
    (report.message_id, progress)
}

pub(super) fn recipient(message: &SmsMessage) -> sms_types::Recipient {
    sms_types::Recipient { number: message.to.e164().to_owned(), local_id: message.local_id }
}

/// An error reported by the plugin.
pub(super) fn provider_error(error: types::Error) -> SmsError {
    let words = |rejection: types::Rejection| Rejection { code: rejection.code, text: rejection.text };
    match error {
        types::Error::InvalidRecipient(rejection) => SmsError::InvalidRecipient(words(rejection)),
        types::Error::InvalidMessage(rejection) => SmsError::InvalidMessage(words(rejection)),
        types::Error::InvalidTemplate(rejection) => SmsError::InvalidTemplate(words(rejection)),
        types::Error::Unauthorized(rejection) => SmsError::Unauthorized(words(rejection)),
        types::Error::InsufficientCredit(rejection) => SmsError::InsufficientCredit(words(rejection)),
        types::Error::Throttled(seconds) => {
            SmsError::Throttled(seconds.map(|seconds| Duration::from_secs(seconds.into())))
        }
        types::Error::Unavailable(text) => SmsError::Unavailable(text),
        types::Error::Rejected(rejection) => SmsError::Rejected(words(rejection)),
        types::Error::UnknownOutcome(text) => SmsError::UnknownOutcome(text),
        types::Error::BrokeDown(text) => SmsError::BrokeDown(text),
        types::Error::Misconfigured(text) => SmsError::Misconfigured(text),
    }
}

/// An error of the host for a call without an answer.
pub(super) fn call_error(error: CallError) -> SmsError {
    match error {
        CallError::Busy => SmsError::Busy,
        other => SmsError::PluginFault { request_sent: other.may_have_sent(), reason: other.to_string() },
    }
}
