//! The disk after a power cut: everything synced, and any part of the rest.
//!
//! A child process runs with `record.c` preloaded. From its record and a cut, [`Recorded::image`] builds a folder:
//!
//! - File: everything written before its last sync is there. Every block of 4 KiB written since holds its content at
//!   the sync or after any of the later writes; the file may have any length it had since.
//! - Folder: everything done before its last sync is there. Of the later operations on all folders, any first part is
//!   there, in order. A file whose name is missing is gone.
//!
//! Invariant: the same seed builds the same image.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const BLOCK: usize = 4096;

/// xorshift64*: fixed numbers for a fixed seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound.max(1) as u64) as usize
    }
}

/// Compiles the recording library; `None` where that is not possible.
pub(crate) fn recorder(folder: &Path) -> Option<PathBuf> {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        return None;
    }
    let library = folder.join("record.so");
    let source = folder.join("record.c");
    fs::write(&source, include_str!("record.c")).ok()?;
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let compiled = Command::new(compiler)
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .output()
        .ok()?;
    assert!(compiled.status.success(), "record.c: {}", String::from_utf8_lossy(&compiled.stderr));
    Some(library)
}

/// Makes a command record its operations below a folder.
pub(crate) fn record(command: &mut Command, library: &Path, root: &Path, trace: &Path) {
    command.env("LD_PRELOAD", library);
    command.env("CHELSERU_RECORD_ROOT", root);
    command.env("CHELSERU_RECORD_TRACE", trace);
}

#[derive(Debug)]
enum Event {
    Create(PathBuf),
    Write { path: PathBuf, offset: usize, data: Vec<u8> },
    Truncate { path: PathBuf, length: usize },
    Sync(PathBuf),
    Rename { from: PathBuf, to: PathBuf },
    Remove(PathBuf),
    MakeFolder(PathBuf),
    Said(String),
}

/// What a child did to a folder, and the folder's content before.
pub(crate) struct Recorded {
    root: PathBuf,
    before: BTreeMap<PathBuf, Option<Vec<u8>>>,
    events: Vec<Event>,
}

/// The content below a folder: files with their bytes, folders without.
pub(crate) fn read_all(root: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.insert(path.clone(), None);
                folders.push(path);
            } else {
                found.insert(path.clone(), Some(fs::read(&path).unwrap()));
            }
        }
    }
    found
}

impl Recorded {
    /// `before` is the result of [`read_all`] when the child began.
    pub(crate) fn read(root: &Path, before: BTreeMap<PathBuf, Option<Vec<u8>>>, trace: &Path) -> Recorded {
        let bytes = fs::read(trace).unwrap();
        let mut rest = bytes.as_slice();
        let mut events = Vec::new();
        while rest.len() >= 25 {
            let op = rest[0];
            let size = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap()) as usize;
            let number = |at: usize| u64::from_le_bytes(rest[at..at + 8].try_into().unwrap()) as usize;
            let (first, second, offset, length) = (size(1), size(5), number(9), number(17));
            if rest.len() < 25 + first + second + length {
                break; // The child was killed while it wrote this.
            }
            let (path, after) = rest[25..].split_at(first);
            let (other, after) = after.split_at(second);
            let (data, after) = after.split_at(length);
            rest = after;
            let path = PathBuf::from(std::str::from_utf8(path).unwrap());
            if path.to_str().unwrap().ends_with(" (deleted)") {
                continue;
            }
            events.push(match op {
                b'C' => Event::Create(path),
                b'W' => Event::Write { path, offset, data: data.to_vec() },
                b'T' => Event::Truncate { path, length: offset },
                b'S' => Event::Sync(path),
                b'R' => Event::Rename { from: path, to: PathBuf::from(std::str::from_utf8(other).unwrap()) },
                b'U' | b'D' => Event::Remove(path),
                b'M' => Event::MakeFolder(path),
                b'A' => Event::Said(String::from_utf8_lossy(data).into_owned()),
                other => panic!("op {other}"),
            });
        }
        Recorded { root: root.to_owned(), before, events }
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// The lines that the child wrote to its standard output before the cut.
    pub(crate) fn said(&self, cut: usize) -> impl Iterator<Item = &str> {
        self.events[..cut].iter().flat_map(|event| match event {
            Event::Said(text) => text.lines(),
            _ => "".lines(),
        })
    }

    /// Builds the image of a power cut before event `cut`.
    pub(crate) fn image(&self, cut: usize, random: &mut Random, target: &Path) {
        let mut disk = Disk::new(&self.root, &self.before);
        for event in &self.events[..cut] {
            disk.apply(event);
        }
        disk.lose(random, target);
    }
}

type Id = usize;

#[derive(Default)]
struct File {
    synced: Vec<u8>,
    now: Vec<u8>,
    /// Per block, its content after each write since the sync.
    versions: HashMap<usize, Vec<Vec<u8>>>,
    /// Lengths since the sync.
    lengths: Vec<usize>,
}

impl File {
    fn touch(&mut self, from: usize, to: usize) {
        if from >= to {
            return;
        }
        for block in from / BLOCK..to.div_ceil(BLOCK) {
            let content = self.now[block * BLOCK..self.now.len().min((block + 1) * BLOCK)].to_vec();
            self.versions.entry(block).or_default().push(content);
        }
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[offset..end].copy_from_slice(data);
        self.touch(offset, end);
        self.lengths.push(self.now.len());
    }

    fn truncate(&mut self, length: usize) {
        let before = self.now.len();
        self.now.resize(length, 0);
        self.touch(before.min(length), length);
        self.lengths.push(length);
    }

