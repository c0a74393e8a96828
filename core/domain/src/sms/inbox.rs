//! The trial provider's messages, which are shown instead of sent.

use crate::{PhoneNumber, Timestamp};

/// One message that was shown. It holds codes in clear, which is its purpose; so it has no `Debug`.
#[derive(Clone)]
pub struct ShownMessage {
    pub to: PhoneNumber,
    pub text: String,
    /// The provider entry's name.
    pub provider: String,
    pub at: Timestamp,
}

/// Messages that a trial provider was asked to send. Empty when no trial provider is selected.
pub trait Inbox: Send + Sync {
    /// Newest first; only those to one number, or all.
    fn list(&self, to: Option<&PhoneNumber>) -> Vec<ShownMessage>;
}
