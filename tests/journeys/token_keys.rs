//! Keys of tokens: rotated while the gateway serves, published, and never forged.

use std::sync::Arc;

use chelseru_domain::clock::SystemClock;
use chelseru_tests::{TestGateway, folder};
use serde_json::{Value, json};

const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIKTnu6QYMrfb1OGrxHVAeeZSFl+38pFdWOMxLGfE03gs\n-----END PRIVATE KEY-----\n";

#[tokio::test(flavor = "multi_thread")]
async fn token_keys_rotate_while_serving_and_public_ones_are_listed() {
    let gateway = TestGateway::start("").await;
    let first = gateway.login("09120004005").await;
    let jwks = "/.well-known/jwks.json";
    assert_eq!(gateway.get(jwks, None).await.status, 404, "an HMAC key has no public half");

    std::fs::write(gateway.dir.path().join("token.pem"), PEM).expect("a file");
    let rotated = "[auth]\ntoken_key = { file = \"token.pem\" }\ntoken_keys_old = [\"hs256-1\"]\n";
    gateway.edit_config(rotated);
    gateway.wait_for("the new key", |status| status["config"]["generation"] == 2).await;
    assert_eq!(gateway.get("/me/", Some(&first.access)).await.status, 200, "old tokens stay valid");
    let second = gateway.post("/token/refresh/", json!({"refresh": first.refresh})).await.login();
    let header = jsonwebtoken::decode_header(&second.access).expect("a header");
    assert_eq!(header.alg, jsonwebtoken::Algorithm::EdDSA);
    assert_eq!(gateway.get("/me/", Some(&second.access)).await.status, 200);

    // Another program verifies a token with the published keys.
    let set = gateway.get(jwks, None).await;
    assert_eq!(set.status, 200);
    assert!(!set.text.contains("\"d\""), "{}", set.text);
    let key: jsonwebtoken::jwk::Jwk = serde_json::from_value(set.body["keys"][0].clone()).expect("a key");
    assert_eq!(key.common.key_id, header.kid);
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
    validation.set_audience(&["chelseru"]);
    validation.set_issuer(&["chelseru"]);
    let checking = jsonwebtoken::DecodingKey::from_jwk(&key).expect("a key");
    let claims = jsonwebtoken::decode::<Value>(&second.access, &checking, &validation).expect("valid").claims;
    assert_eq!(claims["user_id"], "1");

    // The old key is removed, and its tokens with it. An unreadable key changes nothing.
    gateway.edit_config("[auth]\ntoken_key = { file = \"token.pem\" }\n");
    gateway.wait_for("the old key's end", |status| status["config"]["generation"] == 3).await;
    assert_eq!(gateway.get("/me/", Some(&first.access)).await.status, 401);
    gateway.edit_config("[auth]\ntoken_key = \"hs256-zero\"\n");
    let status = gateway.wait_for("the refusal", |status| status["config"]["last_error"].is_string()).await;
    let reason = status["config"]["last_error"].as_str().expect("a text");
    assert!(reason.contains("auth.token_key") && !reason.contains("zero"), "{reason}");
    assert_eq!(gateway.get("/me/", Some(&second.access)).await.status, 200);
    // hs256-2 is another key than hs256-1.
    gateway.edit_config("[auth]\ntoken_key = \"hs256-2\"\n");
    gateway.wait_for("the second HMAC key", |status| status["config"]["generation"] == 4).await;
    assert_eq!(gateway.get("/me/", Some(&second.access)).await.status, 401);
    let third = gateway.login("09120004005").await;
    assert_eq!(gateway.get("/me/", Some(&third.access)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_tokens_are_401() {
    let config = "[auth]\ntoken_issuer = \"https://a.example\"\ntoken_audience = \"app\"\n";
    let gateway = TestGateway::start(config).await;
    let login = gateway.login("09120004006").await;
    let parts: Vec<&str> = login.access.split('.').collect();
    // Base64 of {"alg":"none","typ":"JWT"} and of the same in capitals.
    for header in ["eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0", "eyJhbGciOiJOT05FIiwidHlwIjoiSldUIn0"] {
        for signature in ["", parts[2]] {
            let token = format!("{header}.{}.{signature}", parts[1]);
            assert_eq!(gateway.get("/me/", Some(&token)).await.status, 401, "{token}");
        }
    }
    let bytes = std::fs::read(gateway.dir.path().join("data/master.key")).expect("the key");
    let master = chelseru_domain::secret::MasterKey::from_bytes(bytes.try_into().expect("32 bytes"));
    let derived = master.derive(chelseru_domain::secret::KeyUse::JwtHs256);
    let own = jsonwebtoken::EncodingKey::from_secret(derived.expose());
    let header = jsonwebtoken::decode_header(&login.access).expect("a header");
    let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(&login.access).expect("claims").claims;
    let sign = |header: &jsonwebtoken::Header, key: &str, value: Value| {
        let mut claims = claims.clone();
        claims[key] = value;
        jsonwebtoken::encode(header, &claims, &own).expect("signed")
    };
    let same = sign(&header, "iss", "https://a.example".into());
    assert_eq!(gateway.get("/me/", Some(&same)).await.status, 200);
    for (key, value) in [
        ("iss", json!("chelseru")),
        ("aud", json!("other")),
        ("aud", json!([])),
        ("token_type", json!("refresh")),
        ("token_type", json!("id")),
        ("sid", json!(99)),
        ("exp", json!(1)),
    ] {
        let token = sign(&header, key, value.clone());
        assert_eq!(gateway.get("/me/", Some(&token)).await.status, 401, "{key} = {value}");
    }
    for change in [
        |header: &mut jsonwebtoken::Header| header.typ = Some("at+jwt".to_owned()),
        |header: &mut jsonwebtoken::Header| header.kid = Some("hs256-2".to_owned()),
    ] {
        let mut other = header.clone();
        change(&mut other);
        let token = sign(&other, "iss", "https://a.example".into());
        assert_eq!(gateway.get("/me/", Some(&token)).await.status, 401, "{other:?}");
    }
    let other = jsonwebtoken::EncodingKey::from_secret(&[0; 32]);
    let token = jsonwebtoken::encode(&header, &claims, &other).expect("signed");
    assert_eq!(gateway.get("/me/", Some(&token)).await.status, 401);
    assert_eq!(gateway.get("/me/", Some(&login.refresh)).await.status, 401);
}

/// The public half of the signing key must not sign anything, in whatever form it is used as a secret and whatever
/// the header says.
#[tokio::test(flavor = "multi_thread")]
async fn the_public_half_of_a_key_signs_nothing() {
    use jsonwebtoken::{Algorithm, EncodingKey, Header};

    let dir = folder("[auth]\ntoken_key = { file = \"token.pem\" }\ntoken_keys_old = [\"hs256-1\"]\n");
    std::fs::write(dir.path().join("token.pem"), PEM).expect("a file");
    let gateway = TestGateway::start_in(dir, Arc::new(SystemClock)).await;
    let login = gateway.login("09120004040").await;
    let set = gateway.get("/.well-known/jwks.json", None).await;
    let x = set.body["keys"][0]["x"].as_str().expect("a public key").to_owned();
    let kid = set.body["keys"][0]["kid"].as_str().expect("an id").to_owned();
    let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(&login.access).expect("claims").claims;
    let raw = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, &x).expect("base64");
    let secrets =
        [raw, x.clone().into_bytes(), set.body["keys"][0].to_string().into_bytes(), PEM.into(), Vec::new()];
    for secret in secrets {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            for kid in [Some(kid.clone()), Some("hs256-1".to_owned()), Some("hs256-2".to_owned()), None] {
                let header = Header { kid, ..Header::new(algorithm) };
                let key = EncodingKey::from_secret(&secret);
                let token = jsonwebtoken::encode(&header, &claims, &key).expect("signed");
                let answer = gateway.get("/me/", Some(&token)).await;
                assert_eq!(
                    (answer.status, &answer.body["code"]),
                    (401, &json!("token_not_valid")),
                    "{header:?}"
                );
            }
        }
    }
    // A valid signature under another header's algorithm.
    let parts: Vec<&str> = login.access.split('.').collect();
    let with_header = |header: Header| {
        let text = serde_json::to_vec(&header).expect("JSON");
        let header = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text);
        format!("{header}.{}.{}", parts[1], parts[2])
    };
    for algorithm in [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256, Algorithm::PS512] {
        let token = with_header(Header { kid: Some(kid.clone()), ..Header::new(algorithm) });
        assert_eq!(gateway.get("/me/", Some(&token)).await.status, 401, "{algorithm:?}");
    }
    assert_eq!(gateway.get("/me/", Some(&login.access)).await.status, 200);
}
