//! Who a caller is: a code becomes a session, a token becomes a caller.
//!
//! `authenticate` spends a code and opens a session in one durable change; `caller` runs on every request and is
//! two cached reads beside the token's check. Invariants: wrong, expired, burned, used and never-sent codes cannot
//! be told apart by the answer; a session that was revoked opens nothing from then on, however long its tokens
//! live; a caller sees sessions of nobody else; requests cost no durable write.
//!
//! Not here: sending codes ([`crate::otp`]), the form of tokens ([`crate::token`]), limits per address.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use chelseru_store::{LoginDraft, LoginOutcome, Session, SessionDraft, SessionGate, Store, StoreError};
use uuid::Uuid;

use crate::group::{Group, GroupPolicy};
use crate::ids::{SessionId, UserId};
use crate::last_seen::LastSeen;
use crate::otp::OtpService;
use crate::token::{TokenError, TokenSubject, TokenType, Tokens};
use crate::user_agent::{CachedAgents, CommonAgents, UserAgentParser};
use crate::{Clock, PhoneNumber, RuleError, Timestamp};

/// Characters of a `User-Agent` header that are kept with a session; the rest is cut off.
pub const USER_AGENT_CHARS_MAX: usize = 256;

/// How sessions are opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityRules {
    /// In which groups a login may begin an account. Default: group 0 only.
    pub groups: GroupPolicy,
    /// Sessions a user may have at once, 1 to 1000; one more ends the oldest. Default 20.
    pub sessions_per_user_max: usize,
}

impl Default for IdentityRules {
    fn default() -> Self {
        IdentityRules { groups: GroupPolicy::default(), sessions_per_user_max: 20 }
    }
}

impl IdentityRules {
    fn check(&self) -> Result<(), RuleError> {
        if (1..=1000).contains(&self.sessions_per_user_max) {
            return Ok(());
        }
        Err(RuleError::new("sessions_per_user_max", self.sessions_per_user_max, "1 to 1000"))
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
    pub user_agent: String,
    /// Empty when not known.
    pub ip_address: String,
    pub device: String,
    pub browser: String,
    pub platform: String,
    pub last_seen: Timestamp,
    pub created_at: Timestamp,
    pub user: UserId,
    /// The caller's own.
    pub current: bool,
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
        let agents = Arc::new(CachedAgents::new(Box::new(CommonAgents)));
        Ok(Identity { store, clock, otp, tokens, rules, agents, last_seen: Arc::default() })
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
        Ok(Identity { store, clock, otp, tokens, rules, agents, last_seen })
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
        let draft = LoginDraft {
            number: number.e164().to_owned(),
            mac: self.otp.mac(number, code),
            group: group.number(),
            username: format!("G{group}-{}", number.local()),
            create: self.rules.groups.may_create(group),
            now,
            session: SessionDraft {
                key: random_uuid().map_err(AuthenticateError::Randomness)?,
                expires_at: now.plus(self.tokens.rules().refresh_ttl),
                user_agent: client.user_agent.chars().take(USER_AGENT_CHARS_MAX).collect(),
                ip_address: client.ip.map(|ip| ip.to_canonical().to_string()).unwrap_or_default(),
                per_user_max: self.rules.sessions_per_user_max,
            },
        };
        let (user, session, new_user) = match self.store.login_with_challenge(draft).await? {
            LoginOutcome::LoggedIn { user, session, new_user } => (user, session, new_user),
            LoginOutcome::UserInactive => return Err(AuthenticateError::UserInactive),
            LoginOutcome::CreationRefused => return Err(AuthenticateError::GroupClosed),
            refused @ (LoginOutcome::Wrong { .. }
            | LoginOutcome::Burned
            | LoginOutcome::Expired
            | LoginOutcome::Missing) => {
                tracing::debug!(phone = %number, outcome = ?refused, "login refused");
                return Err(AuthenticateError::WrongCode);
            }
        };
        let subject = TokenSubject { user_id: user.id, session_id: session.id };
        let issue =
            |token_type| self.tokens.issue(token_type, subject, now).map_err(AuthenticateError::Randomness);
        Ok(LoggedIn {
            access: issue(TokenType::Access)?,
            refresh: issue(TokenType::Refresh)?,
            user_id: user.id,
            session_id: session.id,
            new_user,
        })
    }

    /// The caller that a bearer token names, when its session stands. Notes that the session was used, in memory.
    ///
    /// # Errors
    ///
    /// See [`TokenError`]; only [`TokenError::Store`] can be helped by trying again.
    pub fn caller(&self, access_token: &str) -> Result<Caller, TokenError> {
        let now = self.clock.now();
        let subject = self.tokens.verify(access_token, TokenType::Access, now)?;
        let TokenSubject { user_id, session_id } = subject;
        match self.store.session_gate(user_id, session_id, now) {
            Ok(SessionGate::Open) => {
                self.last_seen.note(user_id, session_id, now);
                Ok(Caller { user_id, session_id })
            }
            Ok(SessionGate::UserMissing) => Err(TokenError::UserNotFound),
            Ok(SessionGate::UserInactive) => Err(TokenError::UserInactive),
            Ok(SessionGate::Ended) => Err(TokenError::SessionEnded),
            Err(error) => {
                tracing::error!(error = %error, user.id = user_id.0, "session could not be checked");
                Err(TokenError::Store)
            }
        }
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
    pub async fn logout(&self, caller: &Caller) -> Result<bool, StoreError> {
        self.store.session_revoke(caller.user_id, caller.session_id).await
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

    /// Walks once through all codes and sessions and removes those that expired, in steps of `step` records so that
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
                return Ok(removed);
            }
            tokio::task::yield_now().await;
        }
    }

    fn view(&self, session: Session, caller: &Caller) -> SessionView {
        let agent = self.agents.get(&session.user_agent);
        let noted = self.last_seen.get(session.id).unwrap_or_default();
        SessionView {
            id: session.id,
            session_key: session.key,
            ip_address: session.ip_address,
            device: agent.device.clone(),
            browser: agent.browser.clone(),
            platform: agent.platform.clone(),
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
