//! `cargo xtask test`: every test, from a fresh clone.
//!
//! Builds the plugins, which journeys load, and the gateway and the S3-compatible server, which journeys start; then
//! runs the tests of both workspaces, and some journeys again over PostgreSQL where it is installed. The gateway's test
//! programs run side by side, because most wait more than they compute. Every test runs even when some fail; what
//! failed is run once more, with nothing beside it, and the end repeats what it said. The last line is the sum.
//! Journeys find the built plugins through `CHELSERU_PLUGINS_DIR`.
//! Reading order: this file, `programs` (side by side), `outcome` (what they said).

mod outcome;
mod programs;

use std::num::NonZero;
use std::process::Command;

use crate::workspace::{
    Beside, Workspace, ensure_wasm_target, host_target, run as run_command, run_reading, run_seeing,
};
use crate::{Done, Failure, plugins, start};
use outcome::Outcome;
use programs::{Program, run_all};

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

/// Test programs that take longest. They begin first.
const LONGEST: &[&str] = &[JOURNEYS, "chelseru-store store", "chelseru-domain payments"];

/// Its tests wait for each other's processes, clocks and time-outs. Twice as many at a time as cores keep those busy.
const JOURNEYS: &str = "chelseru-tests journeys";

/// The test runner's own variable for that.
const THREADS: &str = "RUST_TEST_THREADS";

/// Failed tests of one program that are run again. Where more fail, something is wrong.
const REPEATED_TESTS_MAX: usize = 10;

pub(crate) fn run(workspace: &Workspace, filters: Vec<String>) -> Done {
    if let Some(option) = filters.iter().find(|filter| filter.starts_with('-')) {
        return Err(Failure::Usage(format!("test: unknown option {option:?}; accepted: FILTER...")));
    }
    println!("[1/5] WASM target");
    ensure_wasm_target(workspace)?;
    println!("[2/5] the gateway (the first build takes several minutes) and, beside it, the plugins");
    let built = plugins::build_beside(workspace, || {
        run_command(&mut workspace.cargo(&start::build_arguments(&["chelseru"], false)))
    })?;
    let folder = staged(workspace);
    plugins::install(&built, &folder)?;

    let mut results = Results::default();
    println!(
        "[3/5] tests of the plugins, and examples of the gateway; beside them, a store that journeys start"
    );
    let store = Beside::begin(workspace.bucket_cargo(&["build"]).arg("--quiet"))?;
    let host = host_target()?;
    let plugins =
        workspace.plugins_cargo(&["test", "--workspace", "--no-fail-fast", "--target", &host, "--"]);
    results.see_cargo("plugins", plugins, &filters)?;
    let examples = workspace.cargo(&["test", "--workspace", "--doc", "--no-fail-fast", "--"]);
    results.see_cargo("examples", examples, &filters)?;

    println!("[4/5] building the tests of the gateway");
    let cores = std::thread::available_parallelism().map_or(2, NonZero::get);
    let mut build = workspace.cargo(&["test", "--workspace", "--no-run"]);
    let mut programs = Vec::new();
    let built = run_reading(build.arg("--message-format=json-render-diagnostics"), |line| {
        let program = Program::read(&String::from_utf8_lossy(line));
        programs.extend(program.map(|program| program.with(filters.clone())));
    })?;
    if !built {
        results.broken.push("gateway".to_owned());
    }
    store.end()?;
    for program in &mut programs {
        program.variables =
            vec![(PLUGINS_DIR, folder.clone()), ("CARGO_TARGET_DIR", workspace.target.clone())];
        if program.name == JOURNEYS && std::env::var_os(THREADS).is_none() {
            program.variables.push((THREADS, (2 * cores).to_string().into()));
        }
    }
    if filters.is_empty() {
        match over_postgres(&programs) {
            Some(journeys) => programs.push(journeys),
            None => println!("skipped: journeys over PostgreSQL (no initdb in /usr/lib/postgresql)"),
        }
    }
    programs.sort_by_key(|program| {
        let long = LONGEST.iter().position(|&long| program.name.starts_with(long));
        (long.unwrap_or(LONGEST.len()), program.name.clone())
    });
    println!("[5/5] tests of the gateway");
    results.see_programs(run_all(programs, cores)?)?;
    results.end(&filters)
}

/// Some journeys, where PostgreSQL is installed, with their stores in it.
fn over_postgres(programs: &[Program]) -> Option<Program> {
    let journeys = programs.iter().find(|program| program.name == JOURNEYS)?;
    if !postgres_is_installed() {
        return None;
    }
    let mut chosen = journeys.with(OVER_POSTGRES.iter().map(|&name| name.to_owned()));
    chosen.name.push_str(" over PostgreSQL");
    chosen.variables.push(("CHELSERU_TEST_STORE", "postgres".into()));
    Some(chosen)
}

/// What all runs said.
#[derive(Default)]
struct Results {
    count: Outcome,
    /// What could not be built, or crashed.
    broken: Vec<String>,
}

impl Results {
    /// Runs tests by cargo.
    fn see_cargo(&mut self, name: &str, mut cargo: Command, filters: &[String]) -> Done {
        let mut outcome = Outcome::default();
        let succeeded = run_seeing(cargo.args(filters), |line| outcome.see(line))?;
        if outcome.crashed() || (!succeeded && outcome.failed == 0) {
            self.broken.push(name.to_owned());
        }
        self.count.add(outcome);
        Ok(())
    }

    /// Takes what programs said, and runs those tests once more that failed, one after another with nothing beside
    /// them. A machine that others use, too, may stand still for longer than a journey waits; what is wrong fails
    /// twice. What failed only once is told.
    fn see_programs(&mut self, ended: Vec<programs::Ended>) -> Done {
        for mut ended in ended {
            let names = ended.outcome.failed_names();
            if ended.outcome.crashed() || (!ended.succeeded && names.is_empty()) {
                self.broken.push(ended.program.name.clone());
            } else if (1..=REPEATED_TESTS_MAX).contains(&names.len()) {
                println!("running again by themselves: {}", names.join(", "));
                let alone = ["--exact".to_owned(), "--test-threads=1".to_owned()];
                for again in run_all(vec![ended.program.with(alone.into_iter().chain(names))], 1)? {
                    if again.outcome.crashed() {
                        self.broken.push(again.program.name.clone());
                    }
                    ended.outcome.settle(&again.outcome);
                }
            }
            self.count.add(ended.outcome);
        }
        Ok(())
    }

    fn end(self, filters: &[String]) -> Done {
        let result = verdict(&self.count, &self.broken, filters);
        print!("{}", self.count.report());
        println!("{} passed, {} failed", self.count.passed, self.count.failed);
        result
    }
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

fn verdict(count: &Outcome, broken: &[String], filters: &[String]) -> Done {
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
    fn success_needs_a_test_that_ran_and_nothing_broken() {
        let seen = |line: &str| {
            let mut outcome = Outcome::default();
            outcome.see(line);
            outcome
        };
        let passed = seen("test result: ok. 1 passed; 0 failed");
        let failed = seen("test result: FAILED. 1 passed; 1 failed");
        assert_eq!(verdict(&passed, &[], &[]), Ok(()));
        assert!(verdict(&passed, &["gateway".into()], &[]).is_err());
        assert!(verdict(&failed, &["gateway".into()], &[]).is_err());
        assert!(verdict(&Outcome::default(), &[], &["typo".into()]).is_err());
    }
}
