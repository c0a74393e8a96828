//! What is wrong with a file's shape: syntax, unknown keys, wrong types.

use super::{Problem, Source};

impl Source {
    /// Turns a parser's error into a problem: its span gives the line, the line gives the key.
    pub(super) fn shape_problem(&self, error: &toml::de::Error) -> Problem {
        let line = error.span().map(|span| self.line_at(span.start));
        let (mut key, mut found) = (String::new(), None);
        if let Some(line) = line {
            let lines: Vec<&str> = self.text.lines().collect();
            let table = lines[..line.min(lines.len())]
                .iter()
                .rev()
                .map(|line| line.trim())
                .find(|line| line.starts_with('['))
                .map(|line| line.trim_start_matches('[').split(']').next().unwrap_or("").trim().to_owned());
            let text = lines.get(line - 1).copied().unwrap_or("").trim();
            let table = table.unwrap_or_default();
            key = match text.split_once('=') {
                Some((name, value)) if !text.starts_with('[') && !text.starts_with('#') => {
                    // A value under `settings` may be a secret: it is never repeated.
                    if !table.contains("settings")
                        && !table.starts_with("provider")
                        && !table.starts_with("webhooks")
                    {
                        found = Some(value.split(" #").next().unwrap_or(value).trim().to_owned());
                    }
                    if table.is_empty() { name.trim().to_owned() } else { format!("{table}.{}", name.trim()) }
                }
                _ => table,
            };
        }
        Problem { file: self.path.clone(), line, key, found, message: error.message().replace('\n', "; ") }
    }
}
