//! Who a caller is: a code becomes a session, a token becomes a caller.
//!
//! `authenticate` spends a code and opens a session in one durable change; `caller` runs on every request and is
//! two cached reads beside the token's check. Invariants: wrong, expired, burned, used and never-sent codes cannot
//! be told apart by the answer; a session that was revoked opens nothing from then on, however long its tokens
//! live; a caller sees sessions of nobody else; requests cost no durable write.
//!
//! Not here: sending codes ([`crate::login::otp`]), the form of tokens ([`crate::login::token`]), hashing passwords
//! ([`crate::login::password`]), limits per address. Login by password is in `password`, accounts are in `users`.
mod code;
mod password;
mod rules;
mod session;
mod users;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use chelseru_store::{SessionGate, Store};
use tokio::sync::broadcast;

use crate::ids::{SessionId, UserId};
use crate::login::last_seen::LastSeen;
use crate::login::otp::OtpService;
use crate::login::password::PasswordHashes;
use crate::login::token::{RefreshSubject, TokenError, TokenSubject, TokenType, Tokens};
use crate::login::user_agent::{CachedAgents, UapCore, UserAgentParser};
use crate::operator::audit::Audit;
use crate::{Clock, RuleError, Timestamp};

pub use code::AuthenticateError;
pub use password::{PasswordError, RegisterError};
pub use rules::{
    IdentityRules, LOCKOUT_LONGEST_SECS, LOCKOUT_SECS, PASSWORD_ATTEMPTS, PasswordRules, REFRESH_REPEAT_SECS,
    SESSION_ABSOLUTE_SECS, SESSIONS_PER_USER,
};
pub use session::{RefreshError, SessionView, USER_AGENT_CHARS_MAX};
pub use users::USERS_PAGE_MAX;

/// Ends of sessions that a subscriber may lag behind before it is told that it missed some.
const ENDED_MAX: usize = 1024;

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

/// A user with a session that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub user_id: UserId,
    pub session_id: SessionId,
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

    /// Whether a caller that was known before is still one.
    ///
    /// # Errors
    ///
    /// See [`TokenError`]; only [`TokenError::Store`] can be helped by trying again.
    pub fn stands(&self, caller: &Caller) -> Result<(), TokenError> {
        let Caller { user_id, session_id } = *caller;
        self.standing(TokenSubject { user_id, session_id }, self.clock.now()).map(drop)
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
