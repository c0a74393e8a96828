//! `chelseru ledger verify`: verifies the balances.

use std::path::Path;

use chelseru_store::{Store, StoreError, StoreOptions};

use crate::config;

/// Recomputes the whole ledger. It opens the store itself, so the gateway must not run.
///
/// Errors: the first difference, or why the store cannot be read.
pub(super) async fn verify(config_file: &Path) -> Result<(), String> {
    let loaded = super::load::load(config_file)?;
    let folder = config::data_dir(&loaded.config, config_file).join(config::STORE_DIR);
    if !folder.is_dir() {
        return Err(format!(
            "{}: no store found; start the gateway once, or check --config",
            folder.display()
        ));
    }
    let store = Store::open(&folder, StoreOptions::default()).map_err(|error| match error {
        StoreError::Locked { .. } => {
            format!("{error}; stop the gateway first, or verify a copy of its data folder")
        }
        other => other.to_string(),
    })?;
    let report = store.ledger_verify().await.map_err(|error| error.to_string())?;
    let head: String = report.head.iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(difference) = report.difference {
        return Err(format!("the ledger is inconsistent: {difference}"));
    }
    println!(
        "the ledger is verified: {} postings, {} accounts, {} payments, users have {} rial\nlast hash {head}",
        report.postings, report.accounts, report.payments, report.users_total
    );
    Ok(())
}
