//! `cargo xtask start`: from a clone to a serving gateway.
//!
//! Builds the gateway and the plugins, installs the plugins beside the configuration, checks the configuration, and
//! then becomes the gateway, so signals and the exit status are the gateway's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::{Workspace, become_program, ensure_wasm_target, run as run_command, shown};
use crate::{Done, Failure, plugins};

pub(crate) const HELP: &str = "
cargo xtask start [--release] [--config FILE] [-- ARGUMENTS]

Build the gateway and the plugins, and serve with config.toml: an embedded database and sandbox providers, so a login
works at once. Needs Rust (by rustup) and a C compiler. Ctrl-C stops the gateway.

  --release        optimise; the first such build takes longer
  --config FILE    use another configuration; the plugins are installed into data/plugins beside it
  -- ARGUMENTS     pass arguments to chelseru serve";

#[derive(Debug, PartialEq, Eq)]
struct Options {
    release: bool,
    config: Option<PathBuf>,
    serve: Vec<String>,
}

fn options(arguments: Vec<String>) -> Result<Options, Failure> {
    let mut options = Options { release: false, config: None, serve: Vec::new() };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--release" => options.release = true,
            "--config" => {
                let file =
                    arguments.next().ok_or_else(|| Failure::Usage("start: --config needs a file".into()))?;
                options.config = Some(file.into());
            }
            "--" => options.serve = arguments.by_ref().collect(),
            _ => {
                crate::no_more("start", std::iter::once(argument), "--release, --config FILE, -- ARGUMENTS")?
            }
        }
    }
    Ok(options)
}

pub(crate) fn run(workspace: &Workspace, arguments: Vec<String>) -> Done {
    let options = options(arguments)?;
    let config = match &options.config {
        Some(file) => std::path::absolute(file)
            .map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?,
        None => workspace.root.join("config.toml"),
    };
    if !config.is_file() {
        return Err(Failure::Failed(format!(
            "no configuration at {}; name one with --config FILE",
            config.display()
        )));
    }
    let profile = if options.release { "release" } else { "debug" };
    let gateway = workspace.program(profile, "chelseru");
    if !gateway.is_file() {
        println!(
            "The first build compiles the WebAssembly engine and takes several minutes; later builds take seconds."
        );
    }

    step(1, "WASM target");
    ensure_wasm_target(workspace)?;
    step(2, "building the gateway and, beside it, the plugins");
    let built = plugins::build_beside(workspace, || {
        run_command(&mut workspace.cargo(&build_arguments(&["chelseru"], options.release)))
    })?;
    step(3, "installing the plugins");
    plugins::install(&built, &config.parent().unwrap_or(Path::new(".")).join("data/plugins"))?;
    step(4, &format!("checking {} and serving", shown(workspace, &config)));
    let gateway_command = |name: &str| {
        let mut command = Command::new(&gateway);
        command.arg(name).arg("--config").arg(&config).current_dir(&workspace.root);
        command
    };
    run_command(&mut gateway_command("check"))?;
    Err(become_program(gateway_command("serve").args(&options.serve)))
}

/// Builds the named programs and what they need, with the features of the whole workspace (see `workspace`).
pub(crate) fn build_arguments(programs: &[&'static str], release: bool) -> Vec<&'static str> {
    let mut arguments = vec!["build", "--workspace"];
    for program in programs {
        arguments.extend(["--bin", program]);
    }
    if release {
        arguments.push("--release");
    }
    arguments
}

fn step(number: u32, what: &str) {
    println!("[{number}/4] {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn arguments_after_two_dashes_belong_to_the_gateway() {
        let read = options(words("--release --config x.toml -- --release --flag")).unwrap();
        assert_eq!(
            read,
            Options { release: true, config: Some("x.toml".into()), serve: words("--release --flag") }
        );
        assert_eq!(options(Vec::new()).unwrap(), Options { release: false, config: None, serve: Vec::new() });
    }

    #[test]
    fn only_the_named_programs_are_built_and_always_with_the_workspaces_features() {
        assert_eq!(
            build_arguments(&["a", "b"], true),
            ["build", "--workspace", "--bin", "a", "--bin", "b", "--release"]
        );
    }

    #[test]
    fn an_option_without_its_value_is_a_usage_error() {
        assert!(matches!(options(words("--config")), Err(Failure::Usage(_))));
    }

    #[test]
    fn a_missing_configuration_is_reported_before_anything_is_built() {
        let workspace = Workspace::find().unwrap();
        let result = run(&workspace, words("--config no/such/file.toml"));
        assert!(matches!(result, Err(Failure::Failed(text)) if text.contains("no/such/file.toml")));
    }
}
