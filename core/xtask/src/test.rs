//! `cargo xtask test`: every test, from a fresh clone.
//!
//! Builds the plugins, which journeys load, and the gateway and the S3-compatible server, which journeys start; then
//! runs the tests of both workspaces, and some journeys again over PostgreSQL where it is installed. Every test runs
//! even when some fail. The last line sums them up.
//! Journeys find the built plugins through `CHELSERU_PLUGINS_DIR`.

use crate::workspace::{Workspace, ensure_wasm_target, host_target, run as run_command, run_seeing};
use crate::{Done, Failure, plugins, start};

pub(crate) const HELP: &str = "
cargo xtask test              Run every test.
cargo xtask test FILTER...    Run the tests whose name contains one of the words.

The last line is the sum: N passed, N failed. Exit status 1 when a test failed or could not be built.";

/// Environment variable that names the folder of the built plugins. The files have their installed names.
pub(crate) const PLUGINS_DIR: &str = "CHELSERU_PLUGINS_DIR";

/// Journeys whose gateways also run over a PostgreSQL database: one of each feature.
const OVER_POSTGRES: &[&str] = &[
    "chat_away::",
    "chat_files::",
    "chat_rest::",
    "chat_rooms::",
    "chat_socket::",
    "console_models::",
    "leaving::",
    "login::",
    "payments_staff::",
    "recorded",
    "sessions::",
    "sms_failover::",
    "webhooks::",
];

pub(crate) fn run(workspace: &Workspace, filters: Vec<String>) -> Done {
    if let Some(option) = filters.iter().find(|filter| filter.starts_with('-')) {
        return Err(Failure::Usage(format!("test: unknown option {option:?}; accepted: FILTER...")));
    }
    println!("[1/5] WASM target and plugins");
    ensure_wasm_target(workspace)?;
    let built = plugins::build(workspace)?;
    let folder = staged(workspace);
    plugins::install(&built, &folder)?;
    println!("[2/5] the gateway (the first build takes several minutes), and a store that journeys start");
    run_command(&mut workspace.cargo(&start::build_arguments(&["chelseru"], false)))?;
    run_command(&mut workspace.bucket_cargo(&["build"]))?;

    let mut count = Count::default();
    let mut broken = Vec::new();
    println!("[3/5] tests of the plugins");
    let host = host_target()?;
    let mut native =
        workspace.plugins_cargo(&["test", "--workspace", "--no-fail-fast", "--target", &host, "--"]);
    if !run_seeing(native.args(&filters), |line| count.see(line))? {
        broken.push("plugins");
    }
    println!("[4/5] tests of the gateway");
    let mut gateway = workspace.cargo(&["test", "--workspace", "--no-fail-fast", "--"]);
    if !run_seeing(gateway.args(&filters).env(PLUGINS_DIR, &folder), |line| count.see(line))? {
        broken.push("gateway");
    }
    if filters.is_empty() {
        println!("[5/5] journeys over PostgreSQL");
        if postgres_is_installed() {
            let mut journeys =
                workspace.cargo(&["test", "--package", "chelseru-tests", "--test", "journeys", "--"]);
            journeys.args(OVER_POSTGRES).env(PLUGINS_DIR, &folder).env("CHELSERU_TEST_STORE", "postgres");
            if !run_seeing(&mut journeys, |line| count.see(line))? {
                broken.push("journeys over PostgreSQL");
            }
        } else {
            println!("skipped: no initdb in /usr/lib/postgresql");
        }
    }
    let result = verdict(&count, &broken, &filters);
    println!("{} passed, {} failed", count.passed, count.failed);
    result
}

/// Where Debian's packages of PostgreSQL put their programs.
fn postgres_is_installed() -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.into_iter().any(|version| version.path().join("bin/initdb").is_file())
}

/// The folder of the built plugins for tests and benches.
pub(crate) fn staged(workspace: &Workspace) -> std::path::PathBuf {
    workspace.target.join("plugins-built")
}

/// Sums over all `test result:` lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
}

impl Count {
    /// Reads a line such as `test result: FAILED. 3 passed; 1 failed; 0 ignored; ...`. Skips any other line.
    fn see(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for part in counts.split("; ") {
            let Some((number, what)) = part.split_once(' ') else { continue };
            let number = number.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                _ => {}
            }
        }
    }
}

fn verdict(count: &Count, broken: &[&str], filters: &[String]) -> Done {
    if count.failed > 0 {
        return Err(Failure::Failed("some tests failed".into()));
    }
    if !broken.is_empty() {
        // Cargo failed although no test did: a test program did not build, or it crashed.
        return Err(Failure::Failed(format!("tests could not be built or crashed: {}", broken.join(", "))));
    }
    if count.passed == 0 {
        return Err(Failure::Failed(format!("no test matches {filters:?}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed_and_other_lines_skipped() {
        let mut count = Count::default();
        for line in [
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test a_test ... ok",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 5 filtered out; finished in 1.00s",
            "  test result: ok. 100 passed; 0 failed",
            "test result: nonsense",
            "",
        ] {
            count.see(line);
        }
        assert_eq!(count, Count { passed: 13, failed: 2 });
    }

    #[test]
    fn success_needs_a_test_that_ran_and_nothing_broken() {
        let passed = Count { passed: 1, failed: 0 };
        assert_eq!(verdict(&passed, &[], &[]), Ok(()));
        assert!(verdict(&passed, &["gateway"], &[]).is_err());
        assert!(verdict(&Count { passed: 1, failed: 1 }, &["gateway"], &[]).is_err());
        assert!(verdict(&Count::default(), &[], &["typo".into()]).is_err());
    }
}
