//! `[store]`: the database of everything that must last.

use serde::{Deserialize, Serialize};

use crate::read::Checker;
use crate::{Config, Loaded, Problems, SettingSource};

/// `[store]`: read at start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    pub engine: StoreEngine,
    /// A PostgreSQL address: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, or a list of `key=value` pairs. The
    /// password is better kept in the environment or a file.
    pub url: Option<SettingSource>,
    /// Connections to the server, 4 to 500.
    pub connections_max: u32,
}

impl Default for Store {
    fn default() -> Self {
        Store { engine: StoreEngine::Sled, url: None, connections_max: 16 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreEngine {
    /// An embedded database in `data.dir`; needs no server.
    Sled,
    /// A PostgreSQL server, 13 or later.
    Postgres,
}

/// A checked `[store]`.
#[derive(Clone, PartialEq, Eq)]
pub enum StorePlace {
    /// In the data folder.
    Folder,
    Postgres {
        /// With the password: not for logs.
        url: String,
        connections_max: u32,
    },
}

impl Loaded {
    /// Where the store is.
    ///
    /// # Errors
    ///
    /// The source of `store.url` is missing, or what it holds is no address.
    pub fn store_place(&self) -> Result<StorePlace, Problems> {
        let store = &self.config.store;
        let Some(source) = store.url.as_ref().filter(|_| store.engine == StoreEngine::Postgres) else {
            return Ok(StorePlace::Folder);
        };
        let refuse =
            |what: &str| Problems(vec![self.source.problem("store.url", Some(format!("{source:?}")), what)]);
        let url = self.resolve(source).map_err(|what| refuse(&what))?;
        match is_address(&url) {
            true => Ok(StorePlace::Postgres { url, connections_max: store.connections_max }),
            false => Err(refuse(ADDRESS)),
        }
    }
}

const ADDRESS: &str =
    "must be postgres://USER:PASSWORD@HOST:PORT/DATABASE or \"host=... user=... dbname=...\"";

/// Whether a text has the form of an address. The engine reads the rest of it.
fn is_address(text: &str) -> bool {
    let scheme = ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    match scheme {
        Some(rest) => !rest.is_empty(),
        None => !text.contains("://") && text.split_whitespace().any(|pair| pair.starts_with("host=")),
    }
}

impl Checker<'_> {
    pub(crate) fn check_store(&mut self, config: &Config) {
        let store = &config.store;
        self.range("store.connections_max", u64::from(store.connections_max), 4, 500);
        match (store.engine, &store.url) {
            (StoreEngine::Sled, Some(source)) => {
                let accepted =
                    "belongs to engine = \"postgres\"; the embedded engine is a folder in data.dir";
                self.refuse("store.url", format!("{source:?}"), accepted);
            }
            (StoreEngine::Postgres, None) => {
                let accepted = "needs store.url, such as url = { env = \"DATABASE_URL\" }";
                self.refuse("store.engine", "\"postgres\"".to_owned(), accepted);
            }
            (StoreEngine::Postgres, Some(SettingSource::Integer(_) | SettingSource::Boolean(_))) => {
                self.refuse("store.url", format!("{:?}", store.url), ADDRESS);
            }
            (StoreEngine::Sled, None) | (StoreEngine::Postgres, Some(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> Result<StorePlace, String> {
        let loaded =
            Config::parse(Path::new("config.toml"), text.into()).map_err(|error| error.to_string())?;
        loaded.store_place().map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_word_the_store_is_a_folder() {
        assert!(matches!(read(""), Ok(StorePlace::Folder)));
    }

    #[test]
    fn an_address_is_taken_in_both_forms() {
        for address in
            ["postgres://app:pw@db.internal/chelseru", "host=/run/postgresql user=app dbname=chelseru"]
        {
            let place = read(&format!("[store]\nengine = \"postgres\"\nurl = \"{address}\"\n"));
            let Ok(StorePlace::Postgres { url, connections_max: 16 }) = place else {
                panic!("{address} is refused")
            };
            assert_eq!(url, address);
        }
    }

    #[test]
    fn half_a_choice_is_refused_at_its_line() {
        for (text, line, reason) in [
            ("[store]\nengine = \"postgres\"\n", 2, "needs store.url"),
            ("[store]\nurl = \"postgres://localhost/app\"\n", 2, "belongs to engine"),
            ("[store]\nengine = \"postgres\"\nurl = \"mysql://localhost/app\"\n", 3, "must be postgres://"),
            ("[store]\nengine = \"postgres\"\nurl = { env = \"CHELSERU_NO_SUCH\" }\n", 3, "is not set"),
            ("[store]\nengine = \"mysql\"\n", 2, "postgres"),
            ("[store]\nconnections_max = 1\n", 2, "4 to 500"),
        ] {
            let error = read(text).err().expect("refused");
            assert!(error.contains(&format!("config.toml:{line}")) && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_refusal_does_not_repeat_the_password() {
        let error = read("[store]\nurl = \"postgres://app:hunter2@localhost/app\"\n").err().expect("refused");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
