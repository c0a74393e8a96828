//! The tasks that keep this gateway among those that share the store.

use std::sync::Arc;
use std::time::Duration;

use chelseru_store::{SmsRecovered, Task};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::nodes;

/// How often this gateway says that it is there and renews its leases.
const RENEW: Duration = Duration::from_secs(2);
/// How often messages of gateways that are gone are looked for.
const RECOVER: Duration = Duration::from_secs(5);

/// Says that this gateway is there. From the stop on it takes no lease, and what it has in hand stays its own until
/// [`Nodes::leave`](crate::nodes::Nodes::leave).
pub(crate) async fn be_seen(app: Arc<App>) {
    if !app.nodes.is_shared() {
        return;
    }
    let mut tick = tokio::time::interval(RENEW);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let name = nodes::name(app.public);
    loop {
        tick.tick().await;
        let generation = app.reload_status().generation;
        let facts = nodes::facts(name.clone(), &app.live().config, generation);
        if let Err(error) = app.nodes.renew(&app.store, facts, app.stop.is_cancelled()).await {
            tracing::warn!(%error, "this gateway could not say that it is there");
        }
    }
}

/// Takes over messages of gateways that are gone, until this one stops.
pub(crate) async fn recover_messages(app: Arc<App>, stop: CancellationToken) {
    if !app.nodes.is_shared() {
        return;
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RECOVER) => {}
        }
        if !app.nodes.holds(Task::Messages) {
            continue;
        }
        match app.sms_queue.recover().await {
            Ok(recovered) if recovered == SmsRecovered::default() => {}
            Ok(SmsRecovered { resumed, unknown, failed }) => {
                tracing::warn!(
                    resumed,
                    unknown,
                    failed,
                    "messages of a gateway that is gone were taken over"
                );
            }
            Err(error) => tracing::warn!(%error, "messages of gateways that are gone could not be read"),
        }
    }
}
