//! The last good bytes of each provider entry, for a start that finds bytes that are refused.
//!
//! A file is named by its entry, by the file that the entry reads, and by the bytes' digest. It is written aside,
//! synced and renamed, after the provider began to serve, so only what served is kept. Bytes that are not those of
//! their name's digest count as absent. Losing the folder costs the fallback and nothing else.
//!
//! Commits are numbered, because their writers are threads that may be late: only the newest of them removes files.
//!
//! Not here: when kept bytes serve (see `registry`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::cache::{ASIDE_SUFFIX, leftovers_remove, private_file};
use crate::file;

const SUFFIX: &str = "wasm";

/// A folder of kept components. Clones share the folder.
#[derive(Clone)]
pub(crate) struct Kept {
    dir: PathBuf,
    /// The commit whose bytes were written last, by key. Held while files are written and removed, so that a late
    /// writer neither replaces nor removes newer bytes.
    written: Arc<Mutex<BTreeMap<String, u64>>>,
    /// The newest commit.
    newest: Arc<AtomicU64>,
}

/// Bytes that began to serve.
pub(crate) struct Good {
    pub(crate) key: String,
    pub(crate) digest: String,
    pub(crate) bytes: Bytes,
}

/// Names what an entry reads from a file. Another file of the same entry is another plugin, which must not get the
/// settings of this one.
pub(crate) fn key(entry: &str, file: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    let file = file.file_name().unwrap_or(file.as_os_str()).as_encoded_bytes();
    hasher.update(&(entry.len() as u64).to_le_bytes()).update(entry.as_bytes()).update(file);
    hasher.finalize().to_hex()[..32].to_owned()
}

