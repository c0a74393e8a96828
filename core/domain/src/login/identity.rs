//! Identity: turns a code or password into a session, and a token into a caller.
//!
//! `authenticate` consumes a code and opens a session in one durable change. `caller` runs on every request and adds
//! two cached reads to the token's check. Invariants: the reply does not tell wrong, expired, burned, used and
//! never-sent codes apart; a revoked session opens nothing from then on, however long its tokens live; a caller sees
//! only its own sessions; requests cost no durable write.
//!
//! Not here: sending codes ([`crate::login::otp`]), the form of tokens ([`crate::login::token`]), hashing passwords
//! ([`crate::login::password`]), limits per address. The parts are `code`, `erase`, `password`, `recovery`, `session`
//! and `users`.
mod code;
mod erase;
mod legacy;
mod password;
mod recovery;
mod rules;
mod search;
mod session;
mod users;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use chelseru_store::{SessionGate, Store, StoreError};
use tokio::sync::{Notify, broadcast};

use crate::ids::{SessionId, UserId};
use crate::login::last_seen::LastSeen;
use crate::login::otp::OtpService;
use crate::login::password::PasswordHashes;
use crate::login::token::{RefreshSubject, TokenError, TokenSubject, TokenType, Tokens};
use crate::login::user_agent::{Agents, MakeParser};
use crate::login::user_index::UserIndex;
use crate::operator::audit::Audit;
use crate::rate::{Board, Rates};
use crate::{Checked, Clock, RuleError, Timestamp};

pub use code::AuthenticateError;
pub use erase::{EraseError, Proof};
pub use password::{PasswordError, RegisterError};
pub use recovery::{AddNumberError, MadeResetToken, RESET_TOKEN_HOURS, ResetTokenError};
pub use rules::{
    IdentityRules, LOCKOUT_LONGEST_SECS, LOCKOUT_SECS, PASSWORD_ATTEMPTS, PASSWORD_ATTEMPTS_TOTAL,
    PasswordRules, REFRESH_REPEAT_SECS, REGISTRATIONS_PER_HOUR, SESSION_ABSOLUTE_SECS, SESSIONS_PER_USER,
};
pub use search::UsersFound;
pub use session::{DEVICE_NAME_CHARS_MAX, RefreshError, SessionView, USER_AGENT_CHARS_MAX};
pub use users::{Area, USERS_PAGE_MAX, UserActError};

/// Unread session ends of a subscriber. Past it the subscriber is told that it lagged.
const ENDED_MAX: usize = 1024;

/// The client of a login. Shown to the user, never used for a decision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientInfo {
    pub ip: Option<IpAddr>,
    pub user_agent: String,
    /// The client's own name for its device, at most [`DEVICE_NAME_CHARS_MAX`] characters.
    pub device_name: Option<String>,
}

/// A login succeeded.
#[derive(Clone)]
pub struct LoggedIn {
    pub access: String,
    pub refresh: String,
    pub user_id: UserId,
    pub session_id: SessionId,
    /// This login created the account.
    pub new_user: bool,
}

/// A user with a valid session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub user_id: UserId,
    pub session_id: SessionId,
}

/// Sessions that ended before their time. Close every connection that belongs to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum SessionsEnded {
    One(UserId, SessionId),
    /// All sessions of a user.
    All(UserId),
}

/// The valid tokens of a session.
#[derive(Clone)]
pub struct TokenPair {
    pub access: String,
    pub refresh: String,
}

