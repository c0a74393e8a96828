//! Reading the configuration for a command.

use std::path::Path;

use crate::config::{Config, Loaded};

/// Reads and checks the configuration file.
///
/// Errors: every problem of the file, one a line.
pub(super) fn load(config_file: &Path) -> Result<Loaded, String> {
    Config::load(config_file).map_err(|problems| problems.to_string())
}
