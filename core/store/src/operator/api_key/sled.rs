//! API keys: what a program shows instead of a person's token.
//!
//! A key is stored as a hash of its secret part and found by its number. A revoked key stays, so that messages
//! keep an owner and a list shows when it ended. Not here: how a key is written and hashed, and what a scope
//! allows (`chelseru-domain::api_key`).

use serde::{Deserialize, Serialize};

use crate::engine::sled::error;
use crate::engine::sled::keys::sms as keys;
use crate::engine::sled::record::{Record, decode};
use crate::{Store, StoreError, Timestamp};

/// Keys that a store holds, revoked ones included.
const API_KEYS_MAX: usize = 1000;

#[derive(Debug, Clone)]
pub struct ApiKeyDraft {
    pub name: String,
    pub scope: String,
    /// Hash of the secret part.
    pub hash: [u8; 32],
    /// Messages a day.
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

impl Record for ApiKey {
    const KIND: &'static str = "API key";
    const SCHEMA: u8 = 1;
}

impl Store {
    /// Stores a new key; `None` when there are as many as a store holds.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn api_key_create(&self, draft: ApiKeyDraft) -> Result<Option<ApiKey>, StoreError> {
        self.change(move |txn| {
            if txn.scan(keys::API_KEYS, API_KEYS_MAX)?.len() >= API_KEYS_MAX {
                return Ok(None);
            }
            let id = txn.next(keys::API_KEY_SEQUENCE)?;
            let ApiKeyDraft { name, scope, hash, daily_cap, created_at } = draft;
            let key = ApiKey { hash, id, name, scope, daily_cap, created_at, revoked_at: None };
            txn.put_record(keys::api_key(id), &key);
            Ok(Some(key))
        })
        .await
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn api_key_get(&self, id: u64) -> Result<Option<ApiKey>, StoreError> {
        let bytes = self.tree.get(keys::api_key(id)).map_err(error::read)?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }

    /// All keys, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        let entries = self.tree.scan_prefix(keys::API_KEYS);
        entries.map(|entry| decode(&entry.map_err(error::read)?.1)).collect()
    }

    /// Ends a key; false when there is none with this number or it has ended before.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn api_key_revoke(&self, id: u64, now: Timestamp) -> Result<bool, StoreError> {
        self.change(move |txn| {
            let found = txn.get_record::<ApiKey>(&keys::api_key(id))?;
            let Some(mut key) = found.filter(|key| key.revoked_at.is_none()) else { return Ok(false) };
            key.revoked_at = Some(now);
            txn.put_record(keys::api_key(id), &key);
            Ok(true)
        })
        .await
    }
}
