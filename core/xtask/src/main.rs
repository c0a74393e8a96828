//! `cargo xtask COMMAND`: the commands for newcomers and contributors.
//!
//! Depends on the standard library only, so the first command of a fresh clone builds in a second.
//! [`COMMANDS`] lists each command with its name, summary, help and function.
//! Exit status: 0 done, 1 failed, 2 usage error. Every error says what would help.
//! Reading order: this file, `workspace` (paths, and how cargo is run), then one file per command.

mod workspace;

mod plugins;
mod start;

mod check;
mod test;

mod autobahn;
mod bench;
mod dist;
mod simulator;

mod manifest;
mod tidy;

use std::process::ExitCode;

use workspace::Workspace;

/// Why a command failed.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// The work failed. Exit status 1.
    Failed(String),
    /// The command line is a usage error. Exit status 2.
    Usage(String),
}

type Done = Result<(), Failure>;

struct Command {
    name: &'static str,
    summary: &'static str,
    help: &'static str,
    run: fn(&Workspace, Vec<String>) -> Done,
}

/// In the order in which a newcomer needs them.
static COMMANDS: &[Command] = &[
    Command {
        name: "start",
        summary: "Build the gateway, install the plugins and serve on 127.0.0.1:8000 and :8001.",
        help: start::HELP,
        run: start::run,
    },
    Command { name: "test", summary: "Run every test.", help: test::HELP, run: test::run },
    Command {
        name: "plugins",
        summary: "Build the plugins; with --install, install them.",
        help: plugins::HELP,
        run: plugins::run,
    },
    Command {
        name: "simulator",
        summary: "Run the simulated providers with scripted faults.",
        help: simulator::HELP,
        run: simulator::run,
    },
    Command {
        name: "bench",
        summary: "Run benches; print each number beside its baseline.",
        help: bench::HELP,
        run: bench::run,
    },
    Command {
        name: "autobahn",
        summary: "Run the Autobahn test suite (needs Python 2.7).",
        help: autobahn::HELP,
        run: autobahn::run,
    },
    Command {
        name: "check",
        summary: "Check formatting and lints; deny warnings.",
        help: check::HELP,
        run: check::run,
    },
    Command {
        name: "tidy",
        summary: "Check the repository's own rules: arrows, circles, lengths, module docs, bans.",
        help: tidy::HELP,
        run: tidy::run,
    },
    Command {
        name: "dist",
        summary: "Build the release folder and archive.",
        help: dist::HELP,
        run: dist::run,
    },
];

fn main() -> ExitCode {
    match dispatch(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(text)) => {
            eprintln!("error: {text}");
            ExitCode::from(1)
        }
        Err(Failure::Usage(text)) => {
            eprintln!("error: {text}");
            ExitCode::from(2)
        }
    }
}

fn dispatch(mut arguments: Vec<String>) -> Done {
    if arguments.is_empty() || matches!(arguments[0].as_str(), "--help" | "-h" | "help") {
        println!("{}", overview());
        return Ok(());
    }
    let name = arguments.remove(0);
    let command = COMMANDS.iter().find(|command| command.name == name).ok_or_else(|| {
        let names: Vec<_> = COMMANDS.iter().map(|command| command.name).collect();
        Failure::Usage(format!("unknown command {name:?}; accepted: {}", names.join(", ")))
    })?;
    // Arguments after `--` belong to the program that the command runs.
    let own = arguments.iter().take_while(|argument| *argument != "--");
    if own.clone().any(|argument| argument == "--help" || argument == "-h") {
        println!("cargo xtask {}: {}\n\n{}", command.name, command.summary, command.help.trim());
        return Ok(());
    }
    (command.run)(&Workspace::find()?, arguments)
}

fn overview() -> String {
    let mut text = "cargo xtask COMMAND [ARGUMENTS]\n\n".to_owned();
    for command in COMMANDS {
        text.push_str(&format!("  {:10} {}\n", command.name, command.summary));
    }
    text.push_str("\nRun cargo xtask COMMAND --help for details. New here? Run cargo xtask start");
    text
}

/// Refuses an argument that a command does not take.
fn no_more(command: &str, mut arguments: impl Iterator<Item = String>, accepted: &str) -> Done {
    match arguments.next() {
        None => Ok(()),
        Some(unknown) => {
            Err(Failure::Usage(format!("{command}: unknown argument {unknown:?}; accepted: {accepted}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(arguments: &[&str]) -> String {
        match dispatch(arguments.iter().map(|&argument| argument.to_owned()).collect()) {
            Err(Failure::Usage(text)) => text,
            other => panic!("{arguments:?}: {other:?}"),
        }
    }

    #[test]
    fn an_unknown_command_gets_a_list_of_all_commands() {
        let text = usage(&["strat"]);
        assert!(COMMANDS.iter().all(|command| text.contains(command.name)), "{text}");
    }

    #[test]
    fn every_command_refuses_an_unknown_option_and_names_what_it_takes() {
        for (command, accepted) in [
            ("start", "--release"),
            ("test", "FILTER"),
            ("plugins", "--install"),
            ("bench", "NAME"),
            ("check", "no arguments"),
            ("tidy", "--all, --tighten"),
            ("dist", "no arguments"),
        ] {
            let text = usage(&[command, "--nonsense"]);
            assert!(text.contains("--nonsense") && text.contains(accepted), "{text}");
        }
    }

    #[test]
    fn help_exists_for_every_command_and_runs_nothing() {
        assert_eq!(dispatch(Vec::new()), Ok(()));
        for command in COMMANDS {
            assert!(command.help.contains("cargo xtask"), "{} shows no command line", command.name);
            assert_eq!(dispatch(vec![command.name.into(), "--help".into()]), Ok(()));
            assert!(overview().contains(command.summary));
        }
    }
}
