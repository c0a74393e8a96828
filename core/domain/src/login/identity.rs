//! Who a caller is: a code becomes a session, a token becomes a caller.
//!
//! `authenticate` spends a code and opens a session in one durable change; `caller` runs on every request and is
//! two cached reads beside the token's check. Invariants: wrong, expired, burned, used and never-sent codes cannot
//! be told apart by the answer; a session that was revoked opens nothing from then on, however long its tokens
//! live; a caller sees sessions of nobody else; requests cost no durable write.
//!
//! Not here: sending codes ([`crate::login::otp`]), the form of tokens ([`crate::login::token`]), hashing passwords
//! ([`crate::login::password`]), limits per address. Login by password is in `password`, accounts are in `users`.

mod password;
mod users;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chelseru_store::{
    LoginDraft, LoginOutcome, RefreshDraft, RefreshOutcome, Session, SessionDraft, SessionGate, Store,
    StoreError,
};
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::ids::{SessionId, UserId};
use crate::login::account::name_of_identity;
use crate::login::group::{Group, GroupPolicy};
use crate::login::last_seen::LastSeen;
use crate::login::otp::{OtpService, Purpose};
use crate::login::password::PasswordHashes;
use crate::login::token::{RefreshSubject, TokenError, TokenSubject, TokenType, Tokens};
use crate::login::user_agent::{Agent, CachedAgents, UapCore, UserAgentParser};
use crate::operator::audit::{Audit, AuditEvent, AuditKind};
use crate::{Clock, PhoneNumber, RuleError, Timestamp};

pub use password::{PasswordError, PasswordRules, RegisterError};
pub use users::USERS_PAGE_MAX;

/// Characters of a `User-Agent` header that are kept with a session; the rest is cut off.
pub const USER_AGENT_CHARS_MAX: usize = 256;

/// Ends of sessions that a subscriber may lag behind before it is told that it missed some.
const ENDED_MAX: usize = 1024;

/// How sessions are opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityRules {
    /// In which groups a login may begin an account. Default: group 0 only.
    pub groups: GroupPolicy,
    /// Sessions a user may have at once, 1 to 1000; one more ends the oldest. Default 20.
    pub sessions_per_user_max: usize,
    /// From login to the end of a session, however often it is refreshed. Default 90 days.
    pub session_absolute_max: Duration,
    /// For how long a refresh token that was just replaced may be presented again, because the answer was lost;
    /// after it, presenting it ends the session. Default 60 s.
    pub refresh_repeat_max: Duration,
    pub passwords: PasswordRules,
}

impl Default for IdentityRules {
    fn default() -> Self {
        IdentityRules {
            groups: GroupPolicy::default(),
            sessions_per_user_max: 20,
            session_absolute_max: Duration::from_secs(90 * 86_400),
            refresh_repeat_max: Duration::from_secs(60),
            passwords: PasswordRules::default(),
        }
    }
}

impl IdentityRules {
    fn check(&self) -> Result<(), RuleError> {
        if !(1..=1000).contains(&self.sessions_per_user_max) {
            return Err(RuleError::new("sessions_per_user_max", self.sessions_per_user_max, "1 to 1000"));
        }
        if self.session_absolute_max < Duration::from_secs(1) {
            let found = format!("{:?}", self.session_absolute_max);
            return Err(RuleError::new("session_absolute_max", found, "at least 1 s"));
        }
        self.passwords.check()
    }
}

/// What is known of the client that logs in. Shown to the user, never decided by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientInfo {
    pub ip: Option<IpAddr>,
    pub user_agent: String,
}

/// A login succeeded.
#[derive(Clone)]
pub struct LoggedIn {
    pub access: String,
    pub refresh: String,
    pub user_id: UserId,
    pub session_id: SessionId,
    /// The account was made by this login.
    pub new_user: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// Wrong, expired, burned, used, or never sent: the client must not learn which.
    #[error("the code does not open a session")]
    WrongCode,
    #[error("user is inactive")]
    UserInactive,
    /// The code is right, but no account may be made in this group. The code can still be used for another group.
    #[error("no account may be made in this group")]
    GroupClosed,
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gave no randomness. The code is used up.
    #[error("no randomness from the operating system")]
    Randomness(#[source] std::io::Error),
}

/// Why a refresh token gets no new ones.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The refresh was made; presenting the same token again gets its answer.
    #[error("the tokens could not be signed")]
    Signing(#[source] std::io::Error),
}

/// A user with a session that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub user_id: UserId,
    pub session_id: SessionId,
}

