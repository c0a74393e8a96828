//! The rules of identity: how sessions are opened and how passwords are guarded.

use std::time::Duration;

use chelseru_store::GuardRules;

use crate::RuleError;
use crate::login::group::GroupPolicy;
use crate::login::password::HashLimits;

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
    pub(super) fn check(&self) -> Result<(), RuleError> {
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

/// How passwords are guarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordRules {
    /// Guesses at a name's password without a wait, 1 to 100. Default 5.
    pub attempts_max: u32,
    /// The wait after the last of them, doubled with each further guess, 1 s to a day. Default 30 s.
    pub lockout_first: Duration,
    /// The longest wait, not below the first, at most a day. Default 15 min.
    pub lockout_max: Duration,
    /// The pool that hashes.
    pub hashes: HashLimits,
}

impl Default for PasswordRules {
    fn default() -> Self {
        PasswordRules {
            attempts_max: 5,
            lockout_first: Duration::from_secs(30),
            lockout_max: Duration::from_secs(15 * 60),
            hashes: HashLimits::default(),
        }
    }
}

impl PasswordRules {
    pub(super) fn check(&self) -> Result<(), RuleError> {
        let day = Duration::from_secs(86_400);
        if !(1..=100).contains(&self.attempts_max) {
            return Err(RuleError::new("passwords.attempts_max", self.attempts_max, "1 to 100"));
        }
        if !(Duration::from_secs(1)..=day).contains(&self.lockout_first) {
            let found = format!("{:?}", self.lockout_first);
            return Err(RuleError::new("passwords.lockout_first", found, "1 s to a day"));
        }
        if !(self.lockout_first..=day).contains(&self.lockout_max) {
            let found = format!("{:?}", self.lockout_max);
            return Err(RuleError::new("passwords.lockout_max", found, "lockout_first to a day"));
        }
        if !(1..=64).contains(&self.hashes.running_max) {
            return Err(RuleError::new("passwords.hashes.running_max", self.hashes.running_max, "1 to 64"));
        }
        if self.hashes.waiting_max > 4096 {
            return Err(RuleError::new(
                "passwords.hashes.waiting_max",
                self.hashes.waiting_max,
                "at most 4096",
            ));
        }
        Ok(())
    }

    pub(super) fn guard(&self) -> GuardRules {
        GuardRules {
            free: self.attempts_max,
            wait_first: self.lockout_first,
            wait_max: self.lockout_max,
            // Longer than any wait, so that waiting it out does not begin anew.
            forget_after: self.lockout_max.max(Duration::from_secs(3600)),
        }
    }
}
