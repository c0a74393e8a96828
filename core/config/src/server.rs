//! `[server]`, `[log]`, `[data]` and `[audit]`: the listener, the log, the data folder and the security events.

use std::net::SocketAddr;
use std::path::PathBuf;

use chelseru_domain::operator::audit;
use serde::{Deserialize, Serialize};

use crate::operator::HOSTS_MAX;
use crate::read::Checker;
use crate::{Config, OperatorListen, Origins, origins};

/// `[server]`: the listener and the limits of a connection. Every key but `origins` is read at start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Address and port; port 0 picks a free port.
    pub listen: SocketAddr,
    /// Prefix of every route, without a trailing slash.
    pub base_path: String,
    /// Open connections; further ones wait in the kernel's queue.
    pub connections_max: u32,
    /// Percent of `connections_max` that one address may hold, its sockets included; one more is closed at once. A
    /// client of a trusted proxy gets 503. Connections from 127.0.0.1 and ::1 are not counted.
    pub connections_per_address_percent: u64,
    /// And one network, /24 or /64.
    pub connections_per_network_percent: u64,
    /// Seconds a client may take to send a request's head; also how long a kept-alive connection may idle.
    pub header_read_timeout_seconds: u64,
    /// Headers in one request; more answer 431.
    pub headers_max: usize,
    /// Bytes of one request's head; more answer 431. At least 8192.
    pub header_bytes_max: usize,
    /// Bytes of one request's body; more answer 413.
    pub body_bytes_max: usize,
    /// Bytes of all bodies that are read at once, without the first 4096 of each; past it 503. At least four times
    /// `body_bytes_max`: one address may hold a quarter, one network half.
    pub bodies_bytes_max: u64,
    /// Seconds a client may take to send a request's body; longer answers 408.
    pub body_read_timeout_seconds: u64,
    /// Seconds a client may accept no bytes of a reply before it is disconnected; see `timed` for slow readers.
    pub write_timeout_seconds: u64,
    /// Seconds that requests in flight get when the gateway stops.
    pub shutdown_timeout_seconds: u64,
    /// Networks or addresses of proxies whose `Forwarded` and `X-Forwarded-For` are trusted. Empty: none.
    pub trusted_proxies: Vec<String>,
    /// Scheme and host under which clients reach the gateway, for links. Empty: what the request names.
    pub public_url: String,
    /// Origins of web pages that may call the gateway from another site, `https://example.com`. `"*"`: every page,
    /// without credentials of the browser. Empty: none. Applies live.
    pub origins: Origins,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            base_path: "/drfchelseru".into(),
            connections_max: 10_000,
            connections_per_address_percent: 10,
            connections_per_network_percent: 25,
            header_read_timeout_seconds: 30,
            headers_max: 64,
            header_bytes_max: 16 * 1024,
            body_bytes_max: 1024 * 1024,
            bodies_bytes_max: 64 * 1024 * 1024,
            body_read_timeout_seconds: 15,
            write_timeout_seconds: 30,
            shutdown_timeout_seconds: 20,
            trusted_proxies: Vec::new(),
            public_url: String::new(),
            origins: Origins::default(),
        }
    }
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: LogLevel,
    /// `text` for people, `json` for machines. Read at start.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Log { level: LogLevel::Info, format: LogFormat::Text }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// `[data]`: the folder of everything the gateway writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// The data folder (database, plugins, cache, keys), relative to the configuration file. Read at start.
    pub dir: PathBuf,
    /// Memory that the database may take beyond that of an empty one, in MiB. A value below 128 is exceeded. Read at
    /// start.
    pub cache_mib: u64,
    /// Changes that may wait for the disk; one more is answered 503 `busy`. Read at start.
    pub changes_waiting_max: usize,
    /// Free disk space kept for logins and payments, in MiB. Below it, uploads and messages answer 507. 0 keeps none.
    /// Default: 256, but at most a quarter of the disk.
    pub disk_reserve_mib: Option<u64>,
}

impl Default for Data {
    fn default() -> Self {
        Data { dir: "data".into(), cache_mib: 384, changes_waiting_max: 8192, disk_reserve_mib: None }
    }
}

