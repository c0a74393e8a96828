//! Messages that are sent by SMS.

pub(crate) mod sled;

pub use sled::{
    Begun, IdempotencyDraft, Message, MessageClass, MessageContent, MessageDraft, MessageEnd, MessageFilter,
    MessageInserted, MessagePage, MessageRange, MessageStatus, Progress, Quota, Recovered, Reported,
    TRIED_MAX, Tried,
};
