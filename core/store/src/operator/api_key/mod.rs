//! API keys: the credential of a program, in place of a person's token.
//!
//! A key is stored as a hash of its secret part and found by its number. A revoked key stays, so messages keep an
//! owner and a list shows when it was revoked. Not here: the form and hash of a key, and what a scope allows
//! (`chelseru-domain::api_key`).

pub(crate) mod postgres;
pub(crate) mod sled;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, boxed, on_engine};
use crate::{Store, StoreError, Timestamp};

/// Most keys in a store, revoked ones included.
pub(crate) const API_KEYS_MAX: usize = 1000;

#[derive(Debug, Clone)]
pub struct ApiKeyDraft {
    pub name: String,
    pub scope: String,
    /// Hash of the secret part.
    pub hash: [u8; 32],
    /// Messages per day.
    pub daily_cap: Option<u64>,
    pub created_at: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    pub hash: [u8; 32],
    pub id: u64,
    pub name: String,
    pub scope: String,
    pub daily_cap: Option<u64>,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKey").field("id", &self.id).field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl Store {
    /// Stores a new key; `None` when the maximum number of keys exists.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn api_key_create(&self, draft: ApiKeyDraft) -> Result<Option<ApiKey>, StoreError> {
        on_engine!(self, api_key_create(draft).await)
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn api_key_get(&self, id: u64) -> Result<Option<ApiKey>, StoreError> {
        on_engine!(self, read api_key_get(id))
    }

    /// All keys, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        on_engine!(self, read api_keys())
    }

    /// Revokes a key; false when it does not exist or is already revoked.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn api_key_revoke(&self, id: u64, now: Timestamp) -> Result<bool, StoreError> {
        on_engine!(self, api_key_revoke(id, now).await)
    }
}
