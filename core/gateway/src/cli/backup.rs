//! `chelseru backup | restore`.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use chelseru_domain::operator::audit::{AuditEvent, AuditKind};
use chelseru_http::files::store::FOLDER as UPLOADS;
use http::Method;
use serde_json::json;

use super::ask::{Way, open, record};
use crate::config::{self, Loaded, S3, StorePlace};
use crate::database;
use crate::operator::backup::{self, Kept, Manifest};

/// Time limit of a running gateway. It copies uploaded files at the disk's speed.
const PATIENCE: Duration = Duration::from_secs(6 * 60 * 60);

/// Errors: a text for the operator; no folder remains.
pub(super) async fn backup(config_file: &Path, folder: &Path) -> Result<(), String> {
    let loaded = super::load::load(config_file)?;
    let data_dir = config::data_dir(&loaded.config, config_file);
    let is_folder = matches!(place(&loaded)?, StorePlace::Folder);
    if is_folder && !data_dir.join(config::STORE_DIR).is_dir() {
        return Err(format!(
            "{}: no store found; start the gateway once, or check --config",
            data_dir.display()
        ));
    }
    let folder = std::path::absolute(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let part = backup::part_of(&folder);
    let (records, files) = match open(config_file).await? {
        Way::Store(store) => {
            backup::clear(&data_dir);
            let kept = Kept::of(&data_dir, &loaded.config);
            let copied = showing(&part, backup::write(&store, kept, &folder)).await;
            if let Ok(copied) = copied {
                let event = AuditEvent::new(AuditKind::BackupWritten);
                record(config_file, &store, event.subject(folder.display()).detail(copied)).await?;
            }
            store.close();
            let copied = copied?;
            (copied.records, copied.files)
        }
        Way::Gateway(gateway) => {
            let body = json!({"folder": folder});
            let asked = gateway.ask_patiently(Method::POST, "/operator/backup/", Some(body), PATIENCE);
            let answer = showing(&part, asked).await?;
            let number = |name: &str| answer[name].as_u64().unwrap_or_default();
            (number("records"), number("files"))
        }
    };
    say!("{}: {records} records, {files} files", folder.display());
    eprintln!("It holds the key and every phone number. It does not hold the configuration.");
    if let Some(bucket) = loaded.config.files.bucket() {
        eprintln!(
            "It does not hold uploaded files: they are in {}, which needs a backup of its own.",
            bucket.shown()
        );
    }
    Ok(())
}

/// Errors: a text for the operator that names the first file that differs.
pub(super) async fn verify(folder: &Path) -> Result<(), String> {
    let work = tokio::task::spawn_blocking({
        let folder = folder.to_owned();
        move || backup::verified(&folder)
    });
    let manifest = work.await.map_err(|error| error.to_string())??;
    let (files, bytes, engine) = (manifest.files(), manifest.bytes(), manifest.engine);
    say!("{}: verified: {files} files, {} MiB, of a store on {engine}", folder.display(), bytes >> 20);
    if let Some(bucket) = manifest.bucket {
        say!("uploaded files are not in it: they were in {bucket}");
    }
    Ok(())
}

/// Errors: a text for the operator.
pub(super) async fn restore(config_file: &Path, folder: &Path) -> Result<(), String> {
    let loaded = super::load::load(config_file)?;
    let data_dir = config::data_dir(&loaded.config, config_file);
    backup::check_place(&data_dir)?;
    let verified = tokio::task::spawn_blocking({
        let folder = folder.to_owned();
        move || backup::verified(&folder)
    });
    let manifest = verified.await.map_err(|error| error.to_string())??;
    let files = where_files_are(&manifest, &loaded, &data_dir);
    let (copied, store) = match place(&loaded)? {
        StorePlace::Folder => {
            let work = tokio::task::spawn_blocking({
                let (folder, data_dir) = (folder.to_owned(), data_dir.clone());
                move || backup::restore(&manifest, &folder, &data_dir)
            });
            let copied = showing(&data_dir, work).await.map_err(|error| error.to_string())??;
            (copied, database::open_for_command(&loaded, &data_dir).await?)
        }
        StorePlace::Postgres { .. } => {
            let store = database::open_for_command(&loaded, &data_dir).await?;
            let said = |what: &'static str, records: u64| eprintln!("{what}: {records}");
            (backup::restore_database(manifest, folder, &data_dir, &store, &said).await?, store)
        }
    };
    let report = store.ledger_verify().await.map_err(|error| error.to_string())?;
    if let Some(difference) = report.difference {
        return Err(format!("restored, but the ledger is inconsistent: {difference}"));
    }
    let folder = std::path::absolute(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let event = AuditEvent::new(AuditKind::BackupRestored).subject(folder.display()).detail(copied);
    record(config_file, &store, event).await?;
    store.close();
    say!(
        "{}: {} records, {} files; the ledger is verified: {} postings",
        data_dir.display(),
        copied.records,
        copied.files,
        report.postings
    );
    if let Some(files) = files {
        eprintln!("{files}");
    }
    Ok(())
}

/// What is left to do for uploaded files, when backup and configuration have them at different places, or in a bucket.
fn where_files_are(manifest: &Manifest, loaded: &Loaded, data_dir: &Path) -> Option<String> {
    let (then, now) = (&manifest.bucket, loaded.config.files.bucket().map(S3::shown));
    let uploads = data_dir.join(UPLOADS);
    let uploads = uploads.display();
    match (then, now) {
        (None, None) => None,
        (Some(then), Some(now)) if *then == now => Some(format!(
            "Uploaded files are in {now}, as they were. Only one gateway, or one group of them, may use it."
        )),
        (Some(then), Some(now)) => Some(format!("Uploaded files were in {then}: copy its objects to {now}.")),
        (Some(then), None) => {
            Some(format!("Uploaded files were in {then}: copy its objects into {uploads}."))
        }
        (None, Some(now)) => Some(format!("Uploaded files are in {uploads}: copy what is in it to {now}.")),
    }
}

/// Where the store of a configuration is.
fn place(loaded: &Loaded) -> Result<StorePlace, String> {
    loaded.store_place().map_err(|problems| problems.to_string())
}

/// Waits for work; on a terminal, prints the size of a folder every second.
async fn showing<T>(folder: &Path, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if !std::io::stderr().is_terminal() {
        return work.await;
    }
    let mut shown = false;
    loop {
        if let Ok(done) = tokio::time::timeout(Duration::from_secs(1), &mut work).await {
            if shown {
                eprintln!();
            }
            return done;
        }
        eprint!("\r{}: {} MiB", folder.display(), bytes_in(folder) >> 20);
        shown = true;
    }
}

/// Bytes of all files in a folder; unreadable files count as 0.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => bytes_in(&entry.path()),
        Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |metadata| metadata.len()),
        _ => 0,
    });
    bytes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_as_large_as_the_files_below_it() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(bytes_in(&dir.path().join("missing")), 0);
        std::fs::create_dir_all(dir.path().join("a/b")).expect("folders");
        std::fs::write(dir.path().join("one"), [0; 100]).expect("a file");
        std::fs::write(dir.path().join("a/b/two"), [0; 23]).expect("a file");
        #[cfg(unix)]
        std::os::unix::fs::symlink(dir.path(), dir.path().join("a/loop")).expect("a link");
        assert_eq!(bytes_in(dir.path()), 123);
    }
}
