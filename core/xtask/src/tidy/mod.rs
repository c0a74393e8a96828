//! `cargo xtask tidy`: the repository's own rules, as far as a program can hold them.
//!
//! Arrows between crates (which one may know which), module docs, leftovers (unfinished code, skipped tests),
//! file length, paths of somebody's machine, the map of folders in README, inherited lints, and the bans of
//! `deny.toml` against the lock files. Runs in under a second and is also a test, so `cargo test` holds it.
//! Invariant: a rule that cannot be checked (its file is missing or unreadable) is a finding, not a pass.
//! Not here: formatting and lints (see `check`).

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace::Workspace;
use crate::{Done, Failure, manifest, no_more};

pub(crate) const HELP: &str = "
cargo xtask tidy    prints file, line and rule of every finding; exit status 1 when there is one";

/// Longest Rust file, in lines. Past about 400 a reader wants two files; past this, nobody reads it.
const FILE_LINES_MAX: usize = 700;

/// Files that may be longer, with the reason.
const LONG_FILES: &[(&str, &str)] = &[
    (
        "core/domain/src/chat/service.rs",
        "every change of a room goes through one judge; the calls stand beside it",
    ),
    ("core/domain/src/sms/queue.rs", "one worker: claiming, sending and ending a message change together"),
    ("core/store/src/chat/room.rs", "one record, a room, with all that changes it"),
    ("core/store/src/message.rs", "one record, a message, with all that changes it and its indexes"),
    ("tests/journeys/sms.rs", "one area, one set-up; a test a point of it"),
    ("core/store/src/payment.rs", "one record, a payment, with every move between its states"),
];

/// Where the original's defects stand with the tests that show them mended, and how many there are.
const DEFECTS_FILE: &str = "core/gateway/MIGRATING.md";
const DEFECTS: u32 = 33;

/// Which of this repository's crates each crate may depend on. A crate that is missing here is a finding.
const ARROWS: &[(&str, &[&str])] = &[
    ("chelseru", &["chelseru-domain", "chelseru-plugin-host", "chelseru-store"]),
    ("chelseru-domain", &["chelseru-store"]),
    ("chelseru-plugin-host", &[]),
    ("chelseru-store", &[]),
    ("xtask", &[]),
    // Speaks HTTP like a stranger, so that it cannot share a mistake with the gateway.
    ("chelseru-simulator", &[]),
    (
        "chelseru-tests",
        &["chelseru", "chelseru-domain", "chelseru-plugin-host", "chelseru-simulator", "chelseru-store"],
    ),
    ("chelseru-plugin-sdk", &[]),
];

/// What a plugin may depend on: the kit alone, never another plugin or the gateway.
const PLUGIN_ARROWS: &[&str] = &["chelseru-plugin-sdk"];

/// Crates from outside that a crate of ours must not know.
const FOREIGN: &[(&str, &[&str])] = &[
    (
        "chelseru-domain",
        &[
            "fastwebsockets",
            "http",
            "http-body-util",
            "hyper",
            "hyper-util",
            "reqwest",
            "sled",
            "toml",
            "wasmtime",
            "wasmtime-wasi",
        ],
    ),
    (
        "chelseru-store",
        &["fastwebsockets", "http", "hyper", "hyper-util", "reqwest", "wasmtime", "wasmtime-wasi"],
    ),
    ("chelseru-plugin-host", &["fastwebsockets", "jsonwebtoken", "sled"]),
    ("chelseru", &["sled"]),
];

/// Text that no file may hold, with the rule. Written in halves, or this file would find itself.
const LEFTOVERS: &[(&str, &str)] = &[
    (concat!("todo", "!("), "unfinished code"),
    (concat!("unimplemented", "!("), "unfinished code"),
    (concat!("dbg", "!("), "debugging output"),
    (concat!("#[", "ignore"), "a skipped test: assert today's behaviour and say that it is wrong"),
];

/// Folders of somebody's machine. Each counts only at the start of a path.
const MACHINE_PATHS: &[&str] =
    &[concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")];

/// The only place that a locked package may come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// A broken rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// From the root of the checkout.
    file: PathBuf,
    /// From 1; 0 when the whole file is meant.
    line: usize,
    text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file.display(), self.text),
            line => write!(f, "{}:{line}: {}", self.file.display(), self.text),
        }
    }
}

