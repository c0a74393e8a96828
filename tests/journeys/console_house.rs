//! The configuration, the providers and the backups at the console.

use std::collections::BTreeMap;
use std::fs;

use chelseru_domain::operator::role::Role;
use chelseru_tests::TestGateway;
use chelseru_tests::browser::{Browser, Shown};

use super::console::with_role;

const TWO: &str = r#"
[sms] # of the shop
service = ["FIRST", "SECOND"] # in this order
[provider.FIRST]
plugin = "sandbox-sms"
[provider.SECOND]
plugin = "sandbox-sms"
[auth]
otp_test_numbers = { "09120000000" = "123456" }
"#;

/// The text of the page's first long field.
fn edited(page: &Shown) -> String {
    let rest = page.html.split_once("class=\"long\"").expect("a field").1;
    let text = rest.split_once('>').expect("an end").1.split_once("</textarea>").expect("an end").0;
    let text = text.strip_prefix('\n').unwrap_or(text);
    let pairs = [("&#60;", "<"), ("&#62;", ">"), ("&#34;", "\""), ("&#39;", "'"), ("&#38;", "&")];
    pairs.into_iter().fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

async fn check(browser: &mut Browser, page: &Shown, text: &str) -> Shown {
    // A browser ends lines with two characters.
    let text = text.replace('\n', "\r\n");
    browser.submit(page, "/console/config/check/", &[("text", &text)]).await
}

/// What is typed before a configuration is applied.
const CONFIRM: (&str, &str) = ("confirm", "config.toml");

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_checked_applied_and_rolled_back() {
    let gateway = TestGateway::start(TWO).await;
    let file = gateway.config_file();
    let first = fs::read_to_string(&file).expect("a file");
    let mut browser = Browser::of(&gateway, "root").await;
    let page = browser.get("/console/config/").await;
    let text = edited(&page);
    assert!(!page.has("123456") && text.contains("••••••") && text.contains("# in this order"), "{text}");

    let wrong = check(&mut browser, &page, &text.replace("[auth]", "[auth]\notp_lenght = 5")).await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.has("otp_lenght") && wrong.has("otp_length"), "the message names the cure: {}", wrong.html);
    assert!(edited(&wrong).contains("otp_lenght = 5"), "what was typed is kept");
    assert_eq!(check(&mut browser, &page, "").await.status, 400);

    let changed = text.replace("[auth]", "[auth]\notp_length = 5");
    let changed = changed.replace("\"••••••\"", "\"54321\"");
    let checked = check(&mut browser, &page, &changed).await;
    assert_eq!(checked.status, 200, "{}", checked.html);
    assert!(checked.has("+ otp_length = 5"), "the difference: {}", checked.html);
    assert_eq!(fs::read_to_string(&file).expect("a file"), first, "a check changes nothing");
    let apply = "/console/config/apply/";
    let refused = browser.submit(&checked, apply, &[("reason", "")]).await;
    assert_eq!(refused.status, 400);
    assert_eq!(fs::read_to_string(&file).expect("a file"), first);
    let unnamed = browser.submit(&checked, apply, &[("reason", "shorter codes")]).await;
    assert_eq!(unnamed.status, 400);
    assert_eq!(fs::read_to_string(&file).expect("a file"), first);
    let applied = browser.submit(&checked, apply, &[("reason", "shorter codes"), CONFIRM]).await;
    assert_eq!(applied.address, "/console/config/?done=1", "{}", applied.html);
    assert_eq!(gateway.app.live().config.auth.otp_length, 5, "it serves");
    let second = fs::read_to_string(&file).expect("a file");
    assert!(second.contains("54321") && second.contains("# in this order"), "{second}");

    // The form of the first check is stale now.
    let stale = browser.submit(&checked, apply, &[("reason", "again"), CONFIRM]).await;
    assert_eq!(stale.status, 400, "{}", stale.html);
    let back = browser.get("/console/config/").await;
    assert!(back.has("Roll back") || back.has("بازگشت"), "{}", back.html);
    let before = fs::read_to_string(file.with_extension("toml.before")).expect("the text before");
    assert_eq!(before, first);
    let rest = back.html.rsplit_once("class=\"long\"").expect("a second field").1;
    assert!(rest.contains("••••••"), "secrets are hidden there too");
    let checked = check(&mut browser, &back, &first).await;
    let applied = browser.submit(&checked, apply, &[("reason", "longer codes again"), CONFIRM]).await;
    assert_eq!(applied.address, "/console/config/?done=1", "{}", applied.html);
    assert_eq!(gateway.app.live().config.auth.otp_length, 6);
    assert_eq!(fs::read_to_string(&file).expect("a file"), first);
    gateway.app.live().identity.audit().flush().await;
    let log = browser.get("/console/audit/?event=config_changed").await;
    assert!(log.has("shorter codes") && log.has("longer codes again"), "{}", log.html);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_shown_moved_and_tested() {
    let gateway = TestGateway::start(TWO).await;
    let mut viewer = with_role(&gateway, "viewer", Role::Viewer).await;
    let config = viewer.get("/console/config/").await;
    assert!(
        config.status == 200 && !config.has("otp_test_numbers"),
        "comments are for admins: {}",
        config.html
    );
    let list = viewer.get("/console/providers/").await;
    assert!(list.has("/console/providers/FIRST/") && list.has("serving"), "{}", list.html);
    let path = "/console/providers/SECOND/";
    let page = viewer.get(path).await;
    assert!(page.status == 200 && !page.has("<textarea"), "{}", page.html);
    assert_eq!(viewer.get("/console/providers/OTHER/").await.status, 404);
    let mut form: BTreeMap<String, String> = page.hidden("/console/logout/");
    form.insert("reason".into(), "x".into());
    assert_eq!(viewer.post("/console/providers/SECOND/move/", form).await.status, 403);

    let mut browser = Browser::of(&gateway, "root").await;
    let page = browser.get(path).await;
    let place = "/console/providers/SECOND/move/";
    assert_eq!(browser.submit(&page, place, &[("place", "up"), ("reason", "x")]).await.status, 400);
    let moved = browser.submit(&page, place, &[("place", "earlier"), ("reason", "cheaper")]).await;
    assert_eq!(moved.address, format!("{path}?done=1"), "{}", moved.html);
    let text = fs::read_to_string(gateway.config_file()).expect("a file");
    assert!(text.contains("service = [\"SECOND\", \"FIRST\"] # in this order"), "{text}");
    assert_eq!(gateway.app.live().config.sms.service.names(), ["SECOND", "FIRST"], "it serves");

    let test = "/console/providers/SECOND/test/";
    let wrong = [("number", "12"), ("text", "hello"), ("reason", "x")];
    assert_eq!(browser.submit(&moved, test, &wrong).await.status, 400);
    let sent = [("number", "۰۹۱۲۰۰۰۰۰۰۱"), ("text", "hello from SECOND"), ("reason", "new account")];
    let sent = browser.submit(&moved, test, &sent).await;
    assert!(sent.address.starts_with("/console/messages/"), "{}", sent.html);
    assert!(sent.has("hello from SECOND") && sent.has(">SECOND<"), "{}", sent.html);
    gateway.app.live().identity.audit().flush().await;
    let log = browser.get("/console/audit/").await;
    assert!(log.has("cheaper") && log.has("new account"), "{}", log.html);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_written_listed_and_verified() {
    let gateway = TestGateway::start("").await;
    let elsewhere = tempfile::tempdir().expect("a folder");
    let folder = elsewhere.path().join("monday");
    let name = folder.to_str().expect("text");
    let mut browser = Browser::of(&gateway, "root").await;
    let page = browser.get("/console/backups/").await;
    let write = "/console/backups/write/";
    assert_eq!(browser.submit(&page, write, &[("folder", "monday")]).await.status, 400, "not absolute");
    let written = browser.submit(&page, write, &[("folder", name)]).await;
    assert_eq!(written.address, "/console/backups/?done=1", "{}", written.html);
    assert_eq!(browser.submit(&page, write, &[("folder", name)]).await.status, 400, "it exists");
    gateway.app.live().identity.audit().flush().await;
    assert!(browser.get("/console/backups/").await.has(name));
    let verify = "/console/backups/verify/";
    let whole = browser.submit(&page, verify, &[("folder", name)]).await;
    assert!(whole.status == 200 && whole.has("پشتیبان سالم است"), "{}", whole.html);
    let key = folder.join("master.key");
    let mut bytes = fs::read(&key).expect("a key");
    bytes[0] ^= 1;
    fs::write(&key, bytes).expect("altered");
    let altered = browser.submit(&page, verify, &[("folder", name)]).await;
    assert!(altered.status == 400 && altered.has("master.key"), "{}", altered.html);
}
