//! `cargo xtask check`: formatting and lints of every workspace, warnings denied.
//!
//! Adds rustfmt and clippy to the toolchain when they are missing, as in rustup's minimal profile.

use std::process::{Command, Stdio};

use crate::workspace::{WASM_TARGET, Workspace, ensure_wasm_target, run as run_command};
use crate::{Done, Failure, no_more};

pub(crate) const HELP: &str = "
cargo xtask check    Run cargo fmt --check and cargo clippy -D warnings on the gateway, the plugins and the
                     S3-compatible server of journeys.";

pub(crate) fn run(workspace: &Workspace, arguments: Vec<String>) -> Done {
    no_more("check", arguments.into_iter(), "no arguments")?;
    for (tool, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        ensure_component(workspace, tool, component)?;
    }
    ensure_wasm_target(workspace)?;
    println!("[1/3] formatting");
    run_command(&mut workspace.cargo(&["fmt", "--all", "--check"]))?;
    run_command(&mut workspace.plugins_cargo(&["fmt", "--all", "--check"]))?;
    run_command(&mut workspace.bucket_cargo(&["fmt", "--check"]))?;
    println!("[2/3] lints of the gateway, and of the server of journeys");
    run_command(&mut workspace.cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    run_command(&mut workspace.bucket_cargo(&["clippy", "--all-targets", "--", "-D", "warnings"]))?;
    println!("[3/3] lints of the plugins");
    let target = ["clippy", "--workspace", "--target", WASM_TARGET, "--", "-D", "warnings"];
    run_command(&mut workspace.plugins_cargo(&target))
}

fn ensure_component(workspace: &Workspace, tool: &str, component: &str) -> Done {
    let mut probe = workspace.cargo(&[tool, "--version"]);
    if probe.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    println!("      {component} is missing; adding it with rustup");
    run_command(Command::new("rustup").args(["component", "add", component]).current_dir(&workspace.root))
        .map_err(|_| {
            Failure::Failed(format!(
                "{component} is missing and could not be added; run: rustup component add {component}"
            ))
        })
}
