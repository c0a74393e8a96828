//! The text of a configuration file, and the line of each key.

use std::path::PathBuf;

use super::Problem;

/// The text of a configuration file, kept to find the line of a key.
pub struct Source {
    pub path: PathBuf,
    pub(super) text: String,
    pub(super) document: Option<toml_edit::Document<String>>,
}

impl Source {
    /// A problem at a dotted key; the nearest table that exists gives the line when the key itself is not in
    /// the file.
    pub fn problem(&self, key: &str, found: Option<String>, message: impl Into<String>) -> Problem {
        Problem {
            file: self.path.clone(),
            line: self.line_of_key(key),
            key: key.to_owned(),
            found,
            message: message.into(),
        }
    }

    fn line_of_key(&self, key: &str) -> Option<usize> {
        let document = self.document.as_ref()?;
        let mut item: &toml_edit::Item = document.as_item();
        let mut span = None;
        for part in key.split('.') {
            let table = item.as_table_like()?;
            let Some((name, next)) = table.get_key_value(part) else { break };
            span = name.span().or_else(|| next.span()).or(span);
            item = next;
        }
        span.map(|span| self.line_at(span.start))
    }

    pub(super) fn line_at(&self, offset: usize) -> usize {
        self.text.as_bytes()[..offset.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
    }
}
