//! The number of the last answered batch, in a file beside the database.
//!
//! Every batch stores its number in the database (`keys::COMMIT`). After the batch is synced and before its changes
//! are answered, the number is written here, too. A database with a smaller number than this file has lost answered
//! changes. The file is not synced by itself: it survives the end of the process, and after a power cut it may name
//! an older batch, never a newer one than the disk holds.
//!
//! The file has 32 bytes: [`MAGIC`], the number (u64, big endian), and the first 8 bytes of the BLAKE3 hash of both.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

const MAGIC: &[u8; 16] = b"chelseru acked 1";
const BYTES: usize = 32;

/// Name of the file inside the store's folder.
pub(crate) const FILE: &str = "acknowledged";

/// The content of the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// No file: a new store, or one of an older version.
    Missing,
    /// Not written by this program.
    Unreadable,
    /// Batches up to this one were answered.
    UpTo(u64),
}

pub(crate) struct Acknowledged {
    file: File,
}

impl Acknowledged {
    /// Opens or creates the file and returns what it held.
    pub(crate) fn open(folder: &Path) -> io::Result<(Acknowledged, Found)> {
        let path = folder.join(FILE);
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let (mut file, missing) = match options.open(&path) {
            Ok(file) => (file, false),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                (options.create_new(true).open(&path)?, true)
            }
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::with_capacity(BYTES);
        Read::by_ref(&mut file).take(BYTES as u64 + 1).read_to_end(&mut bytes)?;
        // A file that a power cut left empty was never written.
        let found = if missing || bytes.is_empty() {
            Found::Missing
        } else {
            decode(&bytes).map_or(Found::Unreadable, Found::UpTo)
        };
        Ok((Acknowledged { file }, found))
    }

    /// Records that batches up to `number` are synced.
    pub(crate) fn note(&self, number: u64) -> io::Result<()> {
        write_at_start(&self.file, &encode(number))
    }

    /// Syncs the file.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

fn encode(number: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..16].copy_from_slice(MAGIC);
    bytes[16..24].copy_from_slice(&number.to_be_bytes());
    let hash = blake3::hash(&bytes[..24]);
    bytes[24..].copy_from_slice(&hash.as_bytes()[..8]);
    bytes
}

fn decode(bytes: &[u8]) -> Option<u64> {
    let number = u64::from_be_bytes(bytes.get(16..24)?.try_into().ok()?);
    (encode(number) == *bytes).then_some(number)
}

#[cfg(unix)]
fn write_at_start(file: &File, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, 0)
}

#[cfg(not(unix))]
fn write_at_start(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    use std::io::{Seek, Write};
    file.rewind()?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_comes_back_and_damage_is_no_number() {
        let dir = tempfile::tempdir().unwrap();
        let (file, found) = Acknowledged::open(dir.path()).unwrap();
        assert_eq!(found, Found::Missing);
        assert_eq!(Acknowledged::open(dir.path()).unwrap().1, Found::Missing);
        file.note(7).unwrap();
        file.note(300).unwrap();
        file.sync().unwrap();
        assert_eq!(Acknowledged::open(dir.path()).unwrap().1, Found::UpTo(300));
        let whole = std::fs::read(dir.path().join(FILE)).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(dir.path().join(FILE), changed).unwrap();
            assert_eq!(Acknowledged::open(dir.path()).unwrap().1, Found::Unreadable, "byte {at}");
        }
        std::fs::write(dir.path().join(FILE), &whole[..31]).unwrap();
        assert_eq!(Acknowledged::open(dir.path()).unwrap().1, Found::Unreadable);
    }
}
