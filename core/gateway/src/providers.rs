//! The bridge from the domain's SMS port to provider plugins.
//!
//! One [`PluginSms`] per selected provider entry: it translates a message into the plugin's interface, calls
//! it, and translates the receipt or error back. Whether an error is final, may be tried with another
//! provider, or leaves the outcome unknown is the domain's decision; here only the words change.
//!
//! Invariant: a call that failed after one of its HTTP requests may have left is an unknown outcome, whatever
//! the plugin or the host says about it.
//!
//! Not here: loading and limits (`chelseru-plugin-host`), order and failover (`chelseru-domain::sms`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chelseru_domain::clock::{Clock, SystemClock};
use chelseru_domain::sms::route::{self, SmsProvider};
use chelseru_domain::sms::{Rejection, SmsBody, SmsError, SmsMessage, SmsPort, SmsReceipt};
use chelseru_plugin_host::{CallError, Kind, Provider};

use crate::bindings::{sms_template, sms_text, sms_types, types};
use crate::config::{Config, SANDBOX_SMS_PLUGIN};
use crate::metrics::{Metrics, SmsMetrics};
use crate::sandbox::Inbox;

pub const SMS_TEXT: &str = "sms-text";
pub const SMS_TEMPLATE: &str = "sms-template";

/// The kinds of plugin this gateway loads.
pub const KINDS: &[Kind] = &[Kind {
    name: "sms",
    package: "chelseru:provider",
    versions: &[(0, 1)],
    any_of: &[SMS_TEXT, SMS_TEMPLATE],
    optional: &["sms-status", "sms-credit", "sms-push"],
}];

/// The selected providers in their order: the domain's port.
pub struct SmsRoute(Vec<Arc<dyn SmsProvider>>);

impl SmsRoute {
    pub fn new(config: &Config, providers: &Providers, inbox: &Arc<Inbox>, metrics: &Metrics) -> SmsRoute {
        SmsRoute(PluginSms::selected(config, providers, inbox, metrics))
    }
}

#[async_trait]
impl SmsPort for SmsRoute {
    async fn send(&self, message: SmsMessage) -> Result<SmsReceipt, SmsError> {
        let routed = route::send(&self.0, &message).await;
        for failure in &routed.failures {
            let (provider, error) = (&failure.provider, &failure.error);
            let text = error.rejection().map_or("", |rejection| rejection.text.as_str());
            tracing::warn!(plugin.id = %provider, phone = %message.to, %error, text, "a provider did not send");
        }
        if let Ok(receipt) = &routed.result {
            tracing::debug!(plugin.id = %receipt.provider, phone = %message.to, "message accepted");
        }
        routed.result
    }
}

/// Loaded provider entries by name.
pub type Providers = BTreeMap<String, Arc<Provider>>;

/// One provider entry that carries messages.
struct PluginSms {
    name: String,
    provider: Arc<Provider>,
    /// Logical template name -> this provider's id.
    templates: BTreeMap<String, String>,
    /// Set for the trial provider: its messages are shown.
    inbox: Option<Arc<Inbox>>,
    metrics: SmsMetrics,
}

impl PluginSms {
    /// The selected providers in their order.
    fn selected(
        config: &Config,
        providers: &Providers,
        inbox: &Arc<Inbox>,
        metrics: &Metrics,
    ) -> Vec<Arc<dyn SmsProvider>> {
        let names = config.sms.service.names().iter();
        let loaded = names.filter_map(|name| providers.get(name).map(|provider| (name, provider)));
        let bridge = |(name, provider): (&String, &Arc<Provider>)| {
            let templates = config.sms.templates.iter();
            let own = templates.filter_map(|(logical, ids)| Some((logical.clone(), ids.get(name)?.clone())));
            let sandbox = provider.plugin().description().name == SANDBOX_SMS_PLUGIN;
            Arc::new(PluginSms {
                name: name.clone(),
                provider: provider.clone(),
                templates: own.collect(),
                inbox: sandbox.then(|| inbox.clone()),
                metrics: metrics.sms(name),
            }) as Arc<dyn SmsProvider>
        };
        loaded.map(bridge).collect()
    }

