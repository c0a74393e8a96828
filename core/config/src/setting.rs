//! A value in the file, in the environment or in a file of its own.

use std::fs::File;
use std::io::{self, Read};
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
            let text = read_without_waiting(&path)
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

/// Longest text of a file that is one value.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads what is there now: a pipe without a writer is empty, and nobody waits for one. A reload reads it, too.
fn read_without_waiting(path: &Path) -> io::Result<String> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0),
    );
    let mut text = String::new();
    options.open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than 1 MiB for one value"));
    }
    Ok(text)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_and_a_large_file_are_no_value_and_nobody_waits() {
        let dir = tempfile::tempdir().expect("a folder");
        let read = |name: &str| {
            let source = SettingSource::File { file: name.into() };
            resolve_setting(&source, &dir.path().join("config.toml"))
        };
        let made = std::process::Command::new("mkfifo").arg(dir.path().join("pipe")).status();
        assert!(made.expect("mkfifo runs").success());
        assert_eq!(read("pipe"), Err("the file pipe is empty".to_owned()));
        std::fs::write(dir.path().join("key"), "value\r\n").expect("written");
        assert_eq!(read("key"), Ok("value".to_owned()));
        std::fs::write(dir.path().join("large"), "x".repeat(1024 * 1024 + 1)).expect("written");
        assert!(read("large").expect_err("too large").ends_with("more than 1 MiB for one value"));
    }
}
