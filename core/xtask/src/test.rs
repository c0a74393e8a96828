//! `cargo xtask test`: every test, from a fresh clone.
//!
//! Builds the plugins, which journeys load, and the gateway and the S3-compatible server, which journeys start; then
//! runs the tests of both workspaces, and some journeys again over PostgreSQL where it is installed. Every test runs
//! even when some fail; what failed is run once more by itself, and the end repeats what it said. The last line is the
//! sum.
//! Journeys find the built plugins through `CHELSERU_PLUGINS_DIR`.

use std::process::Command;

use crate::workspace::{Workspace, ensure_wasm_target, host_target, run as run_command, run_seeing};
use crate::{Done, Failure, plugins, start};

pub(crate) const HELP: &str = "
cargo xtask test              Run every test.
cargo xtask test FILTER...    Run the tests whose name contains one of the words.

What fails is run once more by itself, and the end repeats what it said. The last line is the sum:
N passed, N failed. Exit status 1 when a test failed or could not be built.";

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

    let mut count = Outcome::default();
    let mut broken = Vec::new();
    println!("[3/5] tests of the plugins");
    let host = host_target()?;
    let plugins = |arguments: &[String]| {
        let mut cargo =
            workspace.plugins_cargo(&["test", "--workspace", "--no-fail-fast", "--target", &host, "--"]);
        cargo.args(arguments);
        cargo
    };
    step("plugins", plugins, &filters, &mut count, &mut broken)?;
    println!("[4/5] tests of the gateway");
    let gateway = |arguments: &[String]| {
        let mut cargo = workspace.cargo(&["test", "--workspace", "--no-fail-fast", "--"]);
        cargo.args(arguments).env(PLUGINS_DIR, &folder);
        cargo
    };
    step("gateway", gateway, &filters, &mut count, &mut broken)?;
    if filters.is_empty() {
        println!("[5/5] journeys over PostgreSQL");
        if postgres_is_installed() {
            let journeys = |arguments: &[String]| {
                let mut cargo =
                    workspace.cargo(&["test", "--package", "chelseru-tests", "--test", "journeys", "--"]);
                cargo.args(arguments).env(PLUGINS_DIR, &folder).env("CHELSERU_TEST_STORE", "postgres");
                cargo
            };
            let chosen: Vec<String> = OVER_POSTGRES.iter().map(|&name| name.to_owned()).collect();
            step("journeys over PostgreSQL", journeys, &chosen, &mut count, &mut broken)?;
        } else {
            println!("skipped: no initdb in /usr/lib/postgresql");
        }
    }
    let result = verdict(&count, &broken, &filters);
    print!("{}", count.report());
    println!("{} passed, {} failed", count.passed, count.failed);
    result
}

/// Runs tests, and those that failed once more, one after another with nothing beside them. A machine that others use,
/// too, may stand still for longer than a journey waits; what is wrong fails twice. What failed only once is told.
fn step(
    name: &'static str,
    command: impl Fn(&[String]) -> Command,
    filters: &[String],
    count: &mut Outcome,
    broken: &mut Vec<&'static str>,
) -> Done {
    let mut first = Outcome::default();
    let mut passed = run_seeing(&mut command(filters), |line| first.see(line))?;
    let crashed = first.programs != 0;
    let names: Vec<String> = first.failures.iter().map(|failure| failure.name.clone()).collect();
    if (1..=REPEATED_TESTS_MAX).contains(&names.len()) {
        println!("running again by themselves: {}", names.join(", "));
        let mut second = Outcome::default();
        let alone = ["--exact".to_owned(), "--test-threads=1".to_owned()];
        let again: Vec<String> = alone.into_iter().chain(names).collect();
        passed = run_seeing(&mut command(&again), |line| second.see(line))?;
        first.settle(&second);
    }
    if crashed || !passed {
        broken.push(name);
    }
    count.add(first);
    Ok(())
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

/// Failed tests that are run again. Where more fail, something is wrong.
const REPEATED_TESTS_MAX: usize = 10;
/// Lines of one failed test that the end repeats. A panic and an assertion with two values fit.
const REPEATED_LINES_MAX: usize = 60;

/// What the runs of the tests said: sums over all `test result:` lines, and the output of each failed test.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    passed: u64,
    failed: u64,
    /// In the order of the runs.
    failures: Vec<FailedTest>,
    /// The lines that come belong to the last of `failures`.
    in_failure: bool,
    /// Test programs that began and did not sum up.
    programs: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FailedTest {
    name: String,
    /// What it printed, at most [`REPEATED_LINES_MAX`].
    output: Vec<String>,
    /// It passed when it was run again.
    once: bool,
}

impl Outcome {
    /// Reads one line of the test runner. The runner repeats the output of each failed test below a line
    /// `---- NAME stdout ----`, and ends them with `failures:` and the list of names.
    fn see(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.failures.push(FailedTest { name: name.to_owned(), output: Vec::new(), once: false });
            self.in_failure = true;
        } else if is_start(line) {
            self.programs += 1;
        } else if line == "failures:" {
            self.in_failure = false;
        } else if let Some((_, counts)) =
            line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        {
            self.in_failure = false;
            self.programs = self.programs.saturating_sub(1);
            self.sum(counts);
        } else if self.in_failure
            && let Some(FailedTest { output, .. }) = self.failures.last_mut()
            && output.len() < REPEATED_LINES_MAX
        {
            output.push(line.to_owned());
        }
    }

    /// Takes the failed tests as passed that passed in a second run. One that did not run there has failed.
    fn settle(&mut self, second: &Outcome) {
        if second.passed + second.failed < self.failures.len() as u64 {
            return;
        }
        for failure in &mut self.failures {
            failure.once = second.failures.iter().all(|again| again.name != failure.name);
            if failure.once {
                self.failed = self.failed.saturating_sub(1);
                self.passed += 1;
            }
        }
    }

    fn add(&mut self, other: Outcome) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.failures.extend(other.failures);
    }

    /// Adds counts such as `3 passed; 1 failed; 0 ignored`.
    fn sum(&mut self, counts: &str) {
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

    /// The failed tests with what they said, for the end of a long output.
    fn report(&self) -> String {
        let mut text = String::new();
        for FailedTest { name, output, once } in &self.failures {
            let how = if *once { "failed once, and passed by itself" } else { "failed" };
            text.push_str(&format!("\n{how}: {name}\n"));
            for line in output {
                text.push_str(&format!("    {line}\n"));
            }
        }
        text
    }
}

