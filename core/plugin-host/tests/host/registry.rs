//! Replacing providers while they serve.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chelseru_plugin_host::{
    Desired, Failure, Host, HostOptions, Limits, PluginPin, PluginPins, ProviderStatus, Registry,
    RegistryHealth, Serves, SettingValue,
};
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
        let [Failure { name, error, serves, .. }] = prepared.failures() else {
            panic!("{:?}", prepared.failures())
        };
        assert_eq!((name.as_str(), *serves), ("A", Serves::LastGood));
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
    let texts: Vec<String> = prepared.failures().iter().map(|failure| failure.error.to_string()).collect();
    assert!(texts[0].starts_with("plugin \"b.wasm\": "), "{texts:?}");
    assert_eq!(texts[1], "duplicate provider \"A\"");
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

/// A host that keeps code and the last good bytes in the folder.
fn keeping(folder: &std::path::Path) -> Registry {
    let options =
        HostOptions { calls_max: 8, cache_dir: Some(folder.join("cache")), ..HostOptions::default() };
    Registry::new(Host::new(options).expect("a host"), KINDS).with_keeping()
}

/// Waits until the bytes of so many entries are kept.
async fn kept(folder: &std::path::Path, entries: usize) {
    let count = || {
        std::fs::read_dir(folder.join("cache/kept")).map_or(0, |files| {
            files
                .filter_map(|file| Some(file.ok()?.path()))
                .filter(|file| file.extension().is_some_and(|e| e == "wasm"))
                .count()
        })
    };
    while count() != entries {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_with_a_refused_file_serves_the_last_good_bytes_and_the_others() {
    let mut scene = Scene::new();
    scene.registry = keeping(scene.folder.path());
    scene.put("a.wasm", &answering(FIRST));
    scene.put("b.wasm", &answering(ECHO));
    let desired = [scene.want("A", "a.wasm"), scene.want("B", "b.wasm")];
    scene.apply(&desired).await;
    kept(scene.folder.path(), 2).await;

    let good = answering(FIRST).bytes();
    for (what, broken) in [
        ("cut", Some(good[..200].to_vec())),
        ("of another kind", Some(Guest { export: "test:other/thing@1.0.0", ..answering(FIRST) }.bytes())),
        ("missing", None),
    ] {
        match &broken {
            Some(bytes) => std::fs::write(scene.path("a.wasm"), bytes).expect("writable"),
            None => std::fs::remove_file(scene.path("a.wasm")).expect("there"),
        }
        scene.registry = keeping(scene.folder.path());
        let prepared = scene.registry.prepare(&desired).await;
        assert_eq!((prepared.failures().len(), prepared.start_refusals().count()), (1, 0), "{what}");
        assert_eq!(prepared.providers().len(), 2, "{what}");
        scene.registry.commit(prepared);
        assert_eq!(
            (scene.run("A").await, scene.run("B").await),
            ("not".to_owned(), "x".to_owned()),
            "{what}"
        );
        let status = scene.status("A");
        assert_eq!(
            (status.state, status.generation, status.reload_failures),
            ("serving-old", 1, 1),
            "{what}"
        );
        assert!(status.last_error.is_some(), "{what}");
        let health = scene.registry.health();
        assert!(health.is_degraded() && health.serving_old.contains("A"), "{what}: {health:?}");
    }
    // The file is mended while the old bytes serve.
    scene.put("a.wasm", &answering(SECOND));
    scene.apply(&desired).await;
    assert_eq!((scene.run("A").await.as_str(), scene.status("A").state), ("invalid", "serving"));
    assert_eq!(scene.registry.health(), RegistryHealth::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_good_bytes_is_degraded_and_a_wrong_configuration_refuses_it() {
    let mut scene = Scene::new();
    scene.registry = keeping(scene.folder.path());
    scene.put("b.wasm", &answering(ECHO));
    std::fs::write(scene.path("cut.wasm"), &answering(ECHO).bytes()[..200]).expect("writable");
    scene.put("other.wasm", &Guest { export: "test:other/thing@1.0.0", ..answering(ECHO) });
    let mut misread = scene.want("C", "b.wasm");
    misread.settings.insert("colour".to_owned(), "red".into());
    let desired = [
        scene.want("A", "cut.wasm"),
        scene.want("B", "b.wasm"),
        misread,
        scene.want("D", "absent.wasm"),
        scene.want("E", "other.wasm"),
    ];
    let prepared = scene.registry.prepare(&desired).await;
    let refusals: Vec<&str> = prepared.start_refusals().map(|failure| failure.name.as_str()).collect();
    assert_eq!((prepared.failures().len(), refusals), (4, vec!["C", "D", "E"]));
    assert_eq!(prepared.edit_refusals().count(), 4, "an edit brings no refused component");
    scene.registry.commit(prepared);
    assert_eq!(scene.run("B").await, "x");
    let health = scene.registry.health();
    assert!(
        health.is_degraded() && health.failed.contains("A") && !health.failed.contains("B"),
        "{health:?}"
    );
    // What failed before refuses no later edit, unless the configuration is at fault.
    let prepared = scene.registry.prepare(&desired).await;
    let refusals: Vec<&str> = prepared.edit_refusals().map(|failure| failure.name.as_str()).collect();
    assert_eq!(refusals, ["C", "D", "E"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_last_good_component_gets_the_settings_of_now_and_only_those_of_its_own_file() {
    let mut scene = Scene::new();
    scene.registry = keeping(scene.folder.path());
    let key = Setting { key: "api_key", kind: 0, required: true, secret: false, default: None };
    let guest = Guest {
        settings: vec![key],
        // The key's name is in the frame's data only as the description; this one reads it there.
        run: "(call $ret (local.get $in) (local.get $len))",
        ..Guest::default()
    };
    scene.put("a.wasm", &guest);
    let with = |file: &str, value: &str| Desired {
        settings: [("api_key".to_owned(), SettingValue::from(value))].into(),
        ..scene.want("A", file)
    };
    scene.apply(&[with("a.wasm", "one")]).await;
    kept(scene.folder.path(), 1).await;
    let value = |registry: &Registry| {
        registry.get("A").and_then(|provider| provider.setting("api_key").map(str::to_owned))
    };
    std::fs::write(scene.path("a.wasm"), &guest.bytes()[..200]).expect("writable");
    std::fs::write(scene.path("b.wasm"), &guest.bytes()[..300]).expect("writable");
    scene.apply(&[with("a.wasm", "one")]).await;
    // The entry fails already, and goes on with its component: the edit is taken.
    let prepared = scene.registry.prepare(&[with("a.wasm", "two")]).await;
    assert_eq!((prepared.edit_refusals().count(), prepared.failures()[0].serves), (0, Serves::LastGood));
    scene.registry.commit(prepared);
    assert_eq!((value(&scene.registry).as_deref(), scene.status("A").state), (Some("two"), "serving-old"));
    // Another file is another plugin: this component does not get its settings.
    for registry in [&scene.registry, &keeping(scene.folder.path())] {
        let prepared = registry.prepare(&[with("b.wasm", "three")]).await;
        assert_eq!(prepared.edit_refusals().count(), 1);
        assert_ne!(prepared.failures()[0].serves, Serves::LastGood);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_served_is_kept() {
    let mut scene = Scene::new();
    scene.registry = keeping(scene.folder.path());
    scene.put("a.wasm", &answering(FIRST));
    let desired = [scene.want("A", "a.wasm")];
    scene.apply(&desired).await;
    kept(scene.folder.path(), 1).await;
    // It passes every check and is refused by whoever prepared it.
    scene.put("a.wasm", &answering(SECOND));
    let prepared = scene.registry.prepare(&desired).await;
    assert!(prepared.failures().is_empty());
    scene.registry.refuse(prepared);

    // The next start asks the plugin something that it answers wrongly now.
    scene.registry = keeping(scene.folder.path()).with_ask(|provider| {
        Box::pin(async move {
            match run(provider, "x").await.as_deref() {
                Ok("not") => Ok(Arc::new(7_u32) as chelseru_plugin_host::Facts),
                other => Err(format!("it says {other:?}")),
            }
        })
    });
    scene.apply(&desired).await;
    assert_eq!(scene.run("A").await, "not");
    let provider = scene.registry.get("A").expect("serves");
    assert_eq!((provider.facts::<u32>(), provider.facts::<u64>()), (Some(&7), None));
    let error = scene.status("A").last_error.expect("says why");
    assert_eq!(error, "it says Ok(\"invalid\")");

    // What is not wanted any more is not kept.
    scene.apply(&[]).await;
    kept(scene.folder.path(), 0).await;
}

/// Pins an entry to a plugin, or to the one whose bytes are kept.
fn pinned(entry: &str, plugin: Option<&str>) -> PluginPins {
    let pin = PluginPin { plugin: plugin.map(str::to_owned), why: "while it is needed".to_owned() };
    PluginPins::from([(entry.to_owned(), pin)])
}

const REFUSED: &str = "cannot change its plugin from probe to other while it is needed";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_entry_keeps_its_plugin_and_holds_up_nothing_else() {
    let scene = Scene::new();
    scene.put("a.wasm", &answering(FIRST));
    scene.put("b.wasm", &answering(ECHO));
    let desired = [scene.want("A", "a.wasm"), scene.want("B", "b.wasm")];
    let pins = pinned("A", Some("probe"));
    scene.apply(&desired).await;
    let before = scene.registry.snapshot();

    scene.put("a.wasm", &Guest { name: "other", ..answering(SECOND) });
    scene.put("b.wasm", &answering(SECOND));
    let prepared = scene.registry.prepare_pinned(&desired, &pins).await;
    let [Failure { name, error, serves, is_known }] = prepared.failures() else {
        panic!("{:?}", prepared.failures())
    };
    assert_eq!((name.as_str(), error.to_string().as_str()), ("A", REFUSED));
    assert_eq!((*serves, *is_known), (Serves::LastGood, false));
    // An edit of something else goes through, although this is news.
    assert_eq!(prepared.edit_refusals().count(), 0);
    let after = scene.registry.commit(prepared);
    assert!(Arc::ptr_eq(&before["A"], &after["A"]), "the same provider, connections and all");
    assert_eq!((scene.run("A").await.as_str(), scene.run("B").await.as_str()), ("not", "invalid"));
    let status = scene.status("A");
    assert_eq!((status.state, status.last_error.as_deref()), ("serving-old", Some(REFUSED)));

    // An edit of the entry itself does not.
    let elsewhere = [scene.want("A", "b.wasm"), desired[1].clone()];
    scene.put("b.wasm", &Guest { name: "other", ..answering(SECOND) });
    let mut otherwise = [desired[0].clone(), desired[1].clone()];
    otherwise[0].hosts = Some(vec!["example.com".to_owned()]);
    for edited in [&elsewhere, &otherwise] {
        let prepared = scene.registry.prepare_pinned(edited, &pins).await;
        let refused: Vec<String> = prepared.edit_refusals().map(|one| one.error.to_string()).collect();
        assert_eq!((refused, prepared.failures()[0].serves), (vec![REFUSED.to_owned()], Serves::Before));
    }
    // Limits are those of all entries.
    let mut limited = desired.clone();
    limited.iter_mut().for_each(|want| want.limits.concurrency_max = 3);
    let prepared = scene.registry.prepare_pinned(&limited, &pins).await;
    assert_eq!(prepared.edit_refusals().count(), 0);
    scene.registry.commit(prepared);
    assert_eq!(scene.registry.get("A").expect("serves").limits().concurrency_max, 3);

    // Another version of the same plugin, and any plugin once nothing holds the entry.
    scene.put("a.wasm", &Guest { version: "2.0.0".to_owned(), ..answering(SECOND) });
    scene.registry.commit(scene.registry.prepare_pinned(&desired, &pins).await);
    assert_eq!((scene.run("A").await.as_str(), scene.status("A").state), ("invalid", "serving"));
    scene.put("a.wasm", &Guest { name: "other", ..answering(FIRST) });
    scene.apply(&desired).await;
    assert_eq!(scene.status("A").plugin.as_deref(), Some("other"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_pins_an_entry_to_the_plugin_whose_bytes_are_kept() {
    let mut scene = Scene::new();
    scene.registry = keeping(scene.folder.path());
    scene.put("a.wasm", &answering(FIRST));
    scene.put("b.wasm", &answering(ECHO));
    let desired = [scene.want("A", "a.wasm"), scene.want("B", "b.wasm")];
    let pins = pinned("A", None);
    // Nothing is kept yet: nothing is known of a plugin before.
    let prepared = scene.registry.prepare_pinned(&desired, &pins).await;
    assert!(prepared.failures().is_empty() && scene.registry.replaced(&prepared).await.is_empty());
    scene.registry.commit(prepared);
    kept(scene.folder.path(), 2).await;

    // The same bytes, and another version.
    for version in ["1.0.0", "2.0.0"] {
        scene.put("a.wasm", &Guest { version: version.to_owned(), ..answering(FIRST) });
        scene.registry = keeping(scene.folder.path());
        let prepared = scene.registry.prepare_pinned(&desired, &pins).await;
        let replaced = scene.registry.replaced(&prepared).await;
        assert_eq!((prepared.failures().len(), replaced.contains("A")), (0, version == "2.0.0"));
        assert!(!replaced.contains("B"));
    }

    scene.put("a.wasm", &Guest { name: "other", ..answering(SECOND) });
    for _ in 0..2 {
        scene.registry = keeping(scene.folder.path());
        let prepared = scene.registry.prepare(&desired).await;
        assert_eq!(scene.registry.replaced(&prepared).await, ["A".to_owned()].into());
        let prepared = scene.registry.prepare_pinned(&desired, &pins).await;
        assert_eq!((prepared.failures().len(), prepared.start_refusals().count()), (1, 0));
        scene.registry.commit(prepared);
        assert_eq!(
            scene.run("A").await,
            "not",
            "the one before serves, and is still kept for the next start"
        );
        let status = scene.status("A");
        assert_eq!((status.state, status.last_error.as_deref()), ("serving-old", Some(REFUSED)));
    }
    // One that does not fit what the entry asks for now cannot serve: the configuration is at fault.
    let mut otherwise = desired.clone();
    otherwise[0].settings.insert("api_key".to_owned(), "x".into());
    let key = Setting { key: "api_key", kind: 0, required: true, secret: true, default: None };
    scene.put("a.wasm", &Guest { name: "other", settings: vec![key], ..answering(SECOND) });
    scene.registry = keeping(scene.folder.path());
    let prepared = scene.registry.prepare_pinned(&otherwise, &pins).await;
    let refused: Vec<String> = prepared.start_refusals().map(|one| one.error.to_string()).collect();
    assert_eq!(refused, [REFUSED]);
}

/// Longer than anything here takes on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Both wait for each other while they are prepared.
static BOTH: std::sync::LazyLock<tokio::sync::Barrier> =
    std::sync::LazyLock::new(|| tokio::sync::Barrier::new(2));

#[tokio::test]
async fn files_are_prepared_beside_each_other() {
    let mut scene = Scene::new();
    scene.put("a.wasm", &answering(FIRST));
    scene.put("b.wasm", &answering(SECOND));
    scene.registry = Registry::new(host(), KINDS).with_ask(|_| {
        Box::pin(async {
            BOTH.wait().await;
            Ok(Arc::new(()) as chelseru_plugin_host::Facts)
        })
    });
    let desired = [scene.want("A", "a.wasm"), scene.want("B", "b.wasm")];
    tokio::time::timeout(PATIENCE, scene.apply(&desired))
        .await
        .expect("each is prepared while the other waits");
    assert_eq!((scene.run("A").await, scene.run("B").await), ("not".to_owned(), "invalid".to_owned()));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_and_a_huge_file_are_refused_and_the_others_serve() {
    let scene = Scene::new();
    scene.put("b.wasm", &answering(ECHO));
    let made = std::process::Command::new("mkfifo").arg(scene.path("pipe.wasm")).status().expect("mkfifo");
    assert!(made.success());
    let huge = std::fs::File::create(scene.path("huge.wasm")).expect("writable");
    huge.set_len(20 << 30).expect("a sparse file");
    let desired = [scene.want("P", "pipe.wasm"), scene.want("H", "huge.wasm"), scene.want("B", "b.wasm")];
    scene.apply(&desired).await;
    assert_eq!(scene.run("B").await, "x");
    let error = |name| scene.status(name).last_error.expect("says why");
    assert_eq!(error("P"), "plugin \"pipe.wasm\": not a regular file");
    assert_eq!(
        error("H"),
        "plugin \"huge.wasm\": 21474836480 bytes are more than the 16777216 that are accepted"
    );
}
