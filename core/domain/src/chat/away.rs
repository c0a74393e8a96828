//! Who should hear of a room's news elsewhere: the members without a socket.
//!
//! The publisher's port notes messages and invitations while somebody wants them ([`Notice`]), and a task of its own
//! asks here who is away. Notices are hints: they live in memory, because whoever connects gets everything anyway, and
//! a durable event for each message would double what a message costs.

use chelseru_store::chat::RoomId;
use serde_json::{Value, json};

use super::service::ChatService;
use super::{ChatError, ChatEvent, message_id};
use crate::Timestamp;
use crate::clock::rest_format;
use crate::ids::UserId;

/// Members named in one notice. The rest of a larger room is told by [`Absence::complete`].
pub const ABSENT_MAX: usize = 1000;

/// News of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    Posted {
        room: RoomId,
        seq: u64,
        sender: UserId,
        /// `text`, `image`, ...
        kind: String,
        /// `None` when nobody wants texts.
        text: Option<String>,
        at: Timestamp,
    },
    /// Users were asked into the room.
    Invited { room: RoomId, by: UserId, users: Vec<UserId>, at: Timestamp },
}

/// A notice and who missed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absence {
    pub notice: Notice,
    /// Without a socket, by number.
    pub absent: Vec<UserId>,
    /// No further member is away.
    pub complete: bool,
}

/// Kinds of news in chat rooms. An endpoint gets them only when it names them.
pub const NEWS: [&str; 2] = ["message.created", "room.invited"];

/// The id and body of news for an endpoint. The id is the same in every attempt.
#[must_use]
pub fn news(absence: &Absence, with_text: bool) -> (String, Value) {
    let absent: Vec<u64> = absence.absent.iter().map(|user| user.0).collect();
    let (id, kind, at, mut data) = match &absence.notice {
        Notice::Posted { room, seq, sender, kind, text, at } => {
            let id = message_id(*room, *seq);
            let mut data = json!({
                "id": id, "room": room.0, "seq": seq, "sender": sender.0, "message_type": kind,
            });
            if with_text {
                data["text"] = json!(text);
            }
            (format!("msg_{id}"), NEWS[0], at, data)
        }
        Notice::Invited { room, by, users, at } => {
            let users: Vec<u64> = users.iter().map(|user| user.0).collect();
            let id = format!("inv_{}_{:x}", room.0, at.as_micros());
            (id, NEWS[1], at, json!({"room": room.0, "by": by.0, "users": users}))
        }
    };
    data["absent"] = json!(absent);
    data["absent_complete"] = json!(absence.complete);
    (id, json!({"type": kind, "timestamp": rest_format(*at), "data": data}))
}

/// The kind of news.
#[must_use]
pub fn news_kind(absence: &Absence) -> &'static str {
    match absence.notice {
        Notice::Posted { .. } => NEWS[0],
        Notice::Invited { .. } => NEWS[1],
    }
}

impl Notice {
    /// The news in an event, if there is any.
    #[must_use]
    pub fn of(room: RoomId, event: &ChatEvent, with_text: bool) -> Option<Notice> {
        match event {
            ChatEvent::Posted(view) => {
                let message = &view.message;
                Some(Notice::Posted {
                    room,
                    seq: message.seq,
                    sender: message.sender,
                    kind: message.body.kind.clone(),
                    text: with_text.then(|| message.body.text.clone()),
                    at: message.created_at,
                })
            }
            ChatEvent::Made { room: made, asked, by, .. } if !asked.is_empty() => {
                Some(Notice::Invited { room, by: *by, users: asked.clone(), at: made.created_at })
            }
            ChatEvent::Asked { room: changed, user, by } => {
                Some(Notice::Invited { room, by: *by, users: vec![*user], at: changed.updated_at })
            }
            _ => None,
        }
    }
}

impl ChatService {
    /// Whom a notice is for. Members who have not accepted the room hear of their invitation only.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn addressed(&self, notice: &Notice) -> Result<Vec<UserId>, ChatError> {
        Ok(match notice {
            Notice::Invited { users, .. } => users.clone(),
            Notice::Posted { room, sender, .. } => {
                let members = self.members(*room).await?;
                let accepted = members.iter().filter(|member| !member.pending);
                accepted.map(|member| member.user).filter(|user| user != sender).collect()
            }
        })
    }
}

impl Absence {
    /// A notice, and those it is for who have no socket; `None` when all have one.
    #[must_use]
    pub fn of(notice: Notice, mut absent: Vec<UserId>) -> Option<Absence> {
        let complete = absent.len() <= ABSENT_MAX;
        absent.truncate(ABSENT_MAX);
        (!absent.is_empty()).then_some(Absence { notice, absent, complete })
    }
}
