//! Amounts of the original: binary floating point in a unit that a setting names, read as whole rial.
//!
//! A float is read by its shortest decimal text, digit by digit, so that 2000.6 toman are 20006 rial. What a sum of
//! floats misses a whole rial by (0.1 + 0.2) is noise and goes to the nearest rial; any other part of a rial is cut
//! off, towards zero, so that nobody gets money that was not there. Invariant: rial and remainder together are the
//! amount exactly, so that sums over many amounts agree to the last digit.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};

use super::amount::Currency;

/// Decimals of a rial that are counted.
const DECIMALS: usize = 18;
const ONE: i128 = 10_i128.pow(DECIMALS as u32);
/// A thousandth of a rial: above what a sum of some million amounts is off by, below every amount that was meant.
const NOISE: i128 = ONE / 1000;
/// Digits before the point: 63 bits of rial have 19.
const DIGITS_MAX: usize = 18;

/// An exact amount of rial, with parts of a rial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ExactRial(i128);

/// An amount as whole rial, and what it is more (or, negative, less) than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WholeRial {
    pub rial: i64,
    pub remainder: ExactRial,
}

/// Why a text is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForeignAmountError {
    #[error("is not a number")]
    NotANumber,
    #[error("is too large")]
    TooLarge,
}

impl ExactRial {
    /// Reads a decimal number in a unit, with a sign and an exponent as databases print floats.
    ///
    /// # Errors
    ///
    /// See [`ForeignAmountError`].
    pub fn parse(text: &str, unit: Currency) -> Result<ExactRial, ForeignAmountError> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => {
                let exponent: i32 = exponent.parse().map_err(|_| ForeignAmountError::NotANumber)?;
                (mantissa, exponent)
            }
            None => (text, 0),
        };
        let (negative, digits) = match mantissa.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, mantissa),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all = [whole, fraction].concat();
        if whole.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ForeignAmountError::NotANumber);
        }
        let shift = match unit {
            Currency::Irt => 1,
            Currency::Irr => 0,
        };
        // Where the point is, counted from the first digit.
        let point =
            i64::try_from(whole.len()).unwrap_or(i64::MAX).saturating_add(i64::from(exponent) + shift);
        let mut value: i128 = 0;
        for (at, digit) in (0_i64..).zip(all.bytes().map(|byte| i128::from(byte - b'0'))) {
            // The power of ten of this digit, in the smallest part that is counted; what is below is not counted.
            let power = point - 1 - at + DECIMALS as i64;
            if digit == 0 || power < 0 {
                continue;
            }
            if power >= (DIGITS_MAX + DECIMALS) as i64 {
                return Err(ForeignAmountError::TooLarge);
            }
            value += digit * 10_i128.pow(u32::try_from(power).map_err(|_| ForeignAmountError::TooLarge)?);
        }
        Ok(ExactRial(if negative { -value } else { value }))
    }

    #[must_use]
    pub fn from_rial(rial: i64) -> ExactRial {
        ExactRial(i128::from(rial) * ONE)
    }

    /// In whole rial: see the module.
    #[must_use]
    pub fn whole(self) -> WholeRial {
        let cut = self.0 / ONE;
        let rest = self.0 - cut * ONE;
        let nearer = if rest.abs() >= ONE - NOISE { cut + rest.signum() } else { cut };
        let rial = i64::try_from(nearer).expect("18 digits fit 63 bits");
        WholeRial { rial, remainder: ExactRial(self.0 - nearer * ONE) }
    }

    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// In a unit, as a decimal number.
    #[must_use]
    pub fn in_unit(self, unit: Currency) -> String {
        let decimals = match unit {
            Currency::Irt => DECIMALS + 1,
            Currency::Irr => DECIMALS,
        };
        let sign = if self.0 < 0 { "-" } else { "" };
        let digits = format!("{:0>width$}", self.0.unsigned_abs(), width = decimals + 1);
        let (whole, fraction) = digits.split_at(digits.len() - decimals);
        match fraction.trim_end_matches('0') {
            "" => format!("{sign}{whole}"),
            fraction => format!("{sign}{whole}.{fraction}"),
        }
    }
}

/// In rial.
impl fmt::Display for ExactRial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_unit(Currency::Irr))
    }
}

impl Add for ExactRial {
    type Output = ExactRial;

    fn add(self, other: ExactRial) -> ExactRial {
        ExactRial(self.0 + other.0)
    }
}

impl Sub for ExactRial {
    type Output = ExactRial;

    fn sub(self, other: ExactRial) -> ExactRial {
        ExactRial(self.0 - other.0)
    }
}

impl AddAssign for ExactRial {
    fn add_assign(&mut self, other: ExactRial) {
        self.0 += other.0;
    }
}

impl Sum for ExactRial {
    fn sum<I: Iterator<Item = ExactRial>>(amounts: I) -> ExactRial {
        amounts.fold(ExactRial::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Currency::{Irr, Irt};

    #[track_caller]
    fn whole(text: &str, unit: Currency) -> (i64, String) {
        let exact = ExactRial::parse(text, unit).unwrap();
        let WholeRial { rial, remainder } = exact.whole();
        assert_eq!(ExactRial::from_rial(rial) + remainder, exact);
        (rial, remainder.to_string())
    }

    #[test]
    fn amounts_become_whole_rial_and_a_remainder() {
        for (text, unit, rial, remainder) in [
            ("2000.6", Irt, 20_006, "0"),
            ("2000.6000000000001", Irt, 20_006, "0.000000000001"),
            ("2000.5999999999999", Irt, 20_006, "-0.000000000001"),
            ("0.30000000000000004", Irt, 3, "0.0000000000000004"),
            ("1000.99", Irt, 10_009, "0.9"),
            ("1000.5", Irr, 1000, "0.5"),
            ("-12.5", Irt, -125, "0"),
            ("-12.55", Irt, -125, "-0.5"),
            ("0", Irr, 0, "0"),
            ("-0.0", Irt, 0, "0"),
            ("1e3", Irr, 1000, "0"),
            ("1.5E-1", Irt, 1, "0.5"),
            ("1e-300", Irt, 0, "0"),
            ("99999999999999999", Irt, 999_999_999_999_999_990, "0"),
        ] {
            assert_eq!(whole(text, unit), (rial, remainder.to_owned()), "{text} {unit:?}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "-", "NaN", "Infinity", "1,5", "abc", "1e", ".5", "1 0", "--1"] {
            assert_eq!(ExactRial::parse(text, Irr), Err(ForeignAmountError::NotANumber), "{text}");
        }
        for text in ["1e18", "1000000000000000000", "1e300", "1e2147483647"] {
            assert_eq!(ExactRial::parse(text, Irr), Err(ForeignAmountError::TooLarge), "{text}");
        }
    }

    #[test]
    fn amounts_are_shown_in_both_units() {
        let exact = ExactRial::parse("-2000.65", Irt).unwrap();
        assert_eq!((exact.in_unit(Irt), exact.in_unit(Irr)), ("-2000.65".into(), "-20006.5".into()));
        let sum: ExactRial = ["0.1", "0.2"].iter().map(|text| ExactRial::parse(text, Irt).unwrap()).sum();
        assert_eq!(sum.to_string(), "3");
    }
}
