//! The console's logins: password with a second factor, or a one-time link; then sessions.
//!
//! An operator is an account: with the rights of a superuser it has the role admin, otherwise the role that an admin
//! gave it. Rights, role and account are read for each request, so that what is taken away ends at once. Invariants: a
//! password alone opens nothing; each time step, recovery code and link opens one session; a session's token is stored
//! as a hash; every failure has one text, whatever was wrong.
//!
//! Passwords belong to `login::identity`, which also counts the guesses. Reading order: this file, `factor`,
//! `operators`.

mod factor;
mod filters;
mod operators;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
pub use chelseru_store::ConsoleSession;
use chelseru_store::{ConsoleDraft, ConsoleProof, OperatorChange, OperatorRecord, Store, StoreError, User};
use hmac::Mac;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub use factor::{FactorDraft, FactorError};
pub use filters::{FILTERS_MAX, SavedFilter};
pub use operators::{OperatorView, RoleError};

use super::api_key::ApiKey;
use super::audit::{AuditEvent, AuditKind, mask_name};
use super::role::{ConsoleLinkMake, Operator, Permit, Proof, Role, role_of};
use crate::ids::UserId;
use crate::login::account::UserView;
use crate::login::identity::{Identity, PasswordError};
use crate::login::password::Password;
use crate::rate::{Board, Exhausted, Rate, Rates};
use crate::secret::{KeyUse, MasterKey, SubKey, hmac_sha256};
use crate::{Clock, Timestamp};

/// Without a request a session ends.
pub const IDLE_MAX: Duration = Duration::from_secs(60 * 60);
/// A session ends, used or not: a working day.
pub const ABSOLUTE_MAX: Duration = Duration::from_secs(12 * 60 * 60);
/// How long a one-time link is valid.
pub const LINK_TTL: Duration = Duration::from_secs(15 * 60);
/// The time of the last request is stored this often at most.
const TOUCH_AFTER: Duration = Duration::from_secs(60);
/// Stored characters of a `User-Agent` header.
const USER_AGENT_CHARS_MAX: usize = 256;
/// Wrong links from one address in an hour. A link has 256 random bits; this keeps wrong ones cheap.
const WRONG_LINKS: Rate = Rate::per_hour("wrong-links", 60);

/// The languages of the console, the first one by default.
pub const LANGUAGES: [&str; 2] = ["fa", "en"];

/// The prefix of an API key's scope for the operator API; the role follows.
pub const SCOPE_PREFIX: &str = "operator:";

/// The browser of a login.
#[derive(Debug, Clone, Default)]
pub struct Visitor {
    pub ip: Option<IpAddr>,
    pub user_agent: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// Wrong name, password, code or link; no operator; no second factor. The visitor must not learn which.
    #[error("the console does not open")]
    Wrong,
    #[error("too many guesses")]
    Waiting { retry_after: Duration },
    #[error("too many logins wait")]
    Busy,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no randomness from the operating system")]
    Randomness(#[source] std::io::Error),
}

/// An open session: the token for the browser, and until when it is valid.
pub struct Opened {
    pub token: String,
    pub expires_at: Timestamp,
}

/// An operator at the console.
#[derive(Clone)]
pub struct Seat {
    pub operator: Operator,
    pub user: UserView,
    pub session: ConsoleSession,
    /// The code of the operator's language.
    pub language: String,
    pub has_factor: bool,
    /// Binds forms to this session.
    pub form_key: String,
}

/// Keys and counts that outlive configurations.
pub struct ConsoleKeys {
    seal: SubKey,
    mac: SubKey,
    wrong_links: Rates<IpAddr>,
}

impl ConsoleKeys {
    #[must_use]
    pub fn new(key: &MasterKey) -> ConsoleKeys {
        let (seal, mac) = (key.derive(KeyUse::ConsoleSeal), key.derive(KeyUse::Console));
        ConsoleKeys { seal, mac, wrong_links: Rates::default() }
    }

