//! The health of a gateway at the console and on the command line: the ledger recomputed, the doctor, and an edit that
//! does not come to serve.

use std::fs;
use std::time::{Duration, Instant};

use chelseru_domain::operator::role::Role;
use chelseru_tests::browser::{Browser, Shown};
use chelseru_tests::{PATIENCE, TestGateway, process};
use serde_json::Value;

use super::console::with_role;
use super::payments::Shop;

/// The ledger's page once the recomputation ended.
async fn ended(browser: &mut Browser) -> Shown {
    let until = Instant::now() + PATIENCE;
    loop {
        let page = browser.get("/console/ledger/").await;
        if page.has("/console/ledger/verify/") {
            return page;
        }
        assert!(page.has("data-live"), "a browser asks again: {}", page.html);
        assert!(Instant::now() < until, "{}", page.html);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_is_recomputed_while_payments_go_on() {
    let shop = Shop::open("").await;
    shop.charge(1000).await;
    let mut finance = with_role(&shop.gateway, "finance", Role::Finance).await;
    let page = ended(&mut finance).await;
    assert!(page.has("هنوز بازشماری نشده است"), "{}", page.html);
    let begun = finance.submit(&page, "/console/ledger/verify/", &[]).await;
    assert_eq!((begun.status, begun.address.as_str()), (200, "/console/ledger/"));
    shop.charge(2000).await;
    let page = ended(&mut finance).await;
    assert!(page.has("state good\"><bdi dir=\"auto\">درست است"), "{}", page.html);
    assert!(!shop.gateway.dir.path().join("data/ledger-check").exists(), "the copy is removed");
    let mut viewer = with_role(&shop.gateway, "viewer", Role::Viewer).await;
    let page = viewer.get("/console/ledger/").await;
    assert!(page.status == 200 && !page.has("/console/ledger/verify/"), "{}", page.html);
    let form = page.hidden("/console/logout/");
    assert_eq!(viewer.post("/console/ledger/verify/", form).await.status, 403);
    shop.gateway.app.live().identity.audit().flush().await;
    assert!(finance.get("/console/audit/?event=ledger_verified").await.has("<tbody>"));
}

fn findings(gateway: &TestGateway) -> (bool, Vec<Value>) {
    let output = process::run(gateway.dir.path(), &["doctor", "--json"]);
    let text = String::from_utf8(output.stdout).expect("text");
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("a finding"));
    (output.status.success(), lines.collect())
}

fn state<'a>(findings: &'a [Value], check: &str) -> &'a str {
    let found = findings.iter().find(|one| one["check"] == check);
    found.unwrap_or_else(|| panic!("no {check}: {findings:?}"))["state"].as_str().expect("a state")
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_what_is_wrong_and_its_cure() {
    use std::os::unix::fs::PermissionsExt;

    let gateway = TestGateway::start("").await;
    let mut browser = Browser::of(&gateway, "root").await;
    let data = gateway.dir.path().join("data");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).expect("closed");
    let (well, before) = findings(&gateway);
    assert!(well, "{before:?}");
    assert_eq!(state(&before, "permissions"), "ok");
    assert_eq!((state(&before, "backup"), state(&before, "operators")), ("warning", "warning"));
    let page = browser.get("/console/backups/").await;
    assert!(page.has("وارسی") && page.has("هیچ پشتیبانی ثبت نشده است"), "{}", page.html);
    let overview = browser.get("/console/").await;
    assert!(
        overview.has("نیازمند رسیدگی") && overview.has("بدون عامل دوم: \u{2068}root\u{2069}"),
        "{}",
        overview.html
    );

    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).expect("opened");
    gateway.edit_config("[sms]\nservice = 5\n");
    gateway.wait_for("a refusal", |status| !status["config"]["last_error"].is_null()).await;
    // The command reads the configuration to find the gateway, so it asks with the last good one.
    let page = browser.get("/console/backups/").await;
    assert!(page.has("برای دیگران باز است (حالت ۷۵۵)") && page.has("sms.service"), "{}", page.html);
    let elsewhere = tempfile::tempdir().expect("a folder");
    let folder = elsewhere.path().join("monday");
    let name = folder.to_str().expect("text");
    gateway.edit_config("# the defaults\n");
    gateway.wait_for("the defaults", |status| status["config"]["last_error"].is_null()).await;
    let written = browser.submit(&page, "/console/backups/write/", &[("folder", name)]).await;
    assert!(written.address.ends_with("?done=1"), "{}", written.html);
    gateway.app.live().identity.audit().flush().await;
    let (well, after) = findings(&gateway);
    assert!(!well, "an open folder is bad");
    assert_eq!((state(&after, "permissions"), state(&after, "backup")), ("bad", "ok"), "{after:?}");
    assert_eq!(after[0]["check"], "permissions", "the worst comes first");
    let data_dir = gateway.stop().await;
    let offline = process::run(data_dir.path(), &["doctor"]);
    let text = String::from_utf8(offline.stdout).expect("text");
    assert!(!offline.status.success() && text.contains("chmod"), "without a gateway, too: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_draws_the_last_24_hours() {
    let gateway = TestGateway::start("").await;
    gateway.login("09121234567").await;
    let mut browser = Browser::of(&gateway, "root").await;
    let has_numbers = |status: &Value| {
        let requests = status["trends"]["series"]["requests"].as_array();
        requests.is_some_and(|numbers| numbers.iter().any(|number| number.as_u64() > Some(0)))
    };
    gateway.wait_for("numbers of the last quarter", has_numbers).await;
    let overview = browser.get("/console/").await;
    assert!(overview.has("۲۴ ساعت گذشته") && overview.has("<path d=\"M"), "{}", overview.html);
    let data_dir = gateway.stop().await;
    let kept = fs::read_to_string(data_dir.path().join("data/trends.json")).expect("a file");
    assert!(kept.contains("\"logins\""), "{kept}");
}

