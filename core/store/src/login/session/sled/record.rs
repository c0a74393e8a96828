//! The record of a session in every readable version.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::engine::sled::agent::{AgentRef, Agents};
use crate::engine::sled::record::{Record, decode, decode_head};
use crate::login::session::Session;
use crate::{SessionId, StoreError, Timestamp, UserId};

#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "Packed", into = "Packed")]
pub(crate) struct SessionRecord {
    pub(crate) expires_at: Timestamp,
    pub(crate) key: u128,
    pub(crate) created_at: Timestamp,
    pub(crate) last_seen_at: Timestamp,
    pub(crate) rotated_at: Timestamp,
    pub(crate) user_agent: AgentRef,
    pub(crate) ip_address: Option<IpAddr>,
    pub(crate) generation: u32,
    pub(crate) device_name: Option<String>,
}

/// The part of a session that every request reads.
pub(crate) struct SessionHead {
    pub(crate) expires_at: Timestamp,
    pub(crate) key: u128,
}

impl SessionHead {
    pub(crate) fn read(bytes: &[u8]) -> Result<SessionHead, StoreError> {
        // Version 3 begins with the same fields.
        if bytes.first().is_some_and(|schema| [3, SessionRecord::SCHEMA].contains(schema)) {
            let (expires_at, key): (Timestamp, [u8; 16]) = decode_head::<SessionRecord, _>(bytes)?;
            return Ok(SessionHead { expires_at, key: u128::from_be_bytes(key) });
        }
        let SessionRecord { expires_at, key, .. } = decode(bytes)?;
        Ok(SessionHead { expires_at, key })
    }
}

/// The stored form. One time is stored whole, the others as distances to it, which are short numbers. Distances wrap,
/// so any times are restored.
#[derive(Serialize, Deserialize)]
struct Packed {
    /// First, because every request reads it alone.
    expires_at: Timestamp,
    key: [u8; 16],
    /// Microseconds from the first named time to the second.
    created_to_expires: u64,
    created_to_seen: u64,
    created_to_rotated: u64,
    user_agent: AgentRef,
    ip_address: Option<IpAddr>,
    generation: u32,
    device_name: Option<String>,
}

/// The stored form before devices had names.
#[derive(Serialize, Deserialize)]
struct Packed3 {
    expires_at: Timestamp,
    key: [u8; 16],
    created_to_expires: u64,
    created_to_seen: u64,
    created_to_rotated: u64,
    user_agent: AgentRef,
    ip_address: Option<IpAddr>,
    generation: u32,
}

impl From<Packed3> for Packed {
    fn from(old: Packed3) -> Packed {
        Packed {
            expires_at: old.expires_at,
            key: old.key,
            created_to_expires: old.created_to_expires,
            created_to_seen: old.created_to_seen,
            created_to_rotated: old.created_to_rotated,
            user_agent: old.user_agent,
            ip_address: old.ip_address,
            generation: old.generation,
            device_name: None,
        }
    }
}

impl From<SessionRecord> for Packed {
    fn from(record: SessionRecord) -> Packed {
        let since_creation = |at: Timestamp| at.as_micros().wrapping_sub(record.created_at.as_micros());
        Packed {
            expires_at: record.expires_at,
            key: record.key.to_be_bytes(),
            created_to_expires: since_creation(record.expires_at),
            created_to_seen: since_creation(record.last_seen_at),
            created_to_rotated: since_creation(record.rotated_at),
            user_agent: record.user_agent,
            ip_address: record.ip_address,
            generation: record.generation,
            device_name: record.device_name,
        }
    }
}

impl From<Packed> for SessionRecord {
    fn from(packed: Packed) -> SessionRecord {
        let created_at = packed.expires_at.as_micros().wrapping_sub(packed.created_to_expires);
        let after_creation = |micros: u64| Timestamp::from_micros(created_at.wrapping_add(micros));
        SessionRecord {
            expires_at: packed.expires_at,
            key: u128::from_be_bytes(packed.key),
            created_at: Timestamp::from_micros(created_at),
            last_seen_at: after_creation(packed.created_to_seen),
            rotated_at: after_creation(packed.created_to_rotated),
            user_agent: packed.user_agent,
            ip_address: packed.ip_address,
            generation: packed.generation,
            device_name: packed.device_name,
        }
    }
}

/// The version before user agents were stored once.
#[derive(Serialize, Deserialize)]
struct SessionRecord2 {
    expires_at: Timestamp,
    key: u128,
    created_at: Timestamp,
    last_seen_at: Timestamp,
    user_agent: String,
    ip_address: String,
    generation: u32,
    rotated_at: Timestamp,
}

/// The version before refresh tokens were replaced.
#[derive(Serialize, Deserialize)]
struct SessionRecord1 {
    expires_at: Timestamp,
    key: u128,
    created_at: Timestamp,
    last_seen_at: Timestamp,
    user_agent: String,
    ip_address: String,
}

impl Record for SessionRecord {
    const KIND: &'static str = "session";
    const SCHEMA: u8 = 4;
    const SCHEMA_OLDEST: u8 = 1;

