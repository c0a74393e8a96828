//! One open socket as the hub sees it: its holder, and the queue of frames to send.
//!
//! The queue has a limit of frames and one of bytes. A frame that does not fit empties it and closes the socket, whose
//! client reconnects and resumes. Pushing never waits, and wakes the socket's task at most once until it looks.
//! An idle socket holds no buffer.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::Waker;

use bytes::Bytes;
use chelseru_config::Chat;
use chelseru_domain::chat::{Face, RoomId};
use chelseru_domain::clock::Timestamp;
use chelseru_domain::ids::{SessionId, UserId};
use chelseru_domain::login::identity::Caller;
use chelseru_domain::share::Share;
use futures_util::task::AtomicWaker;

use crate::close::Close;
use crate::frames::{self, About};
use crate::open::{Opened, Until, Who};

/// Changes of one socket that may wait for the store. At the limit its frames are not read.
const CHANGES_MAX: u32 = 256;

/// How long a client may take to answer a close, and how long a slow reader may take to read up to it.
const CLOSE_WAIT_MS: u64 = 5_000;
const SLOW_CLOSE_WAIT_MS: u64 = 30_000;

/// Milliseconds between two reads of unread counts for one socket.
pub(super) const UNREAD_GAP_MS: u64 = 500;

pub(crate) struct Peer {
    pub(super) id: u64,
    pub(super) opened: Opened,
    pub(super) opened_at: u64,
    pub(super) limits: Arc<Chat>,
    who: RwLock<Option<Who>>,
    /// When the token expires, in microseconds.
    expires_at: AtomicU64,
    /// When the client last sent something, in the hub's milliseconds.
    pub(super) heard_at: AtomicU64,
    pub(super) pinged_at: AtomicU64,
    pub(super) unread_at: AtomicU64,
    /// When closing began; 0 while the socket is open.
    pub(super) closing_at: AtomicU64,
    /// The task must end at once.
    dead: AtomicBool,
    /// The task has work.
    work: AtomicBool,
    waker: AtomicWaker,
    changes: AtomicU32,
    /// A message is not handed to the store yet; frames after it must not overtake it.
    held: AtomicBool,
    queue: Mutex<Queue>,
    pub(super) rooms: Mutex<Joined>,
    /// The share of its address, until its token arrives.
    pub(super) unknown: Mutex<Option<Share>>,
    /// Users whom the holder blocks, sorted; `None` for none, as most do.
    hidden_from: Mutex<Option<Arc<[UserId]>>>,
}

/// Names one subscription of a socket. A later one, of the same room too, has a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Ticket(u64);

/// A watcher that reads what it missed before it becomes live.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CatchUp {
    pub room: RoomId,
    /// Of the watcher for which it reads. Once that one has ended, nothing more is read.
    pub ticket: Ticket,
    /// The number that was read so far.
    pub seq: u64,
    pub revision: u64,
    /// The newest number and revision to read, as far as known.
    pub heads: (u64, u64),
}

impl CatchUp {
    /// Adds this one, unless a newer subscription of its room has one. A room has one at most.
    pub(super) fn join(self, others: &mut Vec<CatchUp>) {
        match others.iter_mut().find(|other| other.room == self.room) {
            Some(other) if other.ticket < self.ticket => *other = self,
            Some(_) => {}
            None => others.push(self),
        }
    }
}

/// Work for the socket's task.
#[derive(Default)]
pub(crate) struct Queue {
    pub chunks: Vec<Bytes>,
    frames: usize,
    bytes: usize,
    pub close: Option<Close>,
    pub catch_ups: Vec<CatchUp>,
    /// Rooms whose unread count may have changed.
    pub unread: Vec<RoomId>,
}

/// Holds up a socket's next frames.
pub(super) struct Hold(Arc<Peer>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.held.store(false, Ordering::Release);
        self.0.signal();
    }
}

/// The rooms whose lists hold this peer.
#[derive(Default)]
pub(super) struct Joined {
    pub watched: Vec<RoomId>,
    pub followed: Vec<RoomId>,
    /// The peer has left; nothing may be added.
    pub gone: bool,
    /// Of the newest subscription.
    ticket: Ticket,
}

impl Joined {
    pub(super) fn next_ticket(&mut self) -> Ticket {
        self.ticket.0 += 1;
        self.ticket
    }
}

