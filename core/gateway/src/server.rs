//! The server: opens everything in the order in which steps may fail, and serves until it is stopped.
//!
//! [`Server::open`] prepares the candidate first, so a refused configuration changes nothing; meanwhile a store that
//! needs no more than that is recovered. Then come the store, whose open payments may hold a gateway to its plugin, the
//! listener, and what outlives configurations. The candidate takes over last.
//!
//! Not here: what a candidate checks (`candidate`), what changes later (`reload`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chelseru_domain::chat::{ChatService, Stored};
use chelseru_domain::clock::{Clock, SteadyClock};
use chelseru_domain::files::place::FilePlace;
use chelseru_domain::operator::audit::{AuditEvent, AuditKind};
use chelseru_domain::secret::KeyUse;
use chelseru_domain::sms::queue::SmsQueue;
use chelseru_http::files::store::FileStore;
use chelseru_http::server::Listener;
use chelseru_http::sms::ReportSecrets;
use chelseru_http::{Door, openapi, reachable, server};
use chelseru_outbound::bus::Notes;
use chelseru_outbound::sms::{Gates, Reports, SandboxInbox};
use chelseru_plugin_host::Compiler;
use chelseru_sockets::{Sockets, look, look_after, receive};
use chelseru_store::{Health, SmsRecovered, Store};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::candidate::{Candidate, Occasion, OpenPayments};
use crate::config::{self, Config, Loaded, OperatorListen};
use crate::door::{self, OperatorDoor};
use crate::generation::{self, Shared};
use crate::ground::{Ground, Standing};
use crate::logging::LogHandle;
use crate::login::Services;
use crate::nodes::{self, Nodes};
use crate::operator::follow::follow;
use crate::operator::metrics::Metrics;
use crate::operator::news;
use crate::operator::view::View;
use crate::operator::webhooks;
use crate::reload::Watching;
use crate::{database, erase, files, import, keys, machine, money, neighbours, reload, search, sms, upkeep};

/// Least time the store gets to finish when the grace time is used up.
const CLOSE_PATIENCE_MIN: Duration = Duration::from_secs(2);
/// How long operators are served at most after the clients' grace time.
const OPERATORS_PATIENCE: Duration = Duration::from_millis(500);

/// The longest time from the stop to the end of [`Server::run`].
pub(crate) fn stop_patience(limits: &config::Server) -> Duration {
    Duration::from_secs(limits.shutdown_timeout_seconds) + CLOSE_PATIENCE_MIN
}

/// Choices of the caller of [`Server::open`] that are not part of a configuration.
pub struct ServerOptions {
    pub clock: Arc<dyn Clock>,
    /// Print the sandbox's messages to standard output.
    pub print_sandbox: bool,
    /// Where plugins are compiled. The program sets a child process; tests have no such program.
    pub compiler: Compiler,
    /// Serve routes for tests of the server itself. No configuration and no command enables them.
    pub test_routes: bool,
    /// The mismatches of key and store that the operator accepts.
    pub accepted: keys::Accepted,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            clock: Arc::new(SteadyClock::new()),
            print_sandbox: true,
            compiler: Compiler::InProcess,
            test_routes: false,
            accepted: keys::Accepted::default(),
        }
    }
}

/// A server with an open socket, ready to serve.
pub struct Server {
    app: Arc<App>,
    listeners: Listeners,
    stop: CancellationToken,
    /// Tasks that run as long as the server.
    background: TaskTracker,
    /// Says that this gateway is there, to its last moment.
    seen: JoinHandle<()>,
}

