//! From bytes to a plugin: what is refused, and the compiled-code cache.

use std::fs;
use std::path::Path;

use chelseru_plugin_host::{Allocation, Function, Host, HostOptions, Kind, Limits, LoadError, Provider};

use crate::kit::*;

async fn refused(guest: &Guest) -> String {
    host().load(guest.bytes(), &[PROBE]).await.expect_err("must be refused").to_string()
}

#[tokio::test]
async fn a_plugin_says_what_it_is() {
    let host = host();
    assert_eq!(host.allocation(), Allocation::Pooling);
    let guest = Guest { version: "1.2.3".to_owned(), hosts: vec!["api.example.com"], ..Guest::default() };
    let plugin = load(&host, &guest).await;
    assert_eq!((plugin.kind(), plugin.interface_version().to_string()), ("probe", "1.0.0".to_owned()));
    assert_eq!(plugin.description().version.to_string(), "1.2.3");
    assert_eq!(plugin.digest(), blake3::hash(&guest.bytes()).to_hex().as_str());
    assert!(plugin.exports("probe") && !plugin.exports("extra") && !plugin.from_cache());
    assert_eq!(plugin.interfaces().collect::<Vec<_>>(), ["probe"]);
}

#[tokio::test]
async fn a_wrong_kind_names_found_and_accepted() {
    let text = refused(&Guest { export: "test:other/thing@1.0.0", ..Guest::default() }).await;
    let found = "wrong kind: exports \"chelseru:provider/plugin@0.1.0\", \"test:other/thing@1.0.0\"";
    assert_eq!(text, format!("{found}, accepted is probe: test:probe/probe or probe-other"));
}

#[tokio::test]
async fn a_function_of_another_type_is_refused_before_anything_is_called() {
    const ASKED: Function<(String,), (Result<String, u32>,)> = Function::new("probe", "run");
    const MORE: Function<(), ()> = Function::new("probe", "walk");
    const ELSEWHERE: Function<(), ()> = Function::new("extra", "walk");
    // It would not come back from describing itself.
    let guest = Guest { describe: "(loop $l (br $l))", ..Guest::default() };
    let refused =
        async |kind: Kind| host().load(guest.bytes(), &[kind]).await.expect_err("refused").to_string();
    let other = refused(Kind { functions: &[&MANY, &ASKED], ..PROBE }).await;
    assert!(other.starts_with("function \"probe.run\" has another type than this host's ("), "{other}");
    assert!(other.ends_with("; build the plugin again with the interfaces of this version"), "{other}");
    let missing = refused(Kind { functions: &[&MORE], ..PROBE }).await;
    assert_eq!(missing, "does not export \"probe.walk\"");
    // An interface that it does not export is not asked for.
    let kind = Kind { functions: &[&RUN, &ELSEWHERE], ..PROBE };
    host().load(Guest::default().bytes(), &[kind]).await.expect("a plugin");
}

#[tokio::test]
async fn a_wrong_version_says_which_side_is_older() {
    for (export, text) in [
        ("test:probe/probe@1.1.0", "world \"test:probe/probe@1.1.0\" is newer than this host (1.0)"),
        ("test:probe/probe@2.0.0", "world \"test:probe/probe@2.0.0\" is newer than this host (1.0)"),
        ("test:probe/probe@0.9.0", "world \"test:probe/probe@0.9.0\" is older than this host (1.0)"),
    ] {
        assert_eq!(refused(&Guest { export, ..Guest::default() }).await, text);
    }
    let plugin = "chelseru:provider/plugin@0.2.0";
    let text = refused(&Guest { plugin, ..Guest::default() }).await;
    assert_eq!(text, "world \"chelseru:provider/plugin@0.2.0\" is newer than this host (0.1)");
    // A patch release of the interfaces is the same version.
    let patch = Guest { export: "test:probe/probe@1.0.7", ..Guest::default() };
    assert!(host().load(patch.bytes(), &[PROBE]).await.is_ok());
}

