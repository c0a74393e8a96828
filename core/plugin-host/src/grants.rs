//! Which hosts a plugin may call: the entries of an allow-list, and the rule for addresses.
//!
//! An entry is `name`, `name:port`, `address`, `address:port` or `[v6]:port`; without a port every port is meant.
//! A request passes when its URL's host has an entry. Then the address it goes to must be public, or must have
//! an entry of its own that the operator wrote: a name alone never opens a private address, because whoever
//! answers for the name could point it anywhere.
//! Not here: DNS and connections (see `egress`), and what a plugin asks for (see `binding`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use reqwest::Url;

/// The longest DNS name, in bytes (RFC 1035, section 2.3.4, less the root's length byte).
const NAME_BYTES_MAX: usize = 253;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum GrantHost {
    /// Lower case, without a final dot.
    Name(String),
    /// Never an IPv4 address in IPv6 clothing.
    Address(IpAddr),
}

/// One entry of an allow-list.
///
/// Parse it from text; the error says what is wrong with the entry and is meant for the operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostGrant {
    pub(crate) host: GrantHost,
    /// `None` is every port.
    pub(crate) port: Option<u16>,
}

impl HostGrant {
    /// The host a URL calls, in the same form as the entries. `None` when the URL has no host.
    pub(crate) fn of_url(url: &Url) -> Option<HostGrant> {
        let host = url.host_str()?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let host = match bare.parse::<IpAddr>() {
            Ok(address) => GrantHost::Address(address.to_canonical()),
            Err(_) => GrantHost::Name(bare.trim_end_matches('.').to_ascii_lowercase()),
        };
        Some(HostGrant { host, port: url.port_or_known_default() })
    }

    fn covers(&self, wanted: &HostGrant) -> bool {
        self.host == wanted.host && (self.port.is_none() || self.port == wanted.port)
    }
}

impl fmt::Display for HostGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (GrantHost::Name(name), None) => write!(f, "{name}"),
            (GrantHost::Name(name), Some(port)) => write!(f, "{name}:{port}"),
            (GrantHost::Address(IpAddr::V6(address)), Some(port)) => write!(f, "[{address}]:{port}"),
            (GrantHost::Address(address), None) => write!(f, "{address}"),
            (GrantHost::Address(address), Some(port)) => write!(f, "{address}:{port}"),
        }
    }
}

impl FromStr for HostGrant {
    type Err = String;

    fn from_str(entry: &str) -> Result<HostGrant, String> {
        if let Ok(address) = entry.parse::<IpAddr>() {
            return Ok(HostGrant { host: GrantHost::Address(address.to_canonical()), port: None });
        }
        if let Some(rest) = entry.strip_prefix('[') {
            let (address, after) = rest.split_once(']').ok_or("the bracket is not closed")?;
            let address: Ipv6Addr =
                address.parse().map_err(|_| "not an IPv6 address between the brackets")?;
            let port = match after.strip_prefix(':') {
                Some(port) => Some(port_parse(port)?),
                None if after.is_empty() => None,
                None => return Err("only `:port` may follow the bracket".to_owned()),
            };
            return Ok(HostGrant { host: GrantHost::Address(IpAddr::V6(address).to_canonical()), port });
        }
        let (name, port) = match entry.split_once(':') {
            Some((_, rest)) if rest.starts_with("//") => {
                return Err("write the host only, without `http://`".to_owned());
            }
            Some((name, port)) => (name, Some(port_parse(port)?)),
            None => (entry, None),
        };
        if let Ok(address) = name.parse::<Ipv4Addr>() {
            return Ok(HostGrant { host: GrantHost::Address(IpAddr::V4(address)), port });
        }
        name_check(name)?;
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        Ok(HostGrant { host: GrantHost::Name(name), port })
    }
}

fn port_parse(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err("the port is a number from 1 to 65535".to_owned()),
    }
}

