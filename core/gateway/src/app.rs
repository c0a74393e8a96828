//! The wiring: the one place where the parts of the gateway meet.
//!
//! [`Gateway::open`] builds everything from a checked configuration, in the order in which things may fail:
//! keys, store, plugins, listener. [`App`] is what requests share; [`Live`] is the part of it that a reload
//! replaces, as one `Arc`, so that a request sees one configuration from start to end.
//!
//! Not here: rules (domain), protocols (plugins), routes (`http`), transactions of a reload (`reload`).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use chelseru_domain::audit::{AuditEvent, AuditKind};
use chelseru_domain::chat::{ChatService, Stored};
use chelseru_domain::clock::{Clock, SystemClock};
use chelseru_domain::identity::Identity;
use chelseru_domain::otp::OtpService;
use chelseru_domain::payment::Payments;
use chelseru_domain::secret::{KeyUse, MasterKey};
use chelseru_domain::sms::queue::{SmsQueue, SmsRoute};
use chelseru_domain::sms::shield::Shield;
use chelseru_domain::token::Tokens;
use chelseru_domain::wallet::Wallets;
use chelseru_domain::webhook::Webhooks;
use chelseru_http::files::store::FileStore;
use chelseru_http::sms::ReportSecrets;
use chelseru_http::{Api, Generation, openapi, server};
use chelseru_outbound::money::webhooks::Endpoints;
use chelseru_outbound::money::{PluginPaymentGateways, SandboxBank};
use chelseru_outbound::plugins::{self, Providers};
use chelseru_outbound::sms::{Gates, Reports, SandboxInbox, sms_route};
use chelseru_plugin_host::{Desired, Registry};
use chelseru_sockets::{Hub, Sockets, look_after};
use chelseru_store::{Health, Recovered, Store, StoreError, StoreOptions};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{self, Config, Loaded, Server};
use crate::door::OperatorDoor;
use crate::generation::{self, Parts, Serving, Shared, View};
use crate::logging::LogHandle;
use crate::metrics::Metrics;
use crate::payments;
use crate::reload::{self, ReloadStatus};
use crate::rules::Services;
use crate::{keys, messages, private, webhooks};

/// How often memory-only facts (last seen, metric samples) are folded or written, and expired records removed.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(15);
/// Expired records removed in one step, so that a step never holds up the writer.
const PURGE_STEP: usize = 500;

/// What requests share.
pub struct App {
    pub store: Store,
    pub registry: Arc<Registry>,
    /// Delivery reports that providers push.
    pub reports: Arc<Reports>,
    pub limits: Server,
    pub metrics: Arc<Metrics>,
    pub inbox: Arc<SandboxInbox>,
    pub payments: Arc<Payments>,
    pub wallets: Arc<Wallets>,
    pub webhooks: Webhooks,
    pub sandbox_bank: Arc<SandboxBank>,
    pub chat: Arc<ChatService>,
    pub files: Arc<FileStore>,
    /// The sockets that watch rooms.
    pub hub: Arc<Hub>,
    pub(crate) data_dir: PathBuf,
    pub plugins_dir: PathBuf,
    pub log: LogHandle,
    /// Work that outlives its client, finished before the gateway stops.
    pub detached: TaskTracker,
    /// Chat over sockets; they are told to end before the gateway stops.
    pub sockets: Arc<Sockets>,
    pub sms_queue: SmsQueue,
    pub shield: Arc<Shield>,
    pub(crate) shared: Shared,
    pub(crate) api: Arc<Api>,
    gates: Gates,
    pub clock: Arc<dyn Clock>,
    /// How commands of this machine are known.
    pub door: OperatorDoor,
    key: MasterKey,
    live: Arc<ArcSwap<Live>>,
    desired: Mutex<Vec<Desired>>,
    reload: Mutex<ReloadStatus>,
    started: (Instant, u64),
}

/// What a reload replaces.
pub struct Live {
    pub generation: Arc<Generation>,
    pub config: Config,
    pub identity: Arc<Identity>,
    pub otp: Arc<OtpService>,
    pub sms: Arc<SmsRoute>,
    pub gateways: Arc<PluginPaymentGateways>,
    /// Who is told of payments and wallets.
    pub endpoints: Arc<Endpoints>,
}

/// What a configuration holds beyond its text: keys that were read, and what is made of them.
pub struct Secrets {
    tokens: Tokens,
    endpoints: Endpoints,
}

impl Live {
    fn new(shared: &Shared, config: Config, parts: Parts, endpoints: Arc<Endpoints>) -> Live {
        let generation = Arc::new(shared.generation(&config, &parts));
        let Parts { identity, otp, sms, gateways } = parts;
        Live { generation, config, identity, otp, sms, gateways, endpoints }
    }
}

