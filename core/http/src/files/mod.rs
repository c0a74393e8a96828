//! Files of chat: uploads in one request or by the tus protocol, downloads by token or signed link.
//!
//! `store` keeps the bytes. Reading order: `upload`, `tus`, `download`, `body` (pieces of a request), `store`.

pub mod store;

pub(crate) mod upload;

pub(crate) mod tus;

pub(crate) mod download;

pub(crate) mod body;
pub(crate) mod failure;
pub(crate) mod json;
pub(crate) mod shapes;
pub(crate) mod shown;

use std::sync::Arc;

use chelseru_domain::chat::ChatService;
use chelseru_domain::clock::Clock;
use chelseru_domain::login::identity::Identity;
use tokio_util::task::TaskTracker;

use store::FileStore;

/// The slice of files.
pub struct Files {
    pub store: Arc<FileStore>,
    pub chat: Arc<ChatService>,
    pub identity: Arc<Identity>,
    pub limits: chelseru_config::Files,
    pub clock: Arc<dyn Clock>,
    /// Work that outlives its client.
    pub detached: TaskTracker,
}