pub(crate) fn run(workspace: &Workspace, arguments: Vec<String>) -> Done {
    no_more("tidy", arguments.into_iter(), "no arguments")?;
    let findings = check(&workspace.root);
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => {
            println!("tidy: no finding");
            Ok(())
        }
        count => Err(Failure::Failed(format!("tidy: {count} finding(s)"))),
    }
}

/// Checks a checkout; the findings are sorted by file and line.
pub(crate) fn check(root: &Path) -> Vec<Finding> {
    let mut tidy = Tidy { root, findings: Vec::new() };
    let files = files(root);
    for file in &files {
        tidy.text_rules(file);
    }
    tidy.manifests();
    tidy.map(&files);
    tidy.defects(&files);
    tidy.bans();
    tidy.findings.sort();
    tidy.findings
}

struct Tidy<'a> {
    root: &'a Path,
    findings: Vec<Finding>,
}

impl Tidy<'_> {
    fn find(&mut self, file: impl Into<PathBuf>, line: usize, text: impl Into<String>) {
        self.findings.push(Finding { file: file.into(), line, text: text.into() });
    }

    /// Reads a file that a rule needs; one that cannot be read is a finding.
    fn read(&mut self, file: impl AsRef<Path>) -> Option<String> {
        let file = file.as_ref();
        match fs::read_to_string(self.root.join(file)) {
            Ok(text) => Some(text),
            Err(error) => {
                self.find(file, 0, format!("cannot be read, and a rule needs it: {error}"));
                None
            }
        }
    }

    fn text_rules(&mut self, file: &Path) {
        let rust = file.extension().is_some_and(|extension| extension == "rs");
        let Some(text) = self.read(file) else { return };
        for (index, line) in text.lines().enumerate() {
            if let Some(path) = MACHINE_PATHS.iter().find(|path| starts_a_path(line, path)) {
                self.find(file, index + 1, format!("names a folder of one machine ({path})"));
            }
            if rust {
                for (leftover, rule) in LEFTOVERS {
                    if line.contains(leftover) {
                        self.find(file, index + 1, format!("{leftover}: {rule}"));
                    }
                }
            }
        }
        if !rust {
            return;
        }
        if !text.starts_with("//!") {
            self.find(file, 1, "does not begin with a module doc (//!): what it is for, what always holds");
        }
        let lines = text.lines().count();
        let excused = LONG_FILES.iter().any(|(long, _)| Path::new(long) == file);
        if lines > FILE_LINES_MAX && !excused {
            self.find(
                file,
                0,
                format!("{lines} lines, at most {FILE_LINES_MAX}: split it, or list it with a reason"),
            );
        }
        if lines <= FILE_LINES_MAX && excused {
            self.find(file, 0, "is listed as a long file and no longer is one");
        }
    }

    /// Members of both workspaces: lints inherited, arrows held.
    fn manifests(&mut self) {
        let mut members = Vec::new();
        for (folder, plugin) in [("", false), ("plugins", true)] {
            let Some(text) = self.read(Path::new(folder).join("Cargo.toml")) else { continue };
            for member in manifest::strings(&text, "workspace", "members") {
                let file = Path::new(folder).join(member).join("Cargo.toml");
                if let Some(text) = self.read(&file) {
                    members.push((file, text, plugin));
                }
            }
        }
        let ours: BTreeSet<_> = members
            .iter()
            .filter_map(|(_, text, _)| manifest::value(text, "package", "name"))
            .map(str::to_owned)
            .collect();
        for (file, text, plugin) in &members {
            if manifest::value(text, "lints", "workspace") != Some("true") {
                self.find(file, 0, "does not inherit the lints: [lints] workspace = true");
            }
            let Some(name) = manifest::value(text, "package", "name") else {
                self.find(file, 0, "names no package");
                continue;
            };
            self.arrows(file, text, name, *plugin, &ours);
        }
    }

    fn arrows(&mut self, file: &Path, text: &str, name: &str, plugin: bool, ours: &BTreeSet<String>) {
        let listed = ARROWS.iter().find(|(from, _)| *from == name).map(|(_, to)| *to);
        let Some(allowed) = listed.or(plugin.then_some(PLUGIN_ARROWS)) else {
            self.find(file, 0, format!("{name} is not in the table of arrows (core/xtask/src/tidy.rs)"));
            return;
        };
        let foreign = FOREIGN.iter().find(|(from, _)| *from == name).map_or(&[] as &[_], |(_, to)| *to);
        for dependency in manifest::dependencies(text) {
            let to = dependency.name.as_str();
            if ours.contains(to) && !allowed.contains(&to) {
                self.find(file, dependency.line, format!("{name} must not depend on {to}"));
            }
            if foreign.contains(&to) {
                self.find(file, dependency.line, format!("{name} must not know {to}"));
            }
        }
    }

    /// The table of the original's defects: all of them, each with tests that are there.
    fn defects(&mut self, files: &[PathBuf]) {
        let Some(text) = self.read(DEFECTS_FILE) else { return };
        let mut numbers = BTreeSet::new();
        for (index, line) in text.lines().enumerate() {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, number, _, tests, _] = cells[..] else { continue };
            let Ok(number) = number.parse::<u32>() else { continue };
            numbers.insert(number);
            let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
            if names.is_empty() {
                self.find(DEFECTS_FILE, index + 1, format!("defect {number} names no test"));
            }
            for name in names {
                if !self.is_test(name, files) {
                    self.find(DEFECTS_FILE, index + 1, format!("{name}: there is no such test"));
                }
            }
        }
        for missing in (1..=DEFECTS).filter(|number| !numbers.contains(number)) {
            self.find(DEFECTS_FILE, 0, format!("defect {missing} is not in the table"));
        }
    }

    /// Whether a file of that stem has a test of that name, as in `login::one_code_is_one_login`.
    fn is_test(&mut self, name: &str, files: &[PathBuf]) -> bool {
        let Some((stem, function)) = name.split_once("::") else { return false };
        let of_stem = |file: &&PathBuf| {
            file.extension().is_some_and(|extension| extension == "rs")
                && file.file_stem().is_some_and(|found| found == stem)
        };
        files.iter().filter(of_stem).any(|file| {
            let text = fs::read_to_string(self.root.join(file)).unwrap_or_default();
            let head = format!("fn {function}() {{");
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            lines
                .windows(2)
                .any(|pair| pair[1].ends_with(&head) && pair[0].starts_with("#[") && pair[0].contains("test"))
        })
    }

    /// README's map names every folder a newcomer sees: those at the root, and those of crates and plugins.
    fn map(&mut self, files: &[PathBuf]) {
        let Some(readme) = self.read("README.md") else { return };
        let mut folders = BTreeSet::new();
        for file in files {
            let mut parts = file.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
            let (Some(first), Some(second)) = (parts.next(), parts.next()) else { continue };
            if first.starts_with('.') {
                continue;
            }
            if (first == "core" || first == "plugins") && parts.next().is_some() && !second.starts_with('.') {
                folders.insert(second);
            }
            folders.insert(first);
        }
        for folder in folders {
            if !names_folder(&readme, &folder) {
                self.find("README.md", 0, format!("its map of folders leaves out {folder}/"));
            }
        }
    }

    fn bans(&mut self) {
        let Some(policy) = self.read("deny.toml") else { return };
        let banned = manifest::banned(&policy);
        if banned.is_empty() {
            self.find(
                "deny.toml",
                0,
                "bans nothing: deny = [ { crate = \"...\", reason = \"...\" } ] is expected",
            );
        }
        for (name, reason) in &banned {
            if reason.is_empty() {
                self.find("deny.toml", 0, format!("bans {name} without a reason"));
            }
        }
        for file in ["Cargo.lock", "plugins/Cargo.lock"] {
            let Some(lock) = self.read(file) else { continue };
            for (name, source) in manifest::locked(&lock) {
                if let Some((_, reason)) = banned.iter().find(|(banned, _)| *banned == name) {
                    self.find(file, 0, format!("{name} is banned: {reason}"));
                }
                if let Some(source) = source.filter(|source| source != REGISTRY) {
                    self.find(file, 0, format!("{name} comes from {source}, accepted: {REGISTRY}"));
                }
            }
        }
    }
}

