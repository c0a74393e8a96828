//! The text of a configuration file, and the line of each key.

use std::path::PathBuf;

use super::{Problem, document};
use crate::shown;

/// The text of a configuration file, kept to find the line of a key.
pub struct Source {
    pub path: PathBuf,
    pub(super) text: String,
    pub(super) document: Option<document::Document>,
}

impl Source {
    /// Whether it was read from these bytes.
    #[must_use]
    pub fn is(&self, bytes: &[u8]) -> bool {
        self.text.as_bytes() == bytes
    }

    /// Builds a problem at a dotted key. A key that is not in the file gets the line of its nearest existing table. An
    /// address that holds a user or a password is not repeated.
    pub fn problem(&self, key: &str, found: Option<String>, message: impl Into<String>) -> Problem {
        let found = found.map(|found| match shown::has_credentials(&found) {
            true => "an address with a user or a password".to_owned(),
            false => found,
        });
        Problem {
            file: self.path.clone(),
            line: self.line_of_key(key),
            key: key.to_owned(),
            found,
            message: message.into(),
        }
    }

    fn line_of_key(&self, key: &str) -> Option<usize> {
        let (start, _) = document::find(self.document.as_ref()?, key);
        start.map(|start| self.line_at(start))
    }

    /// The line of a table's header, if the file has that table.
    pub fn line_of_table(&self, key: &str) -> Option<usize> {
        match document::find(self.document.as_ref()?, key) {
            (Some(start), true) => Some(self.line_at(start)),
            _ => None,
        }
    }

    pub(super) fn line_at(&self, offset: usize) -> usize {
        self.text.as_bytes()[..offset.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
    }
}
