//! State shared by requests and background tasks.
//!
//! [`App`] is built once. [`Live`] is the part that a reload replaces, as one `Arc`, so a request sees one
//! configuration from start to end.
//!
//! Not here: building it (`server`), preparing a reload (`candidate`), what operators see (`view`), routes
//! (`chelseru-http`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use chelseru_domain::bus::Note;
use chelseru_domain::chat::ChatService;
use chelseru_domain::clock::{Clock, SystemClock};
use chelseru_domain::money::payment::Payments;
use chelseru_domain::money::wallet::Wallets;
use chelseru_domain::operator::Storage;
use chelseru_domain::operator::audit::AuditEvent;
use chelseru_domain::operator::webhook::Webhooks;
use chelseru_domain::rate::Board;
use chelseru_domain::sms::queue::SmsQueue;
use chelseru_domain::sms::shield::Shield;
use chelseru_http::files::store::FileStore;
use chelseru_http::{Addresses, Api};
use chelseru_outbound::sms::{Reports, SandboxInbox};
use chelseru_plugin_host::{Desired, Registry};
use chelseru_sockets::{Hub, Sockets};
use chelseru_store::Store;
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::candidate::Candidate;
use crate::config;
use crate::door::OperatorDoor;
use crate::edits::{Edits, Others};
use crate::ground::{Ground, Standing};
use crate::live::{Live, Serving};
use crate::nodes::{self, Nodes};
use crate::operator::metrics::Metrics;
use crate::operator::store_watch::{self, RecordCount};

/// The part of `status/` about the configuration.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ReloadStatus {
    pub file: PathBuf,
    /// 1 at start, plus 1 for every configuration that took over.
    pub generation: u64,
    /// When the serving configuration took over, in Unix milliseconds.
    pub loaded_at: u64,
    /// Why the newest change of the file was refused; `None` when it was applied.
    pub last_error: Option<String>,
    /// BLAKE3 hash of the bytes that were last applied or refused; `None` until the file is read again.
    #[serde(skip)]
    pub tried: Option<[u8; 32]>,
    /// Keys of the file whose new values wait for a restart.
    pub restart_keys: Vec<String>,
}

/// State shared by all requests.
pub struct App {
    pub store: Store,
    pub registry: Arc<Registry>,
    /// Delivery reports pushed by providers.
    pub reports: Arc<Reports>,
    pub limits: config::Server,
    pub metrics: Arc<Metrics>,
    pub inbox: Arc<SandboxInbox>,
    pub payments: Arc<Payments>,
    pub wallets: Arc<Wallets>,
    pub webhooks: Webhooks,
    pub chat: Arc<ChatService>,
    pub files: Arc<FileStore>,
    /// The sockets that watch rooms.
    pub hub: Arc<Hub>,
    /// Work that outlives its client; the gateway finishes it before it stops.
    pub detached: TaskTracker,
    /// Chat over sockets; closed before the gateway stops.
    pub sockets: Arc<Sockets>,
    pub(crate) records: RecordCount,
    pub sms_queue: SmsQueue,
    /// This gateway among those that share the store.
    pub(crate) nodes: Arc<Nodes>,
    pub shield: Arc<Shield>,
    pub(crate) api: Arc<Api>,
    pub(crate) ground: Ground,
    pub(crate) standing: Standing,
    pub clock: Arc<dyn Clock>,
    /// The address of the public listener.
    pub public: SocketAddr,
    /// Cancelling it ends the gateway gracefully.
    pub(crate) stop: CancellationToken,
    /// Asks the reload task to read the configuration again.
    pub(crate) reload_asked: Notify,
    /// Held while the console edits the configuration file.
    pub(crate) editing: tokio::sync::Mutex<()>,
    /// What counts against allowances, told to the gateways that share the store.
    pub(crate) board: Arc<Board>,
    /// The edits that all gateways over the store make.
    pub(crate) edits: Edits,
    /// The operators' listener, and how commands on this machine authenticate.
    pub door: OperatorDoor,
    live: Arc<ArcSwap<Live>>,
    desired: Mutex<Vec<Desired>>,
    reload: Mutex<ReloadStatus>,
    /// When the gateway started: for the uptime, and in Unix milliseconds.
    pub(crate) started: (Instant, u64),
}

