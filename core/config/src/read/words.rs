//! The messages for mistakes of shape, each with its cure.

use crate::Config;

/// A key and the text of its value.
pub(super) struct Mistake<'a> {
    pub(super) key: &'a str,
    pub(super) found: Option<&'a str>,
}

/// The message for an unknown key or a value of the wrong type, derived from the parser's own message.
pub(super) fn wrong_key(mistake: &Mistake<'_>, message: &str, secret: bool) -> String {
    let named = backquoted(message);
    if let (Some(name), true) = (named.first(), message.starts_with("unknown field")) {
        return unknown_key(mistake.key, name, &named[1..]);
    }
    if let (Some(name), true) = (named.first(), message.starts_with("missing field")) {
        return format!("has no `{name}`, which is required");
    }
    if let (Some(name), true) = (named.first(), message.starts_with("unknown variant")) {
        let accepted: Vec<String> =
            by_distance(name, &named[1..]).iter().map(|name| format!("{name:?}")).collect();
        return format!("must be one of {}", accepted.join(", "));
    }
    let expected = message.rsplit_once("expected ").map_or(message, |(_, expected)| expected);
    let (accepted, number) = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" | "i64" if message.starts_with("invalid type") => {
            ("a whole number", true)
        }
        "u8" => ("a whole number from 0 to 255", false),
        "u32" => ("a whole number from 0 to 4294967295", false),
        "u16" | "u64" | "usize" | "i64" => ("a whole number, 0 or more", false),
        "a boolean" => ("true or false, without quotes", false),
        "a string" | "string" | "path string" => ("a text in double quotes", false),
        "a sequence" => ("a list in square brackets", false),
        "a map" | "map" => ("a table", false),
        "invalid socket address syntax" | "socket address" => {
            ("an address and a port, such as \"127.0.0.1:8000\"", false)
        }
        _ if expected.starts_with("struct ") => ("a table", false),
        other => (other, false),
    };
    let cure = match mistake.found.filter(|_| !secret) {
        Some(found) if number => digits_in(found).map(|digits| format!("; write {digits}")),
        Some(found) if expected == "a sequence" => Some(format!("; write [{found}]")),
        Some(found) if accepted.starts_with("a text") && !found.contains('"') => {
            Some(format!("; write \"{found}\""))
        }
        _ => None,
    };
    format!("must be {accepted}{}", cure.unwrap_or_default())
}

/// The message for text that is not TOML. `first`: the line where the same key first appears.
pub(super) fn wrong_syntax(
    mistake: &Mistake<'_>,
    message: &str,
    first: Option<usize>,
    secret: bool,
) -> String {
    if let Some(line) = first {
        return format!("duplicate key, first set on line {line}; remove one of the two");
    }
    let found = mistake.found.unwrap_or_default();
    if let Some(quote) = found.chars().find(|c| "“”„‟‘’‚«»".contains(*c)) {
        let straight: String = found.chars().map(|c| if "“”„‟‘’‚«»".contains(c) { '"' } else { c }).collect();
        let cure = if secret { String::new() } else { format!(": {straight}") };
        return format!("has the quotation mark {quote}; write straight ones{cure}");
    }
    if found.chars().any(|c| foreign_digit(c).is_some()) {
        let cure = digits_in(found).filter(|_| !secret).map(|digits| format!("; write {digits}"));
        return format!("has digits that are not 0 to 9{}", cure.unwrap_or_default());
    }
    let message = message.replace('\n', "; ");
    if mistake.found == Some("") {
        return format!("has no value ({message}); write \"\" for an empty text");
    }
    format!("is not TOML: {message}")
}

fn unknown_key(key: &str, name: &str, accepted: &[&str]) -> String {
    let section = key.strip_suffix(name).unwrap_or_default().trim_end_matches('.');
    let mut text = match section {
        "" => "is not a section of this file".to_owned(),
        section => format!("is not a key of [{section}]"),
    };
    let nearest = by_distance(name, accepted);
    let elsewhere = sections_with(name);
    if let Some(first) = nearest.first().filter(|first| is_near(name, first)) {
        text.push_str(&format!("; did you mean `{first}`?"));
    } else if !elsewhere.is_empty() {
        text.push_str(&format!("; it belongs in {}", elsewhere.join(" or ")));
    } else if section.starts_with("provider.") && section.split('.').count() == 2 {
        text.push_str(&format!("; settings of the plugin belong in [{section}.settings]"));
    }
    if nearest.is_empty() {
        return text;
    }
    let names: Vec<String> = nearest.iter().map(|name| format!("`{name}`")).collect();
    format!("{text}{} known are {}", if text.ends_with('?') { "" } else { ";" }, names.join(", "))
}

/// The sections that have a key of this name.
fn sections_with(name: &str) -> Vec<String> {
    let Ok(sections) = toml::Table::try_from(Config::default()) else { return Vec::new() };
    let has = |keys: &toml::Value| keys.as_table().is_some_and(|keys| keys.contains_key(name));
    sections.iter().filter(|(_, keys)| has(keys)).map(|(section, _)| format!("[{section}]")).collect()
}

/// Whether the file has a key of this path, and the key has a value by default.
pub(super) fn is_key(path: &[String]) -> bool {
    let Ok(all) = toml::Value::try_from(Config::default()) else { return false };
    let found = path.iter().try_fold(&all, |table, name| table.as_table()?.get(name));
    found.is_some_and(|value| !value.is_table())
}

/// Sorts by edit distance, nearest first.
fn by_distance<'a>(name: &str, names: &[&'a str]) -> Vec<&'a str> {
    let mut names = names.to_vec();
    names.sort_by_key(|other| distance(name, other));
    names
}

/// Returns true when one name may be a slip of the other: at most two characters or a third of it differ, or one is a
/// prefix of the other.
pub(crate) fn is_near(name: &str, other: &str) -> bool {
    let longer = name.chars().count().max(other.chars().count());
    longer >= 4 && distance(name, other) <= (longer / 3).max(2)
        || (name.len() >= 4 && other.starts_with(name))
}

/// The Levenshtein distance: characters to insert, remove or replace.
pub(crate) fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

fn backquoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

/// The whole number that a text was meant to be, in ASCII digits.
fn digits_in(text: &str) -> Option<String> {
    let bare = text.trim_matches(|c: char| c.is_whitespace() || "\"'“”„‟‘’‚«»".contains(c));
    let bare = bare.strip_suffix(".0").unwrap_or(bare);
    let digits: Option<String> =
        bare.chars().map(|c| if c.is_ascii_digit() { Some(c) } else { foreign_digit(c) }).collect();
    digits.filter(|digits| !digits.is_empty() && digits != text)
}

/// The value of a Persian or Arabic digit.
fn foreign_digit(c: char) -> Option<char> {
    let value = match c {
        '\u{6f0}'..='\u{6f9}' => c as u32 - 0x6f0,
        '\u{660}'..='\u{669}' => c as u32 - 0x660,
        _ => return None,
    };
    char::from_digit(value, 10)
}
