//! Idempotency: a request that is sent again is carried out once.
//!
//! A caller names its request with a key. The store keeps a hash of the key and one of the request for a day: the same
//! key with the same request gets the first answer, with another request it is refused. Hashes, because a key may be a
//! customer's number and a request holds personal data.

use std::time::Duration;

use chelseru_store::Once;
use sha2::{Digest, Sha256};

use crate::Timestamp;

/// How long an idempotency key is kept.
pub const IDEMPOTENCY_TTL: Duration = Duration::from_secs(24 * 3600);

/// An idempotency key of a kind of request, and the request it stands for.
pub(crate) fn once(kind: &str, key: &str, parts: &[&[u8]], now: Timestamp) -> Once {
    let digest = |parts: &[&[u8]]| -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in parts {
            // The lengths keep two different lists of parts apart.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    };
    Once {
        key: digest(&[kind.as_bytes(), key.as_bytes()]),
        request: digest(parts),
        keep_until: now.plus(IDEMPOTENCY_TTL),
    }
}
