//! What a mapping sees of the gateway: the operator's settings and one way to send a request.
//!
//! Mappings take `&dyn Context` instead of calling the imports, so that the same code runs in the component
//! (with [`Gateway`]), in a native unit test (with [`crate::testing::Script`]) and in a native benchmark.
//! Nothing here remembers anything: a component instance lives for one call.

use crate::http::{HttpError, HttpRequest, HttpResponse};
use crate::{Error, wit};

/// Setting key of the provider's address; every provider plugin has it, see [`crate::Description::base_url`].
pub const BASE_URL: &str = "base_url";

/// Setting key of the address that payers' browsers open, see [`crate::Description::payer_url`].
pub const PAYER_URL: &str = "payer_url";

/// Setting key of the time-out of one request, in milliseconds.
pub const REQUEST_TIMEOUT_MS: &str = "request_timeout_ms";

/// Settings of the provider entry that is being called, and the way out to the provider.
pub trait Context {
    /// The operator's value or the described default; `None` when it is optional and not set.
    fn setting(&self, key: &str) -> Option<String>;

    /// Carries one request out. Use [`crate::http::Request`] rather than this.
    fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError>;
}

/// The gateway itself, through the component's imports. Only works inside a component.
pub struct Gateway;

impl Context for Gateway {
    fn setting(&self, key: &str) -> Option<String> {
        wit::base::chelseru::provider::settings::get(key)
    }

    fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        wit::base::chelseru::provider::http::send(&request)
    }
}

impl dyn Context + '_ {
    /// A setting that is not empty.
    pub fn optional(&self, key: &str) -> Option<String> {
        self.setting(key).filter(|value| !value.trim().is_empty())
    }

    /// A setting that must be there.
    ///
    /// # Errors
    /// `misconfigured`, naming the key, when it is missing or empty.
    pub fn required(&self, key: &str) -> Result<String, Error> {
        self.optional(key).ok_or_else(|| Error::misconfigured(&["setting ", key, " is missing"].concat()))
    }

    /// A whole number that is not negative.
    ///
    /// # Errors
    /// `misconfigured`, naming the key, when it is set and not such a number.
    pub fn integer(&self, key: &str) -> Result<Option<u64>, Error> {
        let Some(text) = self.optional(key) else { return Ok(None) };
        match text.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Error::misconfigured(&["setting ", key, " is not a whole number"].concat())),
        }
    }

    /// The provider's address without a trailing slash, so that `[base, "/path"].concat()` is right.
    ///
    /// # Errors
    /// `misconfigured` when it is missing or not an http(s) URL.
    pub fn base_url(&self) -> Result<String, Error> {
        self.url(BASE_URL)
    }

    /// The address that a payer's browser opens: the setting `payer_url`, else `base_url`.
    ///
    /// # Errors
    /// `misconfigured` when the one that counts is not an http(s) URL.
    pub fn payer_url(&self) -> Result<String, Error> {
        let key = if self.optional(PAYER_URL).is_some() { PAYER_URL } else { BASE_URL };
        self.url(key)
    }

    /// [`Self::base_url`] for another setting that holds a URL.
    ///
    /// # Errors
    /// `misconfigured`, naming the key, when it is missing or not an http(s) URL.
    pub fn url(&self, key: &str) -> Result<String, Error> {
        let url = self.required(key)?;
        let url = url.trim().trim_end_matches('/');
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        if host.is_none_or(str::is_empty) {
            return Err(Error::misconfigured(&["setting ", key, " is not an http or https URL"].concat()));
        }
        Ok(url.to_owned())
    }

    /// The `request_timeout_ms` setting; `None` leaves the limit to the gateway.
    ///
    /// # Errors
    /// `misconfigured` when it is not a whole number. One beyond 32 bits counts as 2^32-1.
    pub fn request_timeout_ms(&self) -> Result<Option<u32>, Error> {
        let timeout = self.integer(REQUEST_TIMEOUT_MS)?;
        Ok(timeout.map(|milliseconds| u32::try_from(milliseconds).unwrap_or(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Script;

    fn context(key: &str, value: &str) -> Script {
        Script::new().setting(key, value)
    }

    #[test]
    fn base_url_loses_its_slash_and_must_be_a_url() {
        for (value, url) in [
            ("https://api.example/", Some("https://api.example")),
            (" http://127.0.0.1:1/x// ", Some("http://127.0.0.1:1/x")),
            ("https://", None),
            ("ftp://a", None),
            ("", None),
        ] {
            let script = context(BASE_URL, value);
            assert_eq!((&script as &dyn Context).base_url().ok().as_deref(), url, "{value}");
        }
    }

    #[test]
    fn payers_go_to_the_base_url_unless_they_have_their_own() {
        let script = context(BASE_URL, "http://10.0.0.7:8080/zp");
        assert_eq!((&script as &dyn Context).payer_url().as_deref(), Ok("http://10.0.0.7:8080/zp"));
        let script = script.setting(PAYER_URL, "https://pay.example/");
        assert_eq!((&script as &dyn Context).payer_url().as_deref(), Ok("https://pay.example"));
        assert_eq!((&script as &dyn Context).base_url().as_deref(), Ok("http://10.0.0.7:8080/zp"));
    }

    #[test]
    fn a_wrong_setting_is_named_without_its_value() {
        let script = context("api_key", " ").setting(REQUEST_TIMEOUT_MS, "hidden");
        let context: &dyn Context = &script;
        assert_eq!(context.required("api_key"), Err(Error::misconfigured("setting api_key is missing")));
        assert_eq!(
            context.request_timeout_ms(),
            Err(Error::misconfigured("setting request_timeout_ms is not a whole number"))
        );
        assert_eq!(context.integer("absent"), Ok(None));
    }

    #[test]
    fn a_timeout_beyond_32_bits_is_the_largest() {
        let script = context(REQUEST_TIMEOUT_MS, "4294967296");
        assert_eq!((&script as &dyn Context).request_timeout_ms(), Ok(Some(u32::MAX)));
    }
}
