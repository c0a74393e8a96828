//! `cargo xtask plugins`: build every plugin, print its size, install it on request.
//!
//! A plugin is a member of `plugins/Cargo.toml` that builds a `cdylib`. Its installed name is its folder's name
//! (`plugins/sandbox-sms` as `sandbox-sms.wasm`), which is the name in `config.toml`.
//! A file with the same content is left alone, so a running gateway reloads only what changed. Any other file is
//! written aside and renamed, so a reader sees the old content or the new content.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::workspace::{
    Beside, WASM_TARGET, Workspace, ensure_wasm_target, file_error, giving_way, run as run_command, shown,
};
use crate::{Done, Failure, manifest, no_more};

pub(crate) const HELP: &str = "
cargo xtask plugins                  Build the plugins for wasm32-wasip2 and list them.
cargo xtask plugins --install DIR    Build them and install them into DIR (data/plugins of a gateway).

A running gateway reloads an installed plugin. No restart is needed.";

/// A built plugin.
pub(crate) struct Plugin {
    /// File name without `.wasm`.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

pub(crate) fn run(workspace: &Workspace, arguments: Vec<String>) -> Done {
    let mut arguments = arguments.into_iter();
    let mut install_into = None;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--install" => {
                let folder = arguments.next().ok_or_else(|| {
                    Failure::Usage("plugins: --install needs a folder, such as data/plugins".into())
                })?;
                install_into = Some(PathBuf::from(folder));
            }
            _ => no_more("plugins", std::iter::once(argument), "--install DIR")?,
        }
    }
    ensure_wasm_target(workspace)?;
    let plugins = build(workspace)?;
    match install_into {
        Some(folder) => install(&plugins, &folder),
        None => {
            for plugin in &plugins {
                println!(
                    "{:24} {:>6} KiB  {}",
                    plugin.name,
                    kib(&plugin.path)?,
                    shown(workspace, &plugin.path)
                );
            }
            Ok(())
        }
    }
}

/// Arguments of cargo that build all plugins, optimised, so tests run the plugins that are shipped.
const BUILD: [&str; 5] = ["build", "--release", "--workspace", "--target", WASM_TARGET];

/// Builds all plugins.
pub(crate) fn build(workspace: &Workspace) -> Result<Vec<Plugin>, Failure> {
    run_command(&mut workspace.plugins_cargo(&BUILD))?;
    built(workspace)
}

/// Builds all plugins while `other`, which takes longer, builds something else. Each build has times in which it keeps
/// only one core busy. The plugins give way, so that most of them is built in such times of the other one.
/// One that is awaited in silence would look as if it hung, so only the other one shows its progress.
pub(crate) fn build_beside(
    workspace: &Workspace,
    other: impl FnOnce() -> Result<(), Failure>,
) -> Result<Vec<Plugin>, Failure> {
    let mut cargo = workspace.plugins_cargo(&BUILD);
    cargo.arg("--quiet");
    let plugins = Beside::begin(&mut giving_way(cargo))?;
    other()?;
    plugins.end()?;
    built(workspace)
}

fn built(workspace: &Workspace) -> Result<Vec<Plugin>, Failure> {
    let folder = workspace.plugins_target.join(WASM_TARGET).join("release");
    let plugins = members(&workspace.root)?
        .into_iter()
        .map(|(name, library)| Plugin { name, path: folder.join(format!("{library}.wasm")) })
        .collect();
    Ok(plugins)
}

/// Folder name and library name of each member that builds a plugin.
fn members(root: &Path) -> Result<Vec<(String, String)>, Failure> {
    let read =
        |path: &Path| fs::read_to_string(path).map_err(|error| file_error("cannot read", path, &error));
    let mut members = Vec::new();
    for member in manifest::strings(&read(&root.join("plugins/Cargo.toml"))?, "workspace", "members") {
        let text = read(&root.join("plugins").join(&member).join("Cargo.toml"))?;
        if !manifest::strings(&text, "lib", "crate-type").iter().any(|kind| kind == "cdylib") {
            continue;
        }
        let library = manifest::value(&text, "lib", "name")
            .or_else(|| manifest::value(&text, "package", "name"))
            .unwrap_or(&member)
            .replace('-', "_");
        let name = member.rsplit('/').next().unwrap_or(&member).to_owned();
        members.push((name, library));
    }
    Ok(members)
}

/// Installs the plugins into a gateway's folder. Writes only the files that differ.
pub(crate) fn install(plugins: &[Plugin], folder: &Path) -> Done {
    fs::create_dir_all(folder).map_err(|error| file_error("cannot make", folder, &error))?;
    for plugin in plugins {
        let bytes =
            fs::read(&plugin.path).map_err(|error| file_error("cannot read", &plugin.path, &error))?;
        let path = folder.join(format!("{}.wasm", plugin.name));
        let changed = replace(&path, &bytes).map_err(|error| file_error("cannot write", &path, &error))?;
        let what = if changed { "installed" } else { "unchanged" };
        println!("      {what} {} ({} KiB)", path.display(), bytes.len().div_ceil(1024));
    }
    Ok(())
}

/// Writes a file aside and renames it, unless it has this content already. Returns whether it was written.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<bool> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    // The name does not end in `.wasm`, so a gateway that watches the folder ignores the half-written file.
    let aside = path.with_extension(format!("wasm.{}.new", std::process::id()));
    let written = fs::File::create(&aside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    });
    if written.is_err() {
        // The caller needs the first error.
        let _ = fs::remove_file(&aside);
    }
    written.map(|()| true)
}

fn kib(path: &Path) -> Result<u64, Failure> {
    let bytes = fs::metadata(path).map_err(|error| file_error("cannot read", path, &error))?.len();
    Ok(bytes.div_ceil(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_file_is_left_alone_and_a_changed_one_leaves_nothing_aside() {
        let folder = std::env::temp_dir().join(format!("xtask-install-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.wasm");
        let results =
            [replace(&path, b"one"), replace(&path, b"one"), replace(&path, b"two")].map(Result::unwrap);
        let content = fs::read(&path).unwrap();
        let files = fs::read_dir(&folder).unwrap().count();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(results, [true, false, true]);
        assert_eq!((content.as_slice(), files), (b"two".as_slice(), 1));
    }

    #[test]
    fn an_install_without_a_folder_is_a_usage_error() {
        let workspace = Workspace::find().unwrap();
        assert!(matches!(run(&workspace, vec!["--install".into()]), Err(Failure::Usage(_))));
    }
}
