//! What only this machine knows of a configuration: an occupied port, the limit of open files, where payers return to.
//!
//! Nothing here refuses a file: another machine may serve it well.

use std::net::{SocketAddr, TcpListener};

use crate::config::{Loaded, Problem, SANDBOX_PAY};

/// Files that are open besides connections and sockets: the store, the log, plugins, requests to providers.
const FILES_ASIDE: u64 = 256;

/// What `serve` logs and `check` prints.
pub(crate) fn warnings(loaded: &Loaded) -> Vec<Problem> {
    few_files(loaded, open_files_max()).into_iter().chain(local_callback(loaded)).collect()
}

/// Whether somebody listens where the server would.
pub(crate) fn occupied_port(loaded: &Loaded) -> Option<Problem> {
    let listen = loaded.config.server.listen;
    let error = TcpListener::bind(listen).err()?;
    let text = format!("cannot be listened on now: {error}; stop what uses the port, or name another");
    Some(loaded.source.problem("server.listen", Some(format!("{:?}", listen.to_string())), text))
}

/// Whether two addresses are one listener's.
pub(crate) fn is_same_listener(one: SocketAddr, other: SocketAddr) -> bool {
    let any = |address: SocketAddr| address.ip().is_unspecified();
    one.port() == other.port() && (one.ip() == other.ip() || any(one) || any(other))
}

fn few_files(loaded: &Loaded, files_max: Option<u64>) -> Option<Problem> {
    let config = &loaded.config;
    let wanted = u64::from(config.server.connections_max) + config.chat.sockets_max as u64;
    let files_max = files_max.filter(|files_max| *files_max < wanted.saturating_add(FILES_ASIDE))?;
    let text = format!(
        "with chat.sockets_max = {} needs {wanted} open files and {FILES_ASIDE} aside, and the limit is {files_max}; \
         raise it (ulimit -n, LimitNOFILE) or lower the two",
        config.chat.sockets_max
    );
    Some(loaded.source.problem(
        "server.connections_max",
        Some(config.server.connections_max.to_string()),
        text,
    ))
}

fn local_callback(loaded: &Loaded) -> Option<Problem> {
    let payment = &loaded.config.payment;
    if payment.gateway == SANDBOX_PAY || !payment.callback_url.is_empty() {
        return None;
    }
    let text = format!(
        "sends the payers of {} back to {}, which only this machine reaches; name the public address of payment/verify/",
        payment.gateway, loaded.config.server.listen
    );
    Some(loaded.source.problem("payment.callback_url", Some("\"\"".to_owned()), text))
}

/// The soft limit of open files; `None` where it cannot be read.
fn open_files_max() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn loaded(text: &str) -> Loaded {
        Config::parse("config.toml".as_ref(), text.to_owned()).unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[test]
    fn too_few_files_are_warned_of_from_the_sum_of_both_bounds_on() {
        let loaded = loaded("[server]\nconnections_max = 100\n[chat]\nsockets_max = 50\n");
        assert_eq!(few_files(&loaded, Some(150 + FILES_ASIDE)), None);
        assert_eq!(few_files(&loaded, None), None);
        let warning = few_files(&loaded, Some(150 + FILES_ASIDE - 1)).expect("a warning").to_string();
        assert!(
            warning.starts_with("config.toml:2: server.connections_max = 100: with chat.sockets_max = 50"),
            "{warning}"
        );
    }

    #[test]
    fn an_occupied_port_is_named_and_a_free_one_is_not() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = taken.local_addr().expect("an address");
        let loaded = loaded(&format!("[server]\nlisten = \"{address}\"\n"));
        let warning = occupied_port(&loaded).expect("a warning").to_string();
        assert!(
            warning.contains("config.toml:2: server.listen") && warning.contains("cannot be listened on now"),
            "{warning}"
        );
        drop(taken);
        assert_eq!(occupied_port(&loaded), None);
    }

    #[test]
    fn a_real_gateway_without_a_callback_is_warned_of() {
        assert_eq!(local_callback(&loaded("")), None);
        let real = "[payment]\ngateway = \"ZARINPAL_COM\"\n";
        assert!(local_callback(&loaded(real)).expect("a warning").to_string().contains("ZARINPAL_COM"));
        let public = format!("{real}callback_url = \"https://shop.example/verify/\"\n");
        assert_eq!(local_callback(&loaded(&public)), None);
    }
}
