//! Compiling in a child process. The child is this very test program, so it has no harness that prints.

#[path = "host/kit.rs"]
mod kit;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use chelseru_plugin_host::{
    Binding, CompileLimits, Compiler, Desired, Host, HostOptions, Limits, LoadError, Provider, Registry,
    compile_main,
};
use kit::{ECHO, LOOP, PROBE, guest, run};

const CHILD: &str = "compile-plugin";

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(CHILD) {
        return compile_main();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        eprintln!("compiling in a child: eight cases");
        a_component_is_compiled_in_a_child_and_then_comes_from_the_cache().await;
        what_is_no_component_is_named().await;
        too_much_cpu_ends_the_child_once_and_others_do_not_notice().await;
        too_much_memory_ends_the_child().await;
        a_load_that_is_dropped_leaves_no_child().await;
        beside_calls_a_child_leaves_a_core_and_takes_turns_and_always_has_a_session_of_its_own().await;
        no_other_call_waits_for_a_compilation().await;
        a_compiler_that_is_not_there_is_an_error_of_the_host().await;
    });
    ExitCode::SUCCESS
}

fn host(cache: &Path, limits: CompileLimits) -> Host {
    let program = std::env::current_exe().expect("this program");
    let compiler = Compiler::Child { program, args: vec![CHILD.into()], env: Vec::new() };
    let cache_dir = Some(cache.to_owned());
    Host::new(HostOptions {
        calls_max: 8,
        cache_dir,
        compiler,
        compile_limits: limits,
        ..HostOptions::default()
    })
    .expect("a host")
}

fn limits(cpu_secs: u64, memory_mib: u64) -> CompileLimits {
    CompileLimits { cpu_time_max: Duration::from_secs(cpu_secs), memory_bytes_max: memory_mib << 20 }
}

/// A component that takes seconds of CPU to compile: many functions. An optimised compiler needs more of them.
fn large() -> Vec<u8> {
    let functions = if cfg!(debug_assertions) { 400 } else { 8000 };
    let body =
        "(i32.store (local.get 0) (i32.add (i32.load (local.get 0)) (i32.mul (local.get 0) (i32.const 3))))";
    let function = format!("(func (param i32) {})", body.repeat(100));
    let text = format!("(component (core module (memory 1) {}))", function.repeat(functions));
    wat::parse_str(text).expect("a component")
}

async fn echo(host: &Host) -> Provider {
    let plugin = host.load(guest(ECHO).bytes(), &[PROBE]).await.expect("loads");
    let binding =
        Binding { name: "ECHO".to_owned(), settings: [].into(), hosts: None, limits: Limits::default() };
    Provider::bind(host, plugin, binding).expect("binds")
}

async fn a_component_is_compiled_in_a_child_and_then_comes_from_the_cache() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = host(folder.path(), CompileLimits::default());
    let first = host.load(guest(ECHO).bytes(), &[PROBE]).await.expect("loads");
    assert!(!first.from_cache() && !first.compile_time().is_zero());
    let second = host.load(guest(ECHO).bytes(), &[PROBE]).await.expect("loads");
    assert!(second.from_cache() && second.compile_time().is_zero());
    assert_eq!(run(&echo(&host).await, "x").await, Ok("x".to_owned()));
    // Without the pool the code is other code.
    let program = std::env::current_exe().expect("this program");
    let compiler = Compiler::Child { program, args: vec![CHILD.into()], env: Vec::new() };
    let unpooled =
        Host::new(HostOptions { pooling: false, compiler, ..HostOptions::default() }).expect("a host");
    assert_eq!(run(&echo(&unpooled).await, "x").await, Ok("x".to_owned()));
}

async fn what_is_no_component_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = host(folder.path(), CompileLimits::default());
    let whole = guest(ECHO).bytes();
    for bytes in [&whole[..whole.len() / 2], b"(component)", b"", b"\0asm"] {
        let error = host.load(bytes.to_vec(), &[PROBE]).await.expect_err("is refused");
        assert!(matches!(error, LoadError::Malformed(_)), "{error}");
        assert!(error.may_be_unfinished());
    }
}

