//! The configuration file, the order of providers, backups, the ledger's recomputation, and the doctor.

use std::path::Path;

use super::Desk;
use crate::operator::audit::{AuditEvent, AuditKind};
use crate::operator::doctor::Finding;
use crate::operator::house::{
    BackupCounts, ComponentSeen, ConfigChecked, ConfigSeen, HouseError, LedgerCheck,
};
use crate::operator::role::{
    BackupRead, BackupWrite, ConfigRead, ConfigWrite, LedgerVerify, OverviewRead, Permit, PluginWrite,
    Reason, WalletRead,
};

/// Characters of a refusal in the audit log.
const REFUSAL_CHARS_MAX: usize = 300;

impl Desk {
    /// The configuration file without secrets.
    ///
    /// # Errors
    ///
    /// See [`HouseError`].
    pub async fn config(&self, _permit: &Permit<ConfigRead>) -> Result<ConfigSeen, HouseError> {
        self.services.house.config().await
    }

    /// Checks a configuration as `check` does, and changes nothing.
    ///
    /// # Errors
    ///
    /// See [`HouseError`].
    pub async fn config_check(
        &self,
        _permit: &Permit<ConfigWrite>,
        text: &str,
    ) -> Result<ConfigChecked, HouseError> {
        self.services.house.config_check(text).await
    }

    /// Writes a configuration and makes it serve, as a whole or not at all.
    ///
    /// # Errors
    ///
    /// See [`HouseError`]; nothing changed then.
    pub async fn config_apply(
        &self,
        permit: &Permit<ConfigWrite>,
        text: &str,
        mark: &str,
        reason: &Reason,
    ) -> Result<(), HouseError> {
        self.services.house.config_apply(text, mark).await?;
        let event = AuditEvent::by(permit.operator(), AuditKind::ConfigChanged).subject("configuration file");
        self.audit().record(event.change(mark, "edited").reason(reason));
        Ok(())
    }

    /// Moves a provider one place in the order of messages.
    ///
    /// # Errors
    ///
    /// See [`HouseError`]; nothing changed then.
    pub async fn provider_move(
        &self,
        permit: &Permit<ConfigWrite>,
        name: &str,
        earlier: bool,
        reason: &Reason,
    ) -> Result<(), HouseError> {
        let (text, mark) = self.services.house.provider_moved(name, earlier).await?;
        self.services.house.config_apply(&text, &mark).await?;
        let event = AuditEvent::by(permit.operator(), AuditKind::ConfigChanged).subject(name);
        let place = if earlier { "one place earlier" } else { "one place later" };
        self.audit().record(event.change("", place).reason(reason));
        Ok(())
    }

    /// Writes a backup. Must run to its end once begun.
    ///
    /// # Errors
    ///
    /// See [`HouseError`].
    pub async fn backup_write(
        &self,
        permit: &Permit<BackupWrite>,
        folder: &Path,
    ) -> Result<BackupCounts, HouseError> {
        let counts = self.services.house.backup_write(folder).await?;
        let event = AuditEvent::by(permit.operator(), AuditKind::BackupWritten).subject(folder.display());
        self.audit().record(event.change("", format!("{} records", counts.amount)));
        Ok(counts)
    }

    /// Verifies a backup.
    ///
    /// # Errors
    ///
    /// See [`HouseError`].
    pub async fn backup_verify(
        &self,
        _permit: &Permit<BackupWrite>,
        folder: &Path,
    ) -> Result<BackupCounts, HouseError> {
        self.services.house.backup_verify(folder).await
    }

    /// Backups that the audit log knows, newest first.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn backups(
        &self,
        _permit: &Permit<BackupRead>,
        limit: usize,
    ) -> Result<crate::operator::audit::AuditPage, chelseru_store::StoreError> {
        let event = Some(AuditKind::BackupWritten.as_str().to_owned());
        let query = crate::operator::audit::AuditQuery { event, limit, ..Default::default() };
        self.audit().page(query).await
    }

    /// The components of the plugins folder, by name.
    ///
    /// # Errors
    ///
    /// See [`HouseError`].
    pub fn components(&self, _permit: &Permit<ConfigRead>) -> Result<Vec<ComponentSeen>, HouseError> {
        self.services.house.components()
    }

    /// The largest accepted component, in bytes.
    #[must_use]
    pub fn component_bytes_max(&self) -> u64 {
        self.services.house.component_bytes_max()
    }

    /// Replaces a component by an uploaded one, or adds it. Must run to its end once begun. Returns its digest.
    ///
    /// # Errors
    ///
    /// See [`HouseError`]. A component that does not come to serve is taken back.
    pub async fn component_put(
        &self,
        permit: &Permit<PluginWrite>,
        name: &str,
        bytes: Vec<u8>,
        reason: &Reason,
    ) -> Result<String, HouseError> {
        let put = self.services.house.component_put(name, bytes).await;
        let digest = put.inspect_err(|error| self.note_refused(permit, name, reason, error))?;
        let event = AuditEvent::by(permit.operator(), AuditKind::PluginChanged).subject(name);
        self.audit().record(event.change("", format!("uploaded, blake3 {digest}")).reason(reason));
        Ok(digest)
    }

    /// Puts the component before back. Must run to its end once begun. Returns its digest.
    ///
    /// # Errors
    ///
    /// See [`HouseError`]; nothing changed then.
    pub async fn component_back(
        &self,
        permit: &Permit<PluginWrite>,
        name: &str,
        reason: &Reason,
    ) -> Result<String, HouseError> {
        let back = self.services.house.component_back(name).await;
        let digest = back.inspect_err(|error| self.note_refused(permit, name, reason, error))?;
        let event = AuditEvent::by(permit.operator(), AuditKind::PluginChanged).subject(name);
        self.audit().record(event.change("", format!("rolled back, blake3 {digest}")).reason(reason));
        Ok(digest)
    }

    /// Records a component that was refused, with who brought it and why it was refused.
    fn note_refused(&self, permit: &Permit<PluginWrite>, name: &str, reason: &Reason, error: &HouseError) {
        let HouseError::Refused(problems) = error else { return };
        let problems: String = problems.join("; ").chars().take(REFUSAL_CHARS_MAX).collect();
        let event = AuditEvent::by(permit.operator(), AuditKind::PluginRefused).subject(name);
        let detail = format!("{}: {problems}", event.detail);
        self.audit().record(event.detail(detail).reason(reason));
    }

    /// Begins to recompute the ledger; false while it is being recomputed.
    pub fn ledger_check_start(&self, permit: &Permit<LedgerVerify>) -> bool {
        let started = self.services.house.ledger_check_start();
        if started {
            self.audit()
                .record(AuditEvent::by(permit.operator(), AuditKind::LedgerVerified).subject("ledger"));
        }
        started
    }

    /// The last recomputation of the ledger.
    pub fn ledger_check(&self, _permit: &Permit<WalletRead>) -> LedgerCheck {
        self.services.house.ledger_check()
    }

    /// Examines the gateway and its machine, worst first.
    ///
    /// # Errors
    ///
    /// See [`HouseError`].
    pub async fn doctor(&self, _permit: &Permit<OverviewRead>) -> Result<Vec<Finding>, HouseError> {
        self.services.house.doctor().await
    }
}
