//! The manifest: size and hash of every file of a backup, and a hash of the list itself.
//!
//! It is JSON, so other programs can verify a backup: `{"version": 1, "engine", "bucket", "files": [{"path", "bytes",
//! "blake3"}], "blake3"}`. The last hash covers one line per file: `hash bytes path` and a line feed. The engine is the
//! one that the store was on; without it, the embedded one. Every engine reads the backups of every other. With a
//! bucket, the uploaded files are there and not in the backup.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::{at, pieces};
use crate::private;

pub(super) const FILE: &str = "manifest.json";
const VERSION: u32 = 1;
/// Largest accepted manifest in bytes; enough for more than a million files.
const BYTES_MAX: u64 = 512 * 1024 * 1024;

/// One file of a backup.
pub(super) struct Entry {
    /// Relative to the backup, with slashes.
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) hash: blake3::Hash,
}

#[derive(Default)]
pub(crate) struct Manifest {
    pub(super) entries: Vec<Entry>,
    pub(crate) engine: EngineName,
    /// Endpoint, bucket and prefix that had the uploaded files.
    pub(crate) bucket: Option<String>,
}

/// The engine that a store was on when it was backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EngineName {
    #[default]
    Sled,
    Postgres,
}

impl EngineName {
    fn is_default(&self) -> bool {
        *self == EngineName::default()
    }
}

impl std::fmt::Display for EngineName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            EngineName::Sled => "sled",
            EngineName::Postgres => "postgres",
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    /// Left out for sled, as before there was another engine.
    #[serde(default, skip_serializing_if = "EngineName::is_default")]
    engine: EngineName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bucket: Option<String>,
    files: Vec<WrittenFile>,
    blake3: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFile {
    path: String,
    bytes: u64,
    blake3: String,
}

impl Manifest {
    pub(super) fn has(&self, path: &str) -> bool {
        self.entries.iter().any(|entry| entry.path == path)
    }

    /// How many files the backup has.
    pub(crate) fn files(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The bytes of all of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }

    fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for entry in &self.entries {
            hasher.update(format!("{} {} {}\n", entry.hash.to_hex(), entry.bytes, entry.path).as_bytes());
        }
        hasher.finalize()
    }

    /// Writes the manifest into a backup and syncs it.
    pub(super) fn write(&self, backup: &Path) -> Result<(), String> {
        let files = self.entries.iter().map(|entry| WrittenFile {
            path: entry.path.clone(),
            bytes: entry.bytes,
            blake3: entry.hash.to_hex().to_string(),
        });
        let blake3 = self.hash().to_hex().to_string();
        let (engine, bucket) = (self.engine, self.bucket.clone());
        let written = Written { version: VERSION, engine, bucket, files: files.collect(), blake3 };
        let path = backup.join(FILE);
        let write = || -> io::Result<()> {
            let mut file = private::make_file(&path)?;
            file.write_all(&serde_json::to_vec_pretty(&written)?)?;
            file.sync_all()
        };
        write().map_err(|error| at(&path, &error))
    }

    /// Reads the manifest of a backup.
    ///
    /// Errors: a text for the operator.
    pub(super) fn read(backup: &Path) -> Result<Manifest, String> {
        let path = backup.join(FILE);
        let refused = |why: &str| format!("{}: {why}", path.display());
        let file = File::open(&path).map_err(|error| {
            format!("{}; is this a backup written by `chelseru backup` of this version?", at(&path, &error))
        })?;
        if file.metadata().map_or(u64::MAX, |metadata| metadata.len()) > BYTES_MAX {
            return Err(refused("is too long for a manifest"));
        }
        let written: Written = serde_json::from_reader(io::BufReader::new(file))
            .map_err(|error| refused(&format!("is not a manifest: {error}")))?;
        if written.version != VERSION {
            return Err(refused(&format!(
                "has version {}; this program reads version {VERSION}",
                written.version
            )));
        }
        let mut entries = Vec::with_capacity(written.files.len());
        for file in written.files {
            let inside = Path::new(&file.path).components().all(|part| matches!(part, Component::Normal(_)));
            let hash = blake3::Hash::from_hex(file.blake3.as_bytes());
            let (true, Ok(hash)) = (inside && !file.path.is_empty(), hash) else {
                return Err(refused(&format!("names a file that cannot be in a backup: {:?}", file.path)));
            };
            entries.push(Entry { path: file.path, bytes: file.bytes, hash });
        }
        let manifest = Manifest { entries, engine: written.engine, bucket: written.bucket };
        if blake3::Hash::from_hex(written.blake3.as_bytes()).ok() != Some(manifest.hash()) {
            return Err(refused("was altered: it does not match its own hash"));
        }
        Ok(manifest)
    }
}

impl Entry {
    /// Errors: a text for the operator when the file is missing or altered.
    pub(super) fn check(&self, backup: &Path) -> Result<(), String> {
        let path = backup.join(&self.path);
        let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
        let read = File::open(&path).and_then(|mut file| {
            pieces(&mut file, |piece| {
                hasher.update(piece);
                bytes += piece.len() as u64;
                Ok(())
            })
        });
        read.map_err(|error| at(&path, &error))?;
        if bytes != self.bytes {
            return Err(format!("{}: has {bytes} bytes instead of {}", path.display(), self.bytes));
        }
        if hasher.finalize() != self.hash {
            return Err(format!("{}: was altered: it does not match its hash", path.display()));
        }
        Ok(())
    }
}
