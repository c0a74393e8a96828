//! Warnings about this machine: an occupied port, a low limit of open files, a callback address only it reaches.
//!
//! Nothing here refuses a file, because another machine may serve it well.

use std::net::{SocketAddr, TcpListener};

use chelseru_http::descriptors;

use crate::config::{Config, Loaded, OperatorListen, Problem, SANDBOX_PAY, is_public};

/// Open files besides connections and sockets: the store, the log, plugins, requests to providers.
const FILES_ASIDE: u64 = descriptors::ASIDE;

/// The warnings that `serve` logs and `check` prints.
pub(crate) fn warnings(loaded: &Loaded) -> Vec<Problem> {
    few_files(loaded, open_files_max()).into_iter().chain(local_callback(loaded)).collect()
}

/// Listeners of a running gateway: the public one, if it reports it, and the operators'.
pub(crate) type Listeners<'a> = (Option<SocketAddr>, &'a OperatorListen);

/// Warns when another program listens at the server's addresses. `own`: the gateway that runs on this data folder.
pub(crate) fn occupied_ports(loaded: &Loaded, own: Option<Listeners<'_>>) -> Vec<Problem> {
    let Config { server, operator, .. } = &loaded.config;
    let public = own.and_then(|own| own.0);
    let mut occupied = Vec::new();
    if !public.is_some_and(|own| is_same_listener(own, server.listen)) {
        occupied.extend(occupied_port(loaded, "server.listen", server.listen));
    }
    if let OperatorListen::Tcp(listen) = operator.listen
        && !own.is_some_and(|own| matches!(own.1, OperatorListen::Tcp(own) if is_same_listener(*own, listen)))
    {
        occupied.extend(occupied_port(loaded, "operator.listen", listen));
    }
    occupied
}

fn occupied_port(loaded: &Loaded, key: &str, listen: SocketAddr) -> Option<Problem> {
    let error = TcpListener::bind(listen).err()?;
    let text =
        format!("cannot listen now: {error}; stop the process that uses the port, or choose another port");
    Some(loaded.source.problem(key, Some(format!("{:?}", listen.to_string())), text))
}

/// Returns true when two addresses belong to one listener.
fn is_same_listener(one: SocketAddr, other: SocketAddr) -> bool {
    let any = |address: SocketAddr| address.ip().is_unspecified();
    one.port() == other.port() && (one.ip() == other.ip() || any(one) || any(other))
}

fn few_files(loaded: &Loaded, files_max: Option<u64>) -> Option<Problem> {
    let config = &loaded.config;
    let wanted = u64::from(config.server.connections_max) + config.chat.sockets_max as u64;
    let files_max = files_max.filter(|files_max| *files_max < wanted.saturating_add(FILES_ASIDE))?;
    let text = format!(
        "with chat.sockets_max = {} needs {wanted} open files besides {FILES_ASIDE} others, but the limit is {files_max}; \
         raise it (ulimit -n, LimitNOFILE), or lower both keys",
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
    let server = &loaded.config.server;
    let named = !payment.callback_url.is_empty() || !server.public_url.is_empty();
    if payment.gateway.is_empty() || payment.gateway == SANDBOX_PAY || named {
        return None;
    }
    let cure = "set the public address of payment/verify/, or server.public_url";
    let text = match is_public(server.listen.ip()) {
        false => format!(
            "returns payers of {} to {}, which only this machine can reach; {cure}",
            payment.gateway, server.listen
        ),
        true => {
            format!("requires clients to name the return address of payers of {}; {cure}", payment.gateway)
        }
    };
    Some(loaded.source.problem("payment.callback_url", Some("\"\"".to_owned()), text))
}

/// The soft limit of open files; `None` when it cannot be read.
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
        let any_port = |warnings: Vec<Problem>| {
            let server = |warning: &&Problem| warning.key == "server.listen";
            warnings.iter().find(server).map(ToString::to_string)
        };
        let warning = any_port(occupied_ports(&loaded, None)).expect("a warning");
        let operator = OperatorListen::Tcp(address);
        assert_eq!(any_port(occupied_ports(&loaded, Some((Some(address), &operator)))), None, "its own");
        assert!(
            warning.contains("config.toml:2: server.listen") && warning.contains("cannot listen now"),
            "{warning}"
        );
        drop(taken);
        assert_eq!(any_port(occupied_ports(&loaded, None)), None);
    }

    #[test]
    fn a_real_gateway_without_a_callback_is_warned_of() {
        assert_eq!(local_callback(&loaded("")), None);
        let real = "[payment]\ngateway = \"ZARINPAL_COM\"\n";
        assert!(local_callback(&loaded(real)).expect("a warning").to_string().contains("ZARINPAL_COM"));
        let public = format!("{real}[server]\npublic_url = \"https://shop.example\"\n");
        assert_eq!(local_callback(&loaded(&public)), None);
        let open = format!("{real}[server]\nlisten = \"0.0.0.0:8000\"\n[sandbox]\npublic = true\n");
        assert!(local_callback(&loaded(&open)).expect("a warning").to_string().contains("requires clients"));
        let public = format!("{real}callback_url = \"https://shop.example/verify/\"\n");
        assert_eq!(local_callback(&loaded(&public)), None);
    }
}
