//! What a socket needs of the rest of the gateway, and its place among the others.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use chelseru_config::Chat;
use chelseru_domain::bus::{Bus, Note};
use chelseru_domain::chat::{BLOCKS_MAX, ChatError, ChatService};
use chelseru_domain::clock::{Clock, Timestamp};
use chelseru_domain::ids::UserId;
use chelseru_domain::login::identity::{ClientInfo, Identity};
use chelseru_domain::login::token::TokenError;
use chelseru_domain::operator::Meter;
use tokio_util::task::TaskTracker;

use crate::hub::{Hub, NoPlace};
use crate::link::Link;
use crate::open::{Opened, Who};
use crate::peer::Peer;

/// Everything that sockets share.
pub struct Sockets {
    pub hub: Arc<Hub>,
    /// To other gateways that share the store.
    pub(crate) link: Option<Arc<Link>>,
    pub(crate) chat: Arc<ChatService>,
    /// Of the serving configuration. A socket outlives configurations, so it asks anew for each token.
    identity: ArcSwap<Identity>,
    pub(crate) meter: Arc<dyn Meter>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The tasks of open sockets. The gateway waits for them when it stops.
    pub tasks: TaskTracker,
}

impl Sockets {
    pub fn new(
        chat: Arc<ChatService>,
        identity: Arc<Identity>,
        meter: Arc<dyn Meter>,
        clock: Arc<dyn Clock>,
        bus: Option<Arc<dyn Bus>>,
    ) -> Sockets {
        let identity = ArcSwap::new(identity);
        let link = bus.map(|bus| Arc::new(Link::new(bus, chat.clone())));
        let hub = Arc::new(Hub::linked(link.clone()));
        Sockets { hub, link, chat, identity, meter, clock, tasks: TaskTracker::new() }
    }

    /// Lets the identity service of another configuration take over.
    pub fn set_identity(&self, identity: Arc<Identity>) {
        self.identity.store(identity);
    }

    pub(crate) fn identity(&self) -> Arc<Identity> {
        self.identity.load_full()
    }

    /// Lets a user's open sockets, here and at other gateways, follow a change of whom the user blocks.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn blocks_changed(&self, user: UserId) -> Result<(), ChatError> {
        if let Some(link) = &self.link {
            link.send(Note::BlocksChanged(user));
        }
        self.blocks_changed_elsewhere(user).await
    }

    /// The same for a change that another gateway made.
    pub(crate) async fn blocks_changed_elsewhere(&self, user: UserId) -> Result<(), ChatError> {
        if self.hub.has(user) {
            let from = self.blocked_by(user).await?;
            self.hub.hide(user, from.as_ref());
        }
        Ok(())
    }

    /// Lets a user's open sockets, here and at other gateways, follow a change of the user's picture.
    pub async fn face_changed(&self, user: UserId) {
        if let Some(link) = &self.link {
            link.send(Note::FaceChanged(user));
        }
        self.face_changed_elsewhere(user).await;
    }

    /// The same for a change that another gateway made.
    pub(crate) async fn face_changed_elsewhere(&self, user: UserId) {
        if self.hub.has(user) {
            let face = self.chat.face(user).await;
            self.hub.set_face(user, &face);
        }
    }

    pub(crate) async fn blocked_by(&self, user: UserId) -> Result<Option<Arc<[UserId]>>, ChatError> {
        let blocked = self.chat.blocks(user, UserId(0), BLOCKS_MAX).await?;
        Ok((!blocked.is_empty()).then(|| blocked.into()))
    }

    /// Makes place for a socket of a client at an address. `holder` is `None` when the token comes in the first frame.
    ///
    /// # Errors
    ///
    /// [`NoPlace`]: too many sockets are open. Trying again can help.
    pub fn enter(
        self: &Arc<Self>,
        opened: Opened,
        limits: &Chat,
        holder: Option<(Who, Timestamp)>,
        from: IpAddr,
    ) -> Result<Place, NoPlace> {
        let peer = self.hub.enter(opened, limits, holder, from)?;
        Ok(Place { sockets: Arc::clone(self), peer })
    }

    /// The holder that a token names, and when the token expires, by the serving configuration.
    pub(crate) async fn holder(&self, token: &str) -> Result<(Who, Timestamp), TokenError> {
        holder(&self.identity(), &self.chat, token, ClientInfo::default).await
    }
}

/// The holder that an access token names, and when the token expires.
///
/// # Errors
///
/// See [`TokenError`].
pub async fn holder(
    identity: &Identity,
    chat: &ChatService,
    token: &str,
    client: impl FnOnce() -> ClientInfo,
) -> Result<(Who, Timestamp), TokenError> {
    let caller = identity.bearer(token, client).await?;
    let expires_at = identity.tokens().expires_at(token, chat.now());
    let face = chat.face(caller.user_id).await;
    Ok((Who { user: caller.user_id, session: caller.session_id, face }, expires_at))
}

/// A socket's place in the hub. Dropping it gives the place up.
pub struct Place {
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) peer: Arc<Peer>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sockets.hub.leave(&self.peer);
    }
}
