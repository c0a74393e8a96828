//! Texts as a search compares them.
//!
//! Spellings that readers take for the same are one: letters that Persian and Arabic keyboards write differently,
//! hamza and its carriers, vowel signs, accents, kashida, the joiners inside Persian words, digits of the three
//! scripts, upper and lower case, compatibility forms. What is left are words of letters and digits. A query's words
//! fit a text when each of them stands within some word of the text, so a stem finds its inflected forms.

use std::borrow::Cow;

use icu_normalizer::DecomposingNormalizerBorrowed;
use memchr::memmem::Finder;

use crate::phone::ascii_digit;

/// Characters of a query.
pub const QUERY_CHARS_MAX: usize = 200;
/// Words of a query.
pub const QUERY_WORDS_MAX: usize = 8;

/// Ends each word of a folded text.
pub(super) const END: char = '\n';

/// Why a text is no query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadQuery {
    /// No letter and no digit.
    Empty,
    TooLong,
    TooManyWords,
}

/// What is searched for.
#[derive(Debug)]
pub struct Query {
    /// The longest first: it is the rarest, most likely.
    finders: Vec<Finder<'static>>,
}

impl Query {
    /// # Errors
    ///
    /// [`BadQuery`].
    pub fn parse(text: &str) -> Result<Query, BadQuery> {
        if text.chars().count() > QUERY_CHARS_MAX {
            return Err(BadQuery::TooLong);
        }
        let folded = fold(text);
        let mut words: Vec<&str> = folded.split(END).filter(|word| !word.is_empty()).collect();
        words.sort_by_key(|word| (std::cmp::Reverse(word.len()), *word));
        words.dedup();
        match words.len() {
            0 => Err(BadQuery::Empty),
            1..=QUERY_WORDS_MAX => {
                let finders = words.iter().map(|word| Finder::new(word.as_bytes()).into_owned());
                Ok(Query { finders: finders.collect() })
            }
            _ => Err(BadQuery::TooManyWords),
        }
    }

    pub(super) fn finders(&self) -> &[Finder<'static>] {
        &self.finders
    }

    /// Whether a message's text has all words.
    pub(super) fn fits(&self, text: &str) -> bool {
        let folded = fold(text);
        self.finders.iter().all(|finder| finder.find(folded.as_bytes()).is_some())
    }
}

/// The words of a text in their compared form, each with [`END`] behind it.
pub(super) fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len() + 1);
    let plain = match text.is_ascii() {
        true => Cow::Borrowed(text),
        false => DecomposingNormalizerBorrowed::new_nfkd().normalize(text),
    };
    for character in plain.chars() {
        if character.is_ascii_alphanumeric() {
            folded.push(character.to_ascii_lowercase());
        } else if is_dropped(character) {
            // The letters beside it are one word.
        } else if character.is_alphanumeric() {
            let character = same_letter(character);
            // Arabic letters have no case.
            if ('\u{600}'..='\u{6ff}').contains(&character) {
                folded.push(character);
                continue;
            }
            // By way of upper case, which writes `ß` as `SS` and both forms of sigma as one.
            let lower = character.to_lowercase();
            folded.extend(lower.flat_map(char::to_uppercase).flat_map(char::to_lowercase));
        } else if !folded.is_empty() && !folded.ends_with(END) {
            folded.push(END);
        }
    }
    if !folded.is_empty() && !folded.ends_with(END) {
        folded.push(END);
    }
    folded
}

/// One character for letters that people take for the same.
fn same_letter(character: char) -> char {
    match character {
        'ي' | 'ى' | 'ے' => 'ی',
        'ك' => 'ک',
        'ة' | 'ہ' | 'ھ' | 'ە' | 'ۃ' => 'ه',
        'ٱ' => 'ا',
        other => ascii_digit(other).unwrap_or(other),
    }
}

/// Vowel signs, accents, hamza above and below, kashida, a hamza alone, joiners, and what only changes direction.
fn is_dropped(character: char) -> bool {
    matches!(character,
        '\u{300}'..='\u{36f}' | '\u{ad}' | '\u{621}' | '\u{640}' | '\u{610}'..='\u{61a}'
        | '\u{61c}' | '\u{64b}'..='\u{65f}' | '\u{670}' | '\u{6d6}'..='\u{6dc}' | '\u{6df}'..='\u{6e4}'
        | '\u{6e7}' | '\u{6e8}' | '\u{6ea}'..='\u{6ed}' | '\u{8d3}'..='\u{8ff}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_that_look_the_same_are_one() {
        for (text, words) in [
            ("Hello, World!", "hello\nworld\n"),
            ("كتابي", "کتابی\n"),
            ("مى‌رود می‌رَوَد", "میرود\nمیرود\n"),
            ("مدرســـة", "مدرسه\n"),
            ("آب أب إب ٱب", "اب\nاب\nاب\nاب\n"),
            ("مسئول مسؤول املاء", "مسیول\nمسوول\nاملا\n"),
            ("خانۀ خانهٔ", "خانه\nخانه\n"),
            ("۰۹۱۲ ٠٩١٢ 0912 ０９１２", "0912\n0912\n0912\n0912\n"),
            ("Café STRASSE straße ΣΑΣ", "cafe\nstrasse\nstrasse\nσασ\n"),
            ("ﻻ ﷲ", "لا\nالله\n"),
            ("  !؟«»  ", ""),
            ("a\u{200c}b a\u{ad}b", "ab\nab\n"),
            ("👍 ok", "ok\n"),
        ] {
            assert_eq!(fold(text), words, "{text}");
        }
    }

    #[test]
    fn folding_twice_changes_nothing() {
        for text in ["İstanbul ŉ ǅ ﬃ ΐ", "ئ ؤ ۂ ۓ", "Ω K Å ſ", "ẞ ß"] {
            let once = fold(text);
            assert_eq!(fold(&once), once, "{text}");
        }
    }

    #[test]
    fn every_word_of_a_query_must_stand_in_the_text() {
        let fits = |query: &str, text: &str| Query::parse(query).unwrap().fits(text);
        assert!(fits("کتاب", "کتاب‌ها را بیاور"));
        assert!(fits("می رود", "او می‌رود"));
        assert!(fits("WORLD hell", "hello world"));
        assert!(!fits("hello moon", "hello world"));
        assert!(!fits("helloworld", "hello world"), "no match over the end of a word");
    }

    #[test]
    fn what_is_no_query_is_refused() {
        let parse = |text: &str| Query::parse(text).map(drop);
        assert_eq!(parse(""), Err(BadQuery::Empty));
        assert_eq!(parse("؟ ... 👍"), Err(BadQuery::Empty));
        assert_eq!(parse("a b c d e f g h"), Ok(()));
        assert_eq!(parse("a b c d e f g h i"), Err(BadQuery::TooManyWords));
        assert_eq!(parse("a a a a a a a a a a"), Ok(()), "the same word counts once");
        assert_eq!(parse(&"x".repeat(QUERY_CHARS_MAX)), Ok(()));
        assert_eq!(parse(&"x".repeat(QUERY_CHARS_MAX + 1)), Err(BadQuery::TooLong));
    }
}
