//! The configuration file as operators see it: without its secrets, and with them again when an edit comes back.
//!
//! Which settings of a plugin are secret is the plugin's word, and a refused file may name a plugin that does not load.
//! So every text in a provider's settings is hidden unless it is an address without a user or a query, every number
//! there under a name such as `password`, and elsewhere every text under such a name and every address with a user.
//! `{ env = .. }` and `{ file = .. }` name where a secret is and stay. Invariant: a hidden value that comes back
//! unchanged is put back by its path; one that comes back at a new path is refused.

use std::collections::BTreeMap;

use toml_edit::{DocumentMut, Item, TableLike, Value};

/// What stands for a hidden value.
pub const HIDDEN: &str = "••••••";

/// Parts of names whose texts are hidden wherever they stand, such as `legacy_secret` and `secret_previous`.
const SECRET_PARTS: [&str; 4] = ["secret", "passw", "api_key", "otp_test_numbers"];
/// Whole names of the same kind. A key of tokens is a kind such as `hs256-1`, or somebody's mistake.
const SECRET_NAMES: [&str; 6] = ["token", "token_key", "token_keys_old", "key", "keys", "pin"];
/// How the kinds of token keys begin that are no secret.
const KEY_KIND: &str = "hs256-";

/// A text of the configuration without secrets; `None` when it is no TOML. Comments stay, and may hold what was once a
/// value: the text is for whoever may edit it.
#[must_use]
pub fn hide_secrets(text: &str) -> Option<String> {
    let mut document: DocumentMut = text.parse().ok()?;
    visit_table(document.as_table_mut(), &mut Vec::new(), &mut |_, value| {
        set(value, HIDDEN);
    });
    Some(document.to_string())
}

/// A text as it came back from an operator, with the hidden values of the file.
///
/// # Errors
///
/// The path of a hidden value that the file does not have. A text that is no TOML stays as it is: reading it names the
/// line.
pub fn restore_secrets(text: &str, file: &str) -> Result<String, String> {
    let (Ok(mut edited), Ok(mut original)) = (text.parse::<DocumentMut>(), file.parse::<DocumentMut>())
    else {
        return Ok(text.to_owned());
    };
    let mut known = Vec::new();
    visit_table(original.as_table_mut(), &mut Vec::new(), &mut |path, value| {
        known.push((path.to_owned(), value.clone()));
    });
    let mut missing = None;
    visit_table(edited.as_table_mut(), &mut Vec::new(), &mut |path, value| {
        if value.as_str() == Some(HIDDEN) {
            match known.iter().find(|(at, _)| at == path) {
                Some((_, secret)) => set(value, secret.clone()),
                None => missing = Some(path.to_owned()),
            }
        }
    });
    match missing {
        Some(path) => Err(path),
        None => Ok(edited.to_string()),
    }
}

/// The settings of each provider's entry, without secrets; empty when the text is no TOML.
#[must_use]
pub fn settings_shown(text: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let document = hide_secrets(text).and_then(|shown| shown.parse::<DocumentMut>().ok()).unwrap_or_default();
    let providers = document.get("provider").and_then(Item::as_table_like);
    let entries = providers.into_iter().flat_map(TableLike::iter);
    let settings = |entry: &Item| {
        let table = entry.get("settings").and_then(Item::as_table_like);
        let shown = |(name, value): (&str, &Item)| {
            let text = value.as_str().map_or_else(|| value.to_string().trim().to_owned(), str::to_owned);
            (name.to_owned(), text)
        };
        table.into_iter().flat_map(TableLike::iter).map(shown).collect()
    };
    entries.map(|(name, entry)| (name.to_owned(), settings(entry))).collect()
}