#[tokio::test]
async fn a_long_version_is_refused_and_neither_listed_nor_logged_whole() {
    let of = |version: String| -> &'static str { format!("test:probe/probe@{version}").leak() };
    let longest = format!("1.0.0+{}", "a".repeat(57));
    let plugin = load(&host(), &Guest { export: of(longest.clone()), ..Guest::default() }).await;
    assert_eq!(plugin.interface_version().to_string(), longest);
    assert!(longest.len() < 64);
    for version in ["1.0.0", "0.9.0", "2.0.0"] {
        for chars in [58, 90_000] {
            let export = of(format!("{version}+{}", "a".repeat(chars)));
            let text = refused(&Guest { export, ..Guest::default() }).await;
            assert!(text.starts_with("the version of \"test:probe/probe@"), "{text}");
            assert!(text.chars().count() < 400, "{text}");
        }
    }
    let plugin: &'static str = format!("chelseru:provider/plugin@0.1.0+{}", "a".repeat(90_000)).leak();
    let text = refused(&Guest { plugin, ..Guest::default() }).await;
    assert!(text.starts_with("the version of ") && text.chars().count() < 400, "{text}");
}

#[tokio::test]
async fn a_plugin_without_the_protocol_is_refused() {
    let text = refused(&Guest { plugin: "test:probe/plugin@1.0.0", ..Guest::default() }).await;
    assert_eq!(text, "does not export \"chelseru:provider/plugin\"");
}

#[tokio::test]
async fn an_import_that_is_not_served_is_named() {
    for (imports, name) in [
        (
            r#"(import "wasi:http/outgoing-handler@0.2.0" (instance (export "handle" (func))))"#,
            "wasi:http/outgoing-handler@0.2.0",
        ),
        (
            r#"(import "chelseru:provider/database@0.1.0" (instance (export "get" (func))))"#,
            "chelseru:provider/database@0.1.0",
        ),
        (r#"(import "backdoor" (func))"#, "backdoor"),
        (
            r#"(import "wasi:cli/environment@0.3.0" (instance (export "get-environment" (func))))"#,
            "wasi:cli/environment@0.3.0",
        ),
    ] {
        let text = refused(&Guest { imports, ..Guest::default() }).await;
        assert!(text.starts_with(&format!("import \"{name}\" is not served by this host")), "{text}");
    }
    // A served interface with a function that it does not have.
    let imports = r#"(import "wasi:random/random@0.2.0" (instance (export "get-dice" (func))))"#;
    let text = refused(&Guest { imports, ..Guest::default() }).await;
    assert!(text.contains("is not served by this host"), "{text}");
    // Types only need nobody to serve them.
    let imports =
        r#"(import "test:probe/types@1.0.0" (instance (type $t (enum "a")) (export "t" (type (eq $t)))))"#;
    assert!(host().load(Guest { imports, ..Guest::default() }.bytes(), &[PROBE]).await.is_ok());
}

#[tokio::test]
async fn bytes_that_are_no_whole_component_are_refused_as_perhaps_unfinished() {
    let host = host();
    let whole = guest(ECHO).bytes();
    let mut inputs = vec![
        Vec::new(),
        b"hello".to_vec(),
        wat::parse_str("(module)").expect("a module"),
        b"(component)".to_vec(),
    ];
    for at in [1, 8, 100, whole.len() / 2, whole.len() - 1] {
        inputs.push(whole[..at].to_vec());
    }
    for input in inputs {
        let bytes = input.len();
        let error = host.load(input, &[PROBE]).await.expect_err("must be refused");
        assert!(error.may_be_unfinished(), "{bytes} bytes: {error}");
    }
}

#[tokio::test]
async fn random_damage_never_panics() {
    let host = host();
    let whole = guest(ECHO).bytes();
    // A fixed linear congruential generator (constants of Knuth's MMIX): the same damage every time.
    let mut seed: u64 = 20_261_122;
    for _ in 0..60 {
        let mut bytes = whole.clone();
        for _ in 0..3 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (seed >> 33) as usize % bytes.len();
            bytes[at] ^= (seed >> 24) as u8;
        }
        // Accepted or refused, it ends.
        let _ = host.load(bytes, &[PROBE]).await;
    }
}

#[tokio::test]
async fn a_file_is_accepted_up_to_the_limit() {
    let whole = guest(ECHO).bytes();
    let load = |plugin_bytes_max| {
        let host = Host::new(HostOptions { calls_max: 1, plugin_bytes_max, ..HostOptions::default() })
            .expect("a host");
        let whole = whole.clone();
        async move { host.load(whole, &[PROBE]).await.map(drop) }
    };
    let bytes = whole.len() as u64;
    assert!(load(bytes).await.is_ok());
    assert!(
        matches!(load(bytes - 1).await, Err(LoadError::FileTooLarge { found, limit }) if found == bytes && limit == bytes - 1)
    );
}