    fn decode_older(schema: u8, body: &[u8]) -> Result<Self, postcard::Error> {
        if schema == 3 {
            return Ok(Packed::from(postcard::from_bytes::<Packed3>(body)?).into());
        }
        let old: SessionRecord2 = if schema == 1 {
            let old: SessionRecord1 = postcard::from_bytes(body)?;
            SessionRecord2 {
                expires_at: old.expires_at,
                key: old.key,
                created_at: old.created_at,
                last_seen_at: old.last_seen_at,
                user_agent: old.user_agent,
                ip_address: old.ip_address,
                generation: 0,
                rotated_at: old.created_at,
            }
        } else {
            postcard::from_bytes(body)?
        };
        Ok(SessionRecord {
            expires_at: old.expires_at,
            key: old.key,
            created_at: old.created_at,
            last_seen_at: old.last_seen_at,
            rotated_at: old.rotated_at,
            user_agent: AgentRef::Text(old.user_agent.into()),
            ip_address: old.ip_address.parse().ok(),
            generation: old.generation,
            device_name: None,
        })
    }
}

impl SessionRecord {
    pub(crate) fn with_ids(self, user: UserId, id: SessionId, agents: &Agents) -> Session {
        Session {
            id,
            user,
            key: Uuid::from_u128(self.key),
            user_agent: agents.text(self.user_agent),
            ip_address: self.ip_address,
            device_name: self.device_name,
            created_at: self.created_at,
            last_seen_at: self.last_seen_at,
            expires_at: self.expires_at,
            generation: self.generation,
            rotated_at: self.rotated_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sled::record::encode;

    impl Record for SessionRecord1 {
        const KIND: &'static str = "session";
        const SCHEMA: u8 = 1;
    }

    impl Record for SessionRecord2 {
        const KIND: &'static str = "session";
        const SCHEMA: u8 = 2;
    }

    impl Record for Packed3 {
        const KIND: &'static str = "session";
        const SCHEMA: u8 = 3;
    }

    fn secs(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn sessions_of_the_versions_before_are_read() {
        let (key, user_agent, ip_address) = (u128::MAX - 5, "curl/8".to_owned(), "192.0.2.1".to_owned());
        let first = encode(&SessionRecord1 {
            expires_at: secs(90),
            key,
            created_at: secs(10),
            last_seen_at: secs(20),
            user_agent: user_agent.clone(),
            ip_address: String::new(),
        });
        let second = encode(&SessionRecord2 {
            expires_at: secs(90),
            key,
            created_at: secs(10),
            last_seen_at: secs(20),
            user_agent,
            ip_address,
            generation: 7,
            rotated_at: secs(15),
        });
        let ip: Option<IpAddr> = "192.0.2.1".parse().ok();
        let third = encode(&Packed3 {
            expires_at: secs(90),
            key: key.to_be_bytes(),
            created_to_expires: 80_000_000,
            created_to_seen: 10_000_000,
            created_to_rotated: 5_000_000,
            user_agent: AgentRef::Text("curl/8".into()),
            ip_address: ip,
            generation: 7,
        });
        for (bytes, generation, rotated_at, ip) in
            [(first, 0, secs(10), None), (second, 7, secs(15), ip), (third, 7, secs(15), ip)]
        {
            let head = SessionHead::read(&bytes).unwrap();
            assert_eq!((head.expires_at, head.key), (secs(90), key));
            let record = decode::<SessionRecord>(&bytes).unwrap();
            assert_eq!(record.device_name, None);
            let session = record.with_ids(UserId(1), SessionId(2), &Agents::default());
            assert_eq!((session.key.as_u128(), &*session.user_agent), (key, "curl/8"));
            assert_eq!((session.created_at, session.last_seen_at), (secs(10), secs(20)));
            assert_eq!((session.expires_at, session.rotated_at), (secs(90), rotated_at));
            assert_eq!((session.generation, session.ip_address), (generation, ip));
            assert_eq!(decode_head::<SessionRecord, Timestamp>(&bytes).unwrap(), secs(90));
        }
    }

    #[test]
    fn any_times_come_back_and_usual_ones_are_short() {
        let record = |expires, created, seen, rotated| SessionRecord {
            expires_at: Timestamp::from_micros(expires),
            key: 1,
            created_at: Timestamp::from_micros(created),
            last_seen_at: Timestamp::from_micros(seen),
            rotated_at: Timestamp::from_micros(rotated),
            user_agent: AgentRef::Number(3),
            ip_address: "192.0.2.1".parse().ok(),
            generation: 0,
            device_name: None,
        };
        let month = 30 * 86_400 * 1_000_000;
        let now = 1_800_000_000_000_000;
        for (expires, created, seen, rotated) in
            [(now + month, now, now, now), (5, 9, 0, u64::MAX), (u64::MAX, 0, 1, 2), (0, u64::MAX, 7, 7)]
        {
            let bytes = encode(&record(expires, created, seen, rotated));
            let back = decode::<SessionRecord>(&bytes).unwrap();
            assert_eq!(encode(&back), bytes);
            let times = [back.expires_at, back.created_at, back.last_seen_at, back.rotated_at];
            assert_eq!(times.map(Timestamp::as_micros), [expires, created, seen, rotated]);
            assert_eq!(decode_head::<SessionRecord, Timestamp>(&bytes).unwrap().as_micros(), expires);
        }
        assert_eq!(encode(&record(now + month, now, now, now)).len(), 43);
    }
}
