//! Examines a gateway and its machine: what `chelseru doctor` and the console's backups page report.
//!
//! [`machine`] needs no running gateway; [`gateway`] adds what only a running one knows. Nothing here changes anything.

use std::path::Path;
use std::time::Duration;

use chelseru_domain::Timestamp;
use chelseru_domain::clock::{Clock, SystemClock};
use chelseru_domain::files::place::PlaceError;
use chelseru_domain::operator::audit::{AuditKind, AuditQuery};
use chelseru_domain::operator::doctor::{Check, Finding, Found, Phrase, State};
use chelseru_domain::operator::webhook::EventFilter;
use chelseru_http::files::store::FOLDER as UPLOADS;
use chelseru_store::{DiskRoom, StoreError};

use super::{backup, store_watch};
use crate::app::App;
use crate::config::{Config, Loaded, S3};
use crate::{keys, machine, owner};

/// A backup that is older than this is reported.
const BACKUP_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How far records may be ahead of the clock.
const CLOCK_BACK_MAX: Duration = Duration::from_secs(60);
/// No gateway of this version ran before: 2026-01-01.
const CLOCK_LEAST: Timestamp = Timestamp::from_secs(1_767_225_600);
/// Dead events counted; more are "at least".
const DEAD_COUNTED: usize = 100;
/// Superusers and operators looked at.
const OPERATORS_LOOKED: usize = 200;

fn finding(check: Check, bad: Option<Found>, state: State, well: Phrase) -> Finding {
    match bad {
        Some(what) => Finding::new(check, state, what),
        None => Finding::new(check, State::Well, well),
    }
}

/// What can be told without a running gateway.
pub(crate) fn machine(loaded: &Loaded, data_dir: &Path) -> Vec<Finding> {
    let warnings = machine::warnings(loaded);
    let warned = |key: &str, phrase| {
        let found = warnings.iter().find(|problem| problem.key == key);
        found.map(|problem| Found::of(phrase, [format!("{}: {}", problem.key, problem.message)]))
    };
    let callbacks = match loaded.config.payment.gateway.as_str() {
        "" => Phrase::CallbacksNone,
        _ => Phrase::CallbacksWell,
    };
    let back = warned("payment.callback_url", Phrase::CallbacksWarned);
    let files = warned("server.connections_max", Phrase::FilesWarned);
    vec![
        finding(Check::Callbacks, back, State::Bad, callbacks),
        finding(Check::OpenFiles, files, State::Warning, Phrase::FilesEnough),
        permissions(data_dir),
        key(data_dir),
        clock(None),
    ]
}

/// Tries the place of uploaded files. `named`: as operators read it.
pub(crate) async fn files(probe: impl Future<Output = Result<(), PlaceError>>, named: String) -> Finding {
    match probe.await {
        Ok(()) => Finding::new(Check::Files, State::Well, Found::of(Phrase::PlaceServes, [named])),
        Err(error) => {
            Finding::new(Check::Files, State::Bad, Found::of(Phrase::PlaceFails, [error.to_string()]))
        }
    }
}

/// The place of uploaded files, as operators read it.
pub(crate) fn place_of_files(config: &Config, data_dir: &Path) -> String {
    let folder = || data_dir.join(UPLOADS).display().to_string();
    config.files.bucket().map_or_else(folder, S3::shown)
}

/// Everything. `file` is the configuration's.
pub(crate) async fn gateway(app: &App) -> Result<Vec<Finding>, StoreError> {
    let file = app.reload_status().file.clone();
    let mut findings = vec![store(app), disk(app), backups(app).await?];
    findings.extend(configuration(app));
    findings.push(providers(app));
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    // A refused file is reported above; what serves is examined here.
    let loaded = Config::parse(&file, text).or_else(|_| Config::parse(&file, String::new()));
    if let Ok(mut loaded) = loaded {
        loaded.config = app.live().config.clone();
        findings.extend(machine(&loaded, &app.ground.data_dir));
    }
    findings.retain(|one| one.check != Check::Clock);
    findings.push(clock(newest_record(app).await?));
    let place = place_of_files(&app.live().config, &app.ground.data_dir);
    findings.push(files(app.files.probe(), place).await);
    findings.extend([webhooks(app).await?, money(app).await?, operators(app).await?]);
    findings.sort_by_key(|one| std::cmp::Reverse(one.state));
    Ok(findings)
}

