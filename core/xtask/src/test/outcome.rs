//! What test programs said: sums over their `test result:` lines, and the output of each failed test.

/// Lines of one failed test that the end repeats. A panic and an assertion with two values fit.
const REPEATED_LINES_MAX: usize = 60;

/// Of one run of one program or of several.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
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
    pub(crate) fn see(&mut self, line: &str) {
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
    pub(crate) fn settle(&mut self, second: &Outcome) {
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

    /// The names of the failed tests.
    pub(crate) fn failed_names(&self) -> Vec<String> {
        self.failures.iter().map(|failure| failure.name.clone()).collect()
    }

    /// Whether a program began and did not sum up.
    pub(crate) fn crashed(&self) -> bool {
        self.programs != 0
    }

    pub(crate) fn add(&mut self, other: Outcome) {
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
    pub(crate) fn report(&self) -> String {
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
}
