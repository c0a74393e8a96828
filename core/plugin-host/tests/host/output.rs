//! What a guest prints, as the log sees it.

use chelseru_plugin_host::{Limits, Provider};

use crate::kit::*;
use crate::lines::Lines;

#[tokio::test]
async fn a_flood_is_capped_and_one_line_says_so_and_secrets_are_masked() {
    let host = host();
    // Prints its input 10,000 times.
    let flood = "(loop $l (call $print (local.get $in) (local.get $len)) (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $i) (i32.const 10000)))) (call $ret (local.get $in) (i32.const 2))";
    let guest = Guest {
        settings: vec![Setting { key: "api_key", kind: 0, required: true, secret: true, default: None }],
        // A handle for each line: they are dropped with the call.
        run: flood,
        ..Guest::default()
    };
    let plugin = load(&host, &guest).await;
    let limits = Limits {
        log_bytes_max: 100,
        handles_max: 20_000,
        cpu_time_max: std::time::Duration::from_secs(5),
        ..Limits::default()
    };
    let settings = [("api_key", "s3cret".into())];
    let provider = Provider::bind(&host, plugin, binding(&settings, None, limits)).expect("binds");

    let lines = Lines::default();
    let guard = lines.collect();
    assert_eq!(run(&provider, "a \u{1b}[31m s3cret\n").await, Ok("a ".to_owned()));
    drop(guard);
    let lines = lines.all();
    // 15 bytes a line: six whole ones in 100 bytes, and the beginning of a seventh, which may be that of a secret.
    assert_eq!(lines.len(), 8, "{lines:?}");
    assert!(lines[..6].iter().all(|l| l == "a \\u{1b}[31m ***"), "{lines:?}");
    assert_eq!(lines[6..], ["…", "output cut after 100 bytes in one call"]);
}
