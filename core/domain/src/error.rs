//! Errors of rules. Errors of single actions stand beside the action.

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