impl App {
    /// The configuration and providers that serve now.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Lets a new configuration and its providers take over.
    ///
    /// Without `secrets`, those before stay. Errors: a sentence, when the domain refuses a rule; nothing has changed
    /// then.
    pub fn install(
        &self,
        config: Config,
        secrets: Option<Secrets>,
        desired: Vec<Desired>,
        providers: &Providers,
        gateways: PluginPaymentGateways,
    ) -> Result<(), String> {
        let before = self.live();
        let (tokens, endpoints) = match secrets {
            Some(Secrets { tokens, endpoints }) => (Some(tokens), Arc::new(endpoints)),
            None => (None, before.endpoints.clone()),
        };
        let Services { otp, identity } = Services::again(&config, tokens, &before.otp, &before.identity)?;
        if before.config.sandbox_selected() && !config.sandbox_selected() {
            self.inbox.clear();
        }
        let (queue, gates) = (&self.sms_queue, &self.gates);
        let sms = Arc::new(sms_route(&config, providers, queue, gates, &self.inbox, self.metrics.as_ref()));
        self.chat.set_rules(config.chat.rules());
        let parts = Parts { identity, otp, sms, gateways: Arc::new(gateways) };
        self.sockets.set_identity(parts.identity.clone());
        self.live.store(Arc::new(Live::new(&self.shared, config, parts, endpoints)));
        *lock(&self.desired) = desired;
        Ok(())
    }

    /// What a configuration refers to. Errors: a text for the operator.
    pub fn secrets(&self, loaded: &Loaded) -> Result<Secrets, String> {
        Ok(Secrets {
            tokens: config::rules::tokens(loaded, &self.key)?,
            endpoints: Endpoints::load(loaded).map_err(|problems| problems.to_string())?,
        })
    }

    /// Records a security event.
    pub fn audit(&self, event: AuditEvent) {
        self.live().identity.audit().record(event);
    }

    /// What the plugin host shall load, as of the serving configuration.
    pub fn desired(&self) -> Vec<Desired> {
        lock(&self.desired).clone()
    }

    pub fn reload_status(&self) -> MutexGuard<'_, ReloadStatus> {
        lock(&self.reload)
    }

    /// Whether durable writes are possible.
    pub fn is_healthy(&self) -> bool {
        self.store.health() == Health::Serving
    }

    /// What `status/` answers.
    pub fn status(&self) -> Value {
        let live = self.live();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "started_at": self.started.1,
            "uptime_seconds": self.started.0.elapsed().as_secs(),
            "store": {"healthy": self.is_healthy()},
            "config": &*self.reload_status(),
            "sms": messages::status(self),
            "payment": payments::status(self),
            "chat": {"sockets": self.hub.sockets()},
            // More than none is a hole on purpose; whoever looks here should see it.
            "auth": {"test_numbers": live.config.auth.otp_test_numbers.len()},
            "providers": self.registry.status(),
        })
    }
}

/// Now, in Unix milliseconds, for what is shown to operators.
pub fn unix_millis() -> u64 {
    SystemClock.now().as_micros() / 1000
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a caller of [`Gateway::open`] chooses and a configuration does not.
pub struct GatewayOptions {
    pub clock: Arc<dyn Clock>,
    /// Print the sandbox's messages to standard output.
    pub print_sandbox: bool,
    /// Routes for tests of the gateway itself; no configuration and no command opens them.
    pub test_routes: bool,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        GatewayOptions { clock: Arc::new(SystemClock), print_sandbox: true, test_routes: false }
    }
}

/// A gateway that is ready to serve: its socket is open.
pub struct Gateway {
    app: Arc<App>,
    listener: TcpListener,
    stop: CancellationToken,
    /// Work that goes on as long as the gateway does.
    background: TaskTracker,
}

