//! How the console writes dates, amounts and digits, and how it reads typed ones.
//!
//! Persian pages have Persian digits and Jalali dates with the Gregorian one beside them; times are those of Tehran.
//! Whatever a person types may have Persian, Arabic or Latin digits.

use chelseru_domain::Timestamp;
use icu_calendar::{Date, Gregorian, cal::Persian};
use jiff::tz::TimeZone;

use super::words::Language;

/// Iran has had one offset all year since 2022. Source: IANA tz database, Asia/Tehran.
fn tehran() -> TimeZone {
    TimeZone::get("Asia/Tehran").unwrap_or(TimeZone::UTC)
}

/// A text with the digits of a language.
pub(crate) fn digits(text: &str, language: Language) -> String {
    if language == Language::English {
        return text.to_owned();
    }
    let persian = |character: char| match character.to_digit(10) {
        Some(digit) => char::from_u32(0x6f0 + digit).unwrap_or(character),
        None => character,
    };
    text.chars().map(persian).collect()
}

/// A typed text with ASCII digits.
pub(crate) fn latin(text: &str) -> String {
    let latin = |character: char| {
        let zero = match character {
            '\u{6f0}'..='\u{6f9}' => 0x6f0,
            '\u{660}'..='\u{669}' => 0x660,
            _ => return character,
        };
        char::from_digit(u32::from(character) - zero, 10).unwrap_or(character)
    };
    text.chars().map(latin).collect()
}

/// A whole number in groups of three.
pub(crate) fn grouped(number: u64, language: Language) -> String {
    let plain = number.to_string();
    let mut text = String::with_capacity(plain.len() * 4 / 3);
    for (at, digit) in plain.chars().enumerate() {
        if at > 0 && (plain.len() - at).is_multiple_of(3) {
            text.push(if language == Language::Persian { '٬' } else { ',' });
        }
        text.push(digit);
    }
    digits(&text, language)
}

/// An amount in rial as toman, with the rial beside it.
pub(crate) fn money(rial: u64, language: Language) -> String {
    let words = language.words();
    let (toman, rest) = (rial / 10, rial % 10);
    let mut text = grouped(toman, language);
    if rest > 0 {
        text.push_str(&digits(&format!(".{rest}"), language));
    }
    format!("{text} {} ({} {})", words.toman, grouped(rial, language), words.rial)
}

/// An instant in the calendar of the language, with the other one beside it.
pub(crate) fn time(at: Timestamp, language: Language) -> String {
    let micros = i64::try_from(at.as_micros()).unwrap_or(i64::MAX);
    let Ok(instant) = jiff::Timestamp::from_microsecond(micros) else { return String::new() };
    let local = instant.to_zoned(tehran());
    let (year, month, day) = (i32::from(local.year()), local.month() as u8, local.day() as u8);
    let Ok(gregorian) = Date::try_new_gregorian(year, month, day) else { return String::new() };
    let jalali = gregorian.to_calendar(Persian);
    let jalali = format!(
        "{:04}/{:02}/{:02}",
        jalali.year().extended_year(),
        jalali.month().ordinal,
        jalali.day_of_month().0
    );
    let gregorian = format!("{year:04}-{month:02}-{day:02}");
    let clock = format!("{:02}:{:02}:{:02}", local.hour(), local.minute(), local.second());
    match language {
        Language::Persian => digits(&format!("{jalali} {clock} ({gregorian})"), language),
        Language::English => format!("{gregorian} {clock} ({jalali})"),
    }
}

/// The start of a typed day in Tehran: `1405/09/05` or `2026-11-26`, with either separator. A year below 1700 is
/// Jalali.
pub(crate) fn day(text: &str) -> Option<Timestamp> {
    let text = latin(text.trim()).replace('/', "-");
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts.as_slice() else { return None };
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !parts.iter().all(|part| plain(part)) {
        return None;
    }
    let (year, month, day): (i32, u8, u8) = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
    let date: Date<Gregorian> = match year {
        1000..1700 => Date::try_new_persian(year, month, day).ok()?.to_calendar(Gregorian),
        1700..=9999 => Date::try_new_gregorian(year, month, day).ok()?,
        _ => return None,
    };
    let (year, month, day) = (date.year().extended_year(), date.month().ordinal, date.day_of_month().0);
    let civil = jiff::civil::Date::new(year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?);
    let start = civil.ok()?.to_zoned(tehran()).ok()?.timestamp();
    u64::try_from(start.as_microsecond()).ok().map(Timestamp::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_typed_in_either_calendar_and_any_digits() {
        let of = |text: &str| day(text).map(Timestamp::as_secs);
        // 2026-11-25T20:30:00Z is midnight in Tehran.
        let midnight = Some(1_795_638_600);
        for text in ["2026-11-26", "1405/09/05", "1405-9-5", "۱۴۰۵/۰۹/۰۵", "١٤٠٥/٠٩/٠٥", " 2026/11/26 "]
        {
            assert_eq!(of(text), midnight, "{text}");
        }
        for text in [
            "",
            "1405",
            "1405/13/01",
            "1405/12/31",
            "2026-02-30",
            "12/11/2026",
            "a/b/c",
            "-1/1/1",
            "1405/09/05/1",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn a_leap_year_has_its_day() {
        assert!(day("1403/12/30").is_some() && day("1404/12/30").is_none());
    }

    #[test]
    fn an_instant_is_shown_in_both_calendars() {
        let at = Timestamp::from_secs(1_795_638_600);
        assert_eq!(time(at, Language::English), "2026-11-26 00:00:00 (1405/09/05)");
        assert_eq!(time(at, Language::Persian), "۱۴۰۵/۰۹/۰۵ ۰۰:۰۰:۰۰ (۲۰۲۶-۱۱-۲۶)");
    }

    #[test]
    fn an_amount_is_toman_with_rial_beside_it() {
        assert_eq!(money(1_234_565, Language::English), "123,456.5 toman (1,234,565 rial)");
        assert_eq!(money(10_000, Language::Persian), "۱٬۰۰۰ تومان (۱۰٬۰۰۰ ریال)");
        assert_eq!(grouped(0, Language::English), "0");
    }
}
