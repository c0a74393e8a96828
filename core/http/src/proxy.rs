//! The client's address behind proxies.
//!
//! Anyone can send `Forwarded` (RFC 7239) and `X-Forwarded-For`. They are read only from peers in
//! `server.trusted_proxies`, and from the right: each trusted hop names the one before it, and the first untrusted
//! hop is the client. Entries further left may be forged. When both headers differ, a proxy has forwarded one unread.
//! Then neither is trusted, and the proxy itself counts as the client, so a forged header gains nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chelseru_config::{is_authority, network};
use http::HeaderMap;
use ipnet::IpNet;

/// Most hops followed. No real chain of proxies is longer.
const HOPS_MAX: usize = 32;

/// The address a client used, as reported by trusted proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    pub https: bool,
    /// With a port, when the client named one.
    pub host: Option<String>,
}

/// The trusted networks.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    trusted: Vec<IpNet>,
    /// Whether the log has a line about a proxy that is not among them.
    missed: Arc<AtomicBool>,
}

impl Proxies {
    /// Takes networks (`10.0.0.0/8`) or single addresses, already checked by the configuration.
    pub fn new(texts: &[String]) -> Proxies {
        let trusted = texts.iter().filter_map(|text| network(text)).collect();
        Proxies { trusted, missed: Arc::default() }
    }

    /// The address of the client of a request.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            let is_told = self.missed.load(Ordering::Relaxed);
            if !is_told && is_proxy_of(peer, headers) && !self.missed.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    %peer,
                    "requests name another client than their sender; if that is your proxy, put it into \
                     server.trusted_proxies: until then all of its clients count as one address"
                );
            }
            return peer;
        }
        let texts = |name: &str| {
            let values = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("\"")).collect();
            Some(values).filter(|values: &Vec<&str>| !values.is_empty())
        };
        let forwarded = texts("forwarded").map(|values| self.follow(peer, &values, forwarded_for));
        let listed = texts("x-forwarded-for").map(|values| self.follow(peer, &values, listed_for));
        match (forwarded, listed) {
            (Some(one), Some(other)) if one != other => peer,
            (one, other) => one.or(other).unwrap_or(peer),
        }
    }

    /// Scheme and host that the client used, as reported by the nearest trusted proxy. When both headers differ,
    /// neither is trusted.
    pub fn origin(&self, peer: IpAddr, headers: &HeaderMap) -> Origin {
        if !self.trusts(peer.to_canonical()) {
            return Origin::default();
        }
        let last = |name: &str| {
            let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
            value.rsplit(',').next().map(str::trim)
        };
        let element = last("forwarded");
        let agreed = |pair: &str, header: &str| {
            let one = element.and_then(|element| parameter(element, pair)).map(str::to_ascii_lowercase);
            let other = last(header).map(str::to_ascii_lowercase);
            match (one, other) {
                (Some(one), Some(other)) if one != other => None,
                (one, other) => one.or(other),
            }
        };
        let host = agreed("host", "x-forwarded-host").filter(|host| is_authority(host));
        Origin { https: agreed("proto", "x-forwarded-proto").as_deref() == Some("https"), host }
    }

    /// Returns true for a trusted proxy's address.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// Walks from the right to the first hop that is untrusted or does not name its client.
    fn follow(&self, peer: IpAddr, values: &[&str], read: fn(&str) -> Option<IpAddr>) -> IpAddr {
        let mut client = peer;
        let hops = values.iter().rev().flat_map(|value| value.rsplit(','));
        for hop in hops.take(HOPS_MAX) {
            let Some(address) = read(hop.trim()) else { break };
            client = address.to_canonical();
            if !self.trusts(client) {
                break;
            }
        }
        client
    }
}

/// Whether a peer looks like a proxy that the operator forgot: near, and speaking for somebody else.
fn is_proxy_of(peer: IpAddr, headers: &HeaderMap) -> bool {
    let is_near = match peer {
        IpAddr::V4(peer) => peer.is_loopback() || peer.is_private(),
        IpAddr::V6(peer) => peer.is_loopback() || peer.is_unique_local(),
    };
    is_near && ["x-forwarded-for", "forwarded"].iter().any(|name| headers.contains_key(*name))
}

/// An entry of `X-Forwarded-For`: an address, with a port from some proxies.
fn listed_for(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    bare.parse().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// The `for` of an element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    listed_for(parameter(element, "for")?)
}

