//! News for those who are away: noted while events are shown, and taken by one task.
//!
//! Costs one atomic load for each run of events while nobody wants them. The queue is bounded; past it notices are
//! dropped and counted, because showing messages must not wait for webhooks.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use chelseru_domain::chat::{ChatEvent, Notice, RoomId};
use tokio::sync::mpsc;

use crate::watch::lock;

/// Notices that wait: about 2 MiB without texts.
const NOTICES_MAX: usize = 8192;

/// What is noted of messages and invitations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notes {
    Nothing = 0,
    WithoutText = 1,
    WithText = 2,
}

pub(crate) struct Away {
    notes: AtomicU8,
    queue: mpsc::Sender<Notice>,
    /// Until the one task takes it.
    notices: Mutex<Option<mpsc::Receiver<Notice>>>,
    dropped: AtomicU64,
}

impl Default for Away {
    fn default() -> Away {
        let (queue, notices) = mpsc::channel(NOTICES_MAX);
        Away {
            notes: AtomicU8::new(0),
            queue,
            notices: Mutex::new(Some(notices)),
            dropped: AtomicU64::new(0),
        }
    }
}

impl Away {
    pub(crate) fn set(&self, notes: Notes) {
        self.notes.store(notes as u8, Ordering::Relaxed);
    }

    pub(crate) fn take(&self) -> Option<mpsc::Receiver<Notice>> {
        lock(&self.notices).take()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn note(&self, room: RoomId, events: &[ChatEvent]) {
        let notes = self.notes.load(Ordering::Relaxed);
        if notes == Notes::Nothing as u8 {
            return;
        }
        let with_text = notes == Notes::WithText as u8;
        let notices = events.iter().filter_map(|event| Notice::of(room, event, with_text));
        for notice in notices {
            if self.queue.try_send(notice).is_err() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chelseru_domain::ids::UserId;

    fn asked(room: u64) -> ChatEvent {
        ChatEvent::Declined { user: UserId(room) }
    }

    #[test]
    fn nothing_is_noted_before_somebody_wants_it() {
        let away = Away::default();
        let mut notices = away.take().expect("the queue");
        assert!(away.take().is_none(), "one task takes it");
        away.note(RoomId(1), &[asked(1)]);
        away.set(Notes::WithText);
        away.note(RoomId(1), &[asked(1)]);
        assert!(notices.try_recv().is_err(), "a declined request is no news");
    }
}
