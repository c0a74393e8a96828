//! What a plugin says of itself, checked as hostile input.
//!
//! A description that is outside the bounds is refused, not repaired: its texts go to terminals, logs and pages for as
//! long as the plugin is loaded.
//! Not here: calling `describe` (see `host`).

use semver::Version;

use crate::grants::HostGrant;
use crate::setting::{SettingKind, SettingSpec, SettingValue, setting_text};
use crate::text;
use crate::wit::exports::chelseru::provider::plugin as wit;

/// What a plugin says of itself, checked: sizes, names and values are within bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// In kebab-case.
    pub name: String,
    /// The plugin's own version.
    pub version: Version,
    /// One sentence for the operator.
    pub summary: String,
    /// The settings it knows.
    pub settings: Vec<SettingSpec>,
    /// The hosts it asks to call: entries of an allow-list, in their canonical form.
    pub hosts: Vec<String>,
}

/// Bounds of a description. Generous for a person, small for a host that keeps many.
const NAME_CHARS_MAX: usize = 64;
const TEXT_CHARS_MAX: usize = 512;
const SETTINGS_MAX: usize = 64;
const HOSTS_MAX: usize = 32;

impl Description {
    /// Checks what a guest returned.
    ///
    /// # Errors
    /// A sentence that names the first thing that is wrong.
    pub(crate) fn parse(raw: wit::Description) -> Result<Description, String> {
        let kebab = |text: &str| {
            text.len() <= NAME_CHARS_MAX
                && text.starts_with(|c: char| c.is_ascii_lowercase())
                && text.split('-').all(|word| {
                    !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                })
        };
        if !kebab(&raw.name) {
            return Err(format!(
                "name {:?} is not kebab-case of at most {NAME_CHARS_MAX} characters",
                shortened(&raw.name)
            ));
        }
        if raw.version.len() > NAME_CHARS_MAX {
            return Err(format!("the version has more than {NAME_CHARS_MAX} characters"));
        }
        let version = Version::parse(&raw.version)
            .map_err(|e| format!("version {:?} is not a semantic version: {e}", shortened(&raw.version)))?;
        sentence_check("the summary", &raw.summary)?;
        if raw.settings.len() > SETTINGS_MAX {
            return Err(format!("more than {SETTINGS_MAX} settings"));
        }
        let mut settings: Vec<SettingSpec> = Vec::with_capacity(raw.settings.len());
        for setting in raw.settings {
            let spec = setting_parse(setting)?;
            if settings.iter().any(|other| other.key == spec.key) {
                return Err(format!("setting \"{}\" is described twice", spec.key));
            }
            settings.push(spec);
        }
        if raw.hosts.len() > HOSTS_MAX {
            return Err(format!("more than {HOSTS_MAX} hosts"));
        }
        let hosts = hosts_parse(&raw.hosts)?;
        for setting in &settings {
            if let Some(host) = setting.replaces.iter().find(|host| !hosts.contains(host)) {
                let key = &setting.key;
                return Err(format!("setting \"{key}\" replaces {host:?}, which is not among the hosts"));
            }
        }
        Ok(Description { name: raw.name, version, summary: raw.summary, settings, hosts })
    }
}

/// Entries of an allow-list in their canonical form.
fn hosts_parse(entries: &[String]) -> Result<Vec<String>, String> {
    let parse = |entry: &String| match entry.parse::<HostGrant>() {
        Ok(grant) => Ok(grant.to_string()),
        Err(reason) => Err(format!("host {:?}: {reason}", shortened(entry))),
    };
    entries.iter().map(parse).collect()
}

fn setting_parse(raw: wit::Setting) -> Result<SettingSpec, String> {
    let key_bytes = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if raw.key.is_empty() || raw.key.len() > NAME_CHARS_MAX || !raw.key.bytes().all(key_bytes) {
        return Err(format!(
            "setting key {:?} is not of lower-case letters, digits and underscores",
            shortened(&raw.key)
        ));
    }
    let key = raw.key;
    sentence_check(&format!("the help of setting \"{key}\""), &raw.help)?;
    let kind = match raw.kind {
        wit::SettingKind::Text => SettingKind::Text,
        wit::SettingKind::Integer => SettingKind::Integer,
        wit::SettingKind::Boolean => SettingKind::Boolean,
        wit::SettingKind::Url => SettingKind::Url,
        wit::SettingKind::Link => SettingKind::Link,
    };
    let default = match raw.default {
        None => None,
        Some(_) if raw.required => return Err(format!("setting \"{key}\" is required and has a default")),
        Some(text) if text.chars().count() > TEXT_CHARS_MAX => {
            return Err(format!(
                "the default of setting \"{key}\" has more than {TEXT_CHARS_MAX} characters"
            ));
        }
        Some(text) if !text::is_plain(&text) => {
            return Err(format!("the default of setting \"{key}\" has control characters"));
        }
        Some(text) => Some(
            setting_text(kind, &SettingValue::Text(text))
                .map_err(|_| format!("the default of setting \"{key}\" is not {}", kind.name()))?,
        ),
    };
    if raw.replaces.len() > HOSTS_MAX {
        return Err(format!("setting \"{key}\" replaces more than {HOSTS_MAX} hosts"));
    }
    let replaces = hosts_parse(&raw.replaces)?;
    let (required, secret, help) = (raw.required, raw.secret, raw.help);
    Ok(SettingSpec { key, kind, required, secret, default, help, replaces })
}

