//! `cargo xtask tidy`: check the repository's own rules, as far as a program can check them.
//!
//! Runs in about a second. Also a test, so `cargo test` checks the rules.
//! Invariant: a rule that cannot be checked, because its file is missing or unreadable, is a finding.
//! Formatting and lints are in `check`.
//! Reading order: this file (rules about single lines and files), `crates` (arrows, bans), `documents`, then `shape`
//! (lengths and import circles) with `allowances`, `circles` and `rust` below it.

mod crates;
mod documents;
mod shape;

mod allowances;
mod circles;
mod rust;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace::Workspace;
use crate::{Done, Failure, no_more};
use allowances::{Allowances, Measured};
use shape::Shape;

pub(crate) const HELP: &str = "
cargo xtask tidy              Print file, line and rule of every finding. Exit status 1 when there is one.
cargo xtask tidy --all        Also print what an allowance excuses: import circles with their ties, long functions.
cargo xtask tidy --tighten    Lower the allowances in core/xtask/allowances.txt to today's numbers.

Rules: arrows between crates, banned packages, inherited lints, module docs, unfinished code, skipped tests, paths of
one machine, README's map, the table of defects, lengths of files, functions and lines, import circles.";

/// Longest Rust file, in lines. Past about 400, a file should usually be split.
const FILE_LINES_MAX: usize = 700;

/// Longer files, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];

/// Longest line of prose, in characters: comments, and documents outside of tables and code.
const PROSE_COLUMNS_MAX: usize = 120;

/// Text that no file may contain, with the rule. Written in halves, or this file would match itself.
const LEFTOVERS: &[(&str, &str)] = &[
    (concat!("todo", "!("), "unfinished code"),
    (concat!("unimplemented", "!("), "unfinished code"),
    (concat!("dbg", "!("), "debugging output"),
    (concat!("#[", "ignore"), "a skipped test: assert today's behaviour and say that it is wrong"),
];

/// Folders of one machine. A match counts only at the start of a path.
const MACHINE_PATHS: &[&str] =
    &[concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")];

/// A broken rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// From the root of the checkout.
    file: PathBuf,
    /// From 1; 0 for the whole file.
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
    let mut arguments = arguments.into_iter();
    let (mut all, mut tighten) = (false, false);
    for argument in arguments.by_ref() {
        match argument.as_str() {
            "--all" => all = true,
            "--tighten" => tighten = true,
            _ => no_more("tidy", std::iter::once(argument), "--all, --tighten")?,
        }
    }
    if tighten {
        Allowances::tighten(&workspace.root, &Report::of(&workspace.root).measured)?;
    }
    let report = Report::of(&workspace.root);
    if all {
        report.excused.iter().for_each(|line| println!("{line}"));
    }
    for finding in &report.findings {
        println!("{finding}");
    }
    match report.findings.len() {
        0 => {
            println!("tidy: no finding");
            Ok(())
        }
        count => Err(Failure::Failed(format!("tidy: {count} finding(s)"))),
    }
}

/// The findings of a checkout, and the numbers behind the allowances.
struct Report {
    /// Sorted by file and line.
    findings: Vec<Finding>,
    measured: Vec<Measured>,
    /// Lines for `--all`: what the measured numbers count.
    excused: Vec<String>,
}

impl Report {
    fn of(root: &Path) -> Report {
        let mut tidy = Tidy { root, findings: Vec::new() };
        let files = files(root);
        let mut long_lines = Vec::new();
        for file in &files {
            tidy.text_rules(file, &mut long_lines);
        }
        tidy.manifests();
        tidy.map(&files);
        tidy.defects(&files);
        tidy.bans();
        let shape = Shape::of(root, &files);
        let measured = shape.measured(long_lines.len());
        let (allowances, broken) = Allowances::read(&tidy.read(allowances::FILE).unwrap_or_default());
        for line in broken {
            tidy.find(
                allowances::FILE,
                line,
                "not an allowance, or a duplicate; expected: RULE [NAME] NUMBER",
            );
        }
        for (file, line, text) in allowances.hold(&measured) {
            tidy.find(file, line, text);
        }
        tidy.findings.sort();
        let excused = shape.details().chain(long_lines.iter().map(Finding::to_string)).collect();
        Report { findings: tidy.findings, measured, excused }
    }
}

struct Tidy<'a> {
    root: &'a Path,
    findings: Vec<Finding>,
}

impl Tidy<'_> {
    fn find(&mut self, file: impl Into<PathBuf>, line: usize, text: impl Into<String>) {
        self.findings.push(Finding { file: file.into(), line, text: text.into() });
    }

    /// Reads a file that a rule needs. An unreadable file is a finding.
    fn read(&mut self, file: impl AsRef<Path>) -> Option<String> {
        let file = file.as_ref();
        match fs::read_to_string(self.root.join(file)) {
            Ok(text) => Some(text),
            Err(error) => {
                self.find(file, 0, format!("a rule needs this file, and it cannot be read: {error}"));
                None
            }
        }
    }

    fn text_rules(&mut self, file: &Path, long_lines: &mut Vec<Finding>) {
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
        long_lines.extend(long_prose(file, &text));
        if !rust {
            return;
        }
        if !text.starts_with("//!") {
            self.find(
                file,
                1,
                "the first line must be a module doc (//!): what the file is for, what always holds",
            );
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
            self.find(file, 0, "is in LONG_FILES and is no longer long: remove the entry");
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
        // A folder that vanishes during the walk belongs to a build.
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

/// Lines of prose that are too long. Tables, code blocks and a single long word are exempt.
fn long_prose(file: &Path, text: &str) -> Vec<Finding> {
    let kind = file.extension().and_then(|extension| extension.to_str()).unwrap_or("sh");
    let mut fenced = false;
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let start = line.trim_start();
        let prose = match kind {
            "md" => {
                fenced ^= start.starts_with("```");
                !fenced && !start.starts_with('|')
            }
            "rs" | "wit" => start.starts_with("//"),
            "toml" | "sh" | "yml" | "yaml" => line.contains('#'),
            _ => false,
        };
        let columns = line.chars().count();
        if prose && columns > PROSE_COLUMNS_MAX && start.split_whitespace().nth(2).is_some() {
            let text = format!("{columns} columns of prose, at most {PROSE_COLUMNS_MAX}");
            found.push(Finding { file: file.to_owned(), line: index + 1, text });
        }
    }
    found
}

/// Whether `path` occurs where a path can begin: at the start, or after a character that is not part of a name.
fn starts_a_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|letter| {
            letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.' | '/' | '}' | ']')
        })
    })
}

#[cfg(test)]
mod tests;
