//! The operations of this folder, in sled statements.

use crate::engine::sled::keys::sms as keys;
use crate::engine::sled::record::{Record, decode};
use crate::engine::sled::{Sled, error};
use crate::operator::api_key::{API_KEYS_MAX, ApiKey, ApiKeyDraft};
use crate::{StoreError, Timestamp};

impl Record for ApiKey {
    const KIND: &'static str = "API key";
    const SCHEMA: u8 = 1;
}

impl Sled {
    pub(crate) async fn api_key_create(&self, draft: ApiKeyDraft) -> Result<Option<ApiKey>, StoreError> {
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

    pub(crate) fn api_key_get(&self, id: u64) -> Result<Option<ApiKey>, StoreError> {
        let bytes = self.tree.get(keys::api_key(id)).map_err(error::read)?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }

    pub(crate) fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        let entries = self.tree.scan_prefix(keys::API_KEYS);
        entries.map(|entry| decode(&entry.map_err(error::read)?.1)).collect()
    }

    pub(crate) async fn api_key_revoke(&self, id: u64, now: Timestamp) -> Result<bool, StoreError> {
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
