//! The domain's login services: built once, and kept under each configuration.

use std::sync::Arc;

use chelseru_config::rules::{identity_rules, otp_rules};
use chelseru_domain::Checked;
use chelseru_domain::clock::Clock;
use chelseru_domain::ids::LocalIds;
use chelseru_domain::login::identity::{Identity, IdentityRules};
use chelseru_domain::login::otp::{OtpRules, OtpService};
use chelseru_domain::login::token::Tokens;
use chelseru_domain::operator::audit::Audit;
use chelseru_domain::secret::{KeyUse, MasterKey};
use chelseru_store::Store;

use crate::config::Config;

/// The login services under one configuration's rules.
#[derive(Clone)]
pub(crate) struct Services {
    pub otp: Arc<OtpService>,
    pub identity: Arc<Identity>,
}

impl Services {
    /// Must be called inside a runtime.
    ///
    /// Errors: a text when the domain refuses a rule.
    pub(crate) fn new(
        config: &Config,
        tokens: Tokens,
        store: &Store,
        key: &MasterKey,
        clock: &Arc<dyn Clock>,
        ids: Arc<LocalIds>,
    ) -> Result<Services, String> {
        let pepper = key.derive(KeyUse::OtpPepper);
        let otp = OtpService::new(store.clone(), clock.clone(), otp_rules(config), pepper).map_err(text)?;
        let otp = Arc::new(otp.with_ids(ids));
        let audit = Audit::start(store.clone(), clock.clone(), config.audit.records_max);
        let identity =
            Identity::new(store.clone(), clock.clone(), otp.clone(), tokens, identity_rules(config))
                .map_err(text)?
                .with_audit(audit);
        Ok(Services { otp, identity: Arc::new(identity) })
    }

    /// The same services under other rules; their in-memory state stays.
    pub(crate) fn under(
        &self,
        otp: Checked<OtpRules>,
        identity: Checked<IdentityRules>,
        tokens: Tokens,
        audit_records_max: u64,
    ) -> Services {
        let otp = Arc::new(self.otp.under(otp));
        let identity = self.identity.under(otp.clone(), tokens, identity);
        identity.audit().records_max_set(audit_records_max);
        Services { otp, identity: Arc::new(identity) }
    }

    /// Waits until every recorded event is written.
    pub(crate) async fn audit_close(&self) {
        self.identity.audit().flush().await;
    }
}

fn text(error: impl std::fmt::Display) -> String {
    format!("[auth]: {error}")
}
