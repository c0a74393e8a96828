//! Token keys: one that signs, and older ones whose tokens stay valid until they expire.
//!
//! An HS256 key is derived from the master key and never leaves the gateway. The operator supplies an EdDSA (Ed25519)
//! or ES256 (P-256) key as PEM, so that other programs can verify tokens with its public half, which
//! [`Tokens::jwks`](super::Tokens::jwks) lists. Its key id is the thumbprint of RFC 7638, so it needs no name and
//! cannot be confused with another key. Invariant: a key is used with its own algorithm only, whatever a token's header
//! says.

use std::fmt;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};

use crate::secret::SubKey;

/// A key that signs and verifies, or only verifies.
#[derive(Clone)]
pub struct TokenKey {
    pub(super) id: String,
    pub(super) algorithm: Algorithm,
    pub(super) header: Header,
    /// The header as our tokens carry it.
    pub(super) header_encoded: String,
    pub(super) signing: Option<EncodingKey>,
    pub(super) verifying: DecodingKey,
    /// The public half, of a key that has one.
    pub(super) public: Option<Jwk>,
}

/// Why a text is not a token key. Does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error(
        "is no PEM text of an Ed25519 or P-256 key in PKCS#8 (or, for checking only, of its public half)"
    )]
    NoKey,
    #[error("is a public key, which cannot sign")]
    CannotSign,
    #[error("an empty or unusable key id")]
    Id,
}

impl TokenKey {
    /// A key that signs and checks with HS256.
    ///
    /// # Errors
    ///
    /// [`KeyFault::Id`].
    pub fn hs256(id: &str, key: &SubKey) -> Result<TokenKey, KeyFault> {
        let (signing, verifying) =
            (EncodingKey::from_secret(key.expose()), DecodingKey::from_secret(key.expose()));
        TokenKey::new(id.to_owned(), Algorithm::HS256, Some(signing), verifying, None)
    }

    /// A key from PEM: `PRIVATE KEY` signs and checks, `PUBLIC KEY` checks. The algorithm is the key's.
    ///
    /// # Errors
    ///
    /// [`KeyFault::NoKey`].
    pub fn from_pem(pem: &str) -> Result<TokenKey, KeyFault> {
        let pem = pem.as_bytes();
        let private = [
            (Algorithm::EdDSA, EncodingKey::from_ed_pem(pem).ok()),
            (Algorithm::ES256, EncodingKey::from_ec_pem(pem).ok()),
        ];
        for (algorithm, signing) in private {
            let Some(signing) = signing else { continue };
            let public = Jwk::from_encoding_key(&signing, algorithm).map_err(|_| KeyFault::NoKey)?;
            return TokenKey::of_public(algorithm, Some(signing), public);
        }
        let public = [
            (Algorithm::EdDSA, DecodingKey::from_ed_pem(pem).ok()),
            (Algorithm::ES256, DecodingKey::from_ec_pem(pem).ok()),
        ];
        for (algorithm, verifying) in public {
            let Some(verifying) = verifying else { continue };
            let public = Jwk::from_decoding_key(&verifying, Some(algorithm)).map_err(|_| KeyFault::NoKey)?;
            return TokenKey::of_public(algorithm, None, public);
        }
        Err(KeyFault::NoKey)
    }

    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    #[must_use]
    pub fn can_sign(&self) -> bool {
        self.signing.is_some()
    }

    fn of_public(
        algorithm: Algorithm,
        signing: Option<EncodingKey>,
        mut public: Jwk,
    ) -> Result<TokenKey, KeyFault> {
        let curve = match &public.algorithm {
            AlgorithmParameters::EllipticCurve(key) => &key.curve,
            AlgorithmParameters::OctetKeyPair(key) => &key.curve,
            _ => return Err(KeyFault::NoKey),
        };
        let wanted = match algorithm {
            Algorithm::EdDSA => EllipticCurve::Ed25519,
            _ => EllipticCurve::P256,
        };
        if *curve != wanted {
            return Err(KeyFault::NoKey);
        }
        let id = public.thumbprint(ThumbprintHash::SHA256).map_err(|_| KeyFault::NoKey)?;
        let verifying = DecodingKey::from_jwk(&public).map_err(|_| KeyFault::NoKey)?;
        public.common.key_id = Some(id.clone());
        public.common.public_key_use = Some(jsonwebtoken::jwk::PublicKeyUse::Signature);
        TokenKey::new(id, algorithm, signing, verifying, Some(public))
    }

    fn new(
        id: String,
        algorithm: Algorithm,
        signing: Option<EncodingKey>,
        verifying: DecodingKey,
        public: Option<Jwk>,
    ) -> Result<TokenKey, KeyFault> {
        if id.is_empty() {
            return Err(KeyFault::Id);
        }
        let mut header = Header::new(algorithm);
        header.kid = Some(id.clone());
        // Encoding a header needs a whole token. A key that only verifies cannot make one, so the headers of its tokens
        // are parsed instead of compared, which costs one or two microseconds.
        let header_encoded = match &signing {
            None => String::new(),
            Some(signing) => {
                let sample =
                    jsonwebtoken::encode(&header, &Empty {}, signing).map_err(|_| KeyFault::NoKey)?;
                sample.split('.').next().unwrap_or_default().to_owned()
            }
        };
        Ok(TokenKey { id, algorithm, header, header_encoded, signing, verifying, public })
    }
}

#[derive(serde::Serialize)]
struct Empty {}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
