//! Import circles: files of one crate that use each other.
//!
//! File A uses file B when A's code, or a private `use` in A, names an item that B defines. A `pub use` is not a use: a
//! name that comes through one counts for the file that defines the item. Tests are exempt. A circle is a strongly
//! connected component of that graph (Tarjan 1972, "Depth-first search and linear graph algorithms").
//! Limits: code that macros expand to, and methods called on a value, name no path and are not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::rust::Source;

/// Re-exports that a name may pass through before it counts as unresolved.
const HOPS_MAX: usize = 16;

/// Files that use each other, sorted, with one tie for each pair.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Circle {
    pub(super) files: Vec<PathBuf>,
    pub(super) ties: Vec<Tie>,
}

/// The first use of one file by another.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tie {
    pub(super) from: PathBuf,
    pub(super) line: usize,
    pub(super) to: PathBuf,
    /// One name that `from` uses.
    pub(super) name: String,
}

impl Circle {
    /// Whether the files belong to more than one top-level module of the crate.
    pub(super) fn crosses(&self, source_folder: &Path) -> bool {
        let purposes: BTreeSet<_> = self.files.iter().map(|file| purpose(source_folder, file)).collect();
        purposes.len() > 1
    }
}

/// The top-level module of a file: `chat` for `src/chat/room.rs` and for `src/chat.rs`.
fn purpose(source_folder: &Path, file: &Path) -> Option<String> {
    let first = file.strip_prefix(source_folder).ok()?.components().next()?;
    Path::new(&first).file_stem().map(|stem| stem.to_string_lossy().into_owned())
}

/// The circles of a crate, given its sources by file.
pub(super) fn find(source_folder: &Path, files: &BTreeMap<PathBuf, Source>) -> Vec<Circle> {
    let modules = Modules::of(source_folder, files);
    let mut uses: BTreeMap<usize, BTreeMap<usize, (usize, String)>> = BTreeMap::new();
    for (from, module) in modules.all.iter().enumerate() {
        for (path, line, import) in module.named() {
            let Some(found) = modules.resolve(from, path, HOPS_MAX) else { continue };
            // A `use` of a module alone is no use of its file; the paths through it are.
            if found.module == from || (import && !found.item) {
                continue;
            }
            let name = path.last().cloned().unwrap_or_default();
            uses.entry(from).or_default().entry(found.module).or_insert((line, name));
        }
    }
    let empty = BTreeMap::new();
    let next = |from: usize| uses.get(&from).unwrap_or(&empty).keys().copied();
    let mut circles = Vec::new();
    for part in connected(modules.all.len(), next) {
        if part.len() < 2 {
            continue;
        }
        let file = |index: usize| modules.all[index].file.to_owned();
        let mut ties = Vec::new();
        for &from in &part {
            for (&to, (line, name)) in uses.get(&from).unwrap_or(&empty) {
                if part.contains(&to) {
                    ties.push(Tie { from: file(from), line: *line, to: file(to), name: name.clone() });
                }
            }
        }
        let mut files: Vec<_> = part.iter().map(|&index| file(index)).collect();
        files.sort();
        ties.sort();
        circles.push(Circle { files, ties });
    }
    circles.sort_by(|a, b| a.files.cmp(&b.files));
    circles
}

struct Module<'a> {
    file: &'a Path,
    source: &'a Source,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
}

impl Module<'_> {
    /// Every path in the module: path, line, and whether it stands in a `use`.
    fn named(&self) -> impl Iterator<Item = (&[String], usize, bool)> {
        let imports = self.source.imports.iter().filter(|import| !import.public);
        let imports = imports.map(|import| (import.path.as_slice(), import.line, true));
        imports.chain(self.source.paths.iter().map(|(path, line)| (path.as_slice(), *line, false)))
    }
}

/// The target of a path: a module, or an item that the module defines.
struct Found {
    module: usize,
    item: bool,
}

struct Modules<'a> {
    all: Vec<Module<'a>>,
    root: usize,
}