    async fn send_text(&self, message: &SmsMessage, text: &str) -> Result<SmsReceipt, SmsError> {
        let outgoing =
            sms_text::Message { recipients: vec![recipient(message)], text: text.to_owned(), sender: None };
        let (answer,): (Result<Vec<sms_text::Receipt>, types::Error>,) =
            self.provider.call(SMS_TEXT, "send", (outgoing,)).await.map_err(call_error)?;
        let mut receipts = answer.map_err(provider_error)?.into_iter();
        let (Some(receipt), None) = (receipts.next(), receipts.next()) else {
            // The provider was asked and the plugin cannot say what became of the message.
            return Err(SmsError::UnknownOutcome("the plugin returned no single receipt".into()));
        };
        receipt.outcome.map(|accepted| self.receipt(accepted)).map_err(provider_error)
    }

    async fn send_template(
        &self,
        message: &SmsMessage,
        template: &str,
        values: &[(String, String)],
    ) -> Result<SmsReceipt, SmsError> {
        let value = |(name, value): &(String, String)| sms_template::Value {
            name: name.clone(),
            value: value.clone(),
        };
        let outgoing = sms_template::Message {
            recipient: recipient(message),
            template: template.to_owned(),
            values: values.iter().map(value).collect(),
        };
        let (answer,): (Result<sms_types::Accepted, types::Error>,) =
            self.provider.call(SMS_TEMPLATE, "send", (outgoing,)).await.map_err(call_error)?;
        answer.map(|accepted| self.receipt(accepted)).map_err(provider_error)
    }

    async fn send_body(&self, message: &SmsMessage) -> Result<SmsReceipt, SmsError> {
        let plugin = self.provider.plugin();
        let fallback = match &message.body {
            SmsBody::Text { text } => Some(text),
            SmsBody::Template { name, values, fallback_text } => match self.templates.get(name) {
                Some(id) if plugin.exports(SMS_TEMPLATE) => {
                    return self.send_template(message, id, values).await;
                }
                _ => fallback_text.as_ref(),
            },
        };
        match fallback {
            Some(text) if plugin.exports(SMS_TEXT) => self.send_text(message, text).await,
            _ => Err(SmsError::InvalidTemplate(Rejection {
                code: "no-mapping".into(),
                text: format!("{} has no id for this template, or cannot send such a message", self.name),
            })),
        }
    }

    fn receipt(&self, accepted: sms_types::Accepted) -> SmsReceipt {
        SmsReceipt {
            provider: self.name.clone(),
            message_id: accepted.message_id,
            duplicate: accepted.duplicate,
            cost_rial: accepted.cost_rial,
        }
    }
}

#[async_trait]
impl SmsProvider for PluginSms {
    fn name(&self) -> &str {
        &self.name
    }

    async fn send(&self, message: &SmsMessage) -> Result<SmsReceipt, SmsError> {
        let started = Instant::now();
        let result = self.send_body(message).await;
        self.metrics.seconds.record(started.elapsed().as_secs_f64());
        match &result {
            Ok(_) => self.metrics.accepted.increment(1),
            Err(SmsError::UnknownOutcome(_)) => self.metrics.unknown.increment(1),
            Err(_) => self.metrics.refused.increment(1),
        }
        if let (Ok(_), Some(inbox)) = (&result, &self.inbox) {
            inbox.add(&self.name, message.to.local(), shown(&message.body), SystemClock.now());
        }
        result
    }
}

/// What the sandbox shows of a message.
fn shown(body: &SmsBody) -> String {
    match body {
        SmsBody::Text { text } => text.clone(),
        SmsBody::Template { fallback_text: Some(text), .. } => text.clone(),
        SmsBody::Template { name, values, .. } => {
            let values: Vec<String> = values.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("template {name}: {}", values.join(", "))
        }
    }
}

fn recipient(message: &SmsMessage) -> sms_types::Recipient {
    sms_types::Recipient { number: message.to.e164().to_owned(), local_id: message.local_id }
}

/// What the plugin itself reported.
fn provider_error(error: types::Error) -> SmsError {
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
        types::Error::Misconfigured(text) => SmsError::Misconfigured(text),
    }
}

/// What the host reported of a call that gave no answer.
fn call_error(error: CallError) -> SmsError {
    match error {
        CallError::Busy => SmsError::Busy,
        other => SmsError::PluginFault { request_sent: other.may_have_sent(), reason: other.to_string() },
    }
}
