//! Resumable uploads that go on at another gateway than the one where they were last.
//!
//! Where gateways share `uploads/`, each has a folder of received files of its own in it. A gateway that is asked for
//! an upload which lies in another one's folder moves it into its own: state first, then bytes, then the old state
//! goes. Whoever writes bytes holds a lock of the operating system on them, so two gateways never write at once; who
//! finds them locked, or on their way, answers that the upload is in use. The gateway where it was finds its state gone
//! and forgets it. Where the folders are not shared, the upload's id tells that it is another gateway's
//! ([`FileStore::is_elsewhere`]).
//!
//! Invariant: an upload that is in use is not moved. A crash in the middle leaves a state without bytes, which the next
//! start removes; its client begins anew.

use std::fs::TryLockError;
use std::io;
use std::path::PathBuf;

use chelseru_domain::ids::UserId;
use tokio::fs::File;

use super::incoming::random_name;
use super::resumable::{PART, STATE, Upload, or_in_use};
use super::{FileError, FileStore, INCOMING, lock};

/// Between a gateway's mark and the random part of an id.
const AFTER_MARK: char = '-';

impl FileStore {
    /// An id for a new upload, which names this gateway if there are others.
    pub(super) fn new_id(&self) -> io::Result<String> {
        let random = random_name()?;
        Ok(self.node.as_ref().map_or(random.clone(), |node| format!("{node}{AFTER_MARK}{random}")))
    }

    /// Whether an id is of an upload that another gateway began.
    #[must_use]
    pub fn is_elsewhere(&self, id: &str) -> bool {
        let mark = id.split_once(AFTER_MARK).map(|(mark, _)| mark);
        self.node.is_some() && mark.is_some() && mark != self.node.as_deref()
    }

    /// Whether an upload that is known here was not taken over by another gateway.
    pub(super) async fn is_here(&self, id: &str) -> io::Result<bool> {
        if self.node.is_none() {
            return Ok(true);
        }
        tokio::fs::try_exists(self.state(id)).await
    }

    /// Forgets the uploads of a user that other gateways took over, so that they do not count here.
    pub(super) async fn forget_moved(&self, user: UserId) -> io::Result<()> {
        let own: Vec<_> = {
            let resumable = lock(&self.resumable);
            resumable.iter().filter(|(_, begun)| begun.user == user).map(|(id, _)| id.clone()).collect()
        };
        for id in own {
            if !self.is_here(&id).await? {
                lock(&self.resumable).remove(&id);
            }
        }
        Ok(())
    }

    /// Moves a user's upload here from the folder of another gateway; `None` when no folder has it.
    ///
    /// # Errors
    ///
    /// [`FileError::InUse`], [`FileError::Disk`].
    pub(super) async fn take_over(&self, id: &str, user: UserId) -> Result<Option<Upload>, FileError> {
        // An id is a part of a path here.
        let is_id = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == AFTER_MARK as u8);
        let folder = if is_id { self.folder_of(id).await? } else { None };
        let Some(folder) = folder else { return Ok(None) };
        let (state, part) = (folder.join(format!("{id}.{STATE}")), folder.join(format!("{id}.{PART}")));
        let bytes = tokio::fs::read(&state).await.map_err(or_in_use)?;
        let read = serde_json::from_slice::<Upload>(&bytes);
        let Some(upload) = read.ok().filter(|upload| upload.user == user && upload.id == id) else {
            return Ok(None);
        };
        if upload.is_finished() {
            self.save(&upload).await?;
        } else {
            let bytes = File::options().write(true).open(&part).await.map_err(or_in_use)?;
            // Held until the bytes are here.
            let _claimed = self.claim(bytes).await?;
            self.save(&upload).await?;
            if let Err(error) = tokio::fs::rename(&part, self.part(id)).await {
                tokio::fs::remove_file(self.state(id)).await?;
                return Err(or_in_use(error));
            }
        }
        match tokio::fs::remove_file(&state).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(Some(upload)),
        }
    }

    /// The folder of another gateway that has the state of an upload.
    async fn folder_of(&self, id: &str) -> io::Result<Option<PathBuf>> {
        let Some(all) = self.incoming.parent().filter(|_| self.node.is_some()) else { return Ok(None) };
        let mut entries = tokio::fs::read_dir(all).await?;
        while let Some(entry) = entries.next_entry().await? {
            let is_incoming = entry.file_name().to_string_lossy().starts_with(INCOMING);
            let folder = entry.path();
            if is_incoming
                && folder != self.incoming
                && tokio::fs::try_exists(folder.join(format!("{id}.{STATE}"))).await?
            {
                return Ok(Some(folder));
            }
        }
        Ok(None)
    }

    /// Locks an upload's bytes against other gateways for as long as they are open. Requests of this one are told apart
    /// in memory.
    pub(super) async fn claim(&self, bytes: File) -> Result<File, FileError> {
        if self.node.is_none() {
            return Ok(bytes);
        }
        let bytes = bytes.into_std().await;
        let claimed = tokio::task::spawn_blocking(move || bytes.try_lock().map(|()| bytes)).await;
        match claimed.map_err(io::Error::other)? {
            Ok(bytes) => Ok(File::from_std(bytes)),
            Err(TryLockError::WouldBlock) => Err(FileError::InUse),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }
}
