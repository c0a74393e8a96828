//! The part of the gateway that a reload replaces, as one `Arc`.

use std::sync::Arc;

use arc_swap::ArcSwap;
use chelseru_domain::login::identity::Identity;
use chelseru_domain::login::otp::OtpService;
use chelseru_domain::sms::queue::SmsRoute;
use chelseru_http::{Generation, Generations};
use chelseru_outbound::money::PluginPaymentGateways;
use chelseru_outbound::money::webhooks::Endpoints;

use crate::config::Config;
use crate::generation::{Parts, Shared};
use crate::login::Services;

/// The part that a reload replaces.
pub struct Live {
    pub generation: Arc<Generation>,
    pub config: Config,
    pub identity: Arc<Identity>,
    pub otp: Arc<OtpService>,
    pub sms: Arc<SmsRoute>,
    pub gateways: Arc<PluginPaymentGateways>,
    /// The webhook endpoints.
    pub endpoints: Arc<Endpoints>,
}

impl Live {
    pub(crate) fn new(shared: &Shared, config: Config, parts: Parts, endpoints: Arc<Endpoints>) -> Live {
        let generation = Arc::new(shared.generation(&config, &parts));
        let Parts { identity, otp, sms, gateways } = parts;
        Live { generation, config, identity, otp, sms, gateways, endpoints }
    }

    /// The services that a candidate keeps.
    pub(crate) fn services(&self) -> Services {
        Services { otp: self.otp.clone(), identity: self.identity.clone() }
    }
}

/// The generation of the serving configuration.
pub(crate) struct Serving(pub(crate) Arc<ArcSwap<Live>>);

impl Generations for Serving {
    fn current(&self) -> Arc<Generation> {
        self.0.load().generation.clone()
    }
}
