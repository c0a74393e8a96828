//! How the store's values are stored in columns.
//!
//! | value | column |
//! |---|---|
//! | an instant | `timestamptz` ([`At`]) |
//! | an id, a count | `bigint` ([`int`], [`uint`]) |
//! | a 64-bit hash | `bigint` with the same bits ([`bits`], [`unbits`]) |
//! | free text | `text`, with U+0000 escaped ([`Text`]) |
//! | a list, or what has no columns of its own | `json` ([`Json`]); `jsonb` would refuse U+0000 |
//! | an amount | `bigint`, whole rial |
//!
//! Everything that the store may hold comes back as it was; only numbers above 2^63 are cut, which nothing counts to.

use std::borrow::Cow;
use std::error::Error;
use std::net::IpAddr;

use bytes::BytesMut;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use crate::{StoreError, Timestamp};

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL counts from.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// An instant in a `timestamptz` column. Those past 2^63 microseconds (in the year 294247) are `infinity`, and come
/// back as the last instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At(pub(crate) Timestamp);

impl ToSql for At {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let micros = i64::try_from(self.0.as_micros()).map_or(i64::MAX, |micros| micros - EPOCH_MICROS);
        out.extend_from_slice(&micros.to_be_bytes());
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for At {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        if micros == i64::MAX {
            return Ok(At(Timestamp::from_micros(u64::MAX)));
        }
        Ok(At(Timestamp::from_micros(u64::try_from(micros + EPOCH_MICROS)?)))
    }

    accepts!(TIMESTAMPTZ);
}

/// Stands for U+0000, which PostgreSQL's text cannot hold, and for itself: a code point that Unicode keeps free of
/// meaning.
const ESCAPE: char = '\u{10FFFF}';

/// Free text in a `text` column. Different texts stay different.
#[derive(Debug)]
pub(crate) struct Text<'a>(pub(crate) &'a str);

impl ToSql for Text<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(escaped(self.0).as_bytes());
        Ok(IsNull::No)
    }

    accepts!(TEXT, VARCHAR);
    to_sql_checked!();
}

/// Text as it stands in a column.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', ESCAPE]) {
        return Cow::Borrowed(text);
    }
    let mut column = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter {
            '\0' => column.extend([ESCAPE, '0']),
            ESCAPE => column.extend([ESCAPE, '1']),
            other => column.push(other),
        }
    }
    Cow::Owned(column)
}

/// The text that stands in a column.
pub(crate) fn unescaped(column: String) -> String {
    if !column.contains(ESCAPE) {
        return column;
    }
    let mut letters = column.chars();
    let mut text = String::with_capacity(column.len());
    while let Some(letter) = letters.next() {
        match letter {
            ESCAPE => text.push(if letters.next() == Some('0') { '\0' } else { ESCAPE }),
            other => text.push(other),
        }
    }
    text
}

/// A value in a `json` column.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize + std::fmt::Debug> ToSql for Json<T> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&serde_json::to_vec(&self.0)?);
        Ok(IsNull::No)
    }

    accepts!(JSON);
    to_sql_checked!();
}

impl<T: DeserializeOwned> FromSql<'_> for Json<T> {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Json(serde_json::from_slice(raw)?))
    }

    accepts!(JSON);
}

