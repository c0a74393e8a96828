//! Tokens: what is issued, and every forgery and mistake that must open nothing.
use jsonwebtoken::{Algorithm, EncodingKey, Header};

use serde::{Deserialize, Deserializer};

use super::*;
use crate::secret::{KeyUse, MasterKey};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const SUBJECT: TokenSubject =
    TokenSubject { user_id: UserId(12), session_id: SessionId(34), binding: Some(0xfedc_ba98_7654_3210) };

fn key(byte: u8) -> SubKey {
    MasterKey::from_bytes([byte; 32]).derive(KeyUse::JwtHs256)
}

fn tokens() -> Tokens {
    Tokens::new(TokenRules::default(), &key(1)).unwrap()
}

fn later(secs: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(secs))
}

/// The payload of a token as JSON text.
fn payload(token: &str) -> serde_json::Value {
    insecure_decode_claims(token).unwrap()
}

/// A token with our key whose claims are those of a good access token after a change, and its header another.
fn forged(alg: Algorithm, key: &SubKey, change: impl FnOnce(&mut serde_json::Value, &mut Header)) -> String {
    let mut claims = payload(&tokens().issue(TokenType::Access, SUBJECT, NOW).unwrap());
    let mut header = Header::new(alg);
    change(&mut claims, &mut header);
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(key.expose())).unwrap()
}

#[track_caller]
fn check(change: impl FnOnce(&mut serde_json::Value), expected: Result<TokenSubject, TokenError>) {
    let token = forged(Algorithm::HS256, &key(1), |claims, _| change(claims));
    assert_eq!(tokens().verify(&token, TokenType::Access, NOW), expected);
}

/// The keys of an object as they stand in the text; serde_json's own value sorts them.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> serde::de::Visitor<'de> for Collect {
            type Value = Keys;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[test]
fn claims_stand_in_the_originals_order() {
    let token = tokens().issue(TokenType::Access, SUBJECT, NOW).unwrap();
    let Keys(keys) = insecure_decode_claims(&token).unwrap();
    assert_eq!(keys, ["token_type", "exp", "iat", "jti", "user_id", "iss", "aud", "sid", "sbd"]);
    let claims = payload(&token);
    assert_eq!(claims["token_type"], "access");
    assert_eq!(claims["user_id"], "12");
    assert_eq!(claims["iat"], 1_800_000_000u64);
    assert_eq!(claims["exp"], 1_800_000_300u64);
    let jti = claims["jti"].as_str().unwrap();
    assert!(jti.len() == 32 && jti.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
    let header = decode_header(&token).unwrap();
    assert_eq!(
        (header.alg, header.typ.as_deref(), header.kid.as_deref()),
        (Algorithm::HS256, Some("JWT"), Some("hs256-1"))
    );
}

#[test]
fn two_tokens_of_one_instant_differ() {
    let issue = || tokens().issue(TokenType::Refresh, SUBJECT, NOW).unwrap();
    assert_ne!(issue(), issue());
}

#[test]
fn a_token_is_good_until_the_second_it_expires() {
    let tokens = tokens();
    let token = tokens.issue(TokenType::Access, SUBJECT, NOW).unwrap();
    let at = |now| tokens.verify(&token, TokenType::Access, now);
    assert_eq!(at(NOW), Ok(SUBJECT));
    assert_eq!(at(later(299)), Ok(SUBJECT));
    assert_eq!(at(Timestamp::from_micros(later(300).as_micros() - 1)), Ok(SUBJECT));
    assert_eq!(at(later(300)), Err(TokenError::Expired));
    assert_eq!(at(later(301)), Err(TokenError::Expired));
}

#[test]
fn a_refresh_token_opens_nothing_and_outlives_the_access_token() {
    let tokens = tokens();
    let refresh = tokens.issue(TokenType::Refresh, SUBJECT, NOW).unwrap();
    assert_eq!(tokens.verify(&refresh, TokenType::Access, NOW), Err(TokenError::WrongType));
    assert_eq!(tokens.verify(&refresh, TokenType::Refresh, later(86_399)), Ok(SUBJECT));
    assert_eq!(tokens.verify(&refresh, TokenType::Refresh, later(86_400)), Err(TokenError::Expired));
    let access = tokens.issue(TokenType::Access, SUBJECT, NOW).unwrap();
    assert_eq!(tokens.verify(&access, TokenType::Refresh, NOW), Err(TokenError::WrongType));
}

#[test]
fn no_other_algorithm_or_key_is_accepted() {
    let tokens = tokens();
    let refused =
        |token: &str| assert_eq!(tokens.verify(token, TokenType::Access, NOW), Err(TokenError::Invalid));
    let good = tokens.issue(TokenType::Access, SUBJECT, NOW).unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    // {"alg":"none","typ":"JWT"} and {"alg":"None"}, without and with a signature.
    for header in ["eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0", "eyJhbGciOiJOb25lIn0"] {
        refused(&format!("{header}.{}.", parts[1]));
        refused(&format!("{header}.{}.{}", parts[1], parts[2]));
    }
    refused(&format!("{}.{}.", parts[0], parts[1]));
    for alg in [Algorithm::HS384, Algorithm::HS512] {
        refused(&forged(alg, &key(1), |_, _| ()));
    }
    refused(&forged(Algorithm::HS256, &key(2), |_, _| ()));
    // A header that says HS256 over a signature made with HS384.
    let hs384 = forged(Algorithm::HS384, &key(1), |_, _| ());
    let mut mixed: Vec<&str> = hs384.split('.').collect();
    mixed[0] = parts[0];
    refused(&mixed.join("."));
}

#[test]
fn changed_tokens_are_refused() {
    let tokens = tokens();
    let good = tokens.issue(TokenType::Access, SUBJECT, NOW).unwrap();
    for index in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert_eq!(tokens.verify(&changed, TokenType::Access, NOW), Err(TokenError::Invalid), "{index}");
    }
    for token in ["", ".", "..", "...", "a.b", "a.b.c", "a.b.c.d", &format!("{good}.x"), &format!(" {good}")]
    {
        assert_eq!(tokens.verify(token, TokenType::Access, NOW), Err(TokenError::Invalid), "{token:?}");
    }
    for len in 0..good.len() {
        assert!(tokens.verify(&good[..len], TokenType::Access, NOW).is_err(), "cut to {len}");
    }
}