    fn sync(&mut self) {
        self.synced.clone_from(&self.now);
        self.versions.clear();
        self.lengths.clear();
    }

    fn lose(&self, random: &mut Random) -> Vec<u8> {
        let length = match random.below(self.lengths.len() + 1) {
            0 => self.synced.len(),
            n => self.lengths[n - 1],
        };
        let mut content = self.synced.clone();
        content.resize(length, 0);
        let mut blocks: Vec<_> = self.versions.iter().collect();
        blocks.sort_unstable_by_key(|(block, _)| **block);
        for (block, versions) in blocks {
            let kept = random.below(versions.len() + 1);
            let start = block * BLOCK;
            if kept == 0 || start >= length {
                continue;
            }
            let version = &versions[kept - 1];
            let end = length.min(start + version.len());
            content[start..end].copy_from_slice(&version[..end - start]);
        }
        content
    }
}

#[derive(Clone)]
enum Change {
    Link(PathBuf, Id),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

/// Names are whole paths; renaming a folder moves the names below it.
struct Disk<'a> {
    root: &'a Path,
    files: Vec<Option<File>>,
    now: BTreeMap<PathBuf, Id>,
    synced: BTreeMap<PathBuf, Id>,
    pending: Vec<Change>,
}

fn change(names: &mut BTreeMap<PathBuf, Id>, change: &Change) {
    match change {
        Change::Link(path, id) => {
            names.insert(path.clone(), *id);
        }
        Change::Unlink(path) => {
            names.remove(path);
        }
        Change::Rename(from, to) => {
            let moved: Vec<_> = names.keys().filter(|path| path.starts_with(from)).cloned().collect();
            for path in moved {
                let id = names.remove(&path).unwrap();
                let rest = path.strip_prefix(from).unwrap();
                let new = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                names.insert(new, id);
            }
        }
    }
}

/// Updates the names of a change in a renamed folder.
fn moved(what: &mut Change, from: &Path, to: &Path) {
    let paths = match what {
        Change::Link(path, _) | Change::Unlink(path) => vec![path],
        Change::Rename(first, second) => vec![first, second],
    };
    for path in paths {
        if let Ok(rest) = path.strip_prefix(from).map(Path::to_owned) {
            *path = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
        }
    }
}

impl<'a> Disk<'a> {
    fn new(root: &'a Path, before: &BTreeMap<PathBuf, Option<Vec<u8>>>) -> Disk<'a> {
        let mut disk = Disk {
            root,
            files: Vec::new(),
            now: BTreeMap::new(),
            synced: BTreeMap::new(),
            pending: Vec::new(),
        };
        for (path, content) in before {
            let file = content.as_ref().map(|content| File {
                synced: content.clone(),
                now: content.clone(),
                ..File::default()
            });
            disk.files.push(file);
            disk.now.insert(path.clone(), disk.files.len() - 1);
        }
        disk.synced = disk.now.clone();
        disk
    }

    fn add(&mut self, path: &Path, file: Option<File>) {
        self.files.push(file);
        self.change(Change::Link(path.to_owned(), self.files.len() - 1));
    }

    fn change(&mut self, what: Change) {
        change(&mut self.now, &what);
        self.pending.push(what);
    }

    fn file(&mut self, path: &Path) -> Option<&mut File> {
        let id = *self.now.get(path)?;
        self.files[id].as_mut()
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Create(path) => self.add(path, Some(File::default())),
            Event::MakeFolder(path) => self.add(path, None),
            Event::Write { path, offset, data } => {
                if let Some(file) = self.file(path) {
                    file.write(*offset, data);
                }
            }
            Event::Truncate { path, length } => {
                if let Some(file) = self.file(path) {
                    file.truncate(*length);
                }
            }
            Event::Rename { from, to } => self.change(Change::Rename(from.clone(), to.clone())),
            Event::Remove(path) => self.change(Change::Unlink(path.clone())),
            Event::Sync(path) => match self.file(path) {
                Some(file) => file.sync(),
                None => self.sync_folder(path),
            },
            Event::Said(_) => {}
        }
    }

    /// Applies pending operations in a folder, and keeps those in others.
    fn sync_folder(&mut self, folder: &Path) {
        let pending = std::mem::take(&mut self.pending);
        for what in pending {
            let path = match &what {
                Change::Link(path, _) | Change::Unlink(path) => path,
                Change::Rename(_, to) => to,
            };
            if path.parent() == Some(folder) {
                change(&mut self.synced, &what);
                if let Change::Rename(from, to) = &what {
                    // Earlier operations in a folder move with it to its new name.
                    self.pending.iter_mut().for_each(|earlier| moved(earlier, from, to));
                }
            } else {
                self.pending.push(what);
            }
        }
    }

    fn lose(mut self, random: &mut Random, target: &Path) {
        let kept = if random.below(2) == 0 { 0 } else { random.below(self.pending.len() + 1) };
        for what in self.pending.drain(..kept).collect::<Vec<_>>() {
            change(&mut self.synced, &what);
        }
        for (path, id) in &self.synced {
            let below = path.strip_prefix(self.root).unwrap();
            let parent = path.parent().unwrap();
            let whole = parent == self.root || target.join(parent.strip_prefix(self.root).unwrap()).is_dir();
            if !whole {
                continue; // The folder it was in is gone.
            }
            match &self.files[*id] {
                None => fs::create_dir(target.join(below)).unwrap(),
                Some(file) => fs::write(target.join(below), file.lose(random)).unwrap(),
            }
        }
    }
}
