//! `cargo xtask bench`: build optimised and run the named benches.
//!
//! Each bench is a file in `tests/benches/`. The first line of its module doc is its summary here. The program that
//! runs them (`chelseru-bench`) prints every number beside the baseline of the same run. Log lines go to
//! a file, so the numbers stay readable.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::workspace::{Workspace, ensure_wasm_target, file_error, run as run_command, shown};
use crate::{Done, Failure, plugins, start, test};

pub(crate) const HELP: &str = "
cargo xtask bench              List the benches.
cargo xtask bench NAME...      Build optimised and run these benches, one after another.

Use an idle machine. Compare the ratios to the baseline: absolute numbers vary more between runs.";

/// Lines of the log that a failed bench shows.
const LOG_LINES_SHOWN: usize = 40;

pub(crate) fn run(workspace: &Workspace, names: Vec<String>) -> Done {
    if let Some(option) = names.iter().find(|name| name.starts_with('-')) {
        return Err(Failure::Usage(format!("bench: unknown option {option:?}; accepted: NAME...")));
    }
    let known = list(&workspace.root.join("tests/benches"));
    if known.is_empty() {
        return Err(Failure::Failed("tests/benches holds no bench".into()));
    }
    if names.is_empty() {
        for (name, summary) in &known {
            println!("  {name:14} {summary}");
        }
        println!("\ncargo xtask bench NAME... runs them");
        return Ok(());
    }
    if let Some(unknown) = names.iter().find(|name| known.iter().all(|(known, _)| known != *name)) {
        let known: Vec<_> = known.iter().map(|(name, _)| name.as_str()).collect();
        return Err(Failure::Usage(format!(
            "bench: unknown bench {unknown:?}; accepted: {}",
            known.join(", ")
        )));
    }
    ensure_wasm_target(workspace)?;
    println!("building optimised (the first time takes several minutes)");
    let built = plugins::build_beside(workspace, || {
        run_command(&mut workspace.cargo(&start::build_arguments(&["chelseru", "chelseru-bench"], true)))
    })?;
    let folder = test::staged(workspace);
    plugins::install(&built, &folder)?;
    let log = workspace.target.join("bench.log");
    let file = fs::File::create(&log).map_err(|error| file_error("cannot make", &log, &error))?;
    println!("log lines go to {}", shown(workspace, &log));
    let mut bench = Command::new(workspace.program("release", "chelseru-bench"));
    bench.args(names).env(test::PLUGINS_DIR, folder).current_dir(&workspace.root).stderr(file);
    // A panic goes to the log too. Its last lines say why a bench failed.
    run_command(&mut bench).inspect_err(|_| eprint!("{}", last_lines(&log)))
}

/// The end of a file, for the terminal.
fn last_lines(file: &Path) -> String {
    let text = fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].iter().map(|line| format!("{line}\n")).collect()
}

/// Name and summary of each bench. `main.rs` and `mod.rs` hold shared code.
fn list(folder: &Path) -> Vec<(String, String)> {
    let Ok(files) = fs::read_dir(folder) else { return Vec::new() };
    let mut benches: Vec<_> = files
        .flatten()
        .filter_map(|file| {
            let name = file.file_name().to_str()?.strip_suffix(".rs")?.replace('_', "-");
            let text = fs::read_to_string(file.path()).ok()?;
            let summary = text.lines().next()?.strip_prefix("//!")?.trim().to_owned();
            (name != "main" && name != "mod").then_some((name, summary))
        })
        .collect();
    benches.sort();
    benches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_bench_shows_the_end_of_its_log() {
        let file = std::env::temp_dir().join(format!("xtask-bench-log-{}", std::process::id()));
        let lines = |from: usize, to: usize| (from..=to).map(|n| format!("{n}\n")).collect::<String>();
        fs::write(&file, lines(1, 100)).unwrap();
        let shown = last_lines(&file);
        fs::remove_file(&file).unwrap();
        assert_eq!(shown, lines(61, 100));
        assert_eq!(last_lines(&file), "");
    }

    #[test]
    fn benches_are_listed_by_file_with_their_first_line() {
        let folder = std::env::temp_dir().join(format!("xtask-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("plugin_call.rs"), "//! One call.\n//! More.\n").unwrap();
        fs::write(folder.join("main.rs"), "//! Runs them.\n").unwrap();
        fs::write(folder.join("notes.md"), "//! Not code.\n").unwrap();
        let listed = list(&folder);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(listed, [("plugin-call".to_owned(), "One call.".to_owned())]);
    }
}
