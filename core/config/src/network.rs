//! Networks in the form of `server.trusted_proxies`.

use std::net::IpAddr;

use ipnet::IpNet;

/// Parses a network (`10.0.0.0/8`) or a single address.
#[must_use]
pub fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_addresses_are_read() {
        for text in ["10.0.0.0/8", "127.0.0.1", "::1", "fd00::/8"] {
            assert!(network(text).is_some(), "{text}");
        }
        for text in ["", "10.0.0.0/33", "proxy.local", "10.0.0", "1.2.3.4:80"] {
            assert!(network(text).is_none(), "{text}");
        }
    }
}