async fn too_much_cpu_ends_the_child_once_and_others_do_not_notice() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = host(folder.path(), limits(1, 2048));
    let beside = Arc::new(echo(&host).await);
    let bytes = large();
    let load = tokio::spawn({
        let (host, bytes) = (host.clone(), bytes.clone());
        async move { host.load(bytes, &[PROBE]).await.map(drop) }
    });
    let mut calls = 0;
    while !load.is_finished() {
        assert_eq!(run(&beside, "x").await, Ok("x".to_owned()));
        calls += 1;
    }
    let error = load.await.expect("no panic").expect_err("is refused");
    assert!(matches!(error, LoadError::CompileTime { wall: false, .. }), "{error}");
    assert!(calls > 0, "no call beside it");
    // The next start does not try again, unless it may use more.
    let again = host.load(bytes.clone(), &[PROBE]).await.expect_err("is refused");
    let text = "compiling it takes more than 1 s of CPU; it is tried again when it or a limit changes";
    assert_eq!(again.to_string(), text);
    let more =
        self::host(folder.path(), limits(2, 2048)).load(bytes, &[PROBE]).await.expect_err("is refused");
    assert!(!matches!(more, LoadError::CompileGivenUp(_)), "{more}");
}

async fn too_much_memory_ends_the_child() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = host(folder.path(), limits(600, 24));
    // Its code holds the data again, beside the component.
    let text =
        format!("(component (core module (memory 256) (data (i32.const 0) \"{}\")))", "x".repeat(15 << 20));
    let bytes = wat::parse_str(text).expect("a component");
    let error = host.load(bytes, &[PROBE]).await.expect_err("is refused");
    assert!(matches!(error, LoadError::CompileMemory { limit_bytes } if limit_bytes == 24 << 20), "{error}");
    assert_eq!(error.to_string(), "compiling it takes more than 24 MiB of memory");
    assert!(host.load(guest(ECHO).bytes(), &[PROBE]).await.is_ok(), "a small one fits");
}

async fn no_other_call_waits_for_a_compilation() {
    let folder = tempfile::tempdir().expect("a folder");
    // What is compiled already serves; every other compilation is one that never ends.
    drop(echo(&host(folder.path(), CompileLimits::default())).await);
    let endless = Compiler::Child { program: "sleep".into(), args: vec!["1000".into()], env: Vec::new() };
    let cache_dir = Some(folder.path().to_owned());
    let options = HostOptions { cache_dir, compiler: endless, ..HostOptions::default() };
    let host = Host::new(options).expect("a host");
    let echo = echo(&host).await;
    let load = tokio::spawn({
        let host = host.clone();
        async move { host.load(guest(LOOP).bytes(), &[PROBE]).await.map(drop) }
    });
    for _ in 0..200 {
        assert_eq!(run(&echo, "x").await, Ok("x".to_owned()));
        // Loading what is compiled does not wait either.
        assert!(host.load(guest(ECHO).bytes(), &[PROBE]).await.is_ok());
    }
    assert!(!load.is_finished());
    load.abort();
    assert!(load.await.expect_err("cancelled").is_cancelled());
}

/// Folders of the children of this process that compile.
#[cfg(target_os = "linux")]
fn children() -> Vec<PathBuf> {
    let me = format!("PPid:\t{}\n", std::process::id());
    let processes = std::fs::read_dir("/proc").expect("proc").filter_map(|entry| Some(entry.ok()?.path()));
    processes
        .filter(|path| {
            let ours = std::fs::read_to_string(path.join("status")).is_ok_and(|status| status.contains(&me));
            ours && std::fs::read_to_string(path.join("cmdline")).is_ok_and(|line| line.contains(CHILD))
        })
        .collect()
}

#[cfg(target_os = "linux")]
async fn a_load_that_is_dropped_leaves_no_child() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = host(folder.path(), limits(600, 2048));
    let bytes = large();
    for _ in 0..3 {
        let load = tokio::spawn({
            let (host, bytes) = (host.clone(), bytes.clone());
            async move { host.load(bytes, &[PROBE]).await.map(drop) }
        });
        while children().is_empty() {
            assert!(!load.is_finished(), "the component compiles too fast for this test");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        load.abort();
        assert!(load.await.expect_err("cancelled").is_cancelled());
        while !children().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // A newer edit gets its turn at once.
        assert!(host.load(guest(ECHO).bytes(), &[PROBE]).await.is_ok());
    }
}

