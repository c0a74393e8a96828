//! Connections: the address, TLS, time-outs, and one sentence for each reason why there is none.
//!
//! An address is a URL or a key-value text as libpq takes it; several hosts are tried in turn, for a primary that
//! moves. Everything but loopback and Unix sockets uses TLS, and the server's certificate is always verified, against
//! the system's roots or `sslrootcert`; `sslmode=disable` turns both off.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, QueueMode, RecyclingMethod};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{StoreError, StoreOptions};

/// The schema of all tables.
pub(crate) const SCHEMA: &str = "chelseru";

/// The oldest server whose `pg_xact_status` and transaction ids are used here, as `server_version_num`.
const VERSION_MIN: u32 = 130_000;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A silent peer is noticed within about 25 s, by the gateway and by the server: when the machine of a gateway is gone,
/// its lock stays until the server notices. By the defaults of its system a server asks after two hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// Most time that a statement waits for another change's lock; the change then answers [`StoreError::Busy`].
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// A transaction whose gateway fell silent is ended after this, so that its locks do not stay.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the database is, and how to get there.
#[derive(Clone)]
pub(crate) struct Address {
    config: Config,
    tls: MakeRustlsConnect,
    /// The file of the accepted authorities; `None` for those of the system.
    roots: Option<String>,
}

/// Without the password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.config.get_ports();
        for (n, host) in self.config.get_hosts().iter().enumerate() {
            let port = ports.get(n).or(ports.first()).copied().unwrap_or(5432);
            let comma = if n == 0 { "" } else { "," };
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}:{port}")?,
                #[cfg(unix)]
                Host::Unix(path) => write!(f, "{comma}{}:{port}", path.display())?,
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

impl Address {
    /// # Errors
    ///
    /// [`StoreError::Database`] for a text that is no address, and for certificates that cannot be read.
    pub(crate) fn parse(url: &str) -> Result<Address, StoreError> {
        let (url, tls) = take_tls(url);
        let mut config = Config::from_str(&url).map_err(|error| StoreError::Database {
            reason: format!("the address of the database is not valid: {}", reason(&error)),
        })?;
        let user = config.get_user().unwrap_or("chelseru").to_owned();
        config.user(&user);
        if config.get_dbname().is_none() {
            config.dbname(&user);
        }
        let near = config.get_hosts().iter().all(is_near);
        config.ssl_mode(match tls.mode.as_deref() {
            Some("disable") => SslMode::Disable,
            None if near => SslMode::Disable,
            _ => SslMode::Require,
        });
        if config.get_application_name().is_none() {
            config.application_name("chelseru");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(SILENCE_MAX)
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        let settings = format!(
            "-c search_path={SCHEMA} -c lock_timeout={} -c idle_in_transaction_session_timeout={} -c timezone=UTC \
             -c tcp_keepalives_idle={} -c tcp_keepalives_interval={} -c tcp_keepalives_count={} -c tcp_user_timeout={}",
            LOCK_TIMEOUT.as_millis(),
            IDLE_TIMEOUT.as_millis(),
            KEEPALIVE_IDLE.as_secs(),
            KEEPALIVE_INTERVAL.as_secs(),
            KEEPALIVE_RETRIES,
            SILENCE_MAX.as_millis()
        );
        let own = config.get_options().map(|own| format!("{own} ")).unwrap_or_default();
        config.options(format!("{own}{settings}"));
        let connector = connector(tls.roots.as_deref())?;
        Ok(Address { config, tls: connector, roots: tls.roots })
    }

    /// A connection of its own, outside the pool, and the task that drives it on the runtime. The task ends with the
    /// connection.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`] when a retry cannot help; [`StoreError::Unavailable`] when it can.
    pub(crate) async fn connect(&self, runtime: &Handle) -> Result<(Client, JoinHandle<()>), StoreError> {
        let (config, tls, driver) = (self.config.clone(), self.tls.clone(), runtime.clone());
        let connecting = runtime.spawn(async move {
            let (client, connection) = config.connect(tls).await?;
            let task = driver.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(reason = reason(&error), "a connection to the database ended");
                }
            });
            Ok::<_, tokio_postgres::Error>((client, task))
        });
        match connecting.await {
            Ok(Ok(connected)) => Ok(connected),
            Ok(Err(error)) => Err(self.refusal(&error)),
            Err(_) => Err(StoreError::Closed),
        }
    }

    /// Refuses a server that lacks what this engine needs.
    pub(crate) async fn check(&self, client: &Client) -> Result<(), StoreError> {
        let row = client.query_one("select current_setting('server_version_num')::int, version()", &[]).await;
        let row = row.map_err(|error| self.refusal(&error))?;
        let found = u32::try_from(row.get::<_, i32>(0)).unwrap_or(0);
        if found < VERSION_MIN {
            let reason = format!(
                "the server at {self} is PostgreSQL {}; version 13 or later is needed",
                found / 10_000
            );
            return Err(StoreError::Database { reason });
        }
        Ok(())
    }

    /// One sentence: what is wrong, and what to do where that is known.
    pub(crate) fn refusal(&self, error: &tokio_postgres::Error) -> StoreError {
        let user = self.config.get_user().unwrap_or_default();
        let database = self.config.get_dbname().unwrap_or_default();
        let cure = match error.code() {
            Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
                format!("the server at {self} refuses user {user:?}; check the user and the password")
            }
            Some(&SqlState::INVALID_CATALOG_NAME) => {
                format!("the server at {self} has no database {database:?}; create it (createdb {database})")
            }
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => format!(
                "user {user:?} lacks rights in database {database:?} at {self}: {}; \
                 run: grant create, connect on database {database:?} to {user:?}",
                reason(error)
            ),
            _ => match distrust(error) {
                Some(distrust) => {
                    format!("the database at {self} cannot be reached over TLS: {}", self.cure(&distrust))
                }
                None => {
                    let reason = format!("the database at {self} cannot be reached: {}", reason(error));
                    return StoreError::Unavailable { reason };
                }
            },
        };
        StoreError::Database { reason: cure }
    }

    /// What to do about a connection that is not trusted.
    fn cure(&self, distrust: &Distrust) -> String {
        match distrust {
            Distrust::NoTls => {
                "the server offers none; set ssl = on in its postgresql.conf, or sslmode=disable in \
                                store.url if nobody can listen on the way"
                    .to_owned()
            }
            Distrust::Issuer => format!(
                "its certificate is not signed by {}; set sslrootcert=FILE in store.url to the certificate of the \
                 authority that signed it",
                self.roots
                    .as_deref()
                    .map_or("an authority of this system".to_owned(), |file| format!("{file:?}"))
            ),
            Distrust::Name => {
                "its certificate is for another host; use the host name that the certificate has in \
                               store.url, or give the server a certificate for this one"
                    .to_owned()
            }
            Distrust::Other(reason) => format!("{reason}; renew or replace the certificate of the server"),
        }
    }
}

