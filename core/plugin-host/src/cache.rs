//! Compiled code on disk, so that a second start does not compile.
//!
//! An entry's name is the component's BLAKE3 and a BLAKE3 over everything the engine says its code depends on
//! (its exact version, target, flags and tunables): an entry is never read by an engine that would misread it.
//! Loading compiled code runs it, so entries are only read from a directory that belongs to this user and that
//! nobody else can write, and only when the file itself is this user's alone; with any other, there is no cache.
//! Entries are written aside with mode 0600 and renamed, carry a checksum, and a damaged one counts as absent. The
//! cache may be deleted at any time.

use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::compile::CompileLimits;
use crate::file;

/// Entries kept. A host has tens of plugins, and old versions are only in the way.
const ENTRIES_MAX: usize = 128;
/// Largest entry that is read, in bytes: compiled code is about ten times its component.
const ENTRY_BYTES_MAX: u64 = 512 << 20;
const SUFFIX: &str = "cwasm";
/// An entry that states that compiling was given up, within which limits, and why.
const GIVEN_UP_SUFFIX: &str = "given-up";
const CHECKSUM_BYTES: usize = blake3::OUT_LEN;
/// The ending of a file that is being written aside.
pub(crate) const ASIDE_SUFFIX: &str = "tmp";
/// One that is older was left by a process that died. Writing takes seconds.
const ASIDE_AGE_MAX: Duration = Duration::from_secs(600);

pub(crate) struct CodeCache {
    dir: PathBuf,
    /// Of the engine; the second half of every entry's name.
    engine_key: String,
    bytes_max: u64,
}

/// Lets anything hashable be hashed with BLAKE3, so that the key has more than the 64 bits of a map's hash.
struct KeyHasher(blake3::Hasher);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.finalize();
        u64::from_le_bytes(std::array::from_fn(|i| digest.as_bytes()[i]))
    }
}

impl CodeCache {
    /// Opens the cache, making its directory when it is missing.
    ///
    /// # Errors
    /// The directory cannot be made or written, or somebody else could write it. The caller goes on without.
    pub(crate) fn open(engine: &Engine, dir: &Path, bytes_max: u64) -> io::Result<CodeCache> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(dir)?;
        dir_check(dir)?;
        leftovers_remove(dir);
        let mut hasher = KeyHasher(blake3::Hasher::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let engine_key = hasher.0.finalize().to_hex()[..32].to_owned();
        Ok(CodeCache { dir: dir.to_owned(), engine_key, bytes_max })
    }

    fn entry(&self, digest: &str, suffix: &str) -> PathBuf {
        self.dir.join(format!("{digest}-{}.{suffix}", self.engine_key))
    }

    /// Why compiling was given up before, within the same limits. Otherwise each start would try it again.
    pub(crate) fn given_up(&self, digest: &str, limits: &CompileLimits) -> Option<String> {
        let note = entry_read(&self.entry(digest, GIVEN_UP_SUFFIX)).ok()?;
        let note = String::from_utf8(note).ok()?;
        let (of, reason) = note.split_once('\n')?;
        (of == format!("{limits:?}")).then(|| reason.to_owned())
    }

    /// Notes that compiling was given up, and why.
    pub(crate) fn give_up(&self, digest: &str, limits: &CompileLimits, reason: &str) {
        let path = self.entry(digest, GIVEN_UP_SUFFIX);
        if let Err(error) = entry_write(&path, format!("{limits:?}\n{reason}").as_bytes()) {
            tracing::warn!(path = %path.display(), %error, "a compilation that was given up could not be noted");
        }
    }

