//! What a stop, or a place that is away, left unfinished: found in the folder of received files and finished later.
//!
//! A received file is named `DAY_NAME` until it settles, and `DAY_NAME@UPLOAD` when it was a resumable upload, so its
//! name says where its bytes may have been copied. With a record it settles. Without one it is withdrawn; the bytes
//! of a resumable upload go back to it, and its client goes on. `DAY_NAME.gone` says that a copy is still to be
//! withdrawn. Invariant: nothing here touches a file of a running request.

use std::io;
use std::path::{Path, PathBuf};

use chelseru_domain::files::place::PlaceError;

use super::folder::removed;
use super::incoming::Received;
use super::{FileError, FileStore, below, folder_of_day, lock, picture};

/// After the name of a received file: the copy that is still to be withdrawn.
const GONE: &str = ".gone";

/// The name of a received file, taken apart.
struct Named<'a> {
    /// `None` in names of older versions.
    day: Option<&'a str>,
    name: &'a str,
    /// The resumable upload that it was.
    upload: Option<&'a str>,
    is_thumbnail: bool,
}

impl<'a> Named<'a> {
    fn read(text: &'a str) -> Named<'a> {
        let (text, is_thumbnail) =
            text.strip_suffix(picture::SUFFIX).map_or((text, false), |text| (text, true));
        let (day, text) = text.split_once('_').map_or((None, text), |(day, text)| (Some(day), text));
        let (name, upload) = text.split_once('@').map_or((text, None), |(name, id)| (name, Some(id)));
        Named { day, name, upload, is_thumbnail }
    }

    /// Where its copy may be, without a record that says so.
    fn path(&self) -> Option<String> {
        let path = format!("{}{}", below(&folder_of_day(self.day?)), self.name);
        Some(if self.is_thumbnail { picture::beside_path(&path) } else { path })
    }
}

impl Received {
    /// Removes it with its thumbnail from the incoming folder.
    pub(super) async fn discard(&self) -> Result<(), FileError> {
        removed(tokio::fs::remove_file(picture::beside(&self.local)).await)?;
        Ok(tokio::fs::remove_file(&self.local).await?)
    }
}

impl FileStore {
    /// Goes on with everything that an earlier process left.
    pub(super) async fn recover(&self) -> io::Result<()> {
        let mut others = Vec::new();
        for entry in std::fs::read_dir(&self.incoming)? {
            let path = entry?.path();
            let name = file_name(&path);
            if name.ends_with(GONE) || name.contains('_') {
                // First, because bytes may go back to a resumable upload.
                self.finish_or_keep(path).await?;
            } else {
                others.push(path);
            }
        }
        for path in others {
            if !self.recover_resumable(&path, file_name(&path)) {
                self.finish_or_keep(path).await?;
            }
        }
        Ok(())
    }

