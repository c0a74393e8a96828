//! Login by user name and password: register, log in, change and reset.
//!
//! Guesses are counted per name and address, so a stranger's guesses make the stranger wait and nobody else. A slow
//! total per name bounds all addresses together: after [`PasswordRules::total_max`] guesses, one every
//! `lockout_first`. With the defaults that is 100 and then 2,880 a day, against passwords that are none of the most
//! used. The total does not hold up an address from whose network the account has a session, nor a login by code. The
//! operators' console counts apart from the clients' routes ([`Door`]), and has places of its own among the hashes:
//! whoever can only reach the public listener holds no operator up.
//!
//! Invariants: a guess is counted durably before the password is checked; an unknown name gets the reply of a wrong
//! password, after the same work and the same writes; a new password ends the sessions of the old one. Registering has
//! to reveal that a user name is taken. Names that the login by code makes cannot be chosen, so this reveals no phone
//! number.

use std::net::IpAddr;
use std::time::Duration;

use chelseru_store::{
    Guard, GuardOutcome, Guesser, PasswordLogin, PasswordLoginDraft, PasswordSet, ResetDraft, ResetOutcome,
    StoreError, User, UserDraft, UserMade,
};

use super::{Caller, ClientInfo, Identity, LoggedIn, SessionsEnded, TokenPair};
use crate::ids::UserId;
use crate::login::account::{
    UserView, UsernameFault, key_by_look, look_alike, name_of_identity, username_check,
};
use crate::login::group::Group;
use crate::login::method::ByPassword;
use crate::login::otp::Purpose;
use crate::login::password::{HashError, Password, PasswordFault};
use crate::operator::audit::{AuditEvent, AuditKind, mask_name};
use crate::operator::role::{PasswordOverride, Permit, SuperuserCreate};
use crate::rate::{Exhausted, Rate};
use crate::share::is_own_machine;
use crate::{PhoneNumber, Timestamp};

