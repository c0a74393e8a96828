//! The border for strings: every string that leaves a guest passes through [`Border`], and nothing else lets one out.
//!
//! Free text (a provider's words, codes, log lines) is cut to a bound, its control and direction characters are
//! escaped, and secrets and long numbers are masked. A name that must stay exact (a message id, a reference) is kept
//! or emptied: a changed id would be the id of something else. So a log line cannot be forged, a terminal cannot be
//! driven, and no record in the store grows with what a provider sends. Types that hold guest strings say how by
//! implementing [`GuestData`], which [`crate::Provider::call`] requires.
//!
//! Not here: bytes that only the guest reads again, and the sizes that one call may copy out (see `limits`).

use std::sync::Arc;

/// Characters of a provider's words.
pub const TEXT_CHARS_MAX: usize = 300;
/// Characters of a code.
pub const CODE_CHARS_MAX: usize = 64;
/// Items of a list that leaves a guest; the rest is dropped.
pub const LIST_ITEMS_MAX: usize = 4096;
/// Stands for a secret setting's value.
pub const SECRET_MASK: &str = "***";

/// Shorter secrets are not masked: replacing them would tear ordinary words apart.
const SECRET_BYTES_MIN: usize = 4;
/// An exact name that holds a secret of at least this length is emptied. Shorter ones occur in random ids.
const SECRET_IN_NAME_BYTES_MIN: usize = 8;
/// Digits in a row that are masked: a phone number without its prefix has nine.
const DIGITS_MIN: usize = 9;
/// Digits with separators between them that are masked when they begin like a phone number (0, 98 or +).
const PHONE_DIGITS_MIN: usize = 10;
/// Digits with separators between them that are masked whatever they begin with: the shortest card number has 13.
const CARD_DIGITS_MIN: usize = 13;
/// Digits that stay in clear at the start and at the end of a masked number.
const DIGITS_SHOWN: (usize, usize) = (4, 2);
/// Separators in a row that do not end a number.
const SEPARATORS_MAX: usize = 2;
/// The longest piece that is not masked although it may begin a number: one digit less than a card has, with their
/// separators, four bytes each. So much is left out before a cut.
const NUMBER_BYTES_MAX: usize = (CARD_DIGITS_MIN - 1) * (1 + SEPARATORS_MAX) * 4;

/// The border between a provider entry's guest and everything else. Knows the entry's secrets.
#[derive(Default)]
pub struct Border {
    /// Longest first, so that a secret that contains another one is masked as a whole.
    secrets: Arc<[String]>,
}

impl Border {
    /// A border that masks these values, in clear and percent-encoded, and the lines of those that have several.
    pub(crate) fn new(secrets: &[String]) -> Border {
        let lines = secrets.iter().flat_map(|secret| secret.lines().map(str::trim));
        let whole = secrets.iter().map(String::as_str);
        let long = whole.chain(lines).filter(|secret| secret.len() >= SECRET_BYTES_MIN);
        let mut all: Vec<String> =
            long.flat_map(|secret| [secret.to_owned(), percent_encoded(secret)]).collect();
        all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        all.dedup();
        Border { secrets: all.into() }
    }

    /// Passes a provider's words: cut, escaped and masked.
    pub fn text(&self, text: &mut String) {
        self.pass(text, TEXT_CHARS_MAX);
    }

    /// Passes a code: as [`Border::text`], shorter.
    pub fn code(&self, code: &mut String) {
        self.pass(code, CODE_CHARS_MAX);
    }

    /// Passes an id that must stay exact: kept when it is printable, at most `bytes_max` long and without a secret,
    /// else emptied.
    pub fn id(&self, id: &mut String, bytes_max: usize) {
        let mut secrets = self.secrets.iter().filter(|secret| secret.len() >= SECRET_IN_NAME_BYTES_MIN);
        if secrets.any(|secret| id.contains(secret.as_str())) {
            id.clear();
        }
        self.exact(id, bytes_max);
    }

    /// Passes what only the payer's browser gets (an address, a form field): kept when it is printable and at most
    /// `bytes_max` long, else emptied. It may hold a merchant's id, which some providers want there.
    pub fn exact(&self, text: &mut String, bytes_max: usize) {
        if text.len() > bytes_max || !is_plain(text) {
            text.clear();
        }
    }

    /// Passes bytes that only the guest reads again: kept up to `bytes_max`, else emptied.
    pub fn bytes(&self, bytes: &mut Vec<u8>, bytes_max: usize) {
        if bytes.len() > bytes_max {
            bytes.clear();
        }
    }

