//! `chelseru plugin test`: runs a component against the answers that real providers give.
//!
//! The plugin runs in the gateway's own host with its usual limits. Scripted answers replace the network: silence,
//! web pages, empty and truncated bodies, server errors, malformed JSON. Every call must end with a typed error: no
//! trap, no exceeded limit, no success, no secret in its text. An error that says "not sent" allows a retry; a
//! request that may have been carried out must be an unknown outcome. The meaning of a provider's own answers is not
//! here; the plugin's unit tests cover it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use chelseru_outbound::bindings::{functions, payment, sms_template, sms_text, sms_types, types};
use chelseru_outbound::kinds::KINDS;
use chelseru_outbound::names::{PAYMENT, PAYMENT_REVERSE, SMS_TEMPLATE, SMS_TEXT};
use chelseru_plugin_host::{
    Binding, HttpError, HttpRequest, HttpResponse, Limits, Plugin, Provider, SECRET_MASK, SettingKind,
    SettingValue, Transport,
};

/// Stands for every secret, with the length of a merchant id. It must not appear in an error.
const SECRET: &str = "5ec2e7aa-5ec2-4e7a-8ec2-5ec2e7aa5ec2";

/// The scripted behaviour of the network.
#[derive(Clone)]
enum Reply {
    NotSent,
    Unanswered,
    TooLarge,
    Answer(u16, &'static str, &'static [u8]),
}

/// Name and behaviour.
const REPLIES: &[(&str, Reply)] = &[
    ("no connection", Reply::NotSent),
    ("no answer after sending", Reply::Unanswered),
    ("an answer over the limit", Reply::TooLarge),
    ("500 with a web page", Reply::Answer(500, "text/html", b"<html><h1>Error</h1></html>")),
    ("502 without a body", Reply::Answer(502, "text/plain", b"")),
    ("200 with a web page", Reply::Answer(200, "text/html", b"<html>maintenance</html>")),
    ("200 without a body", Reply::Answer(200, "application/json", b"")),
    ("200 with an empty object", Reply::Answer(200, "application/json", b"{}")),
    ("200 with null", Reply::Answer(200, "application/json", b"null")),
    ("200 with an array", Reply::Answer(200, "application/json", b"[]")),
    ("200 with JSON that is cut", Reply::Answer(200, "application/json", b"{\"status\":200,\"data\":{\"a")),
    ("200 with bytes that are no text", Reply::Answer(200, "application/json", b"\xff\xfe\x00\x80")),
    ("200 with deep nesting", Reply::Answer(200, "application/json", &[b'['; 4096])),
    ("302 to elsewhere", Reply::Answer(302, "text/html", b"")),
    ("404 with a web page", Reply::Answer(404, "text/html", b"<html>not found</html>")),
    ("408 with a web page", Reply::Answer(408, "text/html", b"<html>time-out</html>")),
    ("413 with a web page", Reply::Answer(413, "text/html", b"<html>too large</html>")),
    ("429 with a web page", Reply::Answer(429, "text/html", b"<html>slow down</html>")),
];

struct Script {
    reply: Reply,
    requests: AtomicU32,
}

#[async_trait::async_trait]
impl Transport for Script {
    async fn send(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        match self.reply {
            Reply::NotSent => Err(HttpError::NotSent("scripted".into())),
            Reply::Unanswered => Err(HttpError::Unanswered("scripted".into())),
            Reply::TooLarge => Err(HttpError::TooLarge(1 << 20)),
            Reply::Answer(status, kind, body) => Ok(HttpResponse {
                status,
                headers: vec![("content-type".to_owned(), kind.to_owned())],
                body: body.to_vec(),
            }),
        }
    }
}

