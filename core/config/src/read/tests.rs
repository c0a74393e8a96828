//! Messages for broken files.

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
        found[0].starts_with(
            "config.toml:3: server.listen_on = 3: is not a key of [server]; did you mean `listen`?"
        ),
        "{found:?}"
    );
    assert!(found[0].contains("`base_path`"), "{found:?}");
}

#[test]
fn a_wrong_type_names_its_line_key_and_value() {
    let found = problems("[auth]\notp_length = \"six\" # digits\n");
    assert!(
        found[0].starts_with("config.toml:2: auth.otp_length = \"six\": must be a whole number"),
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
         password_lockout_seconds = 10\npassword_lockout_seconds_max = 9\nrefresh_repeat_seconds = 315360001\n\
         session_absolute_seconds = 299\npassword_hashes_max = 65\n[audit]\nrecords_max = 999\n",
    );
    for key in [
        "config.toml:2: server.trusted_proxies = \"proxy\"",
        "config.toml:4: auth.method",
        "config.toml:5: auth.otp_domain",
        "auth.otp_test_numbers.0912 ",
        "auth.otp_test_numbers.09120000000",
        "config.toml:8: auth.password_lockout_seconds_max = 9: must be 10 to 86400",
        "config.toml:9: auth.refresh_repeat_seconds = 315360001: must be 0 to 315360000",
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

/// Compares the problems of a text with the expected list.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(problems(text), expected, "{text}");
}

#[test]
fn mistakes_of_shape_are_reported_together() {
    check(
        "[log]\nformt = 3\n[auth]\notp_length = \"6\"\n[plugins]\ncalls_max = \"x\"\n",
        &[
            "config.toml:2: log.formt = 3: is not a key of [log]; did you mean `format`? known are `format`, `level`",
            "config.toml:4: auth.otp_length = \"6\": must be a whole number; write 6",
            "config.toml:6: plugins.calls_max = \"x\": must be a whole number",
        ],
    );
}

#[test]
fn digits_and_quotes_of_other_keyboards_are_named() {
    check(
        "[auth]\notp_length = \"\u{6f6}\"\n",
        &["config.toml:2: auth.otp_length = \"\u{6f6}\": must be a whole number; write 6"],
    );
    check(
        "[auth]\notp_length = \u{6f6}\notp_attempts_max = \u{663}\n",
        &[
            "config.toml:2: auth.otp_length = \u{6f6}: has digits that are not 0 to 9; write 6",
            "config.toml:3: auth.otp_attempts_max = \u{663}: has digits that are not 0 to 9; write 3",
        ],
    );
    check(
        "[auth]\notp_text = \u{201c}x {code}\u{201d}\n",
        &[
            "config.toml:2: auth.otp_text = \u{201c}x {code}\u{201d}: has the quotation mark \u{201c}; write straight ones: \"x {code}\"",
        ],
    );
    let secret = problems("[provider.KAVENEGAR_COM.settings]\napi_key = \u{201c}s3cret\u{201d}\n");
    assert!(secret[0].contains("write straight ones") && !secret[0].contains("s3cret"), "{secret:?}");
}

#[test]
fn a_key_that_is_set_twice_names_the_first_line() {
    check(
        "[auth]\notp_length = 5\n# again\notp_length = 6\n",
        &["config.toml:4: auth.otp_length = 6: duplicate key, first set on line 2; remove one of the two"],
    );
    check(
        "[auth]\notp_length = 5\n[sms]\n[auth]\notp_length = 6\n",
        &["config.toml:4: auth: duplicate key, first set on line 1; remove one of the two"],
    );
}

#[test]
fn a_file_that_is_not_utf_8_names_the_byte() {
    let Err(found) =
        Config::parse_bytes(Path::new("config.toml"), b"[auth]\notp_text = \"\xe9 {code}\"\n".to_vec())
    else {
        panic!("accepted")
    };
    assert_eq!(
        found.to_string(),
        "config.toml:2 = byte 0xe9 at offset 19: is not UTF-8; save the file as UTF-8"
    );
}

#[test]
fn a_provider_of_the_wrong_kind_names_its_place() {
    let found = problems(
        "[payment]\ngateway = \"KAVENEGAR_COM\"\n[sms]\nservice = [\"ZARINPAL_COM\", \"SANDBOX_PAY\"]\n",
    );
    assert!(
        found[0].starts_with(
            "config.toml:2: payment.gateway = \"KAVENEGAR_COM\": is an SMS provider; name it in sms.service;"
        ),
        "{found:#?}"
    );
    assert!(
        found[1].starts_with(
            "config.toml:4: sms.service = \"ZARINPAL_COM\": is a payment gateway; name it in payment.gateway;"
        ),
        "{found:#?}"
    );
    assert_eq!(found.len(), 3, "{found:#?}");
}

#[test]
fn an_entry_without_a_plugin_says_what_to_add() {
    check(
        "[provider.MY_SMS]\n",
        &[
            "config.toml:1: provider.MY_SMS = an entry without `plugin`: needs a plugin (a file in the plugins folder, \
         without .wasm); add plugin = \"my-sms\"",
        ],
    );
    check(
        "[provider.KAVENEGAR_CO]\n",
        &[
            "config.toml:1: provider.KAVENEGAR_CO = an entry without `plugin`: needs a plugin (a file in the plugins folder, \
         without .wasm); did you mean [provider.KAVENEGAR_COM]?",
        ],
    );
}

#[test]
fn a_key_in_the_wrong_section_names_the_right_one() {
    let found = problems("[server]\notp_length = 6\n");
    assert!(found[0].contains("it belongs in [auth]"), "{found:?}");
    let found = problems("[provider.KAVENEGAR_COM]\napi_key = \"s3cret\"\n");
    assert!(found[0].contains("belong in [provider.KAVENEGAR_COM.settings]"), "{found:?}");
    assert!(!found[0].contains("s3cret"), "{found:?}");
    let found = problems("[servr]\nlisten = 3\n[auht]\n");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].contains("did you mean `server`?"), "{found:?}");
}