/// An id or a count as a `bigint`.
pub(crate) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// An id or a count from a `bigint`; the tables' checks keep it from being negative.
pub(crate) fn uint(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A limit as a `bigint`.
pub(crate) fn size(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A 64-bit hash as a `bigint` of the same bits.
pub(crate) fn bits(hash: u64) -> i64 {
    hash.cast_signed()
}

/// A 64-bit hash from a `bigint` of the same bits.
pub(crate) fn unbits(column: i64) -> u64 {
    column.cast_unsigned()
}

/// Columns of a row, by name. A missing or mistyped column is a defect of the statement, and panics.
pub(crate) trait Columns {
    fn at(&self, column: &str) -> Timestamp;
    fn at_opt(&self, column: &str) -> Option<Timestamp>;
    /// An id or a count.
    fn uint(&self, column: &str) -> u64;
    fn uint_opt(&self, column: &str) -> Option<u64>;
    /// A number below 2^32, stored as `bigint` too.
    fn uint32(&self, column: &str) -> u32;
    /// A 64-bit hash.
    fn bits(&self, column: &str) -> u64;
    /// Free text.
    fn text(&self, column: &str) -> String;
    fn text_opt(&self, column: &str) -> Option<String>;
    fn ip_opt(&self, column: &str) -> Option<IpAddr>;
    /// A value that an operator or another version may have made unreadable.
    ///
    /// # Errors
    ///
    /// [`StoreError::Record`].
    fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError>;
    fn json_opt<T: DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>, StoreError>;
    /// A `bytea` of exactly `N` bytes.
    fn bytes<const N: usize>(&self, column: &str) -> [u8; N];
}

impl Columns for Row {
    fn at(&self, column: &str) -> Timestamp {
        self.get::<_, At>(column).0
    }

    fn at_opt(&self, column: &str) -> Option<Timestamp> {
        self.get::<_, Option<At>>(column).map(|at| at.0)
    }

    fn uint(&self, column: &str) -> u64 {
        uint(self.get(column))
    }

    fn uint_opt(&self, column: &str) -> Option<u64> {
        self.get::<_, Option<i64>>(column).map(uint)
    }

    fn uint32(&self, column: &str) -> u32 {
        u32::try_from(self.get::<_, i64>(column)).unwrap_or(u32::MAX)
    }

    fn bits(&self, column: &str) -> u64 {
        unbits(self.get(column))
    }

    fn text(&self, column: &str) -> String {
        unescaped(self.get(column))
    }

    fn text_opt(&self, column: &str) -> Option<String> {
        self.get::<_, Option<String>>(column).map(unescaped)
    }

    fn ip_opt(&self, column: &str) -> Option<IpAddr> {
        self.get(column)
    }

    fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        match self.json_opt(column)? {
            Some(value) => Ok(value),
            None => Err(StoreError::Record { kind: column, reason: "it is null".to_owned() }),
        }
    }

    fn json_opt<T: DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>, StoreError> {
        let value: Result<Option<Json<T>>, _> = self.try_get(column);
        let value = value.map_err(|error| StoreError::Record { kind: column, reason: error.to_string() })?;
        Ok(value.map(|value| value.0))
    }

    fn bytes<const N: usize>(&self, column: &str) -> [u8; N] {
        let bytes: &[u8] = self.get(column);
        bytes.try_into().expect("the table checks the length")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(at: Timestamp) -> Timestamp {
        let mut out = BytesMut::new();
        At(at).to_sql(&Type::TIMESTAMPTZ, &mut out).unwrap();
        At::from_sql(&Type::TIMESTAMPTZ, &out).unwrap().0
    }

    #[test]
    fn instants_come_back_as_they_were() {
        for micros in [0, 1, 1_700_000_000_123_456, u64::MAX / 2] {
            assert_eq!(stored(Timestamp::from_micros(micros)).as_micros(), micros);
        }
        for micros in [u64::MAX, u64::MAX / 2 + 1] {
            assert_eq!(stored(Timestamp::from_micros(micros)).as_micros(), u64::MAX);
        }
    }

    #[test]
    fn text_with_nul_comes_back_and_stays_different() {
        let texts = ["", "a", "a\0b", "a\u{10FFFF}b", "a\u{10FFFF}0b", "\0\0", "\u{10FFFF}"];
        let columns: Vec<_> = texts.iter().map(|text| escaped(text).into_owned()).collect();
        for (text, column) in texts.iter().zip(&columns) {
            assert!(!column.contains('\0'));
            assert_eq!(unescaped(column.clone()), *text);
        }
        let different: std::collections::HashSet<_> = columns.iter().collect();
        assert_eq!(different.len(), texts.len());
    }
}
