//! Chat: rights in rooms, and the path of a message from its sender to its readers.
//!
//! Every change goes to the store together with its judge ([`rights::permit`]). Stored changes return, in the order of
//! positions, through one publisher task, which hands them to a [`ChatPort`] and then replies to the caller.
//! Invariants: nothing is shown before it is durable; a room's members see its events in the order of their numbers; no
//! route and no frame decides a right by itself.
//!
//! Not here: sockets and JSON; the gateway implements the port. Reading order: `rights`, `service`, `message`, `room`,
//! `change` and `search`.

mod public;
pub mod rights;

mod service;
mod stored;

mod allowance;
mod change;
mod message;
pub(crate) mod organization;
mod room;

mod directory;
mod request;

mod away;
mod depart;

pub mod search;

mod missed;
mod note;
mod order;
mod publish;

use std::sync::Arc;

use chelseru_store::StoreError;
pub use chelseru_store::chat::{
    Acquaintance, BLOCKS_MAX, ChatRequest, Edited, FileDraft, FileId, FileKept, Member, Message, MessageBody,
    MessageEdit, MessagePage, Organization, OrganizationChanged, OrganizationId, OrganizationMade,
    OrganizationRemoved, Picture, ROOMS_MAX, Room, RoomChange, RoomChanged, RoomFacts, RoomId, RoomKind,
    RoomMade, RoomStatus, RoomSummary, SEQ_MAX, StoredFile, Thumbnail,
};

pub use allowance::Charged;
pub use away::{ABSENT_MAX, Absence, NEWS, Notice, news, news_kind};
pub use change::{RoomEdit, RoomRequest};
pub use directory::{CONTACTS_MAX, Finder, LOOKUP_MAX};
pub use message::Post;
pub use public::{Face, PublicUser};
pub use publish::Entry;
pub use request::WaitingRequest;
pub use rights::{Access, Action, Denied, Rights, effective, permit};
pub use service::ChatService;
pub use stored::{Others, RoomNews, Stored};

use serde::{Deserialize, Serialize};

use crate::Range;
use crate::ids::UserId;
use crate::rate::Exhausted;

pub const TEXT_CHARS: Range<usize> = Range::new(1, 65_536, 4096);
/// Members of a room.
pub const MEMBERS: Range<u32> = Range::new(2, 100_000, 1000);
/// Users banned from a room.
pub const BANS: Range<u32> = Range::new(1, 100_000, 1000);
pub const ROOMS_PER_USER: Range<usize> = Range::new(1, 10_000, 1000);
pub const ORGANIZATIONS_PER_USER: Range<usize> = Range::new(1, 1000, 20);
/// Requests that may wait for one user; one more ends the oldest.
pub const REQUESTS: Range<usize> = Range::new(1, 1000, 100);
/// Rooms that one user may open in an hour.
pub const ROOMS_PER_HOUR: Range<u64> = Range::new(1, 1_000_000_000, 100);
/// Strangers that one user may ask in an hour, by pairs and invitations.
pub const REQUESTS_PER_HOUR: Range<u64> = Range::new(1, 1_000_000_000, 100);
/// Names and numbers that one user may look up in a day.
pub const LOOKUPS_PER_DAY: Range<u64> = Range::new(1, 1_000_000_000, 2000);
/// Searches of one user in a minute.
pub const SEARCHES_PER_MINUTE: Range<u64> = Range::new(1, 1_000_000, 60);
/// Reads of one search, in messages: some 30 ms of one core. A search over many rooms has more, see
/// `search/merge.rs`.
pub const SEARCH_STEPS_MAX: usize = 24_000;
/// Days for which messages are kept; 0 keeps them.
pub const MESSAGES_KEEP_DAYS: Range<u64> = Range::new(0, 36_500, 0);
/// Messages, and as many edits, that a resume delivers; a longer gap is a reset.
pub const RESUME_MESSAGES: Range<u64> = Range::new(1, 100_000, 1000);

/// What one user may send: messages, edits, signals and changes of rooms together.
pub const MESSAGES_PER_MINUTE: Range<u64> = Range::new(1, 1_000_000_000, 600);
pub const MESSAGES_PER_DAY: Range<u64> = Range::new(1, 1_000_000_000, 50_000);
/// And their bytes.
pub const BYTES_PER_MINUTE: Range<u64> = Range::new(1024, 1 << 40, 4 * 1024 * 1024);
pub const BYTES_PER_DAY: Range<u64> = Range::new(1024, 1 << 40, 256 * 1024 * 1024);

/// The actor of what an operator does in a room. No account has this number.
pub(crate) const OPERATOR: UserId = UserId(0);