#[tokio::test]
async fn a_plugin_that_cannot_describe_itself_is_not_loaded() {
    let text = |describe| async move { refused(&Guest { describe, ..Guest::default() }).await };
    assert!(text("(unreachable)").await.starts_with("describe failed: "));
    assert_eq!(text("(loop $l (br $l))").await, "describe failed: CPU limit");
    assert_eq!(
        text("(loop $l (drop (call $alloc (i32.const 65536))) (br $l))").await,
        "describe failed: memory limit"
    );
    assert_eq!(text("(call $sleep (i64.const 60000000000))").await, "describe failed: no answer in 10 s");
    let named = refused(&Guest { name: "Not Kebab", ..Guest::default() }).await;
    assert!(named.starts_with("description: name \"Not Kebab\""), "{named}");
}

#[tokio::test]
async fn network_and_settings_are_denied_while_a_plugin_describes_itself() {
    // Traps unless the request is refused as not granted (case 0 of the error).
    let describe = r#"(drop (call $fetch (i32.const 256) (i32.const 0)))
        (if (i32.ne (i32.load8_u (i32.const 768)) (i32.const 1)) (then (unreachable)))
        (if (i32.ne (i32.load8_u (i32.const 776)) (i32.const 0)) (then (unreachable)))
        (drop (call $setting (i32.const 256) (i32.const 11)))
        (if (i32.load8_u (i32.const 640)) (then (unreachable)))"#;
    let guest = Guest { describe, hosts: vec!["a.com"], ..Guest::default() };
    assert!(host().load(guest.bytes(), &[PROBE]).await.is_ok());
}

#[tokio::test]
async fn a_plugin_that_starts_with_more_memory_than_its_limit_does_not_bind() {
    let host = host();
    let plugin = load(&host, &Guest { pages: 4, ..Guest::default() }).await;
    let bind = |memory_bytes_max| {
        let limits = Limits { memory_bytes_max, ..Limits::default() };
        Provider::bind(&host, plugin.clone(), binding(&[], None, limits)).map(drop)
    };
    assert!(bind(4 * 65536).is_ok());
    let error = bind(4 * 65536 - 1).expect_err("too little").to_string();
    assert_eq!(
        error,
        "provider \"PROBE\": limit memory_bytes_max is below the 262144 bytes that the plugin starts with"
    );
}

fn caching(dir: &Path) -> Host {
    Host::new(HostOptions { calls_max: 2, cache_dir: Some(dir.to_owned()), ..HostOptions::default() })
        .expect("a host")
}

/// Files in the folder; the last good components are in one below it.
fn entries(dir: &Path) -> Vec<std::path::PathBuf> {
    let all = fs::read_dir(dir).expect("a folder").map(|e| e.expect("an entry").path());
    all.filter(|path| path.is_file()).collect()
}

#[tokio::test]
async fn compiled_code_is_taken_from_the_cache_and_made_again_when_damaged() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("deep/cache");
    let bytes = guest(ECHO).bytes();
    let load = || async {
        let host = caching(&dir);
        let plugin = host.load(bytes.clone(), &[PROBE]).await.expect("loads");
        let from_cache = plugin.from_cache();
        let provider = Provider::bind(&host, plugin, binding(&[], None, Limits::default())).expect("binds");
        assert_eq!(run(&provider, "x").await, Ok("x".to_owned()));
        from_cache
    };
    assert!(!load().await);
    assert!(load().await);
    let [entry] = &entries(&dir)[..] else { panic!("one entry: {:?}", entries(&dir)) };
    let whole = fs::read(entry).expect("readable");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [&flipped[..], &whole[..whole.len() - 1], b"", b"short"] {
        fs::write(entry, damaged).expect("writable");
        assert!(!load().await, "{} bytes", damaged.len());
        assert!(load().await, "the entry was not replaced");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&dir).expect("there").permissions().mode() & 0o777, 0o700);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn the_cache_holds_so_many_bytes_and_what_was_used_last() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("cache");
    let cache = |cache_bytes_max| {
        let cache_dir = Some(folder.clone());
        Host::new(HostOptions { calls_max: 4, cache_dir, cache_bytes_max, ..HostOptions::default() })
            .expect("a host")
    };
    let bytes = || {
        let sizes = entries(&folder).into_iter().map(|path| fs::metadata(path).expect("there").len());
        sizes.sum::<u64>()
    };
    let version = |number| Guest { version: format!("1.0.{number}"), ..Guest::default() };
    load(&cache(u64::MAX), &version(0)).await;
    let one = bytes();
    let host = cache(one * 5 / 2);
    for number in 1..=4 {
        load(&host, &version(number)).await;
        // The first is used again each time, and so stays.
        assert!(load(&host, &version(0)).await.from_cache(), "{number}");
        assert!(bytes() <= one * 5 / 2, "{} bytes, {one} each", bytes());
    }
    assert!(load(&host, &version(4)).await.from_cache());
    assert!(!load(&host, &version(3)).await.from_cache());
    // A single entry is kept whatever its size.
    load(&cache(1), &version(9)).await;
    assert_eq!(entries(&folder).len(), 1);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&entries(&folder)[0])), (0o700, 0o600));
        // An entry that somebody else could have written is not run.
        let entry = &entries(&folder)[0];
        fs::set_permissions(entry, fs::Permissions::from_mode(0o620)).expect("changed");
        assert!(!load(&host, &version(9)).await.from_cache());
    }
}

