//! The gateway's own key: made at the first start, kept in the data folder for its owner's eyes only.
//!
//! Every other key (token signature, pepper of the codes) is derived from it. Losing it logs everybody out;
//! nothing stored becomes unreadable.

use std::io::{ErrorKind, Write};
use std::path::Path;

use chelseru_domain::secret::MasterKey;

const FILE: &str = "master.key";
const BYTES: usize = 32;

/// Whether a key was made before.
pub(crate) fn is_made(data_dir: &Path) -> bool {
    data_dir.join(FILE).exists()
}

/// Reads the key, or makes it when there is none.
///
/// Errors: a text for the operator, when the file cannot be used or is not a key.
pub(crate) fn master(data_dir: &Path) -> Result<MasterKey, String> {
    let path = data_dir.join(FILE);
    let fault = |what: &str| format!("{}: {what}", path.display());
    match std::fs::read(&path) {
        Ok(bytes) => {
            refuse_open_permissions(&path).map_err(|what| fault(&what))?;
            let bytes: [u8; BYTES] =
                bytes.try_into().map_err(|_| fault("is no key: it must hold exactly 32 bytes"))?;
            Ok(MasterKey::from_bytes(bytes))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut bytes = [0; BYTES];
            getrandom::fill(&mut bytes)
                .map_err(|error| fault(&format!("no randomness for a key: {error}")))?;
            create(data_dir, &path, &bytes).map_err(|error| fault(&format!("cannot be written: {error}")))?;
            Ok(MasterKey::from_bytes(bytes))
        }
        Err(error) => Err(fault(&format!("cannot be read: {error}"))),
    }
}

/// Written aside, flushed and renamed: a key is whole or absent.
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
        return Err(format!("others may read it (mode {:o}); run chmod 600 on it", mode & 0o777));
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_open_permissions(_path: &Path) -> Result<(), String> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let dir = tempfile::tempdir().expect("a folder");
        master(dir.path()).expect("made");
        let first = std::fs::read(dir.path().join(FILE)).expect("read");
        master(dir.path()).expect("read again");
        assert_eq!(std::fs::read(dir.path().join(FILE)).expect("read"), first);
        assert_eq!(first.len(), BYTES);
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        master(dir.path()).expect("made");
        let path = dir.path().join(FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("changed");
        let error = master(dir.path()).expect_err("refused");
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_and_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(FILE);
        create(dir.path(), &path, b"short").expect("written");
        assert!(master(dir.path()).is_err());
        assert_eq!(std::fs::read(path).expect("kept"), b"short");
    }
}
