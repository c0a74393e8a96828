//! Paths of the checkout, and how cargo is run.
//!
//! The repository has two workspaces: the root and `plugins/`, which builds for another target into its own folder.
//! With `CARGO_TARGET_DIR` set, the plugins build into a folder inside it.
//! Cargo always runs with `--workspace`. Another choice of packages unifies features differently and would compile the
//! WebAssembly engine twice. `--bin` narrows what is built and leaves the features alone.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::Failure;

/// Target of the plugins.
pub(crate) const WASM_TARGET: &str = "wasm32-wasip2";

pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// Build folder of the root workspace.
    pub(crate) target: PathBuf,
    /// Build folder of the plugins.
    pub(crate) plugins_target: PathBuf,
}

impl Workspace {
    /// Finds the workspace that cargo runs this program for; without cargo, the one it was built from.
    /// The two differ after a checkout was copied or moved together with its target folder.
    pub(crate) fn find() -> Result<Self, Failure> {
        let package = std::env::var_os("CARGO_MANIFEST_DIR");
        let root = package
            .as_deref()
            .map_or(Path::new(env!("CARGO_MANIFEST_DIR")), Path::new)
            .ancestors()
            .nth(2)
            .filter(|root| root.join("Cargo.lock").is_file())
            .ok_or_else(|| Failure::Failed("the checkout was moved; run cargo clean -p xtask".into()))?;
        let here = std::env::current_dir()
            .map_err(|error| Failure::Failed(format!("the current folder cannot be read: {error}")))?;
        let chosen = std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty());
        Ok(Self::at(root, chosen.map(|dir| here.join(dir))))
    }

    fn at(root: &Path, target: Option<PathBuf>) -> Self {
        let plugins_target = match &target {
            Some(target) => target.join("plugins"),
            None => root.join("plugins/target"),
        };
        Self { root: root.to_owned(), target: target.unwrap_or_else(|| root.join("target")), plugins_target }
    }

    /// A cargo command in the root workspace.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        self.cargo_in(&self.root, &self.target, arguments)
    }

    /// A cargo command in the plugins' workspace. Runs in that folder, because cargo finds the settings (target, stack
    /// size) from there.
    pub(crate) fn plugins_cargo(&self, arguments: &[&str]) -> Command {
        self.cargo_in(&self.root.join("plugins"), &self.plugins_target, arguments)
    }

    /// A cargo command for the S3-compatible server of journeys, which look for it beside their own build folder.
    pub(crate) fn bucket_cargo(&self, arguments: &[&str]) -> Command {
        self.cargo_in(&self.root.join("tests/bucket"), &self.target.join("bucket-server"), arguments)
    }

    fn cargo_in(&self, folder: &Path, target: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments).current_dir(folder).env("CARGO_TARGET_DIR", target);
        // `cargo run` describes this package to its child. Another cargo must not inherit that: build scripts that read
        // these variables would run again.
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
        command
    }

    /// Path of a built program.
    pub(crate) fn program(&self, profile: &str, name: &str) -> PathBuf {
        self.target.join(profile).join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    }
}

/// Shows a path relative to the checkout when it lies inside.
pub(crate) fn shown<'a>(workspace: &Workspace, path: &'a Path) -> std::path::Display<'a> {
    path.strip_prefix(&workspace.root).unwrap_or(path).display()
}

/// Runs a command with this terminal.
///
/// Errors: the program is missing, or its exit status is not 0. The text names the command line.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::Failed(format!("{} ended with {status}", line(command)))),
        Err(error) => Err(not_started(command, &error)),
    }
}

/// The same command with a lower priority where the system has `nice`: beside two busy cores it gets a twentieth.
pub(crate) fn giving_way(command: Command) -> Command {
    if !cfg!(unix) {
        return command;
    }
    let mut nice = Command::new("nice");
    nice.args(["-n", "13"]).arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        nice.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => nice.env(name, value),
            None => nice.env_remove(name),
        };
    }
    nice
}

/// A command that runs beside others. Dropped before it was waited for, it is ended.
pub(crate) struct Beside {
    line: String,
    child: Option<Child>,
}

impl Beside {
    /// Errors: the program is missing.
    pub(crate) fn begin(command: &mut Command) -> Result<Beside, Failure> {
        let child = command.stdin(Stdio::null()).spawn().map_err(|error| not_started(command, &error))?;
        Ok(Beside { line: line(command), child: Some(child) })
    }

