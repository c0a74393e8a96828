//! Money: whole rial inside, toman or rial at the edge, never a float.
//!
//! An amount arrives as the client's own characters (a JSON number's text, or a string) and is read digit by digit. A
//! toman is ten rial, so an amount in toman may have one decimal. An amount that is not a whole number of rial is
//! refused and never rounded. Invariant: `parse(format(m)) == m` in both units.

use std::fmt;

pub use chelseru_store::Currency;

use crate::phone::ascii_digit;
use serde_json::Value;

/// An amount of money in rial: at least 1, below 2^63.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(u64);

/// Why a text is not an amount. Each text names what is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    #[error("a valid number is required")]
    NotANumber,
    #[error("an amount is written without an exponent")]
    Exponent,
    #[error("ensure this value is greater than 0")]
    NotPositive,
    #[error("an amount is a whole number of rial")]
    FractionOfRial,
    #[error("the amount is too large")]
    TooLarge,
}

/// Most characters of an amount; the largest one has 20 before the decimal point.
const CHARS_MAX: usize = 40;

impl Money {
    pub const MAX: Money = Money(i64::MAX as u64);

    /// # Errors
    ///
    /// [`MoneyError::NotPositive`] for 0, [`MoneyError::TooLarge`] from 2^63 on.
    pub fn from_rial(rial: u64) -> Result<Money, MoneyError> {
        match rial {
            0 => Err(MoneyError::NotPositive),
            _ if rial > Money::MAX.0 => Err(MoneyError::TooLarge),
            _ => Ok(Money(rial)),
        }
    }

    /// Reads an amount in a unit: digits, optionally with a point and more digits. No sign, no exponent, no
    /// separator.
    /// Persian and Arabic digits and their decimal point count as ASCII ones.
    ///
    /// # Errors
    ///
    /// See [`MoneyError`].
    pub fn parse(text: &str, unit: Currency) -> Result<Money, MoneyError> {
        let text = text.trim();
        if text.len() <= 4 * CHARS_MAX && !text.is_ascii() {
            let latin = |character| match character {
                '\u{066b}' => '.',
                other => ascii_digit(other).unwrap_or(other),
            };
            let latin: String = text.chars().map(latin).collect();
            // What is left is not a digit, so this ends.
            return if latin.is_ascii() { Money::parse(&latin, unit) } else { Err(MoneyError::NotANumber) };
        }
        if let Some(magnitude) = text.strip_prefix('-') {
            if !magnitude.starts_with(|first: char| first.is_ascii_digit()) {
                return Err(MoneyError::NotANumber);
            }
            // Reported by its own rule when the rest is a number.
            return Err(Money::parse(magnitude, unit).err().unwrap_or(MoneyError::NotPositive));
        }
        if text.len() > CHARS_MAX && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Err(MoneyError::TooLarge);
        }
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) => return Err(MoneyError::NotANumber),
            Some((whole, fraction)) => (whole, fraction),
            None => (text, ""),
        };
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
            let exponent = text.split_once(['e', 'E']).is_some_and(|(mantissa, power)| {
                let power = power.trim_start_matches(['+', '-']);
                let number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
                number(mantissa) && number(power) && is_digits(power)
            });
            return Err(if exponent { MoneyError::Exponent } else { MoneyError::NotANumber });
        }
        let decimals = match unit {
            Currency::Irt => 1,
            Currency::Irr => 0,
        };
        let (significant, rest) = fraction.split_at(fraction.len().min(decimals));
        if rest.bytes().any(|digit| digit != b'0') {
            return Err(MoneyError::FractionOfRial);
        }
        let padding = decimals - significant.len();
        let digits = whole.bytes().chain(significant.bytes()).chain(std::iter::repeat_n(b'0', padding));
        let rial = digits.map(|digit| u64::from(digit - b'0')).try_fold(0u64, |sum, digit| {
            sum.checked_mul(10).and_then(|sum| sum.checked_add(digit)).ok_or(MoneyError::TooLarge)
        })?;
        Money::from_rial(rial)
    }

    #[must_use]
    pub fn rial(self) -> u64 {
        self.0
    }
}

/// Formats any number of rial in a unit: `150`, or `150.5` for a toman amount that is not whole.
#[must_use]
pub fn format(rial: u64, unit: Currency) -> String {
    match unit {
        Currency::Irr => rial.to_string(),
        Currency::Irt if rial.is_multiple_of(10) => (rial / 10).to_string(),
        Currency::Irt => format!("{}.{}", rial / 10, rial % 10),
    }
}

