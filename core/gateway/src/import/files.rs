//! Uploaded files: copied beside the new store, with their type read from their content.
//!
//! Nothing of the old path becomes a path here: a file gets a random name, and its old path leads to it. A path that
//! leaves the media folder is refused.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Component, Path, PathBuf};

use chelseru_domain::chat::{FileId, RoomId, StoredFile};
use chelseru_http::files::store::{import_place, kind, picture};
use chelseru_store::chat::ImportedFile;

use super::chat::Chat;
use super::reader::Reader;
use super::report::Report;
use super::source::FILES;
use super::target::{Batch, Target};
use super::users::People;
use crate::private;

/// What comes before a stored path in the addresses that clients know.
const LINKS: &str = "/media/";

pub(super) const RULES: [&str; 1] = [
    "A file that no message has belongs to its room: its members may have it. Of several files of a message, the \
     message shows the one with the smallest id.",
];

/// The files that are imported.
#[derive(Default)]
pub(super) struct Files {
    files: Vec<ImportedFile>,
    /// The file of each message that has one: its place in the list.
    by_message: HashMap<u64, usize>,
    pub(super) last_id: u64,
}

impl Files {
    /// The file of a message: its id and the path of its link.
    pub(super) fn of_message(&mut self, message: u64, room: RoomId, seq: u64) -> Option<(FileId, String)> {
        let at = self.by_message.remove(&message)?;
        let file = &mut self.files[at].file;
        if file.room != Some(room) {
            return None;
        }
        (file.message, file.shared) = (Some(seq), false);
        Some((file.id, file.path()))
    }

    /// Stores the records, when the messages are.
    ///
    /// Errors: the store's.
    pub(super) fn store(self, target: &Target) -> Result<(), String> {
        let mut batch = Batch::new();
        for file in self.files {
            if let Some(rows) = batch.add(file) {
                target.put(async |store| store.import_files(rows).await)?;
            }
        }
        let rest = batch.rest();
        target.put(async |store| store.import_files(rest).await)
    }
}

/// Reads the files, and copies their bytes below a folder.
///
/// Errors: a text that names table and row, or the file that cannot be copied.
pub(super) fn import(
    reader: &Reader,
    target: &Target,
    report: &mut Report,
    people: &People,
    chat: &Chat,
    (media, into): (&Path, &Path),
) -> Result<Files, String> {
    let mut files = Files { last_id: reader.source.last_id(FILES.table)?, ..Files::default() };
    let there = reader.each(&FILES, |row| {
        let uploader = people.of(row, "user_id")?;
        let Some(room) = chat.has(row, "chatroom_id")? else {
            report.left_out(row.place(), "its room is left out");
            return Ok(());
        };
        let path = row.text("file")?;
        let Some(source) = inside(media, &path) else {
            report.left_out(row.place(), format!("{path:?} is no path inside the media folder"));
            return Ok(());
        };
        let created_at = row.time("created_at", &reader.zone)?;
        let input = match open(media, &source) {
            Ok(file) => file,
            Err(error) => {
                report.left_out(row.place(), format!("{}: {error}", source.display()));
                return Ok(());
            }
        };
        let mut head = Vec::new();
        let looked = (&input).take(kind::HEAD_BYTES as u64).read_to_end(&mut head);
        looked.map_err(|error| format!("{}: {error}", source.display()))?;
        let kind = kind::Kind::of(&head);
        let place = import_place(created_at, kind).map_err(|error| format!("no randomness: {error}"))?;
        let bytes = match target.is_dry() {
            true => input.metadata().map_or(0, |metadata| metadata.len()),
            false => {
                let to = into.join(&place.below_data);
                copy(&head, &input, &to).map_err(|error| format!("{}: {error}", to.display()))?
            }
        };
        let picture = kind.mime.starts_with("image/").then(|| picture::measure(&input)).flatten();
        let file = StoredFile {
            id: FileId(row.id("id")?),
            room: Some(room),
            uploader,
            name: place.name,
            folder: place.folder,
            title: path.rsplit('/').next().unwrap_or_default().to_owned(),
            content_type: kind.mime.to_owned(),
            bytes,
            text: row.maybe_text("text"),
            picture,
            created_at,
            message: None,
            shared: true,
        };
        if let Some(message) = row.maybe_id("message_id")? {
            files.by_message.entry(message).or_insert(files.files.len());
        }
        files.files.push(ImportedFile { file, old_path: format!("{LINKS}{path}") });
        Ok(())
    })?;
    report.table(FILES.table, there, files.files.len() as u64);
    Ok(files)
}

/// A stored path below the media folder; `None` when it would leave it.
fn inside(media: &Path, path: &str) -> Option<PathBuf> {
    let relative = Path::new(path);
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && !path.is_empty()).then(|| media.join(relative))
}

/// Opens a file of the media folder. A link that leads out of it is refused.
fn open(media: &Path, path: &Path) -> io::Result<File> {
    if !path.canonicalize()?.starts_with(media.canonicalize()?) {
        return Err(io::Error::other("leads out of the media folder"));
    }
    let file = File::open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("is no file")),
    }
}

/// Writes what was read and the rest to a new file, and puts it on the disk. Returns its bytes.
fn copy(head: &[u8], mut rest: &File, to: &Path) -> io::Result<u64> {
    private::make_dir(to.parent().unwrap_or(Path::new(".")))?;
    let mut out = private::make_file(to)?;
    out.write_all(head)?;
    let copied = io::copy(&mut rest, &mut out)?;
    out.sync_all()?;
    Ok(head.len() as u64 + copied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leaves_the_media_folder_is_none() {
        let media = Path::new("/srv/media");
        let found = inside(media, "uploads/chat_files/2026/11/26/عکس_من.jpg");
        assert_eq!(found, Some(media.join("uploads/chat_files/2026/11/26/عکس_من.jpg")));
        for path in ["", "/etc/passwd", "../x", "uploads/../../x", "uploads/.."] {
            assert_eq!(inside(media, path), None, "{path}");
        }
    }
}