impl Kept {
    /// Opens the folder, making it when it is missing.
    pub(crate) fn open(dir: &Path) -> io::Result<Kept> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(dir)?;
        leftovers_remove(dir);
        Ok(Kept { dir: dir.to_owned(), written: Arc::default(), newest: Arc::default() })
    }

    /// Keeps what began to serve and removes what has none of these keys, on a thread of its own. A failure is
    /// logged and costs the fallback. Called once for each commit, in their order.
    pub(crate) fn keep(&self, good: Vec<Good>, keys: BTreeSet<String>) {
        let (kept, commit) = (self.clone(), self.commit());
        let run = move || {
            for good in &good {
                if let Err(error) = kept.write(good, commit) {
                    tracing::warn!(digest = good.digest, %error, "the last good plugin could not be kept");
                }
            }
            kept.retain(&keys, commit);
        };
        if let Err(error) = std::thread::Builder::new().name("plugin-keep".to_owned()).spawn(run) {
            tracing::warn!(%error, "the last good plugins could not be kept");
        }
    }

    /// The number of a commit that begins now.
    fn commit(&self) -> u64 {
        self.newest.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn write(&self, good: &Good, commit: u64) -> io::Result<()> {
        let Good { key, digest, bytes } = good;
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.get(key).is_some_and(|newest| *newest > commit) {
            return Ok(());
        }
        let path = self.dir.join(format!("{key}-{digest}.{SUFFIX}"));
        if !path.exists() {
            let aside = path.with_extension(format!("{}.{ASIDE_SUFFIX}", std::process::id()));
            let write = || {
                let mut file = private_file(&aside)?;
                file.write_all(bytes)?;
                file.sync_all()?;
                fs::rename(&aside, &path)?;
                fs::File::open(&self.dir)?.sync_all()
            };
            write().inspect_err(|_| drop(fs::remove_file(&aside)))?;
        }
        written.insert(key.clone(), commit);
        for (_, file) in self.files()?.into_iter().filter(|(of, file)| of == key && *file != path) {
            fs::remove_file(file)?;
        }
        Ok(())
    }

    /// The kept bytes, when they are whole. May wait for the disk.
    pub(crate) fn get(&self, key: &str, bytes_max: u64) -> Option<Vec<u8>> {
        let (_, path) = self.files().ok()?.into_iter().find(|(of, _)| of == key)?;
        let bytes = file::read_regular(&path, bytes_max).ok()?;
        let digest = blake3::hash(&bytes).to_hex();
        let whole = path.file_name().is_some_and(|name| name == &*format!("{key}-{digest}.{SUFFIX}"));
        whole.then_some(bytes)
    }

    /// The digest of what is kept, by key. May wait for the disk.
    pub(crate) fn digests(&self) -> BTreeMap<String, String> {
        let digest = |path: &Path| Some(path.file_stem()?.to_str()?.split_once('-')?.1.to_owned());
        let files = self.files().unwrap_or_default();
        files.into_iter().filter_map(|(key, path)| Some((key, digest(&path)?))).collect()
    }

    /// Removes what has none of these keys, unless a newer commit has other keys.
    fn retain(&self, keys: &BTreeSet<String>, commit: u64) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if self.newest.load(Ordering::SeqCst) != commit {
            return;
        }
        written.retain(|key, _| keys.contains(key));
        for (of, path) in self.files().unwrap_or_default() {
            if !keys.contains(&of) {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn files(&self) -> io::Result<Vec<(String, PathBuf)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some((of, _)) = name.strip_suffix(".wasm").and_then(|name| name.split_once('-')) {
                files.push((of.to_owned(), path.clone()));
            }
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(key: &str, text: &'static str) -> Good {
        let digest = blake3::hash(text.as_bytes()).to_hex().to_string();
        Good { key: key.to_owned(), digest, bytes: Bytes::from_static(text.as_bytes()) }
    }

    #[test]
    fn the_newest_whole_bytes_of_each_key_are_kept_and_others_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = Kept::open(&folder.path().join("kept")).expect("opens");
        let put = |key: &str, commit, text: &'static str| {
            kept.write(&good(key, text), commit).expect("written");
        };
        assert_eq!(kept.get("a", 100), None);
        put("a", 1, "one");
        put("b", 1, "one");
        put("a", 3, "three");
        // A late writer.
        put("a", 2, "two");
        let again = Kept::open(&folder.path().join("kept")).expect("opens");
        assert_eq!(again.get("a", 100).as_deref(), Some(&b"three"[..]));
        assert_eq!(again.get("b", 100).as_deref(), Some(&b"one"[..]));
        assert_eq!(again.files().expect("readable").len(), 2);
        let commit = again.commit();
        again.retain(&BTreeSet::from(["b".to_owned()]), commit);
        assert_eq!((again.get("a", 100), again.files().expect("readable").len()), (None, 1));
        let (_, file) = again.files().expect("readable").remove(0);
        fs::write(file, "on").expect("writable");
        assert_eq!(again.get("b", 100), None, "cut bytes serve nobody");
    }

    #[test]
    fn a_late_commit_removes_nothing_of_a_newer_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = Kept::open(folder.path()).expect("opens");
        let (old, new) = (kept.commit(), kept.commit());
        kept.write(&good("b", "two"), new).expect("written");
        kept.retain(&BTreeSet::from(["a".to_owned()]), old);
        assert!(kept.get("b", 100).is_some());
        // An entry that left and came back is kept again.
        let left = kept.commit();
        kept.retain(&BTreeSet::new(), left);
        assert_eq!(kept.get("b", 100), None);
        kept.write(&good("b", "three"), kept.commit()).expect("written");
        assert_eq!(kept.get("b", 100).as_deref(), Some(&b"three"[..]));
    }

    #[test]
    fn another_file_of_the_same_entry_has_another_key() {
        let of = |entry: &str, file: &str| key(entry, Path::new(file));
        assert_eq!(of("A", "/one/a.wasm"), of("A", "/two/a.wasm"));
        assert_ne!(of("A", "a.wasm"), of("A", "b.wasm"));
        assert_ne!(of("A", "Ba.wasm"), of("AB", "a.wasm"));
    }
}