/// A parameter of an element of `Forwarded`. A comma inside quotes splits an element, which then has no accepted
/// value, because addresses and hosts contain no comma.
fn parameter<'a>(element: &'a str, wanted: &str) -> Option<&'a str> {
    let value = element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim())
    })?;
    Some(value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(peer: &str, headers: &[(&'static str, &str)], expected: &str) {
        let proxies =
            Proxies::new(&["10.0.0.0/8".to_owned(), "127.0.0.1".to_owned(), "2001:db8::/32".to_owned()]);
        let map: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (http::HeaderName::from_static(name), value.parse().expect("a header value"))
            })
            .collect();
        let peer = peer.parse().expect("an address");
        assert_eq!(proxies.client(peer, &map).to_string(), expected, "{headers:?}");
    }

    const LISTED: &str = "x-forwarded-for";
    const FORWARDED: &str = "forwarded";

    #[test]
    fn a_peer_that_is_not_trusted_speaks_for_itself_only() {
        check("203.0.113.9", &[(LISTED, "198.51.100.1")], "203.0.113.9");
        check("203.0.113.9", &[(FORWARDED, "for=198.51.100.1")], "203.0.113.9");
        check("::ffff:203.0.113.9", &[(LISTED, "198.51.100.1")], "203.0.113.9");
        assert_eq!(
            Proxies::default().client([127, 0, 0, 1].into(), &HeaderMap::new()).to_string(),
            "127.0.0.1"
        );
    }

    #[test]
    fn a_proxy_that_the_operator_forgot_is_near_and_speaks_for_others() {
        let with = |name: &'static str| {
            HeaderMap::from_iter([(http::HeaderName::from_static(name), "x".parse().unwrap())])
        };
        for (peer, name, is_one) in [
            ("127.0.0.1", LISTED, true),
            ("10.1.2.3", FORWARDED, true),
            ("fd00::1", LISTED, true),
            ("203.0.113.9", LISTED, false),
            ("127.0.0.1", "accept", false),
        ] {
            assert_eq!(is_proxy_of(peer.parse().unwrap(), &with(name)), is_one, "{peer} {name}");
        }
    }

    #[test]
    fn the_first_hop_from_the_right_that_is_not_trusted_is_the_client() {
        check("10.1.2.3", &[(LISTED, "198.51.100.1")], "198.51.100.1");
        check("10.1.2.3", &[(LISTED, "6.6.6.6, 198.51.100.1")], "198.51.100.1");
        check("10.1.2.3", &[(LISTED, "6.6.6.6, 198.51.100.1, 10.9.9.9,10.8.8.8")], "198.51.100.1");
        check("10.1.2.3", &[(LISTED, "10.7.7.7, 10.8.8.8")], "10.7.7.7");
        check("::ffff:10.1.2.3", &[(LISTED, "198.51.100.1:4711")], "198.51.100.1");
        check("2001:db8::5", &[(LISTED, "[2a00::1]:4711")], "2a00::1");
        check("10.1.2.3", &[(LISTED, "6.6.6.6"), (LISTED, "198.51.100.1")], "198.51.100.1");
        check("10.1.2.3", &[], "10.1.2.3");
    }

    #[test]
    fn forwarded_is_read_in_all_its_forms() {
        check("10.1.2.3", &[(FORWARDED, "for=198.51.100.1;proto=https;by=10.1.2.3")], "198.51.100.1");
        check("10.1.2.3", &[(FORWARDED, "for=6.6.6.6, proto=http; For=\"198.51.100.1:80\"")], "198.51.100.1");
        check("10.1.2.3", &[(FORWARDED, "for=\"[2a00::1]:4711\", for=10.2.2.2")], "2a00::1");
    }

    #[test]
    fn a_hop_that_does_not_say_where_it_is_from_ends_the_walk() {
        for hidden in ["for=unknown", "for=_secret", "for=\"_gazonk\"", "proto=https", "", "for=\"6.6.6.6"] {
            check("10.1.2.3", &[(FORWARDED, &format!("for=6.6.6.6, {hidden}"))], "10.1.2.3");
        }
        check("10.1.2.3", &[(LISTED, "6.6.6.6, garbage")], "10.1.2.3");
        check("10.1.2.3", &[(LISTED, "6.6.6.6, garbage, 10.2.2.2")], "10.2.2.2");
    }

    #[test]
    fn headers_that_differ_are_not_believed() {
        check("10.1.2.3", &[(FORWARDED, "for=6.6.6.6"), (LISTED, "198.51.100.1")], "10.1.2.3");
        check("10.1.2.3", &[(FORWARDED, "for=198.51.100.1"), (LISTED, "198.51.100.1")], "198.51.100.1");
    }

    #[test]
    fn only_a_trusted_proxy_says_what_address_the_client_used() {
        let proxies = Proxies::new(&["10.0.0.0/8".to_owned()]);
        let origin = |peer: &str, headers: &[(&'static str, &str)]| {
            let headers = headers.iter().map(|(name, value)| {
                (http::HeaderName::from_static(name), value.parse().expect("a header value"))
            });
            let origin = proxies.origin(peer.parse().expect("an address"), &HeaderMap::from_iter(headers));
            (origin.https, origin.host.unwrap_or_default())
        };
        const PROTO: &str = "x-forwarded-proto";
        const HOST: &str = "x-forwarded-host";
        let said = [(PROTO, "https"), (HOST, "Shop.example:8443")];
        for peer in ["10.1.2.3", "::ffff:10.1.2.3"] {
            assert_eq!(origin(peer, &said), (true, "shop.example:8443".to_owned()), "{peer}");
        }
        assert_eq!(origin("192.0.2.1", &said), (false, String::new()), "not trusted");
        for (headers, expected) in [
            (vec![], (false, "")),
            (vec![(FORWARDED, "for=198.51.100.1;proto=https;host=\"shop.example\"")], (true, "shop.example")),
            (vec![(FORWARDED, "proto=http;host=evil.example, host=shop.example")], (false, "shop.example")),
            (vec![(HOST, "evil.example, shop.example")], (false, "shop.example")),
            (vec![(HOST, "evil.example/path")], (false, "")),
            (vec![(HOST, "a@b")], (false, "")),
            (vec![(FORWARDED, "host=evil.example;proto=https"), (HOST, "shop.example")], (true, "")),
            (vec![(FORWARDED, "proto=https"), (PROTO, "http")], (false, "")),
        ] {
            assert_eq!(origin("10.1.2.3", &headers), (expected.0, expected.1.to_owned()), "{headers:?}");
        }
    }
}
