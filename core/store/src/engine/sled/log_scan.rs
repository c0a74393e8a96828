//! Reads the engine's log before the engine opens it, and finds damage that the engine would skip.
//!
//! The engine replays its log from the newest snapshot on. It takes an unreadable message for the end of a segment
//! and continues with the next one, because a power cut during the reuse of a free segment looks the same. A flipped
//! bit looks the same, too, and everything from there to the segment's end disappears. The cases differ in one point:
//! a segment being reused holds no page that is still needed. So an unreadable message is damage when its segment
//! holds a page that no later message replaces.
//!
//! The engine also skips a segment whose header is unreadable. A free one is zero from end to end, and a few pieces of
//! it tell. Another one is read from its first readable message on. A header that is not zero was damaged. One of zeros
//! may be of a free segment that the engine was overwriting when the power failed, so it is judged like the others,
//! unless a second segment has the same number, which is then the one in use.
//!
//! A message that ends behind the file's end is damage: the file was cut.
//!
//! Invariants: a log that lost only unsynced writes is not reported as damaged, and nothing is written here.
//! Unreadable messages after the last batch but one are left to the engine, which drops their batch; the number of
//! the last batch then shows the loss (see [`LogScan::last_batch`] and `acknowledged`).
//!
//! **Source:** sled 0.34.7: `pagecache/logger.rs` (segment and message headers), `pagecache/iterator.rs` (replay),
//! `pagecache/snapshot.rs` (names), `serialization.rs` (numbers).

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::engine::sled::keys;

/// Bytes of a segment's header.
const SEGMENT_HEADER: usize = 20;
/// No message begins within this many bytes of a segment's end.
const MESSAGE_HEADER_MAX: usize = 32;
/// Marks the value of [`keys::COMMIT`] in the log. It is not UTF-8, so no client's text can contain it.
const COMMIT_TAG: [u8; 8] = [0xff, 0xfe, b'c', b'o', b'm', b'm', b'i', 0xff];

/// Threads that read segments concurrently.
const THREADS_MAX: usize = 4;
/// Bytes of a segment that are read at a time. The last segment of a log is seldom full, and most of a start with a
/// small store was reading its zeros.
const PIECE_BYTES: usize = 256 * 1024;
/// What is read of a segment without a header to see that it is free: so many bytes at its start, which is more than a
/// record of zeros has, and as many in its middle. A segment that the engine left is filled beyond that.
const BLANK_BYTES: usize = 16 * 1024;
/// A disk writes this many bytes whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// The findings in a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LogScan {
    /// The largest batch number found. The batch before it was synced when this one began.
    pub(crate) last_batch: Option<u64>,
    /// A description of the damage, if any.
    pub(crate) damage: Option<String>,
}

/// The stored value of a batch number.
pub(crate) fn commit_value(number: u64) -> [u8; 16] {
    let mut value = [0; 16];
    value[..8].copy_from_slice(&number.to_be_bytes());
    value[8..].copy_from_slice(&COMMIT_TAG);
    value
}

/// The batch number in a value of [`keys::COMMIT`].
pub(crate) fn commit_number(value: &[u8]) -> Option<u64> {
    let (number, tag) = value.split_at_checked(8)?;
    let number = u64::from_be_bytes(number.try_into().ok()?);
    (tag == COMMIT_TAG).then_some(number)
}

/// Scans the log of a closed database. Blocks; reads as much as the engine does when it opens.
///
/// # Errors
///
/// Those of reading the files.
pub(crate) fn scan(database: &Path, segment_bytes: usize) -> io::Result<LogScan> {
    let Some(file) = open_log(&database.join("db"))? else { return Ok(LogScan::default()) };
    let bytes = file.metadata()?.len();
    let log = Log { file, bytes, segment_bytes, from: snapshot_lsn(database)? / segment_bytes as u64 };
    let count = usize::try_from(bytes.div_ceil(segment_bytes as u64)).map_err(io::Error::other)?;
    let mut facts = log.read_all(count)?;
    let commit = facts.commits.iter().map(|commit| commit.number).max();
    // Everything up to here was synced before the last batch began.
    let settled = facts
        .commits
        .iter()
        .filter(|seen| commit.is_some_and(|last| seen.number < last))
        .max_by_key(|seen| seen.number)
        .map_or(0, |seen| seen.lsn);
    let is_judged = |suspect: &Suspect| {
        suspect.lsn < settled && (suspect.has_header || !facts.segments.contains(&suspect.segment))
    };
    let suspects: Vec<Suspect> = facts.suspects.drain(..).filter(is_judged).collect();
    let damage = log.judge(&suspects, &mut facts.replaced)?;
    Ok(LogScan { last_batch: commit, damage })
}

