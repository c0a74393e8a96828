//! The port to what an operator keeps in order besides records: the configuration file, and backups.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;

/// The configuration file as it is, and what serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigSeen {
    pub file: String,
    /// Without secrets; empty when the file cannot be read as TOML.
    pub text: String,
    /// Names the file's content; an edit of another content is refused.
    pub mark: String,
    pub generation: u64,
    /// Why the file on disk does not serve, with its lines.
    pub refused: Option<String>,
    /// Changed keys that wait for a restart.
    pub restart_keys: Vec<String>,
    /// The providers of messages, in the order in which they are asked.
    pub order: Vec<String>,
    /// The settings of each provider's entry, without secrets.
    pub settings: BTreeMap<String, Vec<(String, String)>>,
    /// What the last edit at the console replaced, without secrets.
    pub before: Option<String>,
}

/// A configuration that would be accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigChecked {
    /// Keys that would wait for a restart.
    pub restart_keys: Vec<String>,
    pub warnings: Vec<String>,
}

/// Counts of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupCounts {
    pub files: u64,
    /// Records of a written backup, bytes of a verified one.
    pub amount: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum HouseError {
    /// The configuration's problems, each with its line.
    #[error("the configuration is refused")]
    Refused(Vec<String>),
    /// The file changed since it was shown.
    #[error("the configuration file changed meanwhile")]
    Stale,
    /// A text for the operator.
    #[error("{0}")]
    Failed(String),
}

/// Implemented by the gateway.
#[async_trait]
pub trait House: Send + Sync {
    /// # Errors
    ///
    /// [`HouseError::Failed`] when the file cannot be read.
    async fn config(&self) -> Result<ConfigSeen, HouseError>;

    /// Prepares a text as an edit of the file and changes nothing. Hidden secrets stand for those of the file.
    ///
    /// # Errors
    ///
    /// [`HouseError::Refused`], [`HouseError::Failed`].
    async fn config_check(&self, text: &str) -> Result<ConfigChecked, HouseError>;

    /// Writes a checked text to the file and waits until it serves. `mark` is the content that the operator saw.
    ///
    /// # Errors
    ///
    /// See [`HouseError`]. A text that does not come to serve is taken back.
    async fn config_apply(&self, text: &str, mark: &str) -> Result<(), HouseError>;

    /// The text of the file with a provider one place earlier or later.
    ///
    /// # Errors
    ///
    /// [`HouseError::Failed`] when the order has no such provider.
    async fn provider_moved(&self, name: &str, earlier: bool) -> Result<(String, String), HouseError>;

    /// Writes a backup into a folder that does not exist yet.
    ///
    /// # Errors
    ///
    /// [`HouseError::Failed`]; the partial backup is removed.
    async fn backup_write(&self, folder: &Path) -> Result<BackupCounts, HouseError>;

    /// Verifies every file of a backup.
    ///
    /// # Errors
    ///
    /// [`HouseError::Failed`] names the first file that differs.
    async fn backup_verify(&self, folder: &Path) -> Result<BackupCounts, HouseError>;
}
