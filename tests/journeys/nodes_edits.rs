//! Edits at one of two gateways: of the configuration and of components, made by both.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use chelseru_domain::clock::SystemClock;
use chelseru_tests::bus::BusServer;
use chelseru_tests::{Answer, TestGateway, folder, process, replace, store};
use serde_json::{Value, json};

use super::console_v1::Program;
use super::nodes::{Two, config, copy_key};

/// The number of an edit of a database that the gateway had before.
fn strange(dir: &Path) {
    fs::write(dir.join("data/edits"), "9").expect("a file");
}

/// Applies an edit of the whole file at a gateway.
async fn apply(at: &TestGateway, edit: impl Fn(&str) -> String) -> Answer {
    let admin = Program::of(at, "operator:admin").await;
    let seen = admin.get("/config/").await.body;
    let text = edit(seen["text"].as_str().expect("a text"));
    admin.post("/config/apply/", json!({"text": text, "mark": seen["mark"], "reason": "a test"})).await
}

/// Waits until a gateway made this edit.
async fn made(at: &TestGateway, number: u64) -> Value {
    at.wait_for("the edit", |status| status["gateways"]["edits"]["last"] == number).await
}

fn file(at: &TestGateway) -> String {
    fs::read_to_string(at.config_file()).expect("a file")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_at_one_gateway_is_made_at_the_other() {
    let one = "[auth]\notp_length = 6 # here\n";
    let Some(two) = Two::start_each([one, "# theirs\n[auth]\notp_length = 6 # there\n"], strange).await
    else {
        return;
    };
    let [first, second] = &two.nodes;
    made(first, 0).await;
    made(second, 0).await;
    let secret = "[provider.PANEL]\nplugin = \"kavenegar\"\nsettings = { api_key = \"hidden\" }\n";
    let edit = |text: &str| format!("{}\n{secret}", text.replace("otp_length = 6", "otp_length = 5"));
    let applied = apply(first, edit).await;
    assert_eq!(applied.status, 204, "{applied:?}");
    made(second, 1).await;
    assert_eq!(second.app.live().config.auth.otp_length, 5, "it serves");
    let theirs = file(second);
    assert!(theirs.contains("# theirs") && theirs.contains("otp_length = 5 # there"), "{theirs}");
    assert!(theirs.contains("\"hidden\""), "{theirs}");
    let status = second.wait_for("equal digests", |status| {
        let nodes = status["gateways"]["nodes"].as_array().expect("a list");
        nodes.len() == 2 && nodes.iter().all(|node| node["edit"] == 1 && node["config_differs"] == false)
    });
    status.await;
    let stored = store_text(&two).await;
    assert!(!stored.contains("hidden"), "it is sealed: {stored}");
    // And back, by the next edit.
    let applied = apply(second, |text| text.replace("otp_length = 5", "otp_length = 7")).await;
    assert_eq!(applied.status, 204, "{applied:?}");
    made(first, 2).await;
    assert_eq!(first.app.live().config.auth.otp_length, 7);
    // A key of the machine is nobody else's.
    let applied = apply(second, |text| format!("{text}\n[log]\nlevel = \"error\"\n")).await;
    assert_eq!(applied.status, 204, "{applied:?}");
    assert!(file(second).contains("\"error\"") && !file(first).contains("\"error\""));
    assert_eq!(first.app.store.edit_last().await.expect("the store"), 2);
}

/// What the database holds of edits, as text.
async fn store_text(two: &Two) -> String {
    let store = &two.nodes[0].app.store;
    let edit = store.edit_after(0).await.expect("the store").expect("an edit");
    String::from_utf8_lossy(&edit.sealed).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_one_gateway_refuses_waits_there_and_is_told() {
    let ours = "[provider.PANEL]\nplugin = \"sandbox-sms\"\n[sms]\nservice = [\"SANDBOX\"]\n\
                [provider.SANDBOX]\nplugin = \"sandbox-sms\"\n";
    let theirs = ours.replace("[provider.PANEL]\nplugin = \"sandbox-sms\"\n", "");
    let Some(two) = Two::start_each([ours, &theirs], |_| {}).await else { return };
    let [first, second] = &two.nodes;
    made(first, 0).await;
    made(second, 0).await;
    let both = |text: &str| text.replace("[\"SANDBOX\"]", "[\"SANDBOX\", \"PANEL\"]");
    let applied = apply(first, both).await;
    assert_eq!(applied.status, 204, "{applied:?}");
    let refused = |status: &Value| {
        status["gateways"]["edits"]["refused"].as_str().is_some_and(|reason| reason.contains("PANEL"))
    };
    second.wait_for("the refusal", refused).await;
    assert_eq!(second.app.live().config.sms.service.names(), ["SANDBOX"], "the old one serves");
    assert!(!file(second).contains("[\"SANDBOX\", \"PANEL\"]"), "{}", file(second));
    let dir = second.dir.path().to_owned();
    let doctor = tokio::task::spawn_blocking(move || process::run(&dir, &["doctor"])).await;
    let said = String::from_utf8_lossy(&doctor.expect("no panic").stdout).into_owned();
    assert!(said.contains("not made here: edit 1, made at ") && said.contains("PANEL"), "{said}");
    // Nobody edits there before it has caught up; the operator repairs its file, and it does.
    let early = apply(second, |text| text.replace("otp_length = 6", "otp_length = 5")).await;
    assert!(early.status == 204 || early.header("x-error-code") == "config_stale", "{early:?}");
    let late = apply(second, |text| format!("{text}\n[auth]\notp_length = 5\n")).await;
    assert_eq!(late.header("x-error-code"), "config_stale", "{late:?}");
    second.edit_config(&format!("{}\n[provider.PANEL]\nplugin = \"sandbox-sms\"\n", file(second)));
    made(second, 1).await;
    assert_eq!(second.app.live().config.sms.service.names(), ["SANDBOX", "PANEL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_a_file_that_is_no_toml_is_said_to_stay_at_its_gateway() {
    let Some(two) = Two::start("").await else { return };
    let [first, second] = &two.nodes;
    made(first, 0).await;
    made(second, 0).await;
    let good = file(first);
    replace(&first.config_file(), b"no toml [");
    first.wait_for("the refusal", |status| status["config"]["last_error"].is_string()).await;
    let admin = Program::of(first, "operator:admin").await;
    let checked = admin.post("/config/check/", json!({"text": good})).await;
    assert_eq!(checked.status, 200, "{checked:?}");
    assert!(checked.body["warnings"].to_string().contains("at this gateway only"), "{checked:?}");
    assert_eq!(apply(first, |_| format!("{good}\n[auth]\notp_length = 5\n")).await.status, 204);
    assert_eq!((first.app.live().config.auth.otp_length, second.app.live().config.auth.otp_length), (5, 6));
    assert_eq!(first.app.store.edit_last().await.expect("the store"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_is_installed_everywhere_and_a_gateway_that_was_away_takes_it() {
    let (Some(bus), Some(database)) = (BusServer::start(), store::database()) else { return };
    let text = config(&database, &bus.url(), "[provider.OTHER]\nplugin = \"other\"\n");
    let first = folder(&text);
    let second = folder(&text);
    let parts: Vec<Vec<u8>> = ["sandbox-sms", "kavenegar"]
        .iter()
        .map(|name| fs::read(first.path().join(format!("data/plugins/{name}.wasm"))).expect("a component"))
        .collect();
    for dir in [&first, &second] {
        fs::write(dir.path().join("data/plugins/other.wasm"), &parts[0]).expect("a file");
    }
    let first = TestGateway::start_in(first, Arc::new(SystemClock)).await;
    copy_key(first.config_file().parent().expect("a folder"), second.path());
    let second = TestGateway::start_in(second, Arc::new(SystemClock)).await;
    made(&first, 0).await;
    made(&second, 0).await;
    let both = |status: &Value| status["gateways"]["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2);
    first.wait_for("the other gateway", both).await;
    // By the command, which asks the gateway that runs in its folder.
    let dir = first.config_file().parent().expect("a folder").to_owned();
    let own = dir.join("zarinpal.wasm");
    fs::copy(dir.join("data/plugins/zarinpal.wasm"), &own).expect("a copy");
    let run = async |arguments: Vec<String>| {
        let dir = dir.clone();
        let run = move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            process::run(&dir, &arguments)
        };
        let output = tokio::task::spawn_blocking(run).await.expect("no panic");
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let install =
        |name: &str, file: &str| ["plugin", "install", file, "--name", name].map(str::to_owned).to_vec();
    let (done, said) = run(install("new-bank", "zarinpal.wasm")).await;
    assert!(
        done && said.contains("new-bank is installed, and no") && said.contains("other 1 gateways"),
        "{said}"
    );
    made(&second, 1).await;
    let there = |at: &TestGateway, name: &str| fs::read(at.plugins_dir().join(format!("{name}.wasm"))).ok();
    assert_eq!(there(&second, "new-bank"), fs::read(&own).ok());
    // Two at once are one after the other, and neither is outdated.
    let one = install("one", "zarinpal.wasm");
    let (one, other) = tokio::join!(run(one), run(install("another", "zarinpal.wasm")));
    assert!(one.0 && other.0, "{one:?} {other:?}");
    made(&second, 3).await;
    assert!(there(&second, "one").is_some() && there(&second, "another").is_some());
    // What a provider refuses is taken back and given to nobody.
    let (done, said) = run(install("other", "zarinpal.wasm")).await;
    assert!(!done && said.contains("refused") && said.contains("OTHER: "), "{said}");
    assert_eq!(there(&first, "other").as_ref(), Some(&parts[0]));
    // One that is away takes it when it is back.
    let away = second.stop().await;
    fs::write(dir.join("panel.wasm"), &parts[1]).expect("a file");
    let (done, said) = run(install("new-bank", "panel.wasm")).await;
    assert!(done, "{said}");
    let second = TestGateway::start_in(away, Arc::new(SystemClock)).await;
    made(&second, 4).await;
    assert_eq!(there(&second, "new-bank").as_ref(), Some(&parts[1]));
    // Without a gateway the folder is filled.
    let dir = second.stop().await;
    fs::write(dir.path().join("panel.wasm"), &parts[1]).expect("a file");
    let path = dir.path().to_owned();
    let output =
        tokio::task::spawn_blocking(move || process::run(&path, &["plugin", "install", "panel.wasm"]));
    let output = output.await.expect("no panic");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(dir.path().join("data/plugins/panel.wasm").is_file());
}
