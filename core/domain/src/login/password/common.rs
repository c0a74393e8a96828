//! Common passwords: those of leaks, a word list, and the usual variations of its words.
//!
//! `leaked.txt` holds every entry of at least eight ASCII characters from Django's `common-passwords.txt.gz` (Django
//! 5.2.19, read 2026-11-27; 20,000 leaked passwords collected by Royce Williams; licence in `leaked.LICENSE`). Shorter
//! ones are refused for their length. Of its 14 entries with other characters, eight were damaged by a wrong encoding
//! and repeat one short piece, one is a letter, and the five Russian words are in [`OTHER_WORDS`].
//!
//! Beyond the list, people vary a few hundred words (`common.txt`). Both files have one entry per line, lower case,
//! sorted. The check undoes the variations: case, digits or signs instead of letters, and up to four digits or signs
//! before and after. It also finds runs over the alphabet, the digits and the keyboard, and repetitions of one short
//! piece. It never requires a kind of character.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::LazyLock;

/// Digits and signs before and after a word that the check removes.
const DECORATION_MAX: usize = 4;
/// Longest piece whose repetition is refused.
const REPEATED_MAX: usize = 4;
/// Shortest run.
const RUN_MIN: usize = 3;

/// Rows and columns of the common keyboard, the alphabet, the digits; looked for in both directions.
const RUNS: [&str; 15] = [
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
    "1q2w3e4r5t6y7u8i9o0p",
    "qazwsxedcrfvtgbyhnujm",
    // The Persian and Arabic keyboard, as `form` folds it, and both alphabets.
    "ضصثقفغعهخحجچ",
    "شسیبلاتنمکگط",
    "ظطزرذدپو",
    "ابپتثجچحخدذرزژسشصضطظعغفقکگلمنوهی",
    // The Russian keyboard.
    "йцукенгшщзхъ",
    "фывапролджэ",
    "ячсмитьбю",
];

/// Words of other scripts: Persian ones that people use as passwords, and the Russian ones of the leaked list.
const OTHER_WORDS: [&str; 20] = [
    "йцукен",
    "люблю",
    "любовь",
    "пароль",
    "привет",
    "ایران",
    "تهران",
    "خدا",
    "دوستت دارم",
    "رمز",
    "رمز عبور",
    "رمزعبور",
    "سلام",
    "عشق",
    "علی",
    "فاطمه",
    "محمد",
    "پسورد",
    "گذرواژه",
    "گذرواژه من",
];

static WORDS: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("common.txt").lines().chain(OTHER_WORDS).collect());

/// Searched where it is: 80 KB of text need no table.
const LEAKED: &str = include_str!("leaked.txt");

pub(super) fn is_common(password: &str) -> bool {
    let folded: String = password.to_lowercase().chars().map(form).collect();
    is_leaked(&folded) || is_repeated(&folded) || is_runs(&folded) || is_decorated_word(&folded)
}

/// Whether a line of [`LEAKED`] is this text, by halving the lines that may be it.
fn is_leaked(text: &str) -> bool {
    let mut rest = LEAKED;
    while !rest.is_empty() {
        // The file is ASCII, so every offset is a character's.
        let start = rest[..rest.len() / 2].rfind('\n').map_or(0, |at| at + 1);
        let line = rest[start..].split('\n').next().unwrap_or_default();
        match text.cmp(line) {
            Ordering::Equal => return true,
            Ordering::Less => rest = &rest[..start],
            Ordering::Greater => rest = rest.get(start + line.len() + 1..).unwrap_or_default(),
        }
    }
    false
}

/// Persian and Arabic digits as ASCII ones, and letters that an Arabic keyboard types otherwise as Persian ones.
fn form(character: char) -> char {
    match character {
        'ي' => 'ی',
        'ك' => 'ک',
        other => crate::phone::ascii_digit(other).unwrap_or(other),
    }
}

fn is_repeated(text: &str) -> bool {
    let characters: Vec<char> = text.chars().collect();
    (1..=REPEATED_MAX.min(characters.len() / 2))
        .any(|period| characters.iter().zip(&characters[period..]).all(|(one, next)| one == next))
}

/// Whether the text is nothing but runs: `12345678`, `abcd1234`, `1q2w3e4r`.
fn is_runs(text: &str) -> bool {
    let is_run = |part: &str| {
        let reversed: String = part.chars().rev().collect();
        part.chars().count() >= RUN_MIN
            && RUNS.iter().any(|run| run.contains(part) || run.contains(&reversed))
    };
    let between = |pair: [char; 2]| pair[0].is_ascii_digit() != pair[1].is_ascii_digit();
    let mut parts = vec![String::new()];
    let mut last = None;
    for character in text.chars() {
        if last.is_some_and(|last| between([last, character])) {
            parts.push(String::new());
        }
        parts.last_mut().expect("begins with one").push(character);
        last = Some(character);
    }
    is_run(text) || parts.iter().all(|part| is_run(part))
}

