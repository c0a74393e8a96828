//! `[operator]` and `[sandbox]`: the operators' listener, and whether test facilities may stand on a public address.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Config, Loaded, Problem, SANDBOX_PAY, Source};

/// `[operator]`: the listener of the operator API, status, metrics and the sandbox. All of it is read at start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Operator {
    /// Address and port, or `unix:/path` of a socket; port 0 takes a free one.
    pub listen: OperatorListen,
    /// Names under which operators reach the listener, besides addresses and `localhost`. At most 100.
    pub hosts: Vec<String>,
}

/// Most names in `hosts`.
pub(crate) const HOSTS_MAX: usize = 100;

impl Default for Operator {
    fn default() -> Self {
        Operator { listen: OperatorListen::Tcp(SocketAddr::from(([127, 0, 0, 1], 8001))), hosts: Vec::new() }
    }
}

/// `[sandbox]`: the trial SMS provider and the trial bank.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sandbox {
    /// Serve with a trial provider although a listener is not on loopback.
    pub public: bool,
    /// The trial bank takes payers only by a form and with a referrer, as some banks do.
    pub form: bool,
}

/// Where the operators' listener is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum OperatorListen {
    Tcp(SocketAddr),
    /// A socket in the file system. A relative path is relative to the configuration file.
    Unix(PathBuf),
}

/// What [`OperatorListen`] accepts, for a message.
const ACCEPTED: &str = "an address and a port, such as \"127.0.0.1:8001\", or \"unix:/path\" of a socket";

impl TryFrom<String> for OperatorListen {
    type Error = &'static str;

    fn try_from(text: String) -> Result<OperatorListen, &'static str> {
        match text.strip_prefix("unix:") {
            Some(path) if cfg!(unix) && !path.is_empty() => Ok(OperatorListen::Unix(path.into())),
            Some(_) => Err(ACCEPTED),
            None => text.parse().map(OperatorListen::Tcp).map_err(|_| ACCEPTED),
        }
    }
}

impl From<OperatorListen> for String {
    fn from(listen: OperatorListen) -> String {
        listen.to_string()
    }
}

impl fmt::Display for OperatorListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OperatorListen::Tcp(address) => address.fmt(f),
            OperatorListen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Whether an address is reachable from other machines.
pub fn is_public(address: IpAddr) -> bool {
    !address.to_canonical().is_loopback()
}

impl Loaded {
    /// Refuses trial providers on a public listener. Reading a file refuses its own values already; a reload asks this
    /// of the values that would serve, because it keeps the listeners of the start.
    pub fn public_sandbox(&self) -> Option<Problem> {
        self.config.public_sandbox(&self.source)
    }
}

impl Config {
    pub(crate) fn public_sandbox(&self, source: &Source) -> Option<Problem> {
        let Config { server, operator, sandbox, .. } = self;
        if sandbox.public {
            return None;
        }
        let (key, listen) = match &operator.listen {
            OperatorListen::Tcp(address) if is_public(address.ip()) => ("operator.listen", *address),
            _ if is_public(server.listen.ip()) => ("server.listen", server.listen),
            _ => return None,
        };
        let trial = if self.sandbox_selected() {
            format!("sms.service names {}", self.sms.service.names().join(", "))
        } else if self.payment.gateway == SANDBOX_PAY {
            format!("payment.gateway is {SANDBOX_PAY}")
        } else {
            return None;
        };
        let text = format!(
            "is public while {trial}, which is for trials: its codes and payments are not real. Name a real provider \
             (payment.gateway = \"\" takes no payments), listen on 127.0.0.1, or set sandbox.public = true"
        );
        Some(source.problem(key, Some(format!("{:?}", listen.to_string())), text))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn refused(text: &str) -> Option<String> {
        let problems = Config::parse(Path::new("config.toml"), text.into()).err()?.0;
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems.into_iter().next().map(|problem| problem.key)
    }

    /// A reload keeps the listeners of the start, so a file on loopback can ask for trials on a public one.
    #[test]
    fn a_reload_is_asked_with_the_listeners_that_serve() {
        let file = Config::parse(Path::new("config.toml"), String::new());
        let mut loaded = file.unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(loaded.public_sandbox(), None);
        loaded.config.server.listen = SocketAddr::from(([0, 0, 0, 0], 8000));
        assert!(loaded.public_sandbox().is_some());
    }

    #[test]
    fn the_operators_listener_is_an_address_or_a_socket() {
        let read = |text: &str| OperatorListen::try_from(text.to_owned());
        assert_eq!(read("127.0.0.1:9"), Ok(OperatorListen::Tcp(SocketAddr::from(([127, 0, 0, 1], 9)))));
        #[cfg(unix)]
        assert_eq!(read("unix:/run/x.sock"), Ok(OperatorListen::Unix("/run/x.sock".into())));
        for refused in ["", "unix:", "127.0.0.1", "localhost:1", "/run/x.sock"] {
            assert_eq!(read(refused), Err(ACCEPTED), "{refused}");
        }
        let problems = Config::parse(Path::new("config.toml"), "[operator]\nlisten = \"here\"\n".into());
        let text = problems.err().expect("refused").to_string();
        assert!(text.contains("config.toml:2: operator.listen") && text.contains("unix:/path"), "{text}");
    }

    #[test]
    fn a_trial_provider_serves_on_loopback_only_unless_allowed() {
        let real = "[sms]\nservice = \"X\"\n[payment]\ngateway = \"\"\n[provider.X]\nplugin = \"x\"\n";
        assert_eq!(refused(""), None);
        assert_eq!(refused("[server]\nlisten = \"[::1]:8000\"\n"), None);
        for public in ["0.0.0.0", "[::]", "10.0.0.1", "[::ffff:10.0.0.1]"] {
            let server = format!("[server]\nlisten = \"{public}:8000\"\n");
            assert_eq!(refused(&server).as_deref(), Some("server.listen"), "{public}");
            assert_eq!(refused(&format!("{server}[sandbox]\npublic = true\n")), None);
            assert_eq!(refused(&format!("{server}{real}")), None);
            let operator = format!("[operator]\nlisten = \"{public}:8001\"\n");
            assert_eq!(refused(&operator).as_deref(), Some("operator.listen"), "{public}");
        }
        let bank =
            "[server]\nlisten = \"0.0.0.0:8000\"\n[sms]\nservice = \"X\"\n[provider.X]\nplugin = \"x\"\n";
        assert_eq!(refused(bank).as_deref(), Some("server.listen"), "the trial bank counts too");
    }
}
