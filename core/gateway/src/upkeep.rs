//! Periodic upkeep: folding, writing and removing what accumulates.

use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::files::place::PlaceState;
use chelseru_store::Task;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::sms;

/// How often in-memory facts (last seen, metric samples) are folded or written, and expired records removed.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(15);
/// Expired records removed in one step, so a step never blocks the writer for long.
const PURGE_STEP: usize = 500;
/// Steps of a walk in one round while nothing is found to remove.
const WALK_STEPS: usize = 20;

/// Runs the upkeep until the gateway stops.
pub(crate) async fn upkeep(app: Arc<App>, stop: CancellationToken) {
    let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = interval.tick() => {}
        }
        trends(&app).await;
        if let Err(error) = app.live().identity.flush_last_seen().await {
            tracing::warn!(%error, "last-seen times could not be stored");
        }
        if app.files.place_state() != PlaceState::Serves {
            // Nobody may ask for a file for hours; the state notes the answer.
            let _ = app.files.probe().await;
        }
        app.files.finish_left().await;
        if !app.nodes.holds(Task::Upkeep) {
            continue;
        }
        sms::upkeep(&app).await;
        // Later rounds remove the rest.
        if let Err(error) = app.live().identity.purge(PURGE_STEP).await {
            tracing::warn!(%error, "expired records could not be removed");
        }
        let kept = app.live().config.webhooks.clone();
        let keep = Duration::from_secs(kept.keep_days * 86_400);
        if let Err(error) = app.webhooks.purge(keep, kept.events_max, PURGE_STEP).await {
            tracing::warn!(%error, "old events could not be removed");
        }
        if let Err(error) = app.files.collect(&app.live().config.files).await {
            tracing::warn!(%error, "orphaned files could not be removed");
        }
        if let Err(error) = app.chat.sweep_all().await {
            tracing::warn!(%error, "the records of deleted rooms could not be removed");
        }
        retain(&app).await;
        if let Err(error) = app.wallets.purge(PURGE_STEP).await {
            tracing::warn!(%error, "idempotency records could not be removed");
        }
    }
}

/// Takes the metrics in. Rendering them folds their samples, so that memory stays bounded while nobody reads them.
async fn trends(app: &Arc<App>) {
    let (app, now) = (app.clone(), app.clock.now());
    let work = move || {
        let (trends, data_dir) = (&app.metrics.trends, &app.ground.data_dir);
        match trends.sample(&app.metrics.render(), data_dir, now) {
            true => trends.save(data_dir),
            false => Ok(()),
        }
    };
    if let Ok(Err(error)) = tokio::task::spawn_blocking(work).await {
        tracing::warn!(%error, "the numbers of the last hours could not be written");
    }
}

/// Removes what the configured retention ends. Everything is kept by default.
async fn retain(app: &App) {
    let live = app.live();
    let days = |days: u64| Some(Duration::from_secs(days * 86_400)).filter(|keep| !keep.is_zero());
    if let Some(keep) = days(live.config.chat.messages_keep_days) {
        let mut removed = 0;
        for _ in 0..WALK_STEPS {
            match app.chat.messages_expire(keep, PURGE_STEP).await {
                Ok(count) => removed += count,
                Err(error) => {
                    tracing::warn!(%error, "old messages could not be removed");
                    break;
                }
            }
            if removed >= PURGE_STEP {
                break;
            }
        }
    }
    if let Some(keep) = days(live.config.audit.keep_days)
        && let Err(error) = live.identity.audit().purge(keep, PURGE_STEP).await
    {
        tracing::warn!(%error, "old security events could not be removed");
    }
}
