//! Edits that every gateway over one database makes in its own files: of the configuration, and of components.
//!
//! Edits have numbers. A gateway makes them in their order and remembers the last one, so it also makes those that came
//! while it was down. Who enters an edit names the last one it made, and is refused when another came first: so two
//! operators at two gateways cannot undo each other unseen. Of a component only the newest edit is kept, of the
//! configuration the newest [`CONFIG_EDITS_MAX`].
//!
//! On sled the one gateway is alone: there are no edits. Not here: what an edit says, which its maker seals, and how
//! it is made (the gateway).

pub(crate) mod postgres;
pub(crate) mod sled;

use crate::engine::{Engine, boxed, on_engine};
use crate::{Store, StoreError, Timestamp};

/// Kept edits of the configuration.
pub const CONFIG_EDITS_MAX: u64 = 1000;

/// What an edit changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditOf {
    Config,
    /// The component of this name.
    Component(String),
}

/// An edit about to be entered.
#[derive(Clone)]
pub struct EditDraft {
    pub of: EditOf,
    /// Sealed, because a configuration holds secrets.
    pub sealed: Vec<u8>,
    /// The gateway where it was made, for operators.
    pub made_at: String,
    pub now: Timestamp,
}

/// An entered edit.
#[derive(Clone)]
pub struct Edit {
    /// From 1, ascending; some are missing.
    pub number: u64,
    pub of: EditOf,
    pub sealed: Vec<u8>,
    pub made_at: String,
}

impl Store {
    /// Enters an edit after the one with the number `after`, and returns its own. `None` when another one came since;
    /// nothing is entered then.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn edit_enter(&self, after: u64, draft: EditDraft) -> Result<Option<u64>, StoreError> {
        on_engine!(self, edit_enter(after, draft).await)
    }

    /// The number of the last edit, 0 without one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    #[boxed]
    pub async fn edit_last(&self) -> Result<u64, StoreError> {
        on_engine!(self, read edit_last())
    }

    /// The first edit after a number.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn edit_after(&self, number: u64) -> Result<Option<Edit>, StoreError> {
        on_engine!(self, read edit_after(number))
    }
}
