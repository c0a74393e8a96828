//! How messages look in replies.

use chelseru_domain::clock::rest_format;
use chelseru_domain::phone::PhoneNumber;
use chelseru_domain::sms::{SmsClass, SmsContent, SmsRecord, SmsStatus};
use serde_json::{Value, json};

use super::Sms;

pub(crate) fn message_json(sms: &Sms, message: &SmsRecord) -> Value {
    let provider = message.provider.as_deref().unwrap_or_default();
    message_shown(message, sms.numeric_ids.contains(provider))
}

/// `numeric`: the provider's id is a number in the original's answers.
pub(crate) fn message_shown(message: &SmsRecord, numeric: bool) -> Value {
    let provider = message.provider.as_deref().unwrap_or_default();
    let template = match &message.content {
        SmsContent::Template { name, .. } => Some(name.as_str()),
        _ => None,
    };
    json!({
        "id": message.id,
        "receiver": local(&message.number),
        "message": shown_text(&message.content),
        "template": template,
        "class": match message.class { SmsClass::Otp => "otp", SmsClass::Notice => "notice" },
        "status": status_word(message.status),
        "provider": provider,
        "messageid": message.provider_message_id.as_ref().map(|id| provider_id(id, numeric)),
        "error": message.error.as_deref().unwrap_or_default(),
        "tried": tried(message),
        "cost_rial": message.cost_rial,
        "created_at": rest_format(message.created_at),
        "updated_at": rest_format(message.updated_at),
    })
}

pub(crate) const STATUSES: [(SmsStatus, &str); 7] = [
    (SmsStatus::Queued, "queued"),
    (SmsStatus::Sending, "sending"),
    (SmsStatus::Accepted, "accepted"),
    (SmsStatus::Delivered, "delivered"),
    (SmsStatus::Failed, "failed"),
    (SmsStatus::Unknown, "unknown"),
    (SmsStatus::Expired, "expired"),
];

pub(crate) fn status_word(status: SmsStatus) -> &'static str {
    STATUSES.iter().find(|(known, _)| *known == status).map_or("", |(_, word)| word)
}

pub(crate) fn status_of(word: &str) -> Option<SmsStatus> {
    STATUSES.iter().find(|(_, known)| *known == word).map(|(status, _)| *status)
}

pub(crate) fn tried(message: &SmsRecord) -> Value {
    let tried = message.tried.iter().map(|tried| json!({"provider": tried.provider, "reason": tried.code}));
    tried.collect()
}

pub(crate) fn local(number: &str) -> String {
    PhoneNumber::parse(number).map(|number| number.local()).unwrap_or_default()
}

/// The client's `message_text`; null for a code.
pub(crate) fn shown_text(content: &SmsContent) -> Value {
    match content {
        SmsContent::Hidden => Value::Null,
        SmsContent::Text(text) => text.clone().into(),
        SmsContent::Template { values, .. } => {
            values.first().map_or(Value::Null, |(_, value)| value.clone().into())
        }
    }
}

pub(crate) fn provider_id(id: &str, numeric: bool) -> Value {
    match id.parse::<u64>() {
        Ok(number) if numeric && number < 1 << 53 => number.into(),
        _ => id.into(),
    }
}
