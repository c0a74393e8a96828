//! Builds the generation that requests see, from a configuration and the parts that outlive configurations.

use std::collections::BTreeSet;
use std::sync::Arc;

use chelseru_domain::bus::{Bus, Note};
use chelseru_domain::chat::ChatService;
use chelseru_domain::clock::Clock;
use chelseru_domain::money::alone::AloneMax;
use chelseru_domain::money::payment::Payments;
use chelseru_domain::money::wallet::Wallets;
use chelseru_domain::operator::api_key::ApiKeys;
use chelseru_domain::operator::console::{Console, ConsoleKeys};
use chelseru_domain::operator::desk::{Desk, DeskServices};
use chelseru_domain::operator::house::House;
use chelseru_domain::operator::webhook::Webhooks;
use chelseru_domain::operator::{Meter, Overview};
use chelseru_domain::secret::MasterKey;
use chelseru_domain::sms::ReportDecoder;
use chelseru_domain::sms::shield::Shield;
use chelseru_http::Generation;
use chelseru_http::chat::Chat;
use chelseru_http::console::stream::Streams;
use chelseru_http::files::Files;
use chelseru_http::files::store::FileStore;
use chelseru_http::login::Login;
use chelseru_http::money::Money;
use chelseru_http::operator::{Backups, Documents, Operator, OperatorToken};
use chelseru_http::personal::{Exports, Personal};
use chelseru_http::sms::{ReportSecrets, Sms};
use chelseru_outbound::money::{PluginPaymentGateways, SandboxBank};
use chelseru_outbound::sms::SandboxInbox;
use chelseru_sockets::Sockets;
use chelseru_store::Store;
use tokio_util::task::TaskTracker;

use crate::config::{Config, SANDBOX_PAY, Unit, rules};

/// The plugin whose message ids were numbers in the original's answers.
const NUMERIC_IDS: &str = "kavenegar";

/// Shared by all generations. Built once, at start.
pub(crate) struct Shared {
    pub(crate) services: Services,
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) files: Arc<FileStore>,
    pub(crate) inbox: Arc<SandboxInbox>,
    pub(crate) bank: Arc<SandboxBank>,
    pub(crate) report_secrets: ReportSecrets,
    pub(crate) decoder: Arc<dyn ReportDecoder>,
    pub(crate) meter: Arc<dyn Meter>,
    pub(crate) operator_token: String,
    pub(crate) overview: Arc<dyn Overview>,
    pub(crate) backups: Arc<dyn Backups>,
    pub(crate) documents: Documents,
    pub(crate) house: Arc<dyn House>,
    pub(crate) exports: Arc<Exports>,
    /// Serve the routes for tests of the gateway itself.
    pub(crate) test_routes: bool,
}

/// The domain's services that no configuration changes.
pub(crate) struct Services {
    pub(crate) api_keys: ApiKeys,
    pub(crate) webhooks: Webhooks,
    pub(crate) payments: Arc<Payments>,
    pub(crate) wallets: Arc<Wallets>,
    pub(crate) chat: Arc<ChatService>,
    pub(crate) shield: Arc<Shield>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Work that outlives its client.
    pub(crate) detached: TaskTracker,
    pub(crate) store: Store,
    pub(crate) console_keys: Arc<ConsoleKeys>,
    /// Of pages that are open at the console.
    pub(crate) streams: Arc<Streams>,
}

impl Services {
    pub(crate) fn new(
        store: &Store,
        key: &MasterKey,
        clock: &Arc<dyn Clock>,
        chat: Arc<ChatService>,
        bus: Option<Arc<dyn Bus>>,
    ) -> Services {
        Services {
            store: store.clone(),
            console_keys: Arc::new(ConsoleKeys::new(key)),
            streams: Arc::default(),
            api_keys: ApiKeys::new(store.clone(), clock.clone()),
            webhooks: Webhooks::new(store.clone(), clock.clone()),
            payments: Arc::new(Payments::new(store.clone(), clock.clone())),
            wallets: Arc::new(Wallets::new(store.clone(), clock.clone())),
            chat,
            shield: Arc::new(bus.map_or_else(Shield::default, |bus| {
                Shield::shared(move |note| bus.send(Note::Shield(note)))
            })),
            clock: clock.clone(),
            detached: TaskTracker::new(),
        }
    }
}

impl Services {
    /// The console's logins, under the rules of an identity.
    fn console(&self, identity: &Arc<chelseru_domain::login::identity::Identity>) -> Arc<Console> {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        Arc::new(Console::new(store, clock, identity.clone(), self.console_keys.clone()))
    }
}

/// Built anew for each configuration.
pub(crate) struct Parts {
    pub(crate) identity: Arc<chelseru_domain::login::identity::Identity>,
    pub(crate) otp: Arc<chelseru_domain::login::otp::OtpService>,
    pub(crate) sms: Arc<chelseru_domain::sms::queue::SmsRoute>,
    pub(crate) gateways: Arc<PluginPaymentGateways>,
}

impl Shared {
    /// Builds the slices of a configuration.
    pub(crate) fn generation(&self, config: &Config, parts: &Parts) -> Generation {
        let files = Arc::new(self.files(config, parts));
        Generation {
            login: Arc::new(self.login(config, parts, files.clone())),
            sms: Arc::new(self.sms(config, parts)),
            money: Arc::new(self.money(config, parts)),
            chat: Arc::new(self.chat(config, parts, files.clone())),
            files,
            operator: Arc::new(self.operator(config, parts)),
            personal: Arc::new(self.personal(parts)),
            console: Arc::new(self.console(config, parts)),
            origins: config.server.origins.clone(),
        }
    }

