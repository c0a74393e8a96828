//! Chat over plain requests, and the handshake of its sockets.
//!
//! The shapes are the original's. Only the domain's matrix decides permissions; [`failure`] translates a refusal to a
//! status. A room that the caller is no member of answers like a missing one. Reading order: `room`, `member`,
//! `request`, `directory`, `avatar`, `message`, `search`, `organization`, `json` (the shapes), `socket` (the
//! handshake).
//!
//! Not here: open sockets (`chelseru-sockets`), files (`files`), rules (`chelseru_domain::chat`).

pub(crate) mod room;

pub(crate) mod member;

pub(crate) mod request;

pub(crate) mod directory;

pub(crate) mod avatar;

pub(crate) mod message;

pub(crate) mod search;

pub(crate) mod organization;

pub(crate) mod socket;

pub(crate) mod failure;
pub(crate) mod input;
pub(crate) mod json;
pub(crate) mod shapes;

use std::sync::Arc;

use chelseru_domain::chat::ChatService;
use chelseru_domain::login::identity::Identity;
use chelseru_sockets::Sockets;
use tokio_util::task::TaskTracker;

use crate::files::Files;

/// The slice of chat.
pub struct Chat {
    pub chat: Arc<ChatService>,
    pub sockets: Arc<Sockets>,
    pub identity: Arc<Identity>,
    pub files: Arc<Files>,
    /// Limits for new sockets.
    pub limits: chelseru_config::Chat,
    /// Whether the echo socket exists, for tests of the protocol.
    pub echo: bool,
    /// Work that outlives its client.
    pub detached: TaskTracker,
}
