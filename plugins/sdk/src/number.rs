//! Phone numbers as Iranian providers write them, and digits of three scripts.
//!
//! The gateway hands a plugin E.164 (`+989121234567`). Providers want `09121234567`, and for a foreign number
//! two zeros before the country code. A number that is not E.164 yields `None` and never reaches a request, so
//! that a comma or a space in it cannot become a second, paid recipient.

use std::borrow::Cow;

/// The value of a Latin, Persian (`۰`-`۹`) or Arabic (`٠`-`٩`) digit.
pub fn digit(c: char) -> Option<u8> {
    let zero = match c {
        '0'..='9' => '0',
        '۰'..='۹' => '۰',
        '٠'..='٩' => '٠',
        _ => return None,
    };
    u8::try_from(u32::from(c) - u32::from(zero)).ok()
}

/// The text with Persian and Arabic digits as Latin ones.
pub fn fold_digits(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    text.chars().map(|c| digit(c).map_or(c, |value| char::from(b'0' + value))).collect()
}

/// The digits of an E.164 number: a leading plus, then 8 to 15 ASCII digits that do not begin with zero.
fn e164_digits(number: &str) -> Option<&str> {
    let digits = number.strip_prefix('+')?;
    let plausible = (8..=15).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && !digits.starts_with('0');
    plausible.then_some(digits)
}

/// `+989121234567` as `09121234567`; `None` for anything that is not an Iranian number in E.164.
pub fn national(number: &str) -> Option<String> {
    let subscriber = e164_digits(number)?.strip_prefix("98")?;
    (subscriber.len() == 10).then(|| ["0", subscriber].concat())
}

/// [`national`] for an Iranian number, two zeros and the country code for a foreign one: `0097450001234`.
pub fn national_or_00(number: &str) -> Option<String> {
    if number.starts_with("+98") { national(number) } else { Some(["00", e164_digits(number)?].concat()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iranian_numbers_take_the_national_form() {
        assert_eq!(national("+989121234567").as_deref(), Some("09121234567"));
        for other in
            ["", "+", "09121234567", "+97450001234", "+98912123456", "+9891212345678", "+98912123456a"]
        {
            assert_eq!(national(other), None, "{other}");
        }
    }

    #[test]
    fn foreign_numbers_take_two_zeros() {
        assert_eq!(national_or_00("+989121234567").as_deref(), Some("09121234567"));
        assert_eq!(national_or_00("+97450001234").as_deref(), Some("0097450001234"));
        for other in ["+9745000123,", "+974 50001234", "+1", "+0745000123", "+98912123456"] {
            assert_eq!(national_or_00(other), None, "{other}");
        }
    }

    #[test]
    fn digits_of_three_scripts_fold_to_latin() {
        assert_eq!(fold_digits("۰۱۹-٠١٩-019"), "019-019-019");
    }
}
