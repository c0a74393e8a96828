//! Scripted faults: what goes wrong, for which request, and how often.
//!
//! A fault names a provider, optionally one call and one recipient, and ends after `times` requests. The first scripted
//! fault that matches a request applies, so a script reads from top to bottom. `accept` says whether the message is
//! accepted before the fault strikes: a gateway must survive both cases and cannot tell them apart.
//! `server` applies faults.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::provider::{self, Provider};
use crate::request::mobile;

/// Longest scripted delay in milliseconds: ten minutes, more than any client waits.
const DELAY_MS_MAX: u64 = 600_000;
/// Largest scripted reply, in bytes.
const HUGE_BYTES_MAX: u64 = 1 << 30;
/// Faults that may wait at once.
const FAULTS_MAX: usize = 1_000;

/// A page for people.
pub(crate) const PAGE: &str = "<!DOCTYPE html><html><head><title>Service unavailable</title></head>\
                               <body><h1>We will be back soon</h1></body></html>";

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FaultKind {
    /// Only the delay: the real reply comes late.
    Delay,
    /// This HTTP status, with this body or a short text. A body that begins with `<` is a web page; a redirect leads to
    /// another host.
    Status { code: u16, body: Option<String> },
    /// A web page with HTTP 200, like a proxy's or a maintenance page.
    Html,
    /// HTTP 200 without a body.
    Empty,
    /// Closes the connection without a reply. The message is not accepted.
    CutBefore,
    /// Accepts the message, then closes the connection without a reply.
    CutAfter,
    /// Accepts the message, then closes the connection in the middle of the reply.
    CutBody,
    /// One of the provider's documented codes, in the provider's shape. `http_status_follows_code` overrides the
    /// provider's setting for this reply.
    Code { code: i64, http_status_follows_code: Option<bool> },
    /// Accepts the message. The reply is complete HTTP and ends in the middle of its JSON.
    TruncatedJson,
    /// Accepts the message. Every plain value of the reply's JSON is wrapped into an array.
    WrongType,
    /// A reply of this many bytes, never held in memory.
    Huge { bytes: u64 },
}

/// A fault and when it strikes. Build it with [`Fault::new`], or send it as JSON to `POST /_sim/faults`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Name of the provider, such as `kavenegar`.
    pub provider: String,
    /// The provider's call, such as `sms/send`; absent: every call.
    pub method: Option<String>,
    /// Only requests with this recipient.
    pub number: Option<String>,
    /// Remaining requests; absent: no limit.
    pub times: Option<u32>,
    /// Milliseconds to wait first.
    pub delay_ms: u64,
    /// Whether the message is accepted although the reply is spoilt; absent: the kind's own rule. With a delay, the
    /// message is accepted before the wait.
    pub accept: Option<bool>,
    /// Seconds in the answer's `Retry-After`; absent means no such header.
    pub retry_after: Option<u32>,
    #[serde(flatten)]
    pub kind: FaultKind,
}

impl Fault {
    /// A fault that strikes every call of the provider without limit. The methods below narrow it.
    pub fn new(provider: &str, kind: FaultKind) -> Self {
        Self {
            provider: provider.into(),
            method: None,
            number: None,
            times: None,
            delay_ms: 0,
            accept: None,
            retry_after: None,
            kind,
        }
    }

    /// A documented code of the provider.
    pub fn code(provider: &str, code: i64) -> Self {
        Self::new(provider, FaultKind::Code { code, http_status_follows_code: None })
    }

    /// A correct reply that comes `delay_ms` milliseconds late.
    pub fn delay(provider: &str, delay_ms: u64) -> Self {
        Self { delay_ms, ..Self::new(provider, FaultKind::Delay) }
    }

    /// A bare HTTP status.
    pub fn status(provider: &str, code: u16) -> Self {
        Self::new(provider, FaultKind::Status { code, body: None })
    }

    /// This HTTP status with a web page, as a proxy, a firewall or a moved address answers.
    pub fn page(provider: &str, code: u16) -> Self {
        Self::new(provider, FaultKind::Status { code, body: Some(PAGE.into()) })
    }

