//! The domain's login services, built from a configuration.

use std::sync::Arc;

use chelseru_config::Loaded;
use chelseru_config::rules::{identity_rules, otp_rules, tokens};
use chelseru_domain::audit::Audit;
use chelseru_domain::clock::Clock;
use chelseru_domain::identity::Identity;
use chelseru_domain::ids::LocalIds;
use chelseru_domain::otp::OtpService;
use chelseru_domain::secret::{KeyUse, MasterKey};
use chelseru_domain::token::Tokens;
use chelseru_store::Store;

use crate::config::Config;

/// The domain's services as a configuration wants them.
pub(crate) struct Services {
    pub otp: Arc<OtpService>,
    pub identity: Arc<Identity>,
}

impl Services {
    /// Must be called in a runtime.
    pub(crate) fn new(
        loaded: &Loaded,
        store: &Store,
        key: &MasterKey,
        clock: &Arc<dyn Clock>,
        ids: Arc<LocalIds>,
    ) -> Result<Services, String> {
        let config = &loaded.config;
        let pepper = key.derive(KeyUse::OtpPepper);
        let otp = OtpService::new(store.clone(), clock.clone(), otp_rules(config), pepper).map_err(text)?;
        let otp = Arc::new(otp.with_ids(ids));
        let tokens = tokens(loaded, key)?;
        let audit = Audit::start(store.clone(), clock.clone(), config.audit.records_max);
        let identity =
            Identity::new(store.clone(), clock.clone(), otp.clone(), tokens, identity_rules(config))
                .map_err(text)?
                .with_audit(audit);
        Ok(Services { otp, identity: Arc::new(identity) })
    }

    /// The same services under another configuration; what they remember goes on.
    pub(crate) fn again(
        config: &Config,
        tokens: Option<Tokens>,
        otp: &OtpService,
        identity: &Identity,
    ) -> Result<Services, String> {
        let otp = Arc::new(otp.with_rules(otp_rules(config)).map_err(text)?);
        let tokens = tokens.unwrap_or_else(|| identity.tokens().clone());
        let identity = identity.with_rules(otp.clone(), tokens, identity_rules(config)).map_err(text)?;
        identity.audit().records_max_set(config.audit.records_max);
        Ok(Services { otp, identity: Arc::new(identity) })
    }

    /// Waits until everything that was recorded is written.
    pub(crate) async fn audit_close(&self) {
        self.identity.audit().flush().await;
    }
}

fn text(error: impl std::fmt::Display) -> String {
    format!("[auth]: {error}")
}
