//! Errors of rules. Errors of single actions are defined beside the action.

/// A rule with an unusable value, found when a part is built and before anything is served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule} must be {accepted}, not {found}")]
pub struct RuleError {
    /// The field's name in its rules struct.
    pub rule: &'static str,
    pub found: String,
    pub accepted: String,
}

impl RuleError {
    pub(crate) fn new(rule: &'static str, found: impl ToString, accepted: impl ToString) -> Self {
        RuleError { rule, found: found.to_string(), accepted: accepted.to_string() }
    }
}

/// Rules that can check themselves.
pub trait Rules {
    /// # Errors
    ///
    /// The first rule that is out of its range.
    fn check(&self) -> Result<(), RuleError>;
}

/// Rules that passed their own check, so their user cannot fail because of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked<R>(R);

impl<R: Rules> Checked<R> {
    /// # Errors
    ///
    /// The first rule that is out of its range.
    pub fn new(rules: R) -> Result<Self, RuleError> {
        rules.check()?;
        Ok(Checked(rules))
    }
}

impl<R> Checked<R> {
    #[must_use]
    pub fn into_inner(self) -> R {
        self.0
    }
}
