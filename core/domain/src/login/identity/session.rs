//! Sessions: refreshed, listed, ended, and purged after their expiry.
//!
//! Invariants: a caller sees and ends only its own sessions; every session that ends before its time is announced to
//! the holders of its connections.

use std::net::IpAddr;
use std::sync::Arc;

use chelseru_store::{RefreshDraft, RefreshOutcome, Session, SessionDraft, StoreError};
use tokio::sync::broadcast;
use uuid::Uuid;

use super::{Caller, ClientInfo, Identity, SessionsEnded, TokenPair};
use crate::Timestamp;
use crate::ids::{SessionId, UserId};
use crate::login::token::{RefreshSubject, TokenError, TokenSubject, TokenType};
use crate::login::user_agent::Agent;
use crate::operator::audit::{AuditEvent, AuditKind};
use crate::text::seen;

/// Stored characters of a `User-Agent` header; the rest is cut off.
pub const USER_AGENT_CHARS_MAX: usize = 256;

/// Stored characters of a device's name; the rest is cut off.
pub const DEVICE_NAME_CHARS_MAX: usize = 64;

/// Why a refresh failed.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The refresh is stored. The same token gets its reply again.
    #[error("the tokens could not be signed")]
    Signing(#[source] std::io::Error),
}

/// A session as its user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    pub id: SessionId,
    /// A public name, not a credential.
    pub session_key: Uuid,
    pub user_agent: Arc<str>,
    pub ip_address: Option<IpAddr>,
    /// The client's own name for its device.
    pub device_name: Option<String>,
    /// The client's device, browser and platform.
    pub agent: Arc<Agent>,
    pub last_seen: Timestamp,
    pub created_at: Timestamp,
    pub user: UserId,
    /// Whether it is the caller's own session.
    pub current: bool,
}

impl Identity {
    /// Exchanges a refresh token for new tokens. While its successor is unused, the same token gets the same successor
    /// again, so a client whose reply was lost, or that sent twenty requests at once, stays logged in. An older token
    /// ends the session, because two parties hold a copy.
    ///
    /// # Errors
    ///
    /// See [`RefreshError`].
    pub async fn refresh(&self, refresh_token: &str, ip: Option<IpAddr>) -> Result<TokenPair, RefreshError> {
        let now = self.clock.now();
        let verified = match self.tokens.verify_refresh(refresh_token, now) {
            Err(TokenError::Invalid) if self.tokens.legacy().is_some() => {
                return self.legacy_refresh(refresh_token, ip).await;
            }
            verified => verified?,
        };
        let RefreshSubject { subject, generation } = verified;
        let TokenSubject { user_id, session_id, binding } = subject;
        let draft = RefreshDraft {
            user: user_id,
            session: session_id,
            binding,
            generation,
            now,
            idle_max: self.tokens.rules().refresh_ttl,
            absolute_max: self.rules.session_absolute_max,
            repeat_max: self.rules.refresh_repeat_max,
        };
        match self.store.refresh_rotate(draft).await? {
            RefreshOutcome::Rotated(session) | RefreshOutcome::Repeated(session) => {
                self.token_pair(&session, now).map_err(RefreshError::Signing)
            }
            RefreshOutcome::Reused => {
                tracing::warn!(
                    user.id = user_id.0,
                    session.id = session_id.0,
                    "a refresh token was used again after its successor; its session was ended"
                );
                let event = AuditEvent::new(AuditKind::RefreshReused).user(user_id).session(session_id);
                self.audit.record(event.ip(ip));
                self.announce_ended(user_id, vec![session_id]);
                Err(TokenError::SessionEnded.into())
            }
            RefreshOutcome::Ended => Err(TokenError::SessionEnded.into()),
            RefreshOutcome::UserMissing => Err(TokenError::UserNotFound.into()),
            RefreshOutcome::UserInactive => Err(TokenError::UserInactive.into()),
        }
    }