/// Any number of rial as JSON: a number where a double is exact, otherwise a text.
#[must_use]
pub fn to_json(rial: u64, unit: Currency) -> Value {
    let text = format(rial, unit);
    match text.parse::<u64>() {
        Ok(whole) => whole.into(),
        // A double is exact for fifteen digits.
        Err(_) if text.len() <= 15 => text.parse::<f64>().map_or(Value::Null, Value::from),
        Err(_) => text.into(),
    }
}

/// The unit's name as the API writes it.
#[must_use]
pub fn currency_name(unit: Currency) -> &'static str {
    match unit {
        Currency::Irt => "IRT",
        Currency::Irr => "IRR",
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rial", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Currency::{Irr, Irt};

    fn rial(text: &str, unit: Currency) -> Result<u64, MoneyError> {
        Money::parse(text, unit).map(Money::rial)
    }

    #[test]
    fn amounts_are_read_in_their_unit() {
        assert_eq!(rial("1000", Irt), Ok(10_000));
        assert_eq!(rial("1000", Irr), Ok(1000));
        assert_eq!(rial("1000.0", Irt), Ok(10_000));
        assert_eq!(rial("1000.5", Irt), Ok(10_005));
        assert_eq!(rial("1000.50", Irt), Ok(10_005));
        assert_eq!(rial("1000.00", Irr), Ok(1000));
        assert_eq!(rial(" 007 ", Irr), Ok(7));
        assert_eq!(rial("0.1", Irt), Ok(1));
        assert_eq!(rial("۱۰۰۰", Irt), Ok(10_000));
        assert_eq!(rial("١٠٠٠٫٥", Irt), Ok(10_005));
        assert_eq!(rial(&"۹".repeat(60), Irt), Err(MoneyError::TooLarge));
    }

    #[test]
    fn fractions_of_a_rial_are_refused_and_never_rounded() {
        for text in ["1000.99", "1000.01", "0.05", "1000.5000000000000000001"] {
            assert_eq!(rial(text, Irt), Err(MoneyError::FractionOfRial), "{text}");
        }
        assert_eq!(rial("1000.5", Irr), Err(MoneyError::FractionOfRial));
    }

    #[test]
    fn nothing_and_less_is_refused() {
        for text in ["0", "0.0", "-3000", "-0.5", "-1e5", "-"] {
            let error = rial(text, Irt).unwrap_err();
            let accepted = match text {
                "-1e5" => MoneyError::Exponent,
                "-" => MoneyError::NotANumber,
                _ => MoneyError::NotPositive,
            };
            assert_eq!(error, accepted, "{text}");
        }
    }

    #[test]
    fn what_is_no_plain_number_is_refused() {
        for text in ["1e3", "1E3", "1.5e2", "1e+3"] {
            assert_eq!(rial(text, Irt), Err(MoneyError::Exponent), "{text}");
        }
        for text in [
            "",
            " ",
            "abc",
            "+5",
            "1,000",
            "1.",
            ".5",
            "0x10",
            "NaN",
            "Infinity",
            "۱۰۰۰ت",
            "1 000",
            "1.5.5",
            "--5",
        ] {
            assert_eq!(rial(text, Irt), Err(MoneyError::NotANumber), "{text}");
        }
    }

    #[test]
    fn the_largest_amount_is_the_last_that_fits() {
        assert_eq!(rial("9223372036854775807", Irr), Ok(i64::MAX as u64));
        assert_eq!(rial("922337203685477580.7", Irt), Ok(i64::MAX as u64));
        for text in ["9223372036854775808", "18446744073709551615", "18446744073709551616"] {
            assert_eq!(rial(text, Irr), Err(MoneyError::TooLarge), "{text}");
        }
        assert_eq!(rial("922337203685477580.8", Irt), Err(MoneyError::TooLarge));
        assert_eq!(rial(&"9".repeat(10_000), Irt), Err(MoneyError::TooLarge));
        assert_eq!(rial(&"-".repeat(1_000_000), Irt), Err(MoneyError::NotANumber));
        assert_eq!(rial(&"- ".repeat(1_000_000), Irt), Err(MoneyError::NotANumber));
    }

    #[test]
    fn every_amount_comes_back_from_its_text() {
        let mut amounts: Vec<u64> =
            (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1]).collect();
        amounts.extend([10, 99, 100, 101, 12_345_678_901_234_567]);
        for amount in amounts.into_iter().filter(|amount| (1..=Money::MAX.0).contains(amount)) {
            for unit in [Irt, Irr] {
                assert_eq!(rial(&format(amount, unit), unit), Ok(amount), "{amount} in {unit:?}");
            }
        }
    }
}
