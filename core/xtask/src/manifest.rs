//! Reads what these commands need from a `Cargo.toml`, a `Cargo.lock` or `deny.toml`.
//!
//! Not a TOML parser: it reads sections, `key = value` lines, inline tables on one line and arrays of strings, as this
//! repository writes them. It skips everything else. `tidy` reports a manifest without a package name.

/// A dependency as a manifest names it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    /// Package name. For a renamed dependency, the name in `package = "..."`.
    pub(crate) name: String,
    pub(crate) line: usize,
    /// Of tests and benches only.
    pub(crate) dev: bool,
}

/// Dependencies of every kind: normal, dev, build, and target-specific.
pub(crate) fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut found = Vec::new();
    for (section, line, key, value) in entries(manifest) {
        let mut parts = section.rsplitn(2, '.');
        let last = parts.next().unwrap_or_default();
        let before = parts.next().unwrap_or_default();
        if section == "workspace.dependencies" || before == "workspace.dependencies" {
            continue;
        }
        let name = if is_dependencies(last) {
            let key = key.split('.').next().unwrap_or(key);
            renamed(value).unwrap_or_else(|| unquoted(key).to_owned())
        } else if is_dependencies(before.rsplit('.').next().unwrap_or_default()) {
            // `[dependencies.name]` counts once, at its first line.
            let name = if key == "package" { unquoted(value) } else { last };
            if found.iter().any(|known: &Dependency| known.name == name) {
                continue;
            }
            name.to_owned()
        } else {
            continue;
        };
        let dev = section.ends_with("dev-dependencies") || before.ends_with("dev-dependencies");
        found.push(Dependency { name, line, dev });
    }
    found
}

/// Value of a key in a section, without quotes.
pub(crate) fn value<'a>(manifest: &'a str, section: &str, key: &str) -> Option<&'a str> {
    entries(manifest)
        .find(|(have, _, name, _)| *have == section && *name == key)
        .map(|(_, _, _, value)| unquoted(value))
}

/// Strings of an array, on one line or on several.
pub(crate) fn strings(manifest: &str, section: &str, key: &str) -> Vec<String> {
    let mut inside = "";
    let mut lines = manifest.lines().map(uncommented);
    while let Some(line) = lines.next() {
        if let Some(name) = section_of(line) {
            inside = name;
        }
        let Some((name, first)) = line.split_once('=') else { continue };
        if inside != section || name.trim() != key {
            continue;
        }
        let mut text = first.to_owned();
        while !text.contains(']') {
            let Some(next) = lines.next() else { break };
            text.push_str(next);
        }
        return text.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    }
    Vec::new()
}

/// Packages of a `Cargo.lock`: name and source (`None` for this repository's own packages).
pub(crate) fn locked(lock: &str) -> Vec<(String, Option<String>)> {
    let mut packages: Vec<(String, Option<String>)> = Vec::new();
    let mut inside = false;
    for line in lock.lines() {
        if line.starts_with('[') {
            inside = line == "[[package]]";
        } else if !inside {
            continue;
        } else if let Some(name) = line.strip_prefix("name = ") {
            packages.push((unquoted(name).to_owned(), None));
        } else if let (Some(source), Some(last)) = (line.strip_prefix("source = "), packages.last_mut()) {
            last.1 = Some(unquoted(source).to_owned());
        }
    }
    packages
}

/// Crates that a cargo-deny policy bans, with their reasons: lines `{ crate = "...", reason = "..." }`.
pub(crate) fn banned(policy: &str) -> Vec<(String, String)> {
    let mut banned = Vec::new();
    let mut inside = false;
    for line in policy.lines() {
        let line = line.trim();
        if line.starts_with("deny = [") {
            inside = true;
        } else if line == "]" || line.starts_with('[') {
            inside = false;
        } else if inside && line.starts_with('{') {
            let quoted = |key: &str| {
                let (_, rest) = line.split_once(&format!("{key} = \""))?;
                rest.split('"').next().map(str::to_owned)
            };
            if let Some(name) = quoted("crate") {
                banned.push((name, quoted("reason").unwrap_or_default()));
            }
        }
    }
    banned
}

/// `(section, line number, key, value)` of every `key = value` line.
fn entries(manifest: &str) -> impl Iterator<Item = (&str, usize, &str, &str)> {
    let mut section = "";
    manifest.lines().enumerate().filter_map(move |(index, line)| {
        let line = uncommented(line);
        if let Some(name) = section_of(line) {
            section = name;
            return None;
        }
        let (key, value) = line.split_once('=')?;
        Some((section, index + 1, key.trim(), value.trim()))
    })
}

fn section_of(line: &str) -> Option<&str> {
    line.trim().strip_prefix('[')?.strip_suffix(']').map(|name| name.trim_matches(['[', ']']).trim())
}

fn uncommented(line: &str) -> &str {
    let mut quoted = false;
    for (index, letter) in line.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            '#' if !quoted => return &line[..index],
            _ => {}
        }
    }
    line
}

fn is_dependencies(name: &str) -> bool {
    matches!(name, "dependencies" | "dev-dependencies" | "build-dependencies")
}

fn renamed(value: &str) -> Option<String> {
    let (_, rest) = value.strip_prefix('{')?.split_once("package")?;
    rest.split('"').nth(1).map(str::to_owned)
}

fn unquoted(value: &str) -> &str {
    value.trim().trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_found_in_every_section_and_under_their_real_name() {
        let manifest = r#"
            [package]
            name = "x" # not = "this"
            [workspace.dependencies]
            unseen = "1"
            [dependencies]
            plain = "1"
            dotted.workspace = true
            alias = { version = "1", package = "real" }
            "quoted" = "1"
            [target.'cfg(unix)'.dev-dependencies]
            dev = "1"
            [build-dependencies.table]
            version = "1"
            features = ["f"]
        "#;
        let names: Vec<_> = dependencies(manifest).into_iter().map(|found| found.name).collect();
        assert_eq!(names, ["plain", "dotted", "real", "quoted", "dev", "table"]);
        assert_eq!(value(manifest, "package", "name"), Some("x"));
    }

    #[test]
    fn an_array_is_read_over_several_lines() {
        let manifest =
            "[workspace]\nmembers = [ # here\n  \"a\",\n  \"b/c\", # \"no\"\n]\nexclude = [\"d\"]\n";
        assert_eq!(strings(manifest, "workspace", "members"), ["a", "b/c"]);
        assert_eq!(strings(manifest, "workspace", "exclude"), ["d"]);
        assert!(strings(manifest, "package", "members").is_empty());
    }

    #[test]
    fn a_lock_lists_names_and_sources() {
        let lock = "version = 4\n[[package]]\nname = \"a\"\nversion = \"1\"\nsource = \"s\"\n[[package]]\nname = \"b\"\n";
        assert_eq!(locked(lock), [("a".into(), Some("s".into())), ("b".into(), None)]);
    }

    #[test]
    fn a_policy_lists_its_bans() {
        let policy = "[bans]\ndeny = [\n  # why\n  { crate = \"a\", reason = \"old\" },\n]\nallow = [\n  { crate = \"b\" },\n]\n";
        assert_eq!(banned(policy), [("a".to_owned(), "old".to_owned())]);
    }
}
