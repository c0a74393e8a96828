//! Mistakes in a file's shape: syntax, unknown keys, wrong types.
//!
//! The parser stops at the first mistake. Each mistake is therefore recorded, its key is blanked out in a copy of the
//! text, and the copy is parsed again. Blanking keeps every offset, so line numbers stay correct.
//!
//! Problems reach the log, the audit log and the status, so a secret is never repeated. A mistake may be the very thing
//! that hides one: a misspelt key, a missing quote, the wrong table. Therefore a value is shown only where its key is
//! known and takes no secret, or where it is a number or the like (see [`hides`]).

use std::ops::Range;

use super::words::{self, Mistake};
use super::{Problem, Problems, Source, document};
use crate::{Config, shown};

/// Most mistakes reported at once.
const PROBLEMS_MAX: usize = 20;

/// Parses the file, or reports every mistake of its shape.
pub(super) fn read(source: &Source) -> Result<Config, Problems> {
    let mut text = source.text.clone();
    let mut problems: Vec<Problem> = Vec::new();
    loop {
        let error = match toml::from_str::<Config>(&text) {
            Ok(config) if problems.is_empty() => return Ok(config),
            Ok(_) => break,
            Err(error) => error,
        };
        let at = error.span().unwrap_or(0..0);
        let whole = document::parse(&text);
        // Blanking a key can break a correct file; that is not the author's mistake.
        if whole.is_none() && source.document.is_some() {
            break;
        }
        let (problem, blank) = match whole {
            Some(whole) => wrong_key(source, &whole, at.start, error.message()),
            None => wrong_syntax(source, at.start, error.message()),
        };
        problems.push(problem);
        match blank {
            Some(range) if problems.len() < PROBLEMS_MAX => blank_out(&mut text, range),
            _ => break,
        }
    }
    problems.sort_by_key(|problem| problem.line);
    Err(Problems(problems))
}

/// Reports an unknown key or a value of the wrong type.
fn wrong_key(
    source: &Source,
    whole: &document::Document,
    offset: usize,
    message: &str,
) -> (Problem, Option<Range<usize>>) {
    let place = document::at(whole, offset);
    let key = place.key();
    let found = place.value.clone().map(|range| source.text[range].lines().next().unwrap_or_default().trim());
    let mistake = Mistake { key: &key, found };
    let hidden = hides(&place.path, found.unwrap_or_default(), !message.starts_with("unknown field"));
    let problem = Problem {
        file: source.path.clone(),
        line: Some(source.line_at(place.start.unwrap_or(offset))),
        found: found.filter(|_| !hidden).map(str::to_owned),
        message: words::wrong_key(&mistake, message, hidden),
        key,
    };
    let missing = message.starts_with("missing field");
    let blank = match (place.start, place.value) {
        // The table lacks a key, so there is no value to blank; the rest of the table is still read.
        _ if missing => None,
        (Some(start), Some(value)) => Some(start..value.end),
        (Some(_), None) => Some(table_lines(&source.text, offset)),
        _ => None,
    };
    (problem, blank)
}

/// Reports text that is not TOML.
fn wrong_syntax(source: &Source, offset: usize, message: &str) -> (Problem, Option<Range<usize>>) {
    let line_start = source.text[..offset.min(source.text.len())].rfind('\n').map_or(0, |at| at + 1);
    // When a line ends too early, the parser points behind its line break.
    let line_start = match source.text[line_start..].lines().next().unwrap_or_default().trim() {
        "" => source.text[..line_start].trim_end().rfind('\n').map_or(0, |at| at + 1),
        _ => line_start,
    };
    let line = source.text[line_start..].lines().next().unwrap_or_default();
    let table = source.text[..line_start].lines().rev().map(str::trim).find(|line| line.starts_with('['));
    let table = table.map(|line| line.trim_start_matches('[').split(']').next().unwrap_or("").trim());
    let pair = line.split_once('=').filter(|_| !line.trim_start().starts_with(['[', '#']));
    // Where the first `=` is missing, what is before the next one holds the value, too.
    let pair = pair.map(|(name, value)| (name.split_whitespace().next().unwrap_or_default(), value));
    let header = line.trim().trim_start_matches('[').trim_end_matches(']').trim();
    let key = match (table, pair) {
        (_, None) if line.trim_start().starts_with('[') => header.to_owned(),
        (None | Some(""), Some((name, _))) => name.to_owned(),
        (Some(table), Some((name, _))) => format!("{table}.{name}"),
        (table, None) => table.unwrap_or_default().to_owned(),
    };
    let path: Vec<String> = key.split('.').map(str::to_owned).collect();
    let value = pair.map(|(_, value)| value.split(" #").next().unwrap_or(value).trim());
    let secret = hides(&path, value.unwrap_or_default(), words::is_key(&path));
    let first = message.contains("duplicate key").then(|| first_line(source, line_start, &key)).flatten();
    let message = words::wrong_syntax(&Mistake { key: &key, found: value }, message, first, secret);
    let problem = Problem {
        file: source.path.clone(),
        line: Some(source.line_at(line_start)),
        key,
        found: value.filter(|value| !secret && !value.is_empty()).map(str::to_owned),
        message,
    };
    // Only a pair that ends on its line can be blanked without changing what follows.
    let whole = value.is_some_and(|value| {
        let open = |from, to| value.matches(from).count() > value.matches(to).count();
        !value.contains("\"\"\"") && !value.contains("'''") && !open('[', ']') && !open('{', '}')
    });
    (problem, whole.then(|| line_start..line_start + line.len()))
}

