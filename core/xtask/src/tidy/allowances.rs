//! Targets that today's code misses: `core/xtask/allowances.txt`, whose numbers only fall.
//!
//! Each line is an allowance: a rule, a name where the rule has many (a function), and a number. A measured number
//! above its allowance is a finding. A measured number below it is a finding too: `cargo xtask tidy --tighten` writes
//! the lower number, and removes a line that is no longer needed. No command raises a number.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Failure;
use crate::workspace::file_error;

/// From the root of the checkout.
pub(super) const FILE: &str = "core/xtask/allowances.txt";

/// A measured number. Its limit is `target`, or its allowance while that is higher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Measured {
    /// The line's key, such as `function about`.
    pub(super) key: String,
    pub(super) value: usize,
    pub(super) target: usize,
    /// The measured file; the file of allowances for a number of the whole repository.
    pub(super) file: String,
    pub(super) line: usize,
    /// The finding's text, such as `fn about has 543 lines`.
    pub(super) text: String,
}

/// Key and number of every line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Allowances(BTreeMap<String, usize>);

impl Allowances {
    /// Reads the file's text. Returns the allowances, and the line numbers that are not one.
    pub(super) fn read(text: &str) -> (Allowances, Vec<usize>) {
        let (mut read, mut broken) = (BTreeMap::new(), Vec::new());
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.rsplit_once(' ').map(|(key, number)| (key, number.parse())) {
                Some((key, Ok(number))) if !read.contains_key(key) => {
                    read.insert(key.to_owned(), number);
                }
                _ => broken.push(index + 1),
            }
        }
        (Allowances(read), broken)
    }

    /// Compares measured numbers with the allowances. Returns file, line and text of each finding.
    pub(super) fn hold(&self, measured: &[Measured]) -> Vec<(String, usize, String)> {
        let mut findings = Vec::new();
        for one in measured {
            let allowed = self.0.get(&one.key).copied().unwrap_or(0).max(one.target);
            if one.value > allowed {
                findings.push((one.file.clone(), one.line, format!("{}, at most {allowed}", one.text)));
            }
        }
        let lower = self.tightened(measured);
        for (key, number) in &self.0 {
            let now = lower.0.get(key);
            if now != Some(number) {
                let now = now.map_or("is no longer needed".to_owned(), |now| format!("fell to {now}"));
                let text = format!("{key} {number} {now}: run cargo xtask tidy --tighten");
                findings.push((FILE.to_owned(), 0, text));
            }
        }
        findings
    }

    /// The allowances, lowered to today's numbers.
    fn tightened(&self, measured: &[Measured]) -> Allowances {
        let mut lower = BTreeMap::new();
        for (key, allowed) in &self.0 {
            let now = measured.iter().filter(|one| one.key == *key).map(|one| (one.value, one.target)).max();
            if let Some((value, target)) = now
                && value > target
            {
                lower.insert(key.clone(), value.min(*allowed));
            }
        }
        Allowances(lower)
    }

    /// Writes the lowered numbers. Comments stay.
    pub(super) fn tighten(root: &Path, measured: &[Measured]) -> Result<(), Failure> {
        let path = root.join(FILE);
        let text =
            std::fs::read_to_string(&path).map_err(|error| file_error("cannot read", &path, &error))?;
        let lower = Allowances::read(&text).0.tightened(measured);
        let kept = text.lines().filter_map(|line| match line.trim().rsplit_once(' ') {
            Some((key, _)) if !key.starts_with('#') => {
                lower.0.get(key).map(|number| format!("{key} {number}\n"))
            }
            _ => Some(format!("{line}\n")),
        });
        let text: String = kept.collect();
        std::fs::write(&path, text).map_err(|error| file_error("cannot write", &path, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(key: &str, value: usize) -> Measured {
        Measured {
            key: key.into(),
            value,
            target: 80,
            file: "f".into(),
            line: 1,
            text: format!("{value} lines"),
        }
    }

    #[test]
    fn a_number_may_reach_its_allowance_and_no_more() {
        let (allowances, broken) =
            Allowances::read("# why\nfunction long 100\nnonsense\nfunction long 100\n");
        assert_eq!(broken, [3, 4]);
        for (value, found) in
            [(99, "fell to 99"), (100, ""), (101, "101 lines, at most 100"), (80, "no longer needed")]
        {
            let findings = allowances.hold(&[measured("function long", value)]);
            assert_eq!(findings.is_empty(), found.is_empty(), "{findings:?}");
            assert!(findings.iter().all(|(_, _, text)| text.contains(found)), "{findings:?}");
        }
        assert!(
            allowances.hold(&[measured("function long", 100), measured("function other", 80)]).is_empty()
        );
        assert_eq!(
            allowances.hold(&[measured("function long", 100), measured("function other", 81)]).len(),
            1
        );
    }

    #[test]
    fn tightening_lowers_and_never_raises() {
        let root = std::env::temp_dir().join(format!("xtask-allowances-{}", std::process::id()));
        std::fs::create_dir_all(root.join("core/xtask")).unwrap();
        std::fs::write(root.join(FILE), "# why\nfunction a 100\nfunction b 100\nfunction c 100\n").unwrap();
        let now = [measured("function a", 90), measured("function b", 200), measured("function d", 300)];
        Allowances::tighten(&root, &now).unwrap();
        let text = std::fs::read_to_string(root.join(FILE)).unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(text, "# why\nfunction a 90\nfunction b 100\n");
    }
}
