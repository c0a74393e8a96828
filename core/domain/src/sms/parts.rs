//! Counts the parts of a text before it is sent.
//!
//! There are two counts. The standard's: GSM-7 in 160 or 153 septets (a few characters take two), UCS-2 in 70 or 67
//! units of 16 bits. And the ladder that Iranian providers bill by: one Persian character makes the text Persian, each
//! character counts once, and the parts hold 70, 64, 67, 67 ... characters, or 160, 146, 153, 153 ... for Latin text.
//! Source: 3GPP TS 23.038 (alphabet) and 23.040 (parts); the ladder from the price pages of Iranian providers.

/// The basic characters of GSM-7.
const GSM7: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
/// Characters that take two septets.
const GSM7_EXTENDED: &str = "\u{c}^{}\\[~]|€";

const PERSIAN: Ladder = Ladder { first: 70, second: 64, further: 67 };
const LATIN: Ladder = Ladder { first: 160, second: 146, further: 153 };

struct Ladder {
    first: usize,
    second: usize,
    further: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Gsm7,
    Ucs2,
}

impl Encoding {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Encoding::Gsm7 => "GSM-7",
            Encoding::Ucs2 => "UCS-2",
        }
    }
}

/// The analysis of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    pub encoding: Encoding,
    pub characters: usize,
    /// Septets or 16-bit units.
    pub units: usize,
    /// Parts by the standard.
    pub parts: usize,
    /// Parts as Iranian providers bill them.
    pub ladder_parts: usize,
    /// Whether the ladder is the Persian one.
    pub persian: bool,
    /// Stable words: `link`, `opt_out_word`, `zero_width_joiner`.
    pub warnings: Vec<&'static str>,
}

/// Analyses a text. An empty text has no part.
#[must_use]
pub fn analyse(text: &str) -> Analysis {
    let characters = text.chars().count();
    let septets: Option<usize> = text.chars().map(septets).sum();
    let (encoding, units, parts) = match septets {
        Some(septets) => (Encoding::Gsm7, septets, gsm7_parts(text, septets)),
        None => {
            let units = text.encode_utf16().count();
            (Encoding::Ucs2, units, ucs2_parts(text, units))
        }
    };
    let persian = !text.is_ascii();
    let ladder = if persian { PERSIAN } else { LATIN };
    Analysis {
        encoding,
        characters,
        units,
        parts,
        ladder_parts: ladder.parts(characters),
        persian,
        warnings: warnings(text),
    }
}

impl Ladder {
    fn parts(&self, characters: usize) -> usize {
        match characters {
            0 => 0,
            n if n <= self.first => 1,
            n if n <= self.first + self.second => 2,
            n => 2 + (n - self.first - self.second).div_ceil(self.further),
        }
    }
}

fn septets(character: char) -> Option<usize> {
    if GSM7.contains(character) {
        Some(1)
    } else if GSM7_EXTENDED.contains(character) {
        Some(2)
    } else {
        None
    }
}

fn gsm7_parts(text: &str, septets_total: usize) -> usize {
    packed(text.chars().map(|c| septets(c).unwrap_or(1)), septets_total, 160, 153)
}

fn ucs2_parts(text: &str, units: usize) -> usize {
    packed(text.chars().map(char::len_utf16), units, 70, 67)
}

/// Number of parts when no character is split.
fn packed(sizes: impl Iterator<Item = usize>, total: usize, single: usize, each: usize) -> usize {
    if total == 0 {
        return 0;
    }
    if total <= single {
        return 1;
    }
    let (mut parts, mut used) = (1, 0);
    for size in sizes {
        if used + size > each {
            parts += 1;
            used = 0;
        }
        used += size;
    }
    parts
}

fn warnings(text: &str) -> Vec<&'static str> {
    let lower = text.to_lowercase();
    let mut warnings = Vec::new();
    let looks_like_host = |word: &str| {
        let host = word.split(['/', '?', ':']).next().unwrap_or("");
        host.rsplit_once('.').is_some_and(|(name, end)| {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
                && (2..=10).contains(&end.len())
                && end.bytes().all(|b| b.is_ascii_lowercase())
        })
    };
    let trimmed = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
    if lower.contains("://") || lower.split_whitespace().any(|word| looks_like_host(&trimmed(word))) {
        warnings.push("link");
    }
    let words = ["لغو", "لغو11", "لغو۱۱", "لغو١١", "off", "stop", "unsubscribe"];
    if lower.split_whitespace().any(|word| words.contains(&trimmed(word).as_str())) {
        warnings.push("opt_out_word");
    }
    if text.contains(['\u{200c}', '\u{200d}']) {
        warnings.push("zero_width_joiner");
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, encoding: Encoding, parts: usize, ladder_parts: usize) {
        let found = analyse(text);
        assert_eq!(
            (found.encoding, found.parts, found.ladder_parts),
            (encoding, parts, ladder_parts),
            "{found:?}"
        );
    }

    #[test]
    fn parts_begin_at_the_documented_lengths() {
        use Encoding::{Gsm7, Ucs2};
        for (length, parts) in
            [(0, 0), (1, 1), (160, 1), (161, 2), (306, 2), (307, 3), (459, 3), (460, 4), (612, 4), (613, 5)]
        {
            check(&"a".repeat(length), Gsm7, parts, parts);
        }
        for (length, parts) in [(1, 1), (70, 1), (71, 2), (134, 2), (135, 3), (201, 3), (202, 4), (268, 4)] {
            check(&"س".repeat(length), Ucs2, parts, parts);
        }
    }

    #[test]
    fn one_persian_character_makes_a_text_persian() {
        check(&format!("{}س", "a".repeat(69)), Encoding::Ucs2, 1, 1);
        check(&format!("{}س", "a".repeat(70)), Encoding::Ucs2, 2, 2);
    }

    #[test]
    fn extended_characters_take_two_septets_and_are_not_cut() {
        assert_eq!(analyse("€").units, 2);
        check(&"[".repeat(80), Encoding::Gsm7, 1, 1);
        check(&"[".repeat(81), Encoding::Gsm7, 2, 1);
        // 153 is odd: the 77th bracket starts the next part, so 2 x 76 fit in two parts.
        check(&"[".repeat(152), Encoding::Gsm7, 2, 1);
        check(&"[".repeat(153), Encoding::Gsm7, 3, 1);
    }

    #[test]
    fn a_character_outside_the_basic_plane_takes_two_units() {
        assert_eq!(analyse("😀").units, 2);
        check(&"😀".repeat(35), Encoding::Ucs2, 1, 1);
        check(&"😀".repeat(36), Encoding::Ucs2, 2, 1);
        check(&"😀".repeat(67), Encoding::Ucs2, 3, 1);
    }

    #[test]
    fn warnings_name_what_providers_refuse_or_bill() {
        for (text, expected) in [
            ("hello", vec![]),
            ("see https://a.ir/x", vec!["link"]),
            ("see example.com.", vec!["link"]),
            ("3.50 or v2.0...", vec![]),
            ("برای لغو ارسال کنید", vec!["opt_out_word"]),
            ("لغو۱۱", vec!["opt_out_word"]),
            ("می\u{200c}روم", vec!["zero_width_joiner"]),
            ("t.me/x لغو11", vec!["link", "opt_out_word"]),
        ] {
            assert_eq!(analyse(text).warnings, expected, "{text}");
        }
    }
}