/// A session as its user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    pub id: SessionId,
    /// A public name, not a credential.
    pub session_key: Uuid,
    pub user_agent: Arc<str>,
    pub ip_address: Option<IpAddr>,
    /// What the user agent says.
    pub agent: Arc<Agent>,
    pub last_seen: Timestamp,
    pub created_at: Timestamp,
    pub user: UserId,
    /// The caller's own.
    pub current: bool,
}

/// Sessions ended before their time: what holds a connection open for one of them must close it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionsEnded {
    One(UserId, SessionId),
    /// All of a user's.
    All(UserId),
}

/// The good tokens of a session.
#[derive(Clone)]
pub struct TokenPair {
    pub access: String,
    pub refresh: String,
}

/// Logs users in and knows them again.
pub struct Identity {
    store: Store,
    clock: Arc<dyn Clock>,
    otp: Arc<OtpService>,
    tokens: Tokens,
    rules: IdentityRules,
    agents: Arc<CachedAgents>,
    last_seen: Arc<LastSeen>,
    ended: broadcast::Sender<SessionsEnded>,
    hashes: PasswordHashes,
    audit: Audit,
}

impl Identity {
    /// # Errors
    ///
    /// The first rule that is out of its range.
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        otp: Arc<OtpService>,
        tokens: Tokens,
        rules: IdentityRules,
    ) -> Result<Self, RuleError> {
        rules.check()?;
        let agents = Arc::new(CachedAgents::new(Box::new(UapCore)));
        let (ended, _) = broadcast::channel(ENDED_MAX);
        let hashes = PasswordHashes::new(rules.passwords.hashes);
        let last_seen = Arc::default();
        let audit = Audit::lines_only(store.clone(), Arc::clone(&clock));
        Ok(Identity { store, clock, otp, tokens, rules, agents, last_seen, ended, hashes, audit })
    }

    /// The same identity under other rules: what it noted and cached is shared with this one.
    ///
    /// # Errors
    ///
    /// The first rule that is out of its range.
    pub fn with_rules(
        &self,
        otp: Arc<OtpService>,
        tokens: Tokens,
        rules: IdentityRules,
    ) -> Result<Self, RuleError> {
        rules.check()?;
        let (store, clock) = (self.store.clone(), Arc::clone(&self.clock));
        let (agents, last_seen) = (Arc::clone(&self.agents), Arc::clone(&self.last_seen));
        let ended = self.ended.clone();
        let hashes = match self.hashes.limits() == rules.passwords.hashes {
            true => self.hashes.clone(),
            false => PasswordHashes::new(rules.passwords.hashes),
        };
        let audit = self.audit.clone();
        Ok(Identity { store, clock, otp, tokens, rules, agents, last_seen, ended, hashes, audit })
    }

    /// Records what happens in this log; lines only, when this is not called.
    #[must_use]
    pub fn with_audit(mut self, audit: Audit) -> Self {
        self.audit = audit;
        self
    }

    /// The log that this and others record in.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The pool that hashes passwords.
    #[must_use]
    pub fn hashes(&self) -> &PasswordHashes {
        &self.hashes
    }

    /// The keys and rules of tokens.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Uses another parser of `User-Agent` headers.
    #[must_use]
    pub fn with_user_agent_parser(mut self, parser: Box<dyn UserAgentParser>) -> Self {
        self.agents = Arc::new(CachedAgents::new(parser));
        self
    }

    /// Spends a code and opens a session; makes the account `G<group>-<number>` at the number's first login in the
    /// group. Every call is counted as a guess before the code is compared.
    ///
    /// Cancellation: the change is carried out once it was begun, so a client that leaves may have used its code.
    ///
    /// # Errors
    ///
    /// See [`AuthenticateError`].
    pub async fn authenticate(
        &self,
        number: &PhoneNumber,
        code: &str,
        group: Group,
        client: ClientInfo,
    ) -> Result<LoggedIn, AuthenticateError> {
        let now = self.clock.now();
        let ip = client.ip;
        let event = |kind| AuditEvent::new(kind).ip(ip).subject(number);
        let draft = LoginDraft {
            number: number.e164().to_owned(),
            mac: self.otp.mac(Purpose::Login, number, code),
            group: group.number(),
            username: name_of_identity(group, number),
            create: self.rules.groups.may_create(group),
            now,
            session: self.session_draft(client, now).map_err(AuthenticateError::Randomness)?,
        };
        let (session, new_user) = match self.store.login_with_challenge(draft).await? {
            LoginOutcome::LoggedIn { session, new_user, ended, .. } => {
                self.give_way(session.user, ended, ip);
                (session, new_user)
            }
            LoginOutcome::UserInactive => {
                self.audit.record(event(AuditKind::OtpFailed).detail("the account is switched off"));
                return Err(AuthenticateError::UserInactive);
            }
            LoginOutcome::CreationRefused => {
                self.audit.record(event(AuditKind::OtpFailed).detail("no account may be made in this group"));
                return Err(AuthenticateError::GroupClosed);
            }
            refused @ (LoginOutcome::Wrong { .. }
            | LoginOutcome::Burned
            | LoginOutcome::Expired
            | LoginOutcome::Missing) => {
                let (kind, detail) = match refused {
                    LoginOutcome::Wrong { attempts_left: 0 } => (AuditKind::OtpBurned, "the last guess"),
                    LoginOutcome::Wrong { .. } => (AuditKind::OtpFailed, "a wrong code"),
                    LoginOutcome::Burned => (AuditKind::OtpFailed, "the code was burned before"),
                    LoginOutcome::Expired => (AuditKind::OtpFailed, "the code has expired"),
                    _ => (AuditKind::OtpFailed, "no code is pending"),
                };
                self.audit.record(event(kind).detail(detail));
                return Err(AuthenticateError::WrongCode);
            }
        };
        let login = event(AuditKind::Login).user(session.user).session(session.id);
        self.audit.record(login.detail(if new_user { "by code, a new account" } else { "by code" }));
        let TokenPair { access, refresh } =
            self.token_pair(&session, now).map_err(AuthenticateError::Randomness)?;
        Ok(LoggedIn { access, refresh, user_id: session.user, session_id: session.id, new_user })
    }

    /// New tokens for a refresh token, which is good no longer. Presented again while its successor was not used,
    /// it gets the same successor, so that a client whose answer was lost, or that asked twenty times at once,
    /// stays logged in; an older one ends the session, because two hold a copy.
    ///
    /// # Errors
    ///
    /// See [`RefreshError`].
    pub async fn refresh(&self, refresh_token: &str, ip: Option<IpAddr>) -> Result<TokenPair, RefreshError> {
        let now = self.clock.now();
        let RefreshSubject { subject, generation } = self.tokens.verify_refresh(refresh_token, now)?;
        let TokenSubject { user_id, session_id } = subject;
        let draft = RefreshDraft {
            user: user_id,
            session: session_id,
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

    /// Whom a token of either type names, when it is good and its session stands.
    ///
    /// # Errors
    ///
    /// See [`TokenError`].
    pub fn token_verify(&self, token: &str) -> Result<Caller, TokenError> {
        let now = self.clock.now();
        let RefreshSubject { subject, .. } = self.tokens.verify_any(token, None, now)?;
        self.standing(subject, now)
    }

    /// The caller that a bearer token names, when its session stands. Notes that the session was used, in memory.
    ///
    /// # Errors
    ///
    /// See [`TokenError`]; only [`TokenError::Store`] can be helped by trying again.
    pub fn caller(&self, access_token: &str) -> Result<Caller, TokenError> {
        let now = self.clock.now();
        let subject = self.tokens.verify(access_token, TokenType::Access, now)?;
        let caller = self.standing(subject, now)?;
        self.last_seen.note(caller.user_id, caller.session_id, now);
        Ok(caller)
    }

    /// The caller's own sessions that stand, newest first.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn sessions(&self, caller: &Caller) -> Result<Vec<SessionView>, StoreError> {
        let now = self.clock.now();
        let sessions = self.store.sessions_of(caller.user_id, None, self.rules.sessions_per_user_max)?;
        let standing = sessions.into_iter().filter(|session| now < session.expires_at);
        Ok(standing.map(|session| self.view(session, caller)).collect())
    }

    /// Ends the caller's session, its tokens with it. True unless it had ended meanwhile.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn logout(&self, caller: &Caller, ip: Option<IpAddr>) -> Result<bool, StoreError> {
        self.session_end(caller, caller.session_id, ip).await
    }

    /// Ends one of the caller's own sessions; false when the caller has no such session.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
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

    /// Ends all sessions of the caller but the one that asks; says how many.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
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

    /// Sessions as they end, for whoever keeps a connection in a session's name. A subscriber that is told it
    /// lagged has to check each of its sessions with [`Identity::stands`]. A session whose time is up is not
    /// announced.
    #[must_use]
    pub fn sessions_ended(&self) -> broadcast::Receiver<SessionsEnded> {
        self.ended.subscribe()
    }

    /// Whether a caller that was known before is still one.
    ///
    /// # Errors
    ///
    /// See [`TokenError`]; only [`TokenError::Store`] can be helped by trying again.
    pub fn stands(&self, caller: &Caller) -> Result<(), TokenError> {
        let Caller { user_id, session_id } = *caller;
        self.standing(TokenSubject { user_id, session_id }, self.clock.now()).map(drop)
    }

    /// Writes down when sessions were last used; says how many it wrote. To be called every few seconds and at
    /// the end; never by a request.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`]. What was not written is tried again next time.
    pub async fn flush_last_seen(&self) -> Result<usize, StoreError> {
        self.last_seen.flush(&self.store).await
    }

    /// Walks once through all codes, sessions and password guards and removes those that expired, in steps of `step` records so that
    /// logins do not wait behind it; says how many it removed. To be called every few minutes by one task.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`]. What was not removed is refused all the same.
    pub async fn purge(&self, step: usize) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let mut removed = 0;
        loop {
            let purged = self.store.challenges_purge(now, step).await?;
            removed += purged.removed;
            if purged.finished {
                break;
            }
            // A step that removes nothing does not wait for anything by itself.
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
            let purged = self.store.guards_purge(now, step).await?;
            removed += purged.removed;
            if purged.finished {
                return Ok(removed);
            }
            tokio::task::yield_now().await;
        }
    }

    /// The caller that a checked token names, when its session stands.
    fn standing(&self, subject: TokenSubject, now: Timestamp) -> Result<Caller, TokenError> {
        let TokenSubject { user_id, session_id } = subject;
        match self.store.session_gate(user_id, session_id, now) {
            Ok(SessionGate::Open) => Ok(Caller { user_id, session_id }),
            Ok(SessionGate::UserMissing) => Err(TokenError::UserNotFound),
            Ok(SessionGate::UserInactive) => Err(TokenError::UserInactive),
            Ok(SessionGate::Ended) => Err(TokenError::SessionEnded),
            Err(error) => {
                tracing::error!(error = %error, user.id = user_id.0, "session could not be checked");
                Err(TokenError::Store)
            }
        }
    }

    fn session_draft(&self, client: ClientInfo, now: Timestamp) -> std::io::Result<SessionDraft> {
        let lifetime = self.tokens.rules().refresh_ttl.min(self.rules.session_absolute_max);
        Ok(SessionDraft {
            key: random_uuid()?,
            expires_at: now.plus(lifetime),
            user_agent: client.user_agent.chars().take(USER_AGENT_CHARS_MAX).collect(),
            ip_address: client.ip.map(|ip| ip.to_canonical()),
            per_user_max: self.rules.sessions_per_user_max,
        })
    }

    fn token_pair(&self, session: &Session, now: Timestamp) -> std::io::Result<TokenPair> {
        let subject = TokenSubject { user_id: session.user, session_id: session.id };
        Ok(TokenPair {
            access: self.tokens.issue(TokenType::Access, subject, now)?,
            refresh: self.tokens.refresh(session)?,
        })
    }

    /// Says that a login ended the user's oldest sessions.
    fn give_way(&self, user: UserId, ended: Vec<SessionId>, ip: Option<IpAddr>) {
        for session in &ended {
            let event = AuditEvent::new(AuditKind::SessionRevoked).user(user).session(*session);
            self.audit.record(event.ip(ip).detail("gave way to a newer one"));
        }
        self.announce_ended(user, ended);
    }

    fn announce_ended(&self, user: UserId, sessions: Vec<SessionId>) {
        for session in sessions {
            // Nobody may be listening.
            let _ = self.ended.send(SessionsEnded::One(user, session));
        }
    }

    fn view(&self, session: Session, caller: &Caller) -> SessionView {
        let noted = self.last_seen.get(session.id).unwrap_or_default();
        SessionView {
            id: session.id,
            session_key: session.key,
            ip_address: session.ip_address,
            agent: self.agents.get(&session.user_agent),
            last_seen: session.last_seen_at.max(noted),
            created_at: session.created_at,
            user: session.user,
            current: session.id == caller.session_id,
            user_agent: session.user_agent,
        }
    }
}

/// Without the tokens.
impl fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoggedIn")
            .field("user_id", &self.user_id)
            .field("session_id", &self.session_id)
            .field("new_user", &self.new_user)
            .finish_non_exhaustive()
    }
}

/// Without the tokens.
impl fmt::Debug for TokenPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenPair").finish_non_exhaustive()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("rules", &self.rules).finish_non_exhaustive()
    }
}

fn random_uuid() -> std::io::Result<Uuid> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(std::io::Error::other)?;
    Ok(uuid::Builder::from_random_bytes(random).into_uuid())
}