#[test]
fn texts_beyond_the_bound_are_refused_unread() {
    let padded =
        |pad: usize| forged(Algorithm::HS256, &key(1), |claims, _| claims["pad"] = "x".repeat(pad).into());
    let mut pad = 0;
    while padded(pad + 1).len() <= TOKEN_BYTES_MAX {
        pad += 1;
    }
    assert_eq!(tokens().verify(&padded(pad), TokenType::Access, NOW), Ok(SUBJECT));
    assert_eq!(tokens().verify(&padded(pad + 1), TokenType::Access, NOW), Err(TokenError::Invalid));
}

#[test]
fn headers_that_say_the_same_in_other_words_are_accepted() {
    let verify = |change: fn(&mut Header)| {
        let token = forged(Algorithm::HS256, &key(1), |_, header| change(header));
        tokens().verify(&token, TokenType::Access, NOW)
    };
    assert_eq!(verify(|_| ()), Ok(SUBJECT));
    assert_eq!(verify(|header| header.typ = None), Ok(SUBJECT));
    assert_eq!(verify(|header| header.typ = Some("at+jwt".to_owned())), Err(TokenError::Invalid));
    assert_eq!(verify(|header| header.kid = Some("other".to_owned())), Err(TokenError::Invalid));
    assert_eq!(verify(|header| header.crit = Some(vec!["exp".to_owned()])), Err(TokenError::Invalid));
}

#[test]
fn issuer_and_audience_must_be_ours() {
    check(|claims| claims["iss"] = "other".into(), Err(TokenError::Invalid));
    check(|claims| claims["aud"] = "other".into(), Err(TokenError::Invalid));
    check(|claims| claims["aud"] = serde_json::json!(["other", "chelseru"]), Ok(SUBJECT));
    check(|claims| claims["aud"] = serde_json::json!(["other"]), Err(TokenError::Invalid));
    check(|claims| claims["aud"] = serde_json::json!([]), Err(TokenError::Invalid));
    for claim in ["iss", "aud", "exp", "jti", "token_type", "sid"] {
        check(|claims| drop(claims.as_object_mut().unwrap().remove(claim)), Err(TokenError::Invalid));
    }
}

