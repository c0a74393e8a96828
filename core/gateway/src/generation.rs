//! Builds the generation that requests see, from a configuration and the parts that outlive configurations.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use chelseru_domain::chat::ChatService;
use chelseru_domain::clock::Clock;
use chelseru_domain::money::payment::Payments;
use chelseru_domain::money::wallet::Wallets;
use chelseru_domain::operator::api_key::ApiKeys;
use chelseru_domain::operator::webhook::Webhooks;
use chelseru_domain::operator::{Meter, Overview, Storage};
use chelseru_domain::sms::ReportDecoder;
use chelseru_domain::sms::shield::Shield;
use chelseru_http::chat::Chat;
use chelseru_http::files::Files;
use chelseru_http::files::store::FileStore;
use chelseru_http::login::Login;
use chelseru_http::money::Money;
use chelseru_http::operator::{Backups, Copied, Operator, OperatorToken};
use chelseru_http::sms::{ReportSecrets, Sms};
use chelseru_http::{Generation, Generations};
use chelseru_outbound::money::{PluginPaymentGateways, SandboxBank};
use chelseru_outbound::plugins;
use chelseru_outbound::sms::SandboxInbox;
use chelseru_sockets::Sockets;
use chelseru_store::Store;
use serde_json::Value;
use tokio_util::task::TaskTracker;

use crate::app::{App, Live};
use crate::config::{Config, SANDBOX_PAY, Unit, rules};
use crate::{backup, messages, payments, store_watch};

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
    pub(crate) view: Arc<View>,
    pub(crate) document: Arc<Value>,
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
}

impl Services {
    pub(crate) fn new(store: &Store, clock: &Arc<dyn Clock>, chat: Arc<ChatService>) -> Services {
        Services {
            api_keys: ApiKeys::new(store.clone(), clock.clone()),
            webhooks: Webhooks::new(store.clone(), clock.clone()),
            payments: Arc::new(Payments::new(store.clone(), clock.clone())),
            wallets: Arc::new(Wallets::new(store.clone(), clock.clone())),
            chat,
            shield: Arc::default(),
            clock: clock.clone(),
            detached: TaskTracker::new(),
        }
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
        Generation {
            login: Arc::new(self.login(config, parts)),
            sms: Arc::new(self.sms(config, parts)),
            money: Arc::new(self.money(config, parts)),
            chat: Arc::new(self.chat(config, parts)),
            files: Arc::new(self.files(config, parts)),
            operator: Arc::new(self.operator(config, parts)),
        }
    }

    fn login(&self, config: &Config, parts: &Parts) -> Login {
        Login {
            identity: parts.identity.clone(),
            otp: parts.otp.clone(),
            sms: parts.sms.clone(),
            shield: self.services.shield.clone(),
            shield_rules: rules::shield_rules(config),
            methods: config.auth.method.clone(),
            otp_length: config.auth.otp_length,
            clock: self.services.clock.clone(),
            meter: self.meter.clone(),
            detached: self.services.detached.clone(),
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
            currency: match config.payment.currency {
                Unit::Irt => chelseru_domain::money::Currency::Irt,
                Unit::Irr => chelseru_domain::money::Currency::Irr,
            },
            bank: bank.then(|| self.bank.clone() as _),
            detached: self.services.detached.clone(),
        }
    }

    fn chat(&self, config: &Config, parts: &Parts) -> Chat {
        Chat {
            chat: self.services.chat.clone(),
            sockets: self.sockets.clone(),
            identity: parts.identity.clone(),
            limits: config.chat.clone(),
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
            text_chars_max: config.chat.text_chars_max,
            clock: self.services.clock.clone(),
            detached: self.services.detached.clone(),
        }
    }

    fn operator(&self, config: &Config, parts: &Parts) -> Operator {
        Operator {
            identity: parts.identity.clone(),
            token: OperatorToken::new(&self.operator_token),
            api_keys: self.services.api_keys.clone(),
            webhooks: self.services.webhooks.clone(),
            endpoints: config.webhooks.endpoints.keys().cloned().collect::<BTreeSet<_>>(),
            overview: self.view.clone(),
            backups: self.view.clone(),
            inbox: config.sandbox_selected().then(|| self.inbox.clone() as _),
            document: self.document.clone(),
            detached: self.services.detached.clone(),
        }
    }
}

/// The generation of the serving configuration.
pub(crate) struct Serving(pub(crate) Arc<ArcSwap<Live>>);

impl Generations for Serving {
    fn current(&self) -> Arc<Generation> {
        self.0.load().generation.clone()
    }
}

/// The application as operator routes see it. Holds a weak reference, so it does not keep the gateway alive.
#[derive(Default)]
pub(crate) struct View(OnceLock<Weak<App>>);

impl View {
    /// Sets the application.
    pub(crate) fn show(&self, app: &Arc<App>) {
        let _ = self.0.set(Arc::downgrade(app));
    }

    fn app(&self) -> Option<Arc<App>> {
        self.0.get()?.upgrade()
    }
}

#[async_trait]
impl Overview for View {
    async fn status(&self) -> Value {
        match self.app() {
            Some(app) => app.status().await,
            None => Value::Null,
        }
    }

    async fn metrics(&self) -> String {
        let Some(app) = self.app() else { return String::new() };
        store_watch::measure(&app);
        messages::measure(&app).await;
        payments::measure(&app).await;
        plugins::measure(&app.registry, app.metrics.as_ref());
        if let Ok(bytes) = app.chat.file_bytes_total().await {
            app.metrics.gauge("chelseru_files_bytes", &[], bytes as f64);
        }
        app.metrics.render()
    }

    fn storage(&self) -> Storage {
        self.app().map_or(Storage::Stalled, |app| store_watch::storage(&app.store))
    }

    fn has_failed(&self) -> bool {
        self.app().is_some_and(|app| app.store.has_failed())
    }

    fn is_degraded(&self) -> bool {
        self.app().is_some_and(|app| app.registry.health().is_degraded())
    }

    fn is_stopping(&self) -> bool {
        self.app().is_none_or(|app| app.stop.is_cancelled())
    }
}

#[async_trait]
impl Backups for View {
    async fn write(&self, folder: &std::path::Path) -> Result<Copied, String> {
        let app = self.app().ok_or("the gateway is stopping")?;
        backup::write(&app.store, &app.ground.data_dir, folder).await
    }
}
