//! Keys of messages: `q` and a second byte.

use super::{be, joined};
use crate::Timestamp;
use sled::IVec;

pub(crate) const MESSAGES: &[u8] = b"qm";
pub(crate) const DUE: &[u8] = b"qd";
pub(crate) const BEGUN: &[u8] = b"qb";
pub(crate) const API_KEYS: &[u8] = b"qa";
pub(crate) const API_KEY_SEQUENCE: &[u8] = b"qzseq-api-key";
pub(crate) const IDEMPOTENCY_TIMES: &[u8] = b"qt";
/// Number of waiting messages.
pub(crate) const WAITING: &[u8] = b"qzwaiting";
/// Number of stored idempotency keys.
pub(crate) const IDEMPOTENCY_COUNT: &[u8] = b"qzidempotency";

pub(crate) fn message(id: u64) -> IVec {
    joined(b'q', &[b"m", &be(id)])
}

pub(crate) fn due(at: Timestamp, id: u64) -> IVec {
    joined(b'q', &[b"d", &be(at.as_micros()), &be(id)])
}

pub(crate) fn begun(id: u64) -> IVec {
    joined(b'q', &[b"b", &be(id)])
}

pub(crate) fn of_number(number: &str, id: u64) -> IVec {
    joined(b'q', &[b"n", number.as_bytes(), b"\0", &be(id)])
}

pub(crate) fn of_provider(provider: &str, provider_message_id: &str) -> IVec {
    joined(b'q', &[b"p", provider.as_bytes(), b"\0", provider_message_id.as_bytes()])
}

pub(crate) fn poll(at: Timestamp, id: u64) -> IVec {
    joined(b'q', &[b"s", &be(at.as_micros()), &be(id)])
}

pub(crate) fn idempotency(key: &[u8; 32]) -> IVec {
    joined(b'q', &[b"i", key])
}

pub(crate) fn idempotency_time(at: Timestamp, key: &[u8; 32]) -> IVec {
    joined(b'q', &[b"t", &be(at.as_micros()), key])
}

pub(crate) fn usage(owner: u64) -> IVec {
    joined(b'q', &[b"u", &be(owner)])
}

pub(crate) fn api_key(id: u64) -> IVec {
    joined(b'q', &[b"a", &be(id)])
}

/// The id at the end of a key.
pub(crate) fn id_of(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The instant after the two kind bytes of a key.
pub(crate) fn due_of(key: &[u8]) -> Option<Timestamp> {
    let bytes = key.get(2..10)?.try_into().ok()?;
    Some(Timestamp::from_micros(u64::from_be_bytes(bytes)))
}
