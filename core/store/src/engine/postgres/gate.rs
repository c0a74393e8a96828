//! What a check of a session reads: kept here, because answers of many checks go through one place of the engine.

use crate::Timestamp;

/// A session as a check sees it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gate {
    /// Of the account; `None` where there is none.
    pub(crate) active: Option<bool>,
    pub(crate) session: Option<GateSession>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct GateSession {
    pub(crate) expires_at: Timestamp,
    /// What tokens of the session repeat.
    pub(crate) binding: u64,
    /// Older than bindings: its tokens may lack one.
    pub(crate) unbound: bool,
}

impl GateSession {
    /// Returns true when a token with this binding belongs to the session.
    pub(crate) fn opens(&self, binding: Option<u64>) -> bool {
        binding.map_or(self.unbound, |binding| binding == self.binding)
    }
}