/// How users who share no room get into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strangers {
    /// They are asked.
    #[default]
    Ask,
    /// They are members at once, as in the original: for communities whose members trust each other.
    Admit,
}

/// Who finds whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Directory {
    /// Nobody.
    Off,
    /// People who know each other.
    #[default]
    Contacts,
    /// Everybody. Whoever has an account learns which numbers have one.
    Open,
}

/// Bounds of chat; the constants above have their ranges and defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatRules {
    /// Characters of a message's text.
    pub text_chars_max: usize,
    pub members_max: u32,
    pub bans_max: u32,
    pub rooms_per_user_max: usize,
    pub organizations_per_user_max: usize,
    /// Whether users who share no room are asked, or members at once.
    pub strangers: Strangers,
    pub requests_max: usize,
    pub rooms_per_hour_max: u64,
    pub requests_per_hour_max: u64,
    pub directory: Directory,
    pub lookups_per_day_max: u64,
    pub searches_per_minute_max: u64,
    /// Reads of one search, in messages.
    pub search_steps_max: usize,
    /// Messages, and as many edits, that a resume delivers; a longer gap is a reset.
    pub resume_max: u64,
    pub messages_per_minute_max: u64,
    pub messages_per_day_max: u64,
    pub bytes_per_minute_max: u64,
    pub bytes_per_day_max: u64,
}

impl Default for ChatRules {
    fn default() -> Self {
        ChatRules {
            text_chars_max: TEXT_CHARS.default,
            members_max: MEMBERS.default,
            bans_max: BANS.default,
            rooms_per_user_max: ROOMS_PER_USER.default,
            organizations_per_user_max: ORGANIZATIONS_PER_USER.default,
            strangers: Strangers::default(),
            requests_max: REQUESTS.default,
            rooms_per_hour_max: ROOMS_PER_HOUR.default,
            requests_per_hour_max: REQUESTS_PER_HOUR.default,
            directory: Directory::default(),
            lookups_per_day_max: LOOKUPS_PER_DAY.default,
            searches_per_minute_max: SEARCHES_PER_MINUTE.default,
            search_steps_max: SEARCH_STEPS_MAX,
            resume_max: RESUME_MESSAGES.default,
            messages_per_minute_max: MESSAGES_PER_MINUTE.default,
            messages_per_day_max: MESSAGES_PER_DAY.default,
            bytes_per_minute_max: BYTES_PER_MINUTE.default,
            bytes_per_day_max: BYTES_PER_DAY.default,
        }
    }
}

/// Bytes of a message's text, whatever `text_chars_max` allows: a record of the store stays below its limit.
pub const TEXT_BYTES_MAX: usize = 32 * 1024;

/// Characters of a latitude and of a longitude.
const COORDINATE_CHARS_MAX: usize = 40;

/// The stored kinds of messages, as the API names them.
pub const KINDS: [&str; 4] = ["text", "image", "file", "location"];

/// Characters of a room's name, as in the original.
pub const NAME_CHARS_MAX: usize = 45;

/// Characters of a room's description.
pub const DESCRIPTIONS_CHARS_MAX: usize = 2000;

/// Characters of a client's own id of a message.
pub const CLIENT_ID_CHARS_MAX: usize = 64;

/// A message with its sender as others see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageView {
    pub message: Message,
    pub sender: Face,
    /// The message's file.
    #[serde(with = "note::shared_file")]
    pub file: Option<Arc<StoredFile>>,
}

/// The public id of a message: room and number in 53 bits, so finding it needs no index.
#[must_use]
pub fn message_id(room: RoomId, seq: u64) -> u64 {
    (room.0 << 26) | (seq & SEQ_MAX)
}

/// Room and number of a public message id.
#[must_use]
pub fn message_of(id: u64) -> (RoomId, u64) {
    (RoomId(id >> 26), id & SEQ_MAX)
}

/// A stored change that members may see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChatEvent {
    Posted(MessageView),
    /// An edit, or a deletion if the message says so.
    Edited {
        view: MessageView,
        revision: u64,
        by: UserId,
    },
    Read {
        user: UserId,
        seq: u64,
    },
    Made {
        room: Room,
        members: Vec<UserId>,
        /// Those who have to accept the room first.
        asked: Vec<UserId>,
        by: UserId,
    },
    /// The user was asked into the room.
    Asked {
        room: Room,
        user: UserId,
        by: UserId,
    },
    /// The user accepted the room.
    Accepted {
        room: Room,
        user: UserId,
    },
    /// The user declined the room, or the request ended by a withdrawal or a ban. Only the user's own clients learn it.
    Declined {
        user: UserId,
    },
    Updated {
        room: Room,
        /// The file of the room's avatar; absent, too, when another change came between.
        #[serde(with = "note::shared_file")]
        avatar: Option<Arc<StoredFile>>,
        by: UserId,
    },
    Joined {
        room: Room,
        user: UserId,
    },
    /// The user's rights changed.
    Rights {
        user: UserId,
        rights: Rights,
    },
    /// The user left a pair, which the user's own clients no longer list.
    Hidden {
        user: UserId,
    },
    Removed {
        user: UserId,
        why: Removal,
    },
    Deleted {
        former: Vec<UserId>,
    },
}

