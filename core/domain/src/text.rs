//! Texts that people read as names: of users, rooms and files.
//!
//! Some invisible characters change the order in which the rest is shown. In a name they deceive: after an override the
//! program `photogpj.exe` is shown as the picture `photoexe.jpg`. Others show nothing at all: with a Hangul filler two
//! names look like one, and a name of nothing else looks empty. Names lose them when they are stored and, because older
//! versions stored them as they came, when they are shown; messages keep theirs, because Persian and Arabic prose needs
//! them. Those that choose the form of their neighbours stay: the joiners U+200C and U+200D belong to Persian spelling,
//! selectors and tags to emoji and to Mongolian and Chinese letters.

use std::borrow::Cow;

use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;

/// A name without control characters, line ends and characters that show nothing or only change direction.
#[must_use]
pub fn name_as_seen(name: &str) -> Cow<'_, str> {
    if name.chars().any(deceives) {
        return name.chars().filter(|character| !deceives(*character)).collect();
    }
    name.into()
}

/// [`name_as_seen`] of an owned name.
#[must_use]
pub fn seen(name: String) -> String {
    match name_as_seen(&name) {
        Cow::Owned(plain) => plain,
        Cow::Borrowed(_) => name,
    }
}

/// Whether a character shows nothing. Unicode calls some of them letters: the Hangul fillers U+115F, U+1160, U+3164 and
/// U+FFA0, and two blank hieroglyphs. Spaces and line ends are not among them.
pub(crate) fn is_unseen(character: char) -> bool {
    !character.is_ascii()
        && (CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
            // The Egyptian full blank and half blank, which Unicode does not call ignorable.
            || matches!(character, '\u{13441}' | '\u{13442}'))
}

fn deceives(character: char) -> bool {
    character.is_control()
        // Line ends; what annotates.
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}')
        || (is_unseen(character) && !forms_neighbours(character))
}

/// The unseen characters that spelling and emoji need.
fn forms_neighbours(character: char) -> bool {
    matches!(character,
        // Joiners; Mongolian selectors and vowel separator.
        '\u{200c}' | '\u{200d}' | '\u{180b}'..='\u{180f}'
        // Variation selectors; the tags of flags.
        | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' | '\u{e0020}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_only_changes_their_direction() {
        assert_eq!(name_as_seen("photo\u{202e}gpj.exe"), "photogpj.exe");
        assert_eq!(name_as_seen("\u{2067}علی\u{2069}\u{200f}\u{feff}\n"), "علی");
        for name in ["علی رضا", "می\u{200c}رود", "\u{1F468}\u{200d}\u{1F469}", "", "a b"] {
            assert!(matches!(name_as_seen(name), Cow::Borrowed(same) if same == name), "{name}");
        }
    }

    #[test]
    fn names_lose_what_shows_nothing() {
        for unseen in
            ['\u{115f}', '\u{1160}', '\u{3164}', '\u{ffa0}', '\u{13441}', '\u{200b}', '\u{2060}', '\u{e0001}']
        {
            assert_eq!(name_as_seen(&format!("Sa{unseen}ra{unseen}")), "Sara", "{unseen:?}");
            assert_eq!(name_as_seen(&unseen.to_string()), "", "{unseen:?}");
        }
        for name in
            ["\u{2764}\u{fe0f}", "\u{845b}\u{e0100}", "\u{1f3f4}\u{e0067}\u{e007f}", "\u{1100}\u{1161}"]
        {
            assert!(matches!(name_as_seen(name), Cow::Borrowed(same) if same == name), "{name}");
        }
    }
}
