//! The port to what an operator keeps in order besides records: the configuration file, components, backups, and the
//! health of ledger and machine.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;

use super::doctor::Finding;
use crate::Timestamp;

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

/// A component in the plugins folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentSeen {
    pub name: String,
    pub bytes: u64,
    /// The provider entries that use it.
    pub used_by: Vec<String>,
    /// The component before it is kept, and can be put back.
    pub has_before: bool,
}

/// A recomputation of the ledger: it runs beside the gateway, on a copy of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerCheck {
    /// None since the start.
    Never,
    Running {
        since: Timestamp,
        phase: LedgerPhase,
        /// Bytes of the copy so far.
        copied_bytes: u64,
    },
    Done {
        at: Timestamp,
        /// How long it took.
        seconds: u64,
        /// The counts, or the first difference, or why it could not be recomputed.
        outcome: Result<LedgerCounts, String>,
    },
}

/// What a recomputation is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerPhase {
    Copying,
    Reading,
    Recomputing,
}

/// What a recomputed ledger holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerCounts {
    pub postings: u64,
    pub accounts: u64,
    pub payments: u64,
    /// What all users have, in rial.
    pub users_total: u64,
    /// The hash of the last posting, in hexadecimal digits.
    pub head: String,
}

#[derive(Debug, thiserror::Error)]
pub enum HouseError {
    /// The configuration's problems, each with its line.
    #[error("the configuration is refused")]
    Refused(Vec<String>),
    /// The file changed since it was shown, or another gateway entered an edit that this one has not made.
    #[error("something was edited meanwhile, here or at another gateway; look again")]
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

    /// The components of the plugins folder, by name.
    ///
    /// # Errors
    ///
    /// [`HouseError::Failed`] when the folder cannot be read.
    fn components(&self) -> Result<Vec<ComponentSeen>, HouseError>;

    /// The largest accepted component, in bytes.
    fn component_bytes_max(&self) -> u64;

    /// Checks a component, puts it in the place of the one of this name, and waits until its providers serve it.
    /// Returns its digest.
    ///
    /// # Errors
    ///
    /// See [`HouseError`]. A component that does not come to serve is taken back.
    async fn component_put(&self, name: &str, bytes: Vec<u8>) -> Result<String, HouseError>;

    /// Puts the component before back. Returns its digest.
    ///
    /// # Errors
    ///
    /// See [`HouseError`]; nothing changed then.
    async fn component_back(&self, name: &str) -> Result<String, HouseError>;

    /// Begins to recompute the ledger; false while it is being recomputed.
    fn ledger_check_start(&self) -> bool;

    /// The last recomputation of the ledger.
    fn ledger_check(&self) -> LedgerCheck;

    /// Examines the gateway and its machine, worst first.
    ///
    /// # Errors
    ///
    /// [`HouseError::Failed`] while the gateway stops.
    async fn doctor(&self) -> Result<Vec<Finding>, HouseError>;
}