impl Peer {
    /// Hides the holder's presence from these users, who are sorted; returns those before.
    pub(super) fn hide_from(&self, users: Option<Arc<[UserId]>>) -> Option<Arc<[UserId]>> {
        std::mem::replace(&mut *self.hidden(), users)
    }

    /// Whether the holder's presence is hidden from a user.
    pub(super) fn hides_from(&self, user: UserId) -> bool {
        self.hidden().as_ref().is_some_and(|users| users.binary_search(&user).is_ok())
    }

    /// From whom the holder's presence is hidden, sorted.
    pub(super) fn hidden_from(&self) -> Option<Arc<[UserId]>> {
        self.hidden().clone()
    }

    /// Whether the holder's presence is hidden from anybody.
    pub(super) fn hides(&self) -> bool {
        self.hidden().is_some()
    }

    fn hidden(&self) -> MutexGuard<'_, Option<Arc<[UserId]>>> {
        self.hidden_from.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn new(id: u64, opened: Opened, limits: Arc<Chat>, now_ms: u64) -> Peer {
        Peer {
            id,
            opened,
            opened_at: now_ms,
            limits,
            who: RwLock::new(None),
            expires_at: AtomicU64::new(0),
            heard_at: AtomicU64::new(now_ms),
            pinged_at: AtomicU64::new(now_ms),
            unread_at: AtomicU64::new(0),
            closing_at: AtomicU64::new(0),
            dead: AtomicBool::new(false),
            work: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            changes: AtomicU32::new(0),
            held: AtomicBool::new(false),
            queue: Mutex::default(),
            rooms: Mutex::default(),
            unknown: Mutex::default(),
            hidden_from: Mutex::default(),
        }
    }

    pub(crate) fn who(&self) -> Option<Who> {
        self.who.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn user(&self) -> Option<UserId> {
        self.who.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|who| who.user)
    }

    pub(super) fn caller(&self) -> Option<Caller> {
        let who = self.who.read().unwrap_or_else(PoisonError::into_inner);
        who.as_ref().map(|who| Caller { user_id: who.user, session_id: who.session })
    }

