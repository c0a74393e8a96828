//! The codes of errors, read from the page that explains them (`core/http/ERRORS.md`), so that no list is kept twice.

/// The page.
const PAGE: &str = include_str!("../../ERRORS.md");

/// Every code, in the order of the page.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(code, _)| code))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    /// The codes that the constructors of failures get as literals: the second argument, after a status.
    fn used() -> BTreeSet<String> {
        let mut paths = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut paths);
        let mut codes = BTreeSet::new();
        for path in paths {
            let text = std::fs::read_to_string(path).expect("a source");
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            for name in ["detail", "error", "details", "object", "list"] {
                for call in text.split(&format!("Failure::{name}(")).skip(1) {
                    let Some((_, rest)) = call.split_once(',') else { continue };
                    let Some(literal) = rest.trim_start().strip_prefix('"') else { continue };
                    codes.extend(literal.split_once('"').map(|(code, _)| code.to_owned()));
                }
            }
        }
        codes
    }

    #[test]
    fn every_code_is_explained_once_and_every_explained_code_exists() {
        let listed: Vec<&str> = all().collect();
        let page: BTreeSet<String> = listed.iter().map(|code| (*code).to_owned()).collect();
        assert_eq!(listed.len(), page.len(), "a code stands twice in ERRORS.md");
        let used = used();
        assert!(used.len() > 40, "the sources are read: {used:?}");
        let missing: Vec<_> = used.difference(&page).collect();
        assert!(missing.is_empty(), "ERRORS.md lacks {missing:?}: add a row with status, cause and cure");

        let mut paths = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut paths);
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../sockets/src"), &mut paths);
        let texts: Vec<String> =
            paths.iter().map(|path| std::fs::read_to_string(path).expect("a source")).collect();
        let stale: Vec<_> = page
            .iter()
            .filter(|code| !texts.iter().any(|text| text.contains(&format!("\"{code}\""))))
            .collect();
        assert!(stale.is_empty(), "ERRORS.md explains codes that no source has: {stale:?}");
    }
}