impl Server {
    /// Builds a server from a checked configuration.
    ///
    /// Errors: a text for the operator; nothing listens.
    pub async fn open(loaded: Loaded, log: LogHandle, options: ServerOptions) -> Result<Server, String> {
        let config_file = loaded.source.path.clone();
        let (place, bus) = (loaded.store_place(), loaded.bus_place());
        let store = {
            let shared = bus.as_ref().is_ok_and(Option::is_some);
            let data_dir = config::data_dir(&loaded.config, &config_file);
            database::begin(place.as_ref().ok(), &loaded.config, &data_dir, shared)
        };
        let ground = Ground::open(&loaded.config, &config_file, options.compiler.clone())?;
        let machine = machine::warnings(&loaded);
        let watching = Watching::begin(&ground.plugins_dir, &loaded.source)?;
        let files = files::choose(&loaded, &ground.data_dir);
        let candidate = Candidate::prepare(&ground, loaded, &OpenPayments::default(), Occasion::Start).await;
        let candidate = candidate.map_err(|problems| problems.to_string())?;
        for warning in candidate.warnings().iter().chain(&machine) {
            tracing::warn!("{warning}");
        }
        let config = candidate.config().clone();
        let files = files?;
        if let Some(warning) = files.try_out().await? {
            tracing::warn!("{warning}");
        }
        let place = place.map_err(|problems| problems.to_string())?;
        let bus = bus.map_err(|problems| problems.to_string())?;
        let store = store.open(&place, &ground.data_dir).await;
        let store = store.map_err(|error| error.to_string())?;
        if ground.key_made && keys::is_made(&ground.data_dir) {
            // A command was first to open the store, and made the key that belongs to it.
            store.close();
            drop((store, candidate, ground));
            let loaded = Config::load(&config_file).map_err(|problems| problems.to_string())?;
            return Box::pin(Server::open(loaded, log, options)).await;
        }
        keys::pair(&ground.data_dir, &store, (&ground.key, ground.key_made), options.accepted).await?;
        import::sweep(&ground.data_dir, files.bucket(), &store).await?;
        let candidate =
            candidate.keep_plugins(&ground, async |gateways| money::open(&store, gateways).await).await?;
        let refusals = candidate.failures().iter();
        let refusals: Vec<_> = refusals.map(|one| (one.name.clone(), reload::short(&one.error))).collect();
        let listener = TcpListener::bind(config.server.listen)
            .await
            .map_err(|error| format!("server.listen = {}: cannot listen: {error}", config.server.listen))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let (operators, operator) = door::listen(&config.operator.listen, &config_file).await?;
        let door = OperatorDoor::open(&ground.data_dir, operator, &config.server.base_path)?;
        money::warn_of_orphans(candidate.gateways(), &store).await;
        store.events_want(candidate.wants_events()).await.map_err(|error| error.to_string())?;

        let (nodes, notes) = match bus {
            None => (Nodes::alone(), None),
            Some(bus) => Nodes::connect(&bus, &ground.key).map(|(nodes, notes)| (nodes, Some(notes)))?,
        };
        let files = files.place;
        let opened = Opened { clock: options.clock.clone(), store, files, address, door, config_file, nodes };
        let (app, stored) = opened.build(ground, candidate, log, &options).await?;
        for (name, reason) in refusals {
            app.audit(AuditEvent::new(AuditKind::PluginRefused).subject(name).detail(reason));
        }
        let listeners = Listeners { public: Listener::Tcp(listener), operators };
        Ok(Server::start(app, listeners, watching, stored, notes))
    }

