//! Rules about documents: README's map of folders, and the table of the original's defects.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::Tidy;

/// The table of the original's defects and the tests that show them fixed, and the number of defects.
pub(super) const DEFECTS_FILE: &str = "core/gateway/MIGRATING.md";
pub(super) const DEFECTS: u32 = 33;

impl Tidy<'_> {
    /// Every defect of the original is in the table, and its tests exist.
    pub(super) fn defects(&mut self, files: &[PathBuf]) {
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

    /// Whether the test exists: `login::one_code_is_one_login` is that function in a file `login.rs`.
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

    /// README's map names every folder at the root, and every folder of a crate or plugin.
    pub(super) fn map(&mut self, files: &[PathBuf]) {
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
}

/// Whether the text contains `folder/` as a word, or as the end of a longer path.
fn names_folder(text: &str, folder: &str) -> bool {
    text.match_indices(&format!("{folder}/")).any(|(at, _)| {
        !text[..at]
            .chars()
            .next_back()
            .is_some_and(|letter| letter.is_alphanumeric() || letter == '-' || letter == '_')
    })
}
