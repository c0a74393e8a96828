//! The configuration file and backups, as the console asks for them.
//!
//! An edit is checked as a [`Candidate`], written beside the file and renamed over it, and then applied by the task
//! that applies every other edit. The content before stays beside the file ([`before`]). Invariants: one edit at a
//! time; an edit of another content than the operator saw is refused; an edit that does not come to serve is taken
//! back; no secret leaves this file in a shown text.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use chelseru_config::{
    KeyChange, changes, hide_secrets, move_provider, restore_secrets, settings_shown, with_changes,
};
use chelseru_domain::operator::doctor::Finding;
use chelseru_domain::operator::house::{
    BackupCounts, ComponentSeen, ConfigChecked, ConfigSeen, House, HouseError, LedgerCheck,
};
use chelseru_store::EditOf;

use super::view::View;
use super::{backup, component, doctor};
use crate::app::App;
use crate::candidate::{Candidate, Occasion};
use crate::config::{Config, Loaded, Problems};
use crate::edits::Ticket;
use crate::{money, private};

/// Longest wait for an edit to serve. Components that it names for the first time are compiled meanwhile.
const APPLY_MAX: Duration = Duration::from_secs(60);
const APPLY_STEP: Duration = Duration::from_millis(20);
/// Bytes of an edited file.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Said of an edit whose changes are unknown.
const ALONE: &str = "the file before this edit is no TOML, so what the edit changes is unknown: it is made at this \
                     gateway only; make it at the others, too";

fn failed(error: impl ToString) -> HouseError {
    HouseError::Failed(error.to_string())
}

fn refused(problems: &Problems) -> HouseError {
    HouseError::Refused(problems.0.iter().map(ToString::to_string).collect())
}

