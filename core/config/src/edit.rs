//! An edit of the configuration as changes of keys, so that gateways with files of their own can make the same one.
//!
//! A change names a key and its new value. Tables are compared key by key; lists as a whole. Comments and keys that an
//! edit does not change stay as they are in each file. Invariant: no edit that is shared changes a key of a machine
//! ([`is_of_machine`]).

use serde::{Deserialize, Serialize};
use toml::Value;
use toml_edit::{DocumentMut, Item, TableLike};

/// Keys that belong to a machine, and the keys below them: addresses, folders, servers and logs.
const OF_MACHINE: [&[&str]; 7] = [
    &["server", "listen"],
    &["operator", "listen"],
    &["operator", "hosts"],
    &["data"],
    &["store"],
    &["bus"],
    &["log"],
];

/// The name of the one key in a value's text.
const VALUE: &str = "value";

/// A key that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChange {
    /// From the outermost table to the key.
    pub path: Vec<String>,
    /// TOML with the one key `value`; `None` removes the key.
    pub value: Option<String>,
}

/// Whether a key belongs to the machine that its file is on.
#[must_use]
pub fn is_of_machine(path: &[impl AsRef<str>]) -> bool {
    OF_MACHINE
        .iter()
        .any(|own| own.len() <= path.len() && own.iter().zip(path).all(|(own, name)| *own == name.as_ref()))
}

/// What an edit changes, without keys of the machine.
///
/// # Errors
///
/// A text when one of them is no TOML.
pub fn changes(before: &str, after: &str) -> Result<Vec<KeyChange>, String> {
    let table = |text: &str| text.parse::<toml::Table>().map_err(|error| error.to_string());
    let mut changes = Vec::new();
    compare(&table(before)?, &table(after)?, &mut Vec::new(), &mut changes)?;
    Ok(changes)
}

fn compare(
    before: &toml::Table,
    after: &toml::Table,
    path: &mut Vec<String>,
    changes: &mut Vec<KeyChange>,
) -> Result<(), String> {
    let removed = before.keys().filter(|key| !after.contains_key(*key));
    for key in after.keys().chain(removed) {
        path.push(key.clone());
        match (before.get(key), after.get(key)) {
            _ if is_of_machine(path) => {}
            (Some(Value::Table(before)), Some(Value::Table(after))) => {
                compare(before, after, path, changes)?;
            }
            (before, after) if before == after => {}
            // A table that comes or goes may hold keys of the machine.
            (None, Some(Value::Table(after))) if path.len() == 1 => {
                compare(&toml::Table::new(), after, path, changes)?;
            }
            (Some(Value::Table(before)), None) if path.len() == 1 => {
                compare(before, &toml::Table::new(), path, changes)?;
            }
            (_, after) => {
                let written = |value: &Value| {
                    let table = toml::Table::from_iter([(VALUE.to_owned(), value.clone())]);
                    toml::to_string(&table).map_err(|error| error.to_string())
                };
                changes.push(KeyChange { path: path.clone(), value: after.map(written).transpose()? });
            }
        }
        path.pop();
    }
    Ok(())
}

/// A file's text with changes made to it. One that is there already changes nothing.
///
/// # Errors
///
/// A text with the key when the file or a value is no TOML, or when something that is no table stands above the key.
pub fn with_changes(text: &str, changes: &[KeyChange]) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
    let now: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    for change in changes {
        if is_of_machine(&change.path) {
            continue;
        }
        let value = change.value.as_deref().map(read).transpose();
        let (value, item) = value.map_err(|error| format!("{}: {error}", change.path.join(".")))?.unzip();
        if found(&now, &change.path) != value.as_ref() {
            put(document.as_table_mut(), &change.path, item)
                .map_err(|above| format!("{}: {above} is no table", change.path.join(".")))?;
        }
    }
    Ok(document.to_string())
}

fn read(value: &str) -> Result<(Value, Item), String> {
    let mut table: toml::Table = value.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let mut document: DocumentMut = value.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
    let found = table.remove(VALUE).zip(document.remove(VALUE));
    found.ok_or_else(|| format!("no key `{VALUE}`"))
}

fn found<'a>(table: &'a toml::Table, path: &[String]) -> Option<&'a Value> {
    let (last, above) = path.split_last()?;
    let table = above.iter().try_fold(table, |table, key| table.get(key)?.as_table())?;
    table.get(last)
}