/// Moves a provider in the order in which messages are offered to them; comments stay.
///
/// # Errors
///
/// A text when `sms.service` is no list with this name.
pub fn move_provider(text: &str, name: &str, earlier: bool) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
    let list = document.get_mut("sms").and_then(|sms| sms.get_mut("service")).and_then(Item::as_array_mut);
    let list = list.ok_or("sms.service is no list")?;
    let at = list.iter().position(|entry| entry.as_str() == Some(name));
    let at = at.ok_or_else(|| format!("sms.service does not name {name}"))?;
    let to = if earlier { at.checked_sub(1) } else { (at + 1 < list.len()).then_some(at + 1) };
    let Some(to) = to else { return Ok(text.to_owned()) };
    let (one, other) = (texts(list, at), texts(list, to));
    for (place, name) in [(at, other), (to, one)] {
        if let Some(value) = list.get_mut(place) {
            set(value, name.as_str());
        }
    }
    Ok(document.to_string())
}

fn texts(list: &toml_edit::Array, at: usize) -> String {
    list.get(at).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Replaces a value and keeps the space and the comments around it.
fn set(value: &mut Value, new: impl Into<Value>) {
    let decor = value.decor().clone();
    *value = new.into();
    *value.decor_mut() = decor;
}

/// Visits every value that is hidden, with its path.
fn visit_table(table: &mut dyn TableLike, path: &mut Vec<String>, visit: &mut dyn FnMut(&str, &mut Value)) {
    for (key, item) in table.iter_mut() {
        path.push(key.get().to_owned());
        match item {
            Item::Value(value) => visit_value(value, path, visit),
            Item::Table(inner) => visit_table(inner, path, visit),
            Item::ArrayOfTables(list) => {
                for (at, inner) in list.iter_mut().enumerate() {
                    path.push(at.to_string());
                    visit_table(inner, path, visit);
                    path.pop();
                }
            }
            Item::None => {}
        }
        path.pop();
    }
}

fn visit_value(value: &mut Value, path: &mut Vec<String>, visit: &mut dyn FnMut(&str, &mut Value)) {
    match value {
        Value::InlineTable(inner) => visit_table(inner, path, visit),
        Value::Array(list) => {
            for (at, inner) in list.iter_mut().enumerate() {
                path.push(at.to_string());
                visit_value(inner, path, visit);
                path.pop();
            }
        }
        // What stands for a hidden value does not say why it was hidden: an address with a user has one no more.
        Value::String(text) if text.value() == HIDDEN || is_secret(path, text.value()) => {
            visit(&path.join("."), value)
        }
        Value::Integer(_) | Value::Float(_) if in_settings(path) && has_secret_name(path) => {
            visit(&path.join("."), value);
        }
        _ => {}
    }
}

fn is_secret(path: &[String], text: &str) -> bool {
    if matches!(path.last().map(String::as_str), Some("env" | "file")) {
        return false;
    }
    let is_address =
        ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme)) && !text.contains(['@', '?']);
    (in_settings(path) && !is_address)
        || (has_secret_name(path) && !is_key_kind(text))
        || has_credentials(text)
}

fn is_key_kind(text: &str) -> bool {
    text.strip_prefix(KEY_KIND).is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a text is an address with a user, or a list of pairs with a password, as `store.url` and `bus.url` may be.
pub(crate) fn has_credentials(text: &str) -> bool {
    let authority = text.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or(rest));
    authority.is_some_and(|authority| authority.contains('@')) || text.contains("password=")
}

fn in_settings(path: &[String]) -> bool {
    path.first().is_some_and(|first| first == "provider")
        && path.get(2).is_some_and(|third| third == "settings")
}

