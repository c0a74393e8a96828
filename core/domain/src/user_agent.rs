//! What a `User-Agent` header says about a client: enough for a person to recognise a session as theirs.
//!
//! A port, because the wish for exact models and versions ends in a data file that has to be kept up; the built-in
//! parser knows the families that nearly all clients belong to and says `Other` for the rest. The header is the
//! client's own word: shown, never decided by. Answers are cached, with a bound.

use std::fmt;
use std::sync::Arc;

/// What is said when a family is not known.
pub const OTHER: &str = "Other";

/// Different user agents remembered: about 2 MiB.
const CACHE_MAX: u64 = 4096;

/// A client in words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// `iPhone`, `iPad`, an Android model such as `SM-G991B`, or `Other`.
    pub device: String,
    /// `Chrome`, `Firefox`, `Safari`, ... or `Other`.
    pub browser: String,
    /// `Android`, `iOS`, `Windows`, `macOS`, `Linux`, `ChromeOS` or `Other`.
    pub platform: String,
}

/// Reads a `User-Agent` header.
pub trait UserAgentParser: Send + Sync {
    fn parse(&self, user_agent: &str) -> Agent;
}

/// Recognises the common families by their tokens.
#[derive(Debug, Clone, Copy, Default)]
pub struct CommonAgents;

/// Tokens in the order they must be looked for: nearly all browsers also name the one they descend from.
const BROWSERS: [(&str, &str); 21] = [
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("Edge/", "Edge"),
    ("OPR/", "Opera"),
    ("OPT/", "Opera"),
    ("Opera", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("YaBrowser/", "Yandex"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("HeadlessChrome/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("curl/", "curl"),
    ("PostmanRuntime/", "Postman"),
    ("okhttp/", "okhttp"),
    ("Dart/", "Dart"),
    ("CFNetwork/", "CFNetwork"),
    ("python-requests/", "Python Requests"),
    ("Dalvik/", "Android"),
];

impl UserAgentParser for CommonAgents {
    fn parse(&self, user_agent: &str) -> Agent {
        let has = |token: &str| user_agent.contains(token);
        let known = BROWSERS.iter().find(|(token, _)| has(token)).map(|(_, name)| *name);
        let browser = match known {
            Some(name) => name,
            None if has("Safari/") && has("Version/") => "Safari",
            None => OTHER,
        };
        let (device, platform) = if has("iPhone") {
            ("iPhone", "iOS")
        } else if has("iPad") {
            ("iPad", "iOS")
        } else if has("Android") {
            (android_model(user_agent).unwrap_or(OTHER), "Android")
        } else if has("Windows") {
            (OTHER, "Windows")
        } else if has("Macintosh") || has("Mac OS X") {
            (OTHER, "macOS")
        } else if has("CrOS") {
            (OTHER, "ChromeOS")
        } else if has("Linux") {
            (OTHER, "Linux")
        } else {
            (OTHER, OTHER)
        };
        Agent { device: device.to_owned(), browser: browser.to_owned(), platform: platform.to_owned() }
    }
}

/// The model in `(Linux; Android 13; SM-G991B Build/TP1A)`; Chrome writes `K` for all since 2023, which says nothing.
fn android_model(user_agent: &str) -> Option<&str> {
    let (_, after) = user_agent.split_once("Android")?;
    let comment = after.split(')').next()?;
    let model = comment.split(';').nth(1)?.trim();
    let model = model.split(" Build/").next()?.trim();
    let names_model = !model.is_empty()
        && model.len() <= 40
        && !matches!(model, "K" | "wv" | "Mobile" | "Tablet")
        && !model.starts_with("rv:");
    names_model.then_some(model)
}

/// A parser with a bounded memory.
pub(crate) struct CachedAgents {
    parser: Box<dyn UserAgentParser>,
    cache: moka::sync::Cache<String, Arc<Agent>>,
}

impl CachedAgents {
    pub(crate) fn new(parser: Box<dyn UserAgentParser>) -> Self {
        CachedAgents { parser, cache: moka::sync::Cache::new(CACHE_MAX) }
    }

    pub(crate) fn get(&self, user_agent: &str) -> Arc<Agent> {
        match self.cache.get(user_agent) {
            Some(agent) => agent,
            None => {
                let agent = Arc::new(self.parser.parse(user_agent));
                self.cache.insert(user_agent.to_owned(), Arc::clone(&agent));
                agent
            }
        }
    }
}

impl fmt::Debug for CachedAgents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedAgents").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(user_agent: &str, device: &str, browser: &str, platform: &str) {
        let agent = CommonAgents.parse(user_agent);
        assert_eq!((&*agent.device, &*agent.browser, &*agent.platform), (device, browser, platform));
    }

    #[test]
    fn common_clients_are_recognised() {
        check(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
            "Other",
            "Chrome",
            "Windows",
        );
        check(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36 Edg/120.0.2210.91",
            "Other",
            "Edge",
            "Windows",
        );
        check(
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Safari/537.36 OPR/105.0.0.0",
            "Other",
            "Opera",
            "Linux",
        );
        check(
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Mobile/15E148 Safari/604.1",
            "iPhone",
            "Safari",
            "iOS",
        );
        check(
            "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/120.0.6099.50 Mobile/15E148 Safari/604.1",
            "iPad",
            "Chrome",
            "iOS",
        );
        check(
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Safari/605.1.15",
            "Other",
            "Safari",
            "macOS",
        );
        check(
            "Mozilla/5.0 (Linux; Android 13; SAMSUNG SM-G991B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/23.0 Chrome/115.0.0.0 Mobile Safari/537.36",
            "SAMSUNG SM-G991B",
            "Samsung Internet",
            "Android",
        );
        check(
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36",
            "Other",
            "Chrome",
            "Android",
        );
        check(
            "Mozilla/5.0 (Linux; Android 12; Redmi Note 11 Build/SKQ1.211103.001; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/119.0.6045.194 Mobile Safari/537.36",
            "Redmi Note 11",
            "Chrome",
            "Android",
        );
        check(
            "Mozilla/5.0 (Android 13; Mobile; rv:109.0) Gecko/119.0 Firefox/119.0",
            "Other",
            "Firefox",
            "Android",
        );
        check("curl/8.4.0", "Other", "curl", "Other");
        check(
            "Dalvik/2.1.0 (Linux; U; Android 11; M2003J15SC Build/RP1A)",
            "M2003J15SC",
            "Android",
            "Android",
        );
    }

    #[test]
    fn anything_else_is_other() {
        for text in ["", "x", "Android", "Android;", "Android (;)", "\u{feff}سلام", ";;;)Android;;("] {
            let agent = CommonAgents.parse(text);
            assert_eq!(agent.browser, OTHER, "{text:?}");
            assert_eq!(agent.device, OTHER, "{text:?}");
        }
    }

    #[test]
    fn the_cache_is_bounded() {
        let agents = CachedAgents::new(Box::new(CommonAgents));
        for n in 0..2 * CACHE_MAX {
            agents.get(&format!("curl/{n}"));
        }
        agents.cache.run_pending_tasks();
        assert!(agents.cache.entry_count() <= CACHE_MAX);
        assert_eq!(agents.get("curl/1").browser, "curl");
    }
}