    /// Waits for its end.
    ///
    /// Errors: its exit status is not 0. The text names the command line.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        match child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::Failed(format!("{} ended with {status}", self.line))),
            Err(error) => Err(Failure::Failed(format!("{} cannot be waited for: {error}", self.line))),
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a command, passes its standard output on and hands each line to `see`. Returns whether the program succeeded.
pub(crate) fn run_seeing(command: &mut Command, mut see: impl FnMut(&str)) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    run_reading(command, |bytes| {
        // Tests may print bytes that are not UTF-8. They are printed unchanged and seen as replacement characters.
        see(&String::from_utf8_lossy(bytes));
        // A closed pipe (`| head`) must not end the tests.
        let _ = out.write_all(bytes).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    })
}

/// Runs a command and hands each line of its standard output to `read`. Returns whether the program succeeded.
pub(crate) fn run_reading(command: &mut Command, read: impl FnMut(&[u8])) -> Result<bool, Failure> {
    Ok(status_reading(command, read)?.success())
}

/// As [`run_reading`], and returns how the program ended.
pub(crate) fn status_reading(
    command: &mut Command,
    mut read: impl FnMut(&[u8]),
) -> Result<ExitStatus, Failure> {
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| not_started(command, &error))?;
    let output = child.stdout.take().expect("the output was asked for as a pipe");
    BufReader::new(output).split(b'\n').map_while(Result::ok).for_each(|line| read(&line));
    child.wait().map_err(|error| not_started(command, &error))
}

/// Runs a command and returns its standard output, trimmed.
pub(crate) fn ask(command: &mut Command) -> Result<String, Failure> {
    let output = command.output().map_err(|error| not_started(command, &error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::Failed(format!("{} ended with {}: {error}", line(command), output.status)))
}

/// Replaces this program with another. Where the system cannot, runs it and exits with its status.
pub(crate) fn become_program(command: &mut Command) -> Failure {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        let error = command.exec();
        not_started(command, &error)
    }
    #[cfg(not(unix))]
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => not_started(command, &error),
    }
}

/// Adds the plugins' target to the toolchain when it is missing.
///
/// Errors: the target cannot be added. The text gives the command that adds it.
pub(crate) fn ensure_wasm_target(workspace: &Workspace) -> Result<(), Failure> {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", WASM_TARGET]).current_dir(&workspace.root);
    if Path::new(&ask(&mut rustc)?).is_dir() {
        return Ok(());
    }
    println!("      the target {WASM_TARGET} is missing; adding it with rustup");
    run(Command::new("rustup").args(["target", "add", WASM_TARGET]).current_dir(&workspace.root)).map_err(
        |_| {
            Failure::Failed(format!(
                "the target {WASM_TARGET} is missing and could not be added; with rustup and a network, run: \
             rustup target add {WASM_TARGET}"
            ))
        },
    )
}

/// The target of this machine, such as `x86_64-unknown-linux-gnu`.
pub(crate) fn host_target() -> Result<String, Failure> {
    let version = ask(Command::new("rustc").arg("-vV"))?;
    version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .ok_or_else(|| Failure::Failed("rustc -vV names no host".into()))
}

/// An error about a file, with its path.
pub(crate) fn file_error(doing: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("{doing} {}: {error}", path.display()))
}

fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut words = vec![program.to_string_lossy().into_owned()];
    words.extend(command.get_args().map(OsStr::to_string_lossy).map(std::borrow::Cow::into_owned));
    words.join(" ")
}

