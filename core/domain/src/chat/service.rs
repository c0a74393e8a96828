//! The chat service: the parts shared by its modules.
//!
//! Every change is one store operation with a judge. The stored change goes through the queue of [`super::publish`],
//! and the caller is answered after the event is shown. The parts are `impl` blocks of [`ChatService`]: `message`,
//! `room` (with `change`, its pure rules), `organization`, and `files` one level up.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use chelseru_store::chat::{RoomFacts, RoomId, RoomLimits};
use chelseru_store::{Store, StoreError};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::allowance::Allowance;
use super::missed::face_of;
use super::publish::{self, Entrance};
use super::rights::{Action, permit};
use super::search::wanted::{AT_ONCE, Wanted};
use super::stored::{Others, RoomNews, Stored};
use super::{ChatError, ChatPort, ChatRules, Face, PublicUser};
use crate::Clock;
use crate::ids::UserId;
use crate::secret::{MacKey, SubKey};

/// The rooms, for every caller.
pub struct ChatService {
    pub(crate) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    rules: RwLock<Arc<ChatRules>>,
    pub(super) entrance: Entrance,
    pub(super) allowance: Arc<Allowance>,
    /// Keys the marks of contacts.
    pub(super) contacts: MacKey,
    /// Up to where old messages were removed in this walk.
    pub(super) expired: Mutex<(RoomId, u64)>,
    /// Places of running searches.
    pub(super) searches: Semaphore,
    pub(super) wanted: Wanted,
}

impl ChatService {
    /// The service, and the queue for [`ChatService::publish_all`].
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        rules: ChatRules,
        contacts: SubKey,
    ) -> (Self, mpsc::UnboundedReceiver<Stored>) {
        let (entrance, queue) = Entrance::new(store.is_shared());
        let rules = RwLock::new(Arc::new(rules));
        let allowance = Arc::default();
        (
            ChatService {
                store,
                clock,
                rules,
                entrance,
                allowance,
                contacts: MacKey::new(&contacts),
                expired: Mutex::new((RoomId(0), 0)),
                searches: Semaphore::new(AT_ONCE),
                wanted: Wanted::default(),
            },
            queue,
        )
    }

    /// Publishes stored changes until the service is dropped. `others` are gateways that share the store.
    pub async fn publish_all(
        queue: mpsc::UnboundedReceiver<Stored>,
        port: Arc<dyn ChatPort>,
        others: Option<Arc<dyn Others>>,
    ) {
        publish::run(queue, port, others).await;
    }

    /// Whether other gateways may change rooms at the same time.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    /// Begins to show rooms that somebody watches from now on. Call it before their messages are read for the watcher;
    /// what other gateways change afterwards is shown. Costs nothing while no other gateway shares the store.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn attend(&self, rooms: &[RoomId]) -> Result<(), ChatError> {
        if !self.is_shared() || rooms.is_empty() {
            return Ok(());
        }
        self.entrance.attend(&self.store, rooms).await
    }

    /// Ends [`ChatService::attend`] for a room that nobody watches any more.
    pub fn leave(&self, room: RoomId) {
        self.entrance.leave(room);
    }

    /// Looks where watched rooms stand in the store, and shows what is missing.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn look_at(&self, rooms: &[RoomId]) -> Result<(), ChatError> {
        self.entrance.look_at(&self.store, rooms).await
    }

    /// Takes changes that another gateway made.
    pub fn elsewhere(&self, room: RoomId, news: Vec<RoomNews>) {
        self.entrance.elsewhere(room, news);
    }

    pub fn rules(&self) -> Arc<ChatRules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn set_rules(&self, rules: ChatRules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// Checks whether a user may do something in a room now. A change is judged again inside the store.
    ///
    /// # Errors
    ///
    /// [`ChatError::RoomMissing`], [`ChatError::Denied`], [`ChatError::Store`].
    pub async fn check(&self, room: RoomId, user: UserId, action: Action) -> Result<RoomFacts, ChatError> {
        let facts = self.store.chat_facts(room, user).await?.ok_or(ChatError::RoomMissing)?;
        permit(action, &facts)?;
        Ok(facts)
    }

    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn user(&self, id: UserId) -> Result<Option<PublicUser>, ChatError> {
        Ok(self.store.user_get(id).await?.as_ref().map(PublicUser::of))
    }

    /// A user's public name and picture; empty when there is no such user.
    #[must_use]
    pub async fn face(&self, id: UserId) -> Face {
        face_of(&self.store, id).await
    }

    /// Changes that wait for the store's writer.
    pub fn changes_waiting(&self) -> usize {
        self.store.changes_waiting()
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn now(&self) -> crate::Timestamp {
        self.clock.now()
    }

    pub(super) fn limits(&self) -> RoomLimits {
        let rules = self.rules();
        RoomLimits {
            rooms_per_user_max: rules.rooms_per_user_max,
            members_max: rules.members_max,
            bans_max: rules.bans_max,
        }
    }
}

/// A missing answer means that the store failed after the change began.
pub(super) async fn answer<T>(receiver: oneshot::Receiver<Result<T, ChatError>>) -> Result<T, ChatError> {
    receiver.await.unwrap_or(Err(ChatError::Store(StoreError::Failed)))
}