impl<'a> Modules<'a> {
    fn of(source_folder: &Path, files: &'a BTreeMap<PathBuf, Source>) -> Modules<'a> {
        let mut places = BTreeMap::new();
        let mut tests = BTreeSet::new();
        for (file, source) in files {
            let place = place(source_folder, file);
            for child in &source.test_children {
                tests.insert([place.as_slice(), std::slice::from_ref(child)].concat());
            }
            places.insert(place, (file, source));
        }
        places.retain(|place, _| !tests.iter().any(|test| place.starts_with(test)));
        let order: Vec<_> = places.keys().cloned().collect();
        let index = |place: &[String]| order.iter().position(|known| known == place);
        let mut modules: Vec<_> = places
            .iter()
            .map(|(place, (file, source))| {
                let parent = place.split_last().and_then(|(_, above)| index(above));
                Module { file, source, parent, children: BTreeMap::new() }
            })
            .collect();
        for (child, place) in order.iter().enumerate() {
            if let (Some(parent), Some(name)) = (modules[child].parent, place.last()) {
                modules[parent].children.insert(name.clone(), child);
            }
        }
        Modules { root: index(&[]).unwrap_or(0), all: modules }
    }

    /// Resolves a path as written in module `from`; `None` when it leaves the crate or cannot be resolved.
    fn resolve(&self, from: usize, path: &[String], hops: usize) -> Option<Found> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.walk(self.root, rest, hops),
            "self" => self.walk(from, rest, hops),
            "super" => {
                let up = self.all[from].parent?;
                if rest.first().is_some_and(|next| next == "super") {
                    self.resolve(up, rest, hops)
                } else {
                    self.walk(up, rest, hops)
                }
            }
            // Any other word counts only when the module has a child or an import of that name.
            name => {
                if self.all[from].children.contains_key(name) {
                    return self.walk(from, path, hops);
                }
                let found = self.handed_on(from, name, hops)?;
                if found.item { Some(found) } else { self.walk(found.module, rest, hops) }
            }
        }
    }

    fn walk(&self, mut module: usize, path: &[String], hops: usize) -> Option<Found> {
        for (at, segment) in path.iter().enumerate() {
            let here = &self.all[module];
            if let Some(&child) = here.children.get(segment) {
                module = child;
                continue;
            }
            if here.source.items.iter().any(|item| item == segment) || segment == "*" {
                return Some(Found { module, item: true });
            }
            let found = self.handed_on(module, segment, hops)?;
            if found.item {
                return Some(found);
            }
            return self.walk(found.module, &path[at + 1..], hops - 1);
        }
        Some(Found { module, item: false })
    }

    /// Resolves a name through a module's imports.
    fn handed_on(&self, module: usize, name: &str, hops: usize) -> Option<Found> {
        let hops = hops.checked_sub(1).filter(|left| *left > 0)?;
        let imports = &self.all[module].source.imports;
        // `use x;` would resolve to itself.
        let own = |path: &[String]| path.len() == 1 && path[0] == name;
        if let Some(import) = imports.iter().find(|import| import.name == name && !own(&import.path)) {
            return self.resolve(module, &import.path, hops);
        }
        imports.iter().filter(|import| import.name == "*").find_map(|import| {
            let target = self.resolve(module, &import.path[..import.path.len() - 1], hops)?;
            let path = [name.to_owned()];
            self.walk(target.module, &path, hops)
        })
    }
}

/// Module path of a file: empty for the crate's root, `chat::room` for `src/chat/room.rs`.
fn place(source_folder: &Path, file: &Path) -> Vec<String> {
    let inside = file.strip_prefix(source_folder).unwrap_or(file).with_extension("");
    let mut place: Vec<_> =
        inside.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    if place.last().is_some_and(|last| last == "mod" || (place.len() == 1 && last == "lib")) {
        place.pop();
    }
    place
}