fn name_check(name: &str) -> Result<(), String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(format!("a host name has 1 to {NAME_BYTES_MAX} characters"));
    }
    if name.contains('*') {
        return Err("wildcards are not supported, name each host".to_owned());
    }
    for label in name.split('.') {
        let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if label.is_empty() || label.len() > 63 || !plain || label.starts_with('-') || label.ends_with('-') {
            return Err("not a host name (letters, digits and dashes; other scripts as `xn--`)".to_owned());
        }
    }
    // A URL parser reads a name whose last label is a number as an IPv4 address, so such an entry could
    // never match what the operator meant.
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") {
        return Err("neither a host name nor a full IP address".to_owned());
    }
    Ok(())
}

/// An allow-list of hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    entries: Vec<HostGrant>,
    /// Whether an address entry opens a private address. Only an operator's own list does.
    private: bool,
}

impl Grants {
    /// What an operator wrote: address entries open private addresses too.
    pub fn by_operator(entries: Vec<HostGrant>) -> Grants {
        Grants { entries, private: true }
    }

    /// What a plugin asks for: public addresses only, whatever it lists.
    pub fn public_only(entries: Vec<HostGrant>) -> Grants {
        Grants { entries, private: false }
    }

    /// The entries, for listings and errors.
    pub fn entries(&self) -> &[HostGrant] {
        &self.entries
    }

    pub(crate) fn covers(&self, wanted: &HostGrant) -> bool {
        self.entries.iter().any(|entry| match wanted.port {
            // Wanting every port is covered by an entry for one port only when that entry names none.
            None => entry.host == wanted.host && entry.port.is_none(),
            Some(_) => entry.covers(wanted),
        })
    }

    /// Whether a request to `url` may leave, as far as that can be told before DNS.
    ///
    /// # Errors
    /// A sentence that names the host; nothing was sent.
    pub fn check(&self, url: &Url) -> Result<(), String> {
        let Some(wanted) = HostGrant::of_url(url) else { return Err("the URL names no host".to_owned()) };
        if !self.covers(&wanted) {
            return Err(format!("host \"{wanted}\" is not granted"));
        }
        match wanted.host {
            GrantHost::Address(address) if !is_public(address) && !self.private => {
                Err(format!("address {address} is not public and not granted by the operator"))
            }
            _ => Ok(()),
        }
    }

    /// Whether `name`, having passed [`Grants::check`], may be reached at `address`.
    ///
    /// The port is not known where this is asked, so an address entry with a port counts only when every port
    /// that the name's entries allow is covered by the address's entries.
    pub(crate) fn address_allowed(&self, name: &str, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if is_public(address) {
            return true;
        }
        let name = GrantHost::Name(name.trim_end_matches('.').to_ascii_lowercase());
        let host = GrantHost::Address(address);
        self.private
            && self
                .entries
                .iter()
                .filter(|entry| entry.host == name)
                .all(|entry| self.covers(&HostGrant { host: host.clone(), port: entry.port }))
    }
}

/// Whether an address belongs to the public internet: not loopback, private, link-local, carrier NAT, multicast,
/// reserved, documentation, or a wrapping of one of these.
///
/// Source: IANA special-purpose address registries for IPv4 and IPv6 (RFC 6890 and its updates).
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

