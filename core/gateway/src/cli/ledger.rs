//! `chelseru ledger verify`: verifies the balances.

use std::path::Path;

use crate::config::{self, StorePlace};
use crate::database::{self, Refused};

/// Recomputes the whole ledger. It opens the store itself, so the gateway must not run.
///
/// Errors: the first difference, or why the store cannot be read.
pub(super) async fn verify(config_file: &Path) -> Result<(), String> {
    let loaded = super::load::load(config_file)?;
    let data_dir = config::data_dir(&loaded.config, config_file);
    let folder = data_dir.join(config::STORE_DIR);
    let place = loaded.store_place().map_err(|problems| problems.to_string())?;
    if place == StorePlace::Folder && !folder.is_dir() {
        return Err(format!(
            "{}: no store found; start the gateway once, or check --config",
            folder.display()
        ));
    }
    let store = database::open_for_command(&loaded, &data_dir).await.map_err(|refused| match refused {
        Refused::InUse(reason) => {
            format!("{reason}; stop the gateway first, or verify a copy of its data")
        }
        Refused::Other(reason) => reason,
    })?;
    let report = store.ledger_verify().await.map_err(|error| error.to_string())?;
    let head: String = report.head.iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(difference) = report.difference {
        return Err(format!("the ledger is inconsistent: {difference}"));
    }
    say!(
        "the ledger is verified: {} postings, {} accounts, {} payments, users have {} rial\nlast hash {head}",
        report.postings,
        report.accounts,
        report.payments,
        report.users_total
    );
    Ok(())
}
