//! `chelseru backup | restore`.

use std::path::Path;
use std::time::Duration;

use chelseru_store::{Store, StoreOptions};
use http::Method;
use serde_json::json;

use super::ask::{Way, open};
use crate::{backup, config};

/// How long a running gateway may take: uploaded files are copied at the disk's speed.
const PATIENCE: Duration = Duration::from_secs(6 * 60 * 60);

/// Errors: a text for the operator; no folder is left then.
pub(super) async fn backup(config_file: &Path, folder: &Path) -> Result<(), String> {
    let loaded = super::load(config_file)?;
    let data_dir = config::data_dir(&loaded.config, config_file);
    if !data_dir.join(config::STORE_DIR).is_dir() {
        return Err(format!("{}: there is no store; was the gateway ever started?", data_dir.display()));
    }
    let folder = std::path::absolute(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let (records, files) = match open(config_file)? {
        Way::Store(store) => {
            let copied = backup::write(&store, &data_dir, &folder).await;
            store.close();
            let copied = copied?;
            (copied.records, copied.files)
        }
        Way::Gateway(gateway) => {
            let body = json!({"folder": folder});
            let answer =
                gateway.ask_patiently(Method::POST, "/operator/backup/", Some(body), PATIENCE).await?;
            let number = |name: &str| answer[name].as_u64().unwrap_or_default();
            (number("records"), number("files"))
        }
    };
    println!("{}: {records} records, {files} files", folder.display());
    eprintln!("It holds the key and every number; the configuration is not in it.");
    Ok(())
}

/// Errors: a text for the operator.
pub(super) fn restore(config_file: &Path, folder: &Path) -> Result<(), String> {
    let loaded = super::load(config_file)?;
    let data_dir = config::data_dir(&loaded.config, config_file);
    let copied = backup::restore(folder, &data_dir)?;
    let store = Store::open(data_dir.join(config::STORE_DIR), StoreOptions::default());
    let store = store.map_err(|error| error.to_string())?;
    let report = store.ledger_verify().map_err(|error| error.to_string())?;
    if let Some(difference) = report.difference {
        return Err(format!("restored, but the ledger differs: {difference}"));
    }
    println!(
        "{}: {} records, {} files; the ledger is right: {} postings",
        data_dir.display(),
        copied.records,
        copied.files,
        report.postings
    );
    Ok(())
}