#[test]
fn the_user_id_may_be_a_string_or_a_number() {
    check(|claims| claims["user_id"] = 12.into(), Ok(SUBJECT));
    check(|claims| claims["user_id"] = "12".into(), Ok(SUBJECT));
    check(|claims| drop(claims.as_object_mut().unwrap().remove("user_id")), Err(TokenError::NoUserId));
    for value in [
        serde_json::json!(null),
        serde_json::json!(""),
        serde_json::json!("x"),
        serde_json::json!("+12"),
        serde_json::json!(-1),
        serde_json::json!(1.5),
        serde_json::json!(true),
        serde_json::json!([12]),
        serde_json::json!({"id": 12}),
        serde_json::json!("99999999999999999999999"),
    ] {
        check(|claims| claims["user_id"] = value, Err(TokenError::NoUserId));
    }
}

#[test]
fn odd_claims_are_refused_in_the_originals_order() {
    check(|claims| claims["exp"] = "soon".into(), Err(TokenError::Invalid));
    check(|claims| claims["exp"] = (-1).into(), Err(TokenError::Invalid));
    check(|claims| claims["jti"] = "".into(), Err(TokenError::Invalid));
    check(|claims| claims["token_type"] = "sliding".into(), Err(TokenError::WrongType));
    let expired_refresh = |claims: &mut serde_json::Value| {
        claims["token_type"] = "refresh".into();
        claims["exp"] = 1.into();
    };
    check(expired_refresh, Err(TokenError::Expired));
}

#[test]
fn rules_out_of_range_are_named() {
    let named = |change: fn(&mut TokenRules)| {
        let mut rules = TokenRules::default();
        change(&mut rules);
        Tokens::new(rules, &key(1)).err().map(|error| error.rule)
    };
    assert_eq!(named(|_| ()), None);
    assert_eq!(named(|rules| rules.issuer.clear()), Some("issuer"));
    assert_eq!(named(|rules| rules.audience.clear()), Some("audience"));
    assert_eq!(named(|rules| rules.key_id.clear()), Some("key_id"));
    assert_eq!(named(|rules| rules.access_ttl = Duration::from_millis(999)), Some("access_ttl"));
    assert_eq!(named(|rules| rules.refresh_ttl = Duration::from_secs(299)), Some("refresh_ttl"));
    assert_eq!(named(|rules| rules.refresh_ttl = Duration::from_secs(300)), None);
}

/// An Ed25519 key of the given seed as PKCS#8 in PEM.
fn ed25519(seed: &str) -> String {
    format!("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEI{seed}\n-----END PRIVATE KEY-----\n")
}

const ED_ONE: &str = "KTnu6QYMrfb1OGrxHVAeeZSFl+38pFdWOMxLGfE03gs";
const ED_OTHER: &str = "KTnu6QYMrfb1OGrxHVAeeZSFl+38pFdWOMxLGfE03gt";
/// P-256, made for these tests.
const EC_ONE: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgW98cTIqEzN4/+iOD
y+yMwDdkfyOBM1gkbjnJJv0fSr+hRANCAAT9QNFbvI6wgJsihCjTEwzXQgnoGsG+
IFlvsiqgXj/Dv0uEuFYl7yPNZx62ZS6A3Gt10/+fsqxnYFm8+ZvfvPN0
-----END PRIVATE KEY-----
";
/// P-384, which no token is signed with.
const EC_LARGE: &str = "-----BEGIN PRIVATE KEY-----
MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDBkidhp9thYa1BGCKIa
DxiQMa7eZlvuDNJaHWd8bb+Z6rmT64W4lIejRnnOKLjgfVmhZANiAARBiGHrc4J2
NqVcDbcohpKL5JAE76B2043tJBzT83d2FVvE4fb3+R3mJaF7juTCSOVgR6YHNMNI
bjZwV6ztZk03h2NzKv509fudBc2QceRmMSlK7VfD1fcplKzXptj4tHY=
-----END PRIVATE KEY-----
";

