//! Replacing providers while they serve.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chelseru_plugin_host::{Desired, Limits, ProviderStatus, Registry, SettingValue};
use tempfile::TempDir;

use crate::kit::*;

const KINDS: &[chelseru_plugin_host::Kind] = &[PROBE];

/// A registry with a folder of plugins.
struct Scene {
    registry: Registry,
    folder: TempDir,
}

impl Scene {
    fn new() -> Scene {
        Scene { registry: Registry::new(host(), KINDS), folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn put(&self, file: &str, guest: &Guest) {
        std::fs::write(self.path(file), guest.bytes()).expect("writable");
    }

    fn want(&self, name: &str, file: &str) -> Desired {
        Desired {
            name: name.to_owned(),
            kind: "probe",
            file: self.path(file),
            settings: BTreeMap::new(),
            hosts: None,
            limits: Limits::default(),
        }
    }

    async fn apply(&self, desired: &[Desired]) {
        let prepared = self.registry.prepare(desired).await;
        self.registry.commit(prepared);
    }

    async fn run(&self, name: &str) -> String {
        let provider = self.registry.get(name).expect("serves");
        run(&provider, "x").await.expect("answers")
    }

    fn status(&self, name: &str) -> ProviderStatus {
        self.registry.status().into_iter().find(|s| s.name == name).expect("an entry")
    }
}

fn answering(run: &'static str) -> Guest {
    Guest { run, ..Guest::default() }
}

/// Answers `not-granted` or `invalid-request`, which is in the frame's data.
const FIRST: &str = "(call $ret (i32.const 256) (i32.const 3))";
const SECOND: &str = "(call $ret (i32.const 272) (i32.const 7))";

#[tokio::test]
async fn new_bytes_serve_the_next_call_and_what_did_not_change_is_the_same_provider() {
    let scene = Scene::new();
    scene.put("a.wasm", &answering(FIRST));
    scene.put("b.wasm", &answering(ECHO));
    let desired = [scene.want("A", "a.wasm"), scene.want("B", "b.wasm")];
    scene.apply(&desired).await;
    assert_eq!((scene.run("A").await, scene.run("B").await), ("not".to_owned(), "x".to_owned()));
    let before = scene.registry.snapshot();

    assert!(!scene.registry.prepare(&desired).await.has_changes(&scene.registry));
    scene.put("a.wasm", &answering(SECOND));
    let prepared = scene.registry.prepare(&desired).await;
    assert!(prepared.has_changes(&scene.registry) && prepared.failures().is_empty());
    assert_eq!(scene.run("A").await, "not", "prepared is not committed");
    let after = scene.registry.commit(prepared);
    assert_eq!(scene.run("A").await, "invalid");
    assert!(Arc::ptr_eq(&before["B"], &after["B"]) && !Arc::ptr_eq(&before["A"], &after["A"]));

    let status = scene.status("A");
    assert_eq!((status.generation, status.reloads, status.state), (2, 1, "serving"));
    assert_eq!((status.calls.calls, status.calls.call_errors, status.reload_failures), (3, 0, 0));
    assert_eq!(status.blake3.as_deref(), Some(after["A"].plugin().digest()));
    assert_eq!(scene.status("B").generation, 1);
}

#[tokio::test]
async fn entries_with_the_same_bytes_share_one_plugin() {
    let scene = Scene::new();
    scene.put("a.wasm", &answering(ECHO));
    scene.put("copy.wasm", &answering(ECHO));
    scene.apply(&[scene.want("A", "a.wasm"), scene.want("B", "a.wasm"), scene.want("C", "copy.wasm")]).await;
    let all = scene.registry.snapshot();
    assert!(
        Arc::ptr_eq(all["A"].plugin(), all["B"].plugin())
            && Arc::ptr_eq(all["A"].plugin(), all["C"].plugin())
    );
    let mut limited = scene.want("A", "a.wasm");
    limited.limits.concurrency_max = 1;
    scene.apply(&[limited]).await;
    let changed = scene.registry.snapshot();
    assert_eq!(changed.len(), 1, "what is not desired any more leaves");
    assert!(!Arc::ptr_eq(&all["A"], &changed["A"]) && Arc::ptr_eq(all["A"].plugin(), changed["A"].plugin()));
    assert_eq!(scene.status("A").generation, 2);
}

#[tokio::test]
async fn whatever_is_wrong_the_old_one_keeps_serving_and_says_why() {
    let scene = Scene::new();
    let good = answering(FIRST);
    scene.put("a.wasm", &good);
    let desired = [scene.want("A", "a.wasm")];
    scene.apply(&desired).await;

    let required = Setting { key: "api_key", kind: 0, required: true, secret: true, default: None };
    let url =
        Setting { key: "base_url", kind: 3, required: false, secret: false, default: Some("https://a.com") };
    let truncated = good.bytes()[..200].to_vec();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (truncated, "plugin \"a.wasm\": not a valid component: "),
        (
            Guest { export: "test:other/thing@1.0.0", ..good.clone() }.bytes(),
            "plugin \"a.wasm\": wrong kind: ",
        ),
        (
            Guest { export: "test:probe/probe@1.1.0", ..good.clone() }.bytes(),
            "plugin \"a.wasm\": world \"test:probe/probe@1.1.0\" is newer than this host (1.0)",
        ),
        (
            Guest { imports: r#"(import "backdoor" (func))"#, ..good.clone() }.bytes(),
            "plugin \"a.wasm\": import \"backdoor\" is not served",
        ),
        (
            Guest { settings: vec![required], ..good.clone() }.bytes(),
            "provider \"A\": setting \"api_key\" is missing (For the test.)",
        ),
        (
            Guest { settings: vec![url], ..good.clone() }.bytes(),
            "provider \"A\": setting \"base_url\": host \"a.com:443\" is not granted, granted are: none",
        ),
    ];
    for (i, (bytes, expected)) in cases.into_iter().enumerate() {
        std::fs::write(scene.path("a.wasm"), bytes).expect("writable");
        let prepared = scene.registry.prepare(&desired).await;
        let [(name, error)] = prepared.failures() else { panic!("{:?}", prepared.failures()) };
        assert_eq!(name, "A");
        assert!(error.to_string().starts_with(expected), "{error}");
        assert_eq!(prepared.providers().len(), 1, "the old one would serve");
        // Both ways to end a preparation keep the old one.
        if i % 2 == 0 {
            scene.registry.commit(prepared);
        } else {
            scene.registry.refuse(prepared);
        }
        assert_eq!(scene.run("A").await, "not");
        let status = scene.status("A");
        assert_eq!(
            (status.state, status.generation, status.reload_failures),
            ("serving-old", 1, i as u64 + 1)
        );
        assert!(status.last_error.is_some_and(|e| e.starts_with(expected)));
    }
    std::fs::remove_file(scene.path("a.wasm")).expect("there");
    scene.apply(&desired).await;
    assert!(scene.status("A").last_error.is_some_and(|e| e.starts_with("plugin \"a.wasm\": ")));
    assert_eq!(scene.run("A").await, "not");

    scene.put("a.wasm", &answering(SECOND));
    scene.apply(&desired).await;
    let status = scene.status("A");
    assert_eq!((status.state, status.generation, status.last_error), ("serving", 2, None));
    assert_eq!(scene.run("A").await, "invalid");
}

#[tokio::test]
async fn settings_are_checked_and_their_change_is_a_new_generation() {
    let scene = Scene::new();
    let key = Setting { key: "api_key", kind: 0, required: true, secret: true, default: None };
    scene.put(
        "a.wasm",
        &Guest {
            settings: vec![key],
            run: "(call $setting (i32.const 600) (i32.const 0))",
            ..Guest::default()
        },
    );
    let with = |pairs: &[(&str, &str)]| Desired {
        settings: pairs.iter().map(|(k, v)| ((*k).to_owned(), SettingValue::from(*v))).collect(),
        ..scene.want("A", "a.wasm")
    };
    scene.apply(&[with(&[("api_key", "one")])]).await;
    scene.apply(&[with(&[("api_key", "two")])]).await;
    assert_eq!(scene.status("A").generation, 2);
    scene.apply(&[with(&[("api_key", "two"), ("colour", "red")])]).await;
    let status = scene.status("A");
    assert_eq!((status.state, status.generation), ("serving-old", 2));
    assert_eq!(
        status.last_error.as_deref(),
        Some("provider \"A\": setting \"colour\" is unknown, accepted are: api_key")
    );
    scene.apply(&[with(&[("api_key", "two")])]).await;
    assert_eq!((scene.status("A").state, scene.status("A").generation), ("serving", 2));
}

#[tokio::test]
async fn a_name_that_never_served_is_failed_and_others_are_not_held_up() {
    let scene = Scene::new();
    scene.put("a.wasm", &answering(ECHO));
    let desired = [scene.want("A", "a.wasm"), scene.want("B", "b.wasm"), scene.want("A", "a.wasm")];
    let prepared = scene.registry.prepare(&desired).await;
    let texts: Vec<String> = prepared.failures().iter().map(|(_, e)| e.to_string()).collect();
    assert!(texts[0].starts_with("plugin \"b.wasm\": "), "{texts:?}");
    assert_eq!(texts[1], "provider \"A\" is there twice");
    scene.apply(&desired[..2]).await;
    assert_eq!(scene.run("A").await, "x");
    assert_eq!(scene.status("B").state, "failed");
    assert!(scene.registry.get("B").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_flight_finish_on_the_old_one() {
    let scene = Scene::new();
    scene.put(
        "a.wasm",
        &answering("(call $sleep (i64.const 3000000000)) (call $ret (i32.const 256) (i32.const 3))"),
    );
    let desired = [scene.want("A", "a.wasm")];
    scene.apply(&desired).await;
    let old = scene.registry.get("A").expect("serves");
    let call = tokio::spawn(async move { run(&old, "x").await });
    while scene.status("A").calls.in_flight == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    scene.put("a.wasm", &answering(SECOND));
    scene.apply(&desired).await;
    assert_eq!(scene.status("A").calls.in_flight, 1, "the old call is still counted");
    assert_eq!(scene.run("A").await, "invalid");
    assert_eq!(call.await.expect("no panic"), Ok("not".to_owned()));
    assert_eq!(scene.status("A").calls.in_flight, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_still_being_written_is_waited_for() {
    let scene = Scene::new();
    let bytes = answering(ECHO).bytes();
    let path = scene.path("a.wasm");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("writable");
    let writer = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        tokio::fs::write(&path, &bytes).await.expect("writable");
    });
    scene.apply(&[scene.want("A", "a.wasm")]).await;
    writer.await.expect("no panic");
    assert_eq!(scene.status("A").state, "serving");
}