fn store(app: &App) -> Finding {
    let state = store_watch::storage(&app.store);
    let bad = (!app.is_healthy()).then(|| Found::of(Phrase::StoreIs, [state.as_str().to_owned()]));
    finding(Check::Store, bad, State::Bad, Phrase::StoreServes)
}

fn disk(app: &App) -> Finding {
    let size = backup::store_bytes(&app.ground.data_dir);
    let free = app.store.disk_free_bytes();
    let what = match free {
        Some(free) => Found::of(Phrase::DiskFree, [free, size].map(|bytes| (bytes >> 20).to_string())),
        None => Phrase::DiskUnknown.into(),
    };
    let state = match app.store.room() {
        DiskRoom::None | DiskRoom::Reserve => State::Bad,
        // A backup is staged on this disk.
        DiskRoom::Ample if free.is_some_and(|free| free < 2 * size) => State::Warning,
        DiskRoom::Ample => State::Well,
    };
    Finding::new(Check::Disk, state, what)
}

async fn backups(app: &App) -> Result<Finding, StoreError> {
    if !app.store.is_folder() {
        return Ok(Finding::new(Check::Backup, State::Well, Phrase::BackupOnServer));
    }
    let event = Some(AuditKind::BackupWritten.as_str().to_owned());
    let query = AuditQuery { event, limit: 1, ..AuditQuery::default() };
    let page = app.live().identity.audit().page(query).await?;
    let Some(newest) = page.entries.first() else {
        return Ok(Finding::new(Check::Backup, State::Warning, Phrase::BackupNone));
    };
    let age = age(app.clock.now(), newest.draft.at);
    let (phrase, old) = spoken(age, Phrase::BackupHours, Phrase::BackupDays);
    let what = Found::of(phrase, [old, newest.draft.subject.clone()]);
    let state = if age > BACKUP_AGE_MAX { State::Warning } else { State::Well };
    Ok(Finding::new(Check::Backup, state, what))
}

fn age(now: Timestamp, then: Timestamp) -> Duration {
    Duration::from_micros(now.as_micros().saturating_sub(then.as_micros()))
}

/// The phrase of an age in hours or in days, and how many.
fn spoken(age: Duration, in_hours: Phrase, in_days: Phrase) -> (Phrase, String) {
    let hours = age.as_secs() / 3600;
    if hours < 48 { (in_hours, hours.to_string()) } else { (in_days, (hours / 24).to_string()) }
}

fn configuration(app: &App) -> [Finding; 2] {
    let status = app.reload_status();
    let keys = status.restart_keys.join(", ");
    let keys = (!keys.is_empty()).then(|| Found::of(Phrase::RestartKeys, [keys]));
    let own = status.last_error.clone().map(|error| Found::of(Phrase::ConfigRefused, [error]));
    // Later edits wait behind it, too.
    let theirs = app.edits.status().refused.map(|reason| Found::of(Phrase::EditRefused, [reason]));
    let refused = match (own, theirs) {
        (Some(own), Some(theirs)) => Some(own.and(theirs)),
        (own, theirs) => own.or(theirs),
    };
    [
        finding(Check::Config, refused, State::Bad, Phrase::ConfigServes),
        finding(Check::Restart, keys, State::Warning, Phrase::RestartNone),
    ]
}

fn providers(app: &App) -> Finding {
    let health = app.registry.health();
    let names = |set: &std::collections::BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
    if !health.failed.is_empty() {
        return Finding::new(
            Check::Providers,
            State::Bad,
            Found::of(Phrase::ProvidersDown, [names(&health.failed)]),
        );
    }
    if !health.serving_old.is_empty() {
        let old = names(&health.serving_old);
        return Finding::new(Check::Providers, State::Warning, Found::of(Phrase::ProvidersOld, [old]));
    }
    let serve = Found::of(Phrase::ProvidersServe, [app.registry.status().len().to_string()]);
    Finding::new(Check::Providers, State::Well, serve)
}

