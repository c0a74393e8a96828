//! `[bus]`: the server over which gateways that share a store tell each other news.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::read::Checker;
use crate::{Config, Loaded, Problems, SettingSource, StoreEngine};

/// `[bus]`: read at start. With an address, several gateways may use one database at the same time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bus {
    /// A Valkey or Redis server: `redis://USER:PASSWORD@HOST:PORT/`, or `rediss://` for TLS.
    pub url: Option<SettingSource>,
    /// Certificates of the authorities that may have signed the server's, in PEM; relative to the configuration file.
    /// Without it those of the system are accepted.
    pub ca_file: Option<PathBuf>,
}

/// A checked `[bus]` with an address.
#[derive(Clone, PartialEq, Eq)]
pub struct BusPlace {
    /// With the password: not for logs.
    pub url: String,
    /// The content of `bus.ca_file`.
    pub authorities: Option<Vec<u8>>,
}

const ADDRESS: &str = "must be redis://HOST:PORT/, or rediss://HOST:PORT/ for TLS";

impl Loaded {
    /// Where the bus is; `None` when this gateway is alone.
    ///
    /// # Errors
    ///
    /// The source of `bus.url` is missing, what it holds is no address, or `bus.ca_file` cannot be read.
    pub fn bus_place(&self) -> Result<Option<BusPlace>, Problems> {
        let Some(source) = &self.config.bus.url else { return Ok(None) };
        let refuse =
            |what: &str| Problems(vec![self.source.problem("bus.url", Some(format!("{source:?}")), what)]);
        let url = self.resolve(source).map_err(|what| refuse(&what))?;
        let schemes = ["redis://", "rediss://", "unix://", "redis+unix://"];
        if !schemes.iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme)) {
            return Err(refuse(ADDRESS));
        }
        let Some(file) = &self.config.bus.ca_file else {
            return Ok(Some(BusPlace { url, authorities: None }));
        };
        let refuse =
            |what: &str| Problems(vec![self.source.problem("bus.ca_file", Some(format!("{file:?}")), what)]);
        if !url.starts_with("rediss://") {
            return Err(refuse("is of use with rediss:// only: the address in bus.url asks for no TLS"));
        }
        let path = self.source.path.parent().unwrap_or(Path::new("")).join(file);
        let read = std::fs::read(&path);
        let authorities = read.map_err(|error| refuse(&format!("{}: {error}", path.display())))?;
        Ok(Some(BusPlace { url, authorities: Some(authorities) }))
    }
}

impl Checker<'_> {
    pub(crate) fn check_bus(&mut self, config: &Config) {
        let Some(source) = &config.bus.url else {
            if let Some(file) = &config.bus.ca_file {
                let accepted = "needs bus.url with rediss://HOST:PORT/";
                self.refuse("bus.ca_file", format!("{file:?}"), accepted);
            }
            return;
        };
        let found = || format!("{source:?}");
        if config.store.engine == StoreEngine::Sled {
            let accepted =
                "needs store.engine = \"postgres\": gateways on an embedded database share nothing";
            self.refuse("bus.url", found(), accepted);
        } else if matches!(source, SettingSource::Integer(_) | SettingSource::Boolean(_)) {
            self.refuse("bus.url", found(), ADDRESS);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> Result<Option<String>, String> {
        let loaded =
            Config::parse(Path::new("config.toml"), text.into()).map_err(|error| error.to_string())?;
        Ok(loaded.bus_place().map_err(|error| error.to_string())?.map(|place| place.url))
    }

    const STORE: &str = "[store]\nengine = \"postgres\"\nurl = \"postgres://localhost/app\"\n";

    #[test]
    fn a_gateway_is_alone_without_a_word() {
        assert_eq!(read(""), Ok(None));
        assert_eq!(read(STORE), Ok(None));
    }

    #[test]
    fn a_server_is_taken_with_and_without_tls() {
        for address in ["redis://localhost:6379/", "rediss://user:pw@bus.internal/"] {
            assert_eq!(read(&format!("{STORE}[bus]\nurl = \"{address}\"\n")), Ok(Some(address.to_owned())));
        }
    }

    #[test]
    fn what_cannot_be_shared_is_refused_at_its_line() {
        for (text, line, reason) in [
            ("[bus]\nurl = \"redis://localhost/\"\n".to_owned(), 2, "needs store.engine"),
            (format!("{STORE}[bus]\nurl = \"localhost:6379\"\n"), 5, "must be redis://"),
            (format!("{STORE}[bus]\nurl = {{ env = \"CHELSERU_NO_SUCH\" }}\n"), 5, "is not set"),
            (format!("{STORE}[bus]\nurl = 7\n"), 5, "must be redis://"),
            ("[bus]\nca_file = \"ca.pem\"\n".to_owned(), 2, "needs bus.url"),
            (
                format!("{STORE}[bus]\nurl = \"redis://localhost/\"\nca_file = \"ca.pem\"\n"),
                6,
                "with rediss:// only",
            ),
            (
                format!("{STORE}[bus]\nurl = \"rediss://localhost/\"\nca_file = \"no-such.pem\"\n"),
                6,
                "no-such.pem",
            ),
            (format!("{STORE}[bus]\nuri = \"redis://localhost/\"\n"), 5, "url"),
        ] {
            let error = read(&text).expect_err(&text);
            assert!(error.contains(&format!("config.toml:{line}")) && error.contains(reason), "{error}");
        }
    }
}