fn signed_by(key: &str, older: &[&str]) -> Tokens {
    let pem = |text: &str| TokenKey::from_pem(text).unwrap();
    let older = older.iter().map(|text| pem(text)).collect();
    Tokens::with_keys(TokenRules::default(), pem(key), older).unwrap()
}

#[test]
fn public_keys_sign_check_and_are_listed_without_their_private_half() {
    for (pem, algorithm, listed) in [
        (ed25519(ED_ONE), Algorithm::EdDSA, ("EdDSA", "OKP", "Ed25519")),
        (EC_ONE.to_owned(), Algorithm::ES256, ("ES256", "EC", "P-256")),
    ] {
        let tokens = signed_by(&pem, &[]);
        let token = tokens.issue(TokenType::Access, SUBJECT, NOW).unwrap();
        assert_eq!(tokens.verify(&token, TokenType::Access, NOW), Ok(SUBJECT));
        let header = decode_header(&token).unwrap();
        assert_eq!(header.alg, algorithm);
        let set = serde_json::to_value(tokens.jwks()).unwrap();
        let key = &set["keys"][0];
        assert_eq!((key["alg"].as_str(), key["kty"].as_str(), key["crv"].as_str()), {
            let (alg, kty, crv) = listed;
            (Some(alg), Some(kty), Some(crv))
        });
        assert_eq!((key["kid"].as_str(), key["use"].as_str()), (header.kid.as_deref(), Some("sig")));
        assert!(key["d"].is_null(), "{key}");
        // What is listed is enough to check with.
        let foreign = jsonwebtoken::DecodingKey::from_jwk(&tokens.jwks().keys[0]).unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        assert!(crypto::verify(signature, message.as_bytes(), &foreign, algorithm).unwrap());
    }
    assert!(self::tokens().jwks().keys.is_empty(), "an HMAC key is never listed");
}

#[test]
fn an_older_key_checks_and_signs_no_more() {
    let (one, other) = (ed25519(ED_ONE), ed25519(ED_OTHER));
    let before = signed_by(&one, &[]);
    let old_token = before.issue(TokenType::Access, SUBJECT, NOW).unwrap();
    for newer in [signed_by(&other, &[&one]), signed_by(EC_ONE, &[&other, &one])] {
        assert_eq!(newer.verify(&old_token, TokenType::Access, NOW), Ok(SUBJECT));
        assert_eq!(newer.verify(&old_token, TokenType::Access, later(300)), Err(TokenError::Expired));
        let new_token = newer.issue(TokenType::Access, SUBJECT, NOW).unwrap();
        assert_eq!(before.verify(&new_token, TokenType::Access, NOW), Err(TokenError::Invalid));
    }
    assert_eq!(signed_by(&other, &[]).verify(&old_token, TokenType::Access, NOW), Err(TokenError::Invalid));
    assert_eq!(signed_by(EC_ONE, &[&one]).jwks().keys.len(), 2);
    // From HS256 to a public key and back.
    let hs = TokenKey::hs256("hs256-1", &key(1)).unwrap();
    let hs_token = tokens().issue(TokenType::Refresh, SUBJECT, NOW).unwrap();
    let moved =
        Tokens::with_keys(TokenRules::default(), TokenKey::from_pem(&one).unwrap(), vec![hs]).unwrap();
    assert_eq!(moved.verify(&hs_token, TokenType::Refresh, NOW), Ok(SUBJECT));
    assert_eq!(moved.jwks().keys.len(), 1);
}

#[test]
fn a_public_half_checks_and_cannot_be_told_to_sign() {
    // The public half of EC_ONE, by: openssl pkey -pubout
    let public = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE/UDRW7yOsICbIoQo0xMM10IJ6BrB
viBZb7IqoF4/w79LhLhWJe8jzWcetmUugNxrddP/n7KsZ2BZvPmb37zzdA==
-----END PUBLIC KEY-----
";
    let token = signed_by(EC_ONE, &[]).issue(TokenType::Access, SUBJECT, NOW).unwrap();
    let checking = signed_by(&ed25519(ED_ONE), &[public]);
    assert_eq!(checking.verify(&token, TokenType::Access, NOW), Ok(SUBJECT));
    let alone = Tokens::with_keys(TokenRules::default(), TokenKey::from_pem(public).unwrap(), vec![]);
    assert!(alone.is_err());
}

