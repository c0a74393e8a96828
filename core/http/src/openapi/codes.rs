//! The codes of errors, read from the page that explains them (`core/http/ERRORS.md`), so that no list is kept twice.

/// The page.
const PAGE: &str = include_str!("../../ERRORS.md");

/// Every code, in the order of the page.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(code, _)| code))
}

/// Code, status, cause and cure of every row of the page.
pub(super) fn rows() -> impl Iterator<Item = [&'static str; 4]> {
    PAGE.lines().filter(|line| line.starts_with("| `")).filter_map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim());
        let code = cells.next()?.trim_matches('`');
        Some([code, cells.next()?, cells.next()?, cells.next().unwrap_or_default()])
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use chelseru_domain::language::Language;

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

    /// The codes of frames, as CHAT.md lists them.
    fn of_frames() -> Vec<&'static str> {
        let page = include_str!("../../../gateway/CHAT.md");
        let (_, list) = page.split_once("Error codes: ").expect("the list");
        let list = list.split("\n\n").next().unwrap_or_default();
        let words = list.split('`').skip(1).step_by(2);
        words.filter(|word| word.contains('_') || *word == "busy" || *word == "banned").collect()
    }

    #[test]
    fn every_code_has_a_sentence_in_both_languages() {
        let known: BTreeSet<&str> = chelseru_domain::language::codes().collect();
        let of_frames = of_frames();
        assert!(of_frames.len() > 15, "{of_frames:?}");
        let missing: Vec<_> = all().chain(of_frames).filter(|code| !known.contains(code)).collect();
        assert!(missing.is_empty(), "sentences.txt lacks {missing:?}");
    }

    /// The texts that the refusals of a field get as literals.
    fn of_fields(source: &str) -> Vec<&str> {
        let calls = ["Failure::field(", ".refuse("].into_iter().flat_map(|call| source.split(call).skip(1));
        let literals = calls.filter_map(|call| {
            let (_, text) = call.split_once(", ")?;
            let text =
                text.trim_start().strip_prefix("format!(").unwrap_or(text).trim_start().strip_prefix('"')?;
            let end = text.match_indices('"').find(|(at, _)| !text[..*at].ends_with('\\'))?.0;
            Some(&text[..end])
        });
        literals.collect()
    }

    #[test]
    fn what_clients_are_told_of_fields_is_in_both_languages() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut paths = Vec::new();
        for feature in ["login", "chat", "files", "money", "sms"] {
            sources(&folder.join(feature), &mut paths);
        }
        paths.push(folder.join("fields.rs"));
        let (mut seen, mut missing) = (0, Vec::new());
        for path in paths {
            let text = std::fs::read_to_string(path).expect("a source");
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            for literal in of_fields(text) {
                seen += 1;
                // A value stands where the source has a name in braces.
                let mut plain = String::new();
                for part in literal.replace("\\\"", "\"").split('{') {
                    plain.push_str(part.split_once('}').map_or(part, |(_, rest)| rest));
                }
                // A sentence of the domain.
                if !plain.contains(char::is_alphabetic) {
                    continue;
                }
                let languages = [Language::Persian, Language::English];
                if languages.iter().all(|language| language.phrase(&plain).is_none()) {
                    missing.push(literal.to_owned());
                }
            }
        }
        assert!(seen > 25, "{seen}");
        assert!(missing.is_empty(), "phrases.txt lacks {missing:?}");
    }
}
