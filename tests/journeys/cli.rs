//! The command line as an operator sees it: output and exit status.

use std::path::Path;
use std::process::Output;

use chelseru_tests::process::Served;
use chelseru_tests::{folder, process};

fn run(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = process::run(dir, arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("it exits"), text(stdout), text(stderr))
}

#[test]
fn a_gateway_and_a_command_take_a_fresh_folder_at_the_same_moment() {
    // Whoever is first to open the store makes the key.
    for _ in 0..4 {
        let dir = folder("");
        let served = std::thread::scope(|scope| {
            let made = scope.spawn(|| run(dir.path(), &["user", "create-superuser", "root"]));
            let served = Served::start(dir.path());
            let (code, stdout, stderr) = made.join().expect("no panic");
            assert!(code == 0 && stdout.contains("password: "), "{stdout}{stderr}");
            served
        });
        let (code, stdout, stderr) = run(dir.path(), &["user", "list"]);
        assert!(code == 0 && stdout.contains("root"), "{stdout}{stderr}");
        drop(served);
        // Key and store belong together.
        drop(Served::start(dir.path()));
    }
}

#[test]
fn check_exits_0_and_lists_what_would_serve() {
    // Few connections, so no machine's limit of open files causes a warning.
    let dir = folder("[server]\nconnections_max = 100\n[chat]\nsockets_max = 100\n");
    let (code, stdout, stderr) = run(dir.path(), &["check"]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert!(
        stdout.contains("config.toml: ok") && stdout.contains("SANDBOX_SMS: sandbox-sms 0.1.0"),
        "{stdout}"
    );
}

#[test]
fn check_exits_1_and_names_file_line_key_value_and_what_is_accepted() {
    for (config, expected) in [
        ("[auth]\notp_length = 11\n", "config.toml:2: auth.otp_length = 11: must be 4 to 10"),
        (
            "[auth]\notp_lenght = 6\n",
            "config.toml:2: auth.otp_lenght = 6: is not a key of [auth]; did you mean `otp_length`?",
        ),
        (
            "[sms]\nservice = \"KAVENEGAR\"\n",
            "config.toml:2: sms.service = \"KAVENEGAR\": is not a provider; add [provider.NAME]",
        ),
        (
            "[sms]\nservice = \"KAVENEGAR_COM\"\n[provider.KAVENEGAR_COM.settings]\nsendr = \"1\"\napi_key = \"k\"\n",
            "config.toml:4: provider.KAVENEGAR_COM.settings.sendr: setting \"sendr\" is unknown, accepted are: api_key,",
        ),
        ("[sms]\nservice = \"KAVENEGAR_COM\"\n", "provider.KAVENEGAR_COM.settings.api_key: is required"),
        (
            "[provider.OWN]\nplugin = \"not-there\"\n",
            "config.toml:1: provider.OWN: plugin \"not-there.wasm\":",
        ),
        (
            "[sms]\nservice = \"KAVENEGAR_COM\"\n[provider.KAVENEGAR_COM.settings]\napi_key = \"k\"\nbase_url = \"http://127.0.0.1:1\"\n",
            "config.toml:5: provider.KAVENEGAR_COM.settings.base_url: setting \"base_url\":",
        ),
    ] {
        let dir = folder(config);
        let (code, stdout, stderr) = run(dir.path(), &["check"]);
        assert_eq!(code, 1, "{config}: {stdout}");
        assert!(stderr.contains(expected), "{config}\nexpected: {expected}\nfound: {stderr}");
        // What check rejects never serves.
        let (code, stdout, stderr) = run(dir.path(), &["serve"]);
        assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
        assert!(stderr.contains(expected), "{config}: {stderr}");
    }
}

#[test]
fn a_secret_in_the_file_is_a_warning_that_does_not_repeat_it() {
    let dir = folder("[provider.KAVENEGAR_COM.settings]\napi_key = \"s3cret-value\"\n");
    let (code, stdout, stderr) = run(dir.path(), &["check"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stderr.contains("config.toml:2: provider.KAVENEGAR_COM.settings.api_key: is a secret in plain text"),
        "{stderr}"
    );
    assert!(!format!("{stdout}{stderr}").contains("s3cret-value"));
}

#[test]
fn wrong_use_exits_2_and_says_what_is_accepted() {
    let dir = folder("");
    for arguments in [&["serv"][..], &["check", "--confg", "x"], &[], &["plugin", "inspect"]] {
        let (code, _, stderr) = run(dir.path(), arguments);
        assert_eq!(code, 2, "{arguments:?}: {stderr}");
        assert!(stderr.contains("Usage: chelseru"), "{arguments:?}: {stderr}");
    }
    let (code, _, stderr) = run(dir.path(), &["check", "--config", "absent.toml"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("absent.toml: cannot be read"), "{stderr}");
}

#[test]
fn inspect_shows_settings_hosts_and_abilities() {
    let dir = folder("");
    let (code, stdout, stderr) = run(dir.path(), &["plugin", "inspect", "kavenegar"]);
    assert_eq!(code, 0, "{stderr}");
    for text in [
        "api_key (text, required, secret)",
        "hosts: api.kavenegar.com",
        "sms-text, sms-template",
        "interface 0.1.0",
    ] {
        assert!(stdout.contains(text), "{text}: {stdout}");
    }
    let (code, _, stderr) = run(dir.path(), &["plugin", "inspect", "absent"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("absent.wasm"), "{stderr}");
}

#[test]
fn a_second_gateway_on_the_same_data_is_refused() {
    let dir = folder("");
    let served = process::Served::start(dir.path());
    let (code, stdout, stderr) = run(dir.path(), &["serve"]);
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    assert!(stderr.contains("another process") || stderr.contains("in use"), "{stderr}");
    drop(served);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document_is_served_and_printed_alike() {
    let gateway = chelseru_tests::TestGateway::start("").await;
    let served = gateway.get("/openapi.json", None).await;
    assert_eq!(served.status, 200, "{served:?}");
    assert_eq!(served.body["openapi"], "3.1.0");
    let send = &served.body["paths"]["/drfchelseru/otp/send/"]["post"];
    assert_eq!(send["operationId"], "otp_send", "{send:#}");
    let printed = process::run(gateway.dir.path(), &["openapi"]);
    assert!(printed.status.success(), "{printed:?}");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&printed.stdout).expect("JSON"), served.body);
}

#[test]
fn every_shipped_plugin_passes_the_conformance_kit() {
    let dir = folder("");
    for entry in std::fs::read_dir(dir.path().join("data/plugins")).expect("a folder") {
        let file = entry.expect("an entry").path();
        let mut arguments = vec!["plugin", "test", file.to_str().expect("text")];
        if file.ends_with("meli-payamak.wasm") {
            let (status, _, err) = run(dir.path(), &arguments);
            assert!(status == 1 && err.contains("--set"), "it asks nobody without an account: {err}");
            arguments.extend(["--set", "username=u", "--set", "password=p-1234", "--set", "sender=50001234"]);
        }
        let (status, out, err) = run(dir.path(), &arguments);
        assert_eq!(status, 0, "{}:\n{out}\n{err}", file.display());
        assert!(out.contains("checks passed"), "{out}");
    }
}

#[test]
fn a_new_plugin_is_a_crate_that_names_the_sdk_and_overwrites_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let sdk = chelseru_tests::root().join("plugins/sdk");
    let sdk = sdk.to_str().expect("text");
    for (name, kind, export) in [
        ("my-sms", "sms", "export_sms!(MySmsProvider: text)"),
        ("my-bank", "payment", "export_payment!(MyBankProvider)"),
    ] {
        let make = || run(dir.path(), &["plugin", "new", name, "--kind", kind, "--sdk", sdk]);
        let (status, out, err) = make();
        assert_eq!(status, 0, "{err}");
        assert!(out.contains("chelseru plugin test"), "{out}");
        let source = std::fs::read_to_string(dir.path().join(name).join("src/lib.rs")).expect("written");
        assert!(source.contains(export) && !source.contains("Acme"), "{source}");
        let manifest = std::fs::read_to_string(dir.path().join(name).join("Cargo.toml")).expect("written");
        assert!(manifest.contains(sdk), "{manifest}");
        assert_eq!(make().0, 1, "the second time the folder exists");
    }
    let (status, _, err) = run(dir.path(), &["plugin", "new", "My_Sms", "--kind", "sms", "--sdk", sdk]);
    assert!(status == 1 && err.contains("lower-case"), "{err}");
}
