//! Addresses that payers may be sent to.

use std::net::Ipv6Addr;

/// Returns true when payers may be sent to an address: it is http or https, names no user, and has an allowed prefix
/// that ends at a boundary of its path.
pub fn is_allowed(url: &str, allowed: &[String]) -> bool {
    let Some(asked) = parts(url) else { return false };
    allowed.iter().filter_map(|prefix| parts(prefix)).any(|prefix| {
        let path = prefix.2.trim_end_matches('/');
        asked.0 == prefix.0
            && asked.1 == prefix.1
            && asked.2.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Scheme, host with port unless it is the scheme's own, and path of an absolute http or https address without a user
/// name.
///
/// `None` for everything that browsers and this program could parse differently.
pub fn parts(url: &str) -> Option<(String, String, String)> {
    // Browsers treat backslashes as slashes; spaces and controls vanish or end a header.
    if !url.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\<>^`\"{}|".contains(&byte)) {
        return None;
    }
    let (scheme, rest) = url.split('#').next()?.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    if !["http", "https"].contains(&scheme.as_str()) {
        return None;
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let path = rest.split('?').next().unwrap_or_default();
    let path = if path.is_empty() { "/" } else { path };
    // `..` would leave the allowed path.
    let dots =
        |segment: &str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    if !is_authority(authority) || path.split('/').any(dots) {
        return None;
    }
    let authority = authority.to_ascii_lowercase();
    let default = if scheme == "https" { ":443" } else { ":80" };
    let host = authority.strip_suffix(default).unwrap_or(&authority).to_owned();
    Some((scheme, host, path.to_owned()))
}

/// Why an address cannot be a prefix of others; `None` when it can.
pub(crate) fn prefix_problem(url: &str) -> Option<&'static str> {
    if url.contains('*') {
        return Some("must hold no wildcards; an address allows all paths below it");
    }
    if url.contains(['#', '?']) {
        return Some("must hold addresses without query and fragment, which are not compared");
    }
    parts(url).is_none().then_some("must hold absolute http or https addresses")
}

/// Returns true for scheme and host of an http or https address, in lower case and without a path.
pub(crate) fn is_origin(text: &str) -> bool {
    parts(text).is_some_and(|(scheme, authority, _)| text == format!("{scheme}://{authority}"))
}

/// A host's name or address, with an optional port.
pub fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.parse::<Ipv6Addr>().is_ok() => ("v6", port),
        Some(_) => return false,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let host_fits =
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let port_fits = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok(),
    };
    host_fits && port_fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_beginnings_are_allowed() {
        let allowed = [
            "https://shop.example/pay".to_owned(),
            "http://127.0.0.1:3000".to_owned(),
            "https://[::1]:8443".to_owned(),
            "http://plain.example".to_owned(),
            "https://secure.example:443/".to_owned(),
        ];
        for url in [
            "https://shop.example/pay",
            "https://shop.example/pay/done?x=1#y",
            "https://SHOP.example/pay?x=1",
            "http://127.0.0.1:3000/anything",
            "https://[::1]:8443/x",
            "https://shop.example:443/pay",
            "http://plain.example:80/x",
            "http://plain.example/x",
            "https://secure.example/x",
        ] {
            assert!(is_allowed(url, &allowed), "{url}");
        }
        for url in [
            "https://shop.example/payments",
            "https://shop.example/",
            "http://shop.example/pay",
            "https://shop.example:444/pay",
            "https://shop.example:80/pay",
            "http://plain.example:443/x",
            "https://shop.example.evil.example/pay",
            "https://shop.example@evil.example/pay",
            "https://evil.example/?https://shop.example/pay",
            "https://shop.example/pay/../admin",
            "https://shop.example/pay/%2e%2E/admin",
            "https://shop.example\\@evil.example/pay",
            "https://shop.example/pay\r\nx: y",
            "//shop.example/pay",
            "https://shop.example:/pay",
            "https://shop.example:99999/pay",
            "https://[::g]:8443/x",
            "https://shop.example\u{200b}/pay",
            "https:///pay",
            "javascript:alert(1)",
            "/pay",
            "",
        ] {
            assert!(!is_allowed(url, &allowed), "{url}");
        }
        assert!(!is_allowed("https://shop.example/", &[]));
    }

    #[test]
    fn a_prefix_is_an_address_without_wildcard_query_or_fragment() {
        for url in ["https://shop.example/pay", "http://127.0.0.1:3000", "https://shop.example:443/"] {
            assert_eq!(prefix_problem(url), None, "{url}");
        }
        for (url, word) in [
            ("https://*.shop.example/pay", "wildcards"),
            ("https://shop.example/*", "wildcards"),
            ("https://shop.example/pay#done", "fragment"),
            ("https://shop.example/pay?x=1", "query"),
            ("shop.example/pay", "absolute"),
        ] {
            assert!(prefix_problem(url).is_some_and(|text| text.contains(word)), "{url}");
        }
    }
}