/// Whether a test program begins, with a line such as `running 12 tests`.
fn is_start(line: &str) -> bool {
    let number = line
        .strip_prefix("running ")
        .and_then(|rest| rest.strip_suffix(" tests").or_else(|| rest.strip_suffix(" test")));
    number.is_some_and(|number| number.parse::<u64>().is_ok())
}

fn verdict(count: &Outcome, broken: &[&str], filters: &[String]) -> Done {
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
        let mut count = Outcome::default();
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
        assert_eq!(count, Outcome { passed: 13, failed: 2, ..Outcome::default() });
    }

    #[test]
    fn the_end_repeats_what_failed_tests_said() {
        let mut count = Outcome::default();
        for line in [
            "test rooms::opens ... FAILED",
            "test rooms::closes ... ok",
            "",
            "failures:",
            "",
            "---- rooms::opens stdout ----",
            "thread 'rooms::opens' panicked at a.rs:1:2:",
            "left: 1",
            "---- login::code stdout ----",
            "no code",
            "",
            "failures:",
            "    login::code",
            "    rooms::opens",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
            "a line of the next program",
        ] {
            count.see(line);
        }
        assert_eq!(
            count.report(),
            "\nfailed: rooms::opens\n    thread 'rooms::opens' panicked at a.rs:1:2:\n    left: 1\n\
             \nfailed: login::code\n    no code\n    \n"
        );
        let mut long = Outcome::default();
        long.see("---- long stdout ----");
        (0..2 * REPEATED_LINES_MAX).for_each(|_| long.see("line"));
        assert_eq!(long.failures[0].output.len(), REPEATED_LINES_MAX);
    }

    #[test]
    fn a_test_that_passes_by_itself_has_passed_and_is_told() {
        let run = |passed, failed: &[&str]| {
            let mut outcome = Outcome { passed, failed: failed.len() as u64, ..Outcome::default() };
            failed.iter().for_each(|name| outcome.see(&format!("---- {name} stdout ----")));
            outcome
        };
        let mut first = run(5, &["one", "two"]);
        first.settle(&run(1, &["two"]));
        assert_eq!((first.passed, first.failed), (6, 1));
        assert_eq!(first.report(), "\nfailed once, and passed by itself: one\n\nfailed: two\n");
        // A program that crashes sums nothing up.
        let mut crashed = Outcome::default();
        for line in
            ["running 2 tests", "test result: ok. 2 passed; 0 failed", "running 1 test", "running late"]
        {
            crashed.see(line);
        }
        assert_eq!((crashed.passed, crashed.programs), (2, 1));
        // A second run that ended before a test ran shows nothing.
        let mut first = run(5, &["one", "two"]);
        first.settle(&run(1, &[]));
        assert_eq!((first.passed, first.failed), (5, 2));
    }

    #[test]
    fn success_needs_a_test_that_ran_and_nothing_broken() {
        let passed = Outcome { passed: 1, ..Outcome::default() };
        let failed = Outcome { passed: 1, failed: 1, ..Outcome::default() };
        assert_eq!(verdict(&passed, &[], &[]), Ok(()));
        assert!(verdict(&passed, &["gateway"], &[]).is_err());
        assert!(verdict(&failed, &["gateway"], &[]).is_err());
        assert!(verdict(&Outcome::default(), &[], &["typo".into()]).is_err());
    }
}
