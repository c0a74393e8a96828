//! Iranian mobile numbers: one identity per number, however it was typed.
//!
//! People type `0912...`, `+98 912 ...` or Persian digits, and paste invisible direction marks. All of these are the
//! same number and lead to the same account and the same pending code. The internal form is E.164 (`+989121234567`).
//! Invariant: neither `Debug` nor `Display` shows a whole number; code that needs it calls [`PhoneNumber::e164`] or
//! [`PhoneNumber::local`].
//!
//! Not here: numbers of other countries, landlines, and whether a number is in use.
//!
//! Mobile numbers are 9 and nine more digits after the country code. No operator's code is special, because number
//! portability and new operators change their meaning.

use std::fmt;

/// Digits after the country code: 9 and nine more.
const SUBSCRIBER_DIGITS: usize = 10;

/// Limit on the characters of the input; the longest sensible form has less than half of that.
const INPUT_CHARS_MAX: usize = 64;

/// A mobile number, `9xxxxxxxxx` after the country code.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhoneNumber {
    /// `+98` and ten ASCII digits of which the first is 9.
    e164: String,
}

/// Why a text is not a mobile number. Does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PhoneNumberError {
    #[error("the phone number is empty")]
    Empty,
    #[error("the phone number has a character that is neither a digit nor a separator")]
    UnexpectedCharacter,
    #[error("the phone number has a plus sign that is not its first character")]
    MisplacedPlus,
    #[error("the phone number has too few digits")]
    TooShort,
    #[error("the phone number has too many digits")]
    TooLong,
    #[error("the phone number is not an Iranian one (+98)")]
    ForeignCountry,
    #[error("the phone number is not a mobile number (they start with 09)")]
    NotMobile,
}

impl PhoneNumber {
    /// Reads `09xxxxxxxxx`, `9xxxxxxxxx`, `989xxxxxxxxx`, `00989xxxxxxxxx` or `+989xxxxxxxxx` (also with a 0 after
    /// the country code, as business cards print it), in ASCII, Persian or Arabic digits. Spaces of any kind,
    /// dashes, dots, slashes, parentheses and direction marks are ignored.
    ///
    /// # Errors
    ///
    /// The first problem. A retry with the same text never helps.
    pub fn parse(text: &str) -> Result<Self, PhoneNumberError> {
        let mut digits = String::with_capacity(16);
        let mut plus = false;
        for (index, character) in text.chars().enumerate() {
            if index >= INPUT_CHARS_MAX {
                return Err(PhoneNumberError::TooLong);
            }
            if let Some(digit) = ascii_digit(character) {
                digits.push(digit);
            } else if matches!(character, '+' | '\u{ff0b}') {
                if plus || !digits.is_empty() {
                    return Err(PhoneNumberError::MisplacedPlus);
                }
                plus = true;
            } else if !is_separator(character) {
                return Err(PhoneNumberError::UnexpectedCharacter);
            }
        }
        if digits.is_empty() {
            return Err(PhoneNumberError::Empty);
        }
        let subscriber = subscriber(&digits, plus)?;
        if subscriber.len() < SUBSCRIBER_DIGITS {
            return Err(PhoneNumberError::TooShort);
        }
        if subscriber.len() > SUBSCRIBER_DIGITS {
            return Err(PhoneNumberError::TooLong);
        }
        if !subscriber.starts_with('9') {
            return Err(PhoneNumberError::NotMobile);
        }
        Ok(PhoneNumber { e164: format!("+98{subscriber}") })
    }

    /// `+989121234567`.
    #[must_use]
    pub fn e164(&self) -> &str {
        &self.e164
    }

    /// `09121234567`, as it is dialled in Iran.
    #[must_use]
    pub fn local(&self) -> String {
        format!("0{}", &self.e164[3..])
    }

    /// `0912***4567`: enough to tell two numbers of one person apart, for logs.
    #[must_use]
    pub fn masked(&self) -> String {
        format!("0{}***{}", &self.e164[3..6], &self.e164[9..])
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PhoneNumber({})", self.masked())
    }
}

/// The masked form.
impl fmt::Display for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl std::str::FromStr for PhoneNumber {
    type Err = PhoneNumberError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        PhoneNumber::parse(text)
    }
}

/// The ASCII digit of an ASCII, Persian (U+06F0), Arabic (U+0660) or full-width (U+FF10) one. Codes are typed with
/// the same keyboards as numbers.
pub(crate) fn ascii_digit(character: char) -> Option<char> {
    let zero = match character {
        '0'..='9' => '0',
        '\u{06f0}'..='\u{06f9}' => '\u{06f0}',
        '\u{0660}'..='\u{0669}' => '\u{0660}',
        '\u{ff10}'..='\u{ff19}' => '\u{ff10}',
        _ => return None,
    };
    char::from_digit(u32::from(character) - u32::from(zero), 10)
}

/// Characters that people or keyboards put between digits.
pub(crate) fn is_separator(character: char) -> bool {
    character.is_whitespace()
        || matches!(
            character,
            '-' | '.' | '/' | '(' | ')'
                // Hyphens and dashes, minus sign.
                | '\u{2010}'..='\u{2015}' | '\u{2212}'
                // Zero-width space, joiners and direction marks; embeddings; isolates; Arabic letter mark; BOM.
                | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'
                | '\u{2066}'..='\u{2069}' | '\u{061c}' | '\u{feff}'
        )
}

