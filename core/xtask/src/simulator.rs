//! `cargo xtask simulator`: run the simulated providers.
//!
//! The only command that builds a single package: the simulator needs none of the gateway's large dependencies, and its
//! users should not wait for them.

use std::process::Command;

use crate::Done;
use crate::workspace::{Workspace, become_program, run as run_command};

pub(crate) const HELP: &str = "
cargo xtask simulator --listen 127.0.0.1:9100

Print the simulator's address, then serve until Ctrl-C. Point a provider's base_url at that address.
All arguments go to the simulator. cargo xtask simulator -- --help lists them with the control API.";

pub(crate) fn run(workspace: &Workspace, mut arguments: Vec<String>) -> Done {
    run_command(&mut workspace.cargo(&["build", "--quiet", "--package", "chelseru-simulator"]))?;
    if arguments.first().is_some_and(|argument| argument == "--") {
        arguments.remove(0);
    }
    Err(become_program(Command::new(workspace.program("debug", "chelseru-simulator")).args(arguments)))
}