/// Runs the kit on a file; `settings` are `key=value` and replace the kit's own values.
pub(crate) async fn test(file: &Path, settings: &[String]) -> Result<(), String> {
    let shown = file.display();
    let bytes = std::fs::read(file).map_err(|error| format!("{shown}: {error}"))?;
    let host = super::compiler::host_for_one()?;
    let plugin = host.load(bytes, KINDS).await.map_err(|error| format!("{shown}: {error}"))?;
    say!("ok    loads: {} {}", plugin.description().name, plugin.description().version);
    let settings = values(&plugin, settings)?;
    let (mut failures, mut checks, mut requests) = (Vec::new(), 0, 0);
    for function in functions(&plugin) {
        for (what, reply) in REPLIES {
            let script = Arc::new(Script { reply: reply.clone(), requests: AtomicU32::new(0) });
            let binding = Binding {
                name: "TEST".to_owned(),
                settings: settings.clone(),
                hosts: None,
                limits: Limits::default(),
            };
            let provider = Provider::bind(&host, plugin.clone(), binding)
                .map_err(|error| format!("{shown}: {error}"))?
                .with_transport(script.clone());
            let outcome = function.call(&provider).await;
            let sent = script.requests.load(Ordering::Relaxed);
            requests += sent;
            checks += 1;
            match judge(reply, sent, &outcome) {
                Ok(()) => say!("ok    {}: {what}", function.name()),
                Err(reason) => failures.push(format!("{}: {what}: {reason}", function.name())),
            }
        }
    }
    for failure in &failures {
        say!("FAIL  {failure}");
    }
    if requests == 0 && !plugin.description().hosts.is_empty() {
        let reason = "the plugin sent no request, so nothing was tested; a setting may be missing or may not \
            suit it; pass it with --set KEY=VALUE";
        return Err(reason.to_owned());
    }
    if failures.is_empty() {
        say!("{checks} checks passed");
        return Ok(());
    }
    Err(format!("{} of {checks} checks failed", failures.len()))
}

/// The outcome of a call.
enum Outcome {
    Success,
    /// A clear answer about a payment that is no success.
    Answered,
    Error(types::Error),
    /// The host ended the call: a trap or an exceeded limit.
    Broken(String),
}

#[derive(Clone, Copy)]
enum Function {
    SmsText,
    SmsTemplate,
    PaymentCreate,
    PaymentVerify,
    PaymentReverse,
}

