//! The open sockets, by number and by user.
//!
//! Invariants: a socket is counted from its registration until it leaves; at most `sockets_max` sockets are open, and
//! at most `sockets_per_user_max` of one user. Next: `rooms` (who watches what).

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use chelseru_config::Chat;
use chelseru_domain::chat::{Face, Notice};
use chelseru_domain::clock::Timestamp;
use chelseru_domain::ids::UserId;
use chelseru_domain::login::identity::SessionsEnded;
use chelseru_domain::share::{ShareLimits, Shares};
use tokio::sync::mpsc;

use crate::away::{Away, Notes};
use crate::close::Close;
use crate::coalesce::{Coalesce, State};
use crate::link::Link;
use crate::open::{Opened, Who};
use crate::peer::Peer;
use crate::rooms::Rooms;
use crate::watch::lock;

/// How many times the share of one address a network has, of sockets whose token has not arrived.
const NETWORK_TIMES: u64 = 5;

/// The open sockets.
pub struct Hub {
    pub(crate) peers: RwLock<HashMap<u64, Arc<Peer>>>,
    pub(crate) users: Mutex<HashMap<UserId, Vec<Arc<Peer>>>>,
    pub(crate) rooms: Rooms,
    next: AtomicU64,
    unknown: Arc<Shares>,
    states: Mutex<Coalesce>,
    pub(crate) away: Away,
    pub(crate) ticks: AtomicU64,
    started: Instant,
    stopping: std::sync::atomic::AtomicBool,
}

/// Why a socket may not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// The gateway has too many sockets.
    Gateway,
    /// The user has too many sockets.
    User,
}

/// Why a socket gets no holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotIdentified {
    /// The user has too many sockets.
    TooMany,
    /// The socket has a holder.
    Known,
    /// The socket has left.
    Gone,
}

impl Hub {
    pub fn new() -> Hub {
        Hub::linked(None)
    }

    /// A hub that shares its rooms with other gateways.
    pub(crate) fn linked(link: Option<Arc<Link>>) -> Hub {
        Hub {
            peers: RwLock::default(),
            users: Mutex::default(),
            rooms: Rooms::new(link),
            next: AtomicU64::new(1),
            unknown: Shares::new(ShareLimits { total: 0, network: 0, address: 0 }),
            states: Mutex::default(),
            away: Away::default(),
            ticks: AtomicU64::new(0),
            started: Instant::now(),
            stopping: false.into(),
        }
    }

    /// Open sockets.
    pub fn sockets(&self) -> usize {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Sockets that are closing.
    pub fn closing(&self) -> usize {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.values().filter(|peer| peer.is_closing()).count()
    }

    /// Milliseconds since the hub was made, from 1.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Notes a state of a user; true when it is to be shown now.
    pub(crate) fn note_state(&self, state: State, value: u64) -> bool {
        lock(&self.states).note(state, value, self.now_ms())
    }

    /// The states whose time has come.
    pub(crate) fn states_due(&self) -> Vec<(State, u64)> {
        lock(&self.states).due(self.now_ms())
    }

    /// Registers a socket. `who` is `None` when the token comes in the first frame.
    pub(crate) fn enter(
        &self,
        opened: Opened,
        limits: &Chat,
        who: Option<(Who, Timestamp)>,
        from: IpAddr,
    ) -> Result<Arc<Peer>, NoPlace> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let peer = Arc::new(Peer::new(id, opened, Arc::new(limits.clone()), self.now_ms()));
        {
            let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
            if peers.len() >= limits.sockets_max {
                return Err(NoPlace::Gateway);
            }
            if who.is_none() {
                let address = limits.sockets_unknown_per_address_max;
                let network = NETWORK_TIMES.saturating_mul(address);
                self.unknown.set_limits(ShareLimits { total: limits.sockets_unknown_max, network, address });
                let share = self.unknown.take(from, 1).map_err(|_| NoPlace::Gateway)?;
                *lock(&peer.unknown) = Some(share);
            }
            peers.insert(id, Arc::clone(&peer));
        }
        if let Some((who, expires_at)) = who
            && self.identify(&peer, who, expires_at).is_err()
        {
            // The peer is new, so only the user's limit can refuse it.
            self.leave(&peer);
            return Err(NoPlace::User);
        }
        if self.stopping.load(Ordering::Acquire) {
            peer.close(Close::GOING_AWAY);
        }
        Ok(peer)
    }

    /// Notes the holder of a socket, and counts the socket among the holder's.
    pub(crate) fn identify(
        &self,
        peer: &Arc<Peer>,
        who: Who,
        expires_at: Timestamp,
    ) -> Result<(), NotIdentified> {
        // All under the lock of the users: `leave` either finds the holder, or has left before.
        let mut users = lock(&self.users);
        if peer.is_gone() {
            return Err(NotIdentified::Gone);
        }
        if peer.user().is_some() {
            return Err(NotIdentified::Known);
        }
        let peers = users.entry(who.user).or_default();
        if peers.len() >= peer.limits.sockets_per_user_max {
            return Err(NotIdentified::TooMany);
        }
        peers.push(Arc::clone(peer));
        peer.set_who(who, expires_at);
        *lock(&peer.unknown) = None;
        Ok(())
    }

