//! `cargo xtask dist`: build the release folder and, where `tar` exists, an archive of it.
//!
//! The folder is ready to serve: program, configuration, plugins in `data/plugins`, licence and documents.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::workspace::{Workspace, ensure_wasm_target, file_error, host_target, run as run_command, shown};
use crate::{Done, Failure, no_more, plugins};

pub(crate) const HELP: &str = "
cargo xtask dist    Build target/dist/chelseru-VERSION-TARGET/ and the same as .tar.gz.

The dist profile optimises across crates. The first build takes about ten minutes.";

/// Files from the root of the checkout that are copied beside the program when they exist.
const TEXTS: &[&str] = &["config.toml", "README.md", "CHANGELOG.md", "LICENSE"];

pub(crate) fn run(workspace: &Workspace, arguments: Vec<String>) -> Done {
    no_more("dist", arguments.into_iter(), "no arguments")?;
    ensure_wasm_target(workspace)?;
    let name = format!("chelseru-{}-{}", env!("CARGO_PKG_VERSION"), host_target()?);
    println!("[1/4] building the plugins");
    let built = plugins::build(workspace)?;
    println!("[2/4] building the gateway");
    run_command(&mut workspace.cargo(&["build", "--profile", "dist", "--package", "chelseru", "--bins"]))?;
    println!("[3/4] starting it once");
    let program = workspace.program("dist", "chelseru");
    starts(&program)?;
    println!("[4/4] collecting {name}");
    let dist = workspace.target.join("dist");
    let folder = dist.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| file_error("cannot empty", &folder, &error))?;
    }
    plugins::install(&built, &folder.join("data/plugins"))?;
    copy(&program, &folder.join(program.file_name().unwrap_or_default()))?;
    for text in TEXTS.iter().filter(|text| workspace.root.join(text).is_file()) {
        copy(&workspace.root.join(text), &folder.join(text))?;
    }
    // The program contains this data, so its licence is shipped too.
    let (from, to) = ("core/domain/data/LICENSE-uap-core", "LICENSE-uap-core");
    copy(&workspace.root.join(from), &folder.join(to))?;
    let archive = dist.join(format!("{name}.tar.gz"));
    let tar = Command::new("tar").arg("-C").arg(&dist).arg("-czf").arg(&archive).arg(&name).status();
    match tar {
        Ok(status) if status.success() => println!("{}", shown(workspace, &archive)),
        _ => println!("{} (no archive: tar could not be run)", shown(workspace, &folder)),
    }
    Ok(())
}

/// Starts the program in an empty folder until it serves: the tests run another build, and an optimiser has its own
/// mistakes.
fn starts(program: &Path) -> Done {
    let folder = std::env::temp_dir().join(format!("chelseru-dist-{}", std::process::id()));
    let config = folder.join("config.toml");
    fs::create_dir_all(&folder).map_err(|error| file_error("cannot make", &folder, &error))?;
    let listen = "[server]\nlisten = \"127.0.0.1:0\"\n[operator]\nlisten = \"127.0.0.1:0\"\n";
    fs::write(&config, listen).map_err(|error| file_error("cannot write", &config, &error))?;
    let served = (|| {
        let mut child = Command::new(program)
            .args(["serve", "--config"])
            .arg(&config)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| file_error("cannot start", program, &error))?;
        let mut line = String::new();
        // It prints its addresses once it serves. One that ends before closes its output.
        let read = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        let _ = child.kill();
        let _ = child.wait();
        match read {
            Some(Ok(bytes)) if bytes > 0 => Ok(()),
            _ => Err(Failure::Failed(format!("{} ended before it served", program.display()))),
        }
    })();
    let _ = fs::remove_dir_all(&folder);
    served
}

fn copy(from: &Path, to: &Path) -> Done {
    fs::copy(from, to).map(drop).map_err(|error| file_error("cannot copy", from, &error))
}
