//! Every limit of a call, driven to its stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chelseru_plugin_host::{CallError, Function, Host, HostOptions, HttpError, Limits, Provider};

use crate::kit::*;

/// A limit that is not the one under test.
const NEVER: Duration = Duration::from_secs(86_400);

const GROW: &str = "(loop $l (drop (call $alloc (i32.const 65536))) (br $l)) (unreachable)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_comes_back_from_a_fresh_instance() {
    let host = host();
    // Counts in linear memory: a reused instance would answer with more than one byte.
    let count = "(i32.store (i32.const 600) (i32.add (i32.load (i32.const 600)) (i32.const 1)))
                 (call $ret (local.get $in) (i32.load (i32.const 600)))";
    let provider = provider(&host, count, Limits::default()).await;
    for _ in 0..3 {
        assert_eq!(run(&provider, "abc").await, Ok("a".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_get_through_beside_as_many_loops_as_there_are_threads() {
    let host = host();
    let limits = Limits { cpu_time_max: NEVER, wall_time_max: NEVER, ..Limits::default() };
    let looping = Arc::new(provider(&host, LOOP, limits).await);
    let echo = provider(&host, ECHO, Limits::default()).await;
    // Only their stepping aside lets anything else run.
    let loops: Vec<_> = (0..2)
        .map(|_| {
            let looping = Arc::clone(&looping);
            tokio::spawn(async move { run(&looping, "").await })
        })
        .collect();
    while looping.in_flight() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..50 {
        assert_eq!(run(&echo, "x").await, Ok("x".to_owned()));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for looping in loops {
        assert!(!looping.is_finished());
        looping.abort();
        assert!(looping.await.expect_err("cancelled").is_cancelled());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_is_ended_by_its_cpu_limit_and_not_before() {
    let host = host();
    let limit = Duration::from_millis(300);
    let limits = Limits { cpu_time_max: limit, wall_time_max: NEVER, ..Limits::default() };
    let looping = provider(&host, LOOP, limits).await;
    assert_eq!(run(&looping, "").await, Err(CallError::CpuExceeded { limit, may_have_sent: false }));
    let used = looping.stats().cpu_micros;
    assert!(used >= 300_000, "{used}");
}

/// What each hostile plugin ends with, by its input.
const HOSTILE: [(&str, &str, &str, Result<&str, &str>); 6] = [
    ("loops", LOOP, "", Err("cpu_exceeded")),
    ("allocates", GROW, "", Err("memory_exceeded")),
    ("traps", TRAP, "", Err("trap")),
    (
        "answers with 100 MB",
        "(call $ret (call $alloc (i32.const 104857600)) (i32.const 104857600))",
        "",
        Err("memory_exceeded"),
    ),
    ("calls a host it was not granted", FETCH, "https://elsewhere.com/", Ok("not-granted")),
    (
        "floods its log",
        "(loop $l (call $print (local.get $in) (local.get $len)) (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $i) (i32.const 100000)))) (call $ret (local.get $in) (i32.const 1))",
        "x",
        Err("handles_exceeded"),
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anothers_calls_are_answered_beside_every_hostile_plugin() {
    let host = host();
    let echo = Arc::new(provider(&host, ECHO, Limits::default()).await);
    for (what, guest, input, expected) in HOSTILE {
        let limits =
            Limits { cpu_time_max: Duration::from_millis(300), wall_time_max: NEVER, ..Limits::default() };
        let hostile = Arc::new(provider(&host, guest, limits).await);
        let attack = || {
            let hostile = Arc::clone(&hostile);
            async move {
                let ended = run(&hostile, input).await.map_err(|error| error.code());
                assert_eq!(ended, expected.map(str::to_owned), "{what}");
            }
        };
        attack().await;
        beside(&echo, attack, what).await;
    }
}

#[tokio::test]
async fn a_loop_on_a_single_thread_is_ended_too() {
    let host = host();
    let limits =
        Limits { cpu_time_max: NEVER, wall_time_max: Duration::from_millis(60), ..Limits::default() };
    let by_wall = provider(&host, LOOP, limits).await;
    assert_eq!(run(&by_wall, "").await.map_err(|e| e.code()), Err("timeout"));
}

#[tokio::test]
async fn allocating_without_end_exceeds_the_memory_limit() {
    let host = host();
    let limits = Limits { memory_bytes_max: 4 << 20, ..Limits::default() };
    let provider = provider(&host, GROW, limits).await;
    let error = CallError::MemoryExceeded { limit_bytes: 4 << 20, may_have_sent: false };
    assert_eq!(run(&provider, "").await, Err(error));
}

#[tokio::test]
async fn memory_is_granted_to_the_last_byte_and_not_one_more() {
    let host = host();
    let to = |run| Guest { pages: 1, run, ..Guest::default() };
    let limits = Limits { memory_bytes_max: 4 * 65536, ..Limits::default() };
    let bind = |plugin| Provider::bind(&host, plugin, binding(&[], None, limits.clone())).expect("binds");
    let at = bind(
        load(&host, &to("(drop (memory.grow (i32.const 3))) (call $ret (local.get $in) (local.get $len))"))
            .await,
    );
    // One page to start with, one more for the input: two of the four are left.
    assert_eq!(run(&at, "x").await.map_err(|e| e.code()), Err("memory_exceeded"));
    let at = bind(
        load(&host, &to("(drop (memory.grow (i32.const 2))) (call $ret (local.get $in) (local.get $len))"))
            .await,
    );
    assert_eq!(run(&at, "x").await, Ok("x".to_owned()));
}

#[tokio::test]
async fn a_trap_ends_one_call_and_the_next_one_works() {
    let host = host();
    // Traps on an empty input only.
    let provider = provider(
        &host,
        "(if (i32.eqz (local.get $len)) (then (unreachable))) (call $ret (local.get $in) (local.get $len))",
        Limits::default(),
    )
    .await;
    for _ in 0..3 {
        match run(&provider, "").await {
            Err(CallError::Trap { message, may_have_sent: false }) => {
                assert!(message.contains("unreachable"), "{message}")
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(run(&provider, "y").await, Ok("y".to_owned()));
    }
}

#[tokio::test]
async fn a_deep_recursion_is_a_trap() {
    let host = host();
    // Closes `run` and opens a function of its own, which the frame closes.
    let provider = provider(&host, "(call $deep (local.get $in))) (func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (i32.add (local.get 0) (i32.const 1))))", Limits::default()).await;
    match run(&provider, "").await {
        Err(CallError::Trap { message, .. }) => assert!(message.contains("stack"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert!(run(&provider, "").await.is_err());
}

#[tokio::test]
async fn an_answer_is_copied_out_up_to_the_limit_and_not_above() {
    let host = host();
    let limits = Limits { output_bytes_max: 100, ..Limits::default() };
    let provider = provider(&host, ECHO, limits).await;
    assert_eq!(run(&provider, &"x".repeat(100)).await.map(|a| a.len()), Ok(100));
    let error = CallError::OutputTooLarge { limit_bytes: 100, may_have_sent: false };
    assert_eq!(run(&provider, &"x".repeat(101)).await, Err(error));
}

#[tokio::test]
async fn an_honest_answer_of_100_mb_does_not_fit() {
    let host = host();
    let honest = "(call $ret (call $alloc (i32.const 104857600)) (i32.const 104857600))";
    let small = provider(&host, honest, Limits::default()).await;
    assert_eq!(run(&small, "").await.map_err(|e| e.code()), Err("memory_exceeded"));
    let roomy =
        Host::new(HostOptions { calls_max: 2, memory_bytes_max: 256 << 20, ..HostOptions::default() })
            .expect("a host");
    let large = provider(&roomy, honest, Limits { memory_bytes_max: 256 << 20, ..Limits::default() }).await;
    assert_eq!(run(&large, "").await.map_err(|e| e.code()), Err("output_too_large"));
}

#[tokio::test]
async fn many_strings_that_share_one_big_one_do_not_fit() {
    let host = host();
    // 1000 strings of 100,000 bytes each, all at the same place: 100 MB out of one.
    let many = "(local.set $i (i32.const 0))
      (loop $l
        (i32.store (i32.add (i32.const 8192) (i32.mul (local.get $i) (i32.const 8))) (i32.const 20000))
        (i32.store (i32.add (i32.const 8196) (i32.mul (local.get $i) (i32.const 8))) (i32.const 100000))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $i) (i32.const 1000))))
      (call $ret (i32.const 8192) (i32.const 1000))";
    let plugin = load(&host, &Guest { many, ..Guest::default() }).await;
    let provider = Provider::bind(&host, plugin, binding(&[], None, Limits::default())).expect("binds");
    let answer = provider.call(MANY, ()).await;
    assert_eq!(answer.map_err(|e| e.code()), Err("output_too_large"));
}

#[tokio::test]
async fn sleeping_on_the_clock_ends_with_the_wall_time() {
    let host = host();
    let after = Duration::from_millis(80);
    let limits = Limits { wall_time_max: after, ..Limits::default() };
    // A day.
    let provider = provider(&host, "(call $sleep (i64.const 86400000000000)) (unreachable)", limits).await;
    assert_eq!(run(&provider, "").await, Err(CallError::Timeout { after, may_have_sent: false }));
}

#[tokio::test]
async fn waiting_for_http_ends_with_the_wall_time_and_says_that_it_may_have_sent() {
    let host = host();
    let plugin = load(&host, &guest(FETCH)).await;
    // On a busy machine a short time is over before the request is asked for.
    for wall_ms in [80, 800, 8_000, 80_000] {
        let limits = Limits { wall_time_max: Duration::from_millis(wall_ms), ..Limits::default() };
        let silent = Arc::new(Scripted { delay_ms: 86_400_000, ..Scripted::default() });
        let provider = Provider::bind(&host, plugin.clone(), binding(&[], Some(&["a.com"]), limits))
            .expect("binds")
            .with_transport(silent.clone());
        let error = run(&provider, "https://a.com/").await.expect_err("times out");
        let sent = silent.requests.load(Ordering::SeqCst) > 0;
        assert_eq!((error.code(), error.may_have_sent()), ("timeout", sent));
        if sent {
            assert_eq!(silent.ended.load(Ordering::SeqCst), 0);
            // The request ends with its call; its task is dropped by another thread.
            while silent.dropped.load(Ordering::SeqCst) != 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            return;
        }
    }
    panic!("nothing is ever asked for");
}

#[tokio::test]
async fn waiting_for_http_is_not_cpu() {
    let host = host();
    // A poll counts for one tick of 10 ms at most until the call is interrupted; four requests are some twenty polls.
    let limits = Limits { cpu_time_max: Duration::from_secs(1), wall_time_max: NEVER, ..Limits::default() };
    let plugin = load(&host, &guest("(drop (call $fetch (local.get $in) (local.get $len))) (drop (call $fetch (local.get $in) (local.get $len))) (drop (call $fetch (local.get $in) (local.get $len))) (call $fetch (local.get $in) (local.get $len))")).await;
    let slow = Arc::new(Scripted { delay_ms: 300, body: b"ok".to_vec(), ..Scripted::default() });
    let provider = Provider::bind(&host, plugin, binding(&[], Some(&["a.com"]), limits))
        .expect("binds")
        .with_transport(slow);
    assert_eq!(run(&provider, "https://a.com/").await, Ok("ok".to_owned()));
}

#[tokio::test]
async fn a_trap_after_a_request_says_whether_it_may_have_left() {
    let host = host();
    let plugin =
        load(&host, &guest("(drop (call $fetch (local.get $in) (local.get $len))) (unreachable)")).await;
    let with = |error: Option<HttpError>| {
        let transport = Arc::new(Scripted { error, ..Scripted::default() });
        Provider::bind(&host, plugin.clone(), binding(&[], Some(&["a.com"]), Limits::default()))
            .expect("binds")
            .with_transport(transport)
    };
    for (error, sent) in [
        (None, true),
        (Some(HttpError::Unanswered(String::new())), true),
        (Some(HttpError::TooLarge(1)), true),
        (Some(HttpError::NotSent(String::new())), false),
        (Some(HttpError::NotGranted(String::new())), false),
        (Some(HttpError::InvalidRequest(String::new())), false),
    ] {
        let ended = run(&with(error.clone()), "https://a.com/").await.expect_err("traps");
        assert_eq!((ended.code(), ended.may_have_sent()), ("trap", sent), "{error:?}");
    }
    let ungranted = run(&with(None), "https://b.com/").await.expect_err("traps");
    assert!(!ungranted.may_have_sent());
}

#[tokio::test]
async fn requests_and_their_bytes_are_counted() {
    let host = host();
    let five = "(loop $l (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (drop (call $fetch (local.get $in) (local.get $len))) (br_if $l (i32.lt_u (local.get $i) (i32.const 4))))
        (call $fetch (local.get $in) (local.get $len))";
    let plugin = load(&host, &guest(five)).await;
    let with = |limits| {
        let transport = Arc::new(Scripted { body: vec![b'x'; 100], ..Scripted::default() });
        Provider::bind(&host, plugin.clone(), binding(&[], Some(&["a.com"]), limits))
            .expect("binds")
            .with_transport(transport)
    };
    let url = "https://a.com/"; // 14 bytes
    let body = Ok("x".repeat(100));
    let limits = |http_requests_max| Limits { http_requests_max, ..Limits::default() };
    assert_eq!(run(&with(limits(5)), url).await, body);
    let error = CallError::RequestsExceeded { limit: 4, may_have_sent: true };
    assert_eq!(run(&with(limits(4)), url).await, Err(error));
    let limits = |host_call_bytes_max| Limits { host_call_bytes_max, ..Limits::default() };
    assert_eq!(run(&with(limits(5 * 114)), url).await, body);
    assert_eq!(run(&with(limits(5 * 114 - 1)), url).await, Ok("too-large".to_owned()));
    assert_eq!(run(&with(limits(4 * 114 + 13)), url).await, Ok("invalid-request".to_owned()));
    let limits = |http_response_bytes_max| Limits { http_response_bytes_max, ..Limits::default() };
    assert_eq!(run(&with(limits(100)), url).await, body);
    assert_eq!(run(&with(limits(99)), url).await, Ok("too-large".to_owned()));
}

#[tokio::test]
async fn requests_that_are_not_granted_or_not_http_never_reach_the_transport() {
    let host = host();
    let plugin = load(&host, &guest(FETCH)).await;
    let transport = Arc::new(Scripted::default());
    let provider = Provider::bind(&host, plugin, binding(&[], Some(&["a.com"]), Limits::default()))
        .expect("binds")
        .with_transport(transport.clone());
    for (url, error) in [
        ("https://b.com/", "not-granted"),
        ("https://a.com.b.com/", "not-granted"),
        ("http://127.0.0.1/", "not-granted"),
        ("file:///etc/passwd", "invalid-request"),
        ("not a url", "invalid-request"),
        ("https://user:password@a.com/", "invalid-request"),
    ] {
        assert_eq!(run(&provider, url).await, Ok(error.to_owned()), "{url}");
    }
    let pure = provider.call_pure(RUN, ("https://a.com/".to_owned(),)).await;
    assert_eq!(pure, Ok(("not-granted".to_owned(),)));
    assert_eq!(transport.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn handles_are_limited() {
    let host = host();
    let hoard = "(loop $l (drop (call $stdout)) (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $i) (local.get $len)))) (call $ret (local.get $in) (i32.const 1))";
    let limits = Limits { handles_max: 20, ..Limits::default() };
    let provider = provider(&host, hoard, limits).await;
    assert_eq!(run(&provider, &"x".repeat(20)).await, Ok("x".to_owned()));
    let error = CallError::HandlesExceeded { limit: 20, may_have_sent: false };
    assert_eq!(run(&provider, &"x".repeat(21)).await, Err(error));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_above_the_concurrency_wait_then_are_refused_then_work_again() {
    let host = host();
    // An empty input sleeps for a day.
    let run_guest = "(if (i32.eqz (local.get $len)) (then (call $sleep (i64.const 86400000000000))))
        (call $ret (local.get $in) (local.get $len))";
    let plugin = load(&host, &guest(run_guest)).await;
    let with = |queue_time_max| {
        let limits = Limits {
            concurrency_max: 2,
            queue_calls_max: 1,
            queue_time_max,
            wall_time_max: NEVER,
            ..Limits::default()
        };
        let provider = Provider::bind(&host, plugin.clone(), binding(&[], None, limits)).expect("binds");
        Arc::new(provider)
    };
    let spawn = |provider: &Arc<Provider>, input: &'static str| {
        let provider = Arc::clone(provider);
        tokio::spawn(async move { run(&provider, input).await })
    };
    let in_flight = async |provider: &Provider, calls| {
        while provider.in_flight() != calls {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };

    let patient = with(NEVER);
    let asleep = [spawn(&patient, ""), spawn(&patient, "")];
    in_flight(&patient, 2).await;
    while host.calls_running() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let waiting = spawn(&patient, "x");
    in_flight(&patient, 3).await;
    // The queue has one place, which is taken: refused without waiting for the day to end.
    assert_eq!(run(&patient, "x").await, Err(CallError::Busy));
    assert!(!waiting.is_finished());
    for call in asleep {
        call.abort();
    }
    assert_eq!(waiting.await.expect("no panic"), Ok("x".to_owned()), "it gets its turn");

    let hasty = with(Duration::from_millis(100));
    let asleep = [spawn(&hasty, ""), spawn(&hasty, "")];
    while host.calls_running() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let begun = Instant::now();
    assert_eq!(run(&hasty, "x").await, Err(CallError::Busy));
    assert!(begun.elapsed() >= Duration::from_millis(100), "it waits for its turn first");
    for call in asleep {
        call.abort();
        let _ = call.await;
    }
    assert_eq!(run(&hasty, "x").await, Ok("x".to_owned()));
    assert_eq!((host.calls_running(), hasty.in_flight(), patient.in_flight()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_call_frees_its_place_and_its_memory() {
    // One place in the whole host: if anything were kept, the next call could not run.
    let host = Host::new(HostOptions { calls_max: 1, ..HostOptions::default() }).expect("a host");
    let limits = Limits { queue_time_max: Duration::from_millis(200), ..Limits::default() };
    let asleep = "(if (i32.eqz (local.get $len)) (then (call $sleep (i64.const 60000000000)))) (call $ret (local.get $in) (local.get $len))";
    let provider = Arc::new(provider(&host, asleep, limits).await);
    for _ in 0..20 {
        let call = tokio::spawn({
            let provider = Arc::clone(&provider);
            async move { run(&provider, "").await }
        });
        while host.calls_running() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(run(&provider, "x").await, Err(CallError::Busy));
        call.abort();
        assert!(call.await.expect_err("cancelled").is_cancelled());
        assert_eq!((host.calls_running(), provider.in_flight()), (0, 0));
        assert_eq!(run(&provider, "x").await, Ok("x".to_owned()));
    }
}

#[tokio::test]
async fn what_is_not_exported_or_of_another_type_is_named() {
    let host = host();
    let provider = provider(&host, ECHO, Limits::default()).await;
    let walk: Function<(), (String,)> = Function::new("probe", "walk");
    let missing = provider.call(walk, ()).await.expect_err("is missing");
    assert_eq!(missing.to_string(), "function \"probe.walk\" is not exported");
    let other: Function<(String,), (u32,)> = Function::new("probe", "run");
    let mismatch = provider.call(other, ("x".to_owned(),)).await.expect_err("mismatch");
    assert_eq!(mismatch.code(), "type_mismatch");
    assert!(mismatch.to_string().starts_with("function \"probe.run\" has another type: "), "{mismatch}");
}

#[tokio::test]
async fn settings_are_read_by_key_and_no_other() {
    let host = host();
    let setting = |key, secret, default| Setting { key, kind: 0, required: false, secret, default };
    let guest = Guest {
        settings: vec![
            setting("api_key", true, None),
            setting("sender", false, Some("3000")),
            setting("line", false, None),
        ],
        run: "(call $setting (local.get $in) (local.get $len))",
        ..Guest::default()
    };
    let plugin = load(&host, &guest).await;
    let settings = [("api_key", "s3cret".into())];
    let provider = Provider::bind(&host, plugin, binding(&settings, None, Limits::default())).expect("binds");
    // The guest reads the secret; on its way out of the guest it is masked.
    for (key, value) in [("api_key", "***"), ("sender", "3000"), ("line", ""), ("PATH", "")] {
        assert_eq!(run(&provider, key).await, Ok(value.to_owned()), "{key}");
    }
    assert_eq!((provider.setting("api_key"), provider.setting("sender")), (None, Some("3000")));
}

#[tokio::test]
async fn tables_count_as_memory() {
    let host = host();
    // Grows a table by the length of its input.
    let grow =
        "(drop (table.grow $t (ref.null func) (local.get $len))) (call $ret (local.get $in) (i32.const 1)))
        (table $t 0 funcref) (func $unused";
    let limits = Limits { memory_bytes_max: 2 * 65536 + 8 * 1000, ..Limits::default() };
    let provider = provider(&host, grow, limits).await;
    // Two pages of memory from the start, in which the input finds room.
    assert_eq!(run(&provider, &"x".repeat(1000)).await, Ok("x".to_owned()));
    assert_eq!(run(&provider, &"x".repeat(1001)).await.map_err(|e| e.code()), Err("memory_exceeded"));
}

#[tokio::test]
async fn headers_of_a_request_are_counted() {
    let host = host();
    // As many headers `not: not` as the input is long, to the URL that is the input.
    let many = "(loop $l
        (i32.store (i32.add (i32.const 8192) (i32.mul (local.get $i) (i32.const 16))) (i32.const 256))
        (i32.store (i32.add (i32.const 8196) (i32.mul (local.get $i) (i32.const 16))) (i32.const 3))
        (i32.store (i32.add (i32.const 8200) (i32.mul (local.get $i) (i32.const 16))) (i32.const 256))
        (i32.store (i32.add (i32.const 8204) (i32.mul (local.get $i) (i32.const 16))) (i32.const 3))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $i) (local.get $len))))
      (call $send (i32.const 0) (local.get $in) (local.get $len) (i32.const 8192) (local.get $len) (i32.const 0)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 768))
      (if (i32.load8_u (i32.const 768)) (then (return (call $ret (i32.const 272) (i32.const 15)))))
      (call $ret (local.get $in) (i32.const 5))";
    let plugin = load(&host, &guest(many)).await;
    let provider = Provider::bind(&host, plugin, binding(&[], Some(&["a.com"]), Limits::default()))
        .expect("binds")
        .with_transport(Arc::new(Scripted::default()));
    let url = |bytes: usize| format!("{:x<bytes$}", "https://a.com/");
    assert_eq!(run(&provider, &url(64)).await, Ok("https".to_owned()));
    assert_eq!(run(&provider, &url(65)).await, Ok("invalid-request".to_owned()));
}

#[tokio::test]
async fn wasi_holds_no_environment_arguments_or_files() {
    const LISTS: [(&str, &str); 3] = [
        (
            r#"(import "wasi:cli/environment@0.2.0" (instance $x
                (export "get" (func (result (list (tuple string string)))))))"#,
            "get-environment",
        ),
        (
            r#"(import "wasi:cli/environment@0.2.0" (instance $x (export "get" (func (result (list string))))))"#,
            "get-arguments",
        ),
        (
            r#"(import "wasi:filesystem/types@0.2.0" (instance $fs (export "descriptor" (type (sub resource)))))
            (alias export $fs "descriptor" (type $descriptor))
            (import "wasi:filesystem/preopens@0.2.0" (instance $x
                (alias outer 1 $descriptor (type $d))
                (export "descriptor" (type $own (eq $d)))
                (export "get" (func (result (list (tuple (own $own) string)))))))"#,
            "get-directories",
        ),
    ];
    let host = host();
    for (imports, function) in LISTS {
        let imports: &'static str = imports.replace("\"get\"", &format!("\"{function}\"")).leak();
        let lower: &'static str = format!("(func $x \"{function}\")").leak();
        let guest = Guest {
            imports,
            extra: Some((lower, "(param i32)")),
            // The list's length, which must be 0, is how much of the input comes back.
            run: "(i32.store (i32.const 904) (i32.const 1)) (call $extra (i32.const 900))
                  (call $ret (local.get $in) (i32.load (i32.const 904)))",
            ..Guest::default()
        };
        let plugin = load(&host, &guest).await;
        let provider = Provider::bind(&host, plugin, binding(&[], None, Limits::default())).expect("binds");
        assert_eq!(run(&provider, "abc").await, Ok(String::new()), "{function}");
    }
}

#[tokio::test]
async fn random_bytes_are_given_up_to_a_bound() {
    let host = host();
    let guest = Guest {
        imports: r#"(import "wasi:random/random@0.2.0" (instance $x
            (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))"#,
        extra: Some(("(func $x \"get-random-bytes\")", "(param i64 i32)")),
        run: "(call $extra (i64.extend_i32_u (local.get $len)) (i32.const 900)) (call $ret (local.get $in) (i32.const 1))",
        ..Guest::default()
    };
    let plugin = load(&host, &guest).await;
    let provider = Provider::bind(&host, plugin, binding(&[], None, Limits::default())).expect("binds");
    assert_eq!(run(&provider, &"x".repeat(65536)).await, Ok("x".to_owned()));
    assert_eq!(run(&provider, &"x".repeat(65537)).await.map_err(|e| e.code()), Err("trap"));
}

/// Asks for a request as long as it lives and ignores the answers; the URL is refused before it is sent.
const ASK_ON: &str = "(loop $l (drop (call $fetch (local.get $in) (local.get $len))) (br $l)) (unreachable)";
/// Prints one byte as long as it lives, with a handle that it opened once.
const PRINT_ON: &str = "(local.set $i (call $stdout))
    (loop $l (call $write (local.get $i) (local.get $in) (i32.const 1) (i32.const 832)) (br $l)) (unreachable)";
/// Reads a setting as long as it lives.
const READ_ON: &str =
    "(loop $l (drop (call $setting (local.get $in) (local.get $len))) (br $l)) (unreachable)";
/// Sleeps for no time as long as it lives.
const SLEEP_ON: &str = "(loop $l (call $nap) (br $l)) (unreachable)) (func $nap (call $sleep (i64.const 0))";

#[tokio::test]
async fn past_its_requests_a_call_ends_whatever_it_does_with_the_answers() {
    let host = host();
    let plugin = load(&host, &guest(ASK_ON)).await;
    for (url, sent) in [("https://a.com/", true), ("https://b.com/", false), ("not a url", false)] {
        let transport = Arc::new(Scripted::default());
        let provider =
            Provider::bind(&host, plugin.clone(), binding(&[], Some(&["a.com"]), Limits::default()))
                .expect("binds")
                .with_transport(transport.clone());
        let error = CallError::RequestsExceeded { limit: 8, may_have_sent: sent };
        assert_eq!(run(&provider, url).await, Err(error.clone()), "{url}");
        let pure = provider.call_pure(RUN, (url.to_owned(),)).await.map(|(answer,)| answer);
        assert_eq!(pure, Err(CallError::RequestsExceeded { limit: 8, may_have_sent: false }), "{url}");
        assert_eq!(transport.requests.load(Ordering::SeqCst), if sent { 8 } else { 0 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_returns_to_the_host_again_and_again_meets_its_cpu_limit() {
    let host = host();
    let echo = provider(&host, ECHO, Limits::default()).await;
    for (what, guest, ends) in [
        ("asks for requests", ASK_ON, "cpu_exceeded"),
        ("prints", PRINT_ON, "cpu_exceeded"),
        ("reads settings", READ_ON, "cpu_exceeded"),
        ("naps", SLEEP_ON, "handles_exceeded"),
    ] {
        let limits = Limits {
            cpu_time_max: Duration::from_millis(100),
            // So that only the CPU limit can end it.
            http_requests_max: u32::MAX,
            host_call_bytes_max: usize::MAX,
            log_bytes_max: 0,
            wall_time_max: NEVER,
            ..Limits::default()
        };
        let hostile = Arc::new(provider(&host, guest, limits).await);
        // More of them than threads, as long as calls beside them need: what does not step aside freezes this test.
        let enough = Arc::new(AtomicBool::new(false));
        let calls: Vec<_> = (0..4)
            .map(|_| {
                let (hostile, enough) = (Arc::clone(&hostile), Arc::clone(&enough));
                tokio::spawn(async move {
                    let mut ended = Ok(String::new());
                    while ended.is_ok() || !enough.load(Ordering::SeqCst) {
                        ended = run(&hostile, "x").await.map_err(|error| error.code());
                        assert_eq!(ended, Err(ends), "{what}");
                    }
                })
            })
            .collect();
        for _ in 0..20 {
            assert_eq!(run(&echo, "x").await, Ok("x".to_owned()));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        enough.store(true, Ordering::SeqCst);
        for call in calls {
            call.await.expect("no panic");
        }
    }
}

#[tokio::test]
async fn host_time_counts_as_cpu_and_is_shown() {
    let host = host();
    let limits = Limits {
        cpu_time_max: Duration::from_millis(100),
        wall_time_max: NEVER,
        log_bytes_max: 0,
        ..Limits::default()
    };
    let provider = provider(&host, PRINT_ON, limits).await;
    assert_eq!(run(&provider, "x").await.map_err(|e| e.code()), Err("cpu_exceeded"));
    let stats = provider.stats();
    assert!(stats.cpu_micros >= 100_000, "{stats:?}");
    assert_eq!((stats.calls, stats.call_errors, stats.in_flight), (1, 1, 0));
    assert_eq!((stats.errors[0].kind, stats.errors[0].count), ("cpu_exceeded", 1));
}

#[tokio::test]
async fn what_calls_use_is_counted() {
    let host = host();
    let plugin = load(&host, &guest(FETCH)).await;
    let transport = Arc::new(Scripted { body: vec![b'x'; 100], delay_ms: 300, ..Scripted::default() });
    let provider = Provider::bind(&host, plugin, binding(&[], Some(&["a.com"]), Limits::default()))
        .expect("binds")
        .with_transport(transport);
    for _ in 0..3 {
        assert!(run(&provider, "https://a.com/").await.is_ok());
    }
    let stats = provider.stats();
    assert_eq!((stats.calls, stats.call_errors, stats.http_requests), (3, 0, 3));
    assert_eq!((stats.http_bytes_out, stats.http_bytes_in), (3 * 14, 3 * 100));
    assert_eq!(stats.memory_bytes_max, 2 * 65536);
    assert!(stats.p50_micros >= 300_000 && stats.p99_micros >= stats.p50_micros, "{stats:?}");
    assert!(stats.cpu_micros < 3 * 300_000, "waiting is not computing: {stats:?}");
}

#[tokio::test]
async fn strings_that_leave_a_guest_are_bounded_escaped_and_masked() {
    let host = host();
    let key = Setting { key: "api_key", kind: 0, required: true, secret: true, default: None };
    let plugin = load(&host, &Guest { settings: vec![key], ..guest(ECHO) }).await;
    let settings = [("api_key", "s3cret-key".into())];
    let provider = Provider::bind(&host, plugin, binding(&settings, None, Limits::default())).expect("binds");
    for (said, heard) in [
        ("a\nERROR forged", "a\\nERROR forged".to_owned()),
        ("\u{1b}[2J\u{202e}x", "\\u{1b}[2J\\u{202e}x".to_owned()),
        ("key s3cret-key of 09121234567", "key *** of 0912*****67".to_owned()),
    ] {
        assert_eq!(run(&provider, said).await, Ok(heard));
    }
    let long = run(&provider, &"y".repeat(900_000)).await.expect("answers");
    assert_eq!(long.chars().count(), chelseru_plugin_host::TEXT_CHARS_MAX + 1);
}
