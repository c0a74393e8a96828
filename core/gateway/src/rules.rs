//! From the configuration's `[auth]` to the domain's rules.
//!
//! The configuration's check has refused what is out of range; a rule the domain refuses all the same is an error
//! of the whole configuration, never a silent default.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::PhoneNumber;
use chelseru_domain::audit::Audit;
use chelseru_domain::clock::Clock;
use chelseru_domain::group::{Group, GroupPolicy};
use chelseru_domain::identity::{Identity, IdentityRules, PasswordRules};
use chelseru_domain::ids::LocalIds;
use chelseru_domain::otp::{OtpRules, OtpService};
use chelseru_domain::password::HashLimits;
use chelseru_domain::secret::{KeyUse, MasterKey};
use chelseru_domain::sms::shield::ShieldRules;
use chelseru_domain::token::{TokenKey, TokenRules, Tokens};
use chelseru_store::Store;

use crate::config::{Config, Groups, Loaded, SettingSource};

/// The domain's services as a configuration wants them.
pub(crate) struct Services {
    pub otp: Arc<OtpService>,
    pub identity: Identity,
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
        Ok(Services { otp, identity })
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
        Ok(Services { otp, identity })
    }

    /// Waits until everything that was recorded is written.
    pub(crate) async fn audit_close(&self) {
        self.identity.audit().flush().await;
    }
}

fn text(error: impl std::fmt::Display) -> String {
    format!("[auth]: {error}")
}

fn otp_rules(config: &Config) -> OtpRules {
    let auth = &config.auth;
    OtpRules {
        length: auth.otp_length,
        ttl: auth.otp_ttl(),
        attempts_max: auth.otp_attempts_max,
        resend_after: (auth.otp_resend_seconds > 0).then(|| Duration::from_secs(auth.otp_resend_seconds)),
        text: auth.otp_text.clone(),
        template: (!auth.otp_template.is_empty()).then(|| auth.otp_template.clone()),
        domain: (!auth.otp_domain.is_empty()).then(|| auth.otp_domain.clone()),
        test_numbers: auth
            .otp_test_numbers
            .iter()
            .filter_map(|(number, code)| {
                Some((PhoneNumber::parse(number).ok()?.e164().to_owned(), code.clone()))
            })
            .collect(),
        ..OtpRules::default()
    }
}

fn identity_rules(config: &Config) -> IdentityRules {
    let groups = match &config.auth.groups {
        Groups::Any(_) => GroupPolicy::Any,
        Groups::List(list) => {
            let groups = list.iter().filter_map(|number| Group::from_number(i64::from(*number)).ok());
            GroupPolicy::Only(groups.collect::<BTreeSet<_>>())
        }
    };
    let auth = &config.auth;
    IdentityRules {
        groups,
        sessions_per_user_max: auth.sessions_per_user_max as usize,
        session_absolute_max: Duration::from_secs(auth.session_absolute_seconds),
        refresh_repeat_max: Duration::from_secs(auth.refresh_repeat_seconds),
        passwords: PasswordRules {
            attempts_max: auth.password_attempts_max,
            lockout_first: Duration::from_secs(auth.password_lockout_seconds),
            lockout_max: Duration::from_secs(auth.password_lockout_seconds_max),
            hashes: HashLimits {
                running_max: auth.password_hashes_max as usize,
                waiting_max: auth.password_hashes_queue_max as usize,
            },
        },
    }
}

/// Tokens under the keys that the configuration names.
///
/// Errors: a sentence that names the configuration's key and never a secret.
pub(crate) fn tokens(loaded: &Loaded, master: &MasterKey) -> Result<Tokens, String> {
    let auth = &loaded.config.auth;
    let rules = TokenRules {
        issuer: auth.token_issuer.clone(),
        audience: auth.token_audience.clone(),
        access_ttl: Duration::from_secs(auth.access_token_seconds),
        refresh_ttl: Duration::from_secs(auth.refresh_token_seconds),
        ..TokenRules::default()
    };
    let signing = token_key(loaded, "auth.token_key", &auth.token_key, master)?;
    let older = auth
        .token_keys_old
        .iter()
        .map(|source| token_key(loaded, "auth.token_keys_old", source, master))
        .collect::<Result<_, _>>()?;
    Tokens::with_keys(rules, signing, older).map_err(text)
}

fn token_key(
    loaded: &Loaded,
    key: &str,
    source: &SettingSource,
    master: &MasterKey,
) -> Result<TokenKey, String> {
    let refuse = |what: &dyn std::fmt::Display| {
        loaded.source.problem(key, Some(format!("{source:?}")), what.to_string()).to_string()
    };
    let value = loaded.resolve(source).map_err(|what| refuse(&what))?;
    match hs256_number(&value) {
        Some(1) => TokenKey::hs256(&value, &master.derive(KeyUse::JwtHs256)),
        Some(number) => TokenKey::hs256(&value, &master.derive(KeyUse::JwtHs256Later(number))),
        None => TokenKey::from_pem(&value),
    }
    .map_err(|fault| {
        refuse(&format!(
            "{fault}; accepted are hs256-1, hs256-2 and so on, or {{ file = \"path\" }} of a PEM key"
        ))
    })
}

/// The number of a key that is derived from the master key: 3 of `hs256-3`.
fn hs256_number(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("hs256-")?;
    digits.parse().ok().filter(|number: &u32| *number >= 1 && digits == number.to_string())
}

pub(crate) fn shield_rules(config: &Config) -> ShieldRules {
    let shield = &config.sms.shield;
    ShieldRules {
        number_gap: Duration::from_secs(shield.number_gap_seconds),
        number_per_hour_max: shield.number_per_hour_max,
        number_per_day_max: shield.number_per_day_max,
        address_per_hour_max: shield.address_per_hour_max,
        network_per_hour_max: shield.network_per_hour_max,
        prefix_per_hour_max: shield.prefix_per_hour_max,
        total_per_hour_max: shield.total_per_hour_max,
        ratio_codes_min: shield.ratio_codes_min,
        ratio_percent_min: shield.ratio_percent_min,
        slow_gap: Duration::from_secs(shield.slow_gap_seconds),
    }
}
