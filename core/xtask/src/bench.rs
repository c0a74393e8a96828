//! `cargo xtask bench`: builds optimised and runs the named benches.
//!
//! Each bench is a file in `tests/benches/`; the first line of its module doc is its summary here. The
//! program that runs them (`chelseru-bench`) prints every number beside the baseline of the same run.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::workspace::{Workspace, become_program, ensure_wasm_target, run as run_command};
use crate::{Done, Failure, plugins, start, test};

pub(crate) const HELP: &str = "
cargo xtask bench              list the benches
cargo xtask bench NAME...      build optimised and run these, one after another

Run on an idle machine; ratios to the baseline wander less than absolute numbers.";

pub(crate) fn run(workspace: &Workspace, names: Vec<String>) -> Done {
    if let Some(option) = names.iter().find(|name| name.starts_with('-')) {
        return Err(Failure::Usage(format!("bench: {option:?} is not known; accepted: NAME...")));
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
        return Err(Failure::Usage(format!("bench: no bench {unknown:?}; accepted: {}", known.join(", "))));
    }
    ensure_wasm_target(workspace)?;
    let built = plugins::build(workspace)?;
    let folder = test::staged(workspace);
    plugins::install(&built, &folder)?;
    println!("building optimised (the first time takes several minutes)");
    run_command(&mut workspace.cargo(&start::build_arguments(true)))?;
    let mut bench = Command::new(workspace.program("release", "chelseru-bench"));
    Err(become_program(bench.args(names).env(test::PLUGINS_DIR, folder).current_dir(&workspace.root)))
}

/// Name and summary of each bench. `main.rs` and `mod.rs` hold what the benches share.
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
