//! Open payments: the task that settles them, and what operators see of them.
//!
//! Each payment gateway with open payments has a task of its own, so that one that answers slowly or not at all holds
//! up its own payments only. Not here: what an answer means for a payment (`chelseru-domain::payment`), and how a
//! plugin is asked (`chelseru-outbound::money`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::operator::Meter;
use chelseru_domain::payment::gateway::PaymentGateways;
use chelseru_outbound::money::PluginPaymentGateways;
use chelseru_store::{Store, StoreError};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::config::{Problems, Source};

/// The task of reversals among those of gateways; no gateway's name has brackets.
const REVERSALS: &str = "(reversals)";
/// Open payments of a gateway that are counted, for a refusal and for the status.
const COUNT_MAX: usize = 10_000;

/// Whether every gateway with open payments is still there, by name and plugin.
///
/// Errors: a sentence that names the gateway and the count of its open payments.
pub(crate) fn keeps_open_payments(
    new: &PluginPaymentGateways,
    before: &PluginPaymentGateways,
    store: &Store,
) -> Result<(), String> {
    let mut open = store.payments_open_gateways().map_err(|error| error.to_string())?;
    let reversals = store.reversals_open(COUNT_MAX).map_err(|error| error.to_string())?;
    for reversal in &reversals {
        if !open.contains(&reversal.gateway) {
            open.push(reversal.gateway.clone());
        }
    }
    for name in open {
        let plugin = |gateways: &PluginPaymentGateways| {
            gateways.by_name(&name).map(|gateway| gateway.plugin().to_owned())
        };
        let (Some(old), new) = (plugin(before), plugin(new)) else { continue };
        if new.as_ref() == Some(&old) {
            continue;
        }
        let count = store.payments_open(&name, COUNT_MAX).map_err(|error| error.to_string())?;
        let reversed = reversals.iter().filter(|reversal| reversal.gateway == name).count();
        let change = match new {
            None => "cannot be removed".to_owned(),
            Some(new) => format!("cannot change its plugin from {old} to {new}"),
        };
        let reversals = match reversed {
            0 => String::new(),
            reversed => format!(" and {reversed} to give back"),
        };
        return Err(format!("provider.{name}: {change} while it has {count} open payments{reversals}"));
    }
    Ok(())
}

/// Payment gateways whose rules were refused, each at the line of its entry.
pub(crate) fn refusals(source: &Source, refused: Vec<(String, String)>) -> Problems {
    let problem =
        |(name, reason): (String, String)| source.problem(&format!("provider.{name}"), None, reason);
    Problems(refused.into_iter().map(problem).collect())
}

/// Settles what is due until the gateway stops: one task per gateway with open payments, so that one that answers
/// slowly or not at all holds up its own payments only. What a round began goes on when the stop comes.
pub async fn reconcile(app: Arc<App>, stop: CancellationToken) {
    let mut running: HashMap<String, JoinHandle<()>> = HashMap::new();
    while !stop.is_cancelled() {
        running.retain(|_, task| !task.is_finished());
        match app.payments.open_gateways() {
            Ok(names) => {
                for name in names {
                    let start = || tokio::spawn(reconcile_gateway(app.clone(), name.clone(), stop.clone()));
                    running.entry(name.clone()).or_insert_with(start);
                }
            }
            Err(error) => tracing::error!(%error, "open payments could not be read"),
        }
        running.entry(REVERSALS.to_owned()).or_insert_with(|| tokio::spawn(reverse_due(app.clone())));
        let wait = Duration::from_secs(app.live().config.payment.reconcile_seconds);
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    for (_, task) in running {
        // One that panicked was reported by the panic itself; its payments are still due.
        let _ = task.await;
    }
}

/// Asks once about every reversal that is due.
async fn reverse_due(app: Arc<App>) {
    let live = app.live();
    if let Err(error) = app.payments.reverse_due(live.gateways.as_ref()).await {
        tracing::error!(%error, "open reversals could not be read");
    }
}

/// Rounds over one gateway's open payments while more are due than one takes.
async fn reconcile_gateway(app: Arc<App>, name: String, stop: CancellationToken) {
    while !stop.is_cancelled() {
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

/// How many open payments each gateway has that has some, loaded or not; each counted up to [`COUNT_MAX`].
pub fn open_payments(store: &Store) -> Result<BTreeMap<String, usize>, StoreError> {
    let counted = |name: String| Ok((name.clone(), store.payments_open(&name, COUNT_MAX)?));
    store.payments_open_gateways()?.into_iter().map(counted).collect()
}

/// What `status/` says of payments: the selected gateway, how many are open at each, and how many are to be given back;
/// null when the store cannot be read.
pub(crate) fn status(app: &App) -> Value {
    let reversals = app.store.reversals_open(COUNT_MAX).ok().map(|open| open.len());
    json!({
        "gateway": app.live().config.payment.gateway,
        "open": open_payments(&app.store).ok(),
        "reversals": reversals,
    })
}

/// Sets the gauges of payments; called when metrics are read.
pub(crate) fn measure(app: &App) {
    // What cannot be read keeps its last value: none would be a false all-clear.
    let Ok(open) = open_payments(&app.store) else { return };
    let loaded = app.live().gateways.all();
    let idle = loaded.iter().map(|gateway| gateway.name()).filter(|name| !open.contains_key(*name));
    for (name, count) in
        idle.map(|name| (name, 0)).chain(open.iter().map(|(name, count)| (name.as_str(), *count)))
    {
        app.metrics.gauge("chelseru_payments_open", &[("gateway", name)], count as f64);
    }
}

/// Says at start which open payments have no gateway.
pub fn warn_of_orphans(gateways: &PluginPaymentGateways, store: &Store) {
    for (name, count) in open_payments(store).unwrap_or_default() {
        if gateways.by_name(&name).is_none() {
            tracing::error!(plugin.id = %name, count, "open payments wait for a gateway that is not configured");
        }
    }
    for reversal in store.reversals_open(COUNT_MAX).unwrap_or_default() {
        if gateways.by_name(&reversal.gateway).is_none() {
            tracing::error!(plugin.id = %reversal.gateway, payment.id = reversal.payment.0, "a payment waits to be given back by a gateway that is not configured");
        }
    }
}