impl Gateway {
    /// Builds a gateway from a checked configuration.
    ///
    /// Errors: a text for the operator; nothing listens then.
    pub async fn open(loaded: Loaded, log: LogHandle, options: GatewayOptions) -> Result<Gateway, String> {
        let config_file = loaded.source.path.clone();
        let data_dir = config::data_dir(&loaded.config, &config_file);
        let plugins_dir = make_dirs(&data_dir)?;
        let key_made = !keys::is_made(&data_dir);
        let key = keys::master(&data_dir)?;
        let store = open_store(&loaded.config, &data_dir).map_err(|error| error.to_string())?;

        let registry = Arc::new(plugins::registry(&loaded.config, &data_dir)?);
        let desired = plugins::desired(&loaded, &plugins_dir).map_err(|problems| problems.to_string())?;
        let prepared = registry.prepare(&desired).await;
        if !prepared.failures().is_empty() {
            return Err(plugins::problems(&loaded.source, prepared.failures()).to_string());
        }
        let providers = registry.commit(prepared);
        for warning in loaded.warnings.iter().chain(&plugins::literal_secrets(&loaded, &registry)) {
            tracing::warn!("{warning}");
        }

        let config = loaded.config.clone();
        let listener = listen(&config.server).await?;
        let metrics = Arc::new(Metrics::new());
        let inbox = Arc::new(SandboxInbox::new(options.print_sandbox));
        let (sms_queue, recovered) =
            SmsQueue::open(store.clone(), options.clock.clone(), metrics.message_observer())
                .await
                .map_err(|error| error.to_string())?;
        warn_of_recovered(&recovered);
        let Services { otp, identity } =
            Services::new(&loaded, &store, &key, &options.clock, sms_queue.ids())?;
        let gates = Gates::default();
        let sms = Arc::new(sms_route(&config, &providers, &sms_queue, &gates, &inbox, metrics.as_ref()));
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let door = OperatorDoor::open(&data_dir, address, &config.server.base_path)?;
        let sandbox_bank = Arc::new(SandboxBank::new(&config.server.base_path));
        let gateways = PluginPaymentGateways::load(&config, &providers, &sandbox_bank)
            .await
            .map_err(|refused| payments::refusals(&loaded.source, refused).to_string())?;
        payments::warn_of_orphans(&gateways, &store);
        let endpoints = Arc::new(Endpoints::load(&loaded).map_err(|problems| problems.to_string())?);
        store.events_want(!endpoints.is_empty()).await.map_err(|error| error.to_string())?;
        let gateways = Arc::new(gateways);
        let (chat_service, stored) =
            ChatService::new(store.clone(), options.clock.clone(), config.chat.rules());
        let chat = Arc::new(chat_service);
        let files = FileStore::open(&data_dir, chat.clone(), key.derive(KeyUse::FileLinks))?;
        let (meter, clock) = (metrics.clone(), options.clock.clone());
        let sockets = Arc::new(Sockets::new(chat.clone(), identity.clone(), meter, clock));
        let reports = Arc::new(Reports::new(registry.clone()));
        let view = Arc::new(View::default());
        let shared = Shared {
            sockets: sockets.clone(),
            files: Arc::new(files),
            inbox: inbox.clone(),
            bank: sandbox_bank.clone(),
            report_secrets: ReportSecrets::new(key.derive(KeyUse::SmsReports)),
            decoder: reports.clone(),
            meter: metrics.clone(),
            operator_token: door.token.clone(),
            view: view.clone(),
            document: Arc::new(openapi::document(&config.server.base_path)),
            test_routes: options.test_routes,
            services: generation::Services::new(&store, &options.clock, chat.clone()),
        };
        let parts = Parts { identity, otp, sms, gateways };
        let live = Live::new(&shared, config.clone(), parts, endpoints);
        let live = Arc::new(ArcSwap::from_pointee(live));
        let serving = Arc::new(Serving(live.clone()));
        let api = Arc::new(Api::new(config.server.clone(), serving, metrics.as_ref())?);
        let now = unix_millis();
        let app = Arc::new(App {
            store,
            reports,
            registry,
            door,
            limits: config.server,
            metrics,
            inbox,
            payments: shared.services.payments.clone(),
            wallets: shared.services.wallets.clone(),
            webhooks: shared.services.webhooks.clone(),
            sandbox_bank,
            chat,
            files: shared.files.clone(),
            hub: sockets.hub.clone(),
            data_dir,
            plugins_dir,
            log,
            detached: shared.services.detached.clone(),
            sockets,
            sms_queue,
            shield: shared.services.shield.clone(),
            shared,
            api,
            gates,
            clock: options.clock,
            key,
            live,
            desired: Mutex::new(desired),
            reload: Mutex::new(ReloadStatus {
                file: config_file.clone(),
                generation: 1,
                loaded_at: now,
                ..ReloadStatus::default()
            }),
            started: (Instant::now(), now),
        });
        view.show(&app);
        if key_made {
            app.audit(AuditEvent::new(AuditKind::KeyCreated).subject("master key"));
        }
        app.audit(AuditEvent::new(AuditKind::ConfigLoaded).subject(config_file.display()));
        let stop = CancellationToken::new();
        reload::watch(app.clone(), &config_file, stop.clone())?;
        let background = go_on(&app, stored, &stop);
        Ok(Gateway { app, listener, stop, background })
    }

    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// The base address of the API, without a slash at the end.
    pub fn url(&self) -> String {
        let address = self.listener.local_addr().unwrap_or(self.app.limits.listen);
        format!("http://{address}{}", self.app.limits.base_path)
    }