    /// Adds `Retry-After` with this many seconds.
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    pub fn method(self, method: &str) -> Self {
        Self { method: Some(method.into()), ..self }
    }

    pub fn number(self, number: &str) -> Self {
        Self { number: Some(number.into()), ..self }
    }

    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    pub fn after_ms(self, delay_ms: u64) -> Self {
        Self { delay_ms, ..self }
    }

    pub fn accept(self, accept: bool) -> Self {
        Self { accept: Some(accept), ..self }
    }

    /// Name of the kind in JSON.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            FaultKind::Delay => "delay",
            FaultKind::Status { .. } => "status",
            FaultKind::Html => "html",
            FaultKind::Empty => "empty",
            FaultKind::CutBefore => "cut_before",
            FaultKind::CutAfter => "cut_after",
            FaultKind::CutBody => "cut_body",
            FaultKind::Code { .. } => "code",
            FaultKind::TruncatedJson => "truncated_json",
            FaultKind::WrongType => "wrong_type",
            FaultKind::Huge { .. } => "huge",
        }
    }

    /// Whether the provider does its real work although the reply is spoilt.
    pub(crate) fn accepts(&self) -> bool {
        match self.kind {
            // These spoil the provider's real reply, so the provider must answer.
            FaultKind::CutAfter | FaultKind::CutBody | FaultKind::TruncatedJson | FaultKind::WrongType => {
                true
            }
            FaultKind::CutBefore => false,
            _ => self.accept.unwrap_or(false),
        }
    }

    /// Reads a fault from JSON text.
    ///
    /// Errors: name the key, the found value and the accepted values.
    pub(crate) fn from_json(text: &[u8]) -> Result<Self, String> {
        let raw: RawFault = serde_json::from_slice(text).map_err(|error| format!("a fault: {error}"))?;
        raw.checked()
    }
}

/// A received fault: every key is optional, unknown keys are refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFault {
    provider: Option<String>,
    kind: Option<String>,
    method: Option<String>,
    number: Option<String>,
    times: Option<Times>,
    ms: Option<u64>,
    delay_ms: Option<u64>,
    accept: Option<bool>,
    retry_after: Option<u32>,
    code: Option<i64>,
    http_status_follows_code: Option<bool>,
    body: Option<String>,
    bytes: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Times {
    Count(u32),
    Word(String),
}

const KINDS: &str =
    "delay, status, html, empty, cut_before, cut_after, cut_body, code, truncated_json, wrong_type, huge";