#[test]
fn no_header_turns_one_key_into_another() {
    let pem = ed25519(ED_ONE);
    let hs = TokenKey::hs256("hs256-1", &key(1)).unwrap();
    let tokens =
        Tokens::with_keys(TokenRules::default(), TokenKey::from_pem(&pem).unwrap(), vec![hs]).unwrap();
    let kid = tokens.jwks().keys[0].common.key_id.clone();
    let public = serde_json::to_value(tokens.jwks()).unwrap()["keys"][0]["x"].as_str().unwrap().to_owned();
    let claims = payload(&tokens.issue(TokenType::Access, SUBJECT, NOW).unwrap());
    // The public half as an HMAC secret, in every form somebody might try, under every key id.
    for secret in
        [public.as_bytes().to_vec(), pem.clone().into_bytes(), serde_json::to_vec(&tokens.jwks()).unwrap()]
    {
        for kid in [None, kid.clone(), Some("hs256-1".to_owned()), Some("hs256-2".to_owned())] {
            let mut header = Header::new(Algorithm::HS256);
            header.kid = kid;
            let forged = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&secret)).unwrap();
            assert_eq!(tokens.verify(&forged, TokenType::Access, NOW), Err(TokenError::Invalid));
        }
    }
    // Another key of the same kind under our key id.
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = kid;
    let foreign = EncodingKey::from_ed_pem(ed25519(ED_OTHER).as_bytes()).unwrap();
    let forged = jsonwebtoken::encode(&header, &claims, &foreign).unwrap();
    assert_eq!(tokens.verify(&forged, TokenType::Access, NOW), Err(TokenError::Invalid));
    // Our own key brought along in the header of a token, as some libraries believe it.
    header.kid = None;
    header.jwk = Some(signed_by(&ed25519(ED_OTHER), &[]).jwks().keys[0].clone());
    let forged = jsonwebtoken::encode(&header, &claims, &foreign).unwrap();
    assert_eq!(tokens.verify(&forged, TokenType::Access, NOW), Err(TokenError::Invalid));
}

#[test]
fn other_keys_are_refused_without_being_repeated() {
    for text in ["", "s3cret", EC_LARGE, "-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n"] {
        let fault = TokenKey::from_pem(text).unwrap_err();
        assert_eq!(fault, KeyFault::NoKey);
        assert!(!fault.to_string().contains("s3cret"));
    }
    let shown = format!("{:?}", TokenKey::from_pem(&ed25519(ED_ONE)).unwrap());
    assert!(!shown.contains("secret") && !shown.contains("signing"), "{shown}");
}

#[test]
fn every_generation_has_one_refresh_token() {
    let session = |generation| Session {
        id: SessionId(34),
        user: UserId(12),
        key: uuid::Uuid::from_u128(u128::from(SUBJECT.binding.expect("it is bound"))),
        user_agent: String::new().into(),
        device_name: None,
        ip_address: None,
        created_at: NOW,
        last_seen_at: NOW,
        expires_at: later(1000),
        generation,
        rotated_at: later(5),
    };
    let tokens = tokens();
    let first = tokens.refresh(&session(1)).unwrap();
    assert_eq!(first, tokens.refresh(&session(1)).unwrap());
    assert_ne!(payload(&first)["jti"], payload(&tokens.refresh(&session(2)).unwrap())["jti"]);
    let expected = RefreshSubject { subject: SUBJECT, generation: 1 };
    assert_eq!(tokens.verify_refresh(&first, later(999)), Ok(expected));
    assert_eq!(tokens.verify_refresh(&first, later(1000)), Err(TokenError::Expired));
    assert_eq!(tokens.verify_any(&first, None, NOW), Ok(expected));
    assert_eq!(payload(&first)["iat"], payload(&first)["exp"].as_u64().unwrap() - 995);
    // One from before rotation has no number and is the first.
    let old = tokens.issue(TokenType::Refresh, SUBJECT, NOW).unwrap();
    assert_eq!(tokens.verify_refresh(&old, NOW).unwrap().generation, 0);
}
