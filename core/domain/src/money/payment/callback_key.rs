//! The unguessable part of a payment's callback address.
//!
//! Gateways return the payer to the address they were given, with its query. A callback with the key comes from the
//! payer's browser; one with another key does not belong to this payment. A callback without a key is accepted,
//! because some gateways drop the query, and clients may ask by the reference alone. The key proves nothing about
//! money.

use chelseru_store::Payment;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Name of the query parameter.
pub const CALLBACK_KEY: &str = "callback_key";

/// Bytes of a key: as hard to guess as a session's secret.
const KEY_BYTES: usize = 16;

/// Generates a key in hexadecimal; `None` when the operating system provides no randomness.
pub(super) fn draw() -> Option<String> {
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The unguessable part of the address of our page that leads a payer to the bank. It is not the callback's key, which
/// shows that the payer has been at the bank. `None` for payments of versions without keys.
#[must_use]
pub fn page_key(payment: &Payment) -> Option<String> {
    if payment.callback_key.is_empty() {
        return None;
    }
    let hash = Sha256::digest(format!("payment page {}", payment.callback_key));
    Some(hash.iter().take(KEY_BYTES).map(|byte| format!("{byte:02x}")).collect())
}

/// Adds the key to an address's query, before any fragment.
pub(super) fn add(url: &str, key: &str) -> String {
    let (address, fragment) = match url.find('#') {
        Some(at) => url.split_at(at),
        None => (url, ""),
    };
    let joint = match address.find('?') {
        None => "?",
        Some(at) if at + 1 == address.len() || address.ends_with('&') => "",
        Some(_) => "&",
    };
    format!("{address}{joint}{CALLBACK_KEY}={key}{fragment}")
}

/// Whether a callback's query contains the key of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vouched {
    /// It contains the payment's key.
    Yes,
    /// It contains no key.
    No,
    /// It contains another key.
    Wrong,
}

/// Compares the key in a query with a payment's. The last of several counts, because the gateway's address was
/// appended last.
pub(super) fn check(query: &str, key: &str) -> Vouched {
    let named = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        (name == CALLBACK_KEY).then(|| value.to_owned())
    };
    let Some(found) = query.split('&').filter_map(named).next_back() else { return Vouched::No };
    if !key.is_empty() && bool::from(found.as_bytes().ct_eq(key.as_bytes())) {
        Vouched::Yes
    } else {
        Vouched::Wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_joins_any_address_and_comes_back() {
        let key = draw().expect("randomness");
        assert_eq!(key.len(), 2 * KEY_BYTES);
        assert_ne!(draw().expect("randomness"), key);
        for (url, with) in [
            ("https://a.example/v/", "https://a.example/v/?callback_key=K"),
            ("https://a.example/v/?", "https://a.example/v/?callback_key=K"),
            ("https://a.example/v/?a=1", "https://a.example/v/?a=1&callback_key=K"),
            ("https://a.example/v/?a=1&", "https://a.example/v/?a=1&callback_key=K"),
            ("https://a.example/v/#f?x", "https://a.example/v/?callback_key=K#f?x"),
        ] {
            assert_eq!(add(url, "K"), with);
            let address = add(url, &key);
            let query = address.split('#').next().and_then(|url| url.split_once('?')).expect("a query").1;
            assert_eq!(check(&format!("{query}&Authority=A1&Status=OK"), &key), Vouched::Yes);
        }
    }

    #[test]
    fn another_key_is_wrong_and_none_is_tolerated() {
        for (query, vouched) in [
            ("", Vouched::No),
            ("Authority=A1", Vouched::No),
            ("callback_key", Vouched::No),
            ("callback_key=", Vouched::Wrong),
            ("callback_key=k2", Vouched::Wrong),
            ("callback_key=k1&callback_key=k2", Vouched::Wrong),
            ("callback_key=k2&callback_key=k1", Vouched::Yes),
        ] {
            assert_eq!(check(query, "k1"), vouched, "{query}");
        }
        assert_eq!(check("callback_key=", ""), Vouched::Wrong, "a payment without a key");
    }
}
