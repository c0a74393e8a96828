//! SMS providers: from the domain's port to provider plugins.
//!
//! [`sms_route`] gives the domain one [`provider::PluginSms`] per selected entry, each behind its gate. The domain
//! decides whether an error is final, allows another provider, or leaves the outcome unknown; `words` only
//! translates. [`Reports`] reads the delivery reports that providers push. [`SandboxInbox`] shows what the trial
//! provider would send.

mod inbox;
mod provider;
mod report;
mod words;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use chelseru_config::Config;
use chelseru_config::rules::{gate_rules, sms_rules};
use chelseru_domain::operator::Meter;
use chelseru_domain::sms::gate::{Gate, GateRules};
use chelseru_domain::sms::queue::{SmsQueue, SmsRoute};
use chelseru_domain::sms::route::{Candidate, SmsProvider};

pub use inbox::SandboxInbox;
pub use report::Reports;

use crate::plugins::Providers;
use chelseru_plugin_host::Provider;

/// The selected providers in order, with a configuration's rules.
pub fn sms_route(
    config: &Config,
    providers: &Providers,
    queue: &SmsQueue,
    gates: &Gates,
    inbox: &Arc<SandboxInbox>,
    meter: &dyn Meter,
) -> SmsRoute {
    let candidates = provider::selected(config, providers, inbox, meter);
    let candidate = |provider: Arc<dyn SmsProvider>| {
        let gate = gates.of(provider.name(), gate_rules(config, provider.name()), providers);
        Candidate { provider, gate }
    };
    SmsRoute::new(queue.clone(), candidates.into_iter().map(candidate).collect(), sms_rules(config))
}

/// The gates of all provider entries ever selected; they persist across reloads.
#[derive(Default)]
pub struct Gates(Mutex<BTreeMap<String, Gated>>);

/// An entry's gate, and the provider that it last stood before.
type Gated = (Arc<Gate>, Weak<Provider>);

impl Gates {
    fn of(&self, name: &str, rules: GateRules, providers: &Providers) -> Arc<Gate> {
        let provider = providers.get(name).map_or_else(Weak::new, Arc::downgrade);
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((gate, before)) = gates.get_mut(name) {
            gate.set_rules(rules);
            if !before.ptr_eq(&provider) {
                // Another component, other settings or grants: what failed before may be mended.
                gate.try_again();
                *before = provider;
            }
            return Arc::clone(gate);
        }
        let gate = Arc::new(Gate::new(rules));
        gates.insert(name.to_owned(), (Arc::clone(&gate), provider));
        gate
    }
}
