//! Components uploaded at the console: checked, put in place, taken back when a provider refuses them, rolled back.

use std::fs;

use chelseru_domain::operator::audit::{AuditEntry, AuditQuery};
use chelseru_domain::operator::role::Role;
use chelseru_tests::browser::{Browser, Shown};
use chelseru_tests::{Answer, TestGateway};
use serde_json::{Value, json};

use super::console::with_role;
use super::console_v1::Program;
use super::gateways::Street;
use super::gateways_change::renamed;

const CONFIG: &str = "[sms]\nservice = [\"FIRST\"]\n[provider.FIRST]\nplugin = \"sandbox-sms\"\n\
                      [plugins]\nplugin_bytes_max = 2097152\n";
const BOUNDARY: &str = "----component";

/// A form with a file, as a browser sends it.
fn multipart(fields: &[(&str, &str)], file: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let part =
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend(part.as_bytes());
    }
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x.wasm\"\r\n\
         Content-Type: application/wasm\r\n\r\n"
    );
    body.extend(head.as_bytes());
    body.extend(file);
    body.extend(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    body
}

async fn upload(browser: &Browser, page: &Shown, name: &str, reason: &str, file: &[u8]) -> (u16, String) {
    let key = page.hidden("/console/logout/")["form_key"].clone();
    let body = multipart(&[("form_key", &key), ("name", name), ("reason", reason)], file);
    let request = browser.client().post(browser.at("/console/components/upload/")).body(body);
    let request = request.header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"));
    let answer = browser.raw(request.header("origin", browser.at(""))).await;
    (answer.status().as_u16(), answer.text().await.expect("a page"))
}

/// A program uploads a component.
async fn put(gateway: &TestGateway, by: &Program<'_>, name: &str, bytes: &[u8]) -> Answer {
    let body = multipart(&[("name", name), ("reason", "because")], bytes);
    let request = gateway.client.post(gateway.at("/operator/v1/components/")).body(body);
    by.send(request.header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))).await
}

/// The refused components in the audit log, newest first.
async fn refusals(gateway: &TestGateway) -> Vec<AuditEntry> {
    let live = gateway.app.live();
    live.identity.audit().flush().await;
    let query = AuditQuery { event: Some("plugin_refused".to_owned()), limit: 100, ..AuditQuery::default() };
    live.identity.audit().page(query).await.expect("read").entries
}