fn not_started(command: &Command, error: &std::io::Error) -> Failure {
    let hint = match error.kind() {
        std::io::ErrorKind::NotFound => "; is it installed and in PATH?",
        _ => "",
    };
    Failure::Failed(format!("{} could not be run: {error}{hint}", line(command)))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn a_chosen_target_folder_holds_the_plugins_too() {
        let chosen = Workspace::at(Path::new("/repo"), Some("/cache/target".into()));
        assert_eq!(chosen.target, Path::new("/cache/target"));
        assert_eq!(chosen.plugins_target, Path::new("/cache/target/plugins"));
        let default = Workspace::at(Path::new("/repo"), None);
        assert_eq!(default.target, Path::new("/repo/target"));
        assert_eq!(default.plugins_target, Path::new("/repo/plugins/target"));
    }

    /// Packages that take long to compile. With other features for them, or for anything below them, a build with one
    /// package and a build with all would compile them twice.
    const HEAVY: &[&str] = &["wasmtime", "wasmtime-wasi", "cranelift-codegen", "sled", "aws-lc-sys"];

    /// Package, version and features of everything that the heavy packages depend on, for a choice of packages.
    fn below_heavy(workspace: &Workspace, choice: &[&str]) -> BTreeSet<String> {
        let tree =
            ["tree", "--offline", "--edges", "normal,build", "--prefix", "depth", "--format", "|{p}|{f}"];
        let tree = ask(workspace.cargo(&tree).args(choice)).unwrap();
        // Cargo prints what is below a package at its first place only.
        let mut below: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut path: Vec<String> = Vec::new();
        for line in tree.lines() {
            let Some((depth, package)) = line.split_once('|') else { continue };
            path.truncate(depth.parse().unwrap());
            let package = package.trim_end_matches(" (*)").to_owned();
            if let Some(parent) = path.last() {
                below.entry(parent.clone()).or_default().insert(package.clone());
            }
            path.push(package);
        }
        let is_heavy =
            |package: &&String| HEAVY.iter().any(|heavy| package.starts_with(&format!("{heavy} ")));
        let mut found: BTreeSet<String> = BTreeSet::new();
        let mut open: Vec<String> = below.keys().filter(is_heavy).cloned().collect();
        while let Some(package) = open.pop() {
            if found.insert(package.clone()) {
                open.extend(below.get(&package).into_iter().flatten().cloned());
            }
        }
        found
    }

    #[test]
    fn heavy_packages_have_the_same_features_for_the_gateway_and_for_the_workspace() {
        let workspace = Workspace::find().unwrap();
        let of_all = below_heavy(&workspace, &["--workspace"]);
        assert!(of_all.iter().any(|package| package.starts_with("wasmtime ")), "{of_all:?}");
        let of_one = below_heavy(&workspace, &["--package", "chelseru"]);
        assert_eq!(of_one.difference(&of_all).collect::<Vec<_>>(), Vec::<&String>::new());
    }

    #[test]
    fn the_engine_and_the_macro_of_its_bindings_share_the_parser_of_components() {
        let workspace = Workspace::find().unwrap();
        let tree = ["tree", "--offline", "--workspace", "--edges", "normal,build", "--prefix", "none"];
        let tree = ask(workspace.cargo(&tree).args(["--format", "{p}|{f}"])).unwrap();
        let shared = [
            "bitflags v2",
            "hashbrown v0.17",
            "indexmap v2",
            "semver v1",
            "serde v1",
            "serde_core v1",
            "serde_json v1",
            "wasmparser v",
        ];
        for package in shared {
            let kinds: BTreeSet<&str> = tree
                .lines()
                .filter(|line| line.starts_with(package))
                .map(|line| line.trim_end_matches(" (*)"))
                .collect();
            assert_eq!(kinds.len(), 1, "compiled more than once: {kinds:?}; see core/plugin-host/Cargo.toml");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_command_that_gives_way_is_the_same_one_at_a_lower_priority() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $(nice) $(pwd) $ADDED [$HOME]"]).current_dir("/");
        command.env("ADDED", "1").env_remove("HOME");
        let own: u32 = ask(&mut Command::new("nice")).unwrap().parse().unwrap();
        let lower = (own + 13).min(19);
        assert_eq!(ask(&mut giving_way(command)).unwrap(), format!("{lower} / 1 []"));
    }

    #[test]
    fn a_missing_program_is_named_with_its_arguments() {
        let error = run(Command::new("no-such-program-here").arg("--flag")).unwrap_err();
        let Failure::Failed(text) = error else { panic!("{error:?}") };
        assert!(text.contains("no-such-program-here --flag") && text.contains("PATH"), "{text}");
    }

    #[cfg(unix)]
    #[cfg(unix)]
    #[test]
    fn what_runs_beside_others_is_waited_for_or_ended() {
        let sh = |script: &str| Beside::begin(Command::new("sh").args(["-c", script])).unwrap();
        assert!(sh("exit 0").end().is_ok());
        let failed = sh("exit 3").end();
        assert!(matches!(failed, Err(Failure::Failed(text)) if text.contains("sh -c exit 3 ended with")));
        let begun = std::time::Instant::now();
        drop(sh("exec sleep 3600"));
        assert!(begun.elapsed() < std::time::Duration::from_secs(600));
        assert!(Beside::begin(&mut Command::new("no-such-program")).is_err());
    }

    #[test]
    fn seen_lines_are_whole_and_the_status_is_returned() {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; printf two; exit 3"]);
        assert_eq!(run_seeing(&mut command, |line| lines.push(line.to_owned())), Ok(false));
        assert_eq!(lines, ["one", "two"]);
    }
}
