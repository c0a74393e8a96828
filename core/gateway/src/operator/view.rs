//! The application as its operators see it: status, metrics, backups.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use async_trait::async_trait;
use chelseru_domain::files::place::PlaceState;
use chelseru_domain::operator::{Meter, Overview, Storage};
use chelseru_http::operator::{Backups, Copied};
use chelseru_outbound::plugins;
use serde_json::{Value, json};

use crate::app::App;
use crate::operator::ledger_check::{self, LedgerChecks};
use crate::operator::{backup, doctor, store_watch};
use crate::{money, sms};

/// The application as operator routes see it. Holds a weak reference, so it does not keep the gateway alive.
#[derive(Default)]
pub(crate) struct View {
    app: OnceLock<Weak<App>>,
    pub(super) ledger: Arc<LedgerChecks>,
}

impl View {
    /// Sets the application.
    pub(crate) fn show(&self, app: &Arc<App>) {
        ledger_check::clear(&app.ground.data_dir);
        backup::clear(&app.ground.data_dir);
        let _ = self.app.set(Arc::downgrade(app));
    }

    pub(super) fn app(&self) -> Option<Arc<App>> {
        self.app.get()?.upgrade()
    }
}

#[async_trait]
impl Overview for View {
    async fn status(&self) -> Value {
        match self.app() {
            Some(app) => status(&app).await,
            None => Value::Null,
        }
    }

    async fn metrics(&self) -> String {
        let Some(app) = self.app() else { return String::new() };
        store_watch::measure(&app.store, &app.records, &app.metrics);
        sms::measure(&app).await;
        money::measure(&app).await;
        plugins::measure(&app.registry, app.metrics.as_ref());
        if let Some(bytes) = app.live().identity.search_bytes() {
            app.metrics.gauge("chelseru_user_search_bytes", &[], bytes as f64);
        }
        app.nodes.measure(&app.metrics);
        if app.live().config.files.bucket().is_some() {
            let up = app.files.place_state() == PlaceState::Serves;
            app.metrics.gauge("chelseru_bucket_up", &[], f64::from(u8::from(up)));
        }
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

    fn has_refused_since(&self, since: Instant) -> bool {
        self.app().is_some_and(|app| app.store.has_refused_since(since))
    }

    fn is_degraded(&self) -> bool {
        self.app().is_some_and(|app| {
            app.registry.health().is_degraded()
                || !app.nodes.is_connected()
                || app.files.place_state() != PlaceState::Serves
        })
    }

    fn is_stopping(&self) -> bool {
        self.app().is_none_or(|app| app.stop.is_cancelled())
    }
}

#[async_trait]
impl Backups for View {
    async fn write(&self, folder: &std::path::Path) -> Result<Copied, String> {
        let app = self.app().ok_or("the gateway is stopping")?;
        let kept = backup::Kept::of(&app.ground.data_dir, &app.live().config);
        backup::write(&app.store, kept, folder).await
    }
}

/// The answer of `status/`.
async fn status(app: &App) -> Value {
    let (live, plugins) = (app.live(), app.registry.health());
    let (sms, payment) = (sms::status(app).await, money::status(app).await);
    let (config, files) = (json!(&*app.reload_status()), app.files.place_state());
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started_at": app.started.1,
        "uptime_seconds": app.started.0.elapsed().as_secs(),
        "listen": {"server": app.public.to_string(), "operator": app.door.address.to_string()},
        "store": {"healthy": app.is_healthy()},
        "files": {
            "place": doctor::place_of_files(&live.config, &app.ground.data_dir),
            "state": files.as_str(),
            "error": files.error(),
        },
        "gateways": app.nodes.status(&app.edits.status()),
        "config": config,
        "sms": sms,
        "payment": payment,
        "chat": {"sockets": app.hub.sockets()},
        // A test number is an intentional hole; the status makes it visible.
        "auth": {"test_numbers": live.config.auth.otp_test_numbers.len()},
        "plugins": {
            "degraded": plugins.is_degraded(),
            "failed": plugins.failed,
            "serving_old": plugins.serving_old,
            "compiling": plugins.compiling,
        },
        "providers": app.registry.status(),
        "trends": app.metrics.trends.status(),
    })
}