fn open_log(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The end of the engine's newest snapshot; 0 without one.
fn snapshot_lsn(database: &Path) -> io::Result<u64> {
    let mut newest = 0;
    for entry in fs::read_dir(database)? {
        let name = entry?.file_name();
        let lsn = name.to_str().and_then(|name| name.strip_prefix("snap."));
        if let Some(lsn) = lsn.and_then(|lsn| u64::from_str_radix(lsn, 16).ok()) {
            newest = newest.max(lsn);
        }
    }
    Ok(newest)
}

/// A batch number and its place in the log.
struct Commit {
    number: u64,
    lsn: u64,
}

/// A segment with an unreadable part.
struct Suspect {
    index: usize,
    /// Number of the segment in log order.
    segment: u64,
    /// Where the unreadable part begins.
    lsn: u64,
    has_header: bool,
    /// Damage, whether a page in it is needed or not: no power cut leaves this.
    is_certain: bool,
}

#[derive(Default)]
struct Facts {
    commits: Vec<Commit>,
    suspects: Vec<Suspect>,
    replaced: Replaced,
    /// The numbers of the segments with a header.
    segments: HashSet<u64>,
}

/// Per page, where it was last written as a whole; 0: never.
#[derive(Default)]
struct Replaced(Vec<u64>);

/// Most pages accepted; the engine numbers them from 0.
const PAGES_MAX: u64 = 1 << 28;

impl Replaced {
    fn note(&mut self, page: u64, lsn: u64) {
        let Some(index) = usize::try_from(page).ok().filter(|_| page < PAGES_MAX) else { return };
        if self.0.len() <= index {
            self.0.resize(index + 1, 0);
        }
        self.0[index] = self.0[index].max(lsn);
    }

    /// Returns true when the data at `lsn` is the newest of its page, or a part of it.
    fn needs(&self, page: u64, lsn: u64) -> bool {
        let last = usize::try_from(page).ok().and_then(|index| self.0.get(index)).copied().unwrap_or(0);
        last <= lsn
    }

    fn merge(&mut self, other: Replaced) {
        for (page, lsn) in other.0.into_iter().enumerate() {
            self.note(page as u64, lsn);
        }
    }
}

struct Log {
    file: File,
    /// Of the file.
    bytes: u64,
    segment_bytes: usize,
    /// The first segment that the engine replays.
    from: u64,
}

impl Log {
    fn read_all(&self, count: usize) -> io::Result<Facts> {
        let next = AtomicUsize::new(0);
        let all = Mutex::new(Facts::default());
        let work = || -> io::Result<()> {
            let mut facts = Facts::default();
            let mut bytes = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    break;
                }
                self.read_segment(index, &mut bytes, &mut facts)?;
            }
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            all.commits.append(&mut facts.commits);
            all.suspects.append(&mut facts.suspects);
            all.segments.extend(facts.segments);
            all.replaced.merge(facts.replaced);
            Ok(())
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX).min(count);
        if threads <= 1 {
            work()?;
        } else {
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                workers.into_iter().try_for_each(|worker| {
                    worker.join().unwrap_or_else(|_| Err(io::Error::other("reading the log panicked")))
                })
            })?;
        }
        Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn read_segment(&self, index: usize, bytes: &mut Vec<u8>, facts: &mut Facts) -> io::Result<()> {
        let mut header = [0; SEGMENT_HEADER];
        let offset = index as u64 * self.segment_bytes as u64;
        if read_up_to(&self.file, &mut header, offset)? < SEGMENT_HEADER {
            return Ok(());
        }
        let mut content = Content::new(self, index, bytes);
        let segment = match segment_lsn(&header) {
            Some(lsn) if lsn % self.segment_bytes as u64 == 0 => lsn / self.segment_bytes as u64,
            _ if header == [0; SEGMENT_HEADER] && content.is_blank()? => return Ok(()),
            _ => {
                let is_certain = header != [0; SEGMENT_HEADER];
                return self.read_without_header(index, is_certain, &mut content, facts);
            }
        };
        facts.segments.insert(segment);
        // Of a segment that the engine does not replay only a cut matters here, which only the last one can have.
        let is_replayed = segment >= self.from;
        if !is_replayed && offset + self.segment_bytes as u64 <= self.bytes {
            return Ok(());
        }
        let mut at = SEGMENT_HEADER;
        let mut suspected = false;
        while at + MESSAGE_HEADER_MAX < self.segment_bytes {
            if let Some(found) = content.message(at, Some(segment))? {
                if is_replayed {
                    self.note(&found, at, facts);
                }
                if found.kind == Kind::Cap {
                    break;
                }
                at += found.length;
                continue;
            }
            if !suspected {
                suspected = true;
                let head = content.head(at)?.filter(|head| head.segment == segment);
                let is_cut = head.is_some_and(|head| offset + (at + head.length) as u64 > self.bytes);
                if is_replayed || is_cut {
                    let lsn = self.lsn(segment, at);
                    facts.suspects.push(Suspect {
                        index,
                        segment,
                        lsn,
                        has_header: true,
                        is_certain: is_cut,
                    });
                }
            }
            // When only a message's content is unreadable, the next one begins where expected.
            match content.head(at)?.and_then(|head| at.checked_add(head.length)) {
                Some(next) if content.message(next, Some(segment))?.is_some() => at = next,
                _ => break,
            }
        }
        Ok(())
    }

    /// Reads a segment whose header is unreadable; its messages still name it. The engine skips all of it, so none of
    /// them replaces a page.
    fn read_without_header(
        &self,
        index: usize,
        is_certain: bool,
        content: &mut Content<'_>,
        facts: &mut Facts,
    ) -> io::Result<()> {
        let mut at = SEGMENT_HEADER;
        let segment = loop {
            if at + MESSAGE_HEADER_MAX >= self.segment_bytes {
                return Ok(());
            }
            let segment = content.message(at, None)?.map(|found| found.segment);
            if let Some(segment) = segment.filter(|segment| *segment >= self.from) {
                break segment;
            }
            at += 1;
        };
        let lsn = self.lsn(segment, SEGMENT_HEADER);
        facts.suspects.push(Suspect { index, segment, lsn, has_header: false, is_certain });
        while let Some(found) = content.message(at, Some(segment))? {
            self.note_batch(&found, at, facts);
            at += found.length;
        }
        Ok(())
    }

    fn note(&self, found: &Message<'_>, at: usize, facts: &mut Facts) {
        if found.kind == Kind::Whole {
            facts.replaced.note(found.page, self.lsn(found.segment, at));
        }
        self.note_batch(found, at, facts);
    }

    fn note_batch(&self, found: &Message<'_>, at: usize, facts: &mut Facts) {
        if found.kind == Kind::Link
            && let Some(number) = linked_commit(found.body)
        {
            facts.commits.push(Commit { number, lsn: self.lsn(found.segment, at) });
        }
    }

    /// Decides which suspects are damaged: those with a page that is still needed.
    fn judge(&self, suspects: &[Suspect], replaced: &mut Replaced) -> io::Result<Option<String>> {
        let mut bytes = Vec::new();
        let mut held = Vec::new();
        for suspect in suspects {
            if suspect.is_certain {
                return Ok(Some(self.damage(suspect)));
            }
            let mut content = Content::new(self, suspect.index, &mut bytes);
            let mut pages = Vec::new();
            let (mut at, mut is_due) = (SEGMENT_HEADER, true);
            while at + MESSAGE_HEADER_MAX < self.segment_bytes {
                let lsn = self.lsn(suspect.segment, at);
                let Some(found) = content.message(at, Some(suspect.segment))? else {
                    if is_due && let Some(page) = content.unreadable_page(at, suspect.segment)? {
                        pages.push((page, lsn));
                    }
                    (at, is_due) = (at + 1, false);
                    continue;
                };
                is_due = true;
                match found.kind {
                    Kind::Whole => replaced.note(found.page, lsn),
                    Kind::Link | Kind::Other => {}
                    Kind::Cap => break,
                }
                if matches!(found.kind, Kind::Whole | Kind::Link) {
                    pages.push((found.page, lsn));
                }
                at += found.length;
            }
            held.push(pages);
        }
        for (suspect, pages) in suspects.iter().zip(held) {
            if pages.iter().any(|(page, lsn)| replaced.needs(*page, *lsn)) {
                return Ok(Some(self.damage(suspect)));
            }
        }
        Ok(None)
    }

    fn damage(&self, suspect: &Suspect) -> String {
        let segment_bytes = self.segment_bytes as u64;
        let offset = suspect.index as u64 * segment_bytes + suspect.lsn % segment_bytes;
        format!("its log is not readable at byte {offset} of the file \"db\"")
    }

    fn lsn(&self, segment: u64, at: usize) -> u64 {
        segment.saturating_mul(self.segment_bytes as u64).saturating_add(at as u64)
    }
}

