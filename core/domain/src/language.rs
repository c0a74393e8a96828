//! The language of sentences for people. Codes and field names never change with it.
//!
//! `sentences.txt` has one sentence in both languages for each code; `phrases.txt` the sentences about one field of a
//! body, and those of successes. A sentence that is in the wanted language already stays, because it may say more than
//! the table's. A client that asks for no language gets every sentence as it is.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

/// A language that a client may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    English,
    Persian,
}

/// The code whose sentence says what is wrong with a field.
const INVALID_FIELDS: &str = "invalid_fields";

/// Codes that have a sentence.
pub fn codes() -> impl Iterator<Item = &'static str> {
    SENTENCES.keys().copied()
}

/// A sentence in both languages.
struct Both {
    english: &'static str,
    persian: &'static str,
}

static SENTENCES: LazyLock<HashMap<&'static str, Both>> = LazyLock::new(|| {
    rows(include_str!("language/sentences.txt"))
        .filter_map(|row| {
            let (code, rest) = row.split_once(" | ")?;
            let (english, persian) = rest.split_once(" | ")?;
            Some((code, Both { english, persian }))
        })
        .collect()
});

static PHRASES: LazyLock<Vec<Both>> = LazyLock::new(|| {
    rows(include_str!("language/phrases.txt"))
        .filter_map(|row| row.split_once(" | ").map(|(english, persian)| Both { english, persian }))
        .collect()
});

fn rows(table: &'static str) -> impl Iterator<Item = &'static str> {
    table.lines().filter(|line| !line.starts_with('#'))
}

impl Language {
    /// The language that an `Accept-Language` prefers; `None` when it names neither of the two.
    #[must_use]
    pub fn accepted(header: &str) -> Option<Language> {
        let mut best: Option<(Language, f32)> = None;
        for range in header.split(',') {
            let (tag, weight) = match range.split_once(';') {
                Some((tag, weight)) => (tag, weight.trim().strip_prefix("q=").unwrap_or("1")),
                None => (range, "1"),
            };
            let primary = tag.trim().split('-').next().unwrap_or_default();
            let language = if primary.eq_ignore_ascii_case("fa") {
                Language::Persian
            } else if primary.eq_ignore_ascii_case("en") {
                Language::English
            } else {
                continue;
            };
            let weight = weight.trim().parse().unwrap_or(0.0);
            if weight > best.map_or(0.0, |(_, best)| best) {
                best = Some((language, weight));
            }
        }
        best.map(|(language, _)| language)
    }

    /// As in `Content-Language`.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::Persian => "fa",
        }
    }

    /// A code's sentence, unless `text` is in this language already.
    #[must_use]
    pub fn sentence(self, code: &str, text: &str) -> Option<Cow<'static, str>> {
        if code == INVALID_FIELDS {
            return self.field_sentence(text).map(Cow::Owned);
        }
        if self.is_of(text) {
            return None;
        }
        SENTENCES.get(code).map(|both| both.in_language(self).into())
    }

    /// A sentence about a field, unless it is in this language already. One that is in no table is kept behind a
    /// general sentence, so that nothing is lost.
    #[must_use]
    pub fn field_sentence(self, text: &str) -> Option<String> {
        if self.is_of(text) {
            return None;
        }
        let general = || {
            let general = SENTENCES.get(INVALID_FIELDS).map_or("", |both| both.in_language(self));
            format!("{} ({text})", general.trim_end_matches('.'))
        };
        Some(self.phrase(text).unwrap_or_else(general))
    }

    /// A sentence of the table of phrases, from the other language.
    #[must_use]
    pub fn phrase(self, text: &str) -> Option<String> {
        let other = if self == Language::English { Language::Persian } else { Language::English };
        PHRASES.iter().find_map(|both| {
            let mut values = filled(both.in_language(other), text)?.into_iter();
            let mut parts = both.in_language(self).split("{}");
            let first = parts.next()?.to_owned();
            Some(parts.fold(first, |done, part| done + values.next().unwrap_or_default() + part))
        })
    }

    fn is_of(self, text: &str) -> bool {
        let is_persian = text.chars().any(|character| matches!(character, '\u{600}'..='\u{6ff}'));
        is_persian == (self == Language::Persian)
    }
}

impl Both {
    fn in_language(&self, language: Language) -> &'static str {
        match language {
            Language::English => self.english,
            Language::Persian => self.persian,
        }
    }
}

/// What stands in the places of a pattern, when a text fits it.
fn filled<'a>(pattern: &str, text: &'a str) -> Option<Vec<&'a str>> {
    let mut parts = pattern.split("{}");
    let mut rest = text.strip_prefix(parts.next()?)?;
    let mut values = Vec::new();
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let end = if parts.peek().is_none() {
            rest.ends_with(part).then(|| rest.len() - part.len())?
        } else {
            rest.find(part)?
        };
        values.push(&rest[..end]);
        rest = &rest[end + part.len()..];
    }
    rest.is_empty().then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_of_two_languages_is_chosen() {
        for (header, language) in [
            ("fa", Some(Language::Persian)),
            ("fa-IR,fa;q=0.9,en-US;q=0.8", Some(Language::Persian)),
            ("en-US,en;q=0.9,fa;q=0.8", Some(Language::English)),
            ("de, FA;q=0.3, en;q=0.2", Some(Language::Persian)),
            ("en;q=0, fa;q=0.1", Some(Language::Persian)),
            ("de", None),
            ("*", None),
            ("", None),
            ("fa;q=x", None),
            ("english", None),
        ] {
            assert_eq!(Language::accepted(header), language, "{header}");
        }
    }

    #[test]
    fn every_row_has_both_languages_once() {
        let listed: Vec<_> = rows(include_str!("language/sentences.txt")).collect();
        assert_eq!(listed.len(), SENTENCES.len(), "a row is torn, or a code stands twice");
        assert_eq!(rows(include_str!("language/phrases.txt")).count(), PHRASES.len());
        for both in SENTENCES.values().chain(PHRASES.iter()) {
            assert!(!Language::Persian.is_of(both.english), "{}", both.english);
            assert!(Language::Persian.is_of(both.persian), "{}", both.persian);
            assert!(!both.english.contains('|') && !both.persian.contains('|'), "{}", both.english);
            let places = |text: &str| text.matches("{}").count();
            assert_eq!(places(both.english), places(both.persian), "{}", both.english);
        }
    }

    #[test]
    fn sentences_about_fields_keep_their_values() {
        let persian = |text| Language::Persian.field_sentence(text);
        let longest = persian("Ensure this field has no more than 45 characters.").expect("translated");
        assert_eq!(longest, "این فیلد حداکثر 45 نویسه می‌پذیرد.");
        assert_eq!(
            persian("\"a\" b\" is not a valid choice.").expect("translated"),
            "«a\" b» گزینه معتبری نیست."
        );
        assert_eq!(persian("این فیلد الزامی است."), None);
        let unknown = persian("Must be green.").expect("explained");
        assert!(unknown.ends_with("(Must be green.)") && unknown.starts_with("مقدار"), "{unknown}");
        let english = Language::English.field_sentence("رمز عبور و تکرار آن یکسان نیستند.");
        assert_eq!(english.as_deref(), Some("The passwords do not match."));
    }
}
