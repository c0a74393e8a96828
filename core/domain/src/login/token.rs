//! Tokens: JWTs with the original's claims, signed with HS256, EdDSA or ES256.
//!
//! Payload, in this order: `token_type` (`access` or `refresh`), `exp`, `iat` (seconds), `jti` (32 hex digits),
//! `user_id` (a string; a number is accepted), `iss`, `aud`, `sid` (the session), `sbd` (random bits of
//! the session), and in a refresh token `gen` (its number in the session). Invariants: the key decides the algorithm,
//! not the header; a token of another issuer, audience, type or key is refused; expiry has no leeway; no claim is
//! read before the signature is verified.
//!
//! A valid token is not enough: [`crate::login::identity`] also checks its session in the store.
//!
//! Every request is checked, so a check takes at most 5 µs: the header is compared as bytes and parsed only when it
//! differs from that of every key, keys are prepared once, and the payload is decoded once. `jsonwebtoken::decode`
//! parses header and claims twice and reads the system clock, so only its parts are used.

mod claims;
mod keys;
mod legacy;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chelseru_store::Session;
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{crypto, decode_header};
use sha2::{Digest, Sha256};

use crate::ids::{SessionId, UserId};
use crate::secret::SubKey;
use crate::{Range, RuleError, Timestamp};

use claims::{IssuedClaims, ReadClaims};
pub use keys::{KeyFault, TokenKey};
pub use legacy::{LegacySubject, LegacyTokens};

/// Longer texts are refused unread. Our tokens have about 350 bytes.
const TOKEN_BYTES_MAX: usize = 4096;

/// How long an access token is valid.
pub const ACCESS_TTL_SECS: Range<u64> = Range::new(30, 86_400, 300);
/// How long a refresh token is valid, and so how long a session lives without a refresh.
pub const REFRESH_TTL_SECS: Range<u64> = Range::new(300, 31_536_000, 86_400);

/// How tokens are issued and what is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRules {
    /// `iss`. Default `chelseru`. Not empty.
    pub issuer: String,
    /// `aud`. Default `chelseru`. Not empty.
    pub audience: String,
    /// `kid` in the header: tells keys apart in a key set. Default `hs256-1`.
    pub key_id: String,
    /// Whole seconds: see [`ACCESS_TTL_SECS`].
    pub access_ttl: Duration,
    /// Whole seconds, not below `access_ttl`: see [`REFRESH_TTL_SECS`].
    pub refresh_ttl: Duration,
}

impl Default for TokenRules {
    fn default() -> Self {
        TokenRules {
            issuer: "chelseru".to_owned(),
            audience: "chelseru".to_owned(),
            key_id: "hs256-1".to_owned(),
            access_ttl: ACCESS_TTL_SECS.default_secs(),
            refresh_ttl: REFRESH_TTL_SECS.default_secs(),
        }
    }
}

impl TokenRules {
    fn check(&self) -> Result<(), RuleError> {
        for (rule, text) in [("issuer", &self.issuer), ("audience", &self.audience), ("key_id", &self.key_id)]
        {
            if text.is_empty() {
                return Err(RuleError::new(rule, "an empty text", "a text"));
            }
        }
        ACCESS_TTL_SECS.check_secs("access_ttl", self.access_ttl)?;
        REFRESH_TTL_SECS.check_secs("refresh_ttl", self.refresh_ttl)?;
        if self.refresh_ttl < self.access_ttl {
            let found = format!("{:?}", self.refresh_ttl);
            return Err(RuleError::new("refresh_ttl", found, "at least access_ttl"));
        }
        Ok(())
    }
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenType {
    Access,
    Refresh,
}

impl TokenType {
    /// The value of the claim `token_type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TokenType::Access => "access",
            TokenType::Refresh => "refresh",
        }
    }
}

/// Why a bearer token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Wrong form, algorithm, key, signature, issuer or audience, or a missing claim.
    #[error("token is invalid")]
    Invalid,
    #[error("token is expired")]
    Expired,
    /// A refresh token where an access token belongs, or the other way round.
    #[error("token has wrong type")]
    WrongType,
    #[error("token contained no recognizable user identification")]
    NoUserId,
    #[error("user not found")]
    UserNotFound,
    #[error("user is inactive")]
    UserInactive,
    /// The session was revoked, has expired, or gave way to a newer one.
    #[error("session has ended")]
    SessionEnded,
    /// The session could not be checked. A retry can help.
    #[error("the session could not be checked")]
    Store,
}

/// The user and session of a valid token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenSubject {
    pub user_id: UserId,
    pub session_id: SessionId,
    /// What the token says of its session (see [`Session::binding`]); `None` in tokens of older versions.
    pub binding: Option<u64>,
}

