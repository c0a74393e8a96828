//! Origins of web pages, in the form of `server.origins` and `chat.origins`.
//!
//! An origin is compared as text, as browsers send it. There are no patterns: `https://*.example.com` would admit every
//! page that somebody can place on a subdomain.

use serde::{Deserialize, Serialize};

/// Web pages that may call the gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Origins(Vec<String>);

/// How a page may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Its origin is listed: it may send credentials of the browser, too.
    Named,
    /// Only `"*"` covers it: without credentials of the browser.
    Anybody,
}

/// The word for every origin.
const ANY: &str = "*";

/// What the checks accept.
pub(crate) const ACCEPTED: &str = "must hold origins as browsers send them, such as \"https://example.com\": no path, \
    no pattern, no port that is the scheme's own; or \"null\", \"file://\", \"*\"";

impl Origins {
    /// True when no origin is listed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The grant of a page; `None` when it is not listed.
    pub fn grant(&self, origin: &str) -> Option<Grant> {
        if origin != ANY && self.0.iter().any(|known| known == origin) {
            return Some(Grant::Named);
        }
        self.0.iter().any(|known| known == ANY).then_some(Grant::Anybody)
    }

    /// Listed texts that no browser sends.
    pub(crate) fn unusable(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str).filter(|text| !is_origin(text))
    }
}

/// Returns true for a page's origin: a scheme, a host and an optional port, nothing else; or one of the words.
fn is_origin(text: &str) -> bool {
    if [ANY, "null", "file://"].contains(&text) {
        return true;
    }
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let scheme_fits =
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let host_fits = !rest.is_empty()
        && rest
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_:[]".contains(&byte));
    // Browsers leave the scheme's own port out, so such an origin would match no page.
    let own_port = match scheme {
        "https" => rest.ends_with(":443"),
        "http" => rest.ends_with(":80"),
        _ => false,
    };
    scheme_fits && host_fits && !own_port
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_the_form_in_which_browsers_send_it() {
        for text in [
            "https://app.example",
            "http://localhost:5173",
            "http://[::1]:8000",
            "capacitor://localhost",
            "null",
            "file://",
            "*",
        ] {
            assert!(is_origin(text), "{text}");
        }
        for text in [
            "",
            "app.example",
            "https://",
            "https://app.example/",
            "https://App.example",
            "https://*.example",
            "https://app.example:443",
            "http://app.example:80",
            "https://user@app.example",
            "https://a.example, https://b.example",
        ] {
            assert!(!is_origin(text), "{text}");
        }
    }

    #[test]
    fn only_named_origins_may_send_credentials() {
        let origins = |list: &[&str]| Origins(list.iter().map(|text| (*text).to_owned()).collect());
        let app = "https://app.example";
        assert_eq!(origins(&[]).grant(app), None);
        assert_eq!(origins(&[app]).grant(app), Some(Grant::Named));
        assert_eq!(origins(&[app]).grant("https://app.example.evil.example"), None);
        assert_eq!(origins(&[app, "*"]).grant(app), Some(Grant::Named));
        assert_eq!(origins(&[app, "*"]).grant("https://other.example"), Some(Grant::Anybody));
        assert_eq!(origins(&["*"]).grant("*"), Some(Grant::Anybody), "a page cannot name itself so");
    }
}
