//! What shields of gateways that share a store tell each other, so that a cap is one cap.
//!
//! A note repeats what was counted where the request was; it asks nothing and is never refused. A lost one is a code
//! that the others do not count. Without the bus each gateway has the whole cap for itself.

use std::net::IpAddr;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::{Asked, Part, Shield};
use crate::{PhoneNumber, Timestamp};

/// Tells gateways that share the store.
pub(super) type Tell = Box<dyn Fn(ShieldNote) + Send + Sync>;

/// What another gateway counts, too. Numbers as they are stored (E.164).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShieldNote {
    Admitted { number: String, address: IpAddr, part: Part, here: bool, in_ratio: bool, at: Timestamp },
    Verified { number: String, at: Timestamp },
    NotSent { number: String },
    Lifted { number: String },
}

/// Without the number.
impl std::fmt::Debug for ShieldNote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ShieldNote(..)")
    }
}

impl Shield {
    /// A shield that counts with other gateways, and tells them what it counts.
    pub fn shared(tell: impl Fn(ShieldNote) + Send + Sync + 'static) -> Shield {
        Shield { state: Mutex::default(), others: Some(Box::new(tell)) }
    }

    /// Counts what another gateway counted. Numbers that are none are ignored.
    pub fn elsewhere(&self, note: ShieldNote) {
        let number = match &note {
            ShieldNote::Admitted { number, .. }
            | ShieldNote::Verified { number, .. }
            | ShieldNote::NotSent { number }
            | ShieldNote::Lifted { number } => number,
        };
        let Ok(number) = PhoneNumber::parse(number) else { return };
        let mut state = self.lock();
        match note {
            ShieldNote::Admitted { address, part, here, in_ratio, at, .. } => {
                state.make_room(at.as_secs());
                if !state.is_full() {
                    state.count(&Asked::new(&number, address, at), part, here, in_ratio);
                }
            }
            ShieldNote::Verified { at, .. } => state.verified(&number, at),
            ShieldNote::NotSent { .. } => state.end_gap(&number),
            ShieldNote::Lifted { .. } => drop(state.numbers.remove(number.e164())),
        }
    }

    pub(super) fn tell(&self, note: impl FnOnce() -> ShieldNote) {
        if let Some(tell) = &self.others {
            tell(note());
        }
    }
}
