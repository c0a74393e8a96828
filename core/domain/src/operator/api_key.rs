//! API keys: a program's proof that it may send.
//!
//! A key is written `ck_<number>_<64 hex digits>`. The number finds the record; the rest is 32 random bytes, of which
//! only a SHA-256 is stored, because a random secret needs no slow hash. Invariants: a revoked key opens nothing from
//! the next request on; a wrong number and a wrong secret get the same reply.

use std::fmt::Write;
use std::sync::Arc;

pub use chelseru_store::ApiKey;
use chelseru_store::{ApiKeyDraft, Store, StoreError};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{Clock, Timestamp};

/// Scopes of a key.
pub const SCOPES: &[&str] =
    &["sms", "operator:viewer", "operator:support", "operator:finance", "operator:admin"];
/// Characters of a key's name.
pub const NAME_CHARS_MAX: usize = 100;

const PREFIX: &str = "ck_";

/// A new key. The token is shown only once.
pub struct NewApiKey {
    pub key: ApiKey,
    pub token: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ApiKeyError {
    #[error("unknown scope {0:?}; accepted: {accepted}", accepted = SCOPES.join(", "))]
    UnknownScope(String),
    #[error("a name must have at most 100 characters and no line break")]
    BadName,
    #[error("a daily cap must be at least 1")]
    BadCap,
    #[error("the maximum number of API keys exists")]
    TooMany,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no randomness from the operating system")]
    Randomness(#[source] std::io::Error),
}

/// The keys of one store.
#[derive(Clone)]
pub struct ApiKeys {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl ApiKeys {
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> ApiKeys {
        ApiKeys { store, clock }
    }

    /// See [`create`].
    ///
    /// # Errors
    ///
    /// See [`ApiKeyError`].
    pub async fn create(
        &self,
        name: &str,
        scope: &str,
        daily_cap: Option<u64>,
    ) -> Result<NewApiKey, ApiKeyError> {
        create(&self.store, self.clock.now(), name, scope, daily_cap).await
    }

    /// The key that a token opens; see [`verify`].
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn verify(&self, token: &str) -> Result<Option<ApiKey>, StoreError> {
        verify(&self.store, token).await
    }

    /// Every key, including revoked ones.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn list(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.store.api_keys().await
    }

    /// Revokes a key. False when there is none with this number.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn revoke(&self, id: u64) -> Result<bool, StoreError> {
        self.store.api_key_revoke(id, self.clock.now()).await
    }
}

/// Creates a key.
///
/// # Errors
///
/// See [`ApiKeyError`].
pub async fn create(
    store: &Store,
    now: Timestamp,
    name: &str,
    scope: &str,
    daily_cap: Option<u64>,
) -> Result<NewApiKey, ApiKeyError> {
    if !SCOPES.contains(&scope) {
        return Err(ApiKeyError::UnknownScope(scope.to_owned()));
    }
    if name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(ApiKeyError::BadName);
    }
    if daily_cap == Some(0) {
        return Err(ApiKeyError::BadCap);
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| ApiKeyError::Randomness(std::io::Error::other(error)))?;
    let draft = ApiKeyDraft {
        name: name.to_owned(),
        scope: scope.to_owned(),
        hash: Sha256::digest(secret).into(),
        daily_cap,
        created_at: now,
    };
    let key = store.api_key_create(draft).await?.ok_or(ApiKeyError::TooMany)?;
    let mut token = format!("{PREFIX}{}_", key.id);
    for byte in secret {
        // Writing to a String cannot fail.
        let _ = write!(token, "{byte:02x}");
    }
    Ok(NewApiKey { key, token })
}

/// The key of a valid token; `None` for any other text or a revoked key.
///
/// # Errors
///
/// [`StoreError::Read`], [`StoreError::Record`].
pub async fn verify(store: &Store, token: &str) -> Result<Option<ApiKey>, StoreError> {
    let Some((id, secret)) = parse(token) else { return Ok(None) };
    let hash: [u8; 32] = Sha256::digest(secret).into();
    let key = store.api_key_get(id).await?;
    Ok(key.filter(|key| bool::from(key.hash.ct_eq(&hash)) && key.revoked_at.is_none()))
}

fn parse(token: &str) -> Option<(u64, [u8; 32])> {
    let (id, hex) = token.strip_prefix(PREFIX)?.split_once('_')?;
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut secret = [0; 32];
    for (index, byte) in secret.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).ok()?;
    }
    Some((id.parse().ok()?, secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chelseru_store::StoreOptions;

    #[tokio::test]
    async fn a_key_opens_until_it_is_revoked_and_no_other_text_does() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        let now = Timestamp::from_secs(1);
        let NewApiKey { key, token } = create(&store, now, "shop", "sms", Some(10)).await.unwrap();
        assert_eq!(verify(&store, &token).await.unwrap(), Some(key.clone()));
        let last = if token.ends_with('0') { "1" } else { "0" };
        let forged = format!("{}{last}", &token[..token.len() - 1]);
        let other_number = token.replacen("ck_1_", "ck_2_", 1);
        for wrong in
            ["", "ck_", "ck_1_", "ck_1_zz", &forged, &other_number, &token[3..], &format!("{token}0")]
        {
            assert_eq!(verify(&store, wrong).await.unwrap(), None, "{wrong}");
        }
        let stored = format!("{:?}", store.api_keys().await.unwrap());
        assert!(!stored.contains(&token[5..20]), "{stored}");
        assert!(store.api_key_revoke(key.id, now).await.unwrap());
        assert!(!store.api_key_revoke(key.id, now).await.unwrap());
        assert_eq!(verify(&store, &token).await.unwrap(), None);
        assert_eq!(store.api_keys().await.unwrap()[0].revoked_at, Some(now));
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        let now = Timestamp::from_secs(1);
        for (name, scope, cap) in [
            ("x", "everything", None),
            ("a\nb", "sms", None),
            (&*"x".repeat(101), "sms", None),
            ("x", "sms", Some(0)),
        ] {
            assert!(create(&store, now, name, scope, cap).await.is_err(), "{name:?} {scope} {cap:?}");
        }
        assert!(create(&store, now, &"x".repeat(100), "sms", Some(1)).await.is_ok());
    }
}