/// Logs users in and identifies callers.
pub struct Identity {
    store: Store,
    clock: Arc<dyn Clock>,
    otp: Arc<OtpService>,
    tokens: Tokens,
    rules: IdentityRules,
    agents: Arc<Agents>,
    last_seen: Arc<LastSeen>,
    ended: broadcast::Sender<SessionsEnded>,
    /// Notified when an account was erased.
    erasures: Arc<Notify>,
    hashes: PasswordHashes,
    /// Accounts registered, by the hash of an address.
    registrations: Arc<Rates<u64>>,
    /// Wrong tokens of operators, by the hash of an address.
    wrong_tokens: Arc<Rates<u64>>,
    audit: Audit,
    /// For operators who search.
    index: Arc<UserIndex>,
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
        let agents = Agents::of_process();
        let (ended, _) = broadcast::channel(ENDED_MAX);
        let hashes = PasswordHashes::new(rules.passwords.hashes);
        let last_seen = Arc::default();
        let audit = Audit::lines_only(store.clone(), Arc::clone(&clock));
        let (registrations, wrong_tokens, erasures) = Default::default();
        Ok(Identity {
            store,
            clock,
            otp,
            tokens,
            rules,
            agents,
            last_seen,
            ended,
            erasures,
            hashes,
            registrations,
            wrong_tokens,
            audit,
            index: Arc::default(),
        })
    }

    /// The same identity with other rules. Shares its notes and caches with this one.
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
        Checked::new(rules).map(|rules| self.under(otp, tokens, rules))
    }

    /// [`Identity::with_rules`] with rules that were checked before.
    #[must_use]
    pub fn under(&self, otp: Arc<OtpService>, tokens: Tokens, rules: Checked<IdentityRules>) -> Self {
        let rules = rules.into_inner();
        let (store, clock) = (self.store.clone(), Arc::clone(&self.clock));
        let (agents, last_seen) = (Arc::clone(&self.agents), Arc::clone(&self.last_seen));
        let ended = self.ended.clone();
        let hashes = match self.hashes.limits() == rules.passwords.hashes {
            true => self.hashes.clone(),
            false => PasswordHashes::new(rules.passwords.hashes),
        };
        Identity {
            store,
            clock,
            otp,
            tokens,
            rules,
            agents,
            last_seen,
            ended,
            erasures: Arc::clone(&self.erasures),
            hashes,
            registrations: Arc::clone(&self.registrations),
            wrong_tokens: Arc::clone(&self.wrong_tokens),
            audit: self.audit.clone(),
            index: Arc::clone(&self.index),
        }
    }

    /// Lets the other gateways hear what is counted here.
    pub fn share_counts(&self, board: &Arc<Board>) {
        board.join("registrations", &self.registrations);
        board.join("tokens", &self.wrong_tokens);
    }

    /// Calls a closure with each account that is made or changed here. Once.
    pub fn tell_changes(&self, tell: impl Fn(UserId) + Send + Sync + 'static) {
        self.index.tell(Box::new(tell));
    }

    /// Notes that another gateway made or changed an account.
    pub fn changed_elsewhere(&self, user: UserId) {
        self.index.changed_elsewhere(user);
    }

    /// Records events in this log. Without it, events are log lines only.
    #[must_use]
    pub fn with_audit(mut self, audit: Audit) -> Self {
        self.audit = audit;
        self
    }

    /// The audit log.
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
    pub fn with_user_agent_parser(mut self, make: MakeParser) -> Self {
        self.agents = Arc::new(Agents::new(make));
        self
    }

    /// The caller of a valid token of either type with a valid session.
    ///
    /// # Errors
    ///
    /// See [`TokenError`].
    pub async fn token_verify(&self, token: &str) -> Result<Caller, TokenError> {
        let now = self.clock.now();
        let RefreshSubject { subject, .. } = self.tokens.verify_any(token, None, now)?;
        self.caller_of(subject, now).await
    }

    /// The caller of an access token with a valid session. Notes in memory that the session was used.
    ///
    /// # Errors
    ///
    /// See [`TokenError`]. A retry can help with [`TokenError::Store`] only.
    pub async fn caller(&self, access_token: &str) -> Result<Caller, TokenError> {
        let now = self.clock.now();
        let subject = self.tokens.verify(access_token, TokenType::Access, now)?;
        let caller = self.caller_of(subject, now).await?;
        self.last_seen.note(caller.user_id, caller.session_id, now);
        Ok(caller)
    }

    /// Whether a known caller's session is still valid.
    ///
    /// # Errors
    ///
    /// See [`TokenError`]. A retry can help with [`TokenError::Store`] only.
    pub async fn stands(&self, caller: &Caller) -> Result<(), TokenError> {
        let Caller { user_id, session_id } = *caller;
        let gate = self.store.session_gate(user_id, session_id, self.clock.now()).await;
        self.standing(user_id, session_id, gate).map(drop)
    }

    /// Which of these callers' sessions are still valid, in the order of the question.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn stand(&self, callers: &[Caller]) -> Result<Vec<bool>, StoreError> {
        let asked: Vec<_> = callers.iter().map(|caller| (caller.user_id, caller.session_id)).collect();
        self.store.sessions_open(&asked, self.clock.now()).await
    }

    /// The random part of a caller's session (see [`Session::binding`](chelseru_store::Session::binding)), `None` when
    /// the session is not valid. What is signed with it ends with the session, also when an older copy of the store
    /// gives the session's number again.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn session_binding(&self, caller: &Caller) -> Result<Option<u64>, StoreError> {
        let Caller { user_id, session_id } = *caller;
        if self.store.session_gate(user_id, session_id, self.clock.now()).await? != SessionGate::Open {
            return Ok(None);
        }
        let session = self.store.session_get(user_id, session_id).await?;
        Ok(session.map(|session| session.binding()))
    }

    /// The caller of a verified token, when its session is valid.
    async fn caller_of(&self, subject: TokenSubject, now: Timestamp) -> Result<Caller, TokenError> {
        let TokenSubject { user_id, session_id, binding } = subject;
        let gate = self.store.session_gate_of_token(user_id, session_id, binding, now).await;
        self.standing(user_id, session_id, gate)
    }

    fn standing(
        &self,
        user_id: UserId,
        session_id: SessionId,
        gate: Result<SessionGate, StoreError>,
    ) -> Result<Caller, TokenError> {
        match gate {
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
