//! Keys of the audit log: one table per log.

use sled::IVec;

/// The key byte of one log's entries, and the key of its total count.
pub(crate) struct Log {
    pub(crate) entries: &'static [u8],
    pub(crate) count: &'static [u8],
}

pub(crate) const SEQUENCE: &[u8] = b"mseq-audit";

pub(crate) const ANYONE: Log = Log { entries: b"a", count: b"maudit-anyone" };
pub(crate) const ACCOUNT: Log = Log { entries: b"A", count: b"maudit-account" };
pub(crate) const OPERATOR: Log = Log { entries: b"O", count: b"maudit-operator" };

impl Log {
    pub(crate) fn entry(&self, id: u64) -> IVec {
        super::joined(self.entries[0], &[&id.to_be_bytes()])
    }
}

/// The entry number in a key.
pub(crate) fn id_of(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}