impl RawFault {
    fn checked(self) -> Result<Fault, String> {
        let name = self.provider.ok_or_else(|| format!("\"provider\" is missing: {}", provider::names()))?;
        let provider = provider::by_name(&name)
            .ok_or_else(|| format!("\"provider\": {name:?} is not known; accepted: {}", provider::names()))?;
        let kind = self.kind.ok_or_else(|| format!("\"kind\" is missing: one of {KINDS}"))?;
        let kind = match kind.as_str() {
            "delay" => FaultKind::Delay,
            "status" => {
                let code = self.code.ok_or("kind \"status\" needs \"code\", an HTTP status 200..=999")?;
                let code = u16::try_from(code)
                    .ok()
                    .filter(|code| (200..=999).contains(code))
                    .ok_or_else(|| format!("\"code\": {code} is no HTTP status; accepted: 200..=999"))?;
                FaultKind::Status { code, body: self.body.clone() }
            }
            "html" => FaultKind::Html,
            "empty" => FaultKind::Empty,
            "cut_before" => FaultKind::CutBefore,
            "cut_after" => FaultKind::CutAfter,
            "cut_body" => FaultKind::CutBody,
            "code" => {
                let code = self.code.ok_or("kind \"code\" needs \"code\", one of the provider's codes")?;
                known_code(provider, code)?;
                FaultKind::Code { code, http_status_follows_code: self.http_status_follows_code }
            }
            "truncated_json" => FaultKind::TruncatedJson,
            "wrong_type" => FaultKind::WrongType,
            "huge" => {
                let bytes = self.bytes.ok_or("kind \"huge\" needs \"bytes\"")?;
                if bytes > HUGE_BYTES_MAX {
                    return Err(format!("\"bytes\": {bytes} is too many; accepted: 0..={HUGE_BYTES_MAX}"));
                }
                FaultKind::Huge { bytes }
            }
            other => return Err(format!("\"kind\": {other:?} is not known; accepted: {KINDS}")),
        };
        if self.body.is_some() && !matches!(kind, FaultKind::Status { .. }) {
            return Err("\"body\" belongs to kind \"status\" only".into());
        }
        let delay_ms = self.ms.or(self.delay_ms).unwrap_or(0);
        if delay_ms > DELAY_MS_MAX {
            return Err(format!("\"delay_ms\": {delay_ms} is too long; accepted: 0..={DELAY_MS_MAX}"));
        }
        if kind == FaultKind::Delay && delay_ms == 0 {
            return Err("kind \"delay\" needs \"ms\", at least 1".into());
        }
        let times = match self.times {
            None => None,
            Some(Times::Word(word)) if word == "forever" => None,
            Some(Times::Count(count)) if count > 0 => Some(count),
            Some(_) => return Err("\"times\": accepted: a whole number from 1, or \"forever\"".into()),
        };
        Ok(Fault {
            provider: name,
            method: self.method,
            number: self.number,
            times,
            delay_ms,
            accept: self.accept,
            retry_after: self.retry_after,
            kind,
        })
    }
}

/// Refuses a code that the provider does not document.
fn known_code(provider: &dyn Provider, code: i64) -> Result<(), String> {
    if provider.codes().contains(&code) {
        return Ok(());
    }
    let accepted: Vec<_> = provider.codes().iter().map(i64::to_string).collect();
    Err(format!(
        "\"code\": {code} is no documented code of {}; accepted: {}",
        provider.name(),
        accepted.join(", ")
    ))
}

/// The faults that wait for their request.
#[derive(Default)]
pub(crate) struct Faults {
    waiting: Mutex<Vec<Fault>>,
    /// Length of `waiting`, so requests take no lock while no fault is scripted.
    count: AtomicUsize,
    /// Notified when running delays must end.
    released: Notify,
}

impl Faults {
    /// Errors: too many faults wait, or the fault can never strike.
    pub(crate) fn add(&self, fault: Fault) -> Result<(), String> {
        let provider = provider::by_name(&fault.provider)
            .ok_or_else(|| format!("provider {:?} is not known: {}", fault.provider, provider::names()))?;
        if let FaultKind::Code { code, .. } = fault.kind {
            known_code(provider, code)?;
        }
        let mut waiting = self.lock();
        if waiting.len() >= FAULTS_MAX {
            return Err(format!(
                "{FAULTS_MAX} faults are waiting already; clear them with DELETE /_sim/faults"
            ));
        }
        waiting.push(fault);
        self.count.store(waiting.len(), Ordering::Release);
        Ok(())
    }

    pub(crate) fn clear(&self) {
        let mut waiting = self.lock();
        waiting.clear();
        self.count.store(0, Ordering::Release);
    }

    /// Ends every delay that runs now.
    pub(crate) fn release(&self) {
        self.released.notify_waiters();
    }

