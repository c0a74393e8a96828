//! Keys of the console: the second byte is the kind.
//!
//! | bytes | rest of the key | value |
//! |---|---|---|
//! | `do` | user | operator |
//! | `ds` | user, hash of a session's token | session |
//! | `dl` | user | the hash of a one-time link |
//! | `dn` | kind of a note, its name | note |

use sled::IVec;

use super::joined;
use crate::UserId;
use crate::operator::note::NoteKind;

pub(crate) const OPERATORS: &[u8] = b"do";
pub(crate) const SESSION_SEQUENCE: &[u8] = b"mseq-console";

pub(crate) fn operator(user: UserId) -> IVec {
    joined(b'd', &[b"o", &user.0.to_be_bytes()])
}

pub(crate) fn session(user: UserId, hash: &[u8; 32]) -> IVec {
    joined(b'd', &[b"s", &user.0.to_be_bytes(), hash])
}

/// Prefix of an operator's session keys.
pub(crate) fn sessions(user: UserId) -> IVec {
    joined(b'd', &[b"s", &user.0.to_be_bytes()])
}

pub(crate) fn link(user: UserId) -> IVec {
    joined(b'd', &[b"l", &user.0.to_be_bytes()])
}

/// A note's key; with the beginning of a name, the prefix of all names that begin so.
pub(crate) fn note(kind: NoteKind, name: &str) -> IVec {
    joined(b'd', &[b"n", &[kind as u8], name.as_bytes()])
}
