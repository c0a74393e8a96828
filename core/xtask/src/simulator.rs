//! `cargo xtask simulator`: the stand-in providers as a program.
//!
//! The one place that builds a single package: the simulator needs none of the gateway's large
//! dependencies, and someone who only wants it should not wait for them.

use std::process::Command;

use crate::Done;
use crate::workspace::{Workspace, become_program, run as run_command};

pub(crate) const HELP: &str = "
cargo xtask simulator --listen 127.0.0.1:9100

Prints its address, then serves until Ctrl-C. Point a provider's base_url at it. All arguments go to
the simulator; cargo xtask simulator -- --help shows them together with the control API.";

pub(crate) fn run(workspace: &Workspace, mut arguments: Vec<String>) -> Done {
    run_command(&mut workspace.cargo(&["build", "--quiet", "--package", "chelseru-simulator"]))?;
    if arguments.first().is_some_and(|argument| argument == "--") {
        arguments.remove(0);
    }
    Err(become_program(Command::new(workspace.program("debug", "chelseru-simulator")).args(arguments)))
}
