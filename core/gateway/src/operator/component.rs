//! Components that operators upload: checked by the plugin host, put in place, and taken back when they do not serve.
//!
//! The bytes are loaded first, within the limits of any component, and describe themselves. Then they replace the file
//! in the plugins folder, and the task that applies every other change of that folder prepares the providers that use
//! it. Invariants: one at a time, and none while the configuration is edited; the file before stays beside the new one
//! ([`kept`]); a component that a provider refuses is taken back, and meanwhile the last good one serves; whatever
//! stands in a component's place (a pipe, a huge file) holds nobody up.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chelseru_domain::operator::house::{ComponentSeen, HouseError};
use chelseru_outbound::kinds::KINDS;
use chelseru_plugin_host::ProviderStatus;
use chelseru_store::EditOf;

use crate::app::App;
use crate::edits::Ticket;
use crate::private;

/// Longest wait for the providers of a component to take it. A component is compiled meanwhile.
const TAKE_MAX: Duration = Duration::from_secs(60);
const TAKE_STEP: Duration = Duration::from_millis(20);
/// Characters of a component's name.
const NAME_CHARS_MAX: usize = 64;

fn failed(error: impl ToString) -> HouseError {
    HouseError::Failed(error.to_string())
}

fn at(path: &Path, error: &std::io::Error) -> HouseError {
    HouseError::Failed(format!("{}: {error}", path.display()))
}

/// The file of a component.
fn file(app: &App, name: &str) -> Result<PathBuf, HouseError> {
    file_in(&app.ground.plugins_dir, name).map_err(HouseError::Failed)
}

/// The file of a component in a folder. Errors: a text when it is no name.
pub(crate) fn file_in(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.bytes().all(plain) {
        return Err("a component's name has 1 to 64 lower case letters, digits and dashes".to_owned());
    }
    Ok(folder.join(format!("{name}.wasm")))
}

/// The component before, beside its file. Its ending keeps the watcher from loading it.
fn kept(file: &Path) -> PathBuf {
    file.with_extension("wasm.before")
}

/// The components of the plugins folder, by name.
pub(crate) fn all(app: &App) -> Result<Vec<ComponentSeen>, HouseError> {
    let folder = &app.ground.plugins_dir;
    let mut components = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| at(folder, &error))? {
        let path = entry.map_err(|error| at(folder, &error))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(name) = name.strip_suffix(".wasm") else { continue };
        let Some(found) = fs::metadata(&path).ok().filter(fs::Metadata::is_file) else { continue };
        let used_by = users(app, name);
        components.push(ComponentSeen {
            name: name.to_owned(),
            bytes: found.len(),
            used_by,
            has_before: kept(&path).is_file(),
        });
    }
    components.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(components)
}

/// The provider entries that use a component.
fn users(app: &App, name: &str) -> Vec<String> {
    let config = &app.live().config;
    config.provider_names().into_iter().filter(|entry| config.plugin_of(entry) == Some(name)).collect()
}

/// The component of a file. `None` when there is none: no file, or one that no provider can have, because it is not
/// regular or too large.
async fn present(app: &App, file: &Path) -> Result<Option<Vec<u8>>, HouseError> {
    match app.registry.read(file).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::InvalidInput | ErrorKind::FileTooLarge => Ok(None),
            _ => Err(at(file, &error)),
        },
    }
}

/// Checks a component and puts it in the place of the one of this name, here and at every gateway over the store.
/// Returns its digest.
pub(crate) async fn put(app: &App, name: &str, bytes: Vec<u8>) -> Result<String, HouseError> {
    let _one = app.editing.lock().await;
    // Under the lock: of two at once the second one comes after the first, and is not outdated by it.
    put_with(app, app.edits.draw().await?, name, bytes).await
}

/// [`put`], for a component that another gateway gave to all.
pub(crate) async fn put_from_another(app: &App, name: &str, bytes: Vec<u8>) -> Result<String, HouseError> {
    let _one = app.editing.lock().await;
    put_with(app, Ticket::here(), name, bytes).await
}