    /// Goes on with what could not be finished before, because the place was away.
    pub async fn finish_left(&self) {
        let waiting = lock(&self.left).len();
        for _ in 0..waiting {
            let Some(path) = lock(&self.left).pop() else { return };
            match self.finish_or_keep(path.clone()).await {
                Ok(true) => {}
                // The others would wait for the place as long as this one.
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%error, file = %path.display(), "a received file could not be finished");
                    lock(&self.left).push(path);
                    return;
                }
            }
        }
    }

    /// Takes back a received file whose offer failed: a copy is withdrawn later, and a resumable upload gets its bytes
    /// back.
    pub(super) async fn return_received(&self, received: &Received) -> Result<(), FileError> {
        self.withdraw_later(received).await?;
        self.put_back(received).await
    }

    /// Takes back a received file whose record could not be stored, as [`FileStore::return_received`].
    pub(super) async fn take_back(&self, received: &Received) -> Result<(), FileError> {
        self.withdraw(received).await?;
        self.put_back(received).await
    }

    async fn put_back(&self, received: &Received) -> Result<(), FileError> {
        removed(tokio::fs::remove_file(picture::beside(&received.local)).await)?;
        match &received.part {
            Some(part) => tokio::fs::rename(&received.local, part).await?,
            None => tokio::fs::remove_file(&received.local).await?,
        }
        Ok(())
    }

    /// Removes a received file whose record was refused, with its copies.
    pub(super) async fn drop_received(&self, received: &Received) -> Result<(), FileError> {
        self.withdraw(received).await?;
        received.discard().await
    }

    /// Withdraws the copies of a received file, now or later.
    async fn withdraw(&self, received: &Received) -> io::Result<()> {
        let path = received.path();
        for copy in [picture::beside_path(&path), path] {
            if let Err(error) = self.place.withdraw(&copy).await {
                tracing::debug!(%error, "a copy is withdrawn later");
                return self.withdraw_later(received).await;
            }
        }
        Ok(())
    }

    async fn withdraw_later(&self, received: &Received) -> io::Result<()> {
        let name = file_name(&received.local).split('@').next().unwrap_or_default();
        let mark = self.incoming.join(format!("{name}{GONE}"));
        tokio::fs::File::create(&mark).await?.sync_all().await?;
        lock(&self.left).push(mark);
        Ok(())
    }

    /// Finishes a file, or notes it for a later attempt while the place does not answer and returns false.
    async fn finish_or_keep(&self, path: PathBuf) -> io::Result<bool> {
        match self.finish(&path).await {
            Ok(()) => Ok(true),
            Err(FileError::Disk(error)) => Err(error),
            Err(FileError::Chat(error)) => Err(io::Error::other(error)),
            Err(error) => {
                tracing::debug!(%error, file = %path.display(), "a received file is finished later");
                lock(&self.left).push(path);
                Ok(false)
            }
        }
    }

    async fn finish(&self, local: &Path) -> Result<(), FileError> {
        let text = file_name(local);
        if let Some(text) = text.strip_suffix(GONE) {
            if let Some(path) = Named::read(text).path() {
                self.place.withdraw(&path).await?;
                self.place.withdraw(&picture::beside_path(&path)).await?;
            }
            return Ok(tokio::fs::remove_file(local).await?);
        }
        let named = Named::read(text);
        if let Some(file) = self.chat.file_by_name(named.name).await? {
            let path = FileStore::path(&file);
            let path = if named.is_thumbnail { picture::beside_path(&path) } else { path };
            // An earlier process may have had another place.
            self.place.offer(local, &path).await?;
            return Ok(self.place.settle(local, &path).await?);
        }
        if let Some(path) = named.path() {
            self.place.withdraw(&path).await?;
        }
        let upload = named.upload.filter(|_| !named.is_thumbnail).filter(|id| self.has_state(id));
        match upload {
            Some(id) => Ok(tokio::fs::rename(local, self.part(id)).await?),
            None => Ok(tokio::fs::remove_file(local).await?),
        }
    }
}

impl From<PlaceError> for FileError {
    fn from(error: PlaceError) -> FileError {
        match error {
            PlaceError::Missing => FileError::Disk(io::ErrorKind::NotFound.into()),
            PlaceError::NoDescriptor => FileError::NoDescriptor,
            PlaceError::Disk(error) => FileError::Disk(error),
            error @ (PlaceError::Away(_) | PlaceError::Refused(_)) => FileError::Away(error.to_string()),
        }
    }
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_received_file_says_where_its_copy_is() {
        let path = |text: &str| Named::read(text).path();
        let whole = "chat_files/2026/11/27/ab.png";
        assert_eq!(path("2026-11-27_ab.png").as_deref(), Some(whole));
        assert_eq!(path("2026-11-27_ab.png@up").as_deref(), Some(whole));
        let thumbnail = path("2026-11-27_ab.png@up.thumbnail");
        assert_eq!(thumbnail.as_deref(), Some("chat_files/2026/11/27/ab.png.thumbnail"));
        assert_eq!(path("ab.png"), None, "a name of an older version");
        assert_eq!(Named::read("ab.png.thumbnail").name, "ab.png");
        assert_eq!(Named::read("2026-11-27_ab.png@up").upload, Some("up"));
    }
}
