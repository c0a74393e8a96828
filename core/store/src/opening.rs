//! Opening a store beside other work.
//!
//! A start has more to do than to recover its store, and may find a reason not to start. [`Opening`] does the part that
//! takes long and leaves every record as it is; [`Opening::finish`] does the rest once the start is decided.

use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use crate::engine::sled::open::{self, Opened};
use crate::{Store, StoreError, StoreOptions};

/// A store in a folder whose database is being recovered on a thread of its own. Dropping it waits for that thread and
/// closes the database again.
pub struct Opening {
    path: PathBuf,
    options: StoreOptions,
    recovery: Option<JoinHandle<Option<Result<Opened, StoreError>>>>,
}

impl Opening {
    /// Begins to recover the database of a store, as a crash of the process would make the next start do it. A store
    /// that has to be made, converted or waited for is left to [`Opening::finish`].
    pub fn begin(path: impl AsRef<Path>, options: StoreOptions) -> Opening {
        let path = path.as_ref().to_owned();
        let recovery = thread::Builder::new().name("store-open".to_owned()).spawn({
            let (path, options) = (path.clone(), options.clone());
            move || open::open_as_it_is(&path, &options)
        });
        // Without a thread it is opened when it is needed.
        Opening { path, options, recovery: recovery.ok() }
    }

    /// Opens the store. Blocks.
    ///
    /// # Errors
    ///
    /// Those of [`Store::open`].
    pub fn finish(mut self) -> Result<Store, StoreError> {
        let recovered = self.recovery.take().and_then(|recovery| recovery.join().ok().flatten());
        match recovered {
            Some(opened) => Store::of_folder(&self.path, opened?),
            None => Store::open(&self.path, self.options.clone()),
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(recovery) = self.recovery.take() {
            let _ = recovery.join();
        }
    }
}
