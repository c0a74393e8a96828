//! Account groups: one phone number may have one account in each group.
//!
//! In the original a client created a group by naming it. Here the pair of number and group is still the account, but
//! the configuration lists the groups in which a login may create one, and a group grants no right. A group is a number
//! from 0 to 2^31 - 1; the default is 0.

use std::collections::BTreeSet;
use std::fmt;

/// A group's number, 0 to [`Group::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Group(u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    #[error("a valid integer is required")]
    NotInteger,
    #[error("the group must be between 0 and {}", Group::MAX)]
    OutOfRange,
}

impl Group {
    /// 2^31 - 1, the largest number that the original could store in every database.
    pub const MAX: u32 = i32::MAX as u32;

    /// # Errors
    ///
    /// [`GroupError::OutOfRange`].
    pub fn from_number(number: i64) -> Result<Self, GroupError> {
        match u32::try_from(number) {
            Ok(number) if number <= Group::MAX => Ok(Group(number)),
            _ => Err(GroupError::OutOfRange),
        }
    }

    /// Reads an integer as the original did: decimal, or `0x`, `0o` or `0b` and digits, with single underscores between
    /// digits, a sign, and surrounding space. A decimal number other than 0 must not begin with 0, because some readers
    /// take that as octal. The original read anything else as 0; here it is an error.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotInteger`], or [`GroupError::OutOfRange`] for integers of any length.
    pub fn parse(text: &str) -> Result<Self, GroupError> {
        let text = text.trim();
        let (negative, unsigned) = match text.strip_prefix(['+', '-']) {
            Some(rest) => (text.starts_with('-'), rest),
            None => (false, text),
        };
        let (radix, digits) = match unsigned.get(..2) {
            Some("0x" | "0X") => (16, &unsigned[2..]),
            Some("0o" | "0O") => (8, &unsigned[2..]),
            Some("0b" | "0B") => (2, &unsigned[2..]),
            _ => (10, unsigned),
        };
        // Python allows one underscore right after the radix prefix too.
        let digits = if radix == 10 { digits } else { digits.strip_prefix('_').unwrap_or(digits) };
        let mut value = Some(0u32);
        let mut digit_before = false;
        for character in digits.chars() {
            match (character.to_digit(radix), character, digit_before) {
                (Some(digit), _, _) => {
                    value = value.and_then(|value| value.checked_mul(radix)?.checked_add(digit));
                    digit_before = true;
                }
                (None, '_', true) => digit_before = false,
                _ => return Err(GroupError::NotInteger),
            }
        }
        if !digit_before || (radix == 10 && digits.starts_with('0') && value != Some(0)) {
            return Err(GroupError::NotInteger);
        }
        match value {
            Some(0) => Ok(Group(0)),
            Some(value) if !negative && value <= Group::MAX => Ok(Group(value)),
            _ => Err(GroupError::OutOfRange),
        }
    }

    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The groups in which a login may create an account. Existing accounts can always log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupPolicy {
    Any,
    Only(BTreeSet<Group>),
}

/// Group 0 only.
impl Default for GroupPolicy {
    fn default() -> Self {
        GroupPolicy::Only(BTreeSet::from([Group::default()]))
    }
}

impl GroupPolicy {
    #[must_use]
    pub fn may_create(&self, group: Group) -> bool {
        match self {
            GroupPolicy::Any => true,
            GroupPolicy::Only(groups) => groups.contains(&group),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<u32, GroupError>) {
        assert_eq!(Group::parse(text).map(Group::number), expected, "{text:?}");
    }

    #[test]
    fn integers_are_read_as_the_original_read_them() {
        for (text, number) in [
            ("0", 0),
            ("5", 5),
            (" 5\n", 5),
            ("+5", 5),
            ("-0", 0),
            ("00", 0),
            ("1_000", 1000),
            ("0x10", 16),
            ("0XfF", 255),
            ("0x_ff", 255),
            ("0o17", 15),
            ("0b101", 5),
            ("2147483647", Group::MAX),
            ("0x7fffffff", Group::MAX),
        ] {
            check(text, Ok(number));
        }
    }

    #[test]
    fn what_is_no_integer_is_an_error_and_not_zero() {
        for text in [
            "", " ", "-", "+", "five", "5.0", "1e3", "0x", "0xg", "0b2", "007", "1__0", "_1", "1_", "--5",
            "5 5",
        ] {
            check(text, Err(GroupError::NotInteger));
        }
    }

    #[test]
    fn integers_outside_the_range_are_refused() {
        for text in [
            "-1",
            "2147483648",
            "4294967296",
            "99999999999999999999999999",
            "-99999999999999999999",
            "0x80000000",
        ] {
            check(text, Err(GroupError::OutOfRange));
        }
        assert_eq!(Group::from_number(-1), Err(GroupError::OutOfRange));
        assert_eq!(Group::from_number(i64::from(Group::MAX)).map(Group::number), Ok(Group::MAX));
        assert_eq!(Group::from_number(i64::from(Group::MAX) + 1), Err(GroupError::OutOfRange));
    }

    #[test]
    fn only_group_zero_may_be_created_unless_configured() {
        let five = Group::from_number(5).unwrap();
        assert!(GroupPolicy::default().may_create(Group::default()));
        assert!(!GroupPolicy::default().may_create(five));
        assert!(GroupPolicy::Any.may_create(five));
        assert!(GroupPolicy::Only(BTreeSet::from([five])).may_create(five));
    }
}
