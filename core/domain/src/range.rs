//! Ranges: what a rule accepts, and its default.
//!
//! A range is a constant beside its rule, and its name ends with the unit (`TTL_SECS`). The rule's own check and the
//! configuration both ask it, so that they cannot disagree.

use std::fmt;
use std::time::Duration;

use crate::RuleError;

/// The least, greatest and default value of a rule. Both ends are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range<T> {
    pub least: T,
    pub greatest: T,
    pub default: T,
}

impl<T: Copy + PartialOrd + fmt::Display> Range<T> {
    #[must_use]
    pub const fn new(least: T, greatest: T, default: T) -> Range<T> {
        Range { least, greatest, default }
    }

    #[must_use]
    pub fn contains(&self, found: T) -> bool {
        (self.least..=self.greatest).contains(&found)
    }

    /// # Errors
    ///
    /// When the value is outside of the range.
    pub fn check(&self, rule: &'static str, found: T) -> Result<(), RuleError> {
        if self.contains(found) { Ok(()) } else { Err(RuleError::new(rule, found, self)) }
    }
}

impl Range<u64> {
    /// The default of a range in seconds.
    #[must_use]
    pub const fn default_secs(&self) -> Duration {
        Duration::from_secs(self.default)
    }

    /// [`Range::check`] of a duration against a range in seconds.
    ///
    /// # Errors
    ///
    /// When the duration is outside of the range.
    pub fn check_secs(&self, rule: &'static str, found: Duration) -> Result<(), RuleError> {
        let (least, greatest) = (Duration::from_secs(self.least), Duration::from_secs(self.greatest));
        if (least..=greatest).contains(&found) {
            return Ok(());
        }
        Err(RuleError::new(rule, format!("{found:?}"), format!("{self} s")))
    }

    /// The range in a larger unit: seconds `per(60)` are minutes. Every value of the result lies inside this range.
    #[must_use]
    pub const fn per(&self, unit: u64) -> Range<u64> {
        Range {
            least: self.least.div_ceil(unit),
            greatest: self.greatest / unit,
            default: self.default / unit,
        }
    }
}

impl<T: fmt::Display> fmt::Display for Range<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.least, self.greatest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECS: Range<u64> = Range::new(1, 600, 240);

    #[test]
    fn both_ends_are_accepted_and_nothing_past_them() {
        for (found, fits) in [(0, false), (1, true), (600, true), (601, false)] {
            assert_eq!(SECS.check("ttl", found).is_ok(), fits, "{found}");
            assert_eq!(SECS.check_secs("ttl", Duration::from_secs(found)).is_ok(), fits, "{found} s");
        }
        let over = SECS.check_secs("ttl", Duration::from_millis(600_001)).unwrap_err();
        assert_eq!(over.to_string(), "ttl must be 1 to 600 s, not 600.001s");
        assert_eq!(SECS.check("ttl", 0).unwrap_err().to_string(), "ttl must be 1 to 600, not 0");
    }

    #[test]
    fn a_larger_unit_stays_inside() {
        assert_eq!(SECS.per(60), Range::new(1, 10, 4));
        assert_eq!(Range::new(61, 119, 90).per(60), Range::new(2, 1, 1), "no whole minute fits");
        assert_eq!(SECS.default_secs(), Duration::from_secs(240));
    }
}
