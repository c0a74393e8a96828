//! `[payment]`: the gateway new payments go to, the unit of amounts, and where payers may be sent.

use serde::{Deserialize, Serialize};

/// `[payment]`: an edit applies to payments that are made after it; open ones stay with their gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Payment {
    /// A provider entry's name, or `SANDBOX_PAY`.
    pub gateway: String,
    /// Unit of all amounts in the API.
    pub currency: Unit,
    /// Where the bank sends payers back to when a client names no `callback_url`. Empty: `payment/verify/` of this
    /// gateway, which works for clients on this machine only.
    pub callback_url: String,
    /// Allowed beginnings of `callback_url` and `frontend_callback_url`.
    pub callback_urls: Vec<String>,
    /// Users who may capture and void holds and give payments back, besides those whose account is staff.
    pub staff_users: Vec<u64>,
    /// Seconds between two looks at what is due, 1 to 60.
    pub reconcile_seconds: u64,
}

impl Default for Payment {
    fn default() -> Self {
        Payment {
            gateway: SANDBOX_PAY.into(),
            currency: Unit::Irt,
            callback_url: String::new(),
            callback_urls: Vec::new(),
            staff_users: Vec::new(),
            reconcile_seconds: 5,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Toman.
    #[serde(rename = "IRT")]
    Irt,
    /// Rial.
    #[serde(rename = "IRR")]
    Irr,
}

/// The built-in virtual bank.
pub const SANDBOX_PAY: &str = "SANDBOX_PAY";

/// Addresses in `callback_urls`.
pub(super) const CALLBACK_URLS_MAX: usize = 100;

/// Whether an address may be where payers are sent: it is http or https, names no user, and begins with an allowed
/// one up to a boundary of its path.
pub fn is_allowed(url: &str, allowed: &[String]) -> bool {
    let Some(asked) = parts(url) else { return false };
    allowed.iter().filter_map(|prefix| parts(prefix)).any(|prefix| {
        let path = prefix.2.trim_end_matches('/');
        asked.0 == prefix.0
            && asked.1 == prefix.1
            && asked.2.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Scheme, host with port, and path of an address that browsers and this program read alike.
pub fn parts(url: &str) -> Option<(String, String, String)> {
    // What browsers drop or turn into slashes, and what could end up in a header.
    let strange = |c: char| c.is_whitespace() || c.is_control() || c == '\\';
    if url.contains(strange) {
        return None;
    }
    let uri: http::Uri = url.split('#').next()?.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme))?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    // `..` would leave the allowed path again.
    let path = uri.path();
    let dots =
        |segment: &str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    if path.split('/').any(dots) {
        return None;
    }
    Some((scheme.to_owned(), authority.as_str().to_ascii_lowercase(), path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_beginnings_are_allowed() {
        let allowed = ["https://shop.example/pay".to_owned(), "http://127.0.0.1:3000".to_owned()];
        for url in [
            "https://shop.example/pay",
            "https://shop.example/pay/done?x=1#y",
            "https://SHOP.example/pay?x=1",
            "http://127.0.0.1:3000/anything",
        ] {
            assert!(is_allowed(url, &allowed), "{url}");
        }
        for url in [
            "https://shop.example/payments",
            "https://shop.example/",
            "http://shop.example/pay",
            "https://shop.example:444/pay",
            "https://shop.example.evil.example/pay",
            "https://shop.example@evil.example/pay",
            "https://evil.example/?https://shop.example/pay",
            "https://shop.example/pay/../admin",
            "https://shop.example/pay/%2e%2E/admin",
            "https://shop.example\\@evil.example/pay",
            "https://shop.example/pay\r\nx: y",
            "//shop.example/pay",
            "javascript:alert(1)",
            "/pay",
            "",
        ] {
            assert!(!is_allowed(url, &allowed), "{url}");
        }
        assert!(!is_allowed("https://shop.example/", &[]));
    }
}