impl ChatEvent {
    /// Whether it is for users wherever they are connected, whether they watch the room or not.
    #[must_use]
    pub fn is_for_users(&self) -> bool {
        match self {
            ChatEvent::Made { .. }
            | ChatEvent::Asked { .. }
            | ChatEvent::Accepted { .. }
            | ChatEvent::Declined { .. }
            | ChatEvent::Joined { .. }
            | ChatEvent::Hidden { .. } => true,
            ChatEvent::Posted(_)
            | ChatEvent::Edited { .. }
            | ChatEvent::Read { .. }
            | ChatEvent::Updated { .. }
            | ChatEvent::Rights { .. }
            | ChatEvent::Removed { .. }
            | ChatEvent::Deleted { .. } => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Removal {
    Left,
    Kicked,
    Banned,
}

/// Shows events to a room's watchers. One task calls it, in the order of positions. Must not block.
pub trait ChatPort: Send + Sync {
    fn publish(&self, room: RoomId, events: &[ChatEvent]);

    /// Notes what users without a socket may want to hear of. Called once for each change, where it was made.
    fn tell_absent(&self, _room: RoomId, _events: &[ChatEvent]) {}

    /// Whether somebody watches or follows the room here. Asked only while other gateways share the store.
    fn shows(&self, _room: RoomId) -> bool {
        true
    }

    /// The users who watch or follow the room here.
    fn users(&self, _room: RoomId) -> Vec<UserId> {
        Vec::new()
    }
}

/// Why chat refused a request.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    #[error("there is no such room")]
    RoomMissing,
    #[error("there is no such message")]
    MessageMissing,
    #[error("there is no such user")]
    UserMissing,
    #[error("there is no such organization of the user")]
    OrganizationMissing,
    #[error("the organization has rooms: {0}; delete them first")]
    OrganizationHasRooms(usize),
    #[error(transparent)]
    Denied(#[from] Denied),
    /// An invalid field: its name and a sentence.
    #[error("{field}: {reason}")]
    Invalid { field: &'static str, reason: String },
    /// The operator switched the directory off.
    #[error("the directory is switched off")]
    DirectoryOff,
    #[error("the file is not yours, not of this room, or already sent")]
    FileUnusable,
    #[error("limit reached: {0}")]
    Full(&'static str),
    /// The user has sent as much as one may in a minute or a day.
    #[error("too much was sent; wait {} seconds", .0.retry_after.as_secs())]
    Exhausted(Exhausted),
    /// Too many changes wait. A retry later helps.
    #[error("too many changes are waiting")]
    Busy,
    /// The disk is nearly full. A retry can succeed once there is room.
    #[error("not enough disk space for messages and files")]
    StorageFull,
    #[error(transparent)]
    Store(StoreError),
}

impl ChatError {
    /// Whether a change that was answered so may have been made all the same.
    #[must_use]
    pub fn is_unsure(&self) -> bool {
        matches!(self, ChatError::Store(error) if error.is_unsure())
    }

    /// Whether the same request can succeed later, because the store could not answer it now.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, ChatError::Busy | ChatError::StorageFull | ChatError::Store(_))
    }
}

impl From<StoreError> for ChatError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy => ChatError::Busy,
            StoreError::Full => ChatError::StorageFull,
            other => ChatError::Store(other),
        }
    }
}

/// A stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    pub view: MessageView,
    /// The client id was known: the message existed already.
    pub duplicate: bool,
}

/// The changes that a client missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gap {
    Whole {
        messages: Vec<MessageView>,
        edits: Vec<(u64, MessageView)>,
    },
    /// The gap is longer than the limit.
    Reset,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_holds_room_and_number() {
        for (room, seq) in [(1, 1), (ROOMS_MAX, SEQ_MAX), (7, 12_345)] {
            let id = message_id(RoomId(room), seq);
            assert!(id < 1 << 53);
            assert_eq!(message_of(id), (RoomId(room), seq));
        }
    }
}
