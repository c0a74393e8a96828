//! What every engine does alike with messages it has read: pages, and the effect of an edit.

use crate::Timestamp;
use crate::chat::FileId;
use crate::chat::message::{Message, MessageBody, MessageEdit, MessagePage};

/// Deleted messages that a page skips before it ends early, possibly empty, and reports that more exist. Without this
/// limit a long row of deletions would make every page behind it a long scan.
const STEPS_MAX: usize = 1000;

/// A page in the making.
pub(crate) struct Pager {
    /// `usize::MAX` asks for every message.
    limit: usize,
    steps: usize,
    page: MessagePage,
}

impl Pager {
    pub(crate) fn new(limit: usize) -> Pager {
        Pager { limit, steps: 0, page: MessagePage { messages: Vec::new(), more: false, end: 0 } }
    }

    /// Takes the next message in the page's direction; false when the page ends before it.
    pub(crate) fn take(&mut self, message: Message) -> bool {
        if message.deleted {
            self.page.more = self.steps >= STEPS_MAX && self.limit != usize::MAX;
            self.steps += 1;
        } else {
            self.page.more = self.page.messages.len() >= self.limit;
        }
        if self.page.more {
            return false;
        }
        self.page.end = message.seq;
        if !message.deleted {
            self.page.messages.push(message);
        }
        true
    }

    pub(crate) fn page(self) -> MessagePage {
        self.page
    }
}

/// Applies an edit to a message. Returns the file that the message gives up.
pub(crate) fn edit(message: &mut Message, edit: MessageEdit, now: Timestamp) -> Option<FileId> {
    match edit {
        MessageEdit::Body(body) => {
            message.body = body;
            message.edited_at = Some(now);
            None
        }
        MessageEdit::DropFile => {
            message.file_name = None;
            message.file.take()
        }
        MessageEdit::Delete => {
            let kind = std::mem::take(&mut message.body.kind);
            message.body = MessageBody { kind, ..MessageBody::default() };
            message.file_name = None;
            message.edited_at = Some(now);
            message.deleted = true;
            message.file.take()
        }
    }
}
