//! Opening the store: the only place that chooses its engine.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use chelseru_store::{Opening, Store, StoreError, StoreOptions};

use crate::config::{self, Config, Loaded, StorePlace};
use crate::operator::backup::RESTORING;
use crate::owner;

/// How long a command waits for a gateway that ends; one that runs is asked instead.
const LOCK_WAIT: Duration = Duration::from_millis(500);

/// Why a command cannot open the store.
pub(crate) enum Refused {
    /// A running gateway has it open; the text says which.
    InUse(String),
    Other(String),
}

impl From<Refused> for String {
    fn from(refused: Refused) -> String {
        match refused {
            Refused::InUse(reason) | Refused::Other(reason) => reason,
        }
    }
}

/// The store of a configuration that is not accepted yet.
pub(crate) struct Early {
    options: StoreOptions,
    opening: Option<Opening>,
}

/// Begins to open the store of a configuration beside other work. Nothing is made, converted or migrated before
/// [`Early::open`]; dropping it closes the store. With `shared`, other gateways may use it, too.
pub(crate) fn begin(place: Option<&StorePlace>, config: &Config, data_dir: &Path, shared: bool) -> Early {
    let options = StoreOptions { shared, ..options(config) };
    let in_folder = matches!(place, Some(StorePlace::Folder)) && !data_dir.join(RESTORING).exists();
    let opening = in_folder.then(|| Opening::begin(data_dir.join(config::STORE_DIR), options.clone()));
    Early { options, opening }
}

impl Early {
    /// Opens the store, and creates a missing one.
    pub(crate) async fn open(self, place: &StorePlace, data_dir: &Path) -> Result<Store, StoreError> {
        match self.opening {
            Some(opening) => opening.finish().map_err(|error| with_owner(error, data_dir)),
            None => open_with(place, data_dir, self.options).await,
        }
    }
}

fn options(config: &Config) -> StoreOptions {
    StoreOptions {
        cache_bytes: config.data.cache_mib * 1024 * 1024,
        queue_max: config.data.changes_waiting_max,
        disk_reserve_bytes: config.data.disk_reserve_mib.map(|mib| mib * 1024 * 1024),
        ..StoreOptions::default()
    }
}

async fn open_with(place: &StorePlace, data_dir: &Path, options: StoreOptions) -> Result<Store, StoreError> {
    if data_dir.join(RESTORING).exists() {
        let data = data_dir.display();
        let reason = format!(
            "a restore into {data} was interrupted; move that folder away, empty the database (drop schema chelseru \
             cascade), and restore again"
        );
        return Err(StoreError::Database { reason });
    }
    match place {
        StorePlace::Folder => {
            let opened = Store::open(data_dir.join(config::STORE_DIR), options);
            opened.map_err(|error| with_owner(error, data_dir))
        }
        StorePlace::Postgres { url, connections_max } => {
            let files_folder = Some(data_dir.to_owned());
            let connections_max = *connections_max as usize;
            Store::open_postgres(url, StoreOptions { connections_max, files_folder, ..options }).await
        }
    }
}

/// Says whose file it is that could not be opened.
fn with_owner(error: StoreError, data_dir: &Path) -> StoreError {
    match error {
        StoreError::Open { path, source } if source.kind() == ErrorKind::PermissionDenied => {
            let source = std::io::Error::new(source.kind(), format!("{source}{}", owner::whose(data_dir)));
            StoreError::Open { path, source }
        }
        other => other,
    }
}

/// Opens the store for a command.
pub(crate) async fn open_for_command(loaded: &Loaded, data_dir: &Path) -> Result<Store, Refused> {
    owner::refuse_root(data_dir).map_err(Refused::Other)?;
    let place = loaded.store_place().map_err(|problems| Refused::Other(problems.to_string()))?;
    let options = StoreOptions { lock_wait: LOCK_WAIT, ..options(&loaded.config) };
    open_with(&place, data_dir, options).await.map_err(|error| match error.is_in_use() {
        true => Refused::InUse(error.to_string()),
        false => Refused::Other(error.to_string()),
    })
}