    /// Cancelling it ends [`Gateway::run`] in peace.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Serves until the stop token is cancelled; returns when everything in flight is done and stored.
    pub async fn run(self) {
        let Gateway { app, listener, stop, background } = self;
        let limits = app.limits.clone();
        let grace = Duration::from_secs(limits.shutdown_timeout_seconds);
        server::serve(listener, app.api.clone(), stop).await;
        app.detached.close();
        app.sockets.tasks.close();
        background.close();
        let finished =
            async { tokio::join!(app.detached.wait(), app.sockets.tasks.wait(), background.wait()) };
        if tokio::time::timeout(grace, finished).await.is_err() {
            let tasks = app.detached.len() + app.sockets.tasks.len() + background.len();
            tracing::warn!(tasks, "work still running after the grace time is dropped");
        }
        if let Err(error) = app.live().identity.flush_last_seen().await {
            tracing::warn!(%error, "last-seen times could not be stored");
        }
        app.live().identity.audit().flush().await;
        app.store.close();
        tracing::info!("stopped");
    }
}

/// Makes the data folder and the folder of plugins in it, which is returned.
fn make_dirs(data_dir: &Path) -> Result<PathBuf, String> {
    private::make_dir(data_dir)
        .map_err(|error| format!("{}: cannot be made: {error}", data_dir.display()))?;
    let plugins_dir = data_dir.join(plugins::PLUGINS_DIR);
    std::fs::create_dir_all(&plugins_dir)
        .map_err(|error| format!("{}: cannot be made: {error}", plugins_dir.display()))?;
    Ok(plugins_dir)
}

async fn listen(server: &Server) -> Result<TcpListener, String> {
    let bound = TcpListener::bind(server.listen).await;
    bound.map_err(|error| format!("server.listen = {}: cannot be listened on: {error}", server.listen))
}

fn warn_of_recovered(recovered: &Recovered) {
    if *recovered != Recovered::default() {
        tracing::warn!(
            resumed = recovered.resumed,
            unknown = recovered.unknown,
            failed = recovered.failed,
            "messages that were being sent when the gateway ended"
        );
    }
}

/// Starts what goes on beside requests. The returned tasks are waited for when the gateway stops.
fn go_on(app: &Arc<App>, stored: mpsc::UnboundedReceiver<Stored>, stop: &CancellationToken) -> TaskTracker {
    tokio::spawn(upkeep(app.clone(), stop.clone()));
    tokio::spawn(ChatService::publish_all(stored, app.hub.clone()));
    tokio::spawn(messages::carry_on(app.clone(), stop.clone()));
    let background = TaskTracker::new();
    background.spawn(look_after(app.sockets.clone(), stop.clone()));
    background.spawn(payments::reconcile(app.clone(), stop.clone()));
    background.spawn(webhooks::tell_all(app.clone(), stop.clone()));
    background
}

pub(crate) fn open_store(config: &Config, data_dir: &Path) -> Result<Store, StoreError> {
    let options =
        StoreOptions { cache_bytes: config.data.cache_mib * 1024 * 1024, ..StoreOptions::default() };
    Store::open(data_dir.join(config::STORE_DIR), options)
}

/// Folds, writes and removes what piles up.
async fn upkeep(app: Arc<App>, stop: CancellationToken) {
    let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = interval.tick() => {}
        }
        app.metrics.upkeep();
        if let Err(error) = app.live().identity.flush_last_seen().await {
            tracing::warn!(%error, "last-seen times could not be stored");
        }
        messages::upkeep(&app).await;
        // What is left over is removed in the next rounds.
        if let Err(error) = app.live().identity.purge(PURGE_STEP).await {
            tracing::warn!(%error, "expired records could not be removed");
        }
        let kept = app.live().config.webhooks.clone();
        let keep = Duration::from_secs(kept.keep_days * 86_400);
        if let Err(error) = app.webhooks.purge(keep, kept.events_max, PURGE_STEP).await {
            tracing::warn!(%error, "old events could not be removed");
        }
        if let Err(error) = app.files.collect(&app.live().config.files).await {
            tracing::warn!(%error, "files that nobody has could not be removed");
        }
        if let Err(error) = app.chat.sweep_all().await {
            tracing::warn!(%error, "what deleted rooms left could not be removed");
        }
        if let Err(error) = app.wallets.purge(PURGE_STEP).await {
            tracing::warn!(%error, "idempotency records could not be removed");
        }
    }
}