/// Strongly connected components of a graph of `count` nodes.
fn connected<I: Iterator<Item = usize>>(count: usize, next: impl Fn(usize) -> I) -> Vec<Vec<usize>> {
    struct Search<'a, F> {
        next: &'a F,
        number: usize,
        numbers: Vec<Option<usize>>,
        low: Vec<usize>,
        stack: Vec<usize>,
        parts: Vec<Vec<usize>>,
    }
    impl<I: Iterator<Item = usize>, F: Fn(usize) -> I> Search<'_, F> {
        fn visit(&mut self, point: usize) {
            let number = self.number;
            self.number += 1;
            self.numbers[point] = Some(number);
            self.low[point] = number;
            self.stack.push(point);
            for to in (self.next)(point) {
                match self.numbers[to] {
                    None => {
                        self.visit(to);
                        self.low[point] = self.low[point].min(self.low[to]);
                    }
                    Some(number) if self.stack.contains(&to) => {
                        self.low[point] = self.low[point].min(number);
                    }
                    Some(_) => {}
                }
            }
            if self.low[point] == number {
                let start = self.stack.iter().rposition(|&on| on == point).unwrap_or(0);
                self.parts.push(self.stack.split_off(start));
            }
        }
    }
    let mut search = Search {
        next: &next,
        number: 0,
        numbers: vec![None; count],
        low: vec![0; count],
        stack: Vec::new(),
        parts: Vec::new(),
    };
    for point in 0..count {
        if search.numbers[point].is_none() {
            search.visit(point);
        }
    }
    search.parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let read = |(file, text): &(&str, &str)| (Path::new("src").join(file), Source::read(text));
        let found = find(Path::new("src"), &files.iter().map(read).collect());
        let names = |circle: &Circle| {
            circle.files.iter().map(|file| file.strip_prefix("src").unwrap().display().to_string()).collect()
        };
        found.iter().map(names).collect()
    }

    #[test]
    fn files_that_use_each_other_are_a_circle_however_they_write_it() {
        for (a, b) in [
            ("use crate::b::B;", "use crate::a::A;"),
            ("fn f() { crate::b::g(); }", "use super::a::{A as Z};"),
            ("use crate::b; fn f() -> b::B {}", "use crate::*; fn g() { a::h(); }"),
            ("use crate::Handed;", "use crate::a::A;"),
            ("fn f() { crate::deep::B; }", "use crate::a::*;"),
        ] {
            let a = format!("pub struct A; pub fn h() {{}} {a}");
            let b = format!("pub struct B; pub struct Handed; pub fn g() {{}} {b}");
            let root = "mod a; mod b; mod deep; pub use b::Handed;";
            let found = circles(&[
                ("lib.rs", root),
                ("a.rs", &a),
                ("b.rs", &b),
                ("deep/mod.rs", "mod c; pub use c::B;"),
                ("deep/c.rs", "pub use crate::b::*;"),
            ]);
            assert_eq!(found, [["a.rs", "b.rs"]], "{a}\n{b}");
        }
    }

    #[test]
    fn a_signpost_a_test_and_a_module_in_sight_tie_nothing() {
        for (root, a) in [
            ("mod a; pub use a::A; pub struct Shared;", "use crate::Shared; pub struct A;"),
            (
                "mod a; pub struct Shared; #[cfg(test)] mod tests { use crate::a::A; }",
                "use crate::Shared; pub struct A;",
            ),
            (
                "mod a; use a::A; pub struct Shared;",
                "#[cfg(test)] mod tests { use super::*; use crate::Shared; }\npub struct A;",
            ),
            ("mod a; use crate::a; pub struct Shared;", "use super::Shared; pub struct A;"),
        ] {
            assert_eq!(circles(&[("lib.rs", root), ("a.rs", a)]), Vec::<Vec<String>>::new(), "{root}\n{a}");
        }
    }

    #[test]
    fn two_circles_that_touch_in_one_direction_stay_two() {
        let found = circles(&[
            ("lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a.rs", "pub struct A; use crate::b::B; use crate::c::C;"),
            ("b.rs", "pub struct B; use crate::a::A;"),
            ("c.rs", "pub struct C; use crate::d::D;"),
            ("d.rs", "pub struct D; use crate::c::C;"),
        ]);
        assert_eq!(found, [["a.rs", "b.rs"], ["c.rs", "d.rs"]]);
    }

    #[test]
    fn a_circle_crosses_when_its_files_have_different_top_level_modules() {
        let circle = |files: &[&str]| Circle {
            files: files.iter().map(|file| Path::new("src").join(file)).collect(),
            ties: Vec::new(),
        };
        assert!(!circle(&["chat/mod.rs", "chat/room.rs", "chat.rs"]).crosses(Path::new("src")));
        assert!(circle(&["chat/mod.rs", "lib.rs"]).crosses(Path::new("src")));
    }
}
