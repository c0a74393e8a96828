//! Examines a gateway and its machine: what `chelseru doctor` and the console's backups page report.
//!
//! [`machine`] needs no running gateway; [`gateway`] adds what only a running one knows. Nothing here changes anything.

use std::path::Path;
use std::time::Duration;

use chelseru_domain::Timestamp;
use chelseru_domain::clock::{Clock, SystemClock};
use chelseru_domain::operator::audit::{AuditKind, AuditQuery};
use chelseru_domain::operator::doctor::{Check, Finding, State};
use chelseru_domain::operator::webhook::EventFilter;
use chelseru_store::{DiskRoom, StoreError};

use super::{backup, store_watch};
use crate::app::App;
use crate::config::{Config, Loaded};
use crate::{keys, machine};

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

fn finding(check: Check, bad: Option<String>, state: State, well: impl Into<String>) -> Finding {
    match bad {
        Some(what) => Finding::new(check, state, what),
        None => Finding::new(check, State::Well, well),
    }
}

/// What can be told without a running gateway.
pub(crate) fn machine(loaded: &Loaded, data_dir: &Path) -> Vec<Finding> {
    let warnings = machine::warnings(loaded);
    let warned = |key: &str| {
        let found = warnings.iter().find(|problem| problem.key == key);
        found.map(|problem| format!("{}: {}", problem.key, problem.message))
    };
    let callbacks = match loaded.config.payment.gateway.as_str() {
        "" => "no payments are taken",
        _ => "payers come back",
    };
    vec![
        finding(Check::Callbacks, warned("payment.callback_url"), State::Bad, callbacks),
        finding(Check::OpenFiles, warned("server.connections_max"), State::Warning, "enough"),
        permissions(data_dir),
        key(data_dir),
        clock(None),
    ]
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
    findings.extend([webhooks(app).await?, money(app).await?, operators(app).await?]);
    findings.sort_by_key(|one| std::cmp::Reverse(one.state));
    Ok(findings)
}

fn store(app: &App) -> Finding {
    let state = store_watch::storage(&app.store);
    let bad = (!app.is_healthy()).then(|| format!("the store is {}", state.as_str()));
    finding(Check::Store, bad, State::Bad, "changes are stored")
}

fn disk(app: &App) -> Finding {
    let size = backup::store_bytes(&app.ground.data_dir);
    let free = app.store.disk_free_bytes();
    let what = match free {
        Some(free) => format!("{} MiB free, the store has {} MiB", free >> 20, size >> 20),
        None => "the free space is unknown".to_owned(),
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
        let what = "the store is on a server: its backups are the server's, data.dir beside them is yours";
        return Ok(Finding::new(Check::Backup, State::Well, what));
    }
    let event = Some(AuditKind::BackupWritten.as_str().to_owned());
    let query = AuditQuery { event, limit: 1, ..AuditQuery::default() };
    let page = app.live().identity.audit().page(query).await?;
    let Some(newest) = page.entries.first() else {
        return Ok(Finding::new(Check::Backup, State::Warning, "no backup is on record"));
    };
    let age = age(app.clock.now(), newest.draft.at);
    let what = format!("the last one is {} old: {}", spoken(age), newest.draft.subject);
    let state = if age > BACKUP_AGE_MAX { State::Warning } else { State::Well };
    Ok(Finding::new(Check::Backup, state, what))
}

fn age(now: Timestamp, then: Timestamp) -> Duration {
    Duration::from_micros(now.as_micros().saturating_sub(then.as_micros()))
}

fn spoken(age: Duration) -> String {
    let hours = age.as_secs() / 3600;
    if hours < 48 { format!("{hours} hours") } else { format!("{} days", hours / 24) }
}

fn configuration(app: &App) -> [Finding; 2] {
    let status = app.reload_status();
    let keys = (!status.restart_keys.is_empty()).then(|| status.restart_keys.join(", "));
    [
        finding(Check::Config, status.last_error.clone(), State::Bad, "the file serves"),
        finding(Check::Restart, keys, State::Warning, "no key waits for a restart"),
    ]
}

fn providers(app: &App) -> Finding {
    let health = app.registry.health();
    let names = |set: &std::collections::BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
    if !health.failed.is_empty() {
        return Finding::new(
            Check::Providers,
            State::Bad,
            format!("do not serve: {}", names(&health.failed)),
        );
    }
    if !health.serving_old.is_empty() {
        let old = names(&health.serving_old);
        return Finding::new(
            Check::Providers,
            State::Warning,
            format!("serve their last good version: {old}"),
        );
    }
    Finding::new(Check::Providers, State::Well, format!("{} serve", app.registry.status().len()))
}

/// Who else may read what the owner's folder holds.
fn permissions(data_dir: &Path) -> Finding {
    let open = open_to_others(data_dir);
    finding(Check::Permissions, open, State::Bad, "only the owner reads the data folder")
}

#[cfg(unix)]
fn open_to_others(data_dir: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;

    // A closed folder closes what is in it.
    let mode = std::fs::metadata(data_dir).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| format!("{} is open to others (mode {mode:o})", data_dir.display()))
}

#[cfg(not(unix))]
fn open_to_others(_: &Path) -> Option<String> {
    None
}

fn key(data_dir: &Path) -> Finding {
    let file = data_dir.join(keys::FILE);
    let bad = std::fs::File::open(&file).err().map(|error| format!("{}: {error}", file.display()));
    finding(Check::Keys, bad, State::Bad, "the key is in the data folder")
}

fn clock(newest: Option<Timestamp>) -> Finding {
    let now = SystemClock.now();
    let bad = if now < CLOCK_LEAST {
        Some("the clock is years behind".to_owned())
    } else {
        let ahead = newest.filter(|newest| newest.minus(CLOCK_BACK_MAX) > now);
        ahead.map(|newest| format!("a record is {} ahead of the clock", spoken(age(newest, now))))
    };
    finding(Check::Clock, bad, State::Bad, "not behind the newest record")
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
    let mut what = Vec::new();
    if dead > 0 {
        let least = if dead == DEAD_COUNTED { "at least " } else { "" };
        what.push(format!("{least}{dead} dead events"));
    }
    if !paused.is_empty() {
        let names: Vec<&str> = paused.keys().map(String::as_str).collect();
        what.push(format!("paused: {}", names.join(", ")));
    }
    let bad = (!what.is_empty()).then(|| what.join("; "));
    Ok(finding(Check::Webhooks, bad, State::Warning, "none dead, none paused"))
}

async fn money(app: &App) -> Result<Finding, StoreError> {
    let stuck = app.payments.reversals_undecided(DEAD_COUNTED).await?;
    let numbers: Vec<String> = stuck.iter().map(|one| one.payment.to_string()).collect();
    let bad =
        (!numbers.is_empty()).then(|| format!("undecided reversals of payments {}", numbers.join(", ")));
    Ok(finding(Check::Money, bad, State::Warning, "no reversal waits for a decision"))
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
    let bad = (!without.is_empty()).then(|| format!("no second factor: {}", without.join(", ")));
    Ok(finding(Check::Operators, bad, State::Warning, "each has a second factor"))
}
