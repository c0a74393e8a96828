//! What a `User-Agent` header says about a client: enough for a person to recognise a session as theirs.
//!
//! Read by `ua-parser` with the data of uap-core (see `data/README.md`), whose families other programs show as well. The
//! header is the client's own word: shown, never decided by. Answers are cached, with a bound.

use std::fmt;
use std::sync::{Arc, LazyLock};

use ua_parser::Extractor;

/// What is said when a family is not known.
pub const OTHER: &str = "Other";

/// Different user agents remembered: about 2 MiB.
const CACHE_MAX: u64 = 4096;

/// A client in words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// `iPhone`, `iPad`, `Mac`, an Android model such as `Samsung SM-G991B`, or `Other`.
    pub device: String,
    /// `Chrome`, `Chrome Mobile`, `Firefox`, `Mobile Safari`, ... or `Other`.
    pub browser: String,
    /// `Android`, `iOS`, `Windows`, `Mac OS X`, `Linux`, `Ubuntu`, ... or `Other`.
    pub platform: String,
}

/// Reads a `User-Agent` header.
pub trait UserAgentParser: Send + Sync {
    fn parse(&self, user_agent: &str) -> Agent;
}

/// The rules of uap-core.
#[derive(Debug, Clone, Copy, Default)]
pub struct UapCore;

/// Made at the first use, in about 150 ms; 26 MiB from then on.
static RULES: LazyLock<Extractor<'static>> = LazyLock::new(|| {
    let rules: ua_parser::Regexes<'static> = serde_json::from_str(include_str!("../../data/regexes.json"))
        .expect("the data is part of the program");
    Extractor::try_from(rules).expect("a test makes them all")
});

impl UserAgentParser for UapCore {
    fn parse(&self, user_agent: &str) -> Agent {
        let browser = RULES.ua.extract(user_agent).map(|found| found.family.into_owned());
        let platform = RULES.os.extract(user_agent).map(|found| found.os.into_owned());
        // Chrome on Android has named every model `K` since 2023.
        let device = RULES.dev.extract(user_agent).map(|found| found.device.into_owned());
        let device = device.filter(|device| device != "K");
        let or_other = |family: Option<String>| family.unwrap_or_else(|| OTHER.to_owned());
        Agent { device: or_other(device), browser: or_other(browser), platform: or_other(platform) }
    }
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

    /// User agent, device, browser, platform.
    #[rustfmt::skip]
    const CLIENTS: &[(&str, &str, &str, &str)] = &[
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36", "Other", "Chrome", "Windows"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36 Edg/120.0.2210.91", "Other", "Edge", "Windows"),
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Safari/537.36 OPR/105.0.0.0", "Other", "Opera", "Linux"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Mobile/15E148 Safari/604.1", "iPhone", "Mobile Safari", "iOS"),
        ("Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/120.0.6099.50 Mobile/15E148 Safari/604.1", "iPad", "Chrome Mobile iOS", "iOS"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Safari/605.1.15", "Mac", "Safari", "Mac OS X"),
        ("Mozilla/5.0 (Linux; Android 13; SAMSUNG SM-G991B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/23.0 Chrome/115.0.0.0 Mobile Safari/537.36", "Samsung SM-G991B", "Samsung Internet", "Android"),
        ("Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36", "Other", "Chrome Mobile", "Android"),
        ("Mozilla/5.0 (Linux; Android 12; Redmi Note 11 Build/SKQ1.211103.001; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/119.0.6045.194 Mobile Safari/537.36", "XiaoMi Redmi Note 11", "Chrome Mobile WebView", "Android"),
        ("Mozilla/5.0 (Android 13; Mobile; rv:109.0) Gecko/119.0 Firefox/119.0", "Generic Smartphone", "Firefox Mobile", "Android"),
        ("curl/8.4.0", "Other", "curl", "Other"),
        ("Dalvik/2.1.0 (Linux; U; Android 11; M2003J15SC Build/RP1A)", "M2003J15SC", "Android", "Android"),
    ];

    #[test]
    fn common_clients_are_recognised() {
        for (user_agent, device, browser, platform) in CLIENTS {
            let agent = UapCore.parse(user_agent);
            let found = (&*agent.device, &*agent.browser, &*agent.platform);
            assert_eq!(found, (*device, *browser, *platform), "{user_agent}");
        }
    }

    #[test]
    fn anything_else_is_other() {
        for text in ["", "x", "\u{feff}سلام", "K", ";;;)(;;("] {
            let agent = UapCore.parse(text);
            let found = [agent.device, agent.browser, agent.platform];
            assert_eq!(found, [OTHER, OTHER, OTHER], "{text:?}");
        }
    }

    #[test]
    fn the_cache_is_bounded() {
        let agents = CachedAgents::new(Box::new(UapCore));
        for n in 0..2 * CACHE_MAX {
            agents.get(&format!("curl/{n}"));
        }
        agents.cache.run_pending_tasks();
        assert!(agents.cache.entry_count() <= CACHE_MAX);
        assert_eq!(agents.get("curl/1").browser, "curl");
    }
}