/// The same component with another digest: a custom section says nothing.
fn changed(component: &[u8]) -> Vec<u8> {
    let mut changed = component.to_vec();
    changed.extend([0, 5, 4]);
    changed.extend(b"note");
    changed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_is_uploaded_refused_and_rolled_back() {
    let gateway = TestGateway::start(CONFIG).await;
    let file = gateway.plugins_dir().join("sandbox-sms.wasm");
    let first = fs::read(&file).expect("installed");
    let other = fs::read(gateway.plugins_dir().join("kavenegar.wasm")).expect("installed");
    let digest = async || gateway.provider("FIRST").await["blake3"].clone();
    let before = digest().await;
    let mut browser = Browser::of(&gateway, "root").await;
    let page = browser.get("/console/components/").await;
    assert!(page.has("sandbox-sms") && page.has("FIRST"), "{}", page.html);
    assert!(!page.has("/console/components/back/"), "there is none before yet");

    let large = vec![0; (2 << 20) + (64 << 10) + 1];
    for (name, reason, bytes, status) in [
        ("sandbox-sms", "x", &b"no component at all"[..], 400),
        ("sandbox-sms", "x", &first[..first.len() / 2], 400),
        ("sandbox-sms", "", &changed(&first)[..], 400),
        ("sandbox-sms", "x", b"", 400),
        ("../config", "x", &first[..], 400),
        // A whole component that this provider's entry does not suit: it lacks settings.
        ("sandbox-sms", "x", &other[..], 400),
        ("sandbox-sms", "x", &large[..], 413),
    ] {
        let (found, html) = upload(&browser, &page, name, reason, bytes).await;
        assert_eq!(found, status, "{name} {reason:?}, {} bytes: {html}", bytes.len());
        assert_eq!(fs::read(&file).expect("a file"), first, "{name}: the file is the one before");
        assert_eq!(digest().await, before, "the last good one serves");
    }
    let mut viewer = with_role(&gateway, "viewer", Role::Viewer).await;
    let seen = viewer.get("/console/components/").await;
    assert!(seen.status == 200 && !seen.has("/console/components/upload/"), "{}", seen.html);
    assert_eq!(upload(&viewer, &seen, "sandbox-sms", "x", &changed(&first)).await.0, 403);

    let (status, html) = upload(&browser, &page, "sandbox-sms", "a newer one", &changed(&first)).await;
    assert_eq!(status, 303, "{html}");
    let after = digest().await;
    assert_ne!(after, before, "the new one serves");
    let page = browser.get("/console/components/").await;
    let unnamed = [("name", "sandbox-sms"), ("reason", "it was worse")];
    assert_eq!(browser.submit(&page, "/console/components/back/", &unnamed).await.status, 400);
    assert_eq!(digest().await, after);
    let back = [unnamed[0], unnamed[1], ("confirm", "sandbox-sms")];
    let done = browser.submit(&page, "/console/components/back/", &back).await;
    assert_eq!(done.address, "/console/components/?done=1", "{}", done.html);
    assert_eq!((digest().await, fs::read(&file).expect("a file")), (before.clone(), first.clone()));

    // A new name is added, and programs do the same.
    let admin = Program::of(&gateway, "operator:admin").await;
    assert_eq!(put(&gateway, &admin, "second-sms", &first).await.status, 201);
    assert!(gateway.plugins_dir().join("second-sms.wasm").is_file());
    let refused = put(&gateway, &admin, "sandbox-sms", b"no component at all").await;
    assert_eq!((refused.status, refused.header("x-error-code")), (409, "config_refused"), "{refused:?}");
    let again = admin.post("/components/sandbox-sms/back/", json!({"reason": "it was better"})).await;
    assert_eq!((again.status, &again.body["blake3"]), (200, &after), "{again:?}");
    assert_eq!(digest().await, after);
    assert!(admin.count("/components/").await > 2);
    gateway.app.live().identity.audit().flush().await;
    let log = browser.get("/console/audit/?event=plugin_changed").await;
    assert!(log.has("a newer one") && log.has("it was worse"), "{}", log.html);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_upload_is_recorded_with_who_brought_it_and_why_it_was_refused() {
    let gateway = TestGateway::start(CONFIG).await;
    let mut browser = Browser::of(&gateway, "root").await;
    let page = browser.get("/console/components/").await;
    assert!(refusals(&gateway).await.is_empty());
    assert_eq!(upload(&browser, &page, "sandbox-sms", "a newer one", b"\0asm").await.0, 400);
    let recorded = refusals(&gateway).await;
    let [entry] = recorded.as_slice() else { panic!("{recorded:?}") };
    let draft = &entry.draft;
    let told = (draft.subject.as_str(), draft.reason.as_str(), draft.actor.is_some());
    assert_eq!(told, ("sandbox-sms", "a newer one", true), "{draft:?}");
    assert!(draft.detail.starts_with("console: not a valid component"), "{draft:?}");

    // By a program, and by a provider: the entry's own refusal is recorded beside it.
    let admin = Program::of(&gateway, "operator:admin").await;
    let other = fs::read(gateway.plugins_dir().join("kavenegar.wasm")).expect("installed");
    assert_eq!(put(&gateway, &admin, "sandbox-sms", &other).await.status, 409);
    let recorded = refusals(&gateway).await;
    let of = |subject: &str| recorded.iter().find(|entry| entry.draft.subject == subject);
    assert!(of("FIRST").is_some_and(|entry| entry.draft.detail.contains("api_key")), "{recorded:?}");
    let told = &of("sandbox-sms").expect("recorded").draft;
    let is_whole = told.detail.starts_with("operator API, key 1: FIRST: ") && told.detail.contains("api_key");
    assert!(is_whole && told.reason == "because", "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_another_plugin_is_refused_while_payments_are_open() {
    let street = Street::open("ZARINPAL_COM").await;
    street.create(5000).await;
    let gateway = &street.shop.gateway;
    let file = gateway.plugins_dir().join("zarinpal.wasm");
    let first = fs::read(&file).expect("installed");
    let admin = Program::of(gateway, "operator:admin").await;
    let refused = put(gateway, &admin, "zarinpal", &renamed(&first)).await;
    assert_eq!((refused.status, refused.header("x-error-code")), (409, "config_refused"), "{refused:?}");
    let wanted =
        "ZARINPAL_COM: cannot change its plugin from zarinpal to zarinpax while it has 1 open payments";
    assert_eq!(refused.body["problems"], json!([wanted]));
    assert_eq!(fs::read(&file).expect("a file"), first, "it is taken back");
    // Copied there by hand, and uploaded then: it does not serve, so it is no success.
    chelseru_tests::replace(&file, &renamed(&first));
    let refused = |status: &Value| status["plugins"]["serving_old"] == json!(["ZARINPAL_COM"]);
    gateway.wait_for("the refusal", refused).await;
    let again = put(gateway, &admin, "zarinpal", &renamed(&first)).await;
    assert_eq!((again.status, &again.body["problems"]), (409, &json!([wanted])), "{again:?}");
    // Another version of the same plugin is taken.
    let newer = put(gateway, &admin, "zarinpal", &changed(&first)).await;
    assert_eq!(newer.status, 201, "{newer:?}");
    assert_eq!(gateway.provider("ZARINPAL_COM").await["state"], "serving");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_replaces_a_pipe_and_a_huge_file_and_waits_for_neither() {
    let gateway = TestGateway::start(CONFIG).await;
    let first = fs::read(gateway.plugins_dir().join("sandbox-sms.wasm")).expect("installed");
    let admin = Program::of(&gateway, "operator:admin").await;
    let file = gateway.plugins_dir().join("mine.wasm");
    let before = gateway.plugins_dir().join("mine.wasm.before");
    let pipe = |path: &std::path::Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo runs");
        assert!(made.success());
    };
    let huge = |path: &std::path::Path| {
        // Sparse: it takes no disk.
        fs::File::create(path).and_then(|file| file.set_len(20 << 30)).expect("a file");
    };
    let strays: [fn(&std::path::Path); 2] = [pipe, huge];
    for stray in strays {
        stray(&file);
        let done = put(&gateway, &admin, "mine", &first).await;
        assert_eq!(done.status, 201, "{done:?}");
        assert_eq!(fs::read(&file).expect("a file"), first);
        assert!(!before.exists(), "that was no component");
        fs::remove_file(&file).expect("there");
    }
    // The next edits are made: nobody holds their lock.
    assert_eq!(put(&gateway, &admin, "mine", &first).await.status, 201);
    assert_eq!(put(&gateway, &admin, "mine", &changed(&first)).await.status, 201);
    fs::remove_file(&file).expect("there");
    pipe(&file);
    let listed = admin.get("/components/").await;
    assert!(!listed.text.contains("\"mine\""), "a pipe is no component: {listed:?}");
    let back = admin.post("/components/mine/back/", json!({"reason": "it was better"})).await;
    assert_eq!(back.status, 200, "{back:?}");
    assert_eq!(fs::read(&file).expect("a file"), first);
    // A pipe in the place of the one before is none, either.
    fs::remove_file(&before).expect("there");
    pipe(&before);
    let none = admin.post("/components/mine/back/", json!({"reason": "it was better"})).await;
    assert_eq!((none.status, none.header("x-error-code")), (400, "house_failed"), "{none:?}");
}
