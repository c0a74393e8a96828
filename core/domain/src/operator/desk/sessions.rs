//! Sessions of all users, found by address and device.
//!
//! Sessions are stored by user, so the list is in that order: the newest account's first. A page looks at
//! [`LOOKED_MAX`] sessions at most and says where it stopped.

use chelseru_store::{Session, StoreError};

use super::Desk;
use crate::ids::{SessionId, UserId};
use crate::login::account::look_alike;
use crate::login::identity::SessionView;
use crate::operator::role::{Permit, UserRead};

const LOOKED_MAX: usize = 10_000;
const LOOK_STEP: usize = 1000;

/// Which sessions to list. Everything given must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionQuery {
    /// The beginning of the address.
    pub address: String,
    /// A part of the device's name or of the user agent.
    pub device: String,
    pub user: Option<UserId>,
}

/// Where a page of sessions begins.
pub type SessionPlace = (UserId, SessionId);

/// A page of sessions.
#[derive(Debug, Clone)]
pub struct SessionsFound {
    pub sessions: Vec<SessionView>,
    /// The next page begins below it.
    pub next: Option<SessionPlace>,
}

impl SessionQuery {
    fn fits(&self, session: &Session) -> bool {
        let from = || session.ip_address.map(|ip| ip.to_canonical().to_string()).unwrap_or_default();
        let device = || {
            let name = session.device_name.as_deref().unwrap_or_default();
            look_alike(&format!("{name} {}", session.user_agent))
        };
        (self.address.is_empty() || from().starts_with(&self.address))
            && (self.device.is_empty() || device().contains(&self.device))
    }
}

impl Desk {
    /// The sessions that fit a query. Expired ones are left out.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn sessions(
        &self,
        permit: &Permit<UserRead>,
        query: &SessionQuery,
        before: Option<SessionPlace>,
        limit: usize,
    ) -> Result<SessionsFound, StoreError> {
        let query = SessionQuery { device: look_alike(query.device.trim()), ..query.clone() };
        let (identity, now) = (&self.services.identity, self.services.clock.now());
        let mut place = before.or(query.user.map(|user| (user, SessionId(u64::MAX))));
        let mut sessions = Vec::new();
        for _ in 0..LOOKED_MAX / LOOK_STEP {
            let step = identity.sessions_before(permit, place, LOOK_STEP).await?;
            let is_last = step.len() < LOOK_STEP;
            for session in step {
                if query.user.is_some_and(|user| user != session.user) {
                    return Ok(SessionsFound { sessions, next: None });
                }
                place = Some((session.user, session.id));
                if now < session.expires_at && query.fits(&session) {
                    sessions.push(identity.session_shown(session).await);
                    if sessions.len() == limit {
                        return Ok(SessionsFound { sessions, next: place });
                    }
                }
            }
            if is_last {
                return Ok(SessionsFound { sessions, next: None });
            }
            tokio::task::yield_now().await;
        }
        Ok(SessionsFound { sessions, next: place })
    }
}