    /// As [`Border::text`] for one line of the guest's output. Of a line whose rest was dropped, the end is left out:
    /// it may be the first part of a secret or of a number.
    pub(crate) fn line(&self, line: &str, chars_max: usize, is_whole: bool) -> String {
        self.shown(line, chars_max, is_whole)
    }

    fn pass(&self, text: &mut String, chars_max: usize) {
        // Nearly every text is short, plain and without numbers; it is not copied.
        let ordinary = text.len() <= chars_max
            && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
            && text.bytes().filter(u8::is_ascii_digit).count() < DIGITS_MIN
            && !self.secrets.iter().any(|secret| text.contains(secret.as_str()));
        if !ordinary {
            *text = self.shown(text, chars_max, true);
        }
    }

    fn shown(&self, text: &str, chars_max: usize, is_whole: bool) -> String {
        // Work is bounded too: what is far behind the cut is not looked at.
        let longest = self.secrets.first().map_or(0, String::len) + NUMBER_BYTES_MAX;
        let window = text.floor_char_boundary(chars_max.saturating_mul(4) + longest);
        let mut masked = text[..window].to_owned();
        for secret in self.secrets.iter() {
            if masked.contains(secret.as_str()) {
                masked = masked.replace(secret.as_str(), SECRET_MASK);
            }
        }
        // Before anything is left out: the rest of a number is not recognised as one.
        let mut masked = numbers_masked(&masked);
        let is_whole = is_whole && window == text.len();
        if !is_whole {
            // The first part of a secret or of a number may stand at the end.
            masked.truncate(masked.floor_char_boundary(masked.len().saturating_sub(longest)));
        }
        let mut shown = escaped(&masked, chars_max);
        if !is_whole && !shown.ends_with('…') {
            shown.push('…');
        }
        shown
    }
}

/// Whether no character would be escaped.
pub(crate) fn is_plain(text: &str) -> bool {
    !text.chars().any(is_unsafe)
}

