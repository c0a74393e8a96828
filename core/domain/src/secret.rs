//! The master key, and the keys derived from it.
//!
//! Every use has its own key, so that one part's signature is meaningless to another. Derivation is HMAC-SHA256 over a
//! fixed label, keyed with the master key: the expand step of HKDF for one block (RFC 5869, section 2.3; the extract
//! step is for secrets that are not uniform, and this one is 32 random bytes). A changed label changes the key: pending
//! codes stop working, and all users have to log in again.

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a nonce of AES-GCM.
const NONCE_BYTES: usize = 12;

/// The use of a derived key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// Keys the MAC of one-time codes.
    OtpPepper,
    /// Signs tokens with HS256.
    JwtHs256,
    /// Derives the addresses of delivery reports.
    SmsReports,
    /// Signs links to uploaded files.
    FileLinks,
    /// Keys the marks of phone numbers in users' contacts.
    Contacts,
    /// Seals the second factors of operators.
    ConsoleSeal,
    /// Keys the hashes of recovery codes, and what binds forms to a session of the console.
    Console,
    /// Says in a store which key belongs to it.
    StoreMark,
    /// Names the channels between gateways that share a store.
    Bus,
    /// Seals the edits that gateways over one store share.
    EditSeal,
    /// Signs tokens with HS256 from the second rotation on: the number, from 2.
    JwtHs256Later(u32),
}

impl KeyUse {
    fn label(self) -> Cow<'static, str> {
        match self {
            KeyUse::FileLinks => "chelseru/file-links/1".into(),
            KeyUse::Contacts => "chelseru/contacts/1".into(),
            KeyUse::ConsoleSeal => "chelseru/console-seal/1".into(),
            KeyUse::Console => "chelseru/console/1".into(),
            KeyUse::StoreMark => "chelseru/store-mark/1".into(),
            KeyUse::Bus => "chelseru/bus/1".into(),
            KeyUse::EditSeal => "chelseru/edit-seal/1".into(),
            KeyUse::SmsReports => "chelseru/sms-reports/1".into(),
            KeyUse::OtpPepper => "chelseru/otp-pepper/1".into(),
            KeyUse::JwtHs256 => "chelseru/jwt-hs256/1".into(),
            KeyUse::JwtHs256Later(number) => format!("chelseru/jwt-hs256/{number}").into(),
        }
    }
}

/// 32 random bytes from which all other keys are derived.
#[derive(Clone)]
pub struct MasterKey([u8; 32]);

/// A key for one use.
#[derive(Clone)]
pub struct SubKey([u8; 32]);

impl MasterKey {
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        MasterKey(bytes)
    }

    /// A new one from the operating system.
    ///
    /// # Errors
    ///
    /// When the operating system gives no randomness.
    pub fn generate() -> std::io::Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        Ok(MasterKey(bytes))
    }

    /// The bytes, for keeping them in a file.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    #[must_use]
    pub fn derive(&self, key_use: KeyUse) -> SubKey {
        let mut mac = hmac_sha256(&self.0);
        mac.update(key_use.label().as_bytes());
        // The block counter of HKDF's expand step.
        mac.update(&[1]);
        SubKey(mac.finalize().into_bytes().into())
    }
}

impl SubKey {
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Encrypts and authenticates bytes (AES-256-GCM with a random nonce), bound to where they belong. `None` when the
    /// operating system gives no randomness.
    #[must_use]
    pub fn seal(&self, bound: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, &self.0).ok()?;
        let mut sealed = bytes.to_vec();
        let nonce = key.seal_in_place_append_tag(Aad::from(bound), &mut sealed).ok()?;
        Some([nonce.as_ref().as_slice(), &sealed].concat())
    }

    /// The bytes that [`SubKey::seal`] sealed; `None` for anything else.
    #[must_use]
    pub fn unseal(&self, bound: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, &self.0).ok()?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let mut opened = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        key.open_in_place(nonce, Aad::from(bound), &mut opened).ok().map(|bytes| bytes.to_vec())
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

impl fmt::Debug for SubKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubKey(..)")
    }
}

/// Makes the MACs of a key for one use (HMAC-SHA-256).
///
/// Holds the hash as it is after the key: a MAC of a short text then hashes two blocks instead of four.
#[derive(Clone)]
pub(crate) struct MacKey(Hmac<Sha256>);

impl MacKey {
    pub(crate) fn new(key: &SubKey) -> MacKey {
        MacKey(hmac_sha256(&key.0))
    }

    pub(crate) fn begin(&self) -> Hmac<Sha256> {
        self.0.clone()
    }
}

pub(crate) fn hmac_sha256(key: &[u8; 32]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_only_whole_where_it_belongs_and_with_its_key() {
        let key = |use_| MasterKey::from_bytes([1; 32]).derive(use_);
        let sealed = key(KeyUse::EditSeal).seal(b"here", b"text").expect("randomness");
        assert_eq!(key(KeyUse::EditSeal).unseal(b"here", &sealed).as_deref(), Some(b"text".as_slice()));
        assert_eq!(key(KeyUse::EditSeal).unseal(b"there", &sealed), None);
        assert_eq!(key(KeyUse::ConsoleSeal).unseal(b"here", &sealed), None);
        for at in 0..sealed.len() {
            let mut other = sealed.clone();
            other[at] ^= 1;
            assert_eq!(key(KeyUse::EditSeal).unseal(b"here", &other), None, "byte {at}");
            assert_eq!(key(KeyUse::EditSeal).unseal(b"here", &sealed[..at]), None, "{at} bytes");
        }
    }

    #[test]
    fn keys_depend_on_the_master_key_and_on_their_use() {
        let key = |byte, key_use| *MasterKey::from_bytes([byte; 32]).derive(key_use).expose();
        assert_eq!(key(1, KeyUse::OtpPepper), key(1, KeyUse::OtpPepper));
        assert_ne!(key(1, KeyUse::OtpPepper), key(1, KeyUse::JwtHs256));
        assert_ne!(key(1, KeyUse::OtpPepper), key(2, KeyUse::OtpPepper));
        assert_ne!(key(1, KeyUse::OtpPepper), [1; 32]);
    }

    #[test]
    fn a_derived_key_never_changes_between_versions() {
        // Computed with: printf 'chelseru/jwt-hs256/1\x01' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0101...
        let key = MasterKey::from_bytes([1; 32]).derive(KeyUse::JwtHs256);
        let hex: String = key.expose().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "b716590ad75b45bb1ced8724a0a85499494672250cba4423f4399734c6aa3935");
    }

    #[test]
    fn generated_keys_differ() {
        let (one, other) = (MasterKey::generate().unwrap(), MasterKey::generate().unwrap());
        assert_ne!(one.expose(), other.expose());
    }

    #[test]
    fn keys_are_not_shown() {
        let key = MasterKey::from_bytes([7; 32]);
        assert_eq!(format!("{key:?} {:?}", key.derive(KeyUse::OtpPepper)), "MasterKey(..) SubKey(..)");
    }
}
