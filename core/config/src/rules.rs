//! Conversion of the configuration to the domain's rules.
//!
//! Pure conversions. The checks have already refused values out of range. A rule that the domain still refuses is an
//! error of the whole configuration, never a silent default.

use std::time::Duration;

use chelseru_domain::PhoneNumber;
use chelseru_domain::ids::UserId;
use chelseru_domain::login::identity::{IdentityRules, PasswordRules};
use chelseru_domain::login::otp::OtpRules;
use chelseru_domain::login::password::HashLimits;
use chelseru_domain::login::token::{LegacyTokens, TokenKey, TokenRules, Tokens};
use chelseru_domain::secret::{KeyUse, MasterKey};
use chelseru_domain::sms::gate::GateRules;
use chelseru_domain::sms::queue::SmsRules;
use chelseru_domain::sms::shield::ShieldRules;

use crate::{Config, Loaded, Problem, Problems, SettingSource};

pub fn otp_rules(config: &Config) -> OtpRules {
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

pub fn identity_rules(config: &Config) -> IdentityRules {
    let auth = &config.auth;
    IdentityRules {
        groups: auth.groups.policy(),
        sessions_per_user_max: auth.sessions_per_user_max,
        session_absolute_max: Duration::from_secs(auth.session_absolute_seconds),
        refresh_repeat_max: Duration::from_secs(auth.refresh_repeat_seconds),
        passwords: PasswordRules {
            attempts_max: auth.password_attempts_max,
            total_max: auth.password_attempts_total_max,
            registrations_per_hour_max: auth.registrations_per_hour_max,
            lockout_first: Duration::from_secs(auth.password_lockout_seconds),
            lockout_max: Duration::from_secs(auth.password_lockout_seconds_max),
            hashes: HashLimits {
                running_max: auth.password_hashes_max,
                waiting_max: auth.password_hashes_queue_max,
            },
        },
        money_staff: config.payment.staff_users.iter().copied().map(UserId).collect(),
    }
}

/// Builds the tokens with the configured keys.
///
/// Errors: every unusable key, at its line; secrets are not shown.
pub fn tokens(loaded: &Loaded, master: &MasterKey) -> Result<Tokens, Problems> {
    let auth = &loaded.config.auth;
    let rules = TokenRules {
        issuer: auth.token_issuer.clone(),
        audience: auth.token_audience.clone(),
        access_ttl: Duration::from_secs(auth.access_token_seconds),
        refresh_ttl: Duration::from_secs(auth.refresh_token_seconds),
        ..TokenRules::default()
    };
    let mut problems = Vec::new();
    let mut key =
        |key, source| token_key(loaded, key, source, master).map_err(|problem| problems.push(problem)).ok();
    let signing = key("auth.token_key", &auth.token_key);
    let older: Vec<_> =
        auth.token_keys_old.iter().filter_map(|source| key("auth.token_keys_old", source)).collect();
    let legacy = legacy_tokens(loaded).map_err(|problem| problems.push(problem)).ok().flatten();
    let Some(signing) = signing.filter(|_| problems.is_empty()) else { return Err(Problems(problems)) };
    let tokens = Tokens::with_keys(rules, signing, older).map(|tokens| tokens.with_legacy(legacy));
    tokens.map_err(|error| {
        let name = match error.rule {
            "issuer" => "auth.token_issuer",
            "audience" => "auth.token_audience",
            "access_ttl" => "auth.access_token_seconds",
            "refresh_ttl" => "auth.refresh_token_seconds",
            _ => "auth.token_key",
        };
        let accepted = format!("must be {}", error.accepted);
        Problems(vec![loaded.source.problem(name, Some(error.found), accepted)])
    })
}

/// What verifies tokens of the original, when the configuration accepts them.
fn legacy_tokens(loaded: &Loaded) -> Result<Option<LegacyTokens>, Problem> {
    let auth = &loaded.config.auth;
    let (Some(source), Some(until)) = (&auth.legacy_secret, auth.legacy_until()) else { return Ok(None) };
    let refuse =
        |what: String| loaded.source.problem("auth.legacy_secret", Some(format!("{source:?}")), what);
    let secret = loaded.resolve(source).map_err(refuse)?;
    Ok(Some(LegacyTokens::new(&secret, until, auth.legacy_user_claim.clone())))
}

fn token_key(
    loaded: &Loaded,
    key: &str,
    source: &SettingSource,
    master: &MasterKey,
) -> Result<TokenKey, Problem> {
    let refuse = |what: String| loaded.source.problem(key, Some(format!("{source:?}")), what);
    let value = loaded.resolve(source).map_err(refuse)?;
    match hs256_number(&value) {
        Some(1) => TokenKey::hs256(&value, &master.derive(KeyUse::JwtHs256)),
        Some(number) => TokenKey::hs256(&value, &master.derive(KeyUse::JwtHs256Later(number))),
        None => TokenKey::from_pem(&value),
    }
    .map_err(|fault| {
        let accepted = "accepted are hs256-1, hs256-2 and so on, or { file = \"path\" } of a PEM key";
        refuse(format!("{fault}; {accepted}"))
    })
}

/// The number of a key derived from the master key: 3 for `hs256-3`.
fn hs256_number(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("hs256-")?;
    digits.parse().ok().filter(|number: &u32| *number >= 1 && digits == number.to_string())
}

pub fn shield_rules(config: &Config) -> ShieldRules {
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

pub fn sms_rules(config: &Config) -> SmsRules {
    let sms = &config.sms;
    SmsRules {
        notice_lifetime: Duration::from_secs(sms.notice_minutes * 60),
        round_timeout: Duration::from_secs(sms.round_seconds),
        retry_min: Duration::from_secs(sms.retry_seconds_min),
        retry_max: Duration::from_secs(sms.retry_seconds_max),
        otp_retry: Duration::from_secs(sms.otp_retry_seconds),
        workers_max: sms.workers_max,
        queue_max: sms.queue_max,
        idempotency_keys_max: sms.idempotency_keys_max,
        ..SmsRules::default()
    }
}

pub fn gate_rules(config: &Config, name: &str) -> GateRules {
    let entry = config.provider.get(name);
    GateRules {
        failures: config.sms.circuit_failures,
        open_for: Duration::from_secs(config.sms.circuit_open_seconds),
        concurrency_max: entry.map_or(0, |entry| entry.concurrency_max),
        rate_per_second: entry.map_or(0, |entry| entry.rate_per_second),
    }
}