/// Sets or removes a key. Errors: the name above it that is no table.
fn put(table: &mut dyn TableLike, path: &[String], value: Option<Item>) -> Result<(), String> {
    let Some((first, below)) = path.split_first() else { return Ok(()) };
    if below.is_empty() {
        match (table.get_mut(first), value) {
            (Some(Item::Value(old)), Some(Item::Value(mut new))) => {
                // What stands around the old value, a comment behind it for one, stays.
                *new.decor_mut() = old.decor().clone();
                *old = new;
            }
            (_, Some(new)) => drop(table.insert(first, new)),
            (_, None) => drop(table.remove(first)),
        }
        return Ok(());
    }
    if !table.contains_key(first) {
        if value.is_none() {
            return Ok(());
        }
        let mut inner = toml_edit::Table::new();
        // No empty header where only tables are below it.
        inner.set_implicit(true);
        table.insert(first, Item::Table(inner));
    }
    let inner = table.get_mut(first).and_then(Item::as_table_like_mut).ok_or_else(|| first.clone())?;
    put(inner, below, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"# Ours.
[server]
listen = "127.0.0.1:8000"   # this machine

[sms]
service = ["one", "two"]    # in this order

[provider.one]
plugin = "kavenegar"
settings = { api_key = "k" }

[[webhook.endpoint]]
url = "https://a"
"#;

    /// Makes the edit from `FILE` to this text in another file.
    fn carried(after: &str, other: &str) -> String {
        with_changes(other, &changes(FILE, after).unwrap()).unwrap()
    }

    fn table(text: &str) -> toml::Table {
        text.parse().unwrap()
    }

    #[test]
    fn an_edit_makes_the_same_file_of_the_same_file() {
        let edits = [
            FILE.replace("\"two\"", "\"two\", \"three\""),
            FILE.replace("api_key = \"k\"", "api_key = { env = \"KEY\" }, line = 3000"),
            FILE.replace("settings = { api_key = \"k\" }", "[provider.one.settings]\napi_key = \"l\""),
            FILE.replace("[[webhook.endpoint]]\nurl = \"https://a\"\n", ""),
            format!("{FILE}\n[[webhook.endpoint]]\nurl = \"https://b\"\n[provider.two]\nplugin = \"x\"\n"),
            format!("{FILE}\n[auth]\nmethod = \"otp\"\n[auth.more]\nx = [{{ a = 1 }}, {{ b = 2.5 }}]\n"),
            String::new(),
        ];
        for edit in edits {
            let mut expected = table(&edit);
            if edit.is_empty() {
                // The address stays the machine's own.
                expected = table("[server]\nlisten = \"127.0.0.1:8000\"\n[sms]\n[provider]\n[webhook]\n");
            }
            let got = table(&carried(&edit, FILE));
            let is_empty = |value: &Value| value.as_table().is_some_and(toml::Table::is_empty);
            for (key, value) in &expected {
                assert!(got.get(key) == Some(value) || is_empty(value), "{key} of\n{edit}");
            }
            assert!(got.keys().all(|key| expected.contains_key(key)), "{got} of\n{edit}");
        }
    }

    #[test]
    fn what_an_edit_does_not_change_stays() {
        let other =
            FILE.replace(":8000", ":9000").replace("# Ours.", "# Theirs.").replace("\"k\"", "\"own\"");
        let edit = FILE.replace("\"one\", \"two\"", "\"two\"").replace(":8000", ":8001");
        let expected = other.replace("\"one\", \"two\"", "\"two\"");
        assert_eq!(carried(&edit, &other), expected);
        // Made twice, it is made once.
        assert_eq!(carried(&edit, &expected), expected);
    }

    #[test]
    fn keys_of_a_machine_are_not_carried() {
        let edit =
            format!("{FILE}[data]\ndir = \"x\"\n[bus]\nurl = \"y\"\n[operator]\nlisten = \"z\"\nname = 1\n");
        let changes = changes(FILE, &edit).unwrap();
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!(changes[0].path, ["operator", "name"]);
        let forged = KeyChange { path: vec!["server".into(), "listen".into()], value: None };
        assert_eq!(with_changes(FILE, &[forged]).unwrap(), FILE);
    }

    #[test]
    fn a_change_that_does_not_fit_names_its_key() {
        let change = KeyChange {
            path: vec!["sms".into(), "service".into(), "x".into()],
            value: Some("value = 1".into()),
        };
        assert_eq!(with_changes(FILE, &[change]).unwrap_err(), "sms.service.x: service is no table");
        let change = KeyChange { path: vec!["sms".into()], value: Some("x = 1".into()) };
        assert_eq!(with_changes(FILE, &[change]).unwrap_err(), "sms: no key `value`");
    }
}
