//! Lenient pieces for reading providers' JSON with `serde`.
//!
//! Providers answer the same field as a number, a string, with Persian digits, or leave it out; one entry comes
//! as an object where many come as an array. [`Loose`] and [`OneOrMany`] take what comes, so that a mapping
//! states its rule once. Ids beyond 2^53 stay exact, because nothing passes through a float.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::number;

/// A text, number or boolean as text. Null, arrays, objects and an absent field (with `#[serde(default)]`) are
/// empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loose(String);

impl Loose {
    /// The text as it came, without outer white space.
    pub fn as_str(&self) -> &str {
        self.0.trim()
    }

    /// Nothing came.
    pub fn is_empty(&self) -> bool {
        self.as_str().is_empty()
    }

    /// The whole number it holds, in Latin, Persian or Arabic digits; a fraction is cut off (`1200.50` is
    /// 1200). `None` when it is not a number or exceeds 64 bits.
    pub fn integer(&self) -> Option<i64> {
        let folded = number::fold_digits(self.as_str());
        match folded.split_once('.') {
            Some((whole, fraction)) if fraction.bytes().all(|byte| byte.is_ascii_digit()) => {
                whole.parse().ok()
            }
            Some(_) => None,
            None => folded.parse().ok(),
        }
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LooseVisitor;

        impl<'de> Visitor<'de> for LooseVisitor {
            type Value = Loose;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_str<E>(self, text: &str) -> Result<Loose, E> {
                Ok(Loose(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<Loose, E> {
                Ok(Loose(text))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Loose, E> {
                Ok(Loose(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Loose, E> {
                Ok(Loose(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Loose, E> {
                Ok(Loose(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Loose, E> {
                Ok(Loose(value.to_string()))
            }

            fn visit_unit<E>(self) -> Result<Loose, E> {
                Ok(Loose::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Loose, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Loose::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Loose, A::Error> {
                while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Loose::default())
            }
        }

        deserializer.deserialize_any(LooseVisitor)
    }
}

/// A list that may come as a single object, or as null (an empty list).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object, an array of objects, or null")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(OneOrMany::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(OneOrMany(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
                let item = T::deserialize(MapAccessDeserializer::new(entries))?;
                Ok(OneOrMany(vec![item]))
            }
        }

        deserializer.deserialize_any(ListVisitor(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loose(json: &str) -> Loose {
        serde_json::from_str(json).expect(json)
    }

    #[test]
    fn loose_takes_what_comes_and_keeps_large_ids_exact() {
        for (json, text) in [
            ("5461268677656004204", "5461268677656004204"),
            ("\" 12 \"", "12"),
            ("-7", "-7"),
            ("true", "true"),
            ("null", ""),
            ("[1,{\"a\":2}]", ""),
            ("{\"a\":[1]}", ""),
        ] {
            assert_eq!(loose(json).as_str(), text, "{json}");
        }
    }

    #[test]
    fn loose_reads_whole_numbers_of_three_scripts() {
        for (json, integer) in [
            ("\"۲۰۰\"", Some(200)),
            ("\"٤١٨\"", Some(418)),
            ("1200.5", Some(1200)),
            ("\"-3\"", Some(-3)),
            ("\"1.x\"", None),
            ("\"\"", None),
            ("\"9223372036854775808\"", None),
        ] {
            assert_eq!(loose(json).integer(), integer, "{json}");
        }
    }

    #[test]
    fn one_object_reads_like_a_list_of_one() {
        for (json, length) in [("{\"a\":1}", 1), ("[{\"a\":1},{\"a\":2}]", 2), ("[]", 0), ("null", 0)] {
            let list: OneOrMany<IgnoredAny> = serde_json::from_str(json).expect(json);
            assert_eq!(list.0.len(), length, "{json}");
        }
        assert!(serde_json::from_str::<OneOrMany<Loose>>("\"text\"").is_err());
    }
}