    /// The component's compiled code, when the cache has it whole.
    pub(crate) fn get(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let path = self.entry(digest, SUFFIX);
        if let Err(error) = dir_check(&self.dir) {
            tracing::warn!(path = %self.dir.display(), %error, "compiled-code cache is not safe, not used");
            return None;
        }
        let code = match entry_read(&path) {
            Ok(code) => code,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled code is not used, compiling again");
                return None;
            }
        };
        match component(engine, &code) {
            Ok(component) => {
                // What is used stays: the oldest entry is the one that was used longest ago.
                let _ =
                    File::options().append(true).open(&path).and_then(|f| f.set_modified(SystemTime::now()));
                Some(component)
            }
            Err(error) => {
                let error = crate::text::error_text(&error);
                tracing::warn!(path = %path.display(), error, "compiled code does not fit, compiling again");
                None
            }
        }
    }

    /// Keeps a component's compiled code. A failure costs time at the next start and nothing else.
    pub(crate) fn put(&self, digest: &str, code: &[u8]) {
        let path = self.entry(digest, SUFFIX);
        if let Err(error) = entry_write(&path, code) {
            tracing::warn!(path = %path.display(), %error, "compiled code could not be kept");
        }
        if let Err(error) = self.prune(&path) {
            tracing::warn!(path = %self.dir.display(), %error, "old compiled code could not be removed");
        }
    }

    /// Removes the entries that were used longest ago, until the rest is within its bounds. The newest stays.
    fn prune(&self, newest: &Path) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let path = entry.path();
            let of_cache = path.extension().is_some_and(|e| e == SUFFIX || e == GIVEN_UP_SUFFIX);
            if of_cache && path != newest {
                let meta = entry.metadata()?;
                entries.push((meta.modified()?, meta.len(), path));
            }
        }
        entries.sort();
        let mut bytes = fs::metadata(newest).map_or(0, |meta| meta.len());
        let mut count = 1;
        for (_, size, path) in entries.into_iter().rev() {
            bytes = bytes.saturating_add(size);
            count += 1;
            if count > ENTRIES_MAX || bytes > self.bytes_max {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// Reads an entry that nobody but this user could have written.
fn entry_read(path: &Path) -> io::Result<Vec<u8>> {
    let file = file::open_regular(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let meta = file.metadata()?;
        if meta.mode() & 0o022 != 0 || meta.uid() != rustix::process::geteuid().as_raw() {
            let why =
                format!("user {} or others (mode {:o}) could write it", meta.uid(), meta.mode() & 0o777);
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
    }
    let mut bytes = Vec::new();
    file.take(ENTRY_BYTES_MAX).read_to_end(&mut bytes)?;
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the checksum does not match");
    let at = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or_else(damaged)?;
    let checksum = bytes.split_off(at);
    if blake3::hash(&bytes).as_bytes()[..] != checksum[..] {
        return Err(damaged());
    }
    Ok(bytes)
}

fn entry_write(path: &Path, code: &[u8]) -> io::Result<()> {
    static ASIDE: AtomicU64 = AtomicU64::new(0);
    let number = ASIDE.fetch_add(1, Ordering::Relaxed);
    let aside = path.with_extension(format!("{}-{number}.{ASIDE_SUFFIX}", std::process::id()));
    let write = || {
        let mut file = private_file(&aside)?;
        file.write_all(code)?;
        file.write_all(blake3::hash(code).as_bytes())?;
        fs::rename(&aside, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&aside);
    })
}

/// Removes files that a process which died was writing aside: no bound counts them. Those of a process that still
/// writes stay. A failure leaves them for the next start.
pub(crate) fn leftovers_remove(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_aside = path.extension().is_some_and(|e| e == ASIDE_SUFFIX);
        let age =
            entry.metadata().and_then(|meta| meta.modified()).map(|at| at.elapsed().unwrap_or_default());
        if is_aside && age.is_ok_and(|age| age > ASIDE_AGE_MAX) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Makes a new file that only this user reads and writes.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Checks that nobody but this user can put code into the directory.
#[cfg(unix)]
fn dir_check(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let refused = |why: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    let meta = fs::metadata(dir)?;
    if !meta.is_dir() {
        return refused("not a directory".to_owned());
    }
    if meta.mode() & 0o022 != 0 {
        return refused(format!("mode {:o} lets others write, 700 is needed", meta.mode() & 0o777));
    }
    // The owner of a file that this process makes is this process's user.
    let probe = dir.join(format!("{}.probe", std::process::id()));
    let owner = File::create(&probe).and_then(|file| file.metadata()).map(|m| m.uid());
    let _ = fs::remove_file(&probe);
    if owner? != meta.uid() {
        return refused(format!("it belongs to another user ({})", meta.uid()));
    }
    Ok(())
}

#[cfg(not(unix))]
fn dir_check(_: &Path) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "ownership cannot be checked on this system"))
}

/// Makes a component of code that this program compiled.
#[allow(unsafe_code, reason = "the only place that turns bytes into running code")]
pub(crate) fn component(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` needs bytes that `Component::serialize` made, unmodified. These come from the pipe of a
    // child that runs this very program, or from a file of this user's that was read whole and whose checksum matched,
    // in a directory that was just seen to belong to this user and to be writable by nobody else, under a name that
    // holds the hash of everything this engine's code depends on. Only `put` writes such files. Somebody who can act as
    // this user can replace this program as well.
    unsafe { Component::deserialize(engine, code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_left_is_removed_and_what_is_being_written_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let make = |name: &str, age: Duration| {
            let file = File::create(folder.path().join(name)).expect("writable");
            file.set_modified(SystemTime::now() - age).expect("set");
        };
        make("a.7-0.tmp", ASIDE_AGE_MAX + Duration::from_secs(60));
        make("b.8-0.tmp", Duration::ZERO);
        make("c.cwasm", ASIDE_AGE_MAX * 2);
        leftovers_remove(folder.path());
        let left = |name: &str| folder.path().join(name).exists();
        assert_eq!(["a.7-0.tmp", "b.8-0.tmp", "c.cwasm"].map(left), [false, true, true]);
    }
}
