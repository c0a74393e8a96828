//! Background work on messages: sending the queue, polling the delivery of accepted messages, purging old records,
//! and the part of `status/` and metrics about them.

use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::operator::Meter;
use chelseru_domain::sms::gate::Circuit;
use chelseru_http::sms::report::count_report;
use chelseru_store::StoreError;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// Records checked in one purge step.
const PURGE_STEP: usize = 500;

/// Sends queued messages until the gateway stops; started sends are finished.
pub(crate) async fn carry_on(app: Arc<App>, stop: CancellationToken) {
    let (routes, tasks) = (app.clone(), app.detached.clone());
    let spawn = Box::new(move |work| drop(tasks.spawn(work)));
    tokio::select! {
        () = stop.cancelled() => {}
        () = app.sms_queue.run(move || routes.live().sms.clone(), spawn) => {}
    }
}

/// One round of periodic upkeep.
pub(crate) async fn upkeep(app: &App) {
    if let Err(error) = round(app).await {
        tracing::warn!(%error, "upkeep of messages failed");
    }
}

async fn round(app: &App) -> Result<(), StoreError> {
    let live = app.live();
    for reported in app.sms_queue.poll(&live.sms).await? {
        count_report(app.metrics.as_ref(), reported);
    }
    let now = app.clock.now();
    let keep = Duration::from_secs(live.config.sms.keep_days * 24 * 60 * 60);
    app.store.sms_purge(now.minus(keep), PURGE_STEP).await?;
    app.store.sms_idempotency_purge(now, PURGE_STEP).await?;
    Ok(())
}

/// The part of `status/` about messages.
pub(crate) async fn status(app: &App) -> Value {
    let live = app.live();
    let now = app.clock.now();
    let circuits = live.sms.candidates().iter().map(|candidate| {
        let circuit = candidate.gate.circuit(now).as_str();
        let name = candidate.provider.name();
        let pushes = app.reports.reads(name);
        // A reader of the status is an operator, who has to give this address to the provider.
        let report_path = pushes.then(|| {
            format!(
                "{}/message/report/{name}/{}/",
                app.limits.base_path,
                app.standing.shared.report_secrets.of(name)
            )
        });
        (name.to_owned(), json!({"circuit": circuit, "report_path": report_path}))
    });
    json!({
        "service": live.config.sms.service.names(),
        "waiting": app.store.sms_waiting().await.ok(),
        "providers": circuits.collect::<serde_json::Map<_, _>>(),
    })
}

/// Sets the gauges about messages.
pub(crate) async fn measure(app: &App) {
    let now = app.clock.now();
    if let Ok(waiting) = app.store.sms_waiting().await {
        app.metrics.gauge("chelseru_messages_waiting", &[], waiting as f64);
    }
    let rules = crate::config::rules::shield_rules(&app.live().config);
    app.metrics.gauge("chelseru_sms_prefixes_slowed", &[], app.shield.slowed(&rules, now) as f64);
    for candidate in app.live().sms.candidates() {
        let value = match candidate.gate.circuit(now) {
            Circuit::Closed => 0.0,
            Circuit::HalfOpen => 1.0,
            Circuit::Open => 2.0,
        };
        app.metrics.gauge("chelseru_sms_circuit", &[("provider", candidate.provider.name())], value);
    }
}
