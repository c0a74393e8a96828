//! The shape of the code: lengths of files and functions, and import circles, each with a target.
//!
//! Measures `core/*/src`, and for functions also the plugins, their kit and the simulator. Tests are exempt.
//! A target that today's code misses has an allowance (see `allowances`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::allowances::Measured;
use super::circles::{self, Circle};
use super::rust::Source;

/// Lines of the median file, and of the file at the 90th percentile.
const MEDIAN_LINES_MAX: usize = 180;
const P90_LINES_MAX: usize = 450;
/// Lines of a function, signature included.
const FUNCTION_LINES_MAX: usize = 80;
/// Largest circle that may stay: a file and its parts, which are read together.
const CIRCLE_FILES_MAX: usize = 3;

/// The sources of a checkout, as far as the rules need them.
pub(super) struct Shape {
    /// Sources of each crate below `core/`, by its `src` folder.
    crates: BTreeMap<PathBuf, BTreeMap<PathBuf, Source>>,
    /// Lines of each file of those.
    lines: Vec<usize>,
    functions: Vec<(PathBuf, super::rust::Function)>,
}

impl Shape {
    pub(super) fn of(root: &Path, files: &[PathBuf]) -> Shape {
        let mut shape = Shape { crates: BTreeMap::new(), lines: Vec::new(), functions: Vec::new() };
        for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
            let Some((source_folder, core)) = source_folder(file) else { continue };
            // Another rule reports an unreadable file.
            let Ok(text) = std::fs::read_to_string(root.join(file)) else { continue };
            let mut source = Source::read(&text);
            let functions = std::mem::take(&mut source.functions);
            shape.functions.extend(functions.into_iter().map(|function| (file.clone(), function)));
            if core {
                shape.lines.push(text.lines().count());
                shape.crates.entry(source_folder).or_default().insert(file.clone(), source);
            }
        }
        shape.lines.sort_unstable();
        shape
    }

    pub(super) fn circles(&self) -> Vec<(&Path, Circle)> {
        self.crates
            .iter()
            .flat_map(|(folder, files)| {
                circles::find(folder, files).into_iter().map(move |circle| (folder.as_path(), circle))
            })
            .collect()
    }

    /// Every number that has a target.
    pub(super) fn measured(&self, long_lines: usize) -> Vec<Measured> {
        let repository = |key: &str, value: usize, target: usize, what: &str| Measured {
            key: key.to_owned(),
            value,
            target,
            file: super::allowances::FILE.to_owned(),
            line: 0,
            text: format!("{what}: {value}"),
        };
        let circles = self.circles();
        let files = |wanted: &dyn Fn(&Path, &Circle) -> bool| -> usize {
            circles
                .iter()
                .filter(|(at, circle)| wanted(at, circle))
                .map(|(_, circle)| circle.files.len())
                .sum()
        };
        let large = files(&|_, circle| circle.files.len() > CIRCLE_FILES_MAX);
        let across = files(&|at, circle| circle.crosses(at));
        let mut measured = vec![
            repository("file-lines-median", self.share(0.5), MEDIAN_LINES_MAX, "lines of the median file"),
            repository(
                "file-lines-p90",
                self.share(0.9),
                P90_LINES_MAX,
                "lines of the file at the 90th percentile",
            ),
            repository("prose-lines-long", long_lines, 0, "lines of prose over 120 columns"),
            repository("circle-files-large", large, 0, "files in import circles of more than three"),
            repository("circle-files-across", across, 0, "files in import circles across top-level modules"),
        ];
        // Functions of one name share an allowance, so a move keeps it.
        for (file, function) in &self.functions {
            if function.lines > FUNCTION_LINES_MAX {
                measured.push(Measured {
                    key: format!("function {}", function.name),
                    value: function.lines,
                    target: FUNCTION_LINES_MAX,
                    file: file.display().to_string(),
                    line: function.line,
                    text: format!("fn {} has {} lines", function.name, function.lines),
                });
            }
        }
        measured
    }

    /// What the numbers count: circles with their ties, and long functions.
    pub(super) fn details(&self) -> impl Iterator<Item = String> {
        let circles = self.circles().into_iter().flat_map(|(folder, circle)| {
            let across = if circle.crosses(folder) { ", across top-level modules" } else { "" };
            let head = format!("{}: circle of {} files{across}", folder.display(), circle.files.len());
            std::iter::once(head).chain(circle.ties.into_iter().map(|tie| {
                let (from, to) = (tie.from.display(), tie.to.display());
                format!("  {from}:{} -> {to} ({})", tie.line, tie.name)
            }))
        });
        let measured = self.measured(0).into_iter().filter(|one| one.line > 0);
        circles.chain(measured.map(|one| format!("{}:{}: {}", one.file, one.line, one.text)))
    }

    /// The number of lines that a share of the files does not exceed; 0 without files.
    fn share(&self, share: f64) -> usize {
        let last = (self.lines.len() as f64 * share).ceil() as usize;
        self.lines.get(last.saturating_sub(1)).copied().unwrap_or(0)
    }
}

/// The `src` folder of a shipped file, and whether its crate is in `core/`.
fn source_folder(file: &Path) -> Option<(PathBuf, bool)> {
    let parts: Vec<_> = file.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    let folder = || parts[..3].iter().map(AsRef::as_ref).collect::<Vec<&str>>().join("/");
    match parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>()[..] {
        ["core", _, "src", _, ..] => Some((folder().into(), true)),
        ["plugins", _, "src", _, ..] | ["tests", "simulator", "src", _, ..] => Some((folder().into(), false)),
        _ => None,
    }
}
