//! The master key: generated at the first start and kept in the data folder, readable by its owner only.
//!
//! Every other key (token signature, pepper of the codes) is derived from it. Losing it logs everybody out, but all
//! stored data stays readable. The store holds a mark of its key. A store beside another key, and an empty store
//! beside a key, are refused unless the operator accepts them.

use std::io::{ErrorKind, Write};
use std::path::Path;

use chelseru_domain::secret::{KeyUse, MasterKey};
use chelseru_store::Store;

pub(crate) const FILE: &str = "master.key";
const BYTES: usize = 32;

/// Returns true when a key exists.
pub(crate) fn is_made(data_dir: &Path) -> bool {
    data_dir.join(FILE).exists()
}

/// The mismatches of key and store that the operator accepts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The store is empty although a key exists.
    pub new_store: bool,
    /// The key is not the store's, or is missing.
    pub new_key: bool,
}

/// The key of a data folder and its store, generated and stored when missing. Also returns whether it was generated.
///
/// Errors: those of [`load`] and [`pair`].
pub(crate) async fn of_store(
    data_dir: &Path,
    store: &Store,
    accepted: Accepted,
) -> Result<(MasterKey, bool), String> {
    let (key, made) = load(data_dir)?;
    pair(data_dir, store, (&key, made), accepted).await?;
    Ok((key, made))
}

/// Reads the key, or generates one that is not stored yet. Also returns whether it was generated.
///
/// Errors: a text for the operator when the file cannot be used or is not a key.
pub(crate) fn load(data_dir: &Path) -> Result<(MasterKey, bool), String> {
    match read(data_dir)? {
        Some(key) => Ok((key, false)),
        None => {
            let key = MasterKey::generate().map_err(|error| format!("no randomness for a key: {error}"))?;
            Ok((key, true))
        }
    }
}

/// Checks that key and store belong together, and stores a newly generated key.
///
/// Errors: a text for the operator; nothing is stored.
pub(crate) async fn pair(
    data_dir: &Path,
    store: &Store,
    (key, made): (&MasterKey, bool),
    accepted: Accepted,
) -> Result<(), String> {
    let path = data_dir.join(FILE);
    let refused = |what: &str| Err(format!("{}: {what}", path.display()));
    let mark = store.key_mark().await.map_err(|error| error.to_string())?;
    let is_empty = store.is_empty().await.map_err(|error| error.to_string())?;
    if made {
        if mark.is_some() && !is_empty && !accepted.new_key {
            return refused(
                "the store's key is missing; restore the file, or start once with --accept-new-key, which logs everybody out",
            );
        }
        // The mark comes first: a key beside a store without a mark means that the store was lost.
        set_mark(data_dir, store, key, accepted).await?;
        return create(data_dir, &path, key.expose())
            .map_err(|error| format!("{}: cannot be written: {error}", path.display()));
    }
    match mark {
        Some(mark) if mark == mark_of(key) => return Ok(()),
        Some(_) if !accepted.new_key => {
            return refused(
                "is not the key of this store; restore the right file, or start once with --accept-new-key, which logs \
                 everybody out",
            );
        }
        None if is_empty && !accepted.new_store => {
            return refused(
                "a key exists, but the store beside it is empty; restore the last backup, or start once with \
                 --accept-new-store to accept the loss of everything stored",
            );
        }
        // Accepted, or stored by a version without marks.
        _ => {}
    }
    set_mark(data_dir, store, key, accepted).await
}

/// Checks that the key in a data folder is that of its store.
///
/// Errors: a text for the operator.
pub(crate) async fn check(data_dir: &Path, store: &Store) -> Result<(), String> {
    let path = data_dir.join(FILE);
    let Some(key) = read_file(&path)? else { return Err(format!("{}: the key is missing", path.display())) };
    match store.key_mark().await.map_err(|error| error.to_string())? {
        Some(mark) if mark != mark_of(&key) => {
            Err(format!("{}: is not the key of this store; put the right file back first", path.display()))
        }
        _ => Ok(()),
    }
}

/// Several gateways may start over one empty database at the same time. One of them makes the key, and the others are
/// refused: what one encrypts, another one could not read.
async fn set_mark(data_dir: &Path, store: &Store, key: &MasterKey, accepted: Accepted) -> Result<(), String> {
    if !store.is_shared() || accepted.new_key {
        return store.key_mark_set(mark_of(key)).await.map_err(|error| error.to_string());
    }
    if store.key_mark_claim(mark_of(key)).await.map_err(|error| error.to_string())? {
        return Ok(());
    }
    Err(format!(
        "{}: another gateway made the key of this database; copy its {FILE} here. If no gateway has one, start once \
         with --accept-new-key",
        data_dir.join(FILE).display()
    ))
}

