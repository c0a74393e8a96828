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
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chelseru_domain::clock::{Clock, SystemClock};
use chelseru_domain::sms::gate::{Gate, GateRules};
use chelseru_domain::sms::queue::{SmsQueue, SmsRoute};
use chelseru_domain::sms::route::{Candidate, SmsProvider};
use chelseru_domain::sms::{Progress, Rejection, SmsBody, SmsError, SmsMessage, SmsReceipt};
use chelseru_plugin_host::{CallError, Kind, Provider};
use tokio::sync::OnceCell;

use crate::bindings::{functions, sms_status, sms_template, sms_text, sms_types, types};
use crate::config::rules::{gate_rules, sms_rules};
use crate::config::{Config, SANDBOX_SMS_PLUGIN};
use crate::metrics::{Metrics, SmsMetrics};
use crate::sandbox::Inbox;

pub const SMS_TEXT: &str = "sms-text";
pub const SMS_TEMPLATE: &str = "sms-template";
pub const SMS_STATUS: &str = "sms-status";
pub const SMS_PUSH: &str = "sms-push";

/// The kinds of plugin this gateway loads.
pub const KINDS: &[Kind] = &[SMS, crate::payments::KIND];

const SMS: Kind = Kind {
    name: "sms",
    package: "chelseru:provider",
    versions: &[(0, 1)],
    any_of: &[SMS_TEXT, SMS_TEMPLATE],
    optional: &[SMS_STATUS, "sms-credit", SMS_PUSH],
    functions: functions::ALL,
};

/// The selected providers in their order, with the rules of a configuration: what messages are sent by.
pub fn sms_route(
    config: &Config,
    providers: &Providers,
    queue: &SmsQueue,
    gates: &Gates,
    inbox: &Arc<Inbox>,
    metrics: &Metrics,
) -> SmsRoute {
    let candidates = PluginSms::selected(config, providers, inbox, metrics);
    let candidate = |provider: Arc<dyn SmsProvider>| {
        let gate = gates.of(provider.name(), gate_rules(config, provider.name()));
        Candidate { provider, gate }
    };
    SmsRoute::new(queue.clone(), candidates.into_iter().map(candidate).collect(), sms_rules(config))
}

/// The gates of all provider entries that were ever selected; they go on across reloads.
#[derive(Default)]
pub struct Gates(Mutex<BTreeMap<String, Arc<Gate>>>);

impl Gates {
    fn of(&self, name: &str, rules: GateRules) -> Arc<Gate> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(name) {
            gate.set_rules(rules);
            return Arc::clone(gate);
        }
        let gate = Arc::new(Gate::new(rules));
        gates.insert(name.to_owned(), Arc::clone(&gate));
        gate
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
    /// What the plugin says of texts, templates and questions; asked for once.
    text_limits: OnceCell<Option<sms_types::Limits>>,
    template_limits: OnceCell<Option<sms_types::Limits>>,
    status_limits: OnceCell<Option<sms_status::Limits>>,
}