/// Text files of the checkout, relative to its root: no build folders, no runtime data.
fn files(root: &Path) -> Vec<PathBuf> {
    const TEXT: &[&str] =
        &["rs", "toml", "md", "wit", "json", "sh", "yml", "yaml", "html", "css", "js", "mjs"];
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        // A folder that vanishes while being read belongs to a build.
        let Ok(entries) = fs::read_dir(root.join(&folder)) else { continue };
        for entry in entries.flatten() {
            let path = folder.join(entry.file_name());
            let name = entry.file_name().to_string_lossy().into_owned();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => {
                    let top = folder.as_os_str().is_empty();
                    let skipped = [".git", "node_modules"].contains(&name.as_str())
                        || name.starts_with("target")
                        || (top && name == "data");
                    if !skipped {
                        folders.push(path);
                    }
                }
                Ok(kind) if kind.is_file() => {
                    let text = path.extension().and_then(|e| e.to_str()).is_some_and(|e| TEXT.contains(&e));
                    if text || folder.starts_with(".ci") {
                        found.push(path);
                    }
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// Whether `path` occurs where a path could begin: at the start or after what is no part of a name.
fn starts_a_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|letter| {
            letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.' | '/' | '}' | ']')
        })
    })
}

/// Whether the text has `folder/` as a word of its own, or as the end of a longer path.
fn names_folder(text: &str, folder: &str) -> bool {
    text.match_indices(&format!("{folder}/")).any(|(at, _)| {
        !text[..at]
            .chars()
            .next_back()
            .is_some_and(|letter| letter.is_alphanumeric() || letter == '-' || letter == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small checkout that breaks no rule, in a folder of its own; changed by `change`, then checked.
    fn check_fixture(name: &str, change: impl Fn(&dyn Fn(&str, &str))) -> Vec<String> {
        let root = std::env::temp_dir().join(format!("xtask-tidy-{name}-{}", std::process::id()));
        let write = |file: &str, text: &str| {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let lints = "[lints]\nworkspace = true\n";
        write("Cargo.toml", "[workspace]\nmembers = [\"core/domain\", \"core/store\"]\n");
        let domain =
            "[package]\nname = \"chelseru-domain\"\n[dependencies]\nchelseru-store.workspace = true\n";
        write("core/domain/Cargo.toml", &format!("{domain}{lints}"));
        write("core/domain/src/lib.rs", "//! Rules.\n");
        write("core/store/Cargo.toml", &format!("[package]\nname = \"chelseru-store\"\n{lints}"));
        write("core/store/src/lib.rs", "//! State.\n");
        write("plugins/Cargo.toml", "[workspace]\nmembers = [\"a\"]\n");
        write("plugins/a/Cargo.toml", &format!("[package]\nname = \"a\"\n{lints}"));
        let lock = format!("[[package]]\nname = \"serde\"\nsource = \"{REGISTRY}\"\n");
        write("Cargo.lock", &lock);
        write("plugins/Cargo.lock", &lock);
        write("deny.toml", "[bans]\ndeny = [\n{ crate = \"bad\", reason = \"because\" },\n]\n");
        write("README.md", "core/ domain/ store/ gateway/ plugins/ a/\n");
        write("core/store/src/account.rs", "//! Tests.\n#[test]\nfn it_holds() {\n}\n");
        write(DEFECTS_FILE, &(1..=DEFECTS).map(defect).collect::<String>());
        change(&write);
        let findings = check(&root).iter().map(Finding::to_string).collect();
        fs::remove_dir_all(&root).unwrap();
        findings
    }

    fn defect(number: u32) -> String {
        format!("| {number} | it broke | `account::it_holds` |\n")
    }

    #[track_caller]
    fn finds(findings: &[String], part: &str) {
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].contains(part), "{findings:?}");
    }

    #[test]
    fn this_repository_is_tidy() {
        let findings = check(&Workspace::find().unwrap().root);
        let lines: Vec<_> = findings.iter().map(Finding::to_string).collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
    }

    #[test]
    fn a_tidy_checkout_has_no_finding() {
        assert_eq!(check_fixture("clean", |_| {}), Vec::<String>::new());
    }

    #[test]
    fn an_arrow_against_the_table_is_found_with_its_line() {
        let backwards = check_fixture("arrow", |write| {
            write(
                "core/store/Cargo.toml",
                "[package]\nname = \"chelseru-store\"\n[lints]\nworkspace = true\n[dev-dependencies]\nchelseru-domain.workspace = true\n",
            );
        });
        finds(&backwards, "core/store/Cargo.toml:6: chelseru-store must not depend on chelseru-domain");
        let plugin = check_fixture("plugin-arrow", |write| {
            write(
                "plugins/a/Cargo.toml",
                "[package]\nname = \"a\"\n[lints]\nworkspace = true\n[dependencies]\nx = { path = \"..\", package = \"chelseru-store\" }\n",
            );
        });
        finds(&plugin, "a must not depend on chelseru-store");
    }

    #[test]
    fn a_carrier_in_the_domain_is_found() {
        let findings = check_fixture("foreign", |write| {
            write(
                "core/domain/Cargo.toml",
                "[package]\nname = \"chelseru-domain\"\n[lints]\nworkspace = true\n[dependencies]\nhyper = \"1\"\n",
            );
        });
        finds(&findings, "chelseru-domain must not know hyper");
    }

    #[test]
    fn a_crate_without_a_place_in_the_table_is_found() {
        let findings = check_fixture("stranger", |write| {
            write("Cargo.toml", "[workspace]\nmembers = [\"core/domain\", \"core/store\", \"tests\"]\n");
            write("tests/Cargo.toml", "[package]\nname = \"stranger\"\n[lints]\nworkspace = true\n");
            write("README.md", "core/ domain/ store/ gateway/ plugins/ a/ tests/\n");
        });
        finds(&findings, "stranger is not in the table");
    }

    #[test]
    fn missing_docs_leftovers_paths_and_length_are_found() {
        finds(&check_fixture("docs", |write| write("core/store/src/lib.rs", "fn a() {}\n")), "module doc");
        for (index, (leftover, rule)) in LEFTOVERS.iter().enumerate() {
            let text = format!("//! State.\n{leftover}\n");
            let found = check_fixture(&format!("left{index}"), |write| write("core/store/src/lib.rs", &text));
            finds(&found, rule);
        }
        for (index, path) in MACHINE_PATHS.iter().enumerate() {
            let text =
                format!("core/ domain/ store/ gateway/ plugins/ a/ see {path}x and not frame{path}x\n");
            let found = check_fixture(&format!("path{index}"), |write| write("README.md", &text));
            finds(&found, "README.md:1: names a folder");
        }
        let lines = |count: usize| format!("//! State.\n{}", "\n".repeat(count - 1));
        let at = check_fixture("at", |write| write("core/store/src/lib.rs", &lines(FILE_LINES_MAX)));
        assert!(at.is_empty(), "{at:?}");
        let over = check_fixture("over", |write| write("core/store/src/lib.rs", &lines(FILE_LINES_MAX + 1)));
        finds(&over, "701 lines");
    }

    #[test]
    fn every_defect_names_tests_that_are_there() {
        let table = |rows: &dyn Fn(u32) -> String| (1..=DEFECTS).map(rows).collect::<String>();
        let of = |name: &str, text: String| check_fixture(name, |write| write(DEFECTS_FILE, &text));
        let without = |number| if number == 7 { String::new() } else { defect(number) };
        finds(&of("defects", table(&without)), "defect 7 is not in the table");
        for (name, test, found) in [
            ("gone", "`account::it_does_not`", "account::it_does_not: there is no such test"),
            ("elsewhere", "`other::it_holds`", "other::it_holds: there is no such test"),
            ("none", "later", "defect 3 names no test"),
        ] {
            let row = |number| match number {
                3 => format!("| 3 | it broke | {test} |\n"),
                _ => defect(number),
            };
            finds(&of(name, table(&row)), found);
        }
    }

    #[test]
    fn lints_map_bans_and_sources_are_held() {
        let lints = check_fixture("lints", |write| {
            write("core/store/Cargo.toml", "[package]\nname = \"chelseru-store\"\n");
        });
        finds(&lints, "does not inherit the lints");
        let map =
            check_fixture("map", |write| write("README.md", "core/ domain/ xstore/ gateway/ plugins/ a/\n"));
        finds(&map, "leaves out store/");
        let ban = check_fixture("ban", |write| write("Cargo.lock", "[[package]]\nname = \"bad\"\n"));
        finds(&ban, "bad is banned: because");
        let source = check_fixture("source", |write| {
            write(
                "plugins/Cargo.lock",
                "[[package]]\nname = \"x\"\nsource = \"git+https://example.org/x\"\n",
            );
        });
        finds(&source, "git+https://example.org/x");
        finds(&check_fixture("nobans", |write| write("deny.toml", "[bans]\n")), "bans nothing");
    }
}