    /// Starts the background tasks.
    fn start(
        app: Arc<App>,
        listeners: Listeners,
        watching: Watching,
        stored: StoredQueue,
        notes: Option<Notes>,
    ) -> Server {
        let config_file = app.reload_status().file.clone();
        if app.ground.key_made {
            app.audit(AuditEvent::new(AuditKind::KeyCreated).subject("master key"));
        }
        app.audit(AuditEvent::new(AuditKind::ConfigLoaded).subject(config_file.display()));
        let stop = app.stop.clone();
        tokio::spawn(watching.apply_all(app.clone(), stop.clone()));
        tokio::spawn(upkeep::upkeep(app.clone(), stop.clone()));
        tokio::spawn({
            let (streams, stop) = (app.standing.shared.services.streams.clone(), stop.clone());
            async move {
                stop.cancelled().await;
                streams.end();
            }
        });
        tokio::spawn({
            let (app, stop) = (app.clone(), stop.clone());
            async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = app.records.count(&app.store) => {}
                }
            }
        });
        tokio::spawn(ChatService::publish_all(stored, app.hub.clone(), app.nodes.others()));
        if let Some(notes) = notes {
            tokio::spawn(receive(app.sockets.clone(), neighbours::hear(app.clone()), notes));
        }
        tokio::spawn(sms::carry_on(app.clone(), stop.clone()));
        let seen = tokio::spawn(neighbours::be_seen(app.clone()));
        let background = TaskTracker::new();
        // Boxed: what the runtime needs for a task is compiled once and not once per kind of work.
        let works: [Pin<Box<dyn Future<Output = ()> + Send>>; 11] = [
            Box::pin(erase::erase_all(app.clone(), stop.clone())),
            Box::pin(search::index_all(app.clone(), stop.clone())),
            Box::pin(look_after(app.sockets.clone(), stop.clone())),
            Box::pin(money::reconcile(app.clone(), stop.clone())),
            Box::pin(sms::watch_credit(app.clone(), stop.clone())),
            Box::pin(webhooks::tell_all(app.clone(), stop.clone())),
            Box::pin(news::tell_news(app.clone(), stop.clone())),
            Box::pin(neighbours::recover_messages(app.clone(), stop.clone())),
            Box::pin(neighbours::tell_counts(app.clone(), stop.clone())),
            Box::pin(follow(app.clone(), stop.clone())),
            Box::pin(look(app.sockets.clone(), stop.clone())),
        ];
        for work in works {
            background.spawn(work);
        }
        Server { app, listeners, stop, background, seen }
    }

    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// The base address of the API, without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.app.public, self.app.limits.base_path)
    }

    /// The base address of the operators' routes. A unix socket has none; `curl --unix-socket` takes any host.
    pub fn operator_url(&self) -> String {
        let base_path = &self.app.limits.base_path;
        match &self.app.door.address {
            OperatorListen::Tcp(address) => format!("http://{}{base_path}", reachable(*address)),
            OperatorListen::Unix(_) => format!("http://localhost{base_path}"),
        }
    }

    /// Cancelling it ends [`Server::run`] gracefully.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Serves until the stop token is cancelled. Returns when everything in flight is done and stored, or
    /// [`stop_patience`] after the stop.
    ///
    /// Errors: a text for the operator when the store failed or did not finish.
    pub async fn run(self) -> Result<(), String> {
        let Server { app, listeners, stop, background, seen } = self;
        let limits = app.limits.clone();
        let grace = Duration::from_secs(limits.shutdown_timeout_seconds);
        // Operators are served while clients finish: `ready/` says that the gateway stops, and commands are answered.
        let clients_gone = CancellationToken::new();
        let operators =
            server::serve(listeners.operators, Door::Operator, app.api.clone(), clients_gone.clone());
        let clients = async {
            server::serve(listeners.public, Door::Public, app.api.clone(), stop.clone()).await;
            clients_gone.cancel();
        };
        let stopped = async {
            stop.cancelled().await;
            Instant::now()
        };
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(grace + OPERATORS_PATIENCE).await;
        };
        let served = async {
            tokio::select! {
                _ = async { tokio::join!(clients, operators) } => {}
                () = overdue => {}
            }
        };
        let ((), stopped) = tokio::join!(served, stopped);
        if let OperatorListen::Unix(path) = &app.door.address {
            let _ = std::fs::remove_file(path);
        }
        let until = stopped + grace;
        let operations = app.api.operations();
        operations.close();
        app.detached.close();
        app.sockets.tasks.close();
        background.close();
        let finished = async {
            tokio::join!(operations.wait(), app.detached.wait(), app.sockets.tasks.wait(), background.wait())
        };
        let left = until.saturating_duration_since(Instant::now());
        if tokio::time::timeout(left, finished).await.is_err() {
            let tasks = operations.len() + app.detached.len() + app.sockets.tasks.len() + background.len();
            tracing::warn!(tasks, "the grace time is over; unfinished work is dropped");
        }
        let noted = async {
            if let Err(error) = app.live().identity.flush_last_seen().await {
                tracing::warn!(%error, "last-seen times could not be stored");
            }
            app.live().identity.audit().flush().await;
            if let Err(error) = app.metrics.trends.save(&app.ground.data_dir) {
                tracing::warn!(%error, "the numbers of the last hours could not be written");
            }
            seen.abort();
            app.nodes.leave(&app.store).await;
        };
        let until = until.max(Instant::now() + CLOSE_PATIENCE_MIN);
        let noted = tokio::time::timeout_at(until.into(), noted).await;
        let health = app.store.health();
        let store = app.store.clone();
        let patience = until.saturating_duration_since(Instant::now());
        let closed = tokio::task::spawn_blocking(move || store.close_within(patience)).await;
        if let Health::Failed(reason) = health {
            return Err(format!("the store failed: {reason}"));
        }
        if noted.is_err() || !closed.unwrap_or(false) {
            return Err("the store did not finish in time".to_owned());
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// The listening sockets.
struct Listeners {
    public: Listener,
    operators: Listener,
}

/// The queue from which chat events are published.
type StoredQueue = tokio::sync::mpsc::UnboundedReceiver<Stored>;

/// Everything opened before anything is built on it.
struct Opened {
    clock: Arc<dyn Clock>,
    store: Store,
    files: Arc<dyn FilePlace>,
    address: SocketAddr,
    door: OperatorDoor,
    config_file: PathBuf,
    nodes: Nodes,
}

impl Opened {
    /// Builds what outlives configurations, and lets the candidate take over.
    async fn build(
        self,
        ground: Ground,
        candidate: Candidate,
        log: LogHandle,
        options: &ServerOptions,
    ) -> Result<(Arc<App>, StoredQueue), String> {
        let Opened { clock, store, files, address, door, config_file, nodes } = self;
        let config = candidate.config().clone();
        let metrics = Arc::new(Metrics::new());
        files.measure_by(metrics.as_ref());
        let slot = slot(&nodes, &store, address, &config).await?;
        let sms_queue = open_queue(&store, &clock, &metrics, slot).await?;
        let tokens = candidate.tokens().clone();
        let services = Services::new(&config, tokens, &store, &ground.key, &clock, sms_queue.ids())?;
        let contacts = ground.key.derive(KeyUse::Contacts);
        let (chat, stored) = ChatService::new(store.clone(), clock.clone(), config.chat.rules(), contacts);
        let chat = Arc::new(chat);
        let node = nodes.is_shared().then(|| nodes::mark(&ground.data_dir));
        let key = ground.key.derive(KeyUse::FileLinks);
        let files = FileStore::open(&ground.data_dir, files, chat.clone(), key, node.as_deref()).await?;
        let identity = services.identity.clone();
        identity.looks_enter().await.map_err(|error| error.to_string())?;
        let sockets =
            Arc::new(Sockets::new(chat.clone(), identity, metrics.clone(), clock.clone(), nodes.bus()));
        let inbox = Arc::new(SandboxInbox::new(options.print_sandbox));
        let reports = Arc::new(Reports::new(ground.registry.clone()));
        let view = Arc::new(View::default());
        let shared = Shared {
            services: generation::Services::new(&store, &ground.key, &clock, chat.clone(), nodes.bus()),
            sockets: sockets.clone(),
            files: Arc::new(files),
            inbox: inbox.clone(),
            bank: ground.bank.clone(),
            report_secrets: ReportSecrets::new(ground.key.derive(KeyUse::SmsReports)),
            decoder: reports.clone(),
            meter: metrics.clone(),
            operator_token: door.token.clone(),
            overview: view.clone(),
            backups: view.clone(),
            documents: openapi::documents(&config.server),
            house: view.clone(),
            exports: Arc::default(),
            test_routes: options.test_routes,
        };
        let (registry, gates, nodes) = (ground.registry.clone(), Gates::default(), Arc::new(nodes));
        let standing = Standing {
            registry,
            log,
            metrics,
            inbox,
            reports,
            chat,
            sockets,
            sms_queue,
            gates,
            nodes,
            shared,
        };
        let (live, desired) = candidate.take_over(&standing, &services);
        let app = Arc::new(App::new(store, ground, standing, live, desired, (address, door), config_file)?);
        view.show(&app);
        Ok((app, stored))
    }
}

/// Enters this gateway among those that share the store. Returns its slot there; `None` when it is alone.
async fn slot(
    nodes: &Nodes,
    store: &Store,
    address: SocketAddr,
    config: &Config,
) -> Result<Option<u64>, String> {
    if !nodes.is_shared() {
        return Ok(None);
    }
    let facts = nodes::facts(nodes::name(address), config, 1);
    let seen = store.node_seen(facts, Duration::from_secs(60)).await.map_err(|error| error.to_string())?;
    Ok(seen.iter().find(|node| node.own).map(|node| node.slot))
}

/// Opens the message queue. Messages in flight when the server ended are resumed, or become unknown.
async fn open_queue(
    store: &Store,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
    slot: Option<u64>,
) -> Result<SmsQueue, String> {
    let opened = SmsQueue::open(store.clone(), clock.clone(), metrics.message_observer(), slot).await;
    let (sms_queue, recovered) = opened.map_err(|error| error.to_string())?;
    if recovered != SmsRecovered::default() {
        tracing::warn!(
            resumed = recovered.resumed,
            unknown = recovered.unknown,
            failed = recovered.failed,
            "messages were in flight when the server ended"
        );
    }
    Ok(sms_queue)
}
