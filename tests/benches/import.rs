//! A move from django-chelseru: 200,000 users, 1,000,000 messages and 200,000 payments, time and memory.
//!
//! The command runs as its own process. Its largest resident memory is read from the operating system while it runs.
//! `CHELSERU_BENCH_IMPORT` divides the sizes.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chelseru_tests::django::{Size, generate};
use chelseru_tests::folder;
use chelseru_tests::process::binary;

pub(crate) fn run() {
    let divided: u64 =
        std::env::var("CHELSERU_BENCH_IMPORT").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let size = Size { users: 200_000 / divided, messages: 1_000_000 / divided, payments: 200_000 / divided };
    let dir = folder("");
    let database = dir.path().join("old.sqlite3");
    let start = Instant::now();
    generate(&database, size);
    let bytes = std::fs::metadata(&database).expect("a file").len();
    println!("source       {} MiB of SQLite, made in {:.0} s", bytes >> 20, start.elapsed().as_secs_f64());

    let media = dir.path().join("media");
    std::fs::create_dir(&media).expect("a folder");
    let start = Instant::now();
    let mut child = Command::new(binary())
        .args(["import", "django", "--unit", "IRT", "--report", "report.txt", "--media"])
        .arg(&media)
        .arg(format!("sqlite:{}", database.display()))
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("the command starts");
    let mut memory = 0;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        memory = resident_most(child.id()).unwrap_or(memory);
        std::thread::sleep(Duration::from_millis(50));
    };
    let seconds = start.elapsed().as_secs_f64();
    assert!(status.success(), "the import failed");
    println!(
        "import       {seconds:.1} s (reach: 600 s), {} MiB resident at most (reach: 512 MiB)",
        memory >> 10
    );

    let start = Instant::now();
    let verified = Command::new(binary()).args(["ledger", "verify"]).current_dir(dir.path()).status();
    assert!(verified.expect("the command starts").success(), "the ledger differs");
    println!("ledger       right, read in {:.1} s", start.elapsed().as_secs_f64());
}

/// The largest resident memory of a process so far, in KiB; `None` where the system does not say.
fn resident_most(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