/// Needs the lock of edits.
async fn put_with(app: &App, ticket: Ticket, name: &str, bytes: Vec<u8>) -> Result<String, HouseError> {
    let file = file(app, name)?;
    let loaded = app.registry.host().load(bytes.clone(), KINDS).await;
    loaded.map_err(|error| HouseError::Refused(vec![error.to_string()]))?;
    let before = present(app, &file).await?;
    if before.as_ref() == Some(&bytes) {
        let digest = blake3::hash(&bytes).to_hex().to_string();
        // It may have been copied there, and refused.
        refused_before(app, name, &digest)?;
        // The other gateways may have another one.
        app.edits.enter(ticket, EditOf::Component(name.to_owned()), &bytes).await?;
        return Ok(digest);
    }
    exchange(app, ticket, name, &file, before, bytes).await
}

/// Puts the component before back; the present one takes its place beside the file.
pub(crate) async fn back(app: &App, name: &str) -> Result<String, HouseError> {
    let file = file(app, name)?;
    let _one = app.editing.lock().await;
    let ticket = app.edits.draw().await?;
    let bytes = present(app, &kept(&file)).await?;
    let bytes = bytes.ok_or_else(|| failed("there is no component before this one"))?;
    let before = present(app, &file).await?;
    exchange(app, ticket, name, &file, before, bytes).await
}

/// Replaces the file and waits until every provider that uses it serves the new bytes; otherwise takes it back.
async fn exchange(
    app: &App,
    ticket: Ticket,
    name: &str,
    file: &Path,
    before: Option<Vec<u8>>,
    bytes: Vec<u8>,
) -> Result<String, HouseError> {
    let digest = blake3::hash(&bytes).to_hex().to_string();
    let entries = users(app, name);
    // Refusals of before are not this component's.
    let refusals: Vec<u64> = entries.iter().map(|entry| refusals(app, entry)).collect();
    write(file, &bytes).map_err(|error| at(file, &error))?;
    let mut done = taken(app, &entries, &refusals, &digest).await;
    if done.is_ok() {
        done = app.edits.enter(ticket, EditOf::Component(name.to_owned()), &bytes).await;
    }
    let kept = kept(file);
    match (&done, before) {
        (Ok(()), Some(before)) => write(&kept, &before).map_err(|error| at(&kept, &error))?,
        (Ok(()), None) => {}
        (Err(_), Some(before)) => write(file, &before).map_err(|error| at(file, &error))?,
        (Err(_), None) => fs::remove_file(file).map_err(|error| at(file, &error))?,
    }
    done.map(|()| digest)
}

/// Puts a component in its place in one step.
pub(crate) fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let part = file.with_extension("part");
    let _ = fs::remove_file(&part);
    let written = private::make_file(&part).and_then(|mut out| {
        std::io::Write::write_all(&mut out, bytes)?;
        out.sync_all()?;
        fs::rename(&part, file)
    });
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written?;
    private::sync_dir(file.parent().unwrap_or(Path::new(".")))
}

/// Errors: why an entry that uses the component serves another one.
fn refused_before(app: &App, name: &str, digest: &str) -> Result<(), HouseError> {
    let (users, status) = (users(app, name), app.registry.status());
    let others =
        status.iter().filter(|one| users.contains(&one.name) && one.blake3.as_deref() != Some(digest));
    let refused = |one: &ProviderStatus| Some(format!("{}: {}", one.name, one.last_error.as_ref()?));
    let refused: Vec<String> = others.filter_map(refused).collect();
    if refused.is_empty() { Ok(()) } else { Err(HouseError::Refused(refused)) }
}

fn refusals(app: &App, entry: &str) -> u64 {
    let status = app.registry.status();
    status.iter().find(|one| one.name == entry).map_or(0, |one| one.reload_failures)
}

/// Waits until each entry serves the digest, or one refuses it.
async fn taken(app: &App, entries: &[String], refused: &[u64], digest: &str) -> Result<(), HouseError> {
    let until = tokio::time::Instant::now() + TAKE_MAX;
    loop {
        let status = app.registry.status();
        let one = |entry: &String| status.iter().find(|one| one.name == *entry);
        for (entry, before) in entries.iter().zip(refused) {
            if let Some(found) = one(entry).filter(|found| found.reload_failures > *before) {
                let reason = found.last_error.clone().unwrap_or_else(|| "it was refused".to_owned());
                return Err(HouseError::Refused(vec![format!("{entry}: {reason}")]));
            }
        }
        let serves = |entry: &String| one(entry).is_some_and(|found| found.blake3.as_deref() == Some(digest));
        if entries.iter().all(serves) {
            return Ok(());
        }
        if tokio::time::Instant::now() >= until {
            return Err(failed("the component did not come to serve in time"));
        }
        tokio::time::sleep(TAKE_STEP).await;
    }
}