/// A segment's content, read as far as it was asked for. Bytes past the end of the file are zero.
struct Content<'a> {
    file: &'a File,
    offset: u64,
    /// What was read so far.
    bytes: &'a mut Vec<u8>,
    segment_bytes: usize,
}

impl<'a> Content<'a> {
    /// `bytes` is memory to use again.
    fn new(log: &'a Log, index: usize, bytes: &'a mut Vec<u8>) -> Self {
        bytes.clear();
        let segment_bytes = log.segment_bytes;
        Content { file: &log.file, offset: index as u64 * segment_bytes as u64, bytes, segment_bytes }
    }

    /// Reads up to a position; false when it is past the segment's end.
    fn read(&mut self, end: usize) -> io::Result<bool> {
        if end > self.segment_bytes {
            return Ok(false);
        }
        if end > self.bytes.len() {
            let have = self.bytes.len();
            let want = end.next_multiple_of(PIECE_BYTES).min(self.segment_bytes);
            // Not `resize`, which writes byte by byte in a build without optimisation.
            while self.bytes.len() < want {
                self.bytes.extend_from_slice(&[0; 4096][..(want - self.bytes.len()).min(4096)]);
            }
            read_up_to(self.file, &mut self.bytes[have..], self.offset + have as u64)?;
        }
        Ok(true)
    }

