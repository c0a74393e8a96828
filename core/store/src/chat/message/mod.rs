//! Messages of rooms.

pub(crate) mod sled;

pub(crate) use sled::newest;
pub use sled::{
    Appended, Edited, Message, MessageBody, MessageDraft, MessageEdit, MessageEdited, MessagePage,
};