/// Who else may read what the owner's folder holds.
fn permissions(data_dir: &Path) -> Finding {
    let foreign = || {
        let (path, owner) = owner::foreign(data_dir)?;
        Some(Found::of(Phrase::PermissionsForeign, [path.display().to_string(), owner.to_string()]))
    };
    let found = open_to_others(data_dir).or_else(foreign);
    finding(Check::Permissions, found, State::Bad, Phrase::PermissionsWell)
}

#[cfg(unix)]
fn open_to_others(data_dir: &Path) -> Option<Found> {
    use std::os::unix::fs::PermissionsExt;

    // A closed folder closes what is in it.
    let mode = std::fs::metadata(data_dir).ok()?.permissions().mode() & 0o777;
    let parts = || [data_dir.display().to_string(), format!("{mode:o}")];
    (mode & 0o077 != 0).then(|| Found::of(Phrase::PermissionsOpen, parts()))
}

#[cfg(not(unix))]
fn open_to_others(_: &Path) -> Option<Found> {
    None
}

fn key(data_dir: &Path) -> Finding {
    let file = data_dir.join(keys::FILE);
    let text = |error| Found::of(Phrase::KeyMissing, [format!("{}: {error}", file.display())]);
    let bad = std::fs::File::open(&file).err().map(text);
    finding(Check::Keys, bad, State::Bad, Phrase::KeyThere)
}

fn clock(newest: Option<Timestamp>) -> Finding {
    let now = SystemClock.now();
    let bad = if now < CLOCK_LEAST {
        Some(Phrase::ClockYears.into())
    } else {
        let ahead = newest.filter(|newest| newest.minus(CLOCK_BACK_MAX) > now);
        ahead.map(|newest| {
            let (phrase, ahead) = spoken(age(newest, now), Phrase::ClockHours, Phrase::ClockDays);
            Found::of(phrase, [ahead])
        })
    };
    finding(Check::Clock, bad, State::Bad, Phrase::ClockWell)
}

/// When the newest audit entry was made.
async fn newest_record(app: &App) -> Result<Option<Timestamp>, StoreError> {
    let page = app.live().identity.audit().page(AuditQuery { limit: 1, ..AuditQuery::default() }).await?;
    // Tests move their gateway's clock; the offset is no fault.
    let moved = age(app.clock.now(), SystemClock.now());
    Ok(page.entries.first().map(|entry| entry.draft.at.minus(moved)))
}

async fn webhooks(app: &App) -> Result<Finding, StoreError> {
    let paused = app.webhooks.paused().await?;
    let dead = app.webhooks.list(None, EventFilter::Dead, DEAD_COUNTED).await?.len();
    let mut what = Found::default();
    if dead > 0 {
        let phrase = if dead == DEAD_COUNTED { Phrase::WebhooksDeadLeast } else { Phrase::WebhooksDead };
        what = what.and(Found::of(phrase, [dead.to_string()]));
    }
    if !paused.is_empty() {
        let names: Vec<&str> = paused.keys().map(String::as_str).collect();
        what = what.and(Found::of(Phrase::WebhooksPaused, [names.join(", ")]));
    }
    let bad = (!what.is_empty()).then_some(what);
    Ok(finding(Check::Webhooks, bad, State::Warning, Phrase::WebhooksWell))
}

async fn money(app: &App) -> Result<Finding, StoreError> {
    let stuck = app.payments.reversals_undecided(DEAD_COUNTED).await?;
    let numbers: Vec<String> = stuck.iter().map(|one| one.payment.to_string()).collect();
    let bad = (!numbers.is_empty()).then(|| Found::of(Phrase::MoneyStuck, [numbers.join(", ")]));
    Ok(finding(Check::Money, bad, State::Warning, Phrase::MoneyWell))
}

/// Operators who could enter by a link only.
async fn operators(app: &App) -> Result<Finding, StoreError> {
    let mut without = Vec::new();
    let records = app.store.operators().await?;
    for record in records.iter().take(OPERATORS_LOOKED).filter(|one| one.factor.is_none()) {
        let Some(user) = app.store.user_get(record.user).await? else { continue };
        if user.active && (record.role.is_some() || user.superuser) {
            without.push(user.username);
        }
    }
    let bad = (!without.is_empty()).then(|| Found::of(Phrase::OperatorsWithout, [without.join(", ")]));
    Ok(finding(Check::Operators, bad, State::Warning, Phrase::OperatorsWell))
}
