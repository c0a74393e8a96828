//! The rules of identity: how sessions are opened and how passwords are guarded.

use std::time::Duration;

use chelseru_store::GuardRules;

use crate::ids::UserId;
use crate::login::group::GroupPolicy;
use crate::login::password::{HASHES_RUNNING, HASHES_WAITING, HashLimits};
use crate::{Range, RuleError, Rules};

/// Sessions a user may have at once; one more ends the oldest.
pub const SESSIONS_PER_USER: Range<usize> = Range::new(1, 1000, 50);
/// From login to the end of a session, refreshed or not.
pub const SESSION_ABSOLUTE_SECS: Range<u64> = Range::new(300, 315_360_000, 90 * 86_400);
/// How long a replaced refresh token whose successor was never used may be presented again. The default outlasts any
/// session: a phone that was offline, or a page that slept while the reply came, is not logged out.
pub const REFRESH_REPEAT_SECS: Range<u64> = Range::new(0, 315_360_000, 315_360_000);
/// Guesses at a name's password from one address without a wait.
pub const PASSWORD_ATTEMPTS: Range<u32> = Range::new(1, 100, 5);
/// Guesses at a name's password from all addresses together before they are slowed.
pub const PASSWORD_ATTEMPTS_TOTAL: Range<u32> = Range::new(1, 1_000_000, 100);
/// Accounts that one address may register in an hour. Mobile networks put many people behind one.
pub const REGISTRATIONS_PER_HOUR: Range<u64> = Range::new(1, 1_000_000, 100);
/// The wait after the last of them; doubles with each further guess.
pub const LOCKOUT_SECS: Range<u64> = Range::new(1, 86_400, 30);
/// The longest wait, not below the first.
pub const LOCKOUT_LONGEST_SECS: Range<u64> = Range::new(1, 86_400, 15 * 60);

/// How sessions are opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityRules {
    /// Groups in which a login may create an account. Default: group 0 only.
    pub groups: GroupPolicy,
    /// See [`SESSIONS_PER_USER`].
    pub sessions_per_user_max: usize,
    /// See [`SESSION_ABSOLUTE_SECS`].
    pub session_absolute_max: Duration,
    /// How long a replaced refresh token is accepted again while its successor is unused. Presenting it later, or after
    /// its successor, ends the session. See [`REFRESH_REPEAT_SECS`].
    pub refresh_repeat_max: Duration,
    pub passwords: PasswordRules,
    /// Users who are staff for money without the rights of staff. Default: none.
    pub money_staff: Vec<UserId>,
}

impl Default for IdentityRules {
    fn default() -> Self {
        IdentityRules {
            groups: GroupPolicy::default(),
            sessions_per_user_max: SESSIONS_PER_USER.default,
            session_absolute_max: SESSION_ABSOLUTE_SECS.default_secs(),
            refresh_repeat_max: REFRESH_REPEAT_SECS.default_secs(),
            passwords: PasswordRules::default(),
            money_staff: Vec::new(),
        }
    }
}

impl IdentityRules {
    /// # Errors
    ///
    /// The first rule that is out of its range.
    pub fn check(&self) -> Result<(), RuleError> {
        SESSIONS_PER_USER.check("sessions_per_user_max", self.sessions_per_user_max)?;
        SESSION_ABSOLUTE_SECS.check_secs("session_absolute_max", self.session_absolute_max)?;
        REFRESH_REPEAT_SECS.check_secs("refresh_repeat_max", self.refresh_repeat_max)?;
        self.passwords.check()
    }
}

impl Rules for IdentityRules {
    fn check(&self) -> Result<(), RuleError> {
        IdentityRules::check(self)
    }
}

/// How passwords are guarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordRules {
    /// See [`PASSWORD_ATTEMPTS`].
    pub attempts_max: u32,
    /// See [`PASSWORD_ATTEMPTS_TOTAL`].
    pub total_max: u32,
    /// See [`REGISTRATIONS_PER_HOUR`].
    pub registrations_per_hour_max: u64,
    /// See [`LOCKOUT_SECS`].
    pub lockout_first: Duration,
    /// See [`LOCKOUT_LONGEST_SECS`].
    pub lockout_max: Duration,
    /// The pool that hashes.
    pub hashes: HashLimits,
}

impl Default for PasswordRules {
    fn default() -> Self {
        PasswordRules {
            attempts_max: PASSWORD_ATTEMPTS.default,
            total_max: PASSWORD_ATTEMPTS_TOTAL.default,
            registrations_per_hour_max: REGISTRATIONS_PER_HOUR.default,
            lockout_first: LOCKOUT_SECS.default_secs(),
            lockout_max: LOCKOUT_LONGEST_SECS.default_secs(),
            hashes: HashLimits::default(),
        }
    }
}

impl PasswordRules {
    pub(super) fn check(&self) -> Result<(), RuleError> {
        PASSWORD_ATTEMPTS.check("passwords.attempts_max", self.attempts_max)?;
        PASSWORD_ATTEMPTS_TOTAL.check("passwords.total_max", self.total_max)?;
        let registrations = self.registrations_per_hour_max;
        REGISTRATIONS_PER_HOUR.check("passwords.registrations_per_hour_max", registrations)?;
        LOCKOUT_SECS.check_secs("passwords.lockout_first", self.lockout_first)?;
        LOCKOUT_LONGEST_SECS.check_secs("passwords.lockout_max", self.lockout_max)?;
        if self.lockout_max < self.lockout_first {
            let found = format!("{:?}", self.lockout_max);
            return Err(RuleError::new("passwords.lockout_max", found, "at least lockout_first"));
        }
        HASHES_RUNNING.check("passwords.hashes.running_max", self.hashes.running_max)?;
        HASHES_WAITING.check("passwords.hashes.waiting_max", self.hashes.waiting_max)
    }

    /// For all addresses together: the wait does not grow, so that the owner's turn comes.
    pub(super) fn total_guard(&self) -> GuardRules {
        GuardRules { free: self.total_max, wait_max: self.lockout_first, ..self.guard() }
    }

    pub(super) fn guard(&self) -> GuardRules {
        GuardRules {
            free: self.attempts_max,
            wait_first: self.lockout_first,
            wait_max: self.lockout_max,
            // Longer than any wait, so that waiting does not reset the count.
            forget_after: self.lockout_max.max(Duration::from_secs(3600)),
        }
    }
}
