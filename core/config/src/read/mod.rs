//! Reading, locating and checking a configuration file.
//!
//! Every problem names file, line, key, the value that was found and what is accepted. Shape errors (TOML
//! syntax, unknown keys, wrong types) come from the parser one at a time; the checks of values report all of
//! theirs together. A secret's value never appears in a problem.

mod check;
mod problem;
mod shape;
mod source;
#[cfg(test)]
mod tests;

use std::path::Path;

pub(crate) use check::Checker;
pub use problem::{Problem, Problems};
pub use source::Source;

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
    /// Errors: [`Problems`], when it cannot be read, is not TOML, has a key that is not known, or a value that
    /// is not accepted.
    pub fn load(path: &Path) -> Result<Loaded, Problems> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Problems(vec![Problem {
                file: path.to_owned(),
                line: None,
                key: String::new(),
                found: None,
                message: format!("cannot be read: {error}; name another file with --config PATH"),
            }])
        })?;
        Config::parse(path, text)
    }

    /// [`Config::load`] on a text that was already read.
    pub fn parse(path: &Path, text: String) -> Result<Loaded, Problems> {
        let source =
            Source { path: path.to_owned(), document: toml_edit::Document::parse(text.clone()).ok(), text };
        let config: Config =
            toml::from_str(&source.text).map_err(|error| Problems(vec![source.shape_problem(&error)]))?;
        let mut checker = Checker { source: &source, problems: Vec::new(), warnings: Vec::new() };
        checker.check(&config);
        let Checker { problems, warnings, .. } = checker;
        if problems.is_empty() { Ok(Loaded { config, source, warnings }) } else { Err(Problems(problems)) }
    }
}

impl Loaded {
    pub fn resolve(&self, source: &SettingSource) -> Result<String, String> {
        resolve_setting(source, &self.source.path)
    }
}
