//! What an operator gives a plugin: settings, hosts and limits, and the check of all three against the plugin's
//! own description.
//!
//! Every mistake is found in one pass, so that a file with three of them needs one correction. After the check
//! the settings are text with defaults filled in, and every host that the plugin will call is granted.
//! Setting values never appear in an error or in `Debug` output, whether the plugin calls them secret or not.
//! Not here: reading configuration files (the embedder), and enforcing the limits (see `state`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::description::Description;
use crate::grants::{GrantHost, Grants, HostGrant};
use crate::limits::Limits;
use crate::setting::{SettingKind, SettingSpec, SettingValue, setting_text, url_parse};

/// One provider entry: a name, and what the plugin behind it gets.
#[derive(Clone, Debug)]
pub struct Binding {
    /// The entry's name, for logs and errors. Two entries may use the same plugin.
    pub name: String,
    /// The operator's settings, by key.
    pub settings: BTreeMap<String, SettingValue>,
    /// Granted hosts. `None` grants what the plugin asks for, public addresses only.
    pub hosts: Option<Vec<String>>,
    /// What each call may use.
    pub limits: Limits,
}

/// Why a plugin cannot work with what the operator gave it: every problem at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindError {
    /// The entry's name.
    pub name: String,
    /// At least one.
    pub problems: Vec<BindProblem>,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "provider {:?}: ", self.name)?;
        for (i, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for BindError {}

/// One thing that is wrong with a binding. No text holds a setting's value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindProblem {
    /// A required setting has no value.
    #[error("setting \"{key}\" is missing ({help})")]
    MissingSetting {
        /// The setting.
        key: String,
        /// The plugin's own explanation.
        help: String,
    },
    /// The plugin does not know the setting.
    #[error("setting \"{key}\" is unknown, accepted are: {}", accepted.join(", "))]
    UnknownSetting {
        /// The setting.
        key: String,
        /// Every key that the plugin describes.
        accepted: Vec<String>,
    },
    /// The value is not of the setting's kind.
    #[error("setting \"{key}\" must be {expected}, found {found}")]
    WrongKind {
        /// The setting.
        key: String,
        /// What the plugin describes.
        expected: &'static str,
        /// The kind of what is there.
        found: &'static str,
    },
    /// A granted host cannot be read.
    #[error("host {entry:?}: {reason}")]
    InvalidHost {
        /// The entry.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The plugin calls a host that the operator's list leaves out.
    #[error("host \"{host}\" is not granted, granted are: {granted}")]
    HostNotGranted {
        /// What the plugin asks for.
        host: String,
        /// The operator's list.
        granted: String,
    },
    /// A URL setting points at a host that is not granted.
    #[error("setting \"{key}\": {reason}, granted are: {granted}; name it under hosts")]
    UrlHostNotGranted {
        /// The setting.
        key: String,
        /// What is not granted.
        reason: String,
        /// The grants.
        granted: String,
    },
    /// A limit is out of its range.
    #[error("limit {limit} {reason}")]
    Limit {
        /// The limit's name.
        limit: &'static str,
        /// Its range.
        reason: String,
    },
}

/// A binding that passed every check.
pub(crate) struct Bound {
    /// Values as text, defaults filled in.
    pub(crate) settings: BTreeMap<String, String>,
    /// Values that must not reach a log.
    pub(crate) secrets: Vec<String>,
    pub(crate) grants: Grants,
}

/// Checks a binding against what the plugin says of itself.
pub(crate) fn check(
    description: &Description,
    memory_bytes_initial: usize,
    host_memory_bytes_max: usize,
    binding: &Binding,
) -> Result<Bound, BindError> {
    let mut problems = Vec::new();
    let limits = binding.limits.problems(host_memory_bytes_max);
    problems.extend(limits.into_iter().map(|(limit, reason)| BindProblem::Limit { limit, reason }));
    if memory_bytes_initial > binding.limits.memory_bytes_max {
        let reason = format!("is below the {memory_bytes_initial} bytes that the plugin starts with");
        problems.push(BindProblem::Limit { limit: "memory_bytes_max", reason });
    }

    // Checked when the plugin described itself, so that each of them parses.
    let asked: Vec<HostGrant> = description.hosts.iter().filter_map(|host| host.parse().ok()).collect();
    let (settings, secrets) = settings_check(description, binding, &mut problems);
    let grants = match &binding.hosts {
        None => Grants::public_only(asked.clone()),
        Some(entries) => {
            let mut parsed = Vec::with_capacity(entries.len());
            for entry in entries {
                match entry.parse() {
                    Ok(grant) => parsed.push(grant),
                    Err(reason) => problems.push(BindProblem::InvalidHost { entry: entry.clone(), reason }),
                }
            }
            Grants::by_operator(parsed)
        }
    };
    hosts_check(description, binding, &asked, &settings, &grants, &mut problems);

    if problems.is_empty() {
        Ok(Bound { settings, secrets, grants })
    } else {
        Err(BindError { name: binding.name.clone(), problems })
    }
}

fn settings_check(
    description: &Description,
    binding: &Binding,
    problems: &mut Vec<BindProblem>,
) -> (BTreeMap<String, String>, Vec<String>) {
    let mut settings = BTreeMap::new();
    let mut secrets = Vec::new();
    for spec in &description.settings {
        let value = match binding.settings.get(&spec.key) {
            Some(value) => match setting_text(spec.kind, value) {
                Ok(text) => Some(text),
                Err((expected, found)) => {
                    problems.push(BindProblem::WrongKind { key: spec.key.clone(), expected, found });
                    continue;
                }
            },
            None => spec.default.clone(),
        };
        match value {
            Some(text) => {
                if spec.secret {
                    secrets.push(text.clone());
                }
                settings.insert(spec.key.clone(), text);
            }
            None if spec.required => {
                let (key, help) = (spec.key.clone(), spec.help.clone());
                problems.push(BindProblem::MissingSetting { key, help });
            }
            None => {}
        }
    }
    for key in binding.settings.keys() {
        if !description.settings.iter().any(|spec| spec.key == *key) {
            let accepted = description.settings.iter().map(|spec| spec.key.clone()).collect();
            problems.push(BindProblem::UnknownSetting { key: key.clone(), accepted });
        }
    }
    (settings, secrets)
}

fn hosts_check(
    description: &Description,
    binding: &Binding,
    asked: &[HostGrant],
    settings: &BTreeMap<String, String>,
    grants: &Grants,
    problems: &mut Vec<BindProblem>,
) {
    let granted = match grants.entries() {
        [] => "none".to_owned(),
        entries => entries.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    // A host needs no grant when it is only the default of a URL setting that the operator replaced, or when the plugin
    // says so of a setting that the operator set.
    let set = description.settings.iter().filter(|spec| binding.settings.contains_key(&spec.key));
    let hosts = set.flat_map(|spec| &spec.replaces).filter_map(|host| host.parse::<HostGrant>().ok());
    let mut replaced: BTreeSet<GrantHost> = hosts.map(|grant| grant.host).collect();
    let urls = |spec: &&SettingSpec| spec.kind == SettingKind::Url;
    for spec in description.settings.iter().filter(urls) {
        let Some(value) = settings.get(&spec.key) else { continue };
        let Some(url) = url_parse(value) else { continue };
        if let Err(reason) = grants.check(&url) {
            let (key, granted) = (spec.key.clone(), granted.clone());
            problems.push(BindProblem::UrlHostNotGranted { key, reason, granted });
        }
        let default = spec.default.as_deref().filter(|d| d != value).and_then(url_parse);
        if let Some(host) = default.and_then(|url| HostGrant::of_url(&url)) {
            replaced.insert(host.host);
        }
    }
    for asked in asked {
        if !replaced.contains(&asked.host) && !grants.covers(asked) {
            let (host, granted) = (asked.to_string(), granted.clone());
            problems.push(BindProblem::HostNotGranted { host, granted });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn spec(key: &str, kind: SettingKind, required: bool, default: Option<&str>) -> SettingSpec {
        SettingSpec {
            key: key.to_owned(),
            kind,
            required,
            secret: key == "api_key",
            default: default.map(str::to_owned),
            help: format!("the {key}"),
            replaces: Vec::new(),
        }
    }

    fn description() -> Description {
        Description {
            name: "sample".to_owned(),
            version: semver::Version::new(1, 0, 0),
            summary: String::new(),
            settings: vec![
                spec("api_key", SettingKind::Text, true, None),
                spec("retries", SettingKind::Integer, false, Some("3")),
                spec("sandbox", SettingKind::Boolean, false, None),
                spec("base_url", SettingKind::Url, false, Some("https://api.example.com")),
            ],
            hosts: vec!["api.example.com".to_owned()],
        }
    }

    fn bind(settings: &[(&str, SettingValue)], hosts: Option<&[&str]>) -> Result<Bound, Vec<BindProblem>> {
        let binding = Binding {
            name: "SAMPLE".to_owned(),
            settings: settings.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
            hosts: hosts.map(|h| h.iter().map(|e| (*e).to_owned()).collect()),
            limits: Limits::default(),
        };
        check(&description(), 0, 64 << 20, &binding).map_err(|e| e.problems)
    }

    #[test]
    fn defaults_are_filled_in_and_values_become_text() {
        let bound = bind(&[("api_key", "k".into()), ("sandbox", true.into())], None)
            .unwrap_or_else(|error| panic!("{error:?}"));
        let settings: Vec<(&str, &str)> =
            bound.settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let expected = [
            ("api_key", "k"),
            ("base_url", "https://api.example.com"),
            ("retries", "3"),
            ("sandbox", "true"),
        ];
        assert_eq!(settings, expected);
        assert_eq!(bound.secrets, ["k"]);
    }

    #[test]
    fn every_mistake_is_listed_at_once_and_no_value_is_shown() {
        let problems =
            bind(&[("retries", "many-s3cret".into()), ("colour", "red-s3cret".into())], Some(&["a b"]))
                .err()
                .expect("does not bind");
        let text = BindError { name: "SAMPLE".to_owned(), problems }.to_string();
        for part in [
            "provider \"SAMPLE\"",
            "setting \"api_key\" is missing (the api_key)",
            "setting \"retries\" must be a whole number that is not negative, found text",
            "setting \"colour\" is unknown, accepted are: api_key, retries, sandbox, base_url",
            "host \"a b\":",
            "host \"api.example.com\" is not granted",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
        assert!(!text.contains("s3cret"), "{text}");
    }

    #[test]
    fn an_integer_is_not_negative_and_may_come_as_text() {
        let key = ("api_key", SettingValue::from("k"));
        assert!(bind(&[key.clone(), ("retries", SettingValue::Integer(-1))], None).is_err());
        assert!(bind(&[key.clone(), ("retries", SettingValue::Integer(0))], None).is_ok());
        let bound = bind(&[key, ("retries", "07".into())], None).unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(bound.settings["retries"], "7");
    }

    #[test]
    fn a_url_setting_needs_its_host_granted() {
        let settings =
            |url: &str| [("api_key", SettingValue::from("k")), ("base_url", SettingValue::from(url))];
        let asks = bind(&settings("https://relay.example.org/x"), None).err().expect("not granted");
        assert!(
            matches!(&asks[..], [BindProblem::UrlHostNotGranted { key, .. }] if key == "base_url"),
            "{asks:?}"
        );
        // The relay replaces the default host, which then needs no grant.
        assert!(bind(&settings("https://relay.example.org/x"), Some(&["relay.example.org"])).is_ok());
        assert!(bind(&settings("http://127.0.0.1:9001"), Some(&["127.0.0.1:9001"])).is_ok());
        assert!(bind(&settings("http://127.0.0.1:9002"), Some(&["127.0.0.1:9001"])).is_err());
        assert!(bind(&settings("ftp://relay.example.org"), Some(&["relay.example.org"])).is_err());
    }

    #[test]
    fn a_link_needs_no_grant_and_is_a_url() {
        let mut described = description();
        described.settings.push(spec("payer_url", SettingKind::Link, false, None));
        let bind = |url: &str| {
            let settings = [("api_key", "k"), ("payer_url", url)];
            let binding = Binding {
                name: "SAMPLE".to_owned(),
                settings: settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect(),
                hosts: None,
                limits: Limits::default(),
            };
            check(&described, 0, 64 << 20, &binding).is_ok()
        };
        assert!(bind("https://pay.example.org/start"));
        assert!(!bind("pay.example.org"));
    }

    #[test]
    fn a_relay_for_several_hosts_needs_one_grant() {
        let mut described = description();
        described.hosts.push("old.example.com".to_owned());
        described.settings[3].default = None;
        described.settings[3].replaces = described.hosts.clone();
        let bind = |url: Option<&str>, hosts: &[&str]| {
            let settings = [("api_key", Some("k")), ("base_url", url)];
            let settings =
                settings.iter().filter_map(|(key, value)| Some(((*key).to_owned(), (*value)?.into())));
            let binding = Binding {
                name: "SAMPLE".to_owned(),
                settings: settings.collect(),
                hosts: Some(hosts.iter().map(|host| (*host).to_owned()).collect()),
                limits: Limits::default(),
            };
            check(&described, 0, 64 << 20, &binding).map_err(|error| error.to_string())
        };
        let relay = Some("https://relay.example.org/x");
        assert!(bind(relay, &["relay.example.org"]).is_ok());
        assert!(bind(relay, &["api.example.com"]).is_err(), "the relay itself needs its grant");
        let refused = bind(None, &["relay.example.org"]).err().expect("nothing is replaced");
        assert!(refused.contains("api.example.com") && refused.contains("old.example.com"), "{refused}");
    }

    #[test]
    fn a_host_that_the_plugin_asks_for_must_be_in_the_operators_list() {
        let problems =
            bind(&[("api_key", "k".into())], Some(&["other.example.com"])).err().expect("not granted");
        assert!(
            problems
                .iter()
                .any(|p| matches!(p, BindProblem::HostNotGranted { host, .. } if host == "api.example.com"))
        );
    }

    #[test]
    fn limits_have_a_range() {
        let mut binding = Binding {
            name: "SAMPLE".to_owned(),
            settings: BTreeMap::from([("api_key".to_owned(), "k".into())]),
            hosts: None,
            limits: Limits { memory_bytes_max: 64 << 20, ..Limits::default() },
        };
        assert!(check(&description(), 64 << 20, 64 << 20, &binding).is_ok());
        assert!(check(&description(), (64 << 20) + 1, 64 << 20, &binding).is_err());
        binding.limits.memory_bytes_max += 1;
        assert!(check(&description(), 0, 64 << 20, &binding).is_err());
        binding.limits = Limits { concurrency_max: 0, cpu_time_max: Duration::ZERO, ..Limits::default() };
        assert_eq!(check(&description(), 0, 64 << 20, &binding).err().map(|e| e.problems.len()), Some(2));
    }

    #[test]
    fn debug_output_of_a_binding_shows_no_value() {
        let binding = Binding {
            name: "SAMPLE".to_owned(),
            settings: BTreeMap::from([("api_key".to_owned(), "s3cret".into())]),
            hosts: None,
            limits: Limits::default(),
        };
        assert!(!format!("{binding:?}").contains("s3cret"));
    }
}