    /// Completes when delays are released after this call.
    pub(crate) fn released(&self) -> Notified<'_> {
        self.released.notified()
    }

    pub(crate) fn waiting(&self) -> Vec<Fault> {
        self.lock().clone()
    }

    /// Takes the first matching fault, once. Calls `numbers` only when a fault names a recipient.
    pub(crate) fn take(
        &self,
        provider: &str,
        call: &str,
        numbers: impl Fn() -> Vec<String>,
    ) -> Option<Fault> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut waiting = self.lock();
        let fits = |fault: &Fault| {
            fault.provider == provider
                && fault.method.as_deref().is_none_or(|method| method.eq_ignore_ascii_case(call))
                && fault.number.as_deref().is_none_or(|number| {
                    let wanted = mobile(number).unwrap_or_else(|| number.to_owned());
                    numbers().into_iter().any(|have| mobile(&have).unwrap_or(have) == wanted)
                })
        };
        let index = waiting.iter().position(fits)?;
        let fault = waiting[index].clone();
        if let Some(times) = &mut waiting[index].times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                waiting.remove(index);
            }
        }
        self.count.store(waiting.len(), Ordering::Release);
        Some(fault)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Fault>> {
        self.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_spent_after_its_times_and_the_next_one_follows() {
        let faults = Faults::default();
        faults.add(Fault::code("kavenegar", 418).times(2)).unwrap();
        faults.add(Fault::status("kavenegar", 503).times(1)).unwrap();
        let kinds: Vec<_> = (0..4)
            .map(|_| faults.take("kavenegar", "sms/send", Vec::new).map(|fault| fault.kind_name()))
            .collect();
        assert_eq!(kinds, [Some("code"), Some("code"), Some("status"), None]);
    }

    #[test]
    fn a_fault_strikes_only_its_provider_its_call_and_its_number() {
        let faults = Faults::default();
        faults.add(Fault::status("kavenegar", 500).method("sms/send").number("+989121234567")).unwrap();
        let numbers = || vec!["09121234567".to_owned()];
        assert!(faults.take("kavenegar", "sms/send", numbers).is_some());
        assert!(faults.take("kavenegar", "verify/lookup", numbers).is_none());
        assert!(faults.take("parsian_webco", "sms/send", numbers).is_none());
        assert!(faults.take("kavenegar", "sms/send", || vec!["09120000000".to_owned()]).is_none());
    }

    #[test]
    fn bad_fault_text_is_refused_with_what_is_accepted() {
        for (text, told) in [
            ("", "EOF"),
            ("[]", "fault"),
            (r#"{"kind":"html"}"#, "kavenegar"),
            (r#"{"provider":"x","kind":"html"}"#, "kavenegar"),
            (r#"{"provider":"kavenegar"}"#, "cut_before"),
            (r#"{"provider":"kavenegar","kind":"nope"}"#, "cut_before"),
            (r#"{"provider":"kavenegar","kind":"code"}"#, "code"),
            (r#"{"provider":"kavenegar","kind":"code","code":999}"#, "418"),
            (r#"{"provider":"kavenegar","kind":"status","code":99}"#, "200..=999"),
            (r#"{"provider":"kavenegar","kind":"status","code":1000}"#, "200..=999"),
            (r#"{"provider":"kavenegar","kind":"delay"}"#, "ms"),
            (r#"{"provider":"kavenegar","kind":"delay","ms":600001}"#, "600000"),
            (r#"{"provider":"kavenegar","kind":"html","times":0}"#, "forever"),
            (r#"{"provider":"kavenegar","kind":"html","times":"often"}"#, "forever"),
            (r#"{"provider":"kavenegar","kind":"html","body":"x"}"#, "status"),
            (r#"{"provider":"kavenegar","kind":"html","tims":1}"#, "times"),
            (r#"{"provider":"kavenegar","kind":"huge","bytes":1073741825}"#, "1073741824"),
        ] {
            let error = Fault::from_json(text.as_bytes()).expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
        let forever =
            Fault::from_json(br#"{"provider":"kavenegar","kind":"delay","ms":600000,"times":"forever"}"#);
        assert_eq!(forever.unwrap(), Fault::delay("kavenegar", 600_000));
    }

    #[test]
    fn one_fault_more_than_the_bound_is_refused() {
        let faults = Faults::default();
        for _ in 0..FAULTS_MAX {
            faults.add(Fault::status("kavenegar", 500)).unwrap();
        }
        assert!(faults.add(Fault::status("kavenegar", 500)).unwrap_err().contains("1000"));
        faults.clear();
        assert!(faults.take("kavenegar", "sms/send", Vec::new).is_none());
        faults.add(Fault::status("kavenegar", 500)).unwrap();
    }
}