    /// Lets the other gateways hear what is counted here.
    pub fn share_counts(&self, board: &Arc<Board>) {
        board.join("links", &self.wrong_links);
    }
}

/// The console's logins and operators.
pub struct Console {
    store: Store,
    clock: Arc<dyn Clock>,
    identity: Arc<Identity>,
    keys: Arc<ConsoleKeys>,
}

impl Console {
    #[must_use]
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        identity: Arc<Identity>,
        keys: Arc<ConsoleKeys>,
    ) -> Console {
        Console { store, clock, identity, keys }
    }

    /// Opens a session for a name, its password, and a code of the second factor or a recovery code.
    ///
    /// # Errors
    ///
    /// See [`ConsoleError`].
    pub async fn login(
        &self,
        username: &str,
        password: &Password,
        code: &str,
        visitor: Visitor,
    ) -> Result<Opened, ConsoleError> {
        let ip = visitor.ip;
        let opened = self.login_checked(username, password, code, visitor).await;
        if let Err(ConsoleError::Wrong | ConsoleError::Waiting { .. }) = &opened {
            let event = AuditEvent::new(AuditKind::ConsoleLoginFailed).ip(ip);
            self.identity.audit().record(event.subject(mask_name(username)));
        }
        opened
    }

    async fn login_checked(
        &self,
        username: &str,
        password: &Password,
        code: &str,
        visitor: Visitor,
    ) -> Result<Opened, ConsoleError> {
        let ip = visitor.ip;
        let user = self.identity.password_prove(username, password, ip).await.map_err(password_error)?;
        let record = self.store.operator_get(user.id).await?.unwrap_or_else(|| OperatorRecord::new(user.id));
        let factor = record.factor.as_ref().filter(|_| role(user.superuser, &record).is_some());
        let Some(factor) = factor else { return Err(ConsoleError::Wrong) };
        self.identity.factor_guess(user.id).await.map_err(password_error)?;
        let proof = self.proof_of(user.id, factor, code).ok_or(ConsoleError::Wrong)?;
        let opened = self.open(user.id, proof, "second factor", visitor).await?;
        self.identity.guesses_clear(user.id, username, ip).await?;
        Ok(opened)
    }

    /// Opens a session for a one-time link.
    ///
    /// # Errors
    ///
    /// See [`ConsoleError`].
    pub async fn login_by_link(&self, token: &str, visitor: Visitor) -> Result<Opened, ConsoleError> {
        let (ip, now) = (visitor.ip, self.clock.now());
        if let Some(ip) = &ip {
            let taken = self.keys.wrong_links.take(ip, 1, WRONG_LINKS, now);
            taken.map_err(|Exhausted { retry_after, .. }| ConsoleError::Waiting { retry_after })?;
        }
        let opened = match user_in(token) {
            Some(user) if self.role(user).await?.is_some() => {
                self.open(user, ConsoleProof::Link(hash(token)), "one-time link", visitor).await
            }
            _ => Err(ConsoleError::Wrong),
        };
        match (&opened, &ip) {
            (Err(ConsoleError::Wrong), _) => {
                let event = AuditEvent::new(AuditKind::ConsoleLoginFailed).ip(ip);
                self.identity.audit().record(event.detail("a wrong link"));
            }
            (_, Some(ip)) => self.keys.wrong_links.give_back(ip, 1),
            _ => {}
        }
        opened
    }

