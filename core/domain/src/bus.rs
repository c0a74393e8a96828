//! Notes between gateways that share a store.
//!
//! **The promise of a [`Bus`] is nothing:** a note arrives at most once or twice, late, in any order, or not at all.
//! So no note carries what only it knows. Whoever receives changes of a room orders them by their places, drops what it
//! has, and reads what it lacks from the store ([`crate::chat`]); sessions are checked again without a note. A bus that
//! is down costs time, never data.
//!
//! Not here: the servers that carry notes (`chelseru-outbound`), and what sockets make of them.

use std::sync::Arc;

use async_trait::async_trait;
use chelseru_store::chat::RoomId;
use serde::{Deserialize, Serialize};

use crate::chat::{Face, Others, RoomNews};
use crate::ids::UserId;
use crate::login::identity::SessionsEnded;
use crate::rate::Counted;
use crate::sms::shield::ShieldNote;

/// One run of a gateway, unique for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u128);

/// What a gateway tells the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// Changes of a room that were stored, in the order of their places.
    Changed {
        room: RoomId,
        news: Vec<RoomNews>,
    },
    /// A frame of a client that is not stored.
    Signal(Signal),
    /// Who watches a room at the sender, as of now.
    Present {
        room: RoomId,
        users: Vec<Present>,
    },
    /// Asks who watches a room.
    WhoIsThere {
        room: RoomId,
    },
    SessionsEnded(SessionsEnded),
    /// What counts against the caps of codes.
    Shield(ShieldNote),
    /// What counts against the allowances of users and addresses.
    Counted(Vec<Counted>),
    /// An account was made or changed.
    AccountChanged(UserId),
    /// Whom a user blocks changed.
    BlocksChanged(UserId),
    /// A user's picture changed.
    FaceChanged(UserId),
    /// Asks which of these users have a socket at the receiver.
    WhoIsConnected {
        /// Names the question in its answers.
        ask: u64,
        users: Vec<UserId>,
    },
    /// Those that have.
    Connected {
        ask: u64,
        users: Vec<UserId>,
    },
    /// An edit that every gateway makes was entered in the store.
    Edited,
    /// The sender is there.
    Here,
}

/// A frame that goes to those who watch a room, and is not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    pub room: RoomId,
    pub from: UserId,
    /// JSON.
    pub frame: String,
    /// The same for the original's clients; absent when they do not get it.
    pub original: Option<String>,
    /// Users from whom the sender's state is hidden.
    pub hidden_from: Vec<UserId>,
}

/// A user who watches a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    pub user: UserId,
    pub face: Face,
    /// Users who do not see it, sorted.
    pub hidden_from: Vec<UserId>,
}

impl Note {
    /// The room whose watchers the note is for; `None` when every gateway gets it.
    #[must_use]
    pub fn room(&self) -> Option<RoomId> {
        match self {
            // A user may be connected where nobody watches the room yet.
            Note::Changed { news, .. } if news.iter().any(RoomNews::is_for_users) => None,
            Note::Changed { room, .. } | Note::Present { room, .. } | Note::WhoIsThere { room } => {
                Some(*room)
            }
            Note::Signal(signal) => Some(signal.room),
            Note::SessionsEnded(_)
            | Note::Shield(_)
            | Note::Counted(_)
            | Note::AccountChanged(_)
            | Note::BlocksChanged(_)
            | Note::FaceChanged(_)
            | Note::WhoIsConnected { .. }
            | Note::Connected { .. }
            | Note::Edited
            | Note::Here => None,
        }
    }
}

/// The bus as chat knows it.
pub struct ToOthers(pub Arc<dyn Bus>);

impl Others for ToOthers {
    fn tell(&self, room: RoomId, news: Vec<RoomNews>) {
        self.0.send(Note::Changed { room, news });
    }

    fn are_heard(&self) -> bool {
        self.0.is_up()
    }
}

/// Carries notes to the other gateways.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Sends a note. Never waits; what does not fit its queue is dropped.
    fn send(&self, note: Note);

    /// Whether notes arrived lately.
    fn is_up(&self) -> bool;

    /// Asks for notes about a room. Each call is ended by one of [`Bus::leave`].
    fn enter(&self, room: RoomId);

    /// Ends one [`Bus::enter`]. Notes about the room may still arrive.
    fn leave(&self, room: RoomId);

    /// Waits until notes about a room that was entered arrive: a bounded time, and not at all for a bus that is down.
    async fn ready(&self, room: RoomId);
}
