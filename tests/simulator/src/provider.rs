//! The simulated providers: one module each behind [`Provider`], selected by path prefix.
//!
//! A provider answers like its documented original: it checks the request, enters accepted messages in the ledger and
//! shapes the reply. It does not know faults, logs or sockets. The path prefixes of the six providers do not
//! overlap, so one address serves all of them, and a test overrides `base_url` only. To add a provider, write its
//! module and add a line to [`PROVIDERS`] and a section to `Settings`. `parsian_webco` is the shortest complete
//! example.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::Value;

use crate::kavenegar::Kavenegar;
use crate::meli_payamak::MeliPayamak;
use crate::parsian_webco::ParsianWebco;
use crate::payping::Payping;
use crate::request::Request;
use crate::saman_sep::SamanSep;
use crate::world::World;
use crate::zarinpal::Zarinpal;

/// Every provider, in the order in which their prefixes are tried.
pub(crate) static PROVIDERS: &[&dyn Provider] =
    &[&Kavenegar, &MeliPayamak, &ParsianWebco, &Zarinpal, &Payping, &SamanSep];

/// One provider. All functions are pure except [`Provider::answer`], which may enter messages.
pub(crate) trait Provider: Send + Sync {
    /// Name in faults, logs and settings.
    fn name(&self) -> &'static str;

    /// The simulated calls, in one line for the help text.
    fn summary(&self) -> &'static str;

    /// Whether a path belongs to this provider.
    fn claims(&self, path: &str) -> bool;

    /// The provider's own name of the call, such as `sms/send`.
    fn call<'a>(&self, request: &'a Request) -> Cow<'a, str>;

    /// The path with the authenticating part replaced by `***`.
    fn masked_path(&self, path: &str) -> String;

    /// Names of fields that authenticate, compared without case.
    fn secret_fields(&self) -> &'static [&'static str];

    /// Documented error codes that a fault may ask for.
    fn codes(&self) -> &'static [i64];

    /// Recipients as sent, for faults that name one.
    fn numbers(&self, request: &Request) -> Vec<String>;

    /// Does the provider's work and answers.
    fn answer(&self, world: &World, request: &Request) -> Reply;

    /// Answers with one of [`Provider::codes`] in this call's error shape. `status_follows` overrides the provider's
    /// setting that the HTTP status is the code.
    fn refuse(&self, world: &World, request: &Request, code: i64, status_follows: Option<bool>) -> Reply;
}

/// A provider's reply and its outcome for the log.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// At least one message was entered in the ledger.
    Accepted,
    /// Every message was accepted before under the same local id.
    Repeated,
    /// A query was answered: status, credit, time.
    Answered,
    /// Refused with the provider's code.
    Refused(i64),
}

impl Reply {
    pub(crate) fn json(status: u16, body: &Value, outcome: Outcome) -> Self {
        Self {
            status,
            content_type: "application/json; charset=utf-8",
            // Writing a document with text keys into memory cannot fail.
            body: serde_json::to_vec(body).unwrap_or_default().into(),
            outcome,
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::Repeated => f.write_str("repeated"),
            Self::Answered => f.write_str("answered"),
            Self::Refused(code) => write!(f, "refused {code}"),
        }
    }
}

pub(crate) fn by_name(name: &str) -> Option<&'static dyn Provider> {
    PROVIDERS.iter().copied().find(|provider| provider.name() == name)
}

pub(crate) fn by_path(path: &str) -> Option<&'static dyn Provider> {
    PROVIDERS.iter().copied().find(|provider| provider.claims(path))
}

/// Names of all providers, for messages.
pub(crate) fn names() -> String {
    PROVIDERS.iter().map(|provider| provider.name()).collect::<Vec<_>>().join(", ")
}