    async fn open(
        &self,
        user: UserId,
        proof: ConsoleProof,
        by: &str,
        visitor: Visitor,
    ) -> Result<Opened, ConsoleError> {
        let token = token_of(user).map_err(ConsoleError::Randomness)?;
        let now = self.clock.now();
        let draft = ConsoleDraft {
            user,
            proof,
            hash: hash(&token),
            now,
            expires_at: now.plus(ABSOLUTE_MAX),
            ip_address: visitor.ip.map(|ip| ip.to_canonical().to_string()).unwrap_or_default(),
            user_agent: visitor.user_agent.chars().take(USER_AGENT_CHARS_MAX).collect(),
        };
        let session = self.store.console_open(draft).await?.ok_or(ConsoleError::Wrong)?;
        let event = AuditEvent::new(AuditKind::ConsoleLogin).user(user).ip(visitor.ip);
        self.identity.audit().record(AuditEvent { actor: Some(user), ..event.detail(by) });
        Ok(Opened { token, expires_at: session.expires_at })
    }

    /// The operator of a session's token; `None` when the session ended or the account is no operator any more.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn seat(&self, token: &str, ip: Option<IpAddr>) -> Result<Option<Seat>, StoreError> {
        let seat = self.glance(token, ip).await?;
        let now = self.clock.now();
        if let Some(seat) = seat.as_ref().filter(|seat| now.since(seat.session.last_seen_at) >= TOUCH_AFTER)
            && let Err(error) = self.store.console_touch(seat.user.id, hash(token), now).await
        {
            tracing::warn!(%error, "the use of a console session could not be noted");
        }
        Ok(seat)
    }

    /// The same for a request that a page makes by itself, which is no use of the session: a forgotten page must not
    /// keep its session open.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn glance(&self, token: &str, ip: Option<IpAddr>) -> Result<Option<Seat>, StoreError> {
        let Some(id) = user_in(token) else { return Ok(None) };
        let (hash, now) = (hash(token), self.clock.now());
        let Some(session) = self.store.console_session(id, hash).await? else { return Ok(None) };
        if session.expires_at <= now || now.since(session.last_seen_at) >= IDLE_MAX {
            return Ok(None);
        }
        let Some(user) = self.identity.user(id).await?.filter(|user| user.active) else { return Ok(None) };
        let record = self.store.operator_get(id).await?.unwrap_or_else(|| OperatorRecord::new(id));
        let Some(role) = role(user.superuser, &record) else { return Ok(None) };
        let known = LANGUAGES.contains(&record.language.as_str());
        Ok(Some(Seat {
            operator: Operator::new(Some(id), role, Proof::Session(session.id), ip),
            user,
            session,
            language: if known { record.language } else { LANGUAGES[0].to_owned() },
            has_factor: record.factor.is_some(),
            form_key: self.form_key(&hash),
        }))
    }

    /// The operator of an API key with an operator's scope; `None` for a key of another scope.
    #[must_use]
    pub fn operator_of_key(key: &ApiKey, ip: Option<IpAddr>) -> Option<Operator> {
        let role = role_of(key.scope.strip_prefix(SCOPE_PREFIX)?)?;
        (key.revoked_at.is_none()).then(|| Operator::new(None, role, Proof::ApiKey(key.id), ip))
    }

    /// Whether a form was made for this session.
    #[must_use]
    pub fn form_fits(seat: &Seat, key: &str) -> bool {
        seat.form_key.as_bytes().ct_eq(key.as_bytes()).into()
    }

    fn form_key(&self, session: &[u8; 32]) -> String {
        URL_SAFE_NO_PAD.encode(self.mac("form", session))
    }

    fn mac(&self, label: &str, bytes: &[u8]) -> [u8; 32] {
        let mut mac = hmac_sha256(self.keys.mac.expose());
        mac.update(label.as_bytes());
        mac.update(b"\0");
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    }

    /// Makes a one-time link's token for an operator, in place of an older one; `None` when the account is no operator,
    /// and for an API key: a key must not open a person's session.
    ///
    /// # Errors
    ///
    /// [`ConsoleError::Store`], [`ConsoleError::Randomness`].
    pub async fn link_make(
        &self,
        permit: &Permit<ConsoleLinkMake>,
        user: UserId,
    ) -> Result<Option<Opened>, ConsoleError> {
        if matches!(permit.operator().proof(), Proof::ApiKey(_)) || self.role(user).await?.is_none() {
            return Ok(None);
        }
        let token = token_of(user).map_err(ConsoleError::Randomness)?;
        let expires_at = self.clock.now().plus(LINK_TTL);
        self.store.console_link_put(user, hash(&token), expires_at).await?;
        self.identity
            .audit()
            .record(AuditEvent::by(permit.operator(), AuditKind::ConsoleLinkMade).user(user));
        Ok(Some(Opened { token, expires_at }))
    }

    /// The operator's own sessions, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn sessions(&self, seat: &Seat) -> Result<Vec<ConsoleSession>, StoreError> {
        let now = self.clock.now();
        let mut sessions = self.store.console_sessions(seat.user.id).await?;
        sessions.retain(|one| now < one.expires_at && now.since(one.last_seen_at) < IDLE_MAX);
        Ok(sessions)
    }

    /// Ends one of the operator's own sessions, or all others when `id` is `None`. Returns their number.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn session_end(&self, seat: &Seat, id: Option<u64>) -> Result<usize, StoreError> {
        let except = id.is_none().then_some(seat.session.id);
        let ended = self.store.console_end(seat.user.id, id, except).await?;
        if ended > 0 {
            let event = AuditEvent::by(&seat.operator, AuditKind::ConsoleSessionEnded).user(seat.user.id);
            self.identity.audit().record(event.change(ended, 0));
        }
        Ok(ended)
    }

    /// Sets the operator's own language; false when the console does not have it.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn language_set(&self, seat: &Seat, language: &str) -> Result<bool, StoreError> {
        if !LANGUAGES.contains(&language) {
            return Ok(false);
        }
        let change = OperatorChange::Language(language.to_owned());
        self.store.operator_change(seat.user.id, change).await?;
        Ok(true)
    }

    /// Keeps the language of a login: the one that was asked for, or any when none is kept yet.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn language_keep(
        &self,
        opened: &Opened,
        language: &str,
        asked_for: bool,
    ) -> Result<(), StoreError> {
        let Some(user) = user_in(&opened.token).filter(|_| LANGUAGES.contains(&language)) else {
            return Ok(());
        };
        let kept = self.store.operator_get(user).await?.map(|record| record.language).unwrap_or_default();
        if kept != language && (asked_for || kept.is_empty()) {
            self.store.operator_change(user, OperatorChange::Language(language.to_owned())).await?;
        }
        Ok(())
    }

    async fn role(&self, id: UserId) -> Result<Option<Role>, StoreError> {
        let Some(User { active: true, superuser, .. }) = self.store.user_get(id).await? else {
            return Ok(None);
        };
        let record = self.store.operator_get(id).await?.unwrap_or_else(|| OperatorRecord::new(id));
        Ok(role(superuser, &record))
    }
}

/// The role of an active account.
fn role(superuser: bool, record: &OperatorRecord) -> Option<Role> {
    if superuser { Some(Role::Admin) } else { record.role }
}

fn password_error(error: PasswordError) -> ConsoleError {
    match error {
        PasswordError::Waiting { retry_after } => ConsoleError::Waiting { retry_after },
        PasswordError::Store(error) => ConsoleError::Store(error),
        PasswordError::Randomness(error) => ConsoleError::Randomness(error),
        PasswordError::Hash(_) => ConsoleError::Busy,
        PasswordError::Wrong | PasswordError::Faults(_) => ConsoleError::Wrong,
    }
}

/// The account's number and 256 random bits.
fn token_of(user: UserId) -> std::io::Result<String> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(std::io::Error::other)?;
    Ok(format!("{user}-{}", URL_SAFE_NO_PAD.encode(random)))
}

fn user_in(token: &str) -> Option<UserId> {
    token.split_once('-').and_then(|(user, _)| user.parse().ok()).map(UserId)
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