    pub(super) fn session(&self) -> Option<SessionId> {
        self.who.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|who| who.session)
    }

    pub(super) fn set_who(&self, who: Who, expires_at: Timestamp) {
        *self.who.write().unwrap_or_else(PoisonError::into_inner) = Some(who);
        self.expires_at.store(expires_at.as_micros(), Ordering::Release);
    }

    pub(super) fn set_face(&self, face: Face) {
        if let Some(who) = self.who.write().unwrap_or_else(PoisonError::into_inner).as_mut() {
            who.face = face;
        }
    }

    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        let at = self.expires_at.load(Ordering::Acquire);
        self.opened.until == Until::TokenExpires && at != 0 && at <= now.as_micros()
    }

    /// Queues an error frame, its sentence in the client's language.
    pub(crate) fn refuse(&self, code: &str, detail: &str, about: &About) {
        let sentence = self.opened.language.and_then(|language| language.sentence(code, detail));
        self.push(frames::error(code, sentence.as_deref().unwrap_or(detail), about), 1);
    }

    /// Queues frames. Frames that do not fit empty the queue and close the socket.
    pub(crate) fn push(&self, chunk: Bytes, frames: usize) {
        {
            let mut queue = self.queue();
            if queue.close.is_some() {
                return;
            }
            queue.frames += frames;
            queue.bytes += chunk.len();
            if queue.frames > self.limits.queue_frames_max || queue.bytes > self.limits.queue_bytes_max {
                queue.chunks = Vec::new();
                queue.catch_ups = Vec::new();
                queue.close = Some(Close::SLOW);
            } else {
                queue.chunks.push(chunk);
            }
        }
        self.signal();
    }

    /// Closes the socket after the queued frames. The first reason counts.
    pub(crate) fn close(&self, close: Close) {
        self.queue().close.get_or_insert(close);
        self.signal();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.queue().close.is_some()
    }

    /// Whether the socket has left its hub.
    pub(super) fn is_gone(&self) -> bool {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner).gone
    }

    /// How long a closing client may take to answer; `None` while the socket is open.
    pub(super) fn close_wait_ms(&self) -> Option<u64> {
        let close = self.queue().close?;
        Some(match close {
            // A slow reader needs time to read up to the close frame; a silent client will not answer.
            Close::SLOW => SLOW_CLOSE_WAIT_MS,
            Close::SILENT => 0,
            _ => CLOSE_WAIT_MS,
        })
    }

    pub(super) fn push_catch_up(&self, catch_up: CatchUp) {
        catch_up.join(&mut self.queue().catch_ups);
        self.signal();
    }

    /// Notes that a room's unread count may have changed.
    pub(super) fn push_unread(&self, room: RoomId, now_ms: u64) {
        {
            let mut queue = self.queue();
            if queue.close.is_some() {
                return;
            }
            if !queue.unread.contains(&room) {
                queue.unread.push(room);
            }
        }
        // Otherwise the hub's next tick signals.
        if self.unread_due(now_ms) {
            self.signal();
        }
    }

    pub(super) fn unread_due(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.unread_at.load(Ordering::Relaxed)) >= UNREAD_GAP_MS
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.queue().unread.is_empty()
    }

    /// Takes the queue and resets its counts.
    pub(super) fn take_queue(&self, unread_too: bool) -> Queue {
        let mut queue = self.queue();
        let unread = if unread_too { Vec::new() } else { std::mem::take(&mut queue.unread) };
        let close = queue.close;
        std::mem::replace(&mut *queue, Queue { close, unread, ..Queue::default() })
    }

    pub(super) fn kill(&self) {
        self.dead.store(true, Ordering::Release);
        self.signal();
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    pub(super) fn signal(&self) {
        if !self.work.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// The task begins a round and looks at all work.
    pub(super) fn begin_round(&self) {
        // A swap, not a store, so that work queued before the signal is visible after it.
        self.work.swap(false, Ordering::AcqRel);
    }

    /// Whether the task has work. If not, the waker is woken when it has.
    pub(super) fn poll_work(&self, waker: &Waker) -> bool {
        self.waker.register(waker);
        self.work.load(Ordering::Acquire)
    }

    pub(super) fn change_begins(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn change_ended(&self) {
        let before = self.changes.fetch_sub(1, Ordering::AcqRel);
        if before == 1 || before >= CHANGES_MAX {
            self.signal();
        }
    }

    /// Whether a change waits for the store.
    pub(super) fn is_waiting(&self) -> bool {
        self.changes.load(Ordering::Acquire) > 0
    }

    /// Whether the limit of waiting changes is reached, or a message holds up the frames after it.
    pub(super) fn is_busy(&self) -> bool {
        self.changes.load(Ordering::Acquire) >= CHANGES_MAX || self.held.load(Ordering::Acquire)
    }

    /// Holds up the socket's next frames until the guard is dropped.
    pub(super) fn hold(self: &Arc<Self>) -> Hold {
        self.held.store(true, Ordering::Release);
        Hold(Arc::clone(self))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open::Form;

    fn peer(frames: usize, bytes: usize) -> Peer {
        let limits = Chat { queue_frames_max: frames, queue_bytes_max: bytes, ..Chat::default() };
        let until = Until::TokenExpires;
        let opened = Opened { room: None, form: Form::Extended, since: None, until, language: None };
        Peer::new(1, opened, Arc::new(limits), 0)
    }

    #[test]
    fn a_queue_holds_as_much_as_its_bounds_and_then_closes() {
        let peer = peer(3, 10);
        peer.push(Bytes::from_static(b"12345"), 2);
        peer.push(Bytes::from_static(b"67890"), 1);
        assert!(!peer.is_closing());
        assert_eq!(peer.take_queue(true).chunks.len(), 2);

        peer.push(Bytes::from_static(b"1234567890"), 1);
        assert!(!peer.is_closing());
        peer.push(Bytes::from_static(b"1"), 1);
        let queue = peer.take_queue(true);
        assert_eq!((queue.close, queue.chunks.len()), (Some(Close::SLOW), 0));
        peer.push(Bytes::from_static(b"1"), 1);
        assert!(peer.take_queue(true).chunks.is_empty());

        let peer = self::peer(3, 10);
        peer.push(Bytes::from_static(b"1"), 3);
        assert!(!peer.is_closing());
        peer.push(Bytes::from_static(b"1"), 1);
        assert!(peer.is_closing());
    }

    #[test]
    fn the_first_reason_to_close_counts() {
        let peer = peer(3, 10);
        peer.close(Close::KICKED);
        peer.close(Close::GOING_AWAY);
        assert_eq!(peer.take_queue(true).close, Some(Close::KICKED));
    }
}