/// What the last edit replaced, beside the file.
fn before(file: &Path) -> PathBuf {
    beside(file, ".before")
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn mark(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

fn read(file: &Path) -> Result<String, HouseError> {
    fs::read_to_string(file).map_err(|error| HouseError::Failed(format!("{}: {error}", file.display())))
}

/// Replaces a file in one step; the new one is readable by whoever could read the old one.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let part = beside(file, ".part");
    let mode = fs::metadata(file)?.permissions();
    let written = (|| {
        let mut out = File::create(&part)?;
        out.set_permissions(mode)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(&part, file)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    private::sync_dir(folder)
}

/// Prepares an edit and drops it. The keys that would wait for a restart keep their running values, as in a reload.
async fn prepare(app: &App, file: &Path, text: String) -> Result<ConfigChecked, HouseError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(failed(format!("a configuration has at most {TEXT_BYTES_MAX} bytes")));
    }
    if text.trim().is_empty() {
        return Err(failed("the configuration is empty; write a comment to use the defaults"));
    }
    let mut loaded: Loaded = Config::parse(file, text).map_err(|problems| refused(&problems))?;
    loaded.start_sources().map_err(|problems| refused(&problems))?;
    let running = app.live();
    let restart_keys = running.config.restart_keys(&loaded.config);
    loaded.config.keep_restart_keys(&running.config);
    let open = money::open(&app.store, &running.gateways).await.map_err(failed)?;
    let candidate = Candidate::prepare(&app.ground, loaded, &open, Occasion::Edit).await;
    let candidate = candidate.map_err(|problems| refused(&problems))?;
    let warnings = candidate.warnings().iter().map(ToString::to_string).collect();
    Ok(ConfigChecked { restart_keys, warnings })
}

/// Waits until this text of the file is applied or refused. A reload that read an older one may still be under way.
async fn applied(app: &App, text: &str) -> Result<(), HouseError> {
    let until = tokio::time::Instant::now() + APPLY_MAX;
    let wanted = *blake3::hash(text.as_bytes()).as_bytes();
    loop {
        {
            let status = app.reload_status();
            if status.tried == Some(wanted) {
                return match &status.last_error {
                    None => Ok(()),
                    Some(error) => Err(HouseError::Refused(error.lines().map(str::to_owned).collect())),
                };
            }
        }
        if tokio::time::Instant::now() >= until {
            return Err(failed("the edit did not come to serve in time"));
        }
        tokio::time::sleep(APPLY_STEP).await;
    }
}

/// Makes an edit of another gateway.
pub(crate) async fn change_keys(app: &App, changes: &[KeyChange]) -> Result<(), HouseError> {
    let _one = app.editing.lock().await;
    let file = app.reload_status().file.clone();
    let old = read(&file)?;
    let text = with_changes(&old, changes).map_err(HouseError::Failed)?;
    if text == old {
        return Ok(());
    }
    exchange(app, &file, (&old, text), Ticket::here(), changes).await
}

/// Replaces the file by a checked text and waits until it serves; otherwise takes it back.
async fn exchange(
    app: &App,
    file: &Path,
    (old, text): (&str, String),
    ticket: Ticket,
    changes: &[KeyChange],
) -> Result<(), HouseError> {
    prepare(app, file, text.clone()).await?;
    let kept = before(file);
    let copied = fs::copy(file, &kept).map(drop);
    copied.map_err(|error| HouseError::Failed(format!("{}: {error}", kept.display())))?;
    // The same text may have been tried before, with other files beside it.
    app.reload_status().tried = None;
    replace(file, &text).map_err(|error| HouseError::Failed(format!("{}: {error}", file.display())))?;
    app.reload_asked.notify_one();
    let mut done = applied(app, &text).await;
    if done.is_ok() {
        let body = serde_json::to_vec(changes).map_err(failed)?;
        done = app.edits.enter(ticket, EditOf::Config, &body).await;
    }
    if done.is_err() {
        take_back(file, &text, old);
        app.reload_asked.notify_one();
    }
    done
}

#[async_trait]
impl House for View {
    async fn config(&self) -> Result<ConfigSeen, HouseError> {
        let app = self.app().ok_or_else(|| failed("the gateway is stopping"))?;
        let (file, generation, last_error, restart_keys) = {
            let status = app.reload_status();
            let (error, keys) = (status.last_error.clone(), status.restart_keys.clone());
            (status.file.clone(), status.generation, error, keys)
        };
        let text = read(&file)?;
        Ok(ConfigSeen {
            mark: mark(text.as_bytes()),
            text: hide_secrets(&text).unwrap_or_default(),
            settings: settings_shown(&text),
            order: app.live().config.sms.service.names().iter().map(ToString::to_string).collect(),
            generation,
            refused: last_error,
            restart_keys,
            before: fs::read_to_string(before(&file)).ok().and_then(|text| hide_secrets(&text)),
            file: file.display().to_string(),
        })
    }

    async fn config_check(&self, text: &str) -> Result<ConfigChecked, HouseError> {
        let app = self.app().ok_or_else(|| failed("the gateway is stopping"))?;
        let file = app.reload_status().file.clone();
        let old = read(&file)?;
        let text = whole(text, &old)?;
        let alone = app.nodes.is_shared() && changes(&old, &text).is_err();
        let mut checked = prepare(&app, &file, text).await?;
        if alone {
            checked.warnings.push(ALONE.to_owned());
        }
        Ok(checked)
    }

    async fn config_apply(&self, text: &str, seen: &str) -> Result<(), HouseError> {
        let app = self.app().ok_or_else(|| failed("the gateway is stopping"))?;
        let _one = app.editing.lock().await;
        let file = app.reload_status().file.clone();
        let old = read(&file)?;
        if mark(old.as_bytes()) != seen {
            return Err(HouseError::Stale);
        }
        let text = whole(text, &old)?;
        if text == old {
            return Ok(());
        }
        // A file that is no TOML never served: the edit repairs this one alone.
        let changes = changes(&old, &text).unwrap_or_else(|_| {
            if app.nodes.is_shared() {
                tracing::warn!(file = %file.display(), "{ALONE}");
            }
            Vec::new()
        });
        let ticket = if changes.is_empty() { Ticket::here() } else { app.edits.draw().await? };
        exchange(&app, &file, (&old, text), ticket, &changes).await
    }

    async fn provider_moved(&self, name: &str, earlier: bool) -> Result<(String, String), HouseError> {
        let app = self.app().ok_or_else(|| failed("the gateway is stopping"))?;
        let file = app.reload_status().file.clone();
        let text = read(&file)?;
        let moved = move_provider(&text, name, earlier).map_err(HouseError::Failed)?;
        Ok((moved, mark(text.as_bytes())))
    }

    async fn backup_write(&self, folder: &Path) -> Result<BackupCounts, HouseError> {
        let app = self.app().ok_or_else(|| failed("the gateway is stopping"))?;
        let kept = backup::Kept::of(&app.ground.data_dir, &app.live().config);
        let copied = backup::write(&app.store, kept, folder).await.map_err(HouseError::Failed)?;
        Ok(BackupCounts { files: copied.files, amount: copied.records })
    }

    async fn backup_verify(&self, folder: &Path) -> Result<BackupCounts, HouseError> {
        let folder = folder.to_owned();
        let verified = tokio::task::spawn_blocking(move || backup::verify(&folder)).await.map_err(failed)?;
        let (files, amount) = verified.map_err(HouseError::Failed)?;
        Ok(BackupCounts { files, amount })
    }

    fn components(&self) -> Result<Vec<ComponentSeen>, HouseError> {
        let app = self.app().ok_or_else(|| failed("the gateway is stopping"))?;
        component::all(&app)
    }

    fn component_bytes_max(&self) -> u64 {
        self.app().map_or(0, |app| app.live().config.plugins.plugin_bytes_max)
    }

    async fn component_put(&self, name: &str, bytes: Vec<u8>) -> Result<String, HouseError> {
        let app = self.app().ok_or_else(|| failed("the gateway is stopping"))?;
        component::put(&app, name, bytes).await
    }

    async fn component_back(&self, name: &str) -> Result<String, HouseError> {
        let app = self.app().ok_or_else(|| failed("the gateway is stopping"))?;
        component::back(&app, name).await
    }

    fn ledger_check_start(&self) -> bool {
        self.app().is_some_and(|app| self.ledger.start(app))
    }

    fn ledger_check(&self) -> LedgerCheck {
        self.ledger.last()
    }

    async fn doctor(&self) -> Result<Vec<Finding>, HouseError> {
        let app = self.app().ok_or_else(|| failed("the gateway is stopping"))?;
        doctor::gateway(&app).await.map_err(failed)
    }
}

/// Writes the text before an edit that does not serve, unless somebody else changed the file meanwhile.
fn take_back(file: &Path, edit: &str, old: &str) {
    match read(file) {
        Ok(now) if now == edit => {}
        _ => return,
    }
    if let Err(error) = replace(file, old) {
        tracing::error!(%error, file = %file.display(), "a refused edit could not be taken back");
    }
}

/// A shown text with the secrets of the file's text.
fn whole(text: &str, kept: &str) -> Result<String, HouseError> {
    // Browsers send lines that end with two characters.
    let text = text.replace("\r\n", "\n");
    restore_secrets(&text, kept).map_err(|path| {
        HouseError::Failed(format!(
            "{path}: its hidden value is not in the file; write the value or a reference"
        ))
    })
}