fn functions(plugin: &Plugin) -> Vec<Function> {
    let mut functions = Vec::new();
    let all = [
        (SMS_TEXT, Function::SmsText),
        (SMS_TEMPLATE, Function::SmsTemplate),
        (PAYMENT, Function::PaymentCreate),
        (PAYMENT, Function::PaymentVerify),
        (PAYMENT_REVERSE, Function::PaymentReverse),
    ];
    functions.extend(all.iter().filter(|(name, _)| plugin.exports(name)).map(|(_, function)| *function));
    functions
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Function::SmsText => "sms-text.send",
            Function::SmsTemplate => "sms-template.send",
            Function::PaymentCreate => "payment-gateway.create",
            Function::PaymentVerify => "payment-gateway.verify",
            Function::PaymentReverse => "payment-reverse.reverse",
        }
    }

    async fn call(self, provider: &Provider) -> Outcome {
        let recipient = || sms_types::Recipient { number: "+989121234567".to_owned(), local_id: 17 };
        match self {
            Function::SmsText => {
                let message = sms_text::Message {
                    recipients: vec![recipient()],
                    text: "Hello".to_owned(),
                    sender: None,
                };
                let answer = provider.call(functions::SEND_TEXT, (message,)).await;
                match answer.map(|(answer,)| answer) {
                    Ok(Ok(receipts)) => match receipts.into_iter().next().map(|receipt| receipt.outcome) {
                        Some(Err(error)) => Outcome::Error(error),
                        _ => Outcome::Success,
                    },
                    Ok(Err(error)) => Outcome::Error(error),
                    Err(error) => Outcome::Broken(error.to_string()),
                }
            }
            Function::SmsTemplate => {
                let message = sms_template::Message {
                    recipient: recipient(),
                    template: "1".to_owned(),
                    values: vec![sms_template::Value { name: "code".to_owned(), value: "123456".to_owned() }],
                };
                let answer = provider.call(functions::SEND_TEMPLATE, (message,)).await;
                match answer.map(|(answer,)| answer) {
                    Ok(Ok(_)) => Outcome::Success,
                    Ok(Err(error)) => Outcome::Error(error),
                    Err(error) => Outcome::Broken(error.to_string()),
                }
            }
            Function::PaymentCreate => {
                let order = payment::payment_gateway::Order {
                    local_id: 17,
                    amount_rial: 500_000,
                    callback_url: "https://shop.example/back".to_owned(),
                    description: "A test".to_owned(),
                    order: "o-1".to_owned(),
                    mobile: Some("+989121234567".to_owned()),
                    email: None,
                };
                let answer = provider.call(payment::functions::CREATE, (order,)).await;
                match answer.map(|(answer,)| answer) {
                    Ok(Ok(_)) => Outcome::Success,
                    Ok(Err(error)) => Outcome::Error(sms_error(error)),
                    Err(error) => Outcome::Broken(error.to_string()),
                }
            }
            Function::PaymentVerify => {
                use payment::payment_gateway::{Claim, Verdict};
                let stored = stored();
                let claim = Claim {
                    reference: stored.reference.clone(),
                    cancelled: false,
                    receipt: Some("123456".to_owned()),
                    data: Vec::new(),
                };
                let answer = provider.call(payment::functions::VERIFY, (stored, Some(claim))).await;
                match answer.map(|(answer,)| answer) {
                    Ok(Ok(Verdict::Paid(_) | Verdict::PaidBefore(_))) => Outcome::Success,
                    Ok(Ok(_)) => Outcome::Answered,
                    Ok(Err(error)) => Outcome::Error(sms_error(error)),
                    Err(error) => Outcome::Broken(error.to_string()),
                }
            }
            Function::PaymentReverse => {
                let receipt_number = "123456".to_owned();
                let answer = provider.call(payment::functions::REVERSE, (stored(), receipt_number)).await;
                match answer.map(|(answer,)| answer) {
                    Ok(Ok(())) => Outcome::Success,
                    Ok(Err(error)) => Outcome::Error(sms_error(error)),
                    Err(error) => Outcome::Broken(error.to_string()),
                }
            }
        }
    }
}

fn stored() -> payment::payment_types::Stored {
    payment::payment_types::Stored {
        local_id: 17,
        reference: "A00000000000000000000000000000000017".to_owned(),
        amount_rial: 500_000,
        order: "o-1".to_owned(),
        state: Vec::new(),
    }
}

fn judge(reply: &Reply, requests: u32, outcome: &Outcome) -> Result<(), String> {
    let error = match outcome {
        // A plugin that sends no request is a trial provider.
        Outcome::Success if requests == 0 => return Ok(()),
        Outcome::Success => return Err("the call reported success".to_owned()),
        Outcome::Answered => return Ok(()),
        Outcome::Broken(reason) => return Err(reason.clone()),
        Outcome::Error(error) => error,
    };
    let text = format!("{error:?}");
    // The host masks both on their way out of the plugin, so a mask shows that one of them was there.
    if text.contains(SECRET_MASK) || text.contains(SECRET) || text.contains("9121234567") {
        return Err("the error holds a secret or a phone number".to_owned());
    }
    let unknown = matches!(error, types::Error::UnknownOutcome(_));
    match reply {
        Reply::NotSent if unknown => {
            Err("nothing was sent, but the call reported an unknown outcome".to_owned())
        }
        Reply::Unanswered | Reply::TooLarge | Reply::Answer(408, ..) if requests > 0 && !unknown => {
            Err(format!(
                "the request may have been carried out, but the call did not report an unknown outcome: {text}"
            ))
        }
        Reply::Answer(300..=407 | 409..=499, kind, _) if *kind == "text/html" && unknown => {
            Err("a proxy refused the request, but the call reported an unknown outcome".to_owned())
        }
        _ => Ok(()),
    }
}