/// Cuts to `chars_max` characters and escapes what a terminal or a log would act on.
pub(crate) fn escaped(text: &str, chars_max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(chars_max.saturating_mul(4)) + 4);
    let mut left = chars_max;
    for c in text.chars() {
        let chars = if is_unsafe(c) { c.escape_debug().count().max(c.escape_unicode().count()) } else { 1 };
        if chars > left {
            out.push('…');
            return out;
        }
        left -= chars;
        match c {
            '\n' | '\r' | '\t' => out.extend(c.escape_debug()),
            c if is_unsafe(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// One line of the engine's error without its backtrace: the innermost text.
pub(crate) fn error_text(error: &wasmtime::Error) -> String {
    let cause = error.root_cause().to_string();
    escaped(cause.lines().next().unwrap_or_default(), TEXT_CHARS_MAX)
}

/// Control characters, and those of Unicode that are invisible or turn the direction of text. The two joiners stay:
/// Persian words need them.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

fn is_digit(c: char) -> bool {
    matches!(c, '0'..='9' | '\u{660}'..='\u{669}' | '\u{6f0}'..='\u{6f9}' | '\u{ff10}'..='\u{ff19}')
}

/// Whether a character may stand between the digits of one number.
fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '-' | '.' | '(' | ')' | '/' | '_' | '\u{200c}' | '\u{200d}' | '\u{a0}') || is_unsafe(c)
}

/// Masks the middle of everything that may be a phone or a card number.
fn numbers_masked(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = chars.clone();
    let mut at = 0;
    while at < chars.len() {
        if !is_digit(chars[at]) {
            at += 1;
            continue;
        }
        let (digits, end) = number_at(&chars, at);
        let after_plus = at > 0 && chars[at - 1] == '+';
        if is_number(&chars, &digits, after_plus) {
            let last = digits.len().saturating_sub(DIGITS_SHOWN.1);
            for place in &digits[DIGITS_SHOWN.0.min(last)..last] {
                out[*place] = '*';
            }
        }
        at = end;
    }
    out.into_iter().collect()
}

/// The places of the digits of the number that begins at `at`, and where it ends.
fn number_at(chars: &[char], at: usize) -> (Vec<usize>, usize) {
    let (mut digits, mut end, mut gap) = (Vec::new(), at, 0);
    for (place, c) in chars.iter().enumerate().skip(at) {
        if is_digit(*c) {
            digits.push(place);
            (end, gap) = (place + 1, 0);
        } else {
            gap += 1;
            if !is_separator(*c) || gap > SEPARATORS_MAX {
                break;
            }
        }
    }
    (digits, end)
}

fn is_number(chars: &[char], digits: &[usize], after_plus: bool) -> bool {
    let value = |index: usize| digits.get(index).and_then(|place| digit_value(chars[*place]));
    let like_phone = after_plus || value(0) == Some(0) || (value(0) == Some(9) && value(1) == Some(8));
    let mut run = 1;
    let mut longest = 1;
    for pair in digits.windows(2) {
        run = if pair[1] == pair[0] + 1 { run + 1 } else { 1 };
        longest = longest.max(run);
    }
    longest >= DIGITS_MIN
        || (like_phone && digits.len() >= PHONE_DIGITS_MIN)
        || digits.len() >= CARD_DIGITS_MIN
}

fn digit_value(c: char) -> Option<u32> {
    let zero = match c {
        '0'..='9' => '0',
        '\u{660}'..='\u{669}' => '\u{660}',
        '\u{6f0}'..='\u{6f9}' => '\u{6f0}',
        '\u{ff10}'..='\u{ff19}' => '\u{ff10}',
        _ => return None,
    };
    Some(u32::from(c) - u32::from(zero))
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Data that a guest returned. Says for each string in it how the string passes the border.
///
/// Take the value apart in `pass` without `..`, so that a new field does not compile before it has its rule.
pub trait GuestData {
    /// Passes every string in the value through the border.
    fn pass(&mut self, border: &Border);
}

/// A string without a rule of its own is free text.
impl GuestData for String {
    fn pass(&mut self, border: &Border) {
        border.text(self);
    }
}

impl<T: GuestData> GuestData for Option<T> {
    fn pass(&mut self, border: &Border) {
        if let Some(inner) = self {
            inner.pass(border);
        }
    }
}

impl<T: GuestData, E: GuestData> GuestData for Result<T, E> {
    fn pass(&mut self, border: &Border) {
        match self {
            Ok(value) => value.pass(border),
            Err(error) => error.pass(border),
        }
    }
}

/// Keeps at most [`LIST_ITEMS_MAX`] items.
impl<T: GuestData> GuestData for Vec<T> {
    fn pass(&mut self, border: &Border) {
        self.truncate(LIST_ITEMS_MAX);
        for item in self {
            item.pass(border);
        }
    }
}

macro_rules! without_strings {
    ($($ty:ty),*) => { $(impl GuestData for $ty { fn pass(&mut self, _: &Border) {} })* };
}
without_strings!((), bool, u16, u32, u64, i32, i64, f32, f64);

macro_rules! tuples {
    ($(($($name:ident),+))*) => { $(
        impl<$($name: GuestData),+> GuestData for ($($name,)+) {
            #[allow(non_snake_case, reason = "the type's name is the value's")]
            fn pass(&mut self, border: &Border) {
                let ($($name,)+) = self;
                $($name.pass(border);)+
            }
        }
    )* };
}
tuples!((A)(A, B)(A, B, C)(A, B, C, D));

#[cfg(test)]
mod tests {
    use super::*;

    fn text(secrets: &[&str], input: &str) -> String {
        let secrets: Vec<String> = secrets.iter().map(|s| (*s).to_owned()).collect();
        let mut text = input.to_owned();
        Border::new(&secrets).text(&mut text);
        text
    }

    #[test]
    fn ordinary_words_pass_unchanged() {
        for words in [
            "credit is not enough",
            "کد تأیید",
            "می\u{200c}خواهم",
            "2026-11-26 18:06:20",
            "1,250,000 rial",
            "",
        ] {
            assert_eq!(text(&["s3cret-key"], words), words);
        }
    }

    #[test]
    fn a_line_cannot_be_forged_and_a_terminal_cannot_be_driven() {
        assert_eq!(text(&[], "no\nERROR money lost\r"), "no\\nERROR money lost\\r");
        assert_eq!(text(&[], "\u{1b}[2Jx\u{9b}31m"), "\\u{1b}[2Jx\\u{9b}31m");
        assert_eq!(
            text(&[], "abc\u{202e}cba\u{2066}\u{200b}\u{feff}"),
            "abc\\u{202e}cba\\u{2066}\\u{200b}\\u{feff}"
        );
        assert_eq!(text(&[], "a\u{2028}b\u{0}"), "a\\u{2028}b\\u{0}");
    }

    #[test]
    fn secrets_are_masked_in_clear_and_percent_encoded_and_short_ones_are_not() {
        assert_eq!(text(&["s3cret-key", "abc"], "key=s3cret-key&x=s3cret-key abc"), "key=***&x=*** abc");
        assert_eq!(text(&["a/b c+d"], "GET /v1/a%2Fb%20c%2Bd/send"), "GET /v1/***/send");
        assert_eq!(text(&["abcd", "abcdefgh"], "abcdefgh abcd"), "*** ***", "the longer one first");
    }

    #[test]
    fn each_line_of_a_secret_is_masked_by_itself() {
        let key = "-----BEGIN-----\r\n  MIIBVgIBADAN\nabc\n";
        assert_eq!(text(&[key], key), SECRET_MASK);
        assert_eq!(text(&[key], "2: MIIBVgIBADAN."), "2: ***.");
        assert_eq!(text(&[key], "abc"), "abc");
    }

    #[test]
    fn numbers_are_masked_from_the_first_length_that_may_be_one() {
        for (input, expected) in [
            ("12345678", "12345678"),
            ("123456789", "1234***89"),
            ("to 09123456789!", "to 0912*****89!"),
            ("+98 912 345 6789", "+98 91* *** **89"),
            ("0912-345-67-89", "0912-***-**-89"),
            ("۰۹۱۲۳۴۵۶۷۸۹", "۰۹۱۲*****۸۹"),
            ("6037 9912 3456 7890", "6037 **** **** **90"),
            ("6037-99**-****-1234", "6037-99**-****-1234"),
            (
                "0\u{200b}9\u{200b}1\u{200b}2\u{200b}3\u{200b}4\u{200b}5\u{200b}6\u{200b}7",
                "0\\u{200b}9\\u{200b}1\\u{200b}2\\u{200b}3\\u{200b}4\\u{200b}5\\u{200b}6\\u{200b}7",
            ),
            ("2026-11-26 18", "2026-11-26 18"),
            ("0912 345 67", "0912 345 67"),
            ("0912 345 678", "0912 *** *78"),
        ] {
            assert_eq!(text(&[], input), expected, "{input:?}");
        }
    }

    #[test]
    fn texts_are_cut_at_their_bound_and_a_secret_at_the_cut_does_not_show() {
        assert_eq!(text(&[], &"x".repeat(TEXT_CHARS_MAX)), "x".repeat(TEXT_CHARS_MAX));
        assert_eq!(text(&[], &"x".repeat(TEXT_CHARS_MAX + 1)), format!("{}…", "x".repeat(TEXT_CHARS_MAX)));
        assert_eq!(text(&[], &"\u{1b}".repeat(900_000)).chars().count(), TEXT_CHARS_MAX / 6 * 6 + 1);
        for before in 0..3000 {
            let shown =
                text(&["s3cret-key"], &format!("{}s3cret-key{}", "y".repeat(before), "z".repeat(3000)));
            assert!(!shown.contains("s3c"), "{before}: {shown}");
        }
        // Masking shortens the text, so that what stood behind the cut moves forward.
        let shown = text(&["s3cret-key"], &"s3cret-key".repeat(100_000));
        assert!(!shown.contains('k'), "{shown}");
    }

    #[test]
    fn a_code_is_shorter_and_an_id_is_kept_whole_or_emptied() {
        let border = Border::new(&["s3cret-key".to_owned(), "1234".to_owned()]);
        let code = |mut code: String| {
            border.code(&mut code);
            code
        };
        assert_eq!(code("411".to_owned()), "411");
        assert_eq!(code("x".repeat(CODE_CHARS_MAX + 1)), format!("{}…", "x".repeat(CODE_CHARS_MAX)));
        let id = |id: &str| {
            let mut id = id.to_owned();
            border.id(&mut id, 16);
            id
        };
        assert_eq!(id("A000000123456789"), "A000000123456789");
        for refused in ["A0000001234567890", "a\nb", "a\u{202e}b", "s3cret-key"] {
            assert_eq!(id(refused), "", "{refused:?}");
        }
    }

    #[test]
    fn lists_are_bounded_and_their_items_pass_too() {
        let border = Border::default();
        let mut lists = (Some(vec!["a\nb".to_owned(); LIST_ITEMS_MAX + 1]), Err::<(), _>("\u{7}".to_owned()));
        lists.pass(&border);
        let (Some(items), Err(error)) = lists else { panic!("their shape stays") };
        assert_eq!((items.len(), items[0].as_str(), error.as_str()), (LIST_ITEMS_MAX, "a\\nb", "\\u{7}"));
        let mut bytes = vec![0; 5];
        border.bytes(&mut bytes, 5);
        assert_eq!(bytes.len(), 5);
        border.bytes(&mut bytes, 4);
        assert!(bytes.is_empty());
    }
}