/// The line where a duplicate key first appears.
fn first_line(source: &Source, second: usize, key: &str) -> Option<usize> {
    let before = document::parse(&source.text[..second])?;
    let (start, whole) = document::find(&before, key);
    start.filter(|_| whole).map(|start| source.line_at(start))
}

/// The lines from a table's header to the next header.
fn table_lines(text: &str, offset: usize) -> Range<usize> {
    let start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    let mut end = start;
    for (index, line) in text[start..].split_inclusive('\n').enumerate() {
        if index > 0 && line.trim_start().starts_with('[') {
            break;
        }
        end += line.len();
    }
    start..end
}

fn blank_out(text: &mut String, range: Range<usize>) {
    let blank = |byte| if byte == b'\n' { '\n' } else { ' ' };
    let blanked: String = text[range.clone()].bytes().map(blank).collect();
    text.replace_range(range, &blanked);
}

/// Returns true when a value may be a secret, and is not shown. `known`: the key exists, so what it takes is known.
fn hides(path: &[String], found: &str, known: bool) -> bool {
    if may_hold_secret(path) || shown::has_credentials(found) {
        return true;
    }
    !is_plain(found) && (!known || shown::has_secret_name(path) || takes_source(path))
}

/// Any value in a provider's entry, and any key material.
fn may_hold_secret(path: &[String]) -> bool {
    const PROVIDER: [&str; 5] = ["plugin", "kind", "hosts", "concurrency_max", "rate_per_second"];
    const ENDPOINT: [&str; 3] = ["url", "events", "hosts"];
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path[..] {
        ["provider", _, key] => !PROVIDER.contains(&key),
        ["provider", ..] => true,
        ["webhooks", "endpoints", _, key] => !ENDPOINT.contains(&key),
        ["webhooks", "endpoints", ..] => true,
        ["auth", key, ..] => ["otp_test_numbers", "token_key", "token_keys_old"].contains(&key),
        _ => false,
    }
}

/// Whether a key takes `{ env = .. }` or `{ file = .. }`, outside of what [`may_hold_secret`] names.
fn takes_source(path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path[..] {
        ["store" | "bus", key] => key == "url",
        ["files", "s3", key] => key.contains("key"),
        ["auth", key] => key.contains("secret"),
        _ => false,
    }
}

/// Whether a value is a number, perhaps with a unit, or a word for yes and no: too little to be a secret, and what a
/// mistake of type looks like. Foreign digits and quotation marks belong to it.
fn is_plain(found: &str) -> bool {
    let bare = found.trim_matches(|c: char| c.is_whitespace() || "\"'“”„‟‘’‚«»".contains(c));
    let words = ["true", "false", "yes", "no", "on", "off", "null", "none"];
    if bare.is_empty() || words.iter().any(|word| bare.eq_ignore_ascii_case(word)) {
        return true;
    }
    let is_number = |c: char| c.is_numeric() || "+-_.,:[] ".contains(c);
    let unit = bare.trim_start_matches(is_number);
    unit.len() < bare.len() && unit.chars().count() <= 3 && bare.chars().count() <= 24
}
