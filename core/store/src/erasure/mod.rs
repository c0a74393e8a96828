//! Erasing a person: the account at once, and its traces in bounded steps.
//!
//! [`Store::erasure_begin`] closes the account in one change: sessions, number, names, password and rights are gone
//! once it is answered, and the number may register anew. The same change stores an [`Erasure`], which stays until
//! every trace is removed, so a crash in between loses no work: the steps are repeatable, and a restart begins them
//! again. Changes that members of a room see (leaving, a removed file) are the caller's, because they are published.
//!
//! Money keeps account number, amounts, order and receipt, because postings are evidence. Free text of the person goes.

pub(crate) mod moving;
pub(crate) mod postgres;
pub(crate) mod sled;

use crate::chat::{FileId, RoomId, StoredFile};
use crate::engine::{Engine, boxed, on_engine};
use crate::login::challenge::Guesser;
use crate::{PaymentId, SpendId, Store, StoreError, Timestamp, UserId};

/// An account to erase.
#[derive(Clone)]
pub struct ErasureDraft {
    pub user: UserId,
    /// How the account's registered name looks, as in [`UserDraft`](crate::UserDraft).
    pub look: String,
    pub proof: ErasureProof,
    /// Gives up what the wallet holds.
    pub forfeit: bool,
    /// Who ordered it.
    pub by: UserId,
    pub now: Timestamp,
}

/// What entitles the caller.
#[derive(Clone)]
pub enum ErasureProof {
    /// A guess at a code of the account's number, opened under this name.
    Code { challenge: String, mac: [u8; 32], guesser: Guesser },
    /// The caller checked the password against this hash, which must still be the account's.
    Password { checked: Option<String> },
    /// The caller is entitled otherwise.
    Staff,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErasureBegun {
    /// With the rial that the wallet held.
    Begun {
        forfeited: u64,
    },
    Missing,
    /// Wrong, expired, used or never sent; or the password changed meanwhile.
    Refused,
    /// Not compared: this guesser has no guess left.
    Exhausted,
    /// An account with rights is not erased.
    HasRights,
    PaymentOpen(PaymentId),
    /// Rial that are held.
    Held(u64),
    /// Rial in the wallet, which the draft does not give up.
    Balance(u64),
}

/// An erasure whose traces are not all removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    pub user: UserId,
    pub at: Timestamp,
    /// The account's number, when no other account has it; empty otherwise.
    pub number: String,
}

impl Store {
    /// Closes an account and records that its traces are to be removed.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn erasure_begin(&self, draft: ErasureDraft) -> Result<ErasureBegun, StoreError> {
        on_engine!(self, erasure_begin(draft).await)
    }

    /// Erasures that are not finished, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn erasures_open(&self, limit: usize) -> Result<Vec<Erasure>, StoreError> {
        on_engine!(self, read erasures_open(limit))
    }

    /// Removes bans, marks of leaving and client ids of a user in at most `limit` rooms after one. Returns the room to
    /// continue after, `None` at the end.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn erasure_rooms(
        &self,
        user: UserId,
        after: RoomId,
        limit: usize,
    ) -> Result<Option<RoomId>, StoreError> {
        on_engine!(self, erasure_rooms(user, after, limit).await)
    }

    /// The files that a user uploaded among `limit` files after one, and where to continue.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn erasure_files(
        &self,
        user: UserId,
        after: FileId,
        limit: usize,
    ) -> Result<(Vec<StoredFile>, Option<FileId>), StoreError> {
        on_engine!(self, read erasure_files(user, after, limit))
    }

    /// Marks a file for removal, whatever uses it. Its bytes and its record follow as for every such file.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn erasure_file_doom(&self, file: FileId) -> Result<(), StoreError> {
        on_engine!(self, erasure_file_doom(file).await)
    }

    /// Removes at most `limit` records that belong to the user alone: contacts, blocks, declined pairs, idempotency
    /// keys, used tokens of another program. Returns their number; 0 means none remain.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn erasure_own(&self, user: UserId, limit: usize) -> Result<usize, StoreError> {
        on_engine!(self, erasure_own(user, limit).await)
    }

    /// Removes what the user's name was found by among `limit` looks after one, an empty text at first. Returns where
    /// to continue. [`Store::erasure_begin`] removes today's look; a look of an older version is another text.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn erasure_looks(
        &self,
        user: UserId,
        after: Vec<u8>,
        limit: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        on_engine!(self, erasure_looks(user, after, limit).await)
    }

    /// Removes other users' blocks of the user among `limit` blocks after one. Returns where to continue.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn erasure_blocks(
        &self,
        user: UserId,
        after: (UserId, UserId),
        limit: usize,
    ) -> Result<Option<(UserId, UserId)>, StoreError> {
        on_engine!(self, erasure_blocks(user, after, limit).await)
    }

    /// Removes other users' marks that they declined a pair of the user among `limit` marks after one. Returns where to
    /// continue.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn erasure_declines(
        &self,
        user: UserId,
        after: (UserId, UserId),
        limit: usize,
    ) -> Result<Option<(UserId, UserId)>, StoreError> {
        on_engine!(self, erasure_declines(user, after, limit).await)
    }

    /// Clears the free text of at most `limit` payments of the user after one: description, the gateway's sentences,
    /// claims, addresses to return to. Returns where to continue.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn erasure_payments(
        &self,
        user: UserId,
        after: PaymentId,
        limit: usize,
    ) -> Result<Option<PaymentId>, StoreError> {
        on_engine!(self, erasure_payments(user, after, limit).await)
    }

    /// Clears the descriptions of at most `limit` spends of the user after one. Returns where to continue.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn erasure_spends(
        &self,
        user: UserId,
        after: SpendId,
        limit: usize,
    ) -> Result<Option<SpendId>, StoreError> {
        on_engine!(self, erasure_spends(user, after, limit).await)
    }

    /// Removes at most `limit` messages to a number that are older than `before`, waiting ones included. Returns their
    /// number; 0 means none remain.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn erasure_messages(
        &self,
        number: &str,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        on_engine!(self, erasure_messages(number, before, limit).await)
    }

    /// Ends an erasure whose traces are removed.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn erasure_end(&self, user: UserId) -> Result<(), StoreError> {
        on_engine!(self, erasure_end(user).await)
    }
}
