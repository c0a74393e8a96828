//! Backup of a serving gateway, and a gateway that continues from it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use chelseru_store::{AuditQuery, Store, StoreOptions};
use chelseru_tests::process::{Served, run};
use chelseru_tests::{Answer, client, code_in, folder};
use serde_json::json;

/// Returns whether the command succeeded, and its output.
fn command(dir: &Path, arguments: &[&str]) -> (bool, String) {
    let output = run(dir, arguments);
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

async fn login(served: &Served, number: &str) -> Answer {
    let (client, url) = (client(), &served.url);
    let sent =
        Answer::of(client.post(format!("{url}/otp/send/")).json(&json!({"mobile_number": number}))).await;
    assert_eq!(sent.status, 200, "{:?}", sent.body);
    let inbox = client.get(format!("{}/sandbox/inbox/?mobile_number={number}", served.operator_url));
    let inbox = Answer::of(inbox).await;
    let code = code_in(inbox.body["results"][0]["text"].as_str().expect("a text"));
    let body = json!({"mobile_number": number, "code": code});
    let answer = Answer::of(client.post(format!("{url}/authenticate/")).json(&body)).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_goes_on_from_a_backup_that_was_written_while_it_served() {
    let dir = folder("");
    let at = dir.path();
    let (done, text) = command(at, &["backup", "early"]);
    assert!(!done && text.contains("no store found"), "{text}");

    let served = Served::start(at);
    let address = served.url.trim_start_matches("http://").split('/').next().expect("an address").to_owned();
    std::fs::write(at.join("asking.toml"), format!("[server]\nlisten = \"{address}\"\n")).expect("a file");
    let ask = |arguments: &[&str]| command(at, &[arguments, &["--config", "asking.toml"]].concat());
    let before = login(&served, "09120000001").await.login();
    std::fs::create_dir_all(at.join("data/uploads/aa")).expect("a folder");
    std::fs::write(at.join("data/uploads/aa/file"), "uploaded").expect("a file");

    // Users log in meanwhile; nothing fails, and the backup holds all of a login or nothing of it.
    let (stop, logins) = (AtomicBool::new(false), AtomicU32::new(0));
    let busy = async {
        while !stop.load(Ordering::Relaxed) {
            let n = logins.fetch_add(1, Ordering::Relaxed);
            login(&served, &format!("0912000{:04}", n + 100)).await;
        }
    };
    let backup = async {
        let dir = at.to_owned();
        for name in ["first", "second"] {
            let dir = dir.clone();
            let run = move || command(&dir, &["backup", name, "--config", "asking.toml"]);
            let (done, text) = tokio::task::spawn_blocking(run).await.expect("no panic");
            assert!(done && text.contains("records"), "{text}");
        }
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(busy, backup);
    assert!(logins.load(Ordering::Relaxed) > 0);

    let (done, text) = ask(&["backup", "first"]);
    assert!(!done && text.contains("exists already"), "{text}");
    std::fs::create_dir(at.join("other.part")).expect("a folder");
    let (done, text) = ask(&["backup", "other"]);
    assert!(!done && text.contains("other.part") && at.join("other.part").exists(), "{text}");
    let (done, text) = ask(&["backup", "data/inside"]);
    assert!(!done && text.contains("lies inside the data folder"), "{text}");
    let (done, text) = ask(&["backup", "nowhere/deep"]);
    assert!(!done && text.contains("nowhere"), "{text}");
    // Without the token in the data folder the route does not exist.
    let route =
        client().post(format!("{}/operator/backup/", served.operator_url)).json(&json!({"folder": "/tmp/x"}));
    assert_eq!(Answer::of(route.header("x-operator-token", "00")).await.status, 404);
    assert!(!at.join("second.part").exists() && !at.join("second/cache").exists());
    assert!(!at.join("second/operator.token").exists() && !at.join("second/db").exists());

    let after = login(&served, "09120000002").await.login();
    let (done, text) = command(at, &["restore", "second"]);
    assert!(!done && text.contains("already holds a store or a key"), "{text}");
    served.kill();

    // A truncated backup is refused before anything is created from it.
    std::fs::rename(at.join("data"), at.join("data.old")).expect("moved");
    let export = at.join("first/store.export");
    let bytes = std::fs::read(&export).expect("an export");
    std::fs::write(&export, &bytes[..bytes.len() - 1]).expect("a file");
    let (done, text) = command(at, &["restore", "first"]);
    assert!(!done && text.contains("store.export: has") && text.contains("instead of"), "{text}");
    assert!(!at.join("data").exists());
    let (done, text) = command(at, &["restore", "asking.toml"]);
    assert!(!done && text.contains("chelseru backup"), "{text}");

    // An interrupted restore without the key leaves nothing that a gateway would start on.
    std::fs::create_dir(at.join("data")).expect("a folder");
    std::fs::write(at.join("data/plugins"), "no folder").expect("a file");
    assert!(!command(at, &["restore", "second"]).0);
    let (done, text) = command(at, &["ledger", "verify"]);
    assert!(!done && text.contains("was interrupted"), "{text}");
    std::fs::remove_dir_all(at.join("data")).expect("removed");
    let (done, text) = command(at, &["restore", "second"]);
    assert!(done && text.contains("the ledger is verified"), "{text}");
    assert_eq!(std::fs::read(at.join("data/uploads/aa/file")).expect("a file"), b"uploaded");
    let served = Served::start(at);
    let sessions = async |access: &str| {
        let request = client().get(format!("{}/sessions/", served.url));
        Answer::of(request.header("authorization", format!("Bearer {access}"))).await.status
    };
    // A user who logged in before the backup keeps the token; a later login is unknown.
    assert_eq!((sessions(&before.access).await, sessions(&after.access).await), (200, 401));
    // No new login gets the forgotten session, so its token stays invalid.
    for n in 0..6 {
        login(&served, &format!("0912001000{n}")).await;
        assert_eq!(sessions(&after.access).await, 401);
    }
    served.kill();

    // The same without a running gateway.
    let (done, text) = command(at, &["backup", "third"]);
    assert!(done, "{text}");

    // Copying the key and the origin of this store are recorded: "second" holds the events before it.
    let store = Store::open(at.join("data/db"), StoreOptions::default()).expect("a store");
    let of = async |event: &str| {
        let query = AuditQuery {
            event: Some(event.to_owned()),
            limit: 10,
            look_max: 1_000_000,
            ..AuditQuery::default()
        };
        let entries = store.audit_page(&query).await.expect("read").entries;
        entries.into_iter().map(|entry| entry.draft.subject).collect::<Vec<_>>()
    };
    let absolute = |name: &str| at.join(name).display().to_string();
    assert_eq!(of("backup_written").await, [absolute("third"), absolute("first")]);
    assert_eq!(of("backup_restored").await, [absolute("second")]);
}