/// Why a connection is not trusted. Trying again does not help.
#[derive(Debug, PartialEq, Eq)]
enum Distrust {
    /// The server speaks no TLS.
    NoTls,
    /// No accepted authority signed the certificate.
    Issuer,
    /// The certificate is of another host.
    Name,
    /// The certificate is refused for another reason, such as its age.
    Other(String),
}

/// The reason in an error of connecting, if trust is the reason.
fn distrust(error: &tokio_postgres::Error) -> Option<Distrust> {
    use rustls::CertificateError as Refused;

    let mut cause = error.source();
    while let Some(error) = cause {
        // An `io::Error` names its inner error's source as its own, and not the inner error.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let found = inner.map_or_else(|| error.downcast_ref(), |inner| inner.downcast_ref());
        match found {
            Some(rustls::Error::InvalidCertificate(
                Refused::UnknownIssuer | Refused::BadSignature | Refused::InvalidPurpose,
            )) => {
                return Some(Distrust::Issuer);
            }
            Some(rustls::Error::InvalidCertificate(
                Refused::NotValidForName | Refused::NotValidForNameContext { .. },
            )) => {
                return Some(Distrust::Name);
            }
            Some(other @ rustls::Error::InvalidCertificate(_)) => {
                return Some(Distrust::Other(other.to_string()));
            }
            _ => {}
        }
        // The client library has a text for it and no type.
        if error.to_string() == "server does not support TLS" {
            return Some(Distrust::NoTls);
        }
        cause = error.source();
    }
    None
}

