//! Compiled code on disk, so that a second start does not compile.
//!
//! An entry's name is the component's BLAKE3 and a BLAKE3 over everything the engine says its code depends on
//! (its exact version, target, flags and tunables): an entry is never read by an engine that would misread it.
//! Loading compiled code runs it, so entries are only read from a directory that belongs to this user and that
//! nobody else can write; with any other, there is no cache. Entries are written aside and renamed, carry a
//! checksum, and a damaged one counts as absent. The cache may be deleted at any time.

use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::Engine;
use wasmtime::component::Component;

/// Entries kept; the oldest go first. A host has tens of plugins, and old versions are only in the way.
const ENTRIES_MAX: usize = 128;
/// Largest entry that is read, in bytes: compiled code is about ten times its component.
const ENTRY_BYTES_MAX: u64 = 512 << 20;
const SUFFIX: &str = "cwasm";
const CHECKSUM_BYTES: usize = blake3::OUT_LEN;

pub(crate) struct CodeCache {
    dir: PathBuf,
    /// Of the engine; the second half of every entry's name.
    engine_key: String,
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
    pub(crate) fn open(engine: &Engine, dir: &Path) -> io::Result<CodeCache> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(dir)?;
        dir_check(dir)?;
        let mut hasher = KeyHasher(blake3::Hasher::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let engine_key = hasher.0.finalize().to_hex()[..32].to_owned();
        Ok(CodeCache { dir: dir.to_owned(), engine_key })
    }

    fn entry(&self, digest: &str) -> PathBuf {
        self.dir.join(format!("{digest}-{}.{SUFFIX}", self.engine_key))
    }

    /// The component's compiled code, when the cache has it whole.
    pub(crate) fn get(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let path = self.entry(digest);
        let code = match entry_read(&path) {
            Ok(code) => code,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled code is damaged, compiling again");
                return None;
            }
        };
        if let Err(error) = dir_check(&self.dir) {
            tracing::warn!(path = %self.dir.display(), %error, "compiled-code cache is not safe, not used");
            return None;
        }
        match deserialize(engine, &code) {
            Ok(component) => Some(component),
            Err(error) => {
                let error = crate::text::error_text(&error);
                tracing::warn!(path = %path.display(), error, "compiled code does not fit, compiling again");
                None
            }
        }
    }

    /// Keeps a component's compiled code. A failure costs time at the next start and nothing else.
    pub(crate) fn put(&self, digest: &str, component: &Component) {
        let path = self.entry(digest);
        let written = component
            .serialize()
            .map_err(|e| io::Error::other(crate::text::error_text(&e)))
            .and_then(|code| entry_write(&path, &code));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "compiled code could not be kept");
        }
        if let Err(error) = self.prune() {
            tracing::warn!(path = %self.dir.display(), %error, "old compiled code could not be removed");
        }
    }

    fn prune(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|e| e == SUFFIX) {
                entries.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        entries.sort();
        let surplus = entries.len().saturating_sub(ENTRIES_MAX);
        for (_, path) in &entries[..surplus] {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

fn entry_read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(ENTRY_BYTES_MAX).read_to_end(&mut bytes)?;
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
    let aside = path.with_extension(format!("{}-{number}.tmp", std::process::id()));
    let write = || {
        let mut file = File::create_new(&aside)?;
        file.write_all(code)?;
        file.write_all(blake3::hash(code).as_bytes())?;
        fs::rename(&aside, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&aside);
    })
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

#[allow(unsafe_code, reason = "the only place that turns bytes into running code")]
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` needs bytes that `Component::serialize` made, unmodified. These come from a file that
    // was read whole and whose checksum matched, in a directory that was just seen to belong to this user and to
    // be writable by nobody else, under a name that holds the hash of everything this engine's code depends on.
    // Only `put` writes such files. Somebody who can act as this user can replace this program as well.
    unsafe { Component::deserialize(engine, code) }
}
