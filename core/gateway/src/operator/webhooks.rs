//! The task that delivers events to webhooks.
//!
//! Each endpoint with due events has its own task, so a receiver that does not answer delays no other. Not here: the
//! retry schedule (`chelseru-domain::webhook`) and one delivery (`chelseru-outbound::money::webhooks`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chelseru_domain::operator::Meter;
use chelseru_outbound::money::webhooks::Endpoints;
use chelseru_store::Task;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;

/// How often due events are looked up.
const TICK: Duration = Duration::from_millis(250);

/// Delivers events until the gateway stops. Each endpoint with due events has its own task, so a receiver that does
/// not answer delays no other.
pub async fn tell_all(app: Arc<App>, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    let busy: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = tick.tick() => {}
        }
        let endpoints = app.live().endpoints.clone();
        if endpoints.is_empty() || !app.nodes.holds(Task::Webhooks) {
            continue;
        }
        if let Err(error) = app.webhooks.route(endpoints.as_ref()).await {
            tracing::error!(%error, "events could not be assigned to webhooks");
            continue;
        }
        for name in endpoints.names() {
            let mut running = busy.lock().unwrap_or_else(PoisonError::into_inner);
            if running.contains(&name) {
                continue;
            }
            running.push(name.clone());
            drop(running);
            let (app, endpoints, busy, stop) = (app.clone(), endpoints.clone(), busy.clone(), stop.clone());
            tasks.spawn(async move {
                tell(&app, &endpoints, &name, &stop).await;
                busy.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| *other != name);
            });
        }
    }
    // Running deliveries end by their own time-out; an interrupted one is repeated at the next start.
    tasks.close();
    tasks.wait().await;
}

async fn tell(app: &App, endpoints: &Endpoints, name: &str, stop: &CancellationToken) {
    while !stop.is_cancelled() && app.nodes.holds(Task::Webhooks) {
        match app.webhooks.deliver(endpoints, name).await {
            Ok(step) => {
                // Zeros as well: nobody sees that a counter grew which was not there before.
                for (outcome, count) in [
                    ("delivered", step.delivered),
                    ("failed", step.failed),
                    ("dead", step.dead),
                    ("dropped", 0),
                ] {
                    let labels = [("webhook", name), ("outcome", outcome)];
                    app.metrics.counter("chelseru_webhooks_total", &labels).add(count as u64);
                }
                if !step.more || step.failed + step.dead > 0 {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(webhook = name, %error, "events could not be delivered");
                return;
            }
        }
    }
}
