//! Everything of one's own as an archive.
//!
//! [`Personal`] is the slice of its handlers. Reading order: `export` (who gets it, and how often), then `archive`,
//! which says what is in it.

mod archive;
pub(crate) mod export;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chelseru_domain::chat::ChatService;
use chelseru_domain::clock::Clock;
use chelseru_domain::ids::UserId;
use chelseru_domain::login::identity::Identity;
use chelseru_domain::money::payment::Payments;
use chelseru_domain::money::wallet::Wallets;
use chelseru_domain::rate::{Board, Rates};
use chelseru_domain::sms::queue::SmsRoute;

use crate::files::store::FileStore;

/// The slice of exports.
pub struct Personal {
    pub identity: Arc<Identity>,
    pub chat: Arc<ChatService>,
    pub files: Arc<FileStore>,
    pub payments: Arc<Payments>,
    pub wallets: Arc<Wallets>,
    pub sms: Arc<SmsRoute>,
    pub clock: Arc<dyn Clock>,
    pub exports: Arc<Exports>,
}

/// Exports that run, and how many there were. Outlives configurations.
#[derive(Default)]
pub struct Exports {
    running: Mutex<HashSet<UserId>>,
    made: Rates<UserId>,
}

impl Exports {
    /// Lets the other gateways hear what is counted here.
    pub fn share_counts(&self, board: &Arc<Board>) {
        board.join("exports", &self.made);
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<UserId>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
