//! One provider entry that carries messages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use chelseru_config::{Config, SANDBOX_SMS_PLUGIN};
use chelseru_domain::clock::{Clock, SystemClock};
use chelseru_domain::operator::{Counter, Histogram, Meter};
use chelseru_domain::sms::credit::Credit;
use chelseru_domain::sms::route::SmsProvider;
use chelseru_domain::sms::{Rejection, SmsBody, SmsError, SmsMessage, SmsProgress, SmsReceipt};
use chelseru_plugin_host::Provider;

use super::SandboxInbox;
use super::words::{call_error, provider_error, recipient, report, shown, template_message};
use crate::bindings::{functions, sms_credit, sms_template, sms_text, sms_types};
use crate::facts::SmsFacts;
use crate::names::{SMS_CREDIT, SMS_STATUS, SMS_TEMPLATE, SMS_TEXT};
use crate::plugins::Providers;

/// The selected providers in order.
pub(super) fn selected(
    config: &Config,
    providers: &Providers,
    inbox: &Arc<SandboxInbox>,
    meter: &dyn Meter,
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
            counts: Counts::new(meter, name),
        }) as Arc<dyn SmsProvider>
    };
    loaded.map(bridge).collect()
}

/// Counters of one provider's messages.
struct Counts {
    accepted: Counter,
    refused: Counter,
    unknown: Counter,
    seconds: Histogram,
}

impl Counts {
    fn new(meter: &dyn Meter, provider: &str) -> Counts {
        let outcome =
            |outcome| meter.counter("chelseru_sms_total", &[("provider", provider), ("outcome", outcome)]);
        Counts {
            accepted: outcome("accepted"),
            refused: outcome("refused"),
            unknown: outcome("unknown"),
            seconds: meter.histogram("chelseru_sms_seconds", &[("provider", provider)]),
        }
    }
}

/// One provider entry that carries messages.
struct PluginSms {
    name: String,
    provider: Arc<Provider>,
    /// Template name -> this provider's id.
    templates: BTreeMap<String, String>,
    /// Set for the trial provider, whose messages are shown.
    inbox: Option<Arc<SandboxInbox>>,
    counts: Counts,
}

/// How one provider would send a message.
enum Way<'a> {
    Text(&'a str),
    Template { id: &'a str, values: &'a [(String, String)] },
}

impl PluginSms {
    async fn send_text(&self, message: &SmsMessage, text: &str) -> Result<SmsReceipt, SmsError> {
        let outgoing =
            sms_text::Message { recipients: vec![recipient(message)], text: text.to_owned(), sender: None };
        let (answer,) = self.provider.call(functions::SEND_TEXT, (outgoing,)).await.map_err(call_error)?;
        let mut receipts = answer.map_err(provider_error)?.into_iter();
        let (Some(receipt), None) = (receipts.next(), receipts.next()) else {
            // The provider was asked, and the plugin cannot tell the result.
            return Err(SmsError::UnknownOutcome("the plugin returned no single receipt".into()));
        };
        receipt.outcome.map(|accepted| self.receipt(accepted)).map_err(provider_error)
    }

    async fn send_template(&self, outgoing: sms_template::Message) -> Result<SmsReceipt, SmsError> {
        let (answer,) =
            self.provider.call(functions::SEND_TEMPLATE, (outgoing,)).await.map_err(call_error)?;
        answer.map(|accepted| self.receipt(accepted)).map_err(provider_error)
    }

    /// By template when this provider has an id for it, otherwise by text.
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

    /// What an interface says of itself, as it was asked when the plugin was loaded.
    fn limits(&self, interface: &str) -> Option<sms_types::Limits> {
        let facts = self.provider.facts::<SmsFacts>()?;
        if interface == SMS_TEXT { facts.text } else { facts.template }
    }

    fn receipt(&self, accepted: sms_types::Accepted) -> SmsReceipt {
        SmsReceipt {
            provider: self.name.clone(),
            message_id: Some(accepted.message_id).filter(|id| !id.is_empty()),
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
        self.limits(interface).is_some_and(|limits| limits.deduplicates)
    }

    async fn check(&self, message: &SmsMessage) -> Result<(), SmsError> {
        match self.way(&message.body) {
            None => Err(SmsError::NotMapped),
            Some(Way::Text(text)) => {
                let max = self.limits(SMS_TEXT).map_or(0, |limits| limits.characters_max as usize);
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

    async fn ask(&self, message_ids: Vec<String>) -> Result<Vec<(String, SmsProgress)>, SmsError> {
        let limits = self.provider.facts::<SmsFacts>().and_then(|facts| facts.status);
        let ids_max = limits.map_or(1, |limits| limits.ids_max.max(1)) as usize;
        let mut reports = Vec::with_capacity(message_ids.len());
        for ids in message_ids.chunks(ids_max) {
            let (answer,) =
                self.provider.call(functions::GET_STATUS, (ids.to_vec(),)).await.map_err(call_error)?;
            reports.extend(answer.map_err(provider_error)?.into_iter().map(report));
        }
        Ok(reports)
    }

    fn reports_credit(&self) -> bool {
        self.provider.plugin().exports(SMS_CREDIT)
    }

    async fn credit(&self) -> Result<Credit, SmsError> {
        let (answer,) = self.provider.call(functions::GET_CREDIT, ()).await.map_err(call_error)?;
        Ok(match answer.map_err(provider_error)? {
            sms_credit::Credit::Rial(amount) => Credit::Rial(amount),
            sms_credit::Credit::Messages(count) => Credit::Messages(count),
        })
    }

    async fn send(&self, message: &SmsMessage) -> Result<SmsReceipt, SmsError> {
        let started = Instant::now();
        let result = self.send_body(message).await;
        self.counts.seconds.record(started.elapsed().as_secs_f64());
        match &result {
            Ok(_) => self.counts.accepted.increment(),
            Err(SmsError::UnknownOutcome(_)) => self.counts.unknown.increment(),
            Err(_) => self.counts.refused.increment(),
        }
        if let (Ok(_), Some(inbox)) = (&result, &self.inbox) {
            inbox.add(&self.name, &message.to, shown(&message.body), SystemClock.now());
        }
        result
    }
}
