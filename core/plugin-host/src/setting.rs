//! Settings: what a plugin says that it takes, what the operator gives, and the check of one against the other.
//!
//! A value becomes text, which is the only form a guest reads. No error holds a value: it may be a key.
//! Not here: which settings are missing or unknown (see `binding`).

use std::fmt;

use reqwest::Url;
use serde::Serialize;

/// What a setting holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SettingKind {
    /// Any text that is not empty.
    Text,
    /// A whole number that is not negative.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// An absolute http or https URL, whose host needs a grant.
    Url,
    /// An absolute http or https URL that only a payer's browser opens; its host needs no grant.
    Link,
}

impl SettingKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            SettingKind::Text => "text that is not empty",
            SettingKind::Integer => "a whole number that is not negative",
            SettingKind::Boolean => "true or false",
            SettingKind::Url | SettingKind::Link => "an absolute http or https URL",
        }
    }
}

/// One setting that a plugin knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SettingSpec {
    /// Lower-case letters, digits and underscores.
    pub key: String,
    /// What it holds.
    pub kind: SettingKind,
    /// The plugin cannot work without it; then it has no default.
    pub required: bool,
    /// Never shown.
    pub secret: bool,
    /// Used when the operator gives none; always of the setting's kind.
    pub default: Option<String>,
    /// One sentence for the operator.
    pub help: String,
    /// Hosts of the description that need no grant once the operator sets this setting; in their canonical form.
    pub replaces: Vec<String>,
}

/// A setting as the operator wrote it. Text is accepted for every kind, because a value that comes from an
/// environment variable or a file has no other form.
#[derive(Clone, PartialEq, Eq)]
pub enum SettingValue {
    /// Any text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A truth value.
    Boolean(bool),
}

impl SettingValue {
    fn kind(&self) -> &'static str {
        match self {
            SettingValue::Text(_) => "text",
            SettingValue::Integer(_) => "an integer",
            SettingValue::Boolean(_) => "a boolean",
        }
    }
}

/// Shows the kind and never the value, which may be a key.
impl fmt::Debug for SettingValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.kind())
    }
}

impl From<&str> for SettingValue {
    fn from(text: &str) -> SettingValue {
        SettingValue::Text(text.to_owned())
    }
}

impl From<String> for SettingValue {
    fn from(text: String) -> SettingValue {
        SettingValue::Text(text)
    }
}

impl From<i64> for SettingValue {
    fn from(number: i64) -> SettingValue {
        SettingValue::Integer(number)
    }
}

impl From<bool> for SettingValue {
    fn from(value: bool) -> SettingValue {
        SettingValue::Boolean(value)
    }
}

/// A value as the guest reads it, or what was expected and what is there instead.
pub(crate) fn setting_text(
    kind: SettingKind,
    value: &SettingValue,
) -> Result<String, (&'static str, &'static str)> {
    let found = match value {
        SettingValue::Text(text) if text.is_empty() => "an empty text",
        value => value.kind(),
    };
    let wrong = (kind.name(), found);
    match (kind, value) {
        (SettingKind::Text, SettingValue::Text(text)) if !text.is_empty() => Ok(text.clone()),
        (SettingKind::Integer, SettingValue::Integer(number)) if *number >= 0 => Ok(number.to_string()),
        (SettingKind::Integer, SettingValue::Integer(_)) => Err((kind.name(), "a negative number")),
        (SettingKind::Integer, SettingValue::Text(text)) => match text.trim().parse::<u64>() {
            Ok(number) => Ok(number.to_string()),
            Err(_) => Err(wrong),
        },
        (SettingKind::Boolean, SettingValue::Boolean(value)) => Ok(value.to_string()),
        (SettingKind::Boolean, SettingValue::Text(text)) => match text.trim() {
            known @ ("true" | "false") => Ok(known.to_owned()),
            _ => Err(wrong),
        },
        (SettingKind::Url | SettingKind::Link, SettingValue::Text(text)) => match url_parse(text) {
            Some(_) => Ok(text.trim().to_owned()),
            None => Err((kind.name(), "something else")),
        },
        _ => Err(wrong),
    }
}

/// An absolute http or https URL with a host.
pub(crate) fn url_parse(text: &str) -> Option<Url> {
    Url::parse(text.trim()).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|h| !h.is_empty())
    })
}