    /// Whether the segment looks as the engine leaves a free one, judged by [`BLANK_BYTES`].
    fn is_blank(&self) -> io::Result<bool> {
        let mut piece = [0; BLANK_BYTES];
        for at in [0, self.segment_bytes / 2] {
            let read = read_up_to(self.file, &mut piece, self.offset + at as u64)?;
            if piece[..read].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The page that a message is about whose content is unreadable, when its header is as it was written. One that is
    /// in two sectors may be of two messages.
    fn unreadable_page(&mut self, at: usize, segment: u64) -> io::Result<Option<u64>> {
        let Some(head) = self.head(at)? else { return Ok(None) };
        let sector = |at: usize| (self.offset + at as u64) / SECTOR_BYTES;
        let is_whole = sector(at) == sector(at + head.header_length - 1);
        let is_of_page = matches!(head.kind, Kind::Whole | Kind::Link);
        Ok((head.segment == segment && is_of_page && is_whole).then_some(head.page))
    }

    /// The header at a position, when a message of its length fits in the segment.
    fn head(&mut self, at: usize) -> io::Result<Option<Head>> {
        self.read(at.saturating_add(MESSAGE_HEADER_MAX).min(self.segment_bytes))?;
        let Some(head) = header_of(self.bytes, at) else { return Ok(None) };
        let end = at.saturating_add(head.length);
        Ok(self.read(end)?.then_some(head))
    }

    /// The message at a position, when it is complete and belongs to the segment.
    fn message(&mut self, at: usize, segment: Option<u64>) -> io::Result<Option<Message<'_>>> {
        let Some(head) = self.head(at)? else { return Ok(None) };
        if segment.is_some_and(|segment| head.segment != segment) {
            return Ok(None);
        }
        let (header, body) = self.bytes[at..at + head.length].split_at(head.header_length);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(body);
        hasher.update(&header[4..]);
        if hasher.finalize() ^ u32::MAX != head.crc {
            return Ok(None);
        }
        let Head { kind, segment, page, length, .. } = head;
        Ok(Some(Message { kind, segment, page, body, length }))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The rest of the segment is unused.
    Cap,
    /// A whole page, or its removal.
    Whole,
    /// A change of a page.
    Link,
    /// Belongs to no page.
    Other,
}

/// A message's header, not verified yet. Its length may be anything.
struct Head {
    crc: u32,
    kind: Kind,
    segment: u64,
    page: u64,
    header_length: usize,
    /// Of header and body.
    length: usize,
}

struct Message<'a> {
    kind: Kind,
    segment: u64,
    page: u64,
    body: &'a [u8],
    length: usize,
}

fn header_of(buffer: &[u8], at: usize) -> Option<Head> {
    let bytes = buffer.get(at..)?;
    let crc = u32::from_le_bytes(*bytes.first_chunk()?);
    let kind = match bytes.get(4)? {
        2 => Kind::Cap,
        4..=9 => Kind::Whole,
        10 | 11 => Kind::Link,
        1 | 3 => Kind::Other,
        _ => return None,
    };
    let mut rest = 5;
    let body = number(bytes, &mut rest)?;
    let segment = number(bytes, &mut rest)?;
    let page = number(bytes, &mut rest)?;
    let length = usize::try_from(body).ok()?.checked_add(rest)?;
    Some(Head { crc, kind, segment, page, header_length: rest, length })
}

/// The batch number, when a change of a page sets it. A page's keys are stored without their common prefix.
fn linked_commit(body: &[u8]) -> Option<u64> {
    let (&kind, _) = body.split_first()?;
    let mut at = 1;
    let length = usize::try_from(number(body, &mut at)?).ok()?;
    let key = body.get(at..at.checked_add(length)?)?;
    if kind != 0 || !keys::COMMIT.ends_with(key) {
        return None;
    }
    at += length;
    let length = usize::try_from(number(body, &mut at)?).ok()?;
    commit_number(body.get(at..).filter(|value| value.len() == length)?)
}

/// A number in the engine's format.
fn number(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let first = *bytes.get(*at)?;
    let byte = |offset: usize| bytes.get(*at + offset).copied().map(u64::from);
    let (number, length) = match first {
        0..=240 => (u64::from(first), 1),
        241..=248 => (240 + 256 * (u64::from(first) - 241) + byte(1)?, 2),
        249 => (2288 + 256 * byte(1)? + byte(2)?, 3),
        250..=255 => {
            let size = usize::from(first) - 247;
            let mut number = [0; 8];
            number[..size].copy_from_slice(bytes.get(*at + 1..*at + 1 + size)?);
            (u64::from_le_bytes(number), 1 + size)
        }
    };
    *at += length;
    Some(number)
}

/// The log position of a segment, when its header is intact.
fn segment_lsn(header: &[u8; SEGMENT_HEADER]) -> Option<u64> {
    let crc = u32::from_le_bytes(*header.first_chunk()?) ^ u32::MAX;
    if crc32fast::hash(&header[4..]) != crc {
        return None;
    }
    let lsn = i64::from_le_bytes(header[4..12].try_into().ok()?) ^ i64::MAX;
    u64::try_from(lsn).ok()
}

/// Reads until the buffer is full or the file ends; returns the number of bytes.
fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match read_at(file, &mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

#[cfg(test)]
mod tests;