fn is_decorated_word(text: &str) -> bool {
    let is_word = |text: &str| WORDS.contains(text) || WORDS.contains(plain(text).as_str());
    if is_word(text) {
        return true;
    }
    let decoration = |character: char| !character.is_alphabetic();
    let characters: Vec<char> = text.chars().collect();
    let before = characters.iter().take_while(|character| decoration(**character)).count();
    let after = characters.iter().rev().take_while(|character| decoration(**character)).count();
    for first in 0..=before.min(DECORATION_MAX) {
        for last in 0..=after.min(DECORATION_MAX - first) {
            let Some(core) = characters.get(first..characters.len() - last) else { continue };
            if is_word(&core.iter().collect::<String>()) {
                return true;
            }
        }
    }
    false
}

/// Letters for the digits and signs that stand in for them.
fn plain(text: &str) -> String {
    let letter = |character| match character {
        '0' => 'o',
        '1' | '!' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        other => other,
    };
    text.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_lower_case_and_without_repeats() {
        let words: Vec<&str> = include_str!("common.txt").lines().collect();
        assert!(words.len() > 400);
        assert!(words.is_sorted() && WORDS.len() == words.len() + OTHER_WORDS.len());
        assert!(OTHER_WORDS.is_sorted() && OTHER_WORDS.iter().all(|word| *word == word.to_lowercase()));
        for word in words {
            assert!(word.len() >= 3 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'0'), "{word}");
        }
    }

    #[test]
    fn every_leaked_password_is_refused_in_any_case() {
        let listed: Vec<&str> = LEAKED.lines().collect();
        assert!(listed.len() > 8000 && listed.is_sorted() && LEAKED.is_ascii() && LEAKED.ends_with('\n'));
        for password in &listed {
            assert!(is_leaked(password) && is_common(&password.to_uppercase()), "{password}");
        }
        let (first, last) = (listed[0], listed[listed.len() - 1]);
        for other in ["", "!", "~~~~~~~~~", &first[..7], &format!("{last}x"), "kq3vzuxw", "a\nb"] {
            assert!(!is_leaked(other), "{other}");
        }
    }

    #[test]
    fn the_first_guesses_of_everybody_are_common() {
        for password in [
            "password",
            "Password1",
            "P@ssw0rd",
            "passw0rd!",
            "PASSWORD123",
            "12345678",
            "123456789",
            "87654321",
            "11111111",
            "00000000",
            "qwertyui",
            "qwertyuiop",
            "Qwerty123",
            "1q2w3e4r",
            "1qaz2wsx",
            "asdfghjkl",
            "abcd1234",
            "abcdefgh",
            "iloveyou",
            "iloveyou!",
            "sunshine1",
            "Football1",
            "princess",
            "superman",
            "letmein123",
            "welcome1",
            "Welcome2024",
            "admin123",
            "administrator",
            "trustno1",
            "dragon12",
            "baseball",
            "starwars",
            "computer",
            "michelle",
            "jennifer",
            "12121212",
            "abcabcabc",
            "passpass",
            "salamsalam",
            "perspolis",
            "mohammad123",
            "iran1234",
            "esteghlal",
            "۱۲۳۴۵۶۷۸",
            "123password",
            "aaaaaaaaaa",
            "changeme",
            "пароль123",
            "Йцукенгш",
            "ЙЦУКЕН12",
            "любовь2024",
            "привет!!",
            "ضصثقفغعه",
            "شسیبلاتن",
            "شسيبلاتنمك",
            "محمد۱۳۷۰",
            "سلام1234",
            "دوستت دارم",
            "رمزعبور1",
            "سلامسلام",
            "пїѕпїѕпїѕпїѕ",
            "zaq12wsx1qaz2wsx",
        ] {
            let expected = password != "zaq12wsx1qaz2wsx";
            assert_eq!(is_common(password), expected, "{password}");
        }
    }

    #[test]
    fn others_are_not() {
        for password in [
            "S3cure-pass-77",
            "correct horse battery",
            "dragon8374926194",
            "xkq92vzu",
            "81640293",
            "mypassword2b",
            "13700512",
            "kavir va darya",
            "رمز عبور خوب",
            "محمد و دریا",
            "кавир и море",
            "qwertyhorse",
            "",
            "a",
            "1",
            "12",
        ] {
            let expected = false;
            assert_eq!(is_common(password), expected, "{password}");
        }
    }
}