/// The contents of a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshSubject {
    pub subject: TokenSubject,
    /// The token's number among those of its session.
    pub generation: u32,
}

/// Issues tokens with one key and verifies them with it and the older keys. Clones share the keys.
#[derive(Clone)]
pub struct Tokens {
    rules: TokenRules,
    /// The first signs.
    keys: Arc<[TokenKey]>,
    /// Of the original, while its tokens are accepted.
    legacy: Option<Arc<LegacyTokens>>,
}

impl Tokens {
    /// # Errors
    ///
    /// The first rule that is out of its range.
    pub fn new(rules: TokenRules, key: &SubKey) -> Result<Self, RuleError> {
        let fits = |fault| RuleError::new("key_id", fault, "a text that fits a token's header");
        let key = TokenKey::hs256(&rules.key_id, key).map_err(fits)?;
        Tokens::with_keys(rules, key, Vec::new())
    }

    /// Signs with one key and verifies with it and the older ones.
    ///
    /// # Errors
    ///
    /// The first rule that is out of its range.
    pub fn with_keys(rules: TokenRules, signing: TokenKey, older: Vec<TokenKey>) -> Result<Self, RuleError> {
        rules.check()?;
        if !signing.can_sign() {
            return Err(RuleError::new("key", KeyFault::CannotSign, "a key that can sign"));
        }
        Ok(Tokens { rules, keys: [vec![signing], older].concat().into(), legacy: None })
    }

    /// The same keys under other rules.
    ///
    /// # Errors
    ///
    /// The first rule that is out of its range.
    pub fn with_rules(&self, rules: TokenRules) -> Result<Self, RuleError> {
        rules.check()?;
        Ok(Tokens { rules, keys: Arc::clone(&self.keys), legacy: self.legacy.clone() })
    }

    /// Accepts tokens of the original too.
    #[must_use]
    pub fn with_legacy(mut self, legacy: Option<LegacyTokens>) -> Self {
        self.legacy = legacy.map(Arc::new);
        self
    }

    /// What verifies tokens of the original, while they are accepted.
    #[must_use]
    pub fn legacy(&self) -> Option<&LegacyTokens> {
        self.legacy.as_deref()
    }

    /// The public keys, newest first, for programs that verify tokens themselves. HS256 keys have none and are never
    /// listed.
    #[must_use]
    pub fn jwks(&self) -> JwkSet {
        JwkSet { keys: self.keys.iter().filter_map(|key| key.public.clone()).collect() }
    }

