//! The sandbox's inbox: messages of the trial SMS provider, shown instead of sent.
//!
//! Each message goes to the terminal and into a bounded list that `{base}/sandbox/inbox/` reads. It holds
//! codes in clear, which is its purpose; it lives in memory only, exists only while a sandbox provider is
//! selected, and the route answers clients on this machine only.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Mutex;

use chelseru_domain::clock::{Timestamp, rest_format};
use serde::Serialize;

/// Messages kept; the oldest goes first.
pub const MESSAGES_MAX: usize = 200;

#[derive(Debug, Clone, Serialize)]
pub struct InboxMessage {
    pub mobile_number: String,
    pub text: String,
    pub provider: String,
    pub created_at: String,
}

#[derive(Default)]
pub struct Inbox {
    messages: Mutex<VecDeque<InboxMessage>>,
    /// Whether messages are printed to the terminal as well.
    print: bool,
}

impl Inbox {
    pub fn new(print: bool) -> Inbox {
        Inbox { messages: Mutex::default(), print }
    }

    pub fn add(&self, provider: &str, mobile_number: String, text: String, at: Timestamp) {
        if self.print {
            // The terminal may be gone; the message is in the inbox all the same.
            let _ = writeln!(std::io::stdout(), "SANDBOX SMS to {mobile_number}: {text}");
        }
        let message =
            InboxMessage { mobile_number, text, provider: provider.to_owned(), created_at: rest_format(at) };
        let mut messages = self.lock();
        if messages.len() == MESSAGES_MAX {
            messages.pop_front();
        }
        messages.push_back(message);
    }

    /// Newest first, of one number or of all.
    pub fn list(&self, mobile_number: Option<&str>) -> Vec<InboxMessage> {
        self.lock()
            .iter()
            .rev()
            .filter(|message| mobile_number.is_none_or(|number| message.mobile_number == number))
            .cloned()
            .collect()
    }

    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<InboxMessage>> {
        self.messages.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_message_goes_at_the_bound() {
        let inbox = Inbox::new(false);
        for n in 0..=MESSAGES_MAX {
            inbox.add("SANDBOX_SMS", format!("{n}"), "x".into(), Timestamp::from_micros(0));
        }
        let messages = inbox.list(None);
        assert_eq!(messages.len(), MESSAGES_MAX);
        assert_eq!(messages[0].mobile_number, MESSAGES_MAX.to_string());
        assert!(inbox.list(Some("0")).is_empty());
        assert_eq!(inbox.list(Some("1")).len(), 1);
    }
}
