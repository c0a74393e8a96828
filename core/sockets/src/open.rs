//! How a socket was opened, and who holds it.

use chelseru_domain::chat::{Face, RoomId, SEQ_MAX, message_of};
use chelseru_domain::ids::{SessionId, UserId};
use chelseru_domain::language::Language;

/// Which frames a socket gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Those of the original, and error frames.
    Original,
    /// All.
    Extended,
}

/// How long a socket may stay open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Until its access token expires. The client sends a newer one in time.
    TokenExpires,
    /// Until its session ends. The original's clients cannot renew a token on an open socket.
    SessionEnds,
}

/// Who holds a socket.
#[derive(Debug, Clone)]
pub struct Who {
    pub user: UserId,
    pub session: SessionId,
    /// As it was when the token came, or as the user changed it since.
    pub face: Face,
}

/// How a socket was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The room of a room's socket; `None` for one of all rooms.
    pub room: Option<RoomId>,
    pub form: Form,
    /// The newest that the client has seen of the room.
    pub since: Option<Since>,
    pub until: Until,
    /// Of the sentences in error frames; `None` keeps them as they are.
    pub language: Option<Language>,
}

impl Opened {
    /// An echo for tests has no holder.
    pub(crate) fn is_echo(self) -> bool {
        self.room.is_none() && self.form == Form::Original
    }
}

/// The last number that a client saw, and the last revision if it said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since {
    pub seq: u64,
    pub revision: Option<u64>,
}

/// The number that a client means. A client may send a message's id instead: ids are larger than any number.
pub fn seen(number: u64) -> u64 {
    if number > SEQ_MAX { message_of(number).1 } else { number }
}
