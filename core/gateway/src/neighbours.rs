//! The tasks that keep this gateway among those that share the store.

use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::bus::Note;
use chelseru_store::{NodeFacts, SmsRecovered, Task};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::nodes;

/// How often this gateway says that it is there and renews its leases.
const RENEW: Duration = Duration::from_secs(2);
/// How often the others are told what was counted here. Until then each may grant what another one granted.
const TELL: Duration = Duration::from_millis(100);
/// Counts in one note: 40 KiB.
const COUNTED_MAX: usize = 500;
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
        let components = nodes::components(&app.registry);
        let facts = NodeFacts { components, edit: app.edits.status().last.unwrap_or(0), ..facts };
        if let Err(error) = app.nodes.renew(&app.store, facts, app.stop.is_cancelled()).await {
            tracing::warn!(%error, "this gateway could not say that it is there");
        }
    }
}

/// What becomes of a note that does not concern sockets.
pub(crate) fn hear(app: Arc<App>) -> impl Fn(Note) {
    move |note| match note {
        Note::Shield(note) => app.shield.elsewhere(note),
        Note::Counted(counted) => app.board.heard(&counted, app.clock.now()),
        Note::AccountChanged(user) => app.live().identity.changed_elsewhere(user),
        Note::Connected { ask, users } => app.nodes.answered(ask, users),
        Note::Edited => app.edits.entered.notify_one(),
        // Sockets take the others.
        _ => {}
    }
}

/// Tells the other gateways what counts against allowances, until this one stops.
pub(crate) async fn tell_counts(app: Arc<App>, stop: CancellationToken) {
    let Some(bus) = app.nodes.bus() else { return };
    while !stop.is_cancelled() {
        tokio::time::sleep(TELL).await;
        for counted in app.board.take().chunks(COUNTED_MAX) {
            bus.send(Note::Counted(counted.to_vec()));
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
