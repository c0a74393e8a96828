//! Frames that say how things are now: typing, and how far a member has received a room.
//!
//! A client may send one with every key that is pressed, and each goes to every socket of the room. So each state of a
//! user in a room is shown at most once a [`GAP_MS`], and the same state not again within [`REPEAT_MS`]. A state that
//! comes too early waits; the newest one is shown when its time has come, so nobody types for ever.
//!
//! Invariants: at most [`ENTRIES_MAX`] states are remembered; the newest state of a user is shown in the end.

use std::collections::HashMap;

use chelseru_domain::chat::RoomId;
use chelseru_domain::ids::UserId;

/// Milliseconds between two states of one kind of a user in a room.
pub(crate) const GAP_MS: u64 = 1000;

/// Milliseconds after which the same state is shown again: clients let typing expire after some seconds.
pub(crate) const REPEAT_MS: u64 = 3000;

/// States that are remembered; past it all that have been shown are forgotten.
const ENTRIES_MAX: usize = 50_000;

/// States of one user that are remembered: rooms in which they type. Past it a new one is not shown.
const ENTRIES_PER_USER_MAX: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// 1 while the user types, 0 afterwards.
    Typing,
    /// The highest number that was received.
    Delivered,
}

/// Whose state it is, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) user: UserId,
    pub(crate) room: RoomId,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
struct Entry {
    shown: u64,
    at_ms: u64,
    waiting: Option<u64>,
}

/// The states that were shown lately.
#[derive(Debug, Default)]
pub(crate) struct Coalesce {
    entries: HashMap<State, Entry>,
    users: HashMap<UserId, usize>,
}

impl Coalesce {
    /// Notes a state; true when it is to be shown now.
    pub(crate) fn note(&mut self, state: State, value: u64, now_ms: u64) -> bool {
        if let Some(entry) = self.entries.get_mut(&state) {
            let since_ms = now_ms.saturating_sub(entry.at_ms);
            if state.kind == Kind::Delivered && value <= entry.shown.max(entry.waiting.unwrap_or(0)) {
                return false;
            }
            if value == entry.shown {
                entry.waiting = None;
                if since_ms < REPEAT_MS {
                    return false;
                }
            } else if since_ms < GAP_MS {
                entry.waiting = Some(value);
                return false;
            }
            *entry = Entry { shown: value, at_ms: now_ms, waiting: None };
            return true;
        }
        if self.entries.len() >= ENTRIES_MAX {
            self.forget(|entry| entry.waiting.is_some());
        }
        let of_user = self.users.entry(state.user).or_default();
        if *of_user >= ENTRIES_PER_USER_MAX {
            return false;
        }
        *of_user += 1;
        self.entries.insert(state, Entry { shown: value, at_ms: now_ms, waiting: None });
        true
    }

    /// The states whose time has come. Old ones are forgotten.
    pub(crate) fn due(&mut self, now_ms: u64) -> Vec<(State, u64)> {
        let mut due = Vec::new();
        for (state, entry) in &mut self.entries {
            if now_ms.saturating_sub(entry.at_ms) >= GAP_MS
                && let Some(value) = entry.waiting.take()
            {
                *entry = Entry { shown: value, at_ms: now_ms, waiting: None };
                due.push((*state, value));
            }
        }
        self.forget(|entry| now_ms.saturating_sub(entry.at_ms) < REPEAT_MS);
        due
    }

    fn forget(&mut self, keep: impl Fn(&Entry) -> bool) {
        let users = &mut self.users;
        self.entries.retain(|state, entry| {
            let kept = keep(entry);
            if !kept && let Some(count) = users.get_mut(&state.user) {
                *count -= 1;
                if *count == 0 {
                    users.remove(&state.user);
                }
            }
            kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPING: State = State { user: UserId(1), room: RoomId(2), kind: Kind::Typing };
    const DELIVERED: State = State { kind: Kind::Delivered, ..TYPING };

    #[test]
    fn a_state_is_shown_once_a_gap_and_the_newest_in_the_end() {
        let mut states = Coalesce::default();
        assert!(states.note(TYPING, 1, 10));
        assert!(!states.note(TYPING, 1, 20), "the same again");
        assert!(!states.note(TYPING, 0, 30), "too early");
        assert!(!states.note(TYPING, 1, 40));
        assert!(!states.note(TYPING, 0, 50));
        assert_eq!(states.due(9 + GAP_MS), []);
        assert_eq!(states.due(10 + GAP_MS), [(TYPING, 0)]);
        assert_eq!(states.due(10 + 2 * GAP_MS), [], "shown once");
    }

    #[test]
    fn the_same_state_is_shown_again_after_a_while() {
        let mut states = Coalesce::default();
        assert!(states.note(TYPING, 1, 0));
        assert!(!states.note(TYPING, 1, REPEAT_MS - 1));
        assert!(states.note(TYPING, 1, REPEAT_MS));
        assert_eq!(states.due(10 * REPEAT_MS), []);
        assert!(states.entries.is_empty() && states.users.is_empty());
    }

    #[test]
    fn what_was_received_only_rises() {
        let mut states = Coalesce::default();
        assert!(states.note(DELIVERED, 5, 0));
        for seq in [3, 5, 9, 7] {
            assert!(!states.note(DELIVERED, seq, 1), "{seq}");
        }
        assert_eq!(states.due(GAP_MS), [(DELIVERED, 9)]);
        assert!(!states.note(DELIVERED, 9, 3 * GAP_MS));
    }

    #[test]
    fn a_user_has_a_bound_of_states_and_others_theirs() {
        let mut states = Coalesce::default();
        let at = |user, room| State { user: UserId(user), room: RoomId(room), kind: Kind::Typing };
        for room in 0..ENTRIES_PER_USER_MAX as u64 {
            assert!(states.note(at(1, room), 1, 0));
        }
        assert!(!states.note(at(1, 1000), 1, 0));
        assert!(states.note(at(2, 1000), 1, 0));
        states.due(REPEAT_MS);
        assert!(states.note(at(1, 1000), 1, REPEAT_MS), "forgotten states make room");
    }
}