/// `[audit]`: the log of security events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// Records kept; the oldest are removed first. 1000 to 10000000.
    pub records_max: u64,
    /// Days for which security events are kept; 0 keeps them within `records_max`.
    pub keep_days: u64,
}

impl Default for Audit {
    fn default() -> Self {
        Audit { records_max: audit::RECORDS.default, keep_days: audit::AUDIT_KEEP_DAYS.default }
    }
}

impl Checker<'_> {
    pub(crate) fn check_server(&mut self, config: &Config) {
        let server = &config.server;
        let base = &server.base_path;
        let well_formed = base.is_empty()
            || (base.starts_with('/')
                && !base.ends_with('/')
                && !base.contains("//")
                && base.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte)));
        if !well_formed {
            self.refuse(
                "server.base_path",
                format!("{base:?}"),
                "must be empty or start with a slash, not end with one, and hold only letters, digits and -_.~/",
            );
        }
        self.range("server.connections_max", u64::from(server.connections_max), 1, 1_000_000);
        let percents = [server.connections_per_address_percent, server.connections_per_network_percent];
        self.range("server.connections_per_address_percent", percents[0], 1, 100);
        self.range("server.connections_per_network_percent", percents[1], percents[0].min(100), 100);
        self.range("server.header_read_timeout_seconds", server.header_read_timeout_seconds, 1, 3600);
        self.range("server.headers_max", server.headers_max as u64, 8, 1024);
        self.range("server.header_bytes_max", server.header_bytes_max as u64, 8192, 1024 * 1024);
        self.range("server.body_bytes_max", server.body_bytes_max as u64, 1024, 1024 * 1024 * 1024);
        let four = 4 * server.body_bytes_max as u64;
        self.range("server.bodies_bytes_max", server.bodies_bytes_max, four, 1 << 40);
        self.range("server.body_read_timeout_seconds", server.body_read_timeout_seconds, 1, 3600);
        self.range("server.write_timeout_seconds", server.write_timeout_seconds, 1, 3600);
        self.range("server.shutdown_timeout_seconds", server.shutdown_timeout_seconds, 0, 3600);
        for text in &server.trusted_proxies {
            if crate::network(text).is_none() {
                let accepted = "must hold networks such as \"10.0.0.0/8\" or addresses";
                self.refuse("server.trusted_proxies", format!("{text:?}"), accepted);
            }
        }
        if !server.public_url.is_empty() && !crate::url::is_origin(&server.public_url) {
            let accepted = "must be scheme and host, such as \"https://example.com\", without a path";
            self.refuse("server.public_url", format!("{:?}", server.public_url), accepted);
        }
        for origin in server.origins.unusable() {
            self.refuse("server.origins", format!("{origin:?}"), origins::ACCEPTED);
        }
        self.problems.extend(config.public_sandbox(self.source));
        let hosts = &config.operator.hosts;
        if hosts.len() > HOSTS_MAX {
            let accepted = format!("must hold at most {HOSTS_MAX}");
            self.refuse("operator.hosts", format!("{} names", hosts.len()), &accepted);
        }
        for host in hosts {
            if host.contains([':', '[']) || !crate::is_authority(host) {
                let accepted = "must hold names such as \"gateway.internal\", without scheme and port";
                self.refuse("operator.hosts", format!("{host:?}"), accepted);
            }
        }
        if matches!(&config.operator.listen, OperatorListen::Tcp(address)
            if *address == server.listen && address.port() != 0)
        {
            let accepted = "must not be server.listen";
            self.refuse("operator.listen", format!("{:?}", config.operator.listen.to_string()), accepted);
        }
        self.rule("audit.records_max", config.audit.records_max, audit::RECORDS);
        self.rule("audit.keep_days", config.audit.keep_days, audit::AUDIT_KEEP_DAYS);
        self.range("data.cache_mib", config.data.cache_mib, 8, 1024 * 1024);
        self.range("data.changes_waiting_max", config.data.changes_waiting_max as u64, 1, 1_000_000);
        self.range("data.disk_reserve_mib", config.data.disk_reserve_mib.unwrap_or(0), 0, 1 << 30);
    }
}
