//! The sandbox's inbox: messages of the trial SMS provider, shown instead of sent.
//!
//! Each message is printed to the terminal and stored in a bounded list that `{base}/sandbox/inbox/` reads. It holds
//! codes in plain text, which is its purpose. The list is in memory only, exists only while a sandbox provider is
//! selected, and is served to operators only.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Mutex;

use chelseru_domain::sms::{Inbox, ShownMessage};
use chelseru_domain::{PhoneNumber, Timestamp};

/// Messages kept; the oldest is dropped first.
const MESSAGES_MAX: usize = 200;

#[derive(Default)]
pub struct SandboxInbox {
    messages: Mutex<VecDeque<ShownMessage>>,
    /// Print messages to the terminal, too.
    print: bool,
}

impl SandboxInbox {
    pub fn new(print: bool) -> SandboxInbox {
        SandboxInbox { messages: Mutex::default(), print }
    }

    pub fn add(&self, provider: &str, to: &PhoneNumber, text: String, at: Timestamp) {
        if self.print {
            // The terminal may be closed; the message is in the inbox in any case.
            let _ = writeln!(std::io::stdout(), "SANDBOX SMS to {}: {text}", to.local());
        }
        let message = ShownMessage { to: to.clone(), text, provider: provider.to_owned(), at };
        let mut messages = self.lock();
        if messages.len() == MESSAGES_MAX {
            messages.pop_front();
        }
        messages.push_back(message);
    }

    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<ShownMessage>> {
        self.messages.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Inbox for SandboxInbox {
    fn list(&self, to: Option<&PhoneNumber>) -> Vec<ShownMessage> {
        let messages = self.lock();
        messages.iter().rev().filter(|message| to.is_none_or(|to| message.to == *to)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_message_goes_at_the_bound() {
        let inbox = SandboxInbox::new(false);
        let number = |n: usize| PhoneNumber::parse(&format!("0912{n:07}")).expect("a number");
        for n in 0..=MESSAGES_MAX {
            inbox.add("SANDBOX_SMS", &number(n), "x".into(), Timestamp::from_micros(0));
        }
        let messages = inbox.list(None);
        assert_eq!(messages.len(), MESSAGES_MAX);
        assert!(messages[0].to == number(MESSAGES_MAX));
        assert!(inbox.list(Some(&number(0))).is_empty());
        assert_eq!(inbox.list(Some(&number(1))).len(), 1);
    }
}