/// One line of bounded length, because it goes to terminals and logs.
fn sentence_check(what: &str, text: &str) -> Result<(), String> {
    if text.chars().count() > TEXT_CHARS_MAX || !text::is_plain(text) {
        return Err(format!("{what} is not one line of at most {TEXT_CHARS_MAX} printable characters"));
    }
    Ok(())
}

fn shortened(text: &str) -> String {
    text.chars().take(NAME_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> wit::Description {
        wit::Description {
            name: "sample-2".to_owned(),
            version: "1.2.3-rc.1".to_owned(),
            summary: "A sample.".to_owned(),
            settings: vec![wit::Setting {
                key: "base_url".to_owned(),
                kind: wit::SettingKind::Url,
                required: false,
                secret: false,
                default: Some("https://a.com".to_owned()),
                help: "Where.".to_owned(),
                replaces: vec!["A.com".to_owned()],
            }],
            hosts: vec!["a.com".to_owned()],
        }
    }

    fn refused(change: impl FnOnce(&mut wit::Description)) -> String {
        let mut raw = raw();
        change(&mut raw);
        Description::parse(raw).expect_err("must be refused")
    }

    #[test]
    fn a_description_within_bounds_is_taken() {
        assert!(Description::parse(raw()).is_ok());
        let mut at_the_bound = raw();
        at_the_bound.summary = "é".repeat(TEXT_CHARS_MAX);
        at_the_bound.hosts = vec!["a.com".to_owned(); HOSTS_MAX];
        assert!(Description::parse(at_the_bound).is_ok());
    }

    #[test]
    fn a_description_outside_bounds_is_refused_by_name() {
        assert!(refused(|d| d.name = "Sample".to_owned()).contains("kebab-case"));
        assert!(refused(|d| d.name = "a--b".to_owned()).contains("kebab-case"));
        assert!(refused(|d| d.name = "a".repeat(65)).contains("kebab-case"));
        assert!(refused(|d| d.version = "1.2".to_owned()).contains("semantic version"));
        assert!(refused(|d| d.summary = "x".repeat(TEXT_CHARS_MAX + 1)).contains("summary"));
        assert!(refused(|d| d.summary = "a\u{1b}[31m".to_owned()).contains("summary"));
        assert!(refused(|d| d.summary = "a\u{202e}b".to_owned()).contains("summary"));
        assert!(refused(|d| d.settings[0].help = "a\nb".to_owned()).contains("help"));
        assert!(refused(|d| d.settings[0].default = Some("\u{2066}a".to_owned())).contains("control"));
        assert!(refused(|d| d.hosts = vec!["a.com".to_owned(); HOSTS_MAX + 1]).contains("hosts"));
        assert!(refused(|d| d.hosts = vec!["https://a.com".to_owned()]).contains("http://"));
        assert!(
            refused(|d| d.settings[0].replaces = vec!["b.com".to_owned()]).contains("not among the hosts")
        );
        assert!(
            refused(|d| d.settings[0].replaces = vec!["a.com".to_owned(); HOSTS_MAX + 1])
                .contains("replaces")
        );
        assert!(refused(|d| d.settings[0].key = "Base".to_owned()).contains("setting key"));
        assert!(refused(|d| d.settings[0].default = Some("a.com".to_owned())).contains("default"));
        assert!(refused(|d| d.settings[0].required = true).contains("required"));
        assert!(refused(|d| d.settings.push(d.settings[0].clone())).contains("twice"));
        assert!(refused(|d| d.settings = vec![d.settings[0].clone(); SETTINGS_MAX + 1]).contains("settings"));
    }
}
