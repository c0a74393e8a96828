//! Idempotency: a repeated request is carried out once.
//!
//! A client names its request with a key. The store keeps a hash of the key and a hash of the request for a day: the
//! same key with the same request gets the first reply, and with another request it is refused. Only hashes are kept,
//! because a key may be a customer's number and a request holds personal data. Messages, payments, spends and refunds
//! share the rule of the key and the hash.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chelseru_store::Once;
use sha2::{Digest, Sha256};

use crate::Timestamp;

/// How long a key is kept.
pub const TTL: Duration = Duration::from_secs(24 * 3600);

/// Characters of a key.
pub const CHARS_MAX: usize = 255;

/// A client's name for one request: 1 to 255 visible ASCII characters.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// The header holds several keys, or one that is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Send exactly one Idempotency-Key of 1 to {CHARS_MAX} visible ASCII characters.")]
pub struct InvalidKey;

impl IdempotencyKey {
    /// The key of a header's values; `None` without any.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`].
    pub fn of<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<IdempotencyKey>, InvalidKey> {
        let mut values = values.into_iter();
        let Some(value) = values.next() else { return Ok(None) };
        match (std::str::from_utf8(value), values.next()) {
            (Ok(text), None) => text.parse().map(Some),
            _ => Err(InvalidKey),
        }
    }
}

impl FromStr for IdempotencyKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let fits = (1..=CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(IdempotencyKey(text.to_owned())) } else { Err(InvalidKey) }
    }
}

/// Without the key, which may be a customer's number.
impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdempotencyKey(..)")
    }
}

/// What a key is for. Keys of different kinds are different keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    Payment,
    Spend,
    Refund,
    Correction,
    /// A message of one sender, by a name that no other sender has.
    Message(&'a str),
}

/// A key and its request as the store compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashes {
    pub key: [u8; 32],
    pub request: [u8; 32],
}

impl Hashes {
    /// Hashes a key and the parts of its request.
    #[must_use]
    pub fn of(kind: Kind<'_>, key: &IdempotencyKey, request: &[&[u8]]) -> Hashes {
        let key = key.0.as_bytes();
        let key = match kind {
            Kind::Payment => digest(&[b"payment", key]),
            Kind::Spend => digest(&[b"spend", key]),
            Kind::Refund => digest(&[b"refund", key]),
            Kind::Correction => digest(&[b"correction", key]),
            Kind::Message(sender) => digest(&[b"message", sender.as_bytes(), key]),
        };
        Hashes { key, request: digest(request) }
    }

    /// With the end of their time.
    pub(crate) fn once(self, now: Timestamp) -> Once {
        Once { key: self.key, request: self.request, keep_until: now.plus(TTL) }
    }
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        // The lengths keep different lists of parts apart.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> IdempotencyKey {
        text.parse().unwrap()
    }

    #[test]
    fn one_key_of_1_to_255_visible_characters_is_accepted() {
        let longest = "k".repeat(CHARS_MAX);
        for text in ["k", "!~", "a-1_b", &longest] {
            assert_eq!(IdempotencyKey::of([text.as_bytes()]), Ok(Some(key(text))), "{text}");
        }
        for text in ["", " ", "a b", "a\t", "é", &"k".repeat(CHARS_MAX + 1)] {
            assert_eq!(IdempotencyKey::of([text.as_bytes()]), Err(InvalidKey), "{text:?}");
        }
        assert_eq!(IdempotencyKey::of([&b"a"[..], b"a"]), Err(InvalidKey), "twice");
        assert_eq!(IdempotencyKey::of([&[0xff][..]]), Err(InvalidKey), "not text");
        assert_eq!(IdempotencyKey::of([]), Ok(None));
        assert_eq!(format!("{:?}", key("0912")), "IdempotencyKey(..)");
    }

    #[test]
    fn kinds_senders_and_parts_are_kept_apart() {
        let of = |kind, name: &str, parts: &[&[u8]]| Hashes::of(kind, &key(name), parts);
        let one = of(Kind::Message("key:1"), "k", &[b"ab", b"c"]);
        assert_eq!(of(Kind::Message("key:1"), "k", &[b"ab", b"c"]), one);
        assert_ne!(of(Kind::Message("key:1"), "k", &[b"a", b"bc"]).request, one.request);
        for (kind, name) in [
            (Kind::Message("key:2"), "k"),
            (Kind::Message("key:1"), "l"),
            (Kind::Payment, "k"),
            (Kind::Spend, "k"),
        ] {
            assert_ne!(of(kind, name, &[]).key, one.key, "{kind:?} {name}");
        }
    }
}
