//! Reading, locating and checking a configuration file.
//!
//! Every problem names file, line, key, found value and accepted values. Mistakes of shape (syntax, unknown keys,
//! wrong types) are reported together; values are checked only when there are none. A secret's value never appears in
//! a problem.

mod problem;

mod source;

mod document;
mod shape;
mod words;

mod check;

#[cfg(test)]
mod tests;

use std::path::Path;

pub(crate) use check::Checker;
pub use problem::{Problem, Problems};
pub use source::Source;
pub(crate) use words::{distance, is_near};

use crate::setting::resolve_setting;
use crate::{Config, SettingSource};

/// A configuration that passed every check that needs no plugin.
pub struct Loaded {
    pub config: Config,
    pub source: Source,
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// Errors: [`Problems`] when the file cannot be read, is not TOML, has an unknown key, or holds a value that is
    /// not accepted.
    pub fn load(path: &Path) -> Result<Loaded, Problems> {
        let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
        Config::parse_bytes(path, bytes)
    }

    /// [`Config::load`] on bytes that are already in memory.
    pub fn parse_bytes(path: &Path, bytes: Vec<u8>) -> Result<Loaded, Problems> {
        let text = String::from_utf8(bytes)
            .map_err(|error| not_utf8(path, error.as_bytes(), &error.utf8_error()))?;
        Config::parse(path, text)
    }

    /// [`Config::load`] on a text that is already in memory.
    pub fn parse(path: &Path, text: String) -> Result<Loaded, Problems> {
        let source = Source { path: path.to_owned(), document: document::parse(&text), text };
        let config = shape::read(&source)?;
        let mut checker = Checker { source: &source, problems: Vec::new(), warnings: Vec::new() };
        checker.check(&config);
        let Checker { mut problems, warnings, .. } = checker;
        problems.sort_by_key(|problem| problem.line);
        if problems.is_empty() { Ok(Loaded { config, source, warnings }) } else { Err(Problems(problems)) }
    }
}

/// The problem of a file that cannot be read at all.
pub fn unreadable(path: &Path, error: &std::io::Error) -> Problems {
    Problems(vec![Problem {
        file: path.to_owned(),
        line: None,
        key: String::new(),
        found: None,
        message: format!("cannot be read: {error}; name another file with --config PATH"),
    }])
}

fn not_utf8(path: &Path, bytes: &[u8], error: &std::str::Utf8Error) -> Problems {
    let at = error.valid_up_to();
    Problems(vec![Problem {
        file: path.to_owned(),
        line: Some(bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1),
        key: String::new(),
        found: Some(format!("byte 0x{:02x} at offset {at}", bytes[at])),
        message: "is not UTF-8; save the file as UTF-8".to_owned(),
    }])
}

impl Loaded {
    /// Reads what only a start uses: the addresses and keys of the store, the bus and the bucket. A reload that accepts
    /// a file without them would leave a gateway that does not start again.
    ///
    /// # Errors
    ///
    /// Every source that is missing or holds no address.
    pub fn start_sources(&self) -> Result<(), Problems> {
        let read = [self.store_place().err(), self.bus_place().err(), self.files_place().err()];
        let problems: Vec<_> = read.into_iter().flatten().flat_map(|problems| problems.0).collect();
        if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
    }

    pub fn resolve(&self, source: &SettingSource) -> Result<String, String> {
        resolve_setting(source, &self.source.path)
    }
}