#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error(transparent)]
    Username(#[from] UsernameFault),
    #[error("the password is not accepted: {0:?}")]
    Password(Vec<PasswordFault>),
    /// Too many accounts from this address.
    #[error("too many accounts were created from this address")]
    Waiting(Exhausted),
    #[error(transparent)]
    Hash(#[from] HashError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Wrong name or password, no password, or inactive account. The client must not learn which.
    #[error("user name and password do not open a session")]
    Wrong,
    /// Too many guesses at this name. The next one is accepted after this time.
    #[error("too many guesses at the password")]
    Waiting { retry_after: Duration },
    /// The new password is refused.
    #[error("the password is not accepted: {0:?}")]
    Faults(Vec<PasswordFault>),
    #[error(transparent)]
    Hash(#[from] HashError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no randomness from the operating system")]
    Randomness(#[source] std::io::Error),
}

/// Where a password is guessed at.
#[derive(Clone, Copy)]
enum Door {
    /// The clients' routes.
    Clients,
    /// The operators' console.
    Console,
}

impl Door {
    /// What the guards of a name are labelled with: of an address, and in total.
    fn labels(self) -> [&'static str; 2] {
        match self {
            Door::Clients => ["guard-from", "guard"],
            Door::Console => ["guard-console-from", "guard-console"],
        }
    }
}

impl Identity {
    /// Creates an account with a password. Hashes the password before it looks for the name, so that a taken name takes
    /// as long as a free one.
    ///
    /// # Errors
    ///
    /// See [`RegisterError`].
    pub async fn register(
        &self,
        _by: ByPassword,
        username: &str,
        password: &Password,
        email: &str,
        ip: Option<IpAddr>,
    ) -> Result<UserView, RegisterError> {
        username_check(username)?;
        let subject = self.registrant(ip);
        if let Some(subject) = &subject {
            let rate = Rate::per_hour("registrations", self.rules.passwords.registrations_per_hour_max);
            let taken = self.registrations.take(subject, 1, rate, self.clock.now());
            taken.map_err(RegisterError::Waiting)?;
        }
        let made = self.user_create(username, password, email, ip, false).await;
        if let (Some(subject), Err(_)) = (&subject, &made) {
            self.registrations.give_back(subject, 1);
        }
        made
    }

    /// Whose registrations and wrong tokens are counted together. This machine's address is a proxy's that nobody
    /// declared, so what comes from it is not counted.
    pub(super) fn registrant(&self, ip: Option<IpAddr>) -> Option<u64> {
        let ip = ip.filter(|ip| !is_own_machine(*ip))?;
        Some(self.otp.guesser(ip))
    }

    /// Creates an account with all rights.
    ///
    /// # Errors
    ///
    /// See [`RegisterError`].
    pub async fn superuser_create(
        &self,
        _permit: &Permit<SuperuserCreate>,
        username: &str,
        password: &Password,
        email: &str,
    ) -> Result<UserView, RegisterError> {
        username_check(username)?;
        self.user_create(username, password, email, None, true).await
    }

    /// Opens a session for a name and its password.
    ///
    /// # Errors
    ///
    /// See [`PasswordError`].
    pub async fn login(
        &self,
        _by: ByPassword,
        username: &str,
        password: &Password,
        client: ClientInfo,
    ) -> Result<LoggedIn, PasswordError> {
        let ip = client.ip;
        let event = |kind| AuditEvent::new(kind).ip(ip).subject(mask_name(username));
        let guards = self.guards(Door::Clients, username, ip);
        // Before the guess is counted: a full queue is no wrong guess.
        let place = self.hashes.enter(ip)?;
        let user = self.user_named(username).await?;
        if let Err(error) = self.login_allowed(guards, user.as_ref(), ip).await {
            if matches!(error, PasswordError::Waiting { .. }) {
                self.audit.record(event(AuditKind::LoginLocked));
            }
            return Err(error);
        }
        let now = self.clock.now();
        let kept = match &user {
            Some(user) => self.store.password_of(user.id).await?,
            None => None,
        };
        let right = self.hashes.verify(place, password, kept.clone()).await?;
        let (Some(user), Some(checked), true) = (user, kept, right) else {
            // Without the account's id, so that the record is the same for unknown names.
            self.audit.record(event(AuditKind::LoginFailed));
            return Err(PasswordError::Wrong);
        };
        let draft = PasswordLoginDraft {
            user: user.id,
            renewed: self.hashes.renewed(password, &checked, ip).await?,
            checked,
            guard: guards[0].key,
            total: guards[1].key,
            now,
            session: self.session_draft(client, now).map_err(PasswordError::Randomness)?,
        };
        match self.store.login_with_password(draft).await? {
            PasswordLogin::Refused => {
                self.audit.record(event(AuditKind::LoginFailed));
                Err(PasswordError::Wrong)
            }
            PasswordLogin::LoggedIn { session, ended, .. } => {
                let login = event(AuditKind::Login).user(session.user).session(session.id);
                self.audit.record(login.detail("by password"));
                self.give_way(session.user, ended, ip);
                self.agents.prepare(&session.user_agent);
                let TokenPair { access, refresh } =
                    self.token_pair(&session, now).map_err(PasswordError::Randomness)?;
                let (user_id, session_id) = (session.user, session.id);
                Ok(LoggedIn { access, refresh, user_id, session_id, new_user: false })
            }
        }
    }

    /// Verifies a name and its password for the operators' console, with the guesses counted as at [`Identity::login`],
    /// but apart from there. The caller clears them with [`Identity::guesses_clear`] once its login succeeds.
    ///
    /// # Errors
    ///
    /// See [`PasswordError`].
    pub async fn password_prove(
        &self,
        username: &str,
        password: &Password,
        ip: Option<IpAddr>,
    ) -> Result<UserView, PasswordError> {
        let guards = self.guards(Door::Console, username, ip);
        let place = self.hashes.enter_as_operator(ip)?;
        let user = self.user_named(username).await?;
        self.login_allowed(guards, user.as_ref(), ip).await?;
        let kept = match &user {
            Some(user) => self.store.password_of(user.id).await?,
            None => None,
        };
        let right = self.hashes.verify(place, password, kept).await?;
        match user {
            Some(user) if right && user.active => Ok(UserView::new(user, true)),
            _ => Err(PasswordError::Wrong),
        }
    }

    /// Counts a guess at the second factor of a user whose password was right.
    ///
    /// # Errors
    ///
    /// [`PasswordError::Waiting`], and those of the store.
    pub async fn factor_guess(&self, user: UserId) -> Result<(), PasswordError> {
        self.guess_allowed(vec![self.factor_guard(user)]).await
    }

    /// Forgets the guesses of a console login that succeeded.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn guesses_clear(
        &self,
        user: UserId,
        username: &str,
        ip: Option<IpAddr>,
    ) -> Result<(), StoreError> {
        let [of_address, total] = self.guards(Door::Console, username, ip);
        let keys = vec![of_address.key, total.key, self.factor_guard(user).key];
        self.store.guards_clear(keys).await
    }

    /// Only who knows the password reaches it, so that a stranger locks nobody out.
    fn factor_guard(&self, user: UserId) -> Guard {
        let key = self.otp.labelled_mac("guard-factor", &user.to_string());
        Guard { key, rules: self.rules.passwords.guard() }
    }

    /// Replaces the caller's password. Requires the old one, which is guarded as at a login, so that a stolen session
    /// cannot take the account. Ends the caller's other sessions and returns their number.
    ///
    /// # Errors
    ///
    /// See [`PasswordError`]. An account without a password sets its first one by a reset.
    pub async fn password_change(
        &self,
        _by: ByPassword,
        caller: &Caller,
        old: &Password,
        new: &Password,
        ip: Option<IpAddr>,
    ) -> Result<usize, PasswordError> {
        let Some(user) = self.store.user_get(caller.user_id).await? else { return Err(PasswordError::Wrong) };
        let faults = new.faults(&user.username);
        if !faults.is_empty() {
            return Err(PasswordError::Faults(faults));
        }
        let kept = self.prove_password(caller, old, ip).await?;
        let event = |kind| AuditEvent::new(kind).user(user.id).session(caller.session_id).ip(ip);
        let hash = self.hashes.hash(new, ip).await?;
        let now = self.clock.now();
        match self.store.password_set(user.id, kept, hash, Some(caller.session_id), now).await? {
            PasswordSet::Refused => Err(PasswordError::Wrong),
            PasswordSet::Set(ended) => {
                let count = ended.len();
                self.audit.record(event(AuditKind::PasswordChanged).detail(format!("ended: {count}")));
                self.announce_ended(user.id, ended);
                Ok(count)
            }
        }
    }

    /// Verifies the caller's own password, with the guesses counted, and returns what is kept of it.
    pub(super) async fn prove_password(
        &self,
        caller: &Caller,
        password: &Password,
        ip: Option<IpAddr>,
    ) -> Result<Option<String>, PasswordError> {
        // Of the user, whose session this is: strangers' guesses at the name lock nobody out here.
        let key = self.otp.labelled_mac("guard-change", &caller.user_id.to_string());
        let guard = Guard { key, rules: self.rules.passwords.guard() };
        let place = self.hashes.enter(ip)?;
        let event = |kind| AuditEvent::new(kind).user(caller.user_id).session(caller.session_id).ip(ip);
        if let Err(error) = self.guess_allowed(vec![guard]).await {
            if matches!(error, PasswordError::Waiting { .. }) {
                self.audit
                    .record(event(AuditKind::LoginLocked).detail("with the password of a session's user"));
            }
            return Err(error);
        }
        let kept = self.store.password_of(caller.user_id).await?;
        if !self.hashes.verify(place, password, kept.clone()).await? {
            self.audit.record(event(AuditKind::PasswordChangeFailed));
            return Err(PasswordError::Wrong);
        }
        self.store.guards_clear(vec![guard.key]).await?;
        Ok(kept)
    }

    /// Sets the password of a number's account with a code that was sent for this. Ends all sessions of the account. A
    /// number without an account gets the reply of a wrong code, after the same work.
    ///
    /// # Errors
    ///
    /// See [`PasswordError`].
    pub async fn password_reset(
        &self,
        _by: ByPassword,
        number: &PhoneNumber,
        code: &str,
        group: Group,
        new: &Password,
        ip: Option<IpAddr>,
    ) -> Result<UserId, PasswordError> {
        let faults = new.faults(&name_of_identity(group, number));
        if !faults.is_empty() {
            return Err(PasswordError::Faults(faults));
        }
        let draft = ResetDraft {
            number: number.e164().to_owned(),
            group: group.number(),
            challenge: Purpose::PasswordReset.challenge(number),
            mac: self.otp.mac(Purpose::PasswordReset, number, code),
            guesser: self.guesser(ip),
            hash: self.hashes.hash(new, ip).await?,
            now: self.clock.now(),
        };
        let mut outcome = self.store.password_reset(draft.clone()).await?;
        // Read only when it decides, as at a login: whether the account was used from here before.
        if outcome == ResetOutcome::Exhausted && self.knows(number, ip).await? {
            let guesser = Guesser { known: true, ..draft.guesser };
            outcome = self.store.password_reset(ResetDraft { guesser, ..draft }).await?;
        }
        match outcome {
            refused @ (ResetOutcome::Refused | ResetOutcome::Exhausted | ResetOutcome::Burned) => {
                let event = |kind| AuditEvent::new(kind).ip(ip).subject(number);
                self.audit.record(event(AuditKind::PasswordResetFailed));
                if refused == ResetOutcome::Burned {
                    let burned = event(AuditKind::OtpBurned);
                    self.audit.record(burned.detail("the last guess, to reset a password"));
                }
                Err(PasswordError::Wrong)
            }
            ResetOutcome::Reset(user, _) => {
                let event = AuditEvent::new(AuditKind::PasswordReset).user(user.id).ip(ip);
                self.audit.record(event.subject(number));
                let _ = self.ended.send(SessionsEnded::All(user.id));
                self.store.guards_clear(self.guard_keys(&user.username, ip)).await?;
                Ok(user.id)
            }
        }
    }

    /// Sets a user's password without the old one and ends all sessions.
    ///
    /// # Errors
    ///
    /// See [`PasswordError`]; [`PasswordError::Wrong`] when there is no such user.
    pub async fn password_override(
        &self,
        permit: &Permit<PasswordOverride>,
        user: UserId,
        new: &Password,
    ) -> Result<(), PasswordError> {
        let Some(found) = self.store.user_get(user).await? else { return Err(PasswordError::Wrong) };
        let faults = new.faults(&found.username);
        if !faults.is_empty() {
            return Err(PasswordError::Faults(faults));
        }
        let hash = self.hashes.hash_as_operator(new).await?;
        match self.store.password_set(user, None, hash, None, self.clock.now()).await? {
            PasswordSet::Refused => Err(PasswordError::Wrong),
            PasswordSet::Set(_) => {
                let event = AuditEvent::by(permit.operator(), AuditKind::PasswordOverridden);
                self.audit.record(event.user(user));
                let _ = self.ended.send(SessionsEnded::All(user));
                let totals = [Door::Clients, Door::Console].map(|door| {
                    let [_, total] = self.guards(door, &found.username, None);
                    total.key
                });
                self.store.guards_clear(totals.into()).await?;
                Ok(())
            }
        }
    }

    async fn user_create(
        &self,
        username: &str,
        password: &Password,
        email: &str,
        ip: Option<IpAddr>,
        all_rights: bool,
    ) -> Result<UserView, RegisterError> {
        let faults = password.faults(username);
        if !faults.is_empty() {
            return Err(RegisterError::Password(faults));
        }
        let password_hash = match all_rights {
            true => self.hashes.hash_as_operator(password).await?,
            false => self.hashes.hash(password, ip).await?,
        };
        let draft = UserDraft {
            username: username.to_owned(),
            look: key_by_look(username),
            email: email.to_owned(),
            password_hash,
            staff: all_rights,
            superuser: all_rights,
            now: self.clock.now(),
        };
        match self.store.user_register(draft).await? {
            UserMade::Made(user) => {
                self.index.changed(user.id);
                let kind = match all_rights {
                    true => AuditKind::SuperuserCreated,
                    false => AuditKind::UserRegistered,
                };
                self.audit.record(AuditEvent::new(kind).user(user.id).ip(ip).subject(mask_name(username)));
                Ok(UserView::new(user, true))
            }
            UserMade::NameTaken => Err(UsernameFault::Taken.into()),
        }
    }

    /// Counts a guess at a login. Where the account is at home, strangers' guesses do not hold it up.
    async fn login_allowed(
        &self,
        guards: [Guard; 2],
        user: Option<&User>,
        ip: Option<IpAddr>,
    ) -> Result<(), PasswordError> {
        let now = self.clock.now();
        let counted = self.store.password_guard(guards.into(), now).await?;
        if let (GuardOutcome::Waiting { first: 1, .. }, Some(user)) = (counted, user)
            && self.user_was_at(user.id, ip).await?
        {
            return self.guess_allowed(vec![guards[0]]).await;
        }
        allowed(counted, now)
    }

    async fn guess_allowed(&self, guards: Vec<Guard>) -> Result<(), PasswordError> {
        let now: Timestamp = self.clock.now();
        allowed(self.store.password_guard(guards, now).await?, now)
    }

    /// The guards of a name at a door: its guesses from an address (of IPv6: from a network), and all. Under the name's
    /// look, because one account answers to all names that look alike.
    fn guards(&self, door: Door, username: &str, ip: Option<IpAddr>) -> [Guard; 2] {
        let [from_label, total_label] = door.labels();
        let (look, rules) = (look_alike(username), &self.rules.passwords);
        let from = ip.map_or(0, |ip| self.otp.guesser(ip));
        let of_address = self.otp.labelled_mac(from_label, &format!("{from:016x} {look}"));
        [
            Guard { key: of_address, rules: rules.guard() },
            Guard { key: self.otp.labelled_mac(total_label, &look), rules: rules.total_guard() },
        ]
    }

    /// The keys of all guards of a name, which a new password ends.
    pub(super) fn guard_keys(&self, username: &str, ip: Option<IpAddr>) -> Vec<[u8; 32]> {
        let doors = [Door::Clients, Door::Console];
        doors.into_iter().flat_map(|door| self.guards(door, username, ip)).map(|guard| guard.key).collect()
    }
}

fn allowed(counted: GuardOutcome, now: Timestamp) -> Result<(), PasswordError> {
    match counted {
        GuardOutcome::Open => Ok(()),
        GuardOutcome::Waiting { retry_at, .. } => {
            Err(PasswordError::Waiting { retry_after: retry_at.since(now) })
        }
    }
}
