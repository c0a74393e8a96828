//! Hot reload: one task turns changes of files into transactions.
//!
//! A change of the configuration file is taken whole or not at all: the file is read and checked, every
//! provider entry is prepared, and only when nothing failed do the new configuration and the new providers
//! take over, in one swap. A change in the plugins folder is taken per provider: what loads takes over, what
//! does not leaves its old self serving.
//!
//! Invariants: a request sees one configuration from start to end; nothing that is refused changes what is
//! served; a refusal is in the log, in `chelseru_reload_failures_total` and in the status.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::audit::{AuditEvent, AuditKind};
use chelseru_domain::token::Tokens;
use chelseru_outbound::money::PluginPaymentGateways;
use chelseru_outbound::plugins::{self, Providers};
use chelseru_plugin_host::{Change, WatchPaths, Watcher};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::app::{App, unix_millis};
use crate::config::Config;
use crate::payments::{self, open_payments};

/// How long a saved file must keep still before it is read, and how long that is waited for.
const SETTLE_STEP: Duration = Duration::from_millis(50);
const SETTLE_MAX: Duration = Duration::from_secs(2);

/// What `status/` says of the configuration.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ReloadStatus {
    pub file: PathBuf,
    /// 1 at start, one more with every configuration that took over.
    pub generation: u64,
    /// When the serving configuration took over, in Unix milliseconds.
    pub loaded_at: u64,
    /// Why the newest change of the file was refused; `None` when it was taken.
    pub last_error: Option<String>,
    /// Keys of the file whose values wait for a restart.
    pub restart_keys: Vec<String>,
}

/// Watches and applies until `stop` is cancelled.
///
/// Errors: a sentence, when the folders cannot be watched.
pub fn watch(app: Arc<App>, config_file: &Path, stop: CancellationToken) -> Result<(), String> {
    let paths = WatchPaths { dirs: vec![app.plugins_dir.clone()], files: vec![config_file.to_owned()] };
    let (watcher, mut changes) = Watcher::new(paths).map_err(|error| error.to_string())?;
    let file = config_file.to_owned();
    tokio::spawn(async move {
        // Dropping the watcher ends the events.
        let _watcher = watcher;
        loop {
            let change = tokio::select! {
                () = stop.cancelled() => return,
                change = changes.recv() => change,
            };
            match change {
                Some(Change::File(_)) => apply_config(&app, &file).await,
                Some(Change::Plugins(_)) => apply_plugins(&app).await,
                None => {
                    tracing::error!("the file watcher ended; changes need a restart from here on");
                    return;
                }
            }
        }
    });
    Ok(())
}

/// Reads the configuration file again and takes it whole or not at all.
pub async fn apply_config(app: &App, file: &Path) {
    match try_config(app, file).await {
        Ok(restart_keys) => {
            app.metrics.reload(true);
            if !restart_keys.is_empty() {
                tracing::warn!(keys = restart_keys.join(", "), "these keys wait for a restart");
            }
            let mut status = app.reload_status();
            status.generation += 1;
            status.loaded_at = unix_millis();
            status.last_error = None;
            status.restart_keys = restart_keys;
            tracing::info!(generation = status.generation, "configuration reloaded");
            let detail = format!("generation {}", status.generation);
            drop(status);
            app.audit(AuditEvent::new(AuditKind::ConfigChanged).subject(file.display()).detail(detail));
        }
        Err(reason) => {
            app.metrics.reload(false);
            tracing::error!(%reason, "configuration refused; the old one keeps serving");
            app.reload_status().last_error = Some(reason);
            // The reason is in the log and the status; it may be longer than a record should be.
            app.audit(AuditEvent::new(AuditKind::ConfigRefused).subject(file.display()));
        }
    }
}

async fn try_config(app: &App, file: &Path) -> Result<Vec<String>, String> {
    let text = settled(file).await?;
    let mut loaded = Config::parse(file, text).map_err(|problems| problems.to_string())?;
    let running = app.live();
    let restart_keys = running.config.restart_keys(&loaded.config);
    loaded.config.keep_restart_keys(&running.config);
    let secrets = app.secrets(&loaded)?;
    let desired = plugins::desired(&loaded, &app.plugins_dir).map_err(|problems| problems.to_string())?;
    let prepared = app.registry.prepare(&desired).await;
    if !prepared.failures().is_empty() {
        let reasons = plugins::problems(&loaded.source, prepared.failures());
        app.registry.refuse(prepared);
        return Err(reasons.to_string());
    }
    let gateways = match gateways(app, &loaded.config, prepared.providers()).await {
        Ok(gateways) => gateways,
        Err(reason) => {
            app.registry.refuse(prepared);
            return Err(reason);
        }
    };
    let providers = app.registry.commit(prepared);
    for warning in loaded.warnings.iter().chain(&plugins::literal_secrets(&loaded, &app.registry)) {
        tracing::warn!("{warning}");
    }
    app.log.set_level(loaded.config.log.level);
    let wanted = !loaded.config.webhooks.endpoints.is_empty();
    app.install(loaded.config, Some(secrets), desired, &providers, gateways)?;
    for event in key_events(running.identity.tokens(), app.live().identity.tokens()) {
        app.audit(event);
    }
    if let Err(error) = app.store.events_want(wanted).await {
        tracing::error!(%error, "whether events are wanted could not be noted");
    }
    Ok(restart_keys)
}