/// Converts between identical errors; each plugin kind has its own types.
fn sms_error(error: payment::types::Error) -> types::Error {
    use payment::types::Error;
    let words = |rejection: payment::types::Rejection| types::Rejection {
        code: rejection.code,
        text: rejection.text,
        field: rejection.field,
    };
    match error {
        Error::InvalidRecipient(rejection) => types::Error::InvalidRecipient(words(rejection)),
        Error::InvalidMessage(rejection) => types::Error::InvalidMessage(words(rejection)),
        Error::InvalidTemplate(rejection) => types::Error::InvalidTemplate(words(rejection)),
        Error::Unauthorized(rejection) => types::Error::Unauthorized(words(rejection)),
        Error::InsufficientCredit(rejection) => types::Error::InsufficientCredit(words(rejection)),
        Error::Throttled(seconds) => types::Error::Throttled(seconds),
        Error::Unavailable(text) => types::Error::Unavailable(text),
        Error::Rejected(rejection) => types::Error::Rejected(words(rejection)),
        Error::UnknownOutcome(text) => types::Error::UnknownOutcome(text),
        Error::BrokeDown(text) => types::Error::BrokeDown(text),
        Error::Misconfigured(text) => types::Error::Misconfigured(text),
    }
}

/// A value for every required setting, and the given ones.
fn values(
    plugin: &Plugin,
    given: &[String],
) -> Result<std::collections::BTreeMap<String, SettingValue>, String> {
    let mut values = std::collections::BTreeMap::new();
    for setting in plugin.description().settings.iter().filter(|setting| setting.required) {
        let value = match setting.kind {
            SettingKind::Text => SettingValue::Text(SECRET.to_owned()),
            SettingKind::Integer => SettingValue::Integer(1),
            SettingKind::Boolean => SettingValue::Boolean(true),
            SettingKind::Url | SettingKind::Link => SettingValue::Text("https://provider.example".to_owned()),
        };
        values.insert(setting.key.clone(), value);
    }
    for pair in given {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| format!("--set takes KEY=VALUE, not {pair:?}"))?;
        values.insert(key.to_owned(), SettingValue::Text(value.to_owned()));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_a_rule_fails() {
        let rejected = |text: &str| {
            Outcome::Error(types::Error::Rejected(types::Rejection {
                code: "1".to_owned(),
                text: text.to_owned(),
                field: None,
            }))
        };
        let unknown = || Outcome::Error(types::Error::UnknownOutcome(String::new()));
        let html = Reply::Answer(200, "text/html", b"<html>");
        assert!(judge(&html, 1, &unknown()).is_ok());
        assert!(judge(&html, 1, &Outcome::Success).is_err(), "a web page is no success");
        assert!(judge(&html, 0, &Outcome::Success).is_ok(), "a plugin without requests may accept");
        assert!(judge(&html, 1, &Outcome::Broken("trap".to_owned())).is_err());
        assert!(judge(&html, 1, &rejected(SECRET)).is_err(), "a secret in an error");
        assert!(judge(&html, 1, &rejected("for 9121****67")).is_err(), "a phone number in an error");
        assert!(judge(&Reply::Unanswered, 1, &rejected("refused")).is_err(), "it may have been done");
        assert!(judge(&Reply::NotSent, 1, &unknown()).is_err(), "nothing was done");
        assert!(judge(&Reply::NotSent, 1, &rejected("refused")).is_ok());
        let page = |status| Reply::Answer(status, "text/html", b"<html>");
        assert!(judge(&page(404), 1, &unknown()).is_err(), "a page with 404 did not take it");
        assert!(judge(&page(404), 1, &rejected("refused")).is_ok());
        assert!(judge(&page(408), 1, &rejected("refused")).is_err(), "408 may have been carried out");
        assert!(judge(&page(408), 1, &unknown()).is_ok());
    }
}
