//! Mistakes in a file's shape: syntax, unknown keys, wrong types.
//!
//! The parser stops at the first mistake. Each mistake is therefore recorded, its key is blanked out in a copy of the
//! text, and the copy is parsed again. Blanking keeps every offset, so line numbers stay correct. A secret is never
//! repeated.

use std::ops::Range;

use super::words::{self, Mistake};
use super::{Problem, Problems, Source, document};
use crate::Config;

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
    let problem = Problem {
        file: source.path.clone(),
        line: Some(source.line_at(place.start.unwrap_or(offset))),
        found: found.filter(|_| !is_secret(&place.path)).map(str::to_owned),
        message: words::wrong_key(&mistake, message, is_secret(&place.path)),
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
    let header = line.trim().trim_start_matches('[').trim_end_matches(']').trim();
    let key = match (table, pair) {
        (_, None) if line.trim_start().starts_with('[') => header.to_owned(),
        (None | Some(""), Some((name, _))) => name.trim().to_owned(),
        (Some(table), Some((name, _))) => format!("{table}.{}", name.trim()),
        (table, None) => table.unwrap_or_default().to_owned(),
    };
    let path: Vec<String> = key.split('.').map(str::to_owned).collect();
    let secret = is_secret(&path);
    let value = pair.map(|(_, value)| value.split(" #").next().unwrap_or(value).trim());
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

/// Returns true when a value may be a secret: any value in a provider entry, and any key material.
fn is_secret(path: &[String]) -> bool {
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
