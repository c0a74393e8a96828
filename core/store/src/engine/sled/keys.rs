//! The key map of the one tree: every key starts with a byte for its kind.
//!
//! Numbers are big-endian, so keys sort as the numbers do. A part of variable length is always last, so no key needs
//! escaping. One tree instead of one per table, because sled applies a batch atomically to one tree only.
//!
//! | byte | rest of the key | value |
//! |---|---|---|
//! | `m` | name | u64: the store's format, the sequences |
//! | `c` | phone number, or what else a code is sent under | the code, and who logs in with the number |
//! | `u` | user | user |
//! | `n` | user name | user id |
//! | `N` | how a user name looks | user id |
//! | `i` | group u32, phone number | user id: who logs in with this number, as older versions wrote it |
//! | `s` | user, session | session |
//! | `U` | number of a user agent | its text |
//! | `h` | user | what is kept of the password |
//! | `R` | user | the operator's token that sets a new password |
//! | `L` | user, token u128 | the session that a token of another program opened |
//! | `M` | user | the account it became when an import merged two |
//! | `E` | user | that the account was erased, and what is left to do |
//! | `g` | MAC of a user name, with an address or without | guesses at the password of that name |
//! | `C` | see `chat::key` | chat: rooms, members, messages, files |
//! | `a` | number of an audit entry | audit entries that anybody can cause |
//! | `A` | number of an audit entry | audit entries that take an account |
//! | `O` | number of an audit entry | audit entries that take an operator |
//! | `d` | see [`console`] | operators of the console, their sessions and links |
//! | `b` | anything | anything: for measuring |
//! | `q` | a second byte and what it says | messages and what belongs to them: see [`sms`] |
//! | `$` | see `money_keys` | money |
//! | `~` | see [`parts`](super::parts); behind all others | parts of long records |
//!
//! There is no index by expiry: it would cost two more writes for each code and each session. A purge that walks the
//! records in bounded steps costs only occasional reads.

pub(crate) mod audit;
pub(crate) mod chat;
pub(crate) mod console;
pub(crate) mod money;
pub(crate) mod sms;

use crate::{SessionId, UserId};
use sled::IVec;

pub(crate) const FORMAT: &[u8] = b"mformat";
/// The number of the last batch (see `log_scan`).
pub(crate) const COMMIT: &[u8] = b"mcommit";
/// The last session whose tokens may lack the binding.
pub(crate) const UNBOUND_SESSIONS: &[u8] = b"munbound-sessions";
/// The mark of the key that belongs to this store.
pub(crate) const KEY_MARK: &[u8] = b"mkey-mark";
/// The last user whose name has an entry by its look.
pub(crate) const LOOKS: &[u8] = b"mlooks";
/// There while the sums of files are those of an older format.
pub(crate) const FILES_UNCOUNTED: &[u8] = b"mfiles-uncounted";
pub(crate) const USER_SEQUENCE: &[u8] = b"mseq-user";

pub(crate) const SESSION_SEQUENCE: &[u8] = b"mseq-session";

/// Prefix of all contact keys and of all session keys.
pub(crate) const CONTACTS: &[u8] = b"c";

pub(crate) const SESSIONS: &[u8] = b"s";

pub(crate) const AGENTS: &[u8] = b"U";

pub(crate) const AGENT_SEQUENCE: &[u8] = b"mseq-agent";

pub(crate) const GUARDS: &[u8] = b"g";

pub(crate) fn contact(name: &str) -> IVec {
    joined(b'c', &[name.as_bytes()])
}

pub(crate) fn user(id: UserId) -> IVec {
    joined(b'u', &[&be(id.0)])
}

pub(crate) fn user_name(name: &str) -> IVec {
    joined(b'n', &[name.as_bytes()])
}

pub(crate) const USER_LOOKS: &[u8] = b"N";

pub(crate) fn user_look(look: &str) -> IVec {
    joined(b'N', &[look.as_bytes()])
}

pub(crate) fn identity(group: u32, number: &str) -> IVec {
    joined(b'i', &[&group.to_be_bytes(), number.as_bytes()])
}

pub(crate) fn session(user: UserId, session: SessionId) -> IVec {
    joined(b's', &[&be(user.0), &be(session.0)])
}

/// Prefix of a user's session keys.
pub(crate) fn sessions(user: UserId) -> IVec {
    joined(b's', &[&be(user.0)])
}

pub(crate) fn agent(number: u32) -> IVec {
    joined(b'U', &[&number.to_be_bytes()])
}

/// The user agent number in a key.
pub(crate) fn agent_number(key: &[u8]) -> Option<u32> {
    key.last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))
}

pub(crate) fn password(user: UserId) -> IVec {
    joined(b'h', &[&be(user.0)])
}

pub(crate) fn reset_token(user: UserId) -> IVec {
    joined(b'R', &[&be(user.0)])
}

pub(crate) const LEGACY: &[u8] = b"L";

pub(crate) fn legacy(user: UserId, token: u128) -> IVec {
    joined(b'L', &[&be(user.0), &token.to_be_bytes()])
}

/// Prefix of the keys of a user's tokens of another program.
pub(crate) fn legacy_of(user: UserId) -> IVec {
    joined(b'L', &[&be(user.0)])
}

pub(crate) const ERASURES: &[u8] = b"E";

pub(crate) fn erasure(user: UserId) -> IVec {
    joined(b'E', &[&be(user.0)])
}

pub(crate) fn merged_user(user: UserId) -> IVec {
    joined(b'M', &[&be(user.0)])
}

pub(crate) fn guard(name: &[u8; 32]) -> IVec {
    joined(b'g', &[name])
}

pub(crate) fn probe(key: &[u8]) -> IVec {
    joined(b'b', &[key])
}

/// The session id in a key.
pub(crate) fn session_user(key: &[u8]) -> Option<UserId> {
    key.get(1..)?.first_chunk::<8>().map(|bytes| UserId(u64::from_be_bytes(*bytes)))
}

pub(crate) fn session_id(key: &[u8]) -> Option<SessionId> {
    key.last_chunk::<8>().map(|bytes| SessionId(u64::from_be_bytes(*bytes)))
}

fn be(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// Joins the parts on the stack when they fit, as all keys except long user names do.
fn joined(prefix: u8, parts: &[&[u8]]) -> IVec {
    let mut buffer = [0u8; 48];
    buffer[0] = prefix;
    let mut len = 1;
    for part in parts {
        let Some(slot) = buffer.get_mut(len..len + part.len()) else {
            let mut long = vec![prefix];
            parts.iter().for_each(|part| long.extend_from_slice(part));
            return long.into();
        };
        slot.copy_from_slice(part);
        len += part.len();
    }
    IVec::from(&buffer[..len])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sort_as_their_keys_do() {
        let numbers = [0, 1, 255, 256, u64::MAX];
        let keys: Vec<_> = numbers.iter().map(|n| session(UserId(*n), SessionId(1))).collect();
        assert!(keys.is_sorted());
    }

    #[test]
    fn a_long_name_is_kept_whole() {
        let name = "x".repeat(150);
        assert_eq!(user_name(&name).len(), 151);
        assert!(user_name(&name).ends_with(name.as_bytes()));
    }

    #[test]
    fn a_session_key_gives_back_the_session() {
        let key = session(UserId(1), SessionId(7));
        assert_eq!(session_id(&key), Some(SessionId(7)));
        assert!(key.starts_with(&sessions(UserId(1))));
    }
}