#[test]
fn a_rule_of_the_domain_is_refused_at_its_key() {
    let found = problems(&format!("[auth]\notp_text = \"{} {{code}}\"\n", "x".repeat(301)));
    assert_eq!(found, ["config.toml:2: auth.otp_text = 308 characters: must have at most 300 characters"]);
}

#[test]
fn a_mistake_that_hides_a_secret_does_not_show_it() {
    let secrets = ["S3CRET", "aS3CRETPW"];
    // Each is wrong in its own way: a missing quote, a misspelt key, the wrong table, the wrong type, a missing `=`.
    for text in [
        "[store]\nurl = \"postgres://app:S3CRET@db.example/shop\n",
        "[store]\nulr = \"postgres://app:S3CRET@db.example/shop\"\n",
        "[store]\nurl = [\"host=db password=S3CRET\"]\n",
        "[store]\nurl = [\"S3CRET\"]\n",
        "[store]\nurl postgres://app:S3CRET@db.example/shop?sslmode=require\n",
        "[bus]\nurl = \"redis://app:S3CRET@bus.example\" oops\n",
        "[bus]\nurl = {S3CRET = 1}\n",
        "url = \"redis://app:S3CRET@bus.example\"\n",
        "[files.s3]\nsecret_kye = \"S3CRET\"\n",
        "[files.s3]\nsecret_key = S3CRET\n",
        "[files.s3]\naccess_key = [\"S3CRET\"]\n",
        "[files]\nstore = \"s3\"\n[files.s3]\nendpoint = \"http://u:S3CRET@127.0.0.1:9000\"\nbucket = \"b\"\n",
        "[auth]\nlegacy_secret = \"S3CRET\n",
        "[auth]\nlegacy_secert = \"S3CRET\"\n",
        "[auth]\nlegacy_secret S3CRET=\n",
        "[auth]\ntoken_key = \"S3CRET\n",
        "[auth]\ntokenkey = \"S3CRET\"\n",
        "[sms]\napi_key = \"S3CRET\"\n",
        "[payments]\nmerchant = S3CRET\n",
        "[sms]\nservice = “http://u:S3CRET@host/”\n",
        "[webhooks.endpoints.SHOP]\nurl = \"https://user:S3CRET@shop.example/hooks\"\nsecret = { env = \"X\" }\n",
        "[webhooks.endpoints.SHOP]\nsecert = \"S3CRET\"\n",
        "[providers.ONE]\nsettings = { api_key = \"S3CRET\" }\n",
    ] {
        let found = problems(text);
        assert!(!found.is_empty(), "{text}");
        for problem in &found {
            assert!(!secrets.iter().any(|secret| problem.contains(secret)), "{text}: {problem}");
            assert!(problem.starts_with("config.toml:"), "{problem}");
        }
    }
    // What holds none is shown, with its cure.
    for (text, shown) in [
        ("[server]\nbody_bytes_max = \"1024\"\n", "server.body_bytes_max = \"1024\""),
        ("[server]\nbody_bytes_max = 10 MiB\n", "server.body_bytes_max = 10 MiB"),
        ("[server]\ntrusted_proxies = \"10.0.0.1\"\n", "write [\"10.0.0.1\"]"),
        ("[auth]\npassword_login = True\n", "True"),
    ] {
        assert!(problems(text)[0].contains(shown), "{:?}", problems(text));
    }
}