/// The bounded pool. It opens connections when they are needed, and drops broken ones. The last one that was used is
/// used first: its server process has everything at hand, and those of a busy hour sleep afterwards.
pub(crate) fn pool(address: &Address, runtime: &Handle, options: &StoreOptions) -> Result<Pool, StoreError> {
    let connect = Driven { address: address.clone(), runtime: runtime.clone() };
    let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_connect(address.config.clone(), connect, config);
    Pool::builder(manager)
        .max_size(options.connections_max.max(1))
        .runtime(deadpool_postgres::Runtime::Tokio1)
        .queue_mode(QueueMode::Lifo)
        .wait_timeout(Some(options.connection_wait))
        .create_timeout(Some(options.connection_wait.max(CONNECT_TIMEOUT)))
        .build()
        .map_err(|error| StoreError::Database { reason: error.to_string() })
}

/// Connections of the pool live on the store's runtime, not on that of whoever needed the first one.
struct Driven {
    address: Address,
    runtime: Handle,
}

impl deadpool_postgres::Connect for Driven {
    fn connect(
        &self,
        config: &Config,
    ) -> futures_util::future::BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        let (config, tls, runtime) = (config.clone(), self.address.tls.clone(), self.runtime.clone());
        Box::pin(async move {
            let driver = runtime.clone();
            let connecting = runtime.spawn(async move {
                let (client, connection) = config.connect(tls).await?;
                let task = driver.spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(reason = reason(&error), "a connection to the database ended");
                    }
                });
                Ok((client, task))
            });
            match connecting.await {
                Ok(connected) => connected,
                Err(ended) => std::panic::resume_unwind(ended.into_panic()),
            }
        })
    }
}

/// What libpq's addresses say about TLS and tokio-postgres does not know.
#[derive(Default)]
struct Tls {
    mode: Option<String>,
    roots: Option<String>,
}

/// Takes `sslmode` and `sslrootcert` out of an address.
fn take_tls(address: &str) -> (String, Tls) {
    let mut tls = Tls::default();
    let mut take = |pair: &str| {
        let Some((key, value)) = pair.split_once('=') else { return true };
        match key.trim() {
            "sslmode" => tls.mode = Some(value.trim().to_owned()),
            "sslrootcert" => tls.roots = Some(value.trim().replace("%2F", "/").replace("%2f", "/")),
            _ => return true,
        }
        false
    };
    let address = if let Some((before, query)) = address.split_once('?') {
        let kept: Vec<_> = query.split('&').filter(|pair| take(pair)).collect();
        if kept.is_empty() { before.to_owned() } else { format!("{before}?{}", kept.join("&")) }
    } else if address.contains("://") {
        address.to_owned()
    } else {
        address.split(' ').filter(|pair| take(pair)).collect::<Vec<_>>().join(" ")
    };
    (address, tls)
}

/// Whether nobody can stand between.
fn is_near(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

fn connector(roots: Option<&str>) -> Result<MakeRustlsConnect, StoreError> {
    let refused = |reason: String| StoreError::Database { reason };
    let mut store = rustls::RootCertStore::empty();
    match roots {
        Some(file) => {
            let unreadable = |error: &dyn fmt::Display| refused(format!("sslrootcert {file:?}: {error}"));
            for root in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))? {
                let root = root.map_err(|error| unreadable(&error))?;
                store.add(root).map_err(|error| unreadable(&error))?;
            }
            if store.is_empty() {
                return Err(unreadable(&"it holds no certificate"));
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(error.to_string()))?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// An error and its causes in one line.
pub(crate) fn reason(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use chelseru_postgres_server::server;

    use super::*;
    use crate::engine::postgres::server::Database;

    /// Over a socket of the machine the settings say 0, and nothing is needed.
    #[tokio::test]
    async fn a_server_asks_a_silent_gateway_whether_it_is_there() {
        let Some(server) = server() else { return };
        let database = Database::new();
        server.run("create role caller login password 'pass-word'");
        let url = format!("postgres://caller:pass-word@127.0.0.1:{}/{}", server.port(), database.name);
        let (client, _task) = Address::parse(&url).unwrap().connect(&Handle::current()).await.unwrap();
        for (setting, value) in [
            ("tcp_keepalives_idle", "10"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
            ("tcp_user_timeout", "20000"),
        ] {
            let row = client.query_one("select current_setting($1)", &[&setting]).await.unwrap();
            assert_eq!(row.get::<_, String>(0), value, "{setting}");
        }
        drop(client);
        server.run("drop role caller");
    }
}
