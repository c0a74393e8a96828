//! A value in the file, in the environment or in a file of its own.

use std::path::{Path, PathBuf};

use serde::de::{Error as _, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A setting's value or its source.
#[derive(Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum SettingSource {
    /// `{ env = "NAME" }`: a variable of the gateway's environment.
    Env {
        env: String,
    },
    /// `{ file = "path" }`: relative to the configuration file; a trailing line break is dropped.
    File {
        file: PathBuf,
    },
    Text(String),
    Integer(i64),
    Boolean(bool),
}

impl<'de> Deserialize<'de> for SettingSource {
    /// Written by hand, because a derived untagged enum also accepts lists, and its error would repeat a possible
    /// secret.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SourceVisitor;
        impl<'de> Visitor<'de> for SourceVisitor {
            type Value = SettingSource;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text, a whole number, true, false, { env = \"NAME\" } or { file = \"path\" }")
            }

            fn visit_str<E>(self, text: &str) -> Result<SettingSource, E> {
                Ok(SettingSource::Text(text.to_owned()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<SettingSource, E> {
                Ok(SettingSource::Integer(number))
            }

            fn visit_bool<E>(self, fact: bool) -> Result<SettingSource, E> {
                Ok(SettingSource::Boolean(fact))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SettingSource, A::Error> {
                let key: Option<String> = map.next_key()?;
                let source = match key.as_deref() {
                    Some("env") => SettingSource::Env { env: map.next_value()? },
                    Some("file") => SettingSource::File { file: map.next_value()? },
                    _ => return Err(A::Error::invalid_type(Unexpected::Map, &self)),
                };
                match map.next_key::<String>()? {
                    None => Ok(source),
                    Some(_) => Err(A::Error::invalid_type(Unexpected::Map, &self)),
                }
            }
        }
        deserializer.deserialize_any(SourceVisitor)
    }
}

impl std::fmt::Debug for SettingSource {
    /// Prints the source, never the value.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SettingSource::Env { env } => write!(f, "env {env}"),
            SettingSource::File { file } => write!(f, "file {}", file.display()),
            SettingSource::Text(_) => f.write_str("text"),
            SettingSource::Integer(_) => f.write_str("integer"),
            SettingSource::Boolean(_) => f.write_str("boolean"),
        }
    }
}

///
/// Errors: a sentence for the operator, when the variable or file is missing or empty.
pub(crate) fn resolve_setting(source: &SettingSource, config_file: &Path) -> Result<String, String> {
    let value = match source {
        SettingSource::Text(text) => text.clone(),
        SettingSource::Integer(number) => number.to_string(),
        SettingSource::Boolean(fact) => fact.to_string(),
        SettingSource::Env { env } => std::env::var(env)
            .map_err(|_| format!("the environment variable {env} is not set (or not text)"))?,
        SettingSource::File { file } => {
            let base = config_file.parent().unwrap_or(Path::new(""));
            let path = base.join(file);
            let text = std::fs::read_to_string(&path)
                .map_err(|error| format!("the file {} cannot be read: {error}", path.display()))?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    match (source, value.is_empty()) {
        (SettingSource::Env { env }, true) => Err(format!("the environment variable {env} is empty")),
        (SettingSource::File { file }, true) => Err(format!("the file {} is empty", file.display())),
        _ => Ok(value),
    }
}
