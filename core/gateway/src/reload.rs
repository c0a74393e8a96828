//! Hot reload: one task turns changes of files into transactions.
//!
//! Each change becomes a [`Candidate`]. A change of the configuration file is applied as a whole or not at all. A
//! change in the plugins folder is applied per provider: a plugin that loads takes over; otherwise the loaded one
//! stays. Preparing may take as long as compiling. A newer change cancels it, and both changes are prepared together.
//!
//! Invariants: a request sees one configuration from start to end. A refused change changes nothing that is served,
//! and appears in the log, in `chelseru_reload_failures_total` and in the status.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chelseru_domain::login::token::Tokens;
use chelseru_domain::operator::audit::{AuditEvent, AuditKind};
use chelseru_plugin_host::{Change, Reader, WatchPaths, Watcher};
use chelseru_store::StoreError;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use crate::app::{App, unix_millis};
use crate::candidate::{Candidate, Occasion};
use crate::config::{self, Config, Problem, Problems, Source};
use crate::money;

/// How long a saved file must stay unchanged before it is read, and the limit of that wait.
const SETTLE_STEP: Duration = Duration::from_millis(50);
const SETTLE_MAX: Duration = Duration::from_secs(2);
/// How long the configuration file may take to be read, and its length.
const READ_TIME_MAX: Duration = Duration::from_secs(2);
const CONFIG_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Maximum length of a refusal's reason in the audit log. The log and the status hold all of it.
const REASON_CHARS_MAX: usize = 300;

/// A watch over the configuration file and the plugins' folder. It begins before a start reads the plugins, so that
/// what is saved while the store is opened is applied afterwards.
pub(crate) struct Watching {
    /// Dropping it ends the changes.
    watcher: Watcher,
    changes: Receiver<Change>,
    due: Due,
    config_file: ConfigFile,
}

/// The configuration file, and how it is read while the gateway serves: what stands in its place may be a pipe, or on a
/// file system that no longer answers.
struct ConfigFile {
    path: PathBuf,
    reader: Reader,
    /// When it was read last.
    read_at: SystemTime,
}

impl ConfigFile {
    /// Whether somebody saved it since it was read.
    fn is_saved_since(&self) -> bool {
        let saved = std::fs::metadata(&self.path).and_then(|found| found.modified());
        saved.is_ok_and(|saved| saved > self.read_at)
    }
}

impl Watching {
    /// Begins to watch; `read` is the configuration that was read from its file.
    ///
    /// Errors: a text when the folders cannot be watched.
    pub(crate) fn begin(plugins_dir: &Path, read: &Source) -> Result<Watching, String> {
        let config_file = read.path.clone();
        let (dirs, files) = (vec![plugins_dir.to_owned()], vec![config_file.clone()]);
        let paths = WatchPaths { dirs, files, ..WatchPaths::default() };
        let (watcher, changes) = Watcher::new(paths).map_err(|error| error.to_string())?;
        // Saved after it was read and before it was watched.
        let edited = config_file.is_file() && std::fs::read(&config_file).is_ok_and(|bytes| !read.is(&bytes));
        let due = Due { config: edited, ..Due::default() };
        let reader = Reader::new(READ_TIME_MAX);
        let config_file = ConfigFile { path: config_file, reader, read_at: SystemTime::now() };
        Ok(Watching { watcher, changes, due, config_file })
    }

    /// Applies changes until `stop` is cancelled.
    pub(crate) async fn apply_all(self, app: Arc<App>, stop: CancellationToken) {
        let Watching { watcher: _watcher, mut changes, mut due, mut config_file } = self;
        while !stop.is_cancelled() {
            let overtake = stop.child_token();
            let mut newer = Due::default();
            let applied = {
                let mut work = pin!(apply(&app, &mut config_file, due, &overtake));
                loop {
                    tokio::select! {
                        applied = &mut work => break applied,
                        change = changes.recv() => {
                            let Some(change) = change else {
                                tracing::error!("the file watcher ended; changes need a restart from now on");
                                return;
                            };
                            newer.note(&change);
                            overtake.cancel();
                        }
                        () = app.reload_asked.notified() => {
                            newer.config = true;
                            overtake.cancel();
                        }
                    }
                }
            };
            due = if applied == Applied::Overtaken { due.and(newer) } else { newer };
        }
    }
}

/// Changes that are not applied yet.
#[derive(Clone, Copy, Default)]
struct Due {
    config: bool,
    plugins: bool,
    /// The configuration was saved again as it was.
    same: bool,
}

impl Due {
    fn note(&mut self, change: &Change) {
        match change {
            Change::File(_) => self.config = true,
            Change::Plugins(_) => self.plugins = true,
            Change::Same(_) => self.same = true,
        }
    }

    fn and(self, other: Due) -> Due {
        Due {
            config: self.config || other.config,
            plugins: self.plugins || other.plugins,
            same: self.same || other.same,
        }
    }

