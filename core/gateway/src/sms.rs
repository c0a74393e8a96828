//! Background work on messages: sending the queue, polling the delivery of accepted messages, purging old records,
//! and the part of `status/` and metrics about them.

use std::sync::Arc;
use std::time::Duration;

use chelseru_config::Config;
use chelseru_domain::Timestamp;
use chelseru_domain::clock::rest_format;
use chelseru_domain::operator::Meter;
use chelseru_domain::sms::credit::Credit;
use chelseru_domain::sms::gate::Circuit;
use chelseru_domain::sms::route::Candidate;
use chelseru_http::sms::report::count_report;
use chelseru_store::{CreditFacts, StoreError};
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

/// How often it is checked whether a provider's credit is due.
const CREDIT_TICK: Duration = Duration::from_secs(1);

/// Asks the providers for their credit on schedule, until the gateway stops.
pub(crate) async fn watch_credit(app: Arc<App>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let live = app.live();
        let every = Duration::from_secs(live.config.sms.credit.minutes * 60);
        if !every.is_zero() {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                asked = live.sms.ask_credit(every, app.clock.now()) => asked,
            };
            for candidate in live
                .sms
                .candidates()
                .iter()
                .filter(|one| asked.iter().any(|name| name == one.provider.name()))
            {
                if let Err(error) = note_credit(&app, &live.config, candidate).await {
                    tracing::warn!(%error, "a provider's low credit could not be recorded");
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(CREDIT_TICK) => {}
        }
    }
}

/// Warns of a low credit: with each answer in the log, and with an event once, when it becomes low.
async fn note_credit(app: &App, config: &Config, candidate: &Candidate) -> Result<(), StoreError> {
    let (name, seen) = (candidate.provider.name(), candidate.gate.credit());
    let (Some(credit), None) = (seen.credit, seen.error) else { return Ok(()) };
    let (amount, unit, low) = (credit.amount(), credit.unit(), is_low(config, name, credit));
    if low {
        tracing::warn!(plugin.id = name, credit = amount, unit, "the credit at an SMS provider is low");
    }
    let min = i64::try_from(credit_min(config, name)).unwrap_or(i64::MAX);
    let facts = CreditFacts { provider: name.to_owned(), amount, unit: unit.to_owned(), min };
    app.store.credit_note(facts, low, app.clock.now()).await.map(drop)
}

/// Whether a credit is below the provider's `credit_min`.
fn is_low(config: &Config, name: &str, credit: Credit) -> bool {
    i128::from(credit.amount()) < i128::from(credit_min(config, name))
}

fn credit_min(config: &Config, name: &str) -> u64 {
    config.provider.get(name).map_or(0, |entry| entry.credit_min)
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
        let credit = credit_json(&live.config, candidate, now);
        (name.to_owned(), json!({"circuit": circuit, "report_path": report_path, "credit": credit}))
    });
    json!({
        "service": live.config.sms.service.names(),
        "waiting": app.store.sms_waiting().await.ok(),
        "providers": circuits.collect::<serde_json::Map<_, _>>(),
    })
}

/// A provider's credit; null when it cannot be asked and refused nothing for that reason.
fn credit_json(config: &Config, candidate: &Candidate, now: Timestamp) -> Value {
    let seen = candidate.gate.credit();
    if seen.asked_at.is_none() && seen.empty_since.is_none() {
        return Value::Null;
    }
    json!({
        "amount": seen.credit.map(Credit::amount),
        "unit": seen.credit.map(Credit::unit),
        "asked_at": seen.asked_at.map(rest_format),
        "error": seen.error,
        "low": seen.credit.is_some_and(|credit| is_low(config, candidate.provider.name(), credit)),
        "stepped_back": seen.is_empty(now),
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
        let name = candidate.provider.name();
        app.metrics.gauge("chelseru_sms_circuit", &[("provider", name)], value);
        let seen = candidate.gate.credit();
        if let Some(credit) = seen.credit {
            let labels = [("provider", name), ("unit", credit.unit())];
            app.metrics.gauge("chelseru_sms_credit", &labels, credit.amount() as f64);
            let low = is_low(&app.live().config, name, credit);
            app.metrics.gauge("chelseru_sms_credit_low", &[("provider", name)], f64::from(u8::from(low)));
        }
        let stepped_back = f64::from(u8::from(seen.is_empty(now)));
        app.metrics.gauge("chelseru_sms_stepped_back", &[("provider", name)], stepped_back);
    }
}
