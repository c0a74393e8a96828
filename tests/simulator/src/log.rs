//! The request log: what reached the simulated providers.
//!
//! Bounded: past `requests_max` records the oldest is dropped and counted. Invariant: no API key, password or token
//! that authenticates reaches a record; the provider modules name the fields and mask the path. A request is logged
//! when its reply is decided, or when its client went away before that. Accepted messages are in `ledger`.

use std::collections::{BTreeMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, COOKIE};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::request::Fields;

/// One request and its outcome.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Record {
    /// Position since the last reset, from 1.
    pub seq: u64,
    /// Time when the request was read, in milliseconds since 1970.
    pub at_ms: u64,
    /// `-` for a path that belongs to no provider.
    pub provider: &'static str,
    /// The provider's own name of the call, such as `sms/send`.
    pub call: String,
    pub method: String,
    /// Path with the API key or token replaced by `***`.
    pub path: String,
    pub query: Fields,
    /// Header names in lower case; `authorization` and `cookie` are masked.
    #[serde(serialize_with = "headers_as_object")]
    pub headers: HeaderMap,
    /// Fields of the body, whatever its encoding; credentials are masked.
    pub fields: Fields,
    /// `accepted`, `repeated`, `answered`, `refused CODE`, `fault KIND`, `no provider`, or `client went away`.
    pub outcome: String,
    /// Whether at least one message was accepted by this request.
    pub accepted: bool,
    /// HTTP status of the reply; absent without a reply.
    pub status: Option<u16>,
    /// Microseconds from read to answered, scripted delays included.
    pub took_us: u64,
}

pub(crate) struct Log {
    records: VecDeque<Record>,
    next_seq: u64,
    requests_max: usize,
    /// Requests since the last reset by provider and outcome; dropped records stay counted.
    counts: BTreeMap<&'static str, BTreeMap<String, u64>>,
}

impl Log {
    pub(crate) fn new(requests_max: usize) -> Self {
        Self {
            records: VecDeque::new(),
            next_seq: 1,
            requests_max: requests_max.max(1),
            counts: BTreeMap::new(),
        }
    }

    /// Enters a record and sets its `seq`. At the limit, drops the oldest record.
    pub(crate) fn enter(&mut self, mut record: Record) {
        record.seq = self.next_seq;
        self.next_seq += 1;
        let counts = self.counts.entry(record.provider).or_default();
        match counts.get_mut(&record.outcome) {
            Some(count) => *count += 1,
            None => drop(counts.insert(record.outcome.clone(), 1)),
        }
        if self.records.len() >= self.requests_max {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    /// Records after `since`, oldest first.
    pub(crate) fn since(&self, since: u64) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |record| record.seq > since)
    }

    pub(crate) fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    pub(crate) fn counts(&self) -> &BTreeMap<&'static str, BTreeMap<String, u64>> {
        &self.counts
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.last_seq() - self.records.len() as u64
    }
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn headers_as_object<S: Serializer>(headers: &HeaderMap, serializer: S) -> Result<S::Ok, S::Error> {
    let mut merged = BTreeMap::<&str, String>::new();
    for (name, value) in headers {
        let text = if name == AUTHORIZATION || name == COOKIE {
            "***".into()
        } else {
            String::from_utf8_lossy(value.as_bytes())
        };
        let values = merged.entry(name.as_str()).or_default();
        if !values.is_empty() {
            values.push_str(", ");
        }
        values.push_str(&text);
    }
    let mut map = serializer.serialize_map(Some(merged.len()))?;
    for (name, value) in &merged {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_its_bound_the_oldest_record_is_dropped_and_counted() {
        let mut log = Log::new(2);
        for _ in 0..3 {
            log.enter(Record::default());
        }
        assert_eq!(log.since(0).map(|record| record.seq).collect::<Vec<_>>(), [2, 3]);
        assert_eq!((log.dropped(), log.last_seq(), log.since(2).count()), (1, 3, 1));
    }
}