    fn any(self) -> bool {
        self.config || self.plugins || self.same
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Applied {
    Done,
    /// A newer change, or a payment, came first. Nothing was changed, and what was due is still due.
    Overtaken,
}

/// Applies what is due; without anything due, waits until `overtake` is cancelled.
async fn apply(app: &App, file: &mut ConfigFile, due: Due, overtake: &CancellationToken) -> Applied {
    if !due.any() {
        overtake.cancelled().await;
    }
    // A refused file may be accepted now: the plugin that it lacked came, or somebody who mended its cause saved it
    // again.
    let may_fit = due.plugins || (due.same && file.is_saved_since());
    let again = may_fit && app.reload_status().last_error.is_some();
    // A refused configuration leaves changed plugins to be applied, so both are.
    if (due.config || again) && apply_config(app, file, overtake).await == Applied::Overtaken {
        return Applied::Overtaken;
    }
    if due.plugins && apply_plugins(app, overtake).await == Applied::Overtaken {
        return Applied::Overtaken;
    }
    Applied::Done
}

/// Runs a preparation, which changes nothing, unless a newer change comes first.
async fn unless_overtaken<T>(overtake: &CancellationToken, prepare: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        prepared = prepare => Some(prepared),
        () = overtake.cancelled() => {
            tracing::info!("a newer change cancels the one that was being prepared");
            None
        }
    }
}

/// Reads the configuration file again and applies it as a whole or not at all.
async fn apply_config(app: &App, file: &mut ConfigFile, overtake: &CancellationToken) -> Applied {
    let bytes = settled(file).await;
    file.read_at = SystemTime::now();
    let file = &*file.path;
    let tried = bytes.as_ref().ok().map(|bytes| *blake3::hash(bytes).as_bytes());
    let tried_config = match bytes {
        Ok(bytes) => try_config(app, file, bytes, overtake).await,
        Err(unread) => Err(unread),
    };
    match tried_config {
        Ok(None) => return Applied::Overtaken,
        Ok(Some(restart_keys)) => {
            app.metrics.reload(true);
            if !restart_keys.is_empty() {
                tracing::warn!(keys = restart_keys.join(", "), "these keys need a restart to take effect");
            }
            let mut status = app.reload_status();
            status.generation += 1;
            status.loaded_at = unix_millis();
            status.last_error = None;
            status.tried = tried;
            status.restart_keys = restart_keys;
            tracing::info!(generation = status.generation, "configuration reloaded");
            let detail = format!("generation {}", status.generation);
            drop(status);
            app.audit(AuditEvent::new(AuditKind::ConfigChanged).subject(file.display()).detail(detail));
            // An edit of another gateway that the file refused before may fit now.
            app.edits.entered.notify_one();
        }
        Err(reason) => {
            app.metrics.reload(false);
            tracing::error!(%reason, "configuration refused; the old one keeps serving");
            let mut status = app.reload_status();
            status.last_error = Some(reason.to_string());
            status.tried = tried;
            drop(status);
            let detail = short(&reason);
            app.audit(AuditEvent::new(AuditKind::ConfigRefused).subject(file.display()).detail(detail));
        }
    }
    Applied::Done
}

/// The keys that wait for a restart; `None` when a newer change came first.
async fn try_config(
    app: &App,
    file: &Path,
    bytes: Vec<u8>,
    overtake: &CancellationToken,
) -> Result<Option<Vec<String>>, Problems> {
    let mut loaded = Config::parse_bytes(file, bytes)?;
    loaded.start_sources()?;
    let running = app.live();
    let restart_keys = running.config.restart_keys(&loaded.config);
    loaded.config.keep_restart_keys(&running.config);
    let open = money::open(&app.store, &running.gateways).await.map_err(|error| unasked(file, &error))?;
    let prepare = Candidate::prepare(&app.ground, loaded, &open, Occasion::Edit);
    let Some(candidate) = unless_overtaken(overtake, prepare).await else { return Ok(None) };
    let candidate = candidate?;
    let (warnings, wanted) = (candidate.warnings().to_vec(), candidate.wants_events());
    let left_alone = install(app, candidate).await.map_err(|error| unasked(file, &error))?;
    let left_alone = left_alone.into_iter().map(|(name, message)| {
        let key = format!("provider.{name}");
        Problem { file: file.to_owned(), line: None, key, found: None, message }
    });
    let left_alone: Vec<Problem> = left_alone.collect();
    if !left_alone.is_empty() {
        return Err(Problems(left_alone));
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    for event in key_events(running.identity.tokens(), app.live().identity.tokens()) {
        app.audit(event);
    }
    if let Err(error) = app.store.events_want(wanted).await {
        tracing::error!(%error, "the wanted webhook events could not be stored");
    }
    Ok(Some(restart_keys))
}

/// Lets a candidate serve, unless payments would lose their plugin by it; then returns their gateways, with the reason,
/// and nothing changes. Preparing may compile for a minute, and payments are begun meanwhile, so they are counted
/// again.
///
/// Errors: the store cannot be read.
async fn install(app: &App, candidate: Candidate) -> Result<Vec<(String, String)>, StoreError> {
    // A request that chose its gateway before the count stores its payment before it, or begins none there.
    let _paused = app.payments.pause_beginning().await;
    let running = app.live();
    let begun = money::open(&app.store, &running.gateways).await?;
    let left_alone: Vec<_> = begun.left_alone_by(candidate.gateways()).collect();
    if left_alone.is_empty() {
        running.gateways.give_way_to(candidate.gateways());
        app.install(candidate);
    }
    Ok(left_alone)
}

/// Without the store the open payments are unknown.
fn unasked(file: &Path, error: &StoreError) -> Problems {
    let message = format!("cannot be applied: the open payments could not be read ({error})");
    Problems(vec![Problem { file: file.to_owned(), line: None, key: String::new(), found: None, message }])
}

/// A refusal's reason, truncated for the audit log.
pub(crate) fn short(reason: &impl ToString) -> String {
    reason.to_string().chars().take(REASON_CHARS_MAX).collect()
}

/// Audit events of added and removed token keys; the tokens of a removed key are invalid.
fn key_events(before: &Tokens, after: &Tokens) -> Vec<AuditEvent> {
    let event = |kind, id: &str| AuditEvent::new(kind).subject(format!("token key {id}"));
    let (old, new): (Vec<_>, Vec<_>) = (before.key_ids().collect(), after.key_ids().collect());
    let made = new.iter().filter(|id| !old.contains(id)).map(|id| {
        event(AuditKind::KeyCreated, id).detail(if new.first() == Some(id) { "signs" } else { "checks" })
    });
    let gone = old.iter().filter(|id| !new.contains(id)).map(|id| event(AuditKind::KeyRevoked, id));
    made.chain(gone).collect()
}

/// Reads the file once it stops changing. Some editors truncate a file before they write it, and half a file may be
/// valid. An empty file would mean the built-in defaults, which nobody intends by saving.
async fn settled(from: &ConfigFile) -> Result<Vec<u8>, Problems> {
    let file = &*from.path;
    let read = async || {
        let bytes = from.reader.read(file, CONFIG_BYTES_MAX).await;
        bytes.map_err(|error| config::unreadable(file, &error))
    };
    let is_empty = |bytes: &[u8]| bytes.trim_ascii().is_empty();
    let until = tokio::time::Instant::now() + SETTLE_MAX;
    let mut bytes = read().await;
    loop {
        tokio::time::sleep(SETTLE_STEP).await;
        let again = read().await;
        if again == bytes && again.as_ref().is_ok_and(|bytes| !is_empty(bytes)) {
            return again;
        }
        if tokio::time::Instant::now() >= until {
            return match again {
                Ok(bytes) if is_empty(&bytes) => {
                    let message = "is empty; write a comment to use the defaults".to_owned();
                    let (file, key) = (file.to_owned(), String::new());
                    Err(Problems(vec![Problem { file, line: None, key, found: None, message }]))
                }
                other => other,
            };
        }
        bytes = again;
    }
}

/// Loads changed plugin files, each provider entry on its own. The registry logs what serves and what it refused.
async fn apply_plugins(app: &App, overtake: &CancellationToken) -> Applied {
    let live = app.live();
    let open = match money::open(&app.store, &live.gateways).await {
        Ok(open) => open,
        Err(error) => {
            tracing::error!(%error, "plugins are unchanged: the open payments could not be read");
            return Applied::Done;
        }
    };
    let prepare = Candidate::prepare_plugins(&app.ground, &live, app.desired(), &open);
    let Some(candidate) = unless_overtaken(overtake, prepare).await else { return Applied::Overtaken };
    let candidate = match candidate {
        Ok(candidate) => candidate,
        Err(reason) => {
            app.metrics.reload(false);
            tracing::error!(%reason, "changed plugins refused; the old ones keep serving");
            app.audit(AuditEvent::new(AuditKind::PluginRefused).detail(short(&reason)));
            return Applied::Done;
        }
    };
    let failures = candidate.failures().iter().map(|failure| (failure.name.clone(), short(&failure.error)));
    let failures: Vec<_> = failures.collect();
    let before = app.registry.snapshot();
    match install(app, candidate).await {
        Ok(left_alone) if left_alone.is_empty() => {}
        // Their first payment was begun meanwhile. Prepared again, they keep their plugin, and the rest is swapped.
        Ok(_) => return Applied::Overtaken,
        Err(error) => {
            tracing::error!(%error, "plugins are unchanged: the open payments could not be read");
            return Applied::Done;
        }
    }
    for (name, reason) in failures {
        app.metrics.reload(false);
        // The old plugin keeps serving, even when its file is deleted; the log shows how many payments depend on it.
        let open = open.0.get(&name).map_or(0, |waiting| waiting.payments);
        let detail = if open > 0 { format!("open payments: {open}; {reason}") } else { reason };
        app.audit(AuditEvent::new(AuditKind::PluginRefused).subject(&name).detail(detail));
        if open > 0 {
            tracing::error!(plugin.id = %name, open, "plugin kept: it still has open payments");
        }
    }
    for (name, provider) in app.registry.snapshot().iter() {
        if !before.get(name).is_some_and(|old| Arc::ptr_eq(old, provider)) {
            app.metrics.reload(true);
            app.audit(AuditEvent::new(AuditKind::PluginChanged).subject(name));
        }
    }
    Applied::Done
}
