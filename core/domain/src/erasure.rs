//! Erasing a person: what follows once the account is closed.
//!
//! [`Identity::erase`](crate::login::identity::Identity::erase) closes the account in one durable change.
//! [`Eraser::run`] then removes its traces, and begins again after a restart as long as the store lists the erasure.
//! Each step is repeatable. Members of rooms see the changes as if the user had done them: the user leaves, an owner's
//! group passes to another member, and messages lose the user's files. Texts of messages stay, as those of a removed
//! account. Invariants: an erasure ends only when a whole pass is done; nothing of another person is removed.
//!
//! Not here: the account itself (`login::identity`), and the bytes of files, which are behind [`FileBytes`].

use std::future::Future;
use std::sync::Arc;

use chelseru_store::chat::{FileId, RoomId, StoredFile};
use chelseru_store::{Erasure, PaymentId, SpendId, Store, StoreError};

use crate::chat::{ChatError, ChatService};
use crate::files::place::PlaceError;
use crate::ids::UserId;

/// Records examined in one step.
const STEP: usize = 500;
/// Erasures that one round works on.
const ERASURES_MAX: usize = 100;

/// The bytes of uploaded files.
pub trait FileBytes: Send + Sync {
    /// Removes a file's bytes; missing ones are no error.
    fn remove(&self, file: &StoredFile) -> impl Future<Output = Result<(), PlaceError>> + Send;

    /// Ends a user's running uploads and removes the unfinished ones. An error means that one could not be ended in
    /// time; implementations do not wait for a client.
    fn abandon(&self, uploader: UserId) -> impl Future<Output = std::io::Result<()>> + Send;
}

#[derive(Debug, thiserror::Error)]
pub enum EraseFault {
    #[error(transparent)]
    Chat(#[from] ChatError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bytes(#[from] PlaceError),
    #[error("disk error: {0}")]
    Disk(#[from] std::io::Error),
}

/// Removes the traces of erased accounts.
pub struct Eraser {
    store: Store,
    chat: Arc<ChatService>,
}

impl Eraser {
    #[must_use]
    pub fn new(store: Store, chat: Arc<ChatService>) -> Eraser {
        Eraser { store, chat }
    }

    /// Finishes the erasures that the store lists, and returns their number. One that fails does not stop those behind
    /// it. Cancellation: may be dropped; the next call begins the interrupted erasure again.
    ///
    /// # Errors
    ///
    /// See [`EraseFault`]: of the first erasure that failed, after all were tried. A later call tries again.
    pub async fn run(&self, bytes: &impl FileBytes) -> Result<usize, EraseFault> {
        let open = self.store.erasures_open(ERASURES_MAX).await?;
        let mut first = None;
        for erasure in &open {
            let user = erasure.user.0;
            match self.finish(erasure, bytes).await {
                Ok(()) => tracing::info!(user.id = user, "an account's traces were erased"),
                Err(error) => {
                    tracing::warn!(user.id = user, %error, "traces of an erased account could not be removed");
                    first.get_or_insert(error);
                }
            }
        }
        first.map_or(Ok(open.len()), Err)
    }

    async fn finish(&self, erasure: &Erasure, bytes: &impl FileBytes) -> Result<(), EraseFault> {
        let user = erasure.user;
        bytes.abandon(user).await?;
        self.chat.depart_all(user).await?;
        self.files(user, bytes).await?;
        self.chat.organizations_drop(user).await?;
        let mut after = RoomId(0);
        while let Some(last) = self.store.erasure_rooms(user, after, STEP).await? {
            after = last;
            tokio::task::yield_now().await;
        }
        while self.store.erasure_own(user, STEP).await? > 0 {}
        let mut after = Vec::new();
        while let Some(last) = self.store.erasure_looks(user, after, STEP).await? {
            after = last;
            tokio::task::yield_now().await;
        }
        let mut after = (UserId(0), UserId(0));
        while let Some(last) = self.store.erasure_blocks(user, after, STEP).await? {
            after = last;
            tokio::task::yield_now().await;
        }
        let mut after = (UserId(0), UserId(0));
        while let Some(last) = self.store.erasure_declines(user, after, STEP).await? {
            after = last;
            tokio::task::yield_now().await;
        }
        self.money(user).await?;
        if !erasure.number.is_empty() {
            while self.store.erasure_messages(&erasure.number, erasure.at, STEP).await? > 0 {}
        }
        // A request that was running when the account was closed may have opened a room since.
        self.chat.depart_all(user).await?;
        Ok(self.store.erasure_end(user).await?)
    }

    async fn files(&self, user: UserId, bytes: &impl FileBytes) -> Result<(), EraseFault> {
        let mut after = FileId(0);
        loop {
            let (files, last) = self.store.erasure_files(user, after, STEP).await?;
            for file in files {
                self.chat.file_drop(&file).await?;
                self.store.erasure_file_doom(file.id).await?;
                bytes.remove(&file).await?;
                self.chat.file_forget(file.id).await?;
            }
            match last {
                Some(last) => after = last,
                None => return Ok(()),
            }
            tokio::task::yield_now().await;
        }
    }

    async fn money(&self, user: UserId) -> Result<(), EraseFault> {
        let mut after = PaymentId(0);
        while let Some(last) = self.store.erasure_payments(user, after, STEP).await? {
            after = last;
        }
        let mut after = SpendId(0);
        while let Some(last) = self.store.erasure_spends(user, after, STEP).await? {
            after = last;
        }
        Ok(())
    }
}
