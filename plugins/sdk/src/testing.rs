//! A scripted gateway for native unit tests: settings, answers in order, and the requests that were made.
//!
//! ```
//! use chelseru_plugin_sdk::{http::Request, testing::Script};
//!
//! let script = Script::new().setting("api_key", "k").reply(200, r#"{"ok":true}"#);
//! let answer = Request::post("https://api.example/send").form(&[("to", "0912")]).hand_over(&script)?;
//! assert!(answer.is_success());
//! assert_eq!(script.form(0), [("to".to_owned(), "0912".to_owned())]);
//! # Ok::<(), chelseru_plugin_sdk::Error>(())
//! ```

use std::cell::{Ref, RefCell};
use std::collections::VecDeque;

use crate::context::Context;
use crate::http::{HttpError, HttpRequest, HttpResponse};
use crate::{Plugin, SettingKind, encode};

/// Checks a plugin's description against the rules of `wit/v0.1/plugin.wit`.
///
/// # Panics
/// Names the first broken rule; for use in a unit test of every plugin.
pub fn check_description<P: Plugin>() {
    let described = P::describe();
    let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    assert!(!described.name.is_empty() && described.name.chars().all(kebab), "name {:?}", described.name);
    assert_eq!(described.version.split('.').count(), 3, "version {:?}", described.version);
    assert!(described.summary.ends_with('.'), "summary {:?} is no sentence", described.summary);
    for host in &described.hosts {
        assert!(
            !host.is_empty() && !host.contains(['/', ' ', '@']),
            "host {host:?} is not name or name:port"
        );
    }
    for (index, setting) in described.settings.iter().enumerate() {
        let key = setting.key.as_str();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(!key.is_empty() && key.chars().all(plain), "key {key:?}");
        assert!(described.settings[..index].iter().all(|other| other.key != key), "key {key} twice");
        assert!(setting.help.ends_with('.'), "help of {key} is no sentence");
        assert!(!(setting.required && setting.default.is_some()), "{key} is required and has a default");
        let unknown = setting.replaces.iter().find(|host| !described.hosts.contains(host));
        assert!(unknown.is_none(), "{key} replaces {unknown:?}, which is not among the hosts");
        let fits = setting.default.as_deref().is_none_or(|default| match setting.kind {
            SettingKind::Text => !default.is_empty(),
            SettingKind::Integer => default.parse::<u64>().is_ok(),
            SettingKind::Boolean => default.parse::<bool>().is_ok(),
            SettingKind::Url | SettingKind::Link => {
                default.starts_with("https://") || default.starts_with("http://")
            }
        });
        assert!(fits, "default of {key} is not of its kind");
    }
}

/// Broken forms of an answer: cut after each byte, and each byte replaced in turn by one that breaks UTF-8, a
/// string, a number or a nesting. A mapping must survive all of them; see [`truncations`] for more.
pub fn mutations(body: &str) -> impl Iterator<Item = Vec<u8>> {
    let replaced = |body: &str, at: usize, with: u8| {
        let mut bytes = body.as_bytes().to_vec();
        bytes[at] = with;
        bytes
    };
    let places =
        (0..body.len()).flat_map(|at| [0xFF, 0, b'"', b'9', b'[', b'}', b',', b'<'].map(|with| (at, with)));
    truncations(body).chain(places.map(move |(at, with)| replaced(body, at, with)))
}

/// An answer cut after each byte, the whole one left out. None of them may be read as a success.
pub fn truncations(body: &str) -> impl Iterator<Item = Vec<u8>> {
    (0..body.len()).map(|end| body.as_bytes()[..end].to_vec())
}

/// A [`Context`] that answers from a script.
#[derive(Default)]
pub struct Script {
    settings: Vec<(String, String)>,
    replies: RefCell<VecDeque<Result<HttpResponse, HttpError>>>,
    requests: RefCell<Vec<HttpRequest>>,
}

impl Script {
    /// A script without settings or answers.
    pub fn new() -> Self {
        Self::default()
    }

    /// A script with the default settings of a plugin's own description.
    pub fn for_plugin<P: Plugin>() -> Self {
        let settings = P::describe().settings.into_iter();
        let settings = settings.filter_map(|setting| Some((setting.key, setting.default?))).collect();
        Self { settings, ..Self::default() }
    }

    /// Sets or replaces a setting.
    pub fn setting(mut self, key: &str, value: &str) -> Self {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Answers the next request with a status and a body.
    pub fn reply(self, status: u16, body: impl Into<Vec<u8>>) -> Self {
        self.respond(HttpResponse { status, headers: Vec::new(), body: body.into() })
    }

    /// Answers the next request.
    pub fn respond(self, response: HttpResponse) -> Self {
        self.replies.borrow_mut().push_back(Ok(response));
        self
    }

    /// Fails the next request.
    pub fn fail(self, error: HttpError) -> Self {
        self.replies.borrow_mut().push_back(Err(error));
        self
    }

    /// The requests so far.
    pub fn requests(&self) -> Ref<'_, Vec<HttpRequest>> {
        self.requests.borrow()
    }

    /// The form fields of the request with this index; empty when there was none.
    pub fn form(&self, index: usize) -> Vec<(String, String)> {
        let requests = self.requests.borrow();
        requests.get(index).map_or_else(Vec::new, |r| encode::form_decode(&String::from_utf8_lossy(&r.body)))
    }
}

impl Context for Script {
    fn setting(&self, key: &str) -> Option<String> {
        let (_, value) = self.settings.iter().find(|(known, _)| known == key)?;
        Some(value.clone())
    }

    /// A request beyond the script is `not-sent`, and is recorded all the same.
    fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.requests.borrow_mut().push(request);
        let reply = self.replies.borrow_mut().pop_front();
        reply.unwrap_or_else(|| Err(HttpError::NotSent("the script has no answer left".to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Description, Setting};

    struct Wrong;

    impl Plugin for Wrong {
        fn describe() -> Description {
            Description::new("wrong", "1.0.0", "Wrong.").setting(Setting::integer("a", "A.").default("x"))
        }
    }

    #[test]
    #[should_panic(expected = "default of a is not of its kind")]
    fn a_broken_rule_of_a_description_is_named() {
        check_description::<Wrong>();
    }

    #[test]
    fn a_request_beyond_the_script_is_not_sent_and_recorded() {
        let script = Script::for_plugin::<Wrong>().setting("a", "1");
        let error = crate::http::Request::get("http://x").ask(&script).expect_err("no answer left");
        assert!(matches!(error, crate::Error::Unavailable(_)));
        assert_eq!(script.requests().len(), 1);
    }
}
