//! `cargo xtask dist`: build the release folder and, where `tar` exists, an archive of it.
//!
//! The folder is ready to serve: program, configuration, plugins in `data/plugins`, licence, and the documents and
//! examples at the paths by which the README and the configuration name them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::workspace::{Workspace, ensure_wasm_target, file_error, host_target, run as run_command, shown};
use crate::{Done, Failure, no_more, plugins};

pub(crate) const HELP: &str = "
cargo xtask dist    Build target/dist/chelseru-VERSION-TARGET/ and the same as .tar.gz.

The dist profile optimises across crates. The first build takes about ten minutes.";

/// Files that are copied to the same place beside the program.
const TEXTS: &[&str] = &["config.toml", "README.md", "CHANGELOG.md", "LICENSE", "plugins/sdk/src/lib.rs"];
/// Folders that are copied to the same place as they are.
const WHOLE: &[&str] = &["examples", "wit"];
/// Folders whose documents are copied to the same place, and the endings of those. Folders of sources have none.
const DOCUMENTS: &[&str] = &["core", "plugins"];
const ENDINGS: &[&str] = &["md", "png"];
const WITHOUT_DOCUMENTS: &[&str] = &["src", "tests", "templates", "target", "data"];

pub(crate) fn run(workspace: &Workspace, arguments: Vec<String>) -> Done {
    no_more("dist", arguments.into_iter(), "no arguments")?;
    ensure_wasm_target(workspace)?;
    let name = format!("chelseru-{}-{}", env!("CARGO_PKG_VERSION"), host_target()?);
    println!("[1/4] building the plugins");
    let built = plugins::build(workspace)?;
    println!("[2/4] building the gateway");
    run_command(&mut workspace.cargo(&["build", "--profile", "dist", "--package", "chelseru", "--bins"]))?;
    let program = workspace.program("dist", "chelseru");
    println!("[3/4] collecting {name}");
    let dist = workspace.target.join("dist");
    let folder = dist.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| file_error("cannot empty", &folder, &error))?;
    }
    plugins::install(&built, &folder.join("data/plugins"))?;
    copy(&program, &folder.join(program.file_name().unwrap_or_default()))?;
    copy_texts(&workspace.root, &folder)?;
    // The program contains this data, so its licence is shipped too.
    let (from, to) = ("core/domain/data/LICENSE-uap-core", "LICENSE-uap-core");
    copy(&workspace.root.join(from), &folder.join(to))?;
    println!("[4/4] starting it once");
    starts(&folder, &program)?;
    let archive = dist.join(format!("{name}.tar.gz"));
    let tar = Command::new("tar").arg("-C").arg(&dist).arg("-czf").arg(&archive).arg(&name).status();
    match tar {
        Ok(status) if status.success() => println!("{}", shown(workspace, &archive)),
        _ => println!("{} (no archive: tar could not be run)", shown(workspace, &folder)),
    }
    Ok(())
}

/// Copies everything that is to be read.
fn copy_texts(root: &Path, folder: &Path) -> Done {
    for text in TEXTS {
        copy(&root.join(text), &folder.join(text))?;
    }
    for name in WHOLE {
        copy_folder(&root.join(name), &folder.join(name), &|_| true)?;
    }
    let is_document =
        |path: &Path| path.extension().is_some_and(|ending| ENDINGS.iter().any(|end| ending == *end));
    DOCUMENTS.iter().try_for_each(|name| copy_folder(&root.join(name), &folder.join(name), &is_document))
}

fn copy_folder(from: &Path, to: &Path, wanted: &impl Fn(&Path) -> bool) -> Done {
    let failed = |error| file_error("cannot read", from, &error);
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if entry.file_type().map_err(failed)?.is_dir() {
            if !name.starts_with('.') && !WITHOUT_DOCUMENTS.contains(&&*name) {
                copy_folder(&path, &to.join(name), wanted)?;
            }
        } else if wanted(&path) {
            copy(&path, &to.join(name))?;
        }
    }
    Ok(())
}

/// Starts the program of a release folder with its plugins, in a new data folder, until it serves: the tests run
/// another build, and an optimiser has its own mistakes.
fn starts(release: &Path, program: &Path) -> Done {
    let folder = std::env::temp_dir().join(format!("chelseru-dist-{}", std::process::id()));
    let started = start_in(&folder, release, &release.join(program.file_name().unwrap_or_default()));
    let _ = fs::remove_dir_all(&folder);
    started
}

fn start_in(folder: &Path, release: &Path, program: &Path) -> Done {
    let (config, plugins) = (folder.join("config.toml"), folder.join("data/plugins"));
    fs::create_dir_all(&plugins).map_err(|error| file_error("cannot make", &plugins, &error))?;
    let installed = release.join("data/plugins");
    let failed = |error| file_error("cannot read", &installed, &error);
    for plugin in fs::read_dir(&installed).map_err(failed)? {
        let plugin = plugin.map_err(failed)?;
        copy(&plugin.path(), &plugins.join(plugin.file_name()))?;
    }
    let listen = "[server]\nlisten = \"127.0.0.1:0\"\n[operator]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"error\"\n";
    fs::write(&config, listen).map_err(|error| file_error("cannot write", &config, &error))?;
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
}

/// Copies a file, and makes the folder that it goes to.
fn copy(from: &Path, to: &Path) -> Done {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(|error| file_error("cannot make", folder, &error))?;
    }
    fs::copy(from, to).map(drop).map_err(|error| file_error("cannot copy", from, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The local files that a document links to.
    fn links(text: &str) -> impl Iterator<Item = &str> {
        text.split("](")
            .skip(1)
            .filter_map(|rest| rest.split([')', '#']).next())
            // The tests stay in the checkout.
            .filter(|link| !link.is_empty() && !link.contains(':') && !link.contains("tests/"))
    }

    #[test]
    fn what_the_guides_and_the_configuration_name_is_in_the_folder() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let folder = std::env::temp_dir().join(format!("xtask-dist-{}", std::process::id()));
        assert!(copy_texts(&root, &folder).is_ok(), "not copied");
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        let config = read(&folder.join("config.toml"));
        let named = config.split_whitespace().filter(|word| word.starts_with("core/"));
        let named = named.map(|word| folder.join(word.trim_end_matches(|end: char| !end.is_alphanumeric())));
        let mut all: Vec<_> = named.collect();
        let guides = fs::read_dir(folder.join("core/gateway")).unwrap().map(|entry| entry.unwrap().path());
        let guides = guides.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
        for guide in guides.chain([folder.join("README.md")]) {
            all.extend(links(&read(&guide)).map(|link| guide.parent().unwrap().join(link)));
        }
        for linked in &all {
            assert!(linked.is_file(), "{}", linked.display());
        }
        fs::remove_dir_all(&folder).unwrap();
        assert!(all.len() > 30, "{} links", all.len());
    }
}