fn mark_of(key: &MasterKey) -> [u8; 16] {
    let mark = key.derive(KeyUse::StoreMark);
    *mark.expose().first_chunk().expect("32 bytes contain a prefix of 16")
}

/// Reads the key; `None` when there is none.
///
/// Errors: a text for the operator when the file cannot be used or is not a key.
pub(crate) fn read(data_dir: &Path) -> Result<Option<MasterKey>, String> {
    let path = data_dir.join(FILE);
    let key = read_file(&path)?;
    if key.is_some() {
        refuse_open_permissions(&path).map_err(|what| format!("{}: {what}", path.display()))?;
    }
    Ok(key)
}

/// [`read`], whoever may read the file.
fn read_file(path: &Path) -> Result<Option<MasterKey>, String> {
    let fault = |what: &str| format!("{}: {what}", path.display());
    match std::fs::read(path) {
        Ok(bytes) => {
            let bytes: [u8; BYTES] =
                bytes.try_into().map_err(|_| fault("is not a key; it must hold exactly 32 bytes"))?;
            Ok(Some(MasterKey::from_bytes(bytes)))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fault(&format!("cannot be read: {error}"))),
    }
}

/// Writes to a second file, syncs and renames it, so a key is complete or absent.
fn create(dir: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let aside = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&aside, path)?;
    std::fs::File::open(dir)?.sync_all()
}

#[cfg(unix)]
fn refuse_open_permissions(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).map_err(|error| error.to_string())?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(format!("is readable by others (mode {:o}); run chmod 600 on it", mode & 0o777));
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_open_permissions(_path: &Path) -> Result<(), String> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use chelseru_store::{StoreError, StoreOptions};

    use super::*;

    const NOTHING: Accepted = Accepted { new_store: false, new_key: false };

    /// Starts with a key and a store; returns whether the key was generated.
    async fn start(dir: &Path, accepted: Accepted) -> Result<bool, String> {
        let store = loop {
            // The engine releases its lock a moment after its last handle is dropped.
            match Store::open(dir.join("db"), StoreOptions::default()) {
                Err(StoreError::Locked { .. }) => {}
                opened => break opened.expect("a store"),
            }
        };
        let (_, made) = of_store(dir, &store, accepted).await?;
        store.probe_put(b"somebody", b"logged in").await.expect("stored");
        Ok(made)
    }

    async fn refused(dir: &Path, why: &str) {
        for _ in 0..2 {
            let error = start(dir, NOTHING).await.expect_err(why);
            assert!(error.contains("master.key") && error.contains(why), "{error}");
        }
    }

    #[tokio::test]
    async fn a_key_is_made_once_and_read_again() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(start(dir.path(), NOTHING).await, Ok(true));
        let first = std::fs::read(dir.path().join(FILE)).expect("read");
        assert_eq!(start(dir.path(), NOTHING).await, Ok(false));
        assert_eq!(std::fs::read(dir.path().join(FILE)).expect("read"), first);
        assert_eq!(first.len(), BYTES);
    }

    #[tokio::test]
    async fn a_key_that_is_not_the_stores_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let (at, file) = (dir.path(), dir.path().join(FILE));
        start(at, NOTHING).await.expect("a first start");
        std::fs::rename(&file, at.join("kept")).expect("moved");
        refused(at, "is missing").await;
        assert!(!is_made(at));
        let mut bytes = std::fs::read(at.join("kept")).expect("read");
        bytes[0] ^= 1;
        create(at, &file, &bytes).expect("written");
        refused(at, "is not the key of this store").await;
        assert_eq!(start(at, Accepted { new_key: true, new_store: false }).await, Ok(false));
        assert_eq!(start(at, NOTHING).await, Ok(false));
    }

    #[tokio::test]
    async fn an_empty_store_beside_a_key_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        start(dir.path(), NOTHING).await.expect("a first start");
        std::fs::remove_dir_all(dir.path().join("db")).expect("removed");
        refused(dir.path(), "the store beside it is empty").await;
        assert_eq!(start(dir.path(), Accepted { new_key: false, new_store: true }).await, Ok(false));
        assert_eq!(start(dir.path(), NOTHING).await, Ok(false));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_key_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        start(dir.path(), NOTHING).await.expect("made");
        let path = dir.path().join(FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("changed");
        refused(dir.path(), "chmod 600").await;
    }

    #[tokio::test]
    async fn a_file_that_is_no_key_is_refused_and_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(FILE);
        create(dir.path(), &path, b"short").expect("written");
        refused(dir.path(), "32 bytes").await;
        assert_eq!(std::fs::read(&path).expect("read"), b"short");
    }
}
