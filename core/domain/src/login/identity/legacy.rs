//! Tokens of the original: the first use of each opens a session here.
//!
//! The session is bound to the token's `jti`: it is listed and ended like every other, and a token whose session has
//! ended opens no second one. A refresh token is exchanged once.

use std::net::IpAddr;

use chelseru_store::{LegacyDraft, LegacyOpened, StoreError};

use super::{Caller, ClientInfo, Identity, RefreshError, TokenPair};
use crate::Timestamp;
use crate::ids::UserId;
use crate::login::token::{LegacySubject, TokenError, TokenType};
use crate::operator::audit::{AuditEvent, AuditKind};

impl Identity {
    /// The caller of an access token, ours or the original's, with a valid session. `client` is shown in the list of
    /// sessions when this opens one.
    ///
    /// # Errors
    ///
    /// See [`TokenError`]. A retry can help with [`TokenError::Store`] only.
    pub async fn bearer(
        &self,
        token: &str,
        client: impl FnOnce() -> ClientInfo,
    ) -> Result<Caller, TokenError> {
        match self.caller(token).await {
            Err(TokenError::Invalid) if self.tokens.legacy().is_some() => {
                self.legacy_caller(token, client()).await
            }
            known => known,
        }
    }

    /// Whether a token of either type, ours or the original's, is valid.
    ///
    /// # Errors
    ///
    /// See [`TokenError`].
    pub async fn check_token(&self, token: &str) -> Result<(), TokenError> {
        match self.token_verify(token).await {
            Err(TokenError::Invalid) if self.tokens.legacy().is_some() => {}
            known => return known.map(drop),
        }
        let now = self.clock.now();
        let (user, subject) = self.legacy_subject(token, None, now).await?;
        match (self.store.legacy_session(user, subject.token).await, subject.token_type) {
            (Err(error), _) => Err(unread(&error)),
            // A refresh token that was used is used up.
            (Ok(Some(_)), TokenType::Refresh) => Err(TokenError::SessionEnded),
            (Ok(Some(session_id)), TokenType::Access) => {
                self.stands(&Caller { user_id: user, session_id }).await
            }
            (Ok(None), _) => match self.user(user).await {
                Err(error) => Err(unread(&error)),
                Ok(None) => Err(TokenError::UserNotFound),
                Ok(Some(user)) if !user.active => Err(TokenError::UserInactive),
                Ok(Some(_)) => Ok(()),
            },
        }
    }

    async fn legacy_caller(&self, token: &str, client: ClientInfo) -> Result<Caller, TokenError> {
        let now = self.clock.now();
        let (user, subject) = self.legacy_subject(token, Some(TokenType::Access), now).await?;
        let known = self.store.legacy_session(user, subject.token).await.map_err(|error| unread(&error))?;
        let session_id = match known {
            Some(session) => session,
            None => {
                let ip = client.ip;
                let mut session = self.session_draft(client, now).map_err(|error| unread(&error))?;
                session.expires_at = subject.expires_at;
                let draft = LegacyDraft {
                    user,
                    token: subject.token,
                    token_expires_at: subject.expires_at,
                    session,
                    now,
                };
                match self.legacy_open(draft, ip).await.map_err(|error| unread(&error))? {
                    LegacyOpened::Opened(session, _) => session.id,
                    LegacyOpened::Before(session) => session,
                    LegacyOpened::UserMissing => return Err(TokenError::UserNotFound),
                    LegacyOpened::UserInactive => return Err(TokenError::UserInactive),
                }
            }
        };
        let caller = Caller { user_id: user, session_id };
        self.stands(&caller).await?;
        self.last_seen.note(user, session_id, now);
        Ok(caller)
    }

    /// Exchanges a refresh token of the original for tokens of ours, once.
    pub(super) async fn legacy_refresh(
        &self,
        token: &str,
        ip: Option<IpAddr>,
    ) -> Result<TokenPair, RefreshError> {
        let now = self.clock.now();
        let (user, subject) = self.legacy_subject(token, Some(TokenType::Refresh), now).await?;
        let client = ClientInfo { ip, ..ClientInfo::default() };
        let session = self.session_draft(client, now).map_err(RefreshError::Signing)?;
        let draft =
            LegacyDraft { user, token: subject.token, token_expires_at: subject.expires_at, session, now };
        match self.legacy_open(draft, ip).await? {
            LegacyOpened::Opened(session, _) => self.token_pair(&session, now).map_err(RefreshError::Signing),
            LegacyOpened::Before(_) => Err(TokenError::SessionEnded.into()),
            LegacyOpened::UserMissing => Err(TokenError::UserNotFound.into()),
            LegacyOpened::UserInactive => Err(TokenError::UserInactive.into()),
        }
    }

    /// What a token says, and the account it is of now: an import may have merged two.
    async fn legacy_subject(
        &self,
        token: &str,
        wanted: Option<TokenType>,
        now: Timestamp,
    ) -> Result<(UserId, LegacySubject), TokenError> {
        let legacy = self.tokens.legacy().ok_or(TokenError::Invalid)?;
        let subject = legacy.verify(token, wanted, now)?;
        let merged = self.store.user_merged_into(subject.user_id).await.map_err(|error| unread(&error))?;
        Ok((merged.unwrap_or(subject.user_id), subject))
    }

    async fn legacy_open(&self, draft: LegacyDraft, ip: Option<IpAddr>) -> Result<LegacyOpened, StoreError> {
        let opened = self.store.legacy_session_open(draft).await?;
        if let LegacyOpened::Opened(session, ended) = &opened {
            let login = AuditEvent::new(AuditKind::Login).user(session.user).session(session.id).ip(ip);
            self.audit.record(login.detail("by a token of the original"));
            self.give_way(session.user, ended.clone(), ip);
            self.agents.prepare(&session.user_agent);
        }
        Ok(opened)
    }
}

/// The session could not be checked or opened.
fn unread(error: &dyn std::fmt::Display) -> TokenError {
    tracing::error!(%error, "the session of an old token could not be checked or opened");
    TokenError::Store
}
