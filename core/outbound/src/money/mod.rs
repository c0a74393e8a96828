//! Payment gateways, and the delivery of events about money.
//!
//! [`PluginPaymentGateways`] holds every entry that takes payments, the selected one first, with the built-in
//! [`SandboxBank`]. A plugin's rules are read and checked once, when it is loaded. A plugin with invalid rules is
//! refused like one that does not load.
//!
//! Not here: what an answer means for a payment (`chelseru-domain::payment`).

mod bank;
mod gateway;
pub mod webhooks;
mod words;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chelseru_config::Config;
use chelseru_domain::money::payment::gateway::{PaymentGateway, PaymentGateways};

use self::bank::SandboxGateway;
pub use bank::SandboxBank;

use self::gateway::PluginPaymentGateway;
use crate::kinds::PAYMENT_KIND;
use crate::plugins::Providers;

/// Every entry that takes payments, the selected one first.
pub struct PluginPaymentGateways {
    /// The selected one first, when it is there.
    all: Vec<Arc<dyn PaymentGateway>>,
    /// The entry that takes new payments; empty when there is none.
    selected: String,
    /// Its payments could not be asked about any more.
    selected_left: AtomicBool,
}

impl PluginPaymentGateways {
    /// Builds the bridge to every loaded payment plugin, and reads the rules of each.
    ///
    /// Errors: the name of each entry with invalid rules, and the reason.
    pub async fn load(
        config: &Config,
        providers: &Providers,
        sandbox: &Arc<SandboxBank>,
    ) -> Result<PluginPaymentGateways, Vec<(String, String)>> {
        let (mut all, mut refused): (Vec<Arc<dyn PaymentGateway>>, _) = (Vec::new(), Vec::new());
        for (name, provider) in providers.iter().filter(|(_, one)| one.plugin().kind() == PAYMENT_KIND.name) {
            match PluginPaymentGateway::load(name, provider).await {
                Ok(gateway) => all.push(Arc::new(gateway)),
                Err(reason) => refused.push((name.clone(), reason)),
            }
        }
        if !refused.is_empty() {
            return Err(refused);
        }
        // Always present, so its old sessions can end; selected only when configured.
        all.push(Arc::new(SandboxGateway { bank: sandbox.clone(), by_form: config.sandbox.form }));
        all.sort_by_key(|gateway| gateway.name() != config.payment.gateway);
        let (selected, selected_left) = (config.payment.gateway.clone(), AtomicBool::new(false));
        Ok(PluginPaymentGateways { all, selected, selected_left })
    }

    /// Called before others serve in place of these: requests that hold these begin no payment at a gateway that the
    /// others lack, or have by another plugin.
    pub fn give_way_to(&self, others: &PluginPaymentGateways) {
        let Some(selected) = self.selected() else { return };
        let stays =
            others.by_name(&self.selected).is_some_and(|gateway| gateway.plugin() == selected.plugin());
        self.selected_left.store(!stays, Ordering::Release);
    }
}

impl PaymentGateways for PluginPaymentGateways {
    fn selected(&self) -> Option<Arc<dyn PaymentGateway>> {
        // By name: in the place of one that did not load, no other one may take payments.
        self.by_name(&self.selected).filter(|_| !self.selected_left.load(Ordering::Acquire))
    }

    fn by_name(&self, name: &str) -> Option<Arc<dyn PaymentGateway>> {
        self.all.iter().find(|gateway| gateway.name() == name).cloned()
    }

    fn all(&self) -> Vec<Arc<dyn PaymentGateway>> {
        self.all.clone()
    }
}