/// Keys of tokens that came and went: with a key that went, its tokens went.
fn key_events(before: &Tokens, after: &Tokens) -> Vec<AuditEvent> {
    let event = |kind, id: &str| AuditEvent::new(kind).subject(format!("token key {id}"));
    let (old, new): (Vec<_>, Vec<_>) = (before.key_ids().collect(), after.key_ids().collect());
    let made = new.iter().filter(|id| !old.contains(id)).map(|id| {
        event(AuditKind::KeyCreated, id).detail(if new.first() == Some(id) { "signs" } else { "checks" })
    });
    let gone = old.iter().filter(|id| !new.contains(id)).map(|id| event(AuditKind::KeyRevoked, id));
    made.chain(gone).collect()
}

/// The file's text once it stopped changing. Some editors empty a file and then write it, and half a file may
/// well be valid: an empty one means the built-in defaults, which nobody means by saving.
async fn settled(file: &Path) -> Result<String, String> {
    let read = || {
        std::fs::read_to_string(file).map_err(|error| format!("{}: cannot be read: {error}", file.display()))
    };
    let until = tokio::time::Instant::now() + SETTLE_MAX;
    let mut text = read();
    loop {
        tokio::time::sleep(SETTLE_STEP).await;
        let again = read();
        let finished = again == text && again.as_ref().is_ok_and(|text| !text.trim().is_empty());
        if finished {
            return again;
        }
        if tokio::time::Instant::now() >= until {
            return match again {
                Ok(text) if text.trim().is_empty() => {
                    Err(format!("{}: is empty; a comment is enough to mean the defaults", file.display()))
                }
                other => other,
            };
        }
        text = again;
    }
}

/// The payment gateways of a new state, unless it would leave open payments alone.
async fn gateways(
    app: &App,
    config: &Config,
    providers: &Providers,
) -> Result<PluginPaymentGateways, String> {
    let gateways = PluginPaymentGateways::load(config, providers, &app.sandbox_bank).await;
    let gateways = gateways.map_err(|refused| {
        let lines: Vec<String> =
            refused.into_iter().map(|(name, reason)| format!("provider.{name}: {reason}")).collect();
        lines.join("\n")
    })?;
    payments::keeps_open_payments(&gateways, &app.live().gateways, &app.store)?;
    Ok(gateways)
}

/// Loads changed plugin files; each provider entry by itself. The registry logs what serves and what it refused.
pub async fn apply_plugins(app: &App) {
    let desired = app.desired();
    let prepared = app.registry.prepare(&desired).await;
    let open = open_payments(&app.store).unwrap_or_default();
    for (name, _) in prepared.failures() {
        app.metrics.reload(false);
        // The old one serves on, also when its file is gone; whoever took it away learns what hangs on it.
        let open = open.get(name).copied().unwrap_or(0);
        let detail = if open > 0 { format!("open payments: {open}") } else { String::new() };
        app.audit(AuditEvent::new(AuditKind::PluginRefused).subject(name).detail(detail));
        if open > 0 {
            tracing::error!(plugin.id = %name, open, "its plugin cannot be removed or changed so while it has open payments");
        }
    }
    let config = app.live().config.clone();
    let gateways = match gateways(app, &config, prepared.providers()).await {
        Ok(gateways) => gateways,
        Err(reason) => {
            app.metrics.reload(false);
            tracing::error!(%reason, "changed plugins refused; the old ones keep serving");
            app.audit(AuditEvent::new(AuditKind::PluginRefused).detail("open payments need what would go"));
            app.registry.refuse(prepared);
            return;
        }
    };
    let before = app.registry.snapshot();
    let providers = app.registry.commit(prepared);
    let same = |name: &String, new| before.get(name).is_some_and(|old| Arc::ptr_eq(old, new));
    let names: Vec<String> = providers
        .iter()
        .filter(|(name, provider)| !same(name, provider))
        .map(|(name, _)| name.clone())
        .collect();
    if names.is_empty() {
        return;
    }
    match app.install(config, None, desired, &providers, gateways) {
        Ok(()) => {
            for name in names {
                app.metrics.reload(true);
                app.audit(AuditEvent::new(AuditKind::PluginChanged).subject(name));
            }
        }
        Err(reason) => tracing::error!(%reason, "reloaded plugins could not take over"),
    }
}