/// Whether a name of a path is one of secrets.
pub(crate) fn has_secret_name(path: &[String]) -> bool {
    path.iter().any(|name| {
        SECRET_NAMES.contains(&name.as_str()) || SECRET_PARTS.iter().any(|part| name.contains(part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"# our gateway
[sms]
service = ["ONE", "TWO"] # in this order
[auth]
token_key = "hs256-1"
token_keys_old = ["pastedkey", { file = "old.pem" }]
legacy_secret = "django-insecure"
password_attempts_max = 7
[auth.otp_test_numbers]
"09120000000" = "123456"
[provider.ONE.settings]
api_key = "topsecret" # of the shop
base_url = "https://sms.example/"
request_timeout_ms = 5000
[provider.TWO.settings]
username = "shop"
password = { env = "TWO_PASSWORD" }
[provider.THREE.settings]
password = 778899 # a number
relay = "https://sms.example/?key=inaquery"
[webhooks.endpoints.SHOP]
url = "https://shop.example/hook"
secret = "whsec_abc"
secret_previous = "whsec_before"
"#;

    #[test]
    fn secrets_are_hidden_and_everything_else_is_as_it_was() {
        let shown = hide_secrets(FILE).expect("TOML");
        let secrets = ["topsecret", "123456", "whsec_abc", "whsec_before", "django-insecure", "pastedkey"];
        for secret in secrets.into_iter().chain(["778899", "inaquery"]) {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
        for kept in [
            "# our gateway",
            "# in this order",
            "# of the shop",
            "https://sms.example/",
            "TWO_PASSWORD",
            "https://shop.example/hook",
            "5000",
            "# a number",
            "hs256-1",
            "old.pem",
            "password_attempts_max = 7",
        ] {
            assert!(shown.contains(kept), "{kept}: {shown}");
        }
        assert_eq!(shown.lines().count(), FILE.lines().count(), "lines keep their numbers");
        assert_eq!(hide_secrets("[sms"), None);
    }

    #[test]
    fn an_address_with_a_user_is_hidden_wherever_it_stands() {
        let hidden = |line: &str| hide_secrets(line).is_some_and(|shown| shown.contains(HIDDEN));
        assert!(hidden("[store]\nurl = \"postgres://app:pw@db/app\""));
        assert!(hidden("[store]\nurl = \"host=db user=app password=pw\""));
        assert!(hidden("[auth]\ntoken_key = \"hs256-hunter\""));
        assert!(!hidden("[store]\nurl = \"postgres://db/app\""));
        assert!(!hidden("[auth]\ntoken_key = \"hs256-12\""));
    }

    #[test]
    fn hidden_values_come_back_by_their_path_only() {
        let shown = hide_secrets(FILE).expect("TOML");
        assert_eq!(restore_secrets(&shown, FILE), Ok(FILE.to_owned()));
        let changed = shown.replacen(HIDDEN, "654321", 1);
        let restored = restore_secrets(&changed, FILE).expect("restored");
        assert!(restored.contains("654321") && restored.contains("topsecret"), "{restored}");
        let moved = shown.replace("[provider.ONE.settings]", "[provider.FOUR.settings]");
        assert_eq!(restore_secrets(&moved, FILE), Err("provider.FOUR.settings.api_key".to_owned()));
        assert_eq!(restore_secrets("[sms", FILE), Ok("[sms".to_owned()));
        for address in ["postgres://app:pw@db/app", "host=db user=app password=pw"] {
            let file = format!("[store]\nurl = \"{address}\"\n");
            let shown = hide_secrets(&file).expect("TOML");
            assert_eq!(restore_secrets(&shown, &file), Ok(file));
        }
    }

    #[test]
    fn settings_are_shown_by_entry() {
        let shown = settings_shown(FILE);
        let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        assert_eq!(
            shown["ONE"],
            [
                pair("api_key", HIDDEN),
                pair("base_url", "https://sms.example/"),
                pair("request_timeout_ms", "5000")
            ]
        );
        assert_eq!(shown["TWO"][1], pair("password", "{ env = \"TWO_PASSWORD\" }"));
    }

    #[test]
    fn a_provider_moves_in_the_order_and_comments_stay() {
        let moved = move_provider(FILE, "TWO", true).expect("moved");
        assert!(moved.contains("service = [\"TWO\", \"ONE\"] # in this order"), "{moved}");
        assert_eq!(move_provider(&moved, "TWO", false).as_deref(), Ok(FILE));
        assert_eq!(move_provider(FILE, "ONE", true).as_deref(), Ok(FILE), "it is the first");
        assert!(move_provider(FILE, "THREE", true).is_err());
        assert!(move_provider("[sms]\nservice = \"ONE\"\n", "ONE", true).is_err());
    }
}
