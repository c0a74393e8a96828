//! One-time codes.

pub(crate) mod sled;

pub(crate) use sled::{Challenge, Guess, guess};
pub use sled::{ChallengeDraft, ChallengeOpened, LoginDraft, LoginOutcome};