    /// The caller's valid sessions, newest first.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn sessions(&self, caller: &Caller) -> Result<Vec<SessionView>, StoreError> {
        let now = self.clock.now();
        let sessions = self.store.sessions_of(caller.user_id, None, self.rules.sessions_per_user_max).await?;
        let mut views = Vec::with_capacity(sessions.len());
        for session in sessions.into_iter().filter(|session| now < session.expires_at) {
            views.push(self.view(session, caller).await);
        }
        Ok(views)
    }

    /// Ends the caller's session and its tokens. False when it had ended already.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn logout(&self, caller: &Caller, ip: Option<IpAddr>) -> Result<bool, StoreError> {
        self.session_end(caller, caller.session_id, ip).await
    }

    /// Ends one of the caller's sessions. False when the caller has no such session.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn session_end(
        &self,
        caller: &Caller,
        session: SessionId,
        ip: Option<IpAddr>,
    ) -> Result<bool, StoreError> {
        let ended = self.store.session_revoke(caller.user_id, session).await?;
        if ended {
            let own = if session == caller.session_id { "its own" } else { "another" };
            let event = AuditEvent::new(AuditKind::SessionRevoked).user(caller.user_id).session(session);
            self.audit.record(event.ip(ip).detail(own));
            self.announce_ended(caller.user_id, vec![session]);
        }
        Ok(ended)
    }

    /// Ends all other sessions of the caller. Returns their number.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn sessions_end_others(
        &self,
        caller: &Caller,
        ip: Option<IpAddr>,
    ) -> Result<usize, StoreError> {
        let ended = self.store.sessions_revoke_all(caller.user_id, Some(caller.session_id)).await?;
        let count = ended.len();
        let event = AuditEvent::new(AuditKind::SessionRevoked).user(caller.user_id);
        self.audit.record(event.ip(ip).detail(format!("all others: {count}")));
        self.announce_ended(caller.user_id, ended);
        Ok(count)
    }

    /// Announces sessions that end early, for holders of their connections. A subscriber that lagged must check each of
    /// its sessions with [`Identity::stands`]. Expiry is not announced.
    #[must_use]
    pub fn sessions_ended(&self) -> broadcast::Receiver<SessionsEnded> {
        self.ended.subscribe()
    }

    /// Writes the last use of sessions. Returns the number of sessions written. Call it every few seconds and at
    /// shutdown, never from a request.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`]. The next call retries what was not written.
    pub async fn flush_last_seen(&self) -> Result<usize, StoreError> {
        self.last_seen.flush(&self.store).await
    }

    /// Purges expired codes, sessions and password guards once, in steps of `step` records, so logins do not wait
    /// behind it. Returns the number removed. Call it every few minutes from one task.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`]. Expired records are refused even when they are not removed.
    pub async fn purge(&self, step: usize) -> Result<usize, StoreError> {
        self.index.tend(&self.store).await?;
        let now = self.clock.now();
        let mut removed = 0;
        loop {
            let purged = self.store.challenges_purge(now, step).await?;
            removed += purged.removed;
            if purged.finished {
                break;
            }
            // A step that removes nothing has no await point of its own.
            tokio::task::yield_now().await;
        }
        loop {
            let purged = self.store.sessions_purge(now, step).await?;
            removed += purged.removed;
            if purged.finished {
                break;
            }
            tokio::task::yield_now().await;
        }
        loop {
            let purged = self.store.legacy_purge(now, step).await?;
            removed += purged.removed;
            if purged.finished {
                break;
            }
            tokio::task::yield_now().await;
        }
        loop {
            let purged = self.store.guards_purge(now, step).await?;
            removed += purged.removed;
            if purged.finished {
                return Ok(removed);
            }
            tokio::task::yield_now().await;
        }
    }

    pub(super) fn session_draft(&self, client: ClientInfo, now: Timestamp) -> std::io::Result<SessionDraft> {
        let lifetime = self.tokens.rules().refresh_ttl.min(self.rules.session_absolute_max);
        let user_agent: String = client.user_agent.chars().take(USER_AGENT_CHARS_MAX).collect();
        let short = |name: String| name.chars().take(DEVICE_NAME_CHARS_MAX).collect();
        Ok(SessionDraft {
            key: random_uuid()?,
            expires_at: now.plus(lifetime),
            user_agent,
            ip_address: client.ip.map(|ip| ip.to_canonical()),
            device_name: client.device_name.map(short),
            per_user_max: self.rules.sessions_per_user_max,
        })
    }

    pub(super) fn token_pair(&self, session: &Session, now: Timestamp) -> std::io::Result<TokenPair> {
        let binding = Some(session.binding());
        let subject = TokenSubject { user_id: session.user, session_id: session.id, binding };
        Ok(TokenPair {
            access: self.tokens.issue(TokenType::Access, subject, now)?,
            refresh: self.tokens.refresh(session)?,
        })
    }

    /// Announces the oldest sessions, which a login ended.
    pub(super) fn give_way(&self, user: UserId, ended: Vec<SessionId>, ip: Option<IpAddr>) {
        for session in &ended {
            let event = AuditEvent::new(AuditKind::SessionRevoked).user(user).session(*session);
            self.audit.record(event.ip(ip).detail("gave way to a newer one"));
        }
        self.announce_ended(user, ended);
    }

    pub(super) fn announce_ended(&self, user: UserId, sessions: Vec<SessionId>) {
        for session in sessions {
            // There may be no subscriber.
            let _ = self.ended.send(SessionsEnded::One(user, session));
        }
    }

    pub(super) async fn view(&self, session: Session, caller: &Caller) -> SessionView {
        let noted = self.last_seen.get(session.id).unwrap_or_default();
        SessionView {
            id: session.id,
            session_key: session.key,
            ip_address: session.ip_address,
            device_name: session.device_name.map(seen),
            agent: self.agents.get(&session.user_agent).await,
            last_seen: session.last_seen_at.max(noted),
            created_at: session.created_at,
            user: session.user,
            current: session.id == caller.session_id,
            user_agent: session.user_agent,
        }
    }
}

fn random_uuid() -> std::io::Result<Uuid> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(std::io::Error::other)?;
    Ok(uuid::Builder::from_random_bytes(random).into_uuid())
}