/// How one provider would send a message.
enum Way<'a> {
    Text(&'a str),
    Template { id: &'a str, values: &'a [(String, String)] },
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
                text_limits: OnceCell::new(),
                template_limits: OnceCell::new(),
                status_limits: OnceCell::new(),
            }) as Arc<dyn SmsProvider>
        };
        loaded.map(bridge).collect()
    }

    async fn send_text(&self, message: &SmsMessage, text: &str) -> Result<SmsReceipt, SmsError> {
        let outgoing =
            sms_text::Message { recipients: vec![recipient(message)], text: text.to_owned(), sender: None };
        let (answer,) = self.provider.call(functions::SEND_TEXT, (outgoing,)).await.map_err(call_error)?;
        let mut receipts = answer.map_err(provider_error)?.into_iter();
        let (Some(receipt), None) = (receipts.next(), receipts.next()) else {
            // The provider was asked and the plugin cannot say what became of the message.
            return Err(SmsError::UnknownOutcome("the plugin returned no single receipt".into()));
        };
        receipt.outcome.map(|accepted| self.receipt(accepted)).map_err(provider_error)
    }

    async fn send_template(&self, outgoing: sms_template::Message) -> Result<SmsReceipt, SmsError> {
        let (answer,) =
            self.provider.call(functions::SEND_TEMPLATE, (outgoing,)).await.map_err(call_error)?;
        answer.map(|accepted| self.receipt(accepted)).map_err(provider_error)
    }

    /// By its template when there is an id for it, else by its text.
    fn way<'a>(&'a self, body: &'a SmsBody) -> Option<Way<'a>> {
        let plugin = self.provider.plugin();
        let text = match body {
            SmsBody::Text { text } => Some(text),
            SmsBody::Template { name, values, fallback_text } => match self.templates.get(name) {
                Some(id) if plugin.exports(SMS_TEMPLATE) => return Some(Way::Template { id, values }),
                _ => fallback_text.as_ref(),
            },
        };
        text.filter(|_| plugin.exports(SMS_TEXT)).map(|text| Way::Text(text))
    }

    async fn send_body(&self, message: &SmsMessage) -> Result<SmsReceipt, SmsError> {
        match self.way(&message.body) {
            None => Err(SmsError::NotMapped),
            Some(Way::Text(text)) => self.send_text(message, text).await,
            Some(Way::Template { id, values }) => {
                self.send_template(template_message(message, id, values)).await
            }
        }
    }

    /// What an interface says of itself; `None` when it cannot be asked, which is no error of a message.
    async fn limits(&self, interface: &str) -> Option<sms_types::Limits> {
        let cell = if interface == SMS_TEXT { &self.text_limits } else { &self.template_limits };
        let function =
            if interface == SMS_TEXT { functions::TEXT_LIMITS } else { functions::TEMPLATE_LIMITS };
        let ask = || async { self.provider.call_pure(function, ()).await.ok().map(|(limits,)| limits) };
        *cell.get_or_init(ask).await
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

    async fn deduplicates(&self, message: &SmsMessage) -> bool {
        let interface = match self.way(&message.body) {
            Some(Way::Text(_)) => SMS_TEXT,
            Some(Way::Template { .. }) => SMS_TEMPLATE,
            None => return false,
        };
        self.limits(interface).await.is_some_and(|limits| limits.deduplicates)
    }

    async fn check(&self, message: &SmsMessage) -> Result<(), SmsError> {
        match self.way(&message.body) {
            None => Err(SmsError::NotMapped),
            Some(Way::Text(text)) => {
                let max = self.limits(SMS_TEXT).await.map_or(0, |limits| limits.characters_max as usize);
                let characters = text.chars().count();
                if max == 0 || characters <= max {
                    return Ok(());
                }
                let text = format!("{characters} characters; at most {max} are sent");
                Err(SmsError::InvalidMessage(Rejection { code: "too_long".into(), text }))
            }
            Some(Way::Template { id, values }) => {
                let outgoing = template_message(message, id, values);
                let (answer,) = self
                    .provider
                    .call_pure(functions::CHECK_TEMPLATE, (outgoing,))
                    .await
                    .map_err(call_error)?;
                answer.map_err(provider_error)
            }
        }
    }

    fn reports(&self) -> bool {
        self.provider.plugin().exports(SMS_STATUS)
    }

    async fn ask(&self, message_ids: Vec<String>) -> Result<Vec<(String, Progress)>, SmsError> {
        let limits = self
            .status_limits
            .get_or_init(|| async {
                self.provider.call_pure(functions::STATUS_LIMITS, ()).await.ok().map(|(limits,)| limits)
            })
            .await;
        let ids_max = limits.map_or(1, |limits| limits.ids_max.max(1)) as usize;
        let mut reports = Vec::with_capacity(message_ids.len());
        for ids in message_ids.chunks(ids_max) {
            let (answer,) =
                self.provider.call(functions::GET_STATUS, (ids.to_vec(),)).await.map_err(call_error)?;
            reports.extend(answer.map_err(provider_error)?.into_iter().map(report));
        }
        Ok(reports)
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

fn template_message(message: &SmsMessage, id: &str, values: &[(String, String)]) -> sms_template::Message {
    let value =
        |(name, value): &(String, String)| sms_template::Value { name: name.clone(), value: value.clone() };
    sms_template::Message {
        recipient: recipient(message),
        template: id.to_owned(),
        values: values.iter().map(value).collect(),
    }
}

/// What a provider says of one message, in the domain's words.
pub(crate) fn report(report: sms_types::Report) -> (String, Progress) {
    let progress = match report.state {
        sms_types::State::Queued | sms_types::State::Sent => Progress::Underway,
        sms_types::State::Delivered => Progress::Delivered,
        sms_types::State::Failed => Progress::Failed,
        sms_types::State::Unknown => Progress::NotKnown,
    };
    (report.message_id, progress)
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
        types::Error::BrokeDown(text) => SmsError::BrokeDown(text),
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