#[cfg(target_os = "linux")]
fn has_threads(child: &Path, count: usize) -> bool {
    std::fs::read_dir(child.join("task")).is_ok_and(|tasks| tasks.count() == count)
}

/// Whether it catches the signal that ends its turns (SIGALRM, the 14th of the mask).
#[cfg(target_os = "linux")]
fn takes_turns(child: &Path) -> bool {
    let status = std::fs::read_to_string(child.join("status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & (1 << 13) != 0))
}

#[cfg(target_os = "linux")]
async fn beside_calls_a_child_leaves_a_core_and_takes_turns_and_always_has_a_session_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = host(folder.path(), limits(600, 65536));
    let file = folder.path().join("echo.wasm");
    std::fs::write(&file, guest(ECHO).bytes()).expect("writable");
    let registry = Registry::new(host.clone(), &[PROBE]);
    let cores = std::thread::available_parallelism().expect("a number").get();
    for serves in [false, true] {
        if serves {
            let entry = Desired {
                name: "ECHO".to_owned(),
                kind: "probe",
                file: file.clone(),
                settings: [].into(),
                hosts: None,
                limits: Limits::default(),
            };
            registry.commit(registry.prepare(&[entry]).await);
            assert!(registry.get("ECHO").is_some());
        }
        let load = tokio::spawn({
            let (host, bytes) = (host.clone(), large());
            async move { host.load(bytes, &[PROBE]).await.map(drop) }
        });
        let threads = format!("RAYON_NUM_THREADS={}", if serves { (cores - 1).max(1) } else { cores });
        // It limits itself a moment after it began.
        while !children().iter().any(|child| has_own_session(child)) {
            assert!(!load.is_finished(), "the component compiles too fast for this test");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let told = |child: &PathBuf| std::fs::read(child.join("environ")).expect("its environment");
        let told: Vec<_> = children().iter().map(told).collect();
        assert!(told.iter().all(|told| told.split(|byte| *byte == 0).any(|word| word == threads.as_bytes())));
        // Its first thread, the one that waits for its parent's end, and those that compile.
        let compiling = 2 + if serves { (cores - 1).max(1) } else { cores };
        while !children().iter().any(|child| has_threads(child, compiling) && takes_turns(child) == serves) {
            assert!(!load.is_finished(), "turns beside calls ({serves}) were not seen");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        load.abort();
        let _ = load.await;
        while !children().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Whether a process, by its folder, leads its session, and a group of the scheduler that steps back where there are
/// such groups.
#[cfg(target_os = "linux")]
fn has_own_session(process: &Path) -> bool {
    let Ok(stat) = std::fs::read_to_string(process.join("stat")) else { return false };
    // Behind the name, which may hold spaces, come the state, the parent, the group and the session (proc_pid_stat(5)).
    let Some((id, rest)) = stat.split_once(' ') else { return false };
    let session = rest.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(3));
    let group = std::fs::read_to_string(process.join("autogroup"));
    let steps_back = |group: String| group.is_empty() || group.trim_end().ends_with("nice 10");
    session == Some(id) && group.map_or(true, steps_back)
}

#[cfg(not(target_os = "linux"))]
async fn a_load_that_is_dropped_leaves_no_child() {}

#[cfg(not(target_os = "linux"))]
async fn beside_calls_a_child_leaves_a_core_and_takes_turns_and_always_has_a_session_of_its_own() {}

async fn a_compiler_that_is_not_there_is_an_error_of_the_host() {
    let compiler = Compiler::Child { program: "/nowhere/compiler".into(), args: Vec::new(), env: Vec::new() };
    let host = Host::new(HostOptions { compiler, ..HostOptions::default() }).expect("a host");
    let error = host.load(guest(ECHO).bytes(), &[PROBE]).await.expect_err("cannot compile");
    assert!(matches!(error, LoadError::Host(_)), "{error}");
}