const FIRST: &str = "[sms]\nservice = [\"FIRST\"]\n[provider.FIRST]\nplugin = \"sandbox-sms\"\n";

/// The check and the application prepare one after the other; a component that goes in between is missed by the second
/// only.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_does_not_come_to_serve_is_taken_back() {
    let gateway = TestGateway::start(FIRST).await;
    let file = gateway.config_file();
    let before = fs::read_to_string(&file).expect("a file");
    let plugins = gateway.plugins_dir();
    let source = plugins.join("sandbox-sms.wasm");
    let mut browser = Browser::of(&gateway, "root").await;
    let edit = before.replace("plugin = \"sandbox-sms\"", "plugin = \"second-sms\"");
    let until = Instant::now() + PATIENCE;
    // Who removes the component may be late on a busy machine; then the edit serves, and it is tried again.
    loop {
        let second = plugins.join("second-sms.wasm");
        fs::copy(&source, &second).expect("copied");
        let page = browser.get("/console/config/").await;
        let checked = browser.submit(&page, "/console/config/check/", &[("text", &edit)]).await;
        assert_eq!(checked.status, 200, "{}", checked.html);
        let (watched, gone) = (file.clone(), second.clone());
        let remover = std::thread::spawn(move || {
            let until = Instant::now() + PATIENCE;
            while !fs::read_to_string(&watched).is_ok_and(|text| text.contains("second-sms")) {
                assert!(Instant::now() < until, "the edit was never written");
                std::thread::sleep(Duration::from_millis(1));
            }
            let _ = fs::remove_file(gone);
        });
        let apply = [("reason", "a new component"), ("confirm", "config.toml")];
        let applied = browser.submit(&checked, "/console/config/apply/", &apply).await;
        remover.join().expect("no panic");
        if applied.status == 400 {
            assert!(applied.has("second-sms"), "the reason is shown: {}", applied.html);
            break;
        }
        assert!(Instant::now() < until, "it was never late");
        gateway.edit_config(&before);
        let serving = |status: &Value| status["providers"].to_string().contains("\"plugin\":\"sandbox-sms\"");
        gateway.wait_for("the first text", serving).await;
    }
    assert_eq!(fs::read_to_string(&file).expect("a file"), before, "the text before is there again");
    gateway.wait_for("the first text", |status| status["config"]["last_error"].is_null()).await;
    let provider = gateway.provider("FIRST").await;
    assert_eq!(provider["plugin"], "sandbox-sms", "{provider}");
    gateway.app.live().identity.audit().flush().await;
    let log = browser.get("/console/audit/?event=config_changed").await;
    assert!(!log.has("a new component") || log.has("config_refused"), "{}", log.html);
}
