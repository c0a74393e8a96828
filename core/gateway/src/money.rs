//! Open payments: the task that settles them, and what operators see of them.
//!
//! Each payment gateway with open payments has its own task, so a slow or silent gateway delays only its own
//! payments. Not here: what an answer means for a payment (`chelseru-domain::payment`), and how a plugin is called
//! (`chelseru-outbound::money`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::money::payment::gateway::PaymentGateways;
use chelseru_domain::operator::Meter;
use chelseru_outbound::money::PluginPaymentGateways;
use chelseru_store::{Store, StoreError, Task};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::candidate::{OpenPayments, Waiting};

/// Key of the reversal task among the gateways' tasks; no gateway's name contains brackets.
const REVERSALS: &str = "(reversals)";
/// How often it is asked whether this gateway is the one that settles payments.
const LEASE_LOOK: Duration = Duration::from_secs(1);
/// Open payments counted per gateway, for a refusal and for the status.
const COUNT_MAX: usize = 10_000;

/// Open payments and reversals of the serving payment gateways.
///
/// Errors: the store cannot be read.
pub(crate) async fn open(
    store: &Store,
    gateways: &PluginPaymentGateways,
) -> Result<OpenPayments, StoreError> {
    let mut names = store.payments_open_gateways().await?;
    let reversals = store.reversals_open(COUNT_MAX).await?;
    names.extend(reversals.iter().map(|reversal| reversal.gateway.clone()));
    let mut open = OpenPayments::default();
    for name in names {
        // A gateway that is not configured has no plugin to keep.
        let Some(gateway) = gateways.by_name(&name) else { continue };
        let waiting = Waiting {
            plugin: gateway.plugin().to_owned(),
            payments: store.payments_open(&name, COUNT_MAX).await?,
            reversals: reversals.iter().filter(|reversal| reversal.gateway == name).count(),
        };
        open.0.insert(name, waiting);
    }
    Ok(open)
}

/// Settles due payments until the gateway stops. Each gateway with open payments or a list to read has its own task,
/// so a slow or silent gateway delays only its own payments. A started round finishes when the stop comes.
pub async fn reconcile(app: Arc<App>, stop: CancellationToken) {
    let mut running: HashMap<String, JoinHandle<()>> = HashMap::new();
    while !stop.is_cancelled() {
        running.retain(|_, task| !task.is_finished());
        if !app.nodes.holds(Task::Payments) {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LEASE_LOOK) => {}
            }
            continue;
        }
        match app.payments.due_gateways(app.live().gateways.as_ref()).await {
            Ok(names) => {
                for name in names {
                    let start = || tokio::spawn(reconcile_gateway(app.clone(), name.clone(), stop.clone()));
                    running.entry(name.clone()).or_insert_with(start);
                }
            }
            Err(error) => tracing::error!(%error, "open payments could not be read"),
        }
        if let Err(error) = app.wallets.expire_holds().await {
            tracing::error!(%error, "holds could not be returned to their wallets");
        }
        running.entry(REVERSALS.to_owned()).or_insert_with(|| tokio::spawn(reverse_due(app.clone())));
        let wait = Duration::from_secs(app.live().config.payment.reconcile_seconds);
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    for (_, task) in running {
        // A panic has already been reported; its payments are still due.
        let _ = task.await;
    }
}

/// Asks once about every due reversal.
async fn reverse_due(app: Arc<App>) {
    let live = app.live();
    if let Err(error) = app.payments.reverse_due(live.gateways.as_ref()).await {
        tracing::error!(%error, "open reversals could not be read");
    }
}

/// Runs rounds over one gateway's open payments while more are due than one round handles.
async fn reconcile_gateway(app: Arc<App>, name: String, stop: CancellationToken) {
    while !stop.is_cancelled() && app.nodes.holds(Task::Payments) {
        let live = app.live();
        match app.payments.reconcile_gateway(live.gateways.as_ref(), &name).await {
            Ok(round) if round.more && round.settled + round.ended > 0 => {}
            Ok(_) => return,
            Err(error) => {
                tracing::error!(plugin.id = %name, %error, "open payments could not be read");
                return;
            }
        }
    }
}

/// Open payments of every gateway that has some, loaded or not, each counted up to [`COUNT_MAX`].
pub async fn open_payments(store: &Store) -> Result<BTreeMap<String, usize>, StoreError> {
    let mut open = BTreeMap::new();
    for name in store.payments_open_gateways().await? {
        let count = store.payments_open(&name, COUNT_MAX).await?;
        open.insert(name, count);
    }
    Ok(open)
}

/// The part of `status/` about payments: selected gateway, open payments per gateway, pending reversals. Null when
/// the store cannot be read.
pub(crate) async fn status(app: &App) -> Value {
    let reversals = app.store.reversals_open(COUNT_MAX).await.ok().map(|open| open.len());
    let waiting = open(&app.store, &app.live().gateways).await.ok().map(|open| {
        let waiting = open.0.into_iter().map(|(name, waiting)| {
            let Waiting { plugin, payments, reversals } = waiting;
            (name, json!({"plugin": plugin, "payments": payments, "reversals": reversals}))
        });
        waiting.collect::<serde_json::Map<_, _>>()
    });
    json!({
        "gateway": app.live().config.payment.gateway,
        "open": open_payments(&app.store).await.ok(),
        "reversals": reversals,
        // Pins a gateway to its plugin; `check` reads it to report what a reload would refuse.
        "waiting": waiting,
    })
}

/// Sets the gauges of payments; called when metrics are read.
pub(crate) async fn measure(app: &App) {
    // Unreadable values keep their last value: zero would be a false all-clear.
    let Ok(open) = open_payments(&app.store).await else { return };
    let loaded = app.live().gateways.all();
    let idle = loaded.iter().map(|gateway| gateway.name()).filter(|name| !open.contains_key(*name));
    for (name, count) in
        idle.map(|name| (name, 0)).chain(open.iter().map(|(name, count)| (name.as_str(), *count)))
    {
        app.metrics.gauge("chelseru_payments_open", &[("gateway", name)], count as f64);
    }
    for (name, count) in app.payments.uncredited() {
        app.metrics.gauge("chelseru_payments_uncredited", &[("gateway", &name)], count as f64);
    }
    let mut refused = app.payments.reversals_refused();
    for gateway in &loaded {
        refused.entry(gateway.name().to_owned()).or_default();
    }
    for (name, count) in refused {
        app.metrics.gauge("chelseru_reversals_refused", &[("gateway", &name)], count as f64);
    }
}

/// Logs at start which open payments have no gateway.
pub async fn warn_of_orphans(gateways: &PluginPaymentGateways, store: &Store) {
    for (name, count) in open_payments(store).await.unwrap_or_default() {
        if gateways.by_name(&name).is_none() {
            tracing::error!(plugin.id = %name, count, "open payments belong to a gateway that is not configured");
        }
    }
    for reversal in store.reversals_open(COUNT_MAX).await.unwrap_or_default() {
        if gateways.by_name(&reversal.gateway).is_none() {
            tracing::error!(plugin.id = %reversal.gateway, payment.id = reversal.payment.0, "a pending reversal belongs to a gateway that is not configured");
        }
    }
}
