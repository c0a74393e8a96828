//! Problems of a configuration file, with their positions.

use std::fmt;
use std::path::PathBuf;

/// One error or warning.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    pub file: PathBuf,
    /// Counted from 1; `None` when the key is not in the file.
    pub line: Option<usize>,
    /// Dotted: `auth.otp_length`.
    pub key: String,
    /// `None` when the value is missing or secret.
    pub found: Option<String>,
    /// What is wrong, and what is accepted.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        if let Some(found) = &self.found {
            write!(f, " = {found}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// All problems of a file, at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