impl App {
    /// Errors: a text for the operator when the routes cannot be built.
    pub(crate) fn new(
        store: Store,
        ground: Ground,
        standing: Standing,
        live: Live,
        desired: Vec<Desired>,
        (public, door): (SocketAddr, OperatorDoor),
        config_file: PathBuf,
    ) -> Result<App, String> {
        let limits = live.config.server.clone();
        let live = Arc::new(ArcSwap::from_pointee(live));
        let serving = Arc::new(Serving(live.clone()));
        let operator_hosts = live.load().config.operator.hosts.clone();
        let addresses = Addresses { public, operator: door.address.clone(), operator_hosts };
        let api = Arc::new(Api::new(limits.clone(), addresses, serving, standing.metrics.as_ref())?);
        let now = unix_millis();
        let reload =
            ReloadStatus { file: config_file, generation: 1, loaded_at: now, ..ReloadStatus::default() };
        let shared = &standing.shared;
        let others = standing.nodes.bus().map(|bus| Others {
            store: store.clone(),
            bus,
            clock: shared.services.clock.clone(),
            name: nodes::name(public),
        });
        Ok(App {
            store,
            registry: standing.registry.clone(),
            reports: standing.reports.clone(),
            limits,
            metrics: standing.metrics.clone(),
            inbox: standing.inbox.clone(),
            payments: shared.services.payments.clone(),
            wallets: shared.services.wallets.clone(),
            webhooks: shared.services.webhooks.clone(),
            chat: standing.chat.clone(),
            files: shared.files.clone(),
            hub: standing.sockets.hub.clone(),
            detached: shared.services.detached.clone(),
            sockets: standing.sockets.clone(),
            records: RecordCount::default(),
            sms_queue: standing.sms_queue.clone(),
            board: shared_counts(&standing, &live.load()),
            nodes: standing.nodes.clone(),
            shield: shared.services.shield.clone(),
            clock: shared.services.clock.clone(),
            api,
            public,
            door,
            stop: CancellationToken::new(),
            reload_asked: Notify::new(),
            editing: tokio::sync::Mutex::default(),
            edits: Edits::open(&ground.data_dir, &ground.key, others),
            ground,
            live,
            desired: Mutex::new(desired),
            reload: Mutex::new(reload),
            started: (Instant::now(), now),
            standing,
        })
    }

    /// The serving configuration and providers.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Makes a candidate the serving one. Cannot fail.
    pub(crate) fn install(&self, candidate: Candidate) {
        let (live, desired) = candidate.take_over(&self.standing, &self.live().services());
        self.live.store(Arc::new(live));
        *lock(&self.desired) = desired;
    }

    /// Records a security event.
    pub fn audit(&self, event: AuditEvent) {
        self.live().identity.audit().record(event);
    }

    /// The plugins that the serving configuration needs.
    pub fn desired(&self) -> Vec<Desired> {
        lock(&self.desired).clone()
    }

    pub fn reload_status(&self) -> MutexGuard<'_, ReloadStatus> {
        lock(&self.reload)
    }

    /// Returns true while durable writes work.
    pub fn is_healthy(&self) -> bool {
        store_watch::storage(&self.store) == Storage::Serving
    }
}

/// The board of counts. Where other gateways share the store, they hear of this one's counts and changed accounts.
fn shared_counts(standing: &Standing, live: &Live) -> Arc<Board> {
    let board = Arc::default();
    let Some(bus) = standing.nodes.bus() else { return board };
    standing.chat.share_counts(&board);
    standing.shared.services.payments.share_counts(&board);
    standing.shared.services.console_keys.share_counts(&board);
    standing.shared.exports.share_counts(&board);
    live.identity.share_counts(&board);
    live.identity.tell_changes(move |user| bus.send(Note::AccountChanged(user)));
    board
}

/// The current time in Unix milliseconds, for operators.
pub fn unix_millis() -> u64 {
    SystemClock.now().as_micros() / 1000
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
