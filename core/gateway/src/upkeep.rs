//! Periodic upkeep: folding, writing and removing what accumulates.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::sms;

/// How often in-memory facts (last seen, metric samples) are folded or written, and expired records removed.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(15);
/// Expired records removed in one step, so a step never blocks the writer for long.
const PURGE_STEP: usize = 500;

/// Runs the upkeep until the gateway stops.
pub(crate) async fn upkeep(app: Arc<App>, stop: CancellationToken) {
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
        if let Err(error) = app.wallets.purge(PURGE_STEP).await {
            tracing::warn!(%error, "idempotency records could not be removed");
        }
    }
}