    fn login(&self, config: &Config, parts: &Parts, files: Arc<Files>) -> Login {
        Login {
            files,
            identity: parts.identity.clone(),
            otp: parts.otp.clone(),
            sms: parts.sms.clone(),
            shield: self.services.shield.clone(),
            shield_rules: rules::shield_rules(config),
            methods: config.auth.method.to_domain(),
            otp_length: config.auth.otp_length,
            clock: self.services.clock.clone(),
            meter: self.meter.clone(),
            detached: self.services.detached.clone(),
        }
    }

    fn personal(&self, parts: &Parts) -> Personal {
        Personal {
            identity: parts.identity.clone(),
            chat: self.services.chat.clone(),
            files: self.files.clone(),
            payments: self.services.payments.clone(),
            wallets: self.services.wallets.clone(),
            sms: parts.sms.clone(),
            clock: self.services.clock.clone(),
            exports: self.exports.clone(),
        }
    }

    fn sms(&self, config: &Config, parts: &Parts) -> Sms {
        let entries = config.provider.keys().cloned().chain(config.provider_names());
        Sms {
            identity: parts.identity.clone(),
            api_keys: self.services.api_keys.clone(),
            route: parts.sms.clone(),
            templates: config.sms.templates.keys().cloned().collect(),
            numeric_ids: entries.filter(|name| config.plugin_of(name) == Some(NUMERIC_IDS)).collect(),
            decoder: self.decoder.clone(),
            report_secrets: self.report_secrets.clone(),
            clock: self.services.clock.clone(),
            meter: self.meter.clone(),
            detached: self.services.detached.clone(),
        }
    }

    fn money(&self, config: &Config, parts: &Parts) -> Money {
        let bank = config.payment.gateway == SANDBOX_PAY;
        Money {
            payments: self.services.payments.clone(),
            wallets: self.services.wallets.clone(),
            gateways: parts.gateways.clone(),
            identity: parts.identity.clone(),
            rules: config.payment.clone(),
            currency: currency(config),
            correction_alone: correction_alone(config),
            bank: bank.then(|| self.bank.clone() as _),
            detached: self.services.detached.clone(),
        }
    }

    fn chat(&self, config: &Config, parts: &Parts, files: Arc<Files>) -> Chat {
        Chat {
            chat: self.services.chat.clone(),
            sockets: self.sockets.clone(),
            identity: parts.identity.clone(),
            files,
            limits: config.chat_limits(),
            echo: self.test_routes,
            detached: self.services.detached.clone(),
        }
    }

    fn files(&self, config: &Config, parts: &Parts) -> Files {
        Files {
            store: self.files.clone(),
            chat: self.services.chat.clone(),
            identity: parts.identity.clone(),
            limits: config.files.clone(),
            clock: self.services.clock.clone(),
            detached: self.services.detached.clone(),
        }
    }

    fn console(&self, config: &Config, parts: &Parts) -> chelseru_http::console::Console {
        let services = DeskServices {
            console: self.services.console(&parts.identity),
            identity: parts.identity.clone(),
            payments: self.services.payments.clone(),
            wallets: self.services.wallets.clone(),
            correction_alone: correction_alone(config),
            gateways: parts.gateways.clone(),
            webhooks: self.services.webhooks.clone(),
            endpoints: config.webhooks.endpoints.keys().cloned().collect(),
            api_keys: self.services.api_keys.clone(),
            sms: parts.sms.clone(),
            chat: self.services.chat.clone(),
            shield: self.services.shield.clone(),
            shield_rules: rules::shield_rules(config),
            overview: self.overview.clone(),
            house: self.house.clone(),
            clock: self.services.clock.clone(),
            detached: self.services.detached.clone(),
        };
        chelseru_http::console::Console {
            desk: Arc::new(Desk::new(services)),
            currency: currency(config),
            token: OperatorToken::new(&self.operator_token),
            personal: Arc::new(self.personal(parts)),
            streams: self.services.streams.clone(),
        }
    }

    fn operator(&self, config: &Config, parts: &Parts) -> Operator {
        Operator {
            identity: parts.identity.clone(),
            console: self.services.console(&parts.identity),
            token: OperatorToken::new(&self.operator_token),
            api_keys: self.services.api_keys.clone(),
            webhooks: self.services.webhooks.clone(),
            endpoints: config.webhooks.endpoints.keys().cloned().collect::<BTreeSet<_>>(),
            overview: self.overview.clone(),
            backups: self.backups.clone(),
            inbox: config.sandbox_selected().then(|| self.inbox.clone() as _),
            documents: self.documents.clone(),
            detached: self.services.detached.clone(),
        }
    }
}

/// What one person may correct alone; the configuration says it in the unit of the API.
fn correction_alone(config: &Config) -> AloneMax {
    match (config.payment.correction_alone_max, currency(config)) {
        (0, _) => AloneMax::ANY,
        (toman, chelseru_domain::money::Currency::Irt) => AloneMax::rial(toman.saturating_mul(10)),
        (rial, chelseru_domain::money::Currency::Irr) => AloneMax::rial(rial),
    }
}

fn currency(config: &Config) -> chelseru_domain::money::Currency {
    match config.payment.currency {
        Unit::Irt => chelseru_domain::money::Currency::Irt,
        Unit::Irr => chelseru_domain::money::Currency::Irr,
    }
}
