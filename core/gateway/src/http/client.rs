//! Whose address a request comes from.
//!
//! The peer's, unless the peer is a proxy that the configuration trusts: then the last address in
//! `X-Forwarded-For` that no trusted proxy added. What stands further left was written by the client and is
//! believed of nobody.

use std::net::IpAddr;

use http::HeaderMap;

/// An address or a network, as `server.trusted_proxies` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// Reads `10.0.0.1` or `10.0.0.0/8`.
    pub(crate) fn parse(text: &str) -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(max);
        (bits <= max).then_some(Network { address, bits })
    }

    fn contains(&self, address: IpAddr) -> bool {
        let same = |a: u128, b: u128, width: u32| self.bits == 0 || (a ^ b) >> (width - self.bits) == 0;
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.into(), b.into(), 128),
            _ => false,
        }
    }
}

/// The client's address.
pub(crate) fn address(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[String]) -> IpAddr {
    let peer = peer.to_canonical();
    if trusted_proxies.is_empty() {
        return peer;
    }
    let proxies: Vec<Network> = trusted_proxies.iter().filter_map(|text| Network::parse(text)).collect();
    let trusted = |address| proxies.iter().any(|network| network.contains(address));
    if !trusted(peer) {
        return peer;
    }
    let values = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    let mut client = peer;
    for hop in hops.into_iter().rev() {
        // What cannot be read ends the chain that can be believed.
        let Ok(address) = hop.parse::<IpAddr>() else { break };
        client = address.to_canonical();
        if !trusted(client) {
            break;
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str], proxies: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().expect("a header's value"));
        }
        let proxies: Vec<String> = proxies.iter().map(ToString::to_string).collect();
        address(peer.parse().expect("an address"), &headers, &proxies).to_string()
    }

    #[test]
    fn a_forwarded_address_counts_only_from_a_trusted_proxy() {
        assert_eq!(client("192.0.2.1", &["203.0.113.7"], &[]), "192.0.2.1");
        assert_eq!(client("192.0.2.1", &["203.0.113.7"], &["10.0.0.0/8"]), "192.0.2.1");
        assert_eq!(client("10.0.0.5", &["203.0.113.7"], &["10.0.0.0/8"]), "203.0.113.7");
        assert_eq!(client("::ffff:10.0.0.5", &["203.0.113.7"], &["10.0.0.5"]), "203.0.113.7");
        assert_eq!(client("10.0.0.5", &[], &["10.0.0.5"]), "10.0.0.5");
    }

    #[test]
    fn what_the_client_wrote_in_front_is_not_believed() {
        let proxies = ["10.0.0.0/8"];
        assert_eq!(client("10.0.0.5", &["1.1.1.1, 203.0.113.7, 10.1.1.1"], &proxies), "203.0.113.7");
        assert_eq!(client("10.0.0.5", &["1.1.1.1", "203.0.113.7"], &proxies), "203.0.113.7");
        assert_eq!(client("10.0.0.5", &["1.1.1.1, rubbish"], &proxies), "10.0.0.5");
    }

    #[test]
    fn networks_are_read_and_matched_at_their_edge() {
        let network = |text| Network::parse(text).expect("a network");
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert!(network("10.0.0.0/9").contains(address("10.127.255.255")));
        assert!(!network("10.0.0.0/9").contains(address("10.128.0.0")));
        assert!(network("0.0.0.0/0").contains(address("203.0.113.7")));
        assert!(network("2001:db8::/32").contains(address("2001:db8:ffff::1")));
        assert!(!network("2001:db8::/32").contains(address("10.0.0.1")));
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "proxy.example", "10.0.0.1/x"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }
}