// One line per entry of the registry reads better than one pattern.
#[allow(clippy::match_like_matches_macro)]
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match (a, b, c) {
        (0 | 10 | 127, _, _) => true,
        (100, 64..=127, _) => true,
        (169, 254, _) => true,
        (172, 16..=31, _) => true,
        (192, 0, 0 | 2) => true,
        (192, 88, 99) => true,
        (192, 168, _) => true,
        (198, 18..=19, _) => true,
        (198, 51, 100) => true,
        (203, 0, 113) => true,
        (224..=255, _, _) => true,
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let s = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match s {
        // NAT64 and 6to4 carry an IPv4 address that must be public itself.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(v4(high, low)),
        [0x2002, high, low, ..] => is_public_v4(v4(high, low)),
        // IETF protocol assignments (Teredo among them), documentation (two blocks).
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Only 2000::/3 is handed out as global unicast.
        [first, ..] => (0x2000..=0x3fff).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(entries: &[&str]) -> Vec<HostGrant> {
        entries.iter().map(|e| e.parse().expect("a valid entry")).collect()
    }

    fn check(grants: &Grants, url: &str) -> bool {
        grants.check(&Url::parse(url).expect("a URL")).is_ok()
    }

    #[test]
    fn entries_are_read_in_every_documented_form() {
        for (text, shown) in [
            ("API.example.com.", "api.example.com"),
            ("api.example.com:8443", "api.example.com:8443"),
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1:9001", "127.0.0.1:9001"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("[::1]:9001", "[::1]:9001"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(text.parse::<HostGrant>().map(|g| g.to_string()), Ok(shown.to_owned()), "{text}");
        }
    }

    #[test]
    fn entries_that_could_not_mean_what_they_say_are_refused() {
        for text in [
            "",
            " ",
            "*.example.com",
            "http://a.com",
            "a.com/x",
            "a b.com",
            "a..b",
            "-a.com",
            "a.com:0",
            "a.com:99999",
            "a.com:+80",
            "127.1",
            "0x7f000001",
            "[::1",
            "[::1]x",
            "user@a.com",
            "a.com:80:80",
            "پرداخت.ir",
        ] {
            assert!(text.parse::<HostGrant>().is_err(), "{text:?}");
        }
        assert!("a".repeat(254).parse::<HostGrant>().is_err());
    }

    #[test]
    fn a_port_in_an_entry_is_the_only_port_it_opens() {
        let granted = Grants::by_operator(grants(&["a.com", "b.com:8443"]));
        assert!(check(&granted, "https://a.com/"));
        assert!(check(&granted, "http://A.COM:81/"));
        assert!(check(&granted, "https://b.com:8443/"));
        assert!(!check(&granted, "https://b.com/"));
        assert!(!check(&granted, "https://sub.a.com/"));
        assert!(!check(&granted, "https://a.com.evil.org/"));
        assert!(!check(&granted, "https://a.com@evil.org/"));
    }

    #[test]
    fn every_spelling_of_a_private_address_needs_the_operators_grant() {
        let by_plugin = Grants::public_only(grants(&["127.0.0.1", "::1", "10.0.0.1"]));
        let by_operator = Grants::by_operator(grants(&["127.0.0.1"]));
        for url in ["http://127.0.0.1/", "http://2130706433/", "http://0x7f.1/", "http://[::ffff:127.0.0.1]/"]
        {
            assert!(!check(&by_plugin, url), "{url}");
            assert!(check(&by_operator, url), "{url}");
        }
        assert!(!check(&by_operator, "http://[::1]/"));
        assert!(!check(&by_operator, "http://127.0.0.2/"));
    }

    #[test]
    fn special_addresses_are_not_public() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "100::1",
        ] {
            assert!(!is_public(address.parse().expect("an address")), "{address}");
        }
        for address in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "2606:4700::1111",
            "64:ff9b::101:101",
        ] {
            assert!(is_public(address.parse().expect("an address")), "{address}");
        }
    }

    #[test]
    fn a_name_reaches_a_private_address_only_with_the_address_granted_for_the_same_ports() {
        let loopback: IpAddr = Ipv4Addr::LOCALHOST.into();
        let case =
            |entries: &[&str]| Grants::by_operator(grants(entries)).address_allowed("localhost", loopback);
        assert!(!case(&["localhost"]));
        assert!(case(&["localhost", "127.0.0.1"]));
        assert!(case(&["localhost:9001", "127.0.0.1:9001"]));
        assert!(!case(&["localhost", "127.0.0.1:9001"]));
        assert!(!case(&["localhost:22", "127.0.0.1:9001"]));
        assert!(
            !Grants::public_only(grants(&["localhost", "127.0.0.1"])).address_allowed("localhost", loopback)
        );
    }
}
