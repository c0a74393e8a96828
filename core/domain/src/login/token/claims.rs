//! The payload of a token: what is written, and what is accepted.
//!
//! Read by hand where serde's untagged enums would copy each value first, which costs as much as the rest of the claims
//! together.

use std::fmt;

use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::ids::UserId;

#[derive(Serialize)]
pub(super) struct IssuedClaims<'a> {
    pub(super) token_type: &'static str,
    pub(super) exp: u64,
    pub(super) iat: u64,
    pub(super) jti: String,
    pub(super) user_id: String,
    pub(super) iss: &'a str,
    pub(super) aud: &'a str,
    pub(super) sid: u64,
    /// Text, because a JSON number is not exact beyond 53 bits.
    #[serde(rename = "sbd", skip_serializing_if = "Option::is_none")]
    pub(super) binding: Option<String>,
    #[serde(rename = "gen", skip_serializing_if = "Option::is_none")]
    pub(super) generation: Option<u32>,
}

#[derive(Deserialize)]
pub(super) struct ReadClaims {
    pub(super) token_type: String,
    pub(super) exp: u64,
    pub(super) jti: String,
    #[serde(default = "ReadUserId::missing")]
    pub(super) user_id: ReadUserId,
    pub(super) iss: String,
    pub(super) aud: Audience,
    #[serde(default)]
    pub(super) sid: Option<u64>,
    #[serde(default, rename = "sbd")]
    pub(super) binding: Option<String>,
    #[serde(default, rename = "gen")]
    pub(super) generation: Option<u32>,
}

/// One audience or several, as RFC 7519, section 4.1.3 has it.
pub(super) struct Audience(Vec<String>);

impl Audience {
    pub(super) fn has(&self, audience: &str) -> bool {
        self.0.iter().any(|one| one == audience)
    }
}

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Audience;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_str<E: de::Error>(self, one: &str) -> Result<Audience, E> {
                Ok(Audience(vec![one.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut many: A) -> Result<Audience, A::Error> {
                let mut audiences = Vec::new();
                while let Some(one) = many.next_element()? {
                    audiences.push(one);
                }
                Ok(Audience(audiences))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// A string of decimal digits or a number; nothing for any other value.
pub(super) struct ReadUserId(pub(super) Option<UserId>);

impl ReadUserId {
    fn missing() -> Self {
        ReadUserId(None)
    }
}

impl<'de> Deserialize<'de> for ReadUserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrDigits;
        impl<'de> Visitor<'de> for NumberOrDigits {
            type Value = ReadUserId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a user id")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<ReadUserId, E> {
                Ok(ReadUserId(Some(UserId(number))))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ReadUserId, E> {
                // `parse` also takes a leading plus sign, which no token of anybody's has.
                let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                Ok(ReadUserId(text.parse().ok().filter(|_| digits).map(UserId)))
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<ReadUserId, E> {
                Ok(ReadUserId(None))
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<ReadUserId, E> {
                Ok(ReadUserId(None))
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<ReadUserId, E> {
                Ok(ReadUserId(None))
            }

            fn visit_unit<E: de::Error>(self) -> Result<ReadUserId, E> {
                Ok(ReadUserId(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<ReadUserId, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(ReadUserId(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<ReadUserId, A::Error> {
                while items.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(ReadUserId(None))
            }
        }
        deserializer.deserialize_any(NumberOrDigits)
    }
}
