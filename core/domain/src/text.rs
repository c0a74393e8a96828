//! Texts that people read as names: of users, rooms and files.
//!
//! Some invisible characters change the order in which the rest is shown. In a name they deceive: after an override the
//! program `photogpj.exe` is shown as the picture `photoexe.jpg`. Names lose them when they are stored and, because
//! older versions stored them as they came, when they are shown; messages keep theirs, because Persian and Arabic prose
//! needs them. The joiners U+200C and U+200D stay: they belong to Persian spelling.

use std::borrow::Cow;

/// A name without control characters, line ends and characters that only change direction.
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

fn deceives(character: char) -> bool {
    character.is_control()
        || matches!(character,
            // Marks, embeddings, overrides and isolates.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Line ends; a byte order mark; what annotates and what is deprecated.
            | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{206a}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}')
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
}