#[tokio::test]
async fn a_cache_that_others_can_write_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = guest(ECHO).bytes();
    let chmod =
        |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).expect("own folder");
    let load = |host: Host| {
        let bytes = bytes.clone();
        async move { host.load(bytes, &[PROBE]).await.expect("loads all the same").from_cache() }
    };
    for mode in [0o777, 0o770, 0o702] {
        chmod(mode);
        assert!(!load(caching(folder.path())).await);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
    // Opened to others later: what is there is not trusted any more.
    chmod(0o700);
    let host = caching(folder.path());
    assert!(!load(host.clone()).await);
    assert!(load(host.clone()).await);
    chmod(0o720);
    assert!(!load(host).await);
}

/// Runs itself again with 4 GiB of address space, where the pool (terabytes) cannot be reserved.
#[cfg(target_os = "linux")]
#[test]
fn without_address_space_for_the_pool_memory_is_allocated_on_demand() {
    const INSIDE: &str = "PLUGIN_HOST_TEST_LIMITED";
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let host = Host::new(HostOptions::default()).expect("falls back");
            assert_eq!(host.allocation(), Allocation::OnDemand);
            let echo = provider(&host, ECHO, Limits::default()).await;
            assert_eq!(run(&echo, "x").await, Ok("x".to_owned()));
            let grow = "(loop $l (drop (call $alloc (i32.const 65536))) (br $l)) (unreachable)";
            let grow = provider(&host, grow, Limits::default()).await;
            assert_eq!(run(&grow, "").await.map_err(|e| e.code()), Err("memory_exceeded"));
            let looping = provider(&host, LOOP, Limits::default()).await;
            assert_eq!(run(&looping, "").await.map_err(|e| e.code()), Err("cpu_exceeded"));
        });
        return;
    }
    let test = "load::without_address_space_for_the_pool_memory_is_allocated_on_demand";
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -v 4194304 && exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(std::env::current_exe().expect("this test"))
        .arg(test)
        .env(INSIDE, "1")
        .output()
        .expect("sh runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn a_component_made_of_too_many_parts_is_refused() {
    let parts = |part: &str, count: usize| -> &'static str {
        format!("(core module $part {part}) {}", "(core instance (instantiate $part))".repeat(count)).leak()
    };
    let load = |imports| async move {
        host().load(Guest { imports, ..Guest::default() }.bytes(), &[PROBE]).await.map(drop)
    };
    // The frame itself has three core instances (one of them only lists host functions), one memory and no table.
    assert!(load(parts("(memory 1)", 1)).await.is_ok());
    assert!(load(parts("(memory 1)", 2)).await.is_err());
    assert!(load(parts("(table 1 funcref)", 6)).await.is_ok());
    assert!(load(parts("(table 1 funcref)", 7)).await.is_err());
    assert!(load(parts("", 126)).await.is_ok());
    assert!(load(parts("", 127)).await.is_err());
}

#[tokio::test]
async fn a_component_with_passive_segments_within_the_bound_runs() {
    let items = "(ref.null func)".repeat(10_000);
    let imports: &'static str = format!(
        "(core module $segments (elem funcref {items})) {}",
        "(core instance (instantiate $segments))".repeat(10)
    )
    .leak();
    let host = host();
    let plugin = load(&host, &Guest { imports, ..guest(ECHO) }).await;
    let echo = Provider::bind(&host, plugin, binding(&[], None, Limits::default())).expect("binds");
    assert_eq!(run(&echo, "x").await, Ok("x".to_owned()));
}
