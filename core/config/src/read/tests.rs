//! What a broken file says.

use std::path::Path;

use super::Problem;
use crate::Config;

fn problems(text: &str) -> Vec<String> {
    match Config::parse(Path::new("config.toml"), text.into()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.iter().map(Problem::to_string).collect(),
    }
}

#[test]
fn an_empty_file_is_the_default() {
    let loaded = Config::parse(Path::new("config.toml"), String::new()).expect("defaults are accepted");
    assert_eq!(loaded.config, Config::default());
}

#[test]
fn an_unknown_key_names_its_line_and_the_accepted_ones() {
    let found = problems("[server]\nlisten = \"127.0.0.1:1\"\nlisten_on = 3\n");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].starts_with("config.toml:3: server.listen_on = 3: unknown field `listen_on`"),
        "{found:?}"
    );
    assert!(found[0].contains("`base_path`"), "{found:?}");
}

#[test]
fn a_wrong_type_names_its_line_key_and_value() {
    let found = problems("[auth]\notp_length = \"six\" # digits\n");
    assert!(
        found[0]
            .starts_with("config.toml:2: auth.otp_length = \"six\": invalid type: string \"six\", expected"),
        "{found:?}"
    );
}

#[test]
fn values_out_of_range_are_reported_together() {
    let found = problems("[auth]\notp_length = 3\notp_expire_minutes = 11\n\n[plugins]\nmemory_mib = 65\n");
    assert_eq!(
        found,
        [
            "config.toml:2: auth.otp_length = 3: must be 4 to 10",
            "config.toml:3: auth.otp_expire_minutes = 11: must be 1 to 10",
            "config.toml:6: plugins.memory_mib = 65: must be 1 to 64",
        ]
    );
}

#[test]
fn values_of_auth_and_proxies_are_checked_and_no_fixed_code_is_repeated() {
    let found = problems(
        "[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"proxy\"]\n[auth]\nmethod = []\notp_domain = \"a b\"\n\
         otp_test_numbers = { \"0912\" = \"918273\", \"09120000000\" = \"91827\" }\n\
         password_lockout_seconds = 10\npassword_lockout_seconds_max = 9\nrefresh_repeat_seconds = 86401\n\
         session_absolute_seconds = 299\npassword_hashes_max = 65\n[audit]\nrecords_max = 999\n",
    );
    for key in [
        "config.toml:2: server.trusted_proxies = \"proxy\"",
        "config.toml:4: auth.method",
        "config.toml:5: auth.otp_domain",
        "auth.otp_test_numbers.0912 ",
        "auth.otp_test_numbers.09120000000",
        "config.toml:8: auth.password_lockout_seconds_max = 9: must be 10 to 86400",
        "config.toml:9: auth.refresh_repeat_seconds = 86401: must be 0 to 86400",
        "config.toml:10: auth.session_absolute_seconds = 299: must be 300",
        "config.toml:11: auth.password_hashes_max = 65: must be 1 to 64",
        "config.toml:13: audit.records_max = 999: must be 1000",
    ] {
        assert!(found.iter().any(|problem| problem.contains(key)), "{key} is not in {found:#?}");
    }
    assert_eq!(found.len(), 10, "{found:#?}");
    assert!(!found.join("").contains("91827"), "{found:#?}");
    assert!(!problems("[auth]\nmethod = [\"OTP\", \"OTP\"]\n").is_empty());
    assert!(problems("[auth]\nmethod = \"SMS\"\n")[0].contains("\"OTP\", \"PASSWD\", or a list of both"));
    assert!(problems("[auth]\nmethod = [\"PASSWD\", \"OTP\"]\n").is_empty());
}

#[test]
fn test_numbers_are_warned_of() {
    let text = "[auth]\notp_test_numbers = { \"09120000000\" = \"123456\" }\n";
    let loaded = Config::parse(Path::new("config.toml"), text.into()).expect("accepted");
    assert_eq!(loaded.warnings.len(), 1);
    let warning = loaded.warnings[0].to_string();
    assert!(warning.contains("ANYBODY") && !warning.contains("123456"), "{warning}");
}

#[test]
fn a_service_that_is_no_provider_lists_the_known_ones() {
    let found = problems("[sms]\nservice = [\"KAVENEGAR\"]\n");
    assert!(
        found[0].starts_with("config.toml:2: sms.service = \"KAVENEGAR\": is not a provider"),
        "{found:?}"
    );
    assert!(found[0].contains("KAVENEGAR_COM"), "{found:?}");
}

#[test]
fn a_template_in_use_needs_an_id_for_every_selected_provider() {
    let found = problems(
        "[auth]\notp_template = \"login\"\n[sms]\nservice = [\"KAVENEGAR_COM\", \"SANDBOX_SMS\"]\n\
         [sms.templates.login]\nKAVENEGAR_COM = \"x\"\n",
    );
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("has no id for SANDBOX_SMS"), "{found:?}");
}

#[test]
fn a_missing_variable_is_named_and_a_literal_is_never_repeated() {
    let found = problems(
        "[provider.KAVENEGAR_COM.settings]\napi_key = { env = \"CHELSERU_TEST_NOT_SET\" }\nsender = \"s3cret\"\n",
    );
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("config.toml:2: provider.KAVENEGAR_COM.settings.api_key"), "{found:?}");
    assert!(found[0].contains("CHELSERU_TEST_NOT_SET is not set"), "{found:?}");
    assert!(!found[0].contains("s3cret"));
}

#[test]
fn a_broken_secret_line_is_not_repeated() {
    let found = problems("[provider.KAVENEGAR_COM.settings]\napi_key = [\"s3cret\"]\n");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(!found[0].contains("s3cret"), "{found:?}");
    assert!(found[0].starts_with("config.toml:2: provider.KAVENEGAR_COM.settings.api_key"), "{found:?}");
}

#[test]
fn syntax_errors_name_their_line() {
    let found = problems("[server]\nlisten = \n");
    assert!(found[0].starts_with("config.toml:2: "), "{found:?}");
}

#[test]
fn keys_that_wait_for_a_restart_are_named() {
    let mut next = Config::default();
    next.server.body_bytes_max += 1;
    next.plugins.calls_max += 1;
    next.auth.otp_length = 8;
    assert_eq!(Config::default().restart_keys(&next), ["server.body_bytes_max", "plugins.calls_max"]);
}
