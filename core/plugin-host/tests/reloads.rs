//! Memory over many reloads. A test binary of its own, because it measures the whole process.

#[path = "host/kit.rs"]
mod kit;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chelseru_plugin_host::{Desired, Host, HostOptions, Kind, Limits, Registry};

use kit::*;

const KINDS: &[Kind] = &[PROBE];

/// Resident memory of this process, in KiB.
#[cfg(target_os = "linux")]
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("a VmRSS line");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

/// Held by the test that measures.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_component_whose_instances_would_hold_host_memory_is_refused_before_it_takes_any() {
    let _alone = ALONE.lock().await;
    // 300 KB whose instance holds 192 MB. `imports` stands in the frame's text, and so is leaked.
    let items = "(ref.null func)".repeat(100_000);
    let instances = "(core instance (instantiate $held))".repeat(120);
    let imports = format!("(core module $held (elem funcref {items})) {instances}").leak();
    let bytes = Guest { imports, ..Guest::default() }.bytes();
    assert!((300_000..310_000).contains(&bytes.len()), "{}", bytes.len());
    let globals = "(global i64 (i64.const 0))".repeat(100_000);
    let imports = format!("(core module $held {globals}) {instances}").leak();
    let contexts = Guest { imports, ..Guest::default() }.bytes();
    let on_demand = Host::new(HostOptions { pooling: false, ..HostOptions::default() }).expect("a host");
    for host in [host(), on_demand] {
        // What every load takes once.
        load(&host, &Guest::default()).await;
        let before = resident_kib();
        for _ in 0..3 {
            let error = host.load(bytes.clone(), KINDS).await.expect_err("is refused").to_string();
            assert!(error.contains(" 192003840 of them for passive element segments"), "{error}");
            let error = host.load(contexts.clone(), KINDS).await.expect_err("is refused").to_string();
            assert!(error.ends_with("at most 2097152 are accepted"), "{error}");
        }
        let after = resident_kib();
        assert!(after < before + 8 * 1024, "{before} KiB before, {after} KiB after");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_reloads_under_load_leave_memory_flat() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a.wasm");
    let registry = Arc::new(Registry::new(host(), KINDS));
    let desired = [Desired {
        name: "A".to_owned(),
        kind: "probe",
        file: file.clone(),
        settings: BTreeMap::new(),
        hosts: None,
        limits: Limits::default(),
    }];
    // 200 calls a second all the while, each of which must be answered.
    let stop = Arc::new(AtomicBool::new(false));
    let callers = tokio::spawn({
        let (registry, stop) = (registry.clone(), stop.clone());
        async move {
            let mut interval = tokio::time::interval(Duration::from_millis(5));
            let mut answered = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                interval.tick().await;
                let Some(provider) = registry.get("A") else { continue };
                assert_eq!(run(&provider, "load").await, Ok("load".to_owned()));
                answered += 1;
            }
            answered
        }
    });
    let mut after_100 = 0;
    for i in 1..=500 {
        // Other bytes every time, so that every reload compiles and swaps.
        let guest = Guest { version: format!("1.0.{i}"), ..guest(ECHO) };
        std::fs::write(&file, guest.bytes()).expect("writable");
        let prepared = registry.prepare(&desired).await;
        assert!(prepared.failures().is_empty(), "{:?}", prepared.failures());
        registry.commit(prepared);
        assert_eq!(run(&registry.get("A").expect("serves"), "x").await, Ok("x".to_owned()));
        if i == 100 {
            after_100 = resident_kib();
        }
    }
    let after_500 = resident_kib();
    stop.store(true, Ordering::Relaxed);
    let answered = callers.await.expect("every call was answered");
    assert!(answered > 100, "only {answered} calls");
    assert_eq!(registry.status()[0].generation, 500);
    println!("{answered} calls; resident after 100: {after_100} KiB, after 500: {after_500} KiB");
    // Kept components would cost about 100 KiB each: 40 MiB for 400 of them.
    assert!(after_500 < after_100 + 8 * 1024, "{after_100} KiB became {after_500} KiB");
}