    /// Forgets a socket. Nothing can be added to it afterwards.
    pub(crate) fn leave(&self, peer: &Arc<Peer>) {
        self.peers.write().unwrap_or_else(PoisonError::into_inner).remove(&peer.id);
        let (watched, followed) = {
            let mut rooms = lock(&peer.rooms);
            rooms.gone = true;
            (std::mem::take(&mut rooms.watched), std::mem::take(&mut rooms.followed))
        };
        *lock(&peer.unknown) = None;
        {
            let mut users = lock(&self.users);
            if let Some(user) = peer.user()
                && let Some(peers) = users.get_mut(&user)
            {
                peers.retain(|other| other.id != peer.id);
                if peers.is_empty() {
                    users.remove(&user);
                }
            }
        }
        for room in watched {
            self.rooms.unwatch(room, peer);
        }
        for room in followed {
            self.rooms.unfollow(room, peer);
        }
    }

    /// Lets a user's sockets hide the user's presence from these users, who are sorted, and shows the difference.
    pub(crate) fn hide(&self, user: UserId, from: Option<&Arc<[UserId]>>) {
        let peers = lock(&self.users).get(&user).cloned().unwrap_or_default();
        let (mut before, mut rooms) = (None, BTreeSet::new());
        for peer in &peers {
            before = peer.hide_from(from.cloned()).or(before);
            rooms.extend(lock(&peer.rooms).watched.iter().copied());
        }
        let Some(who) = peers.iter().find_map(|peer| peer.who()) else { return };
        for room in rooms {
            self.rooms.with_room(room, |watch| {
                watch.hidden_anew(room, &who, before.as_deref().unwrap_or_default())
            });
        }
    }

    /// Shows a user otherwise from now on.
    pub(crate) fn set_face(&self, user: UserId, face: &Face) {
        for peer in lock(&self.users).get(&user).into_iter().flatten() {
            peer.set_face(face.clone());
        }
    }

    /// Sets what is noted for those who are away.
    pub fn note_news(&self, notes: Notes) {
        self.away.set(notes);
    }

    /// The notes, for one task; `None` when they are taken.
    pub fn news(&self) -> Option<mpsc::Receiver<Notice>> {
        self.away.take()
    }

    /// Notes that were dropped because too many waited.
    pub fn news_dropped(&self) -> u64 {
        self.away.dropped()
    }

    /// Whether a user has an open socket.
    pub fn has(&self, user: UserId) -> bool {
        lock(&self.users).contains_key(&user)
    }

    /// Closes the sockets of sessions that ended.
    pub(crate) fn sessions_ended(&self, ended: SessionsEnded) {
        let (user, session) = match ended {
            SessionsEnded::One(user, session) => (user, Some(session)),
            SessionsEnded::All(user) => (user, None),
        };
        let users = lock(&self.users);
        for peer in users.get(&user).into_iter().flatten() {
            if session.is_none() || peer.session() == session {
                peer.close(Close::SESSION_ENDED);
            }
        }
    }

    /// Closes every socket because the gateway stops.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        for peer in self.peers.read().unwrap_or_else(PoisonError::into_inner).values() {
            peer.close(Close::GOING_AWAY);
        }
    }
}

impl Default for Hub {
    fn default() -> Self {
        Hub::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{ALL, EXPIRES, HERE, who};

    const USER: UserId = UserId(1);

    /// A socket whose token comes in the first frame.
    fn unknown(hub: &Hub, limits: &Chat) -> Arc<Peer> {
        hub.enter(ALL, limits, None, HERE).expect("a place")
    }

    #[test]
    fn a_socket_that_left_while_its_token_was_checked_is_nobodys() {
        let hub = Hub::new();
        let peer = unknown(&hub, &Chat::default());
        hub.leave(&peer);
        assert_eq!(hub.identify(&peer, who(1), EXPIRES), Err(NotIdentified::Gone));
        assert!(!hub.has(USER));

        let peer = unknown(&hub, &Chat::default());
        assert_eq!(hub.identify(&peer, who(1), EXPIRES), Ok(()));
        assert!(hub.has(USER));
        hub.leave(&peer);
        assert!(!hub.has(USER));
    }

    #[test]
    fn a_socket_keeps_its_first_holder() {
        let hub = Hub::new();
        let peer = unknown(&hub, &Chat::default());
        assert_eq!(hub.identify(&peer, who(1), EXPIRES), Ok(()));
        assert_eq!(hub.identify(&peer, who(2), EXPIRES), Err(NotIdentified::Known));
        assert_eq!(peer.user(), Some(USER));
        assert!(!hub.has(UserId(2)));
        hub.leave(&peer);
        assert!(!hub.has(USER));
    }

    #[test]
    fn a_user_has_as_many_sockets_as_the_bound_and_not_one_more() {
        let limits = Chat { sockets_per_user_max: 2, ..Chat::default() };
        let hub = Hub::new();
        let peers = [(); 3].map(|()| unknown(&hub, &limits));
        let identified = peers.each_ref().map(|peer| hub.identify(peer, who(1), EXPIRES));
        assert_eq!(identified, [Ok(()), Ok(()), Err(NotIdentified::TooMany)]);
        assert_eq!(peers[2].user(), None);
        hub.leave(&peers[2]);
        let full = hub.enter(ALL, &limits, Some((who(1), EXPIRES)), HERE).map(drop);
        assert_eq!((full, hub.sockets()), (Err(NoPlace::User), 2));
        hub.leave(&peers[0]);
        assert!(hub.enter(ALL, &limits, Some((who(1), EXPIRES)), HERE).is_ok());
    }
}
