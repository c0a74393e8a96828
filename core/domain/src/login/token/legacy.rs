//! Tokens of the original: simplejwt's HS256 under the old SECRET_KEY, until a cut-off date.
//!
//! They have no `kid`, `iss`, `aud` or `sid`. Invariants: only HS256 under the old secret is accepted, whatever the
//! header says; after the cut-off nothing is; a token without `jti` is refused, because its session could not be ended.
//!
//! Not here: the session that a token opens (`login::identity`).

use std::fmt;

use chelseru_store::Timestamp;
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::{Algorithm, DecodingKey, crypto, decode_header};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{TOKEN_BYTES_MAX, TokenError, TokenType};
use crate::ids::UserId;

/// Verifies tokens of the original.
pub struct LegacyTokens {
    key: DecodingKey,
    until: Timestamp,
    user_claim: String,
}

/// What a token of the original says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegacySubject {
    pub user_id: UserId,
    /// From its `jti`.
    pub token: u128,
    pub token_type: TokenType,
    /// Its own expiry or the cut-off, whichever comes first.
    pub expires_at: Timestamp,
}

impl LegacyTokens {
    /// `user_claim` is simplejwt's USER_ID_CLAIM.
    #[must_use]
    pub fn new(secret: &str, until: Timestamp, user_claim: String) -> Self {
        LegacyTokens { key: DecodingKey::from_secret(secret.as_bytes()), until, user_claim }
    }

    /// The subject of a token of the wanted type, or of any.
    ///
    /// # Errors
    ///
    /// As for [`super::Tokens::verify`].
    pub fn verify(
        &self,
        token: &str,
        wanted: Option<TokenType>,
        now: Timestamp,
    ) -> Result<LegacySubject, TokenError> {
        if token.len() > TOKEN_BYTES_MAX || now >= self.until {
            return Err(TokenError::Invalid);
        }
        let header = decode_header(token).map_err(|_| TokenError::Invalid)?;
        if header.alg != Algorithm::HS256 || header.kid.is_some() || header.crit.is_some() {
            return Err(TokenError::Invalid);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Invalid)?;
        match crypto::verify(signature, message.as_bytes(), &self.key, Algorithm::HS256) {
            Ok(true) => {}
            Ok(false) | Err(_) => return Err(TokenError::Invalid),
        }
        let claims: Map<String, Value> = insecure_decode_claims(token).map_err(|_| TokenError::Invalid)?;
        let expires = claims.get("exp").and_then(Value::as_u64).ok_or(TokenError::Invalid)?;
        if now.as_secs() >= expires {
            return Err(TokenError::Expired);
        }
        let name = claims.get("jti").and_then(Value::as_str).filter(|name| !name.is_empty());
        let token = name.map(number_of).ok_or(TokenError::Invalid)?;
        let said = claims.get("token_type").and_then(Value::as_str);
        let token_type = [TokenType::Access, TokenType::Refresh]
            .into_iter()
            .find(|known| said == Some(known.as_str()) && wanted.is_none_or(|wanted| wanted == *known))
            .ok_or(TokenError::WrongType)?;
        let user_id = match claims.get(&self.user_claim) {
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(digits)) => digits.parse().ok(),
            _ => None,
        };
        let user_id = user_id.map(UserId).ok_or(TokenError::NoUserId)?;
        let expires_at = Timestamp::from_secs(expires).min(self.until);
        Ok(LegacySubject { user_id, token, token_type, expires_at })
    }
}

/// The number of a `jti`: its 32 hex digits, or a hash of any other text.
fn number_of(name: &str) -> u128 {
    if name.len() == 32
        && let Ok(number) = u128::from_str_radix(name, 16)
    {
        return number;
    }
    let digest: [u8; 32] = Sha256::digest(name.as_bytes()).into();
    let (first, _) = digest.split_first_chunk::<16>().expect("32 bytes begin with 16");
    u128::from_be_bytes(*first)
}