/// The digits after country code and trunk prefix. The caller checks their length and first digit.
fn subscriber(digits: &str, plus: bool) -> Result<&str, PhoneNumberError> {
    let international = if plus { Some(digits) } else { digits.strip_prefix("00") };
    if let Some(international) = international {
        let Some(national) = international.strip_prefix("98") else {
            let begun = international.len() < 2;
            return Err(if begun { PhoneNumberError::TooShort } else { PhoneNumberError::ForeignCountry });
        };
        return Ok(national.strip_prefix('0').unwrap_or(national));
    }
    if let Some(national) = digits.strip_prefix('0') {
        return Ok(national);
    }
    // Without any prefix, 98 is the country code only when enough digits follow: 9812345678 is a subscriber.
    match digits.strip_prefix("98") {
        Some(national) if digits.len() > SUBSCRIBER_DIGITS => {
            Ok(national.strip_prefix('0').unwrap_or(national))
        }
        _ => Ok(digits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, PhoneNumberError>) {
        let parsed = PhoneNumber::parse(text);
        assert_eq!(parsed.as_ref().map(PhoneNumber::e164), expected.as_ref().copied(), "{text:?}");
    }

    #[test]
    fn every_way_of_writing_is_one_number() {
        for text in [
            "09121234567",
            "9121234567",
            "989121234567",
            "00989121234567",
            "+989121234567",
            "+98 (0) 912 123 4567",
            "+98 0912 123 4567",
            "00 98 0912 123 4567",
            "9809121234567",
            "  0912-123-4567 ",
            "0912.123.4567",
            "(0912) 123 45 67",
            "0912/1234567",
            "0912\u{2013}1234567",
            "0912\u{a0}123\u{202f}4567",
            "۰۹۱۲۱۲۳۴۵۶۷",
            "٠٩١٢١٢٣٤٥٦٧",
            "+۹۸۹۱۲۱۲۳۴۵۶۷",
            "۰9۱2١۲3٤5٦7",
            "０９１２１２３４５６７",
            "＋989121234567",
            "\u{202a}+989121234567\u{202c}",
            "\u{200e}09121234567\u{200f}",
            "\u{2068}0912\u{200c}1234567\u{2069}",
            "\u{feff}09121234567",
            "\u{200f} +98-912-123-4567",
        ] {
            check(text, Ok("+989121234567"));
        }
    }

    #[test]
    fn a_subscriber_that_begins_like_the_country_code_is_kept() {
        check("9812345678", Ok("+989812345678"));
        check("09812345678", Ok("+989812345678"));
        check("989812345678", Ok("+989812345678"));
        check("+989812345678", Ok("+989812345678"));
        check("09898989898", Ok("+989898989898"));
    }

    #[test]
    fn every_operator_code_is_a_mobile_number() {
        for code in 900..=999 {
            check(&format!("0{code}1234567"), Ok(&format!("+98{code}1234567")));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        use PhoneNumberError::*;
        for (text, error) in [
            ("", Empty),
            ("  \u{200f}-() ", Empty),
            ("+", Empty),
            ("abc", UnexpectedCharacter),
            ("0912123456x", UnexpectedCharacter),
            ("0912,1234567", UnexpectedCharacter),
            ("09121234567\0", UnexpectedCharacter),
            ("0912१234567", UnexpectedCharacter),
            ("0912+1234567", MisplacedPlus),
            ("++989121234567", MisplacedPlus),
            ("+09121234567", ForeignCountry),
            ("0", TooShort),
            ("00", TooShort),
            ("+9", TooShort),
            ("+98", TooShort),
            ("0912123456", TooShort),
            ("912123456", TooShort),
            ("98912123456", TooShort),
            ("+98912123456", TooShort),
            ("091212345678", TooLong),
            ("+9891212345678", TooLong),
            ("+98009121234567", TooLong),
            ("+12025550123", ForeignCountry),
            ("00442071234567", ForeignCountry),
            ("02112345678", NotMobile),
            ("+982112345678", NotMobile),
            ("2112345678", NotMobile),
            ("00000000000", ForeignCountry),
        ] {
            check(text, Err(error));
        }
    }

    #[test]
    fn absurdly_long_input_is_refused_early() {
        let spaces = " ".repeat(INPUT_CHARS_MAX - 11);
        check(&format!("{spaces}09121234567"), Ok("+989121234567"));
        check(&format!(" {spaces}09121234567"), Err(PhoneNumberError::TooLong));
    }

    #[test]
    fn no_single_change_to_a_number_makes_another_identity() {
        // Dropping any one character never yields a valid number, so a typo cannot reach a stranger silently.
        let text = "09121234567";
        for drop in 1..text.len() {
            let shorter: String =
                text.chars().enumerate().filter(|(i, _)| *i != drop).map(|(_, c)| c).collect();
            assert!(PhoneNumber::parse(&shorter).is_err(), "{shorter}");
        }
    }

    #[test]
    fn no_text_panics() {
        // Every code point alone, doubled, and inside a number.
        for character in (0..=0x0010_ffff).filter_map(char::from_u32) {
            let _ = PhoneNumber::parse(character.encode_utf8(&mut [0; 4]));
        }
        for character in ('\0'..='\u{fff}').chain('\u{2000}'..='\u{20ff}') {
            let parsed = PhoneNumber::parse(&format!("0912{character}1234567"));
            if let Ok(number) = parsed {
                assert_eq!(number.e164(), "+989121234567");
            }
        }
    }

    #[test]
    fn texts_for_people_are_masked() {
        let number = PhoneNumber::parse("09121234567").unwrap();
        assert_eq!(number.local(), "09121234567");
        assert_eq!(number.masked(), "0912***4567");
        assert_eq!(format!("{number}"), "0912***4567");
        assert_eq!(format!("{number:?}"), "PhoneNumber(0912***4567)");
        assert_eq!(format!("{:?}", Some(&number)), "Some(PhoneNumber(0912***4567))");
    }
}
