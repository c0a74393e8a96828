//! Records: one byte of schema version, then postcard.
//!
//! A record's version is raised when its fields change. `decode` then reads the older shapes, so records are
//! rewritten at their next change and no start has to scan them all. What needs a scan is a migration of the store's
//! format (see the crate root).

use serde::Serialize;
use serde::de::DeserializeOwned;
use sled::IVec;

use crate::StoreError;

/// A stored shape.
pub(crate) trait Record: Serialize + DeserializeOwned {
    /// Name of the record in error texts.
    const KIND: &'static str;
    /// Written in front of every record of this kind.
    const SCHEMA: u8;
    /// The oldest version still readable. All versions from it on begin with the same field.
    const SCHEMA_OLDEST: u8 = Self::SCHEMA;

    /// Reads a record of a version from [`Record::SCHEMA_OLDEST`] to the one before [`Record::SCHEMA`].
    fn decode_older(_schema: u8, _body: &[u8]) -> Result<Self, postcard::Error> {
        Err(postcard::Error::DeserializeBadEncoding)
    }
}

pub(crate) fn encode<R: Record>(record: &R) -> IVec {
    // Records have a few hundred bytes; one that fits the buffer costs one allocation instead of two.
    let mut buffer = [0u8; 384];
    buffer[0] = R::SCHEMA;
    match postcard::to_slice(record, &mut buffer[1..]) {
        Ok(used) => {
            let len = 1 + used.len();
            IVec::from(&buffer[..len])
        }
        Err(_) => {
            let bytes = postcard::to_extend(record, vec![R::SCHEMA])
                .expect("records are plain data, which postcard writes to a growing buffer");
            bytes.into()
        }
    }
}

/// Reads a whole record.
pub(crate) fn decode<R: Record>(bytes: &[u8]) -> Result<R, StoreError> {
    match bytes.split_first() {
        Some((&schema, body)) if (R::SCHEMA_OLDEST..R::SCHEMA).contains(&schema) => {
            R::decode_older(schema, body)
                .map_err(|error| StoreError::Record { kind: R::KIND, reason: error.to_string() })
        }
        _ => decode_versioned::<R, R>(bytes, R::SCHEMA),
    }
}

/// Reads only the first field of a record, for paths that run on every request.
pub(crate) fn decode_head<R: Record, H: DeserializeOwned>(bytes: &[u8]) -> Result<H, StoreError> {
    decode_versioned::<R, H>(bytes, R::SCHEMA_OLDEST)
}

fn decode_versioned<R: Record, H: DeserializeOwned>(bytes: &[u8], oldest: u8) -> Result<H, StoreError> {
    let unreadable = |reason: String| StoreError::Record { kind: R::KIND, reason };
    match bytes.split_first() {
        Some((schema, body)) if (oldest..=R::SCHEMA).contains(schema) => postcard::take_from_bytes(body)
            .map(|(record, _)| record)
            .map_err(|error| unreadable(error.to_string())),
        Some((schema, _)) => {
            Err(unreadable(format!("schema version {schema}; this program reads {}", R::SCHEMA)))
        }
        None => Err(unreadable("the record is empty".to_owned())),
    }
}

pub(crate) fn encode_u64(number: u64) -> IVec {
    IVec::from(&number.to_be_bytes())
}

pub(crate) fn decode_u64(kind: &'static str, bytes: &[u8]) -> Result<u64, StoreError> {
    bytes
        .try_into()
        .map(u64::from_be_bytes)
        .map_err(|_| StoreError::Record { kind, reason: format!("{} bytes instead of 8", bytes.len()) })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note {
        head: u64,
        text: String,
    }

    impl Record for Note {
        const KIND: &'static str = "note";
        const SCHEMA: u8 = 3;
    }

    #[test]
    fn a_record_of_any_size_comes_back() {
        for len in [0, 10, 370, 380, 390, 10_000] {
            let note = Note { head: 7, text: "x".repeat(len) };
            assert_eq!(decode::<Note>(&encode(&note)).unwrap(), note);
        }
    }

    #[test]
    fn the_head_is_read_without_the_rest() {
        let bytes = encode(&Note { head: 300, text: "long".to_owned() });
        assert_eq!(decode_head::<Note, u64>(&bytes).unwrap(), 300);
    }

    #[test]
    fn another_schema_version_is_refused_by_name() {
        let mut bytes = encode(&Note { head: 1, text: String::new() }).to_vec();
        bytes[0] = 4;
        let error = decode::<Note>(&bytes).unwrap_err().to_string();
        assert_eq!(error, "note record is not readable: schema version 4; this program reads 3");
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Longer {
        head: u64,
        text: String,
        flag: bool,
    }

    impl Record for Longer {
        const KIND: &'static str = "note";
        const SCHEMA: u8 = 4;
        const SCHEMA_OLDEST: u8 = 3;

        fn decode_older(_schema: u8, body: &[u8]) -> Result<Self, postcard::Error> {
            let Note { head, text } = postcard::from_bytes(body)?;
            Ok(Longer { head, text, flag: true })
        }
    }

    #[test]
    fn an_older_record_is_read_as_the_newest() {
        let old = encode(&Note { head: 300, text: "abc".to_owned() });
        let longer = Longer { head: 300, text: "abc".to_owned(), flag: true };
        assert_eq!(decode::<Longer>(&old).unwrap(), longer);
        assert_eq!(decode_head::<Longer, u64>(&old).unwrap(), 300);
        assert_eq!(decode::<Longer>(&encode(&longer)).unwrap(), longer);
        let mut foreign = old.to_vec();
        foreign[0] = 2;
        assert!(decode::<Longer>(&foreign).is_err() && decode_head::<Longer, u64>(&foreign).is_err());
        for len in 0..old.len() {
            assert!(decode::<Longer>(&old[..len]).is_err(), "cut to {len} bytes");
        }
    }

    #[test]
    fn damaged_records_are_errors() {
        let bytes = encode(&Note { head: 1, text: "abc".to_owned() });
        for len in 0..bytes.len() {
            assert!(decode::<Note>(&bytes[..len]).is_err(), "cut to {len} bytes");
        }
        assert!(decode_u64("n", &[1, 2]).is_err());
    }
}