/// Without the secret.
impl fmt::Debug for LegacyTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegacyTokens").field("until", &self.until).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;

    const SECRET: &str = "lab-only-secret-key-of-more-than-thirty-two-bytes";
    const NOW: u64 = 1_800_000_000;
    const JTI: &str = "7b81d03afbe646b993e6e835b4206c91";

    fn signed(header: &Header, claims: &Value, secret: &str) -> String {
        encode(header, claims, &EncodingKey::from_secret(secret.as_bytes())).expect("signed")
    }

    fn claims() -> Value {
        json!({"token_type": "access", "exp": NOW + 60, "iat": NOW, "jti": JTI, "user_id": "7"})
    }

    fn verify(token: &str, now: u64) -> Result<LegacySubject, TokenError> {
        let legacy = LegacyTokens::new(SECRET, Timestamp::from_secs(NOW + 30), "user_id".to_owned());
        legacy.verify(token, Some(TokenType::Access), Timestamp::from_secs(now))
    }

    #[test]
    fn a_token_of_the_original_is_accepted_until_it_or_the_cut_off_expires() {
        let mut claims = claims();
        for user in [json!("7"), json!(7)] {
            claims["user_id"] = user;
            let subject = verify(&signed(&Header::default(), &claims, SECRET), NOW).expect("accepted");
            assert_eq!((subject.user_id, subject.token_type), (UserId(7), TokenType::Access));
            assert_eq!(subject.token, 0x7b81_d03a_fbe6_46b9_93e6_e835_b420_6c91);
            assert_eq!(subject.expires_at, Timestamp::from_secs(NOW + 30));
        }
        let token = signed(&Header::default(), &claims, SECRET);
        assert!(verify(&token, NOW + 29).is_ok());
        assert_eq!(verify(&token, NOW + 30), Err(TokenError::Invalid), "the cut-off");
        claims["exp"] = json!(NOW + 10);
        assert_eq!(verify(&signed(&Header::default(), &claims, SECRET), NOW + 10), Err(TokenError::Expired));
    }

    #[test]
    fn what_is_no_such_token_is_refused() {
        let refused = |change: fn(&mut Value), expected: TokenError| {
            let mut claims = claims();
            change(&mut claims);
            assert_eq!(verify(&signed(&Header::default(), &claims, SECRET), NOW), Err(expected), "{claims}");
        };
        refused(|claims| claims["token_type"] = json!("refresh"), TokenError::WrongType);
        refused(|claims| claims["token_type"] = json!("sliding"), TokenError::WrongType);
        refused(|claims| claims["user_id"] = json!("x"), TokenError::NoUserId);
        refused(|claims| claims["user_id"] = json!(-1), TokenError::NoUserId);
        refused(|claims| claims["jti"] = json!(""), TokenError::Invalid);
        refused(|claims| claims["exp"] = json!("soon"), TokenError::Invalid);
        assert_eq!(verify(&signed(&Header::default(), &claims(), "another"), NOW), Err(TokenError::Invalid));
        let other = Header::new(Algorithm::HS512);
        assert_eq!(verify(&signed(&other, &claims(), SECRET), NOW), Err(TokenError::Invalid));
        let named = Header { kid: Some("hs256-1".to_owned()), ..Header::default() };
        assert_eq!(verify(&signed(&named, &claims(), SECRET), NOW), Err(TokenError::Invalid));
        let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", "e30");
        for text in ["", ".", "a.b.c", &unsigned] {
            assert_eq!(verify(text, NOW), Err(TokenError::Invalid), "{text}");
        }
    }

    #[test]
    fn another_claim_may_name_the_user() {
        let legacy = LegacyTokens::new(SECRET, Timestamp::from_secs(NOW + 30), "uid".to_owned());
        let mut claims = claims();
        claims["uid"] = json!(9);
        let token = signed(&Header::default(), &claims, SECRET);
        let subject = legacy.verify(&token, None, Timestamp::from_secs(NOW)).expect("accepted");
        assert_eq!(subject.user_id, UserId(9));
    }
}