    /// The names of the keys, the one that signs first.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(TokenKey::id)
    }

    #[must_use]
    pub fn rules(&self) -> &TokenRules {
        &self.rules
    }

    /// Issues a token that is valid from `now` (whole seconds) for the lifetime of its type. A refresh token issued
    /// here is the first of its session; see [`Tokens::refresh`] for the others.
    ///
    /// # Errors
    ///
    /// When the operating system gives no randomness.
    pub fn issue(
        &self,
        token_type: TokenType,
        subject: TokenSubject,
        now: Timestamp,
    ) -> Result<String, std::io::Error> {
        let ttl = match token_type {
            TokenType::Access => self.rules.access_ttl,
            TokenType::Refresh => self.rules.refresh_ttl,
        };
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(std::io::Error::other)?;
        self.sign(&IssuedClaims {
            token_type: token_type.as_str(),
            exp: now.as_secs().saturating_add(ttl.as_secs()),
            iat: now.as_secs(),
            jti: hex(random),
            user_id: subject.user_id.to_string(),
            iss: &self.rules.issuer,
            aud: &self.rules.audience,
            sid: subject.session_id.0,
            binding: subject.binding.map(|binding| format!("{binding:016x}")),
            generation: None,
        })
    }

    /// The valid refresh token of a session. It is the same for the same generation, so a client whose reply was lost
    /// gets it again, and parallel refreshes all get the valid one.
    ///
    /// # Errors
    ///
    /// When the token cannot be signed.
    pub fn refresh(&self, session: &Session) -> Result<String, std::io::Error> {
        let mut digest = Sha256::new();
        digest.update(session.key.as_bytes());
        digest.update(session.generation.to_be_bytes());
        let digest: [u8; 32] = digest.finalize().into();
        let (jti, _) = digest.split_first_chunk::<16>().expect("32 bytes begin with 16");
        self.sign(&IssuedClaims {
            token_type: TokenType::Refresh.as_str(),
            exp: session.expires_at.as_secs(),
            iat: session.rotated_at.as_secs(),
            jti: hex(*jti),
            user_id: session.user.to_string(),
            iss: &self.rules.issuer,
            aud: &self.rules.audience,
            sid: session.id.0,
            binding: Some(format!("{:016x}", session.binding())),
            generation: Some(session.generation),
        })
    }

    fn sign(&self, claims: &IssuedClaims<'_>) -> Result<String, std::io::Error> {
        let key = &self.keys[0];
        let signing = key.signing.as_ref().expect("the first key was checked to sign");
        jsonwebtoken::encode(&key.header, claims, signing).map_err(std::io::Error::other)
    }

    /// The subject of a token that is ours, of the wanted type and not expired. A token is expired from the second
    /// `exp` on.
    ///
    /// # Errors
    ///
    /// [`TokenError::Invalid`], [`TokenError::Expired`], [`TokenError::WrongType`], [`TokenError::NoUserId`], checked
    /// in this order, as in the original.
    pub fn verify(&self, token: &str, wanted: TokenType, now: Timestamp) -> Result<TokenSubject, TokenError> {
        self.verify_any(token, Some(wanted), now).map(|RefreshSubject { subject, .. }| subject)
    }

    /// The expiry of a verified token; 1970 for any other text.
    #[must_use]
    pub fn expires_at(&self, checked: &str, now: Timestamp) -> Timestamp {
        if let Ok(claims) = insecure_decode_claims::<ReadClaims>(checked) {
            return Timestamp::from_secs(claims.exp);
        }
        let legacy = self.legacy().and_then(|legacy| legacy.verify(checked, None, now).ok());
        legacy.map_or(Timestamp::default(), |subject| subject.expires_at)
    }

    /// [`Tokens::verify`] for a refresh token. Also returns its number.
    ///
    /// # Errors
    ///
    /// As for [`Tokens::verify`].
    pub fn verify_refresh(&self, token: &str, now: Timestamp) -> Result<RefreshSubject, TokenError> {
        self.verify_any(token, Some(TokenType::Refresh), now)
    }

    /// [`Tokens::verify`] for a token of the wanted type, or of any.
    ///
    /// # Errors
    ///
    /// As for [`Tokens::verify`].
    pub fn verify_any(
        &self,
        token: &str,
        wanted: Option<TokenType>,
        now: Timestamp,
    ) -> Result<RefreshSubject, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Invalid)?;
        let (header, _) = message.split_once('.').ok_or(TokenError::Invalid)?;
        let ours = self.keys.iter().find(|key| key.header_encoded == header);
        let key = ours.or_else(|| self.key_of_foreign_header(token)).ok_or(TokenError::Invalid)?;
        // Key and algorithm are ours, so no header can turn one into another.
        match crypto::verify(signature, message.as_bytes(), &key.verifying, key.algorithm) {
            Ok(true) => {}
            Ok(false) | Err(_) => return Err(TokenError::Invalid),
        }
        let claims: ReadClaims = insecure_decode_claims(token).map_err(|_| TokenError::Invalid)?;

        if claims.iss != self.rules.issuer || !claims.aud.has(&self.rules.audience) {
            return Err(TokenError::Invalid);
        }
        if now.as_secs() >= claims.exp {
            return Err(TokenError::Expired);
        }
        if claims.jti.is_empty() {
            return Err(TokenError::Invalid);
        }
        let known = [TokenType::Access, TokenType::Refresh].map(TokenType::as_str);
        if !wanted.map_or(known.contains(&&*claims.token_type), |wanted| claims.token_type == wanted.as_str())
        {
            return Err(TokenError::WrongType);
        }
        let user_id = claims.user_id.0.ok_or(TokenError::NoUserId)?;
        // A token without a session could not be revoked.
        let session_id = claims.sid.map(SessionId).ok_or(TokenError::Invalid)?;
        let binding = match claims.binding {
            None => None,
            Some(text) => Some(u64::from_str_radix(&text, 16).map_err(|_| TokenError::Invalid)?),
        };
        let subject = TokenSubject { user_id, session_id, binding };
        // Tokens issued before the first rotation carry no number.
        Ok(RefreshSubject { subject, generation: claims.generation.unwrap_or(0) })
    }

    /// The key for a header that differs from ours byte for byte: of tokens that the operator's own program signed with
    /// our key, or of a key that only verifies. Without a key id it is the newest key of the algorithm. Not on the fast
    /// path.
    fn key_of_foreign_header(&self, token: &str) -> Option<&TokenKey> {
        let header = decode_header(token).ok()?;
        let typ_fits = header.typ.as_ref().is_none_or(|typ| typ.eq_ignore_ascii_case("JWT"));
        // RFC 7515, section 4.1.11: unknown critical extensions must be refused. We know none.
        if !typ_fits || header.crit.is_some() {
            return None;
        }
        self.keys
            .iter()
            .find(|key| key.algorithm == header.alg && header.kid.as_ref().is_none_or(|kid| *kid == key.id))
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("rules", &self.rules).finish_non_exhaustive()
    }
}

fn hex(bytes: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests;
