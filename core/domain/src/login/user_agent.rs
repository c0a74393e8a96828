//! What a `User-Agent` header says about a client: enough for a person to recognise a session.
//!
//! `ua-parser` reads it with the data of uap-core (see `data/README.md`), so the names are those that other programs
//! show. The header is the client's own claim: shown, never decided by. The rules take 26 MiB and 150 ms to make, so a
//! thread makes them at the first question, which a login asks ahead, and drops them after ten idle minutes; answers
//! stay in a bounded cache.

use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use ua_parser::Extractor;

/// What is said when a family is not known.
pub const OTHER: &str = "Other";

/// Different user agents remembered: about 2 MiB.
const CACHE_MAX: u64 = 4096;

/// Questions that wait for the thread; a list of sessions has one at a time. One more is not read ahead.
const QUESTIONS_MAX: usize = 1024;

/// After this time without a question the rules are dropped. A client that nobody saw before makes them anew.
const IDLE: Duration = Duration::from_secs(10 * 60);

/// Libraries that uap-core does not know, by the name before the first slash. `Dart/3.2 (dart:io)` is Flutter's.
const MORE: [&str; 1] = ["Dart"];

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

impl Agent {
    fn unknown() -> Agent {
        Agent { device: OTHER.to_owned(), browser: OTHER.to_owned(), platform: OTHER.to_owned() }
    }
}

/// Reads a `User-Agent` header.
pub trait UserAgentParser: Send {
    fn parse(&self, user_agent: &str) -> Agent;
}

/// Makes a parser; called on a thread of its own, where it may take its time.
pub type MakeParser = Box<dyn Fn() -> Box<dyn UserAgentParser> + Send + Sync>;

/// The rules of uap-core: made in about 150 ms (optimised), 26 MiB while they are held.
pub struct UapCore(Extractor<'static>);

impl UapCore {
    #[must_use]
    pub fn new() -> UapCore {
        let rules: ua_parser::Regexes<'static> =
            serde_json::from_str(include_str!("../../data/regexes.json"))
                .expect("the data is part of the program");
        UapCore(Extractor::try_from(rules).expect("a test makes them all"))
    }
}

impl Default for UapCore {
    fn default() -> Self {
        UapCore::new()
    }
}

impl UserAgentParser for UapCore {
    fn parse(&self, user_agent: &str) -> Agent {
        let browser = self.0.ua.extract(user_agent).map(|found| found.family.into_owned());
        let missing = || MORE.iter().find(|name| user_agent.starts_with(&format!("{name}/")));
        let browser = browser.or_else(|| missing().map(|name| (*name).to_owned()));
        let platform = self.0.os.extract(user_agent).map(|found| found.os.into_owned());
        // Chrome on Android has named every model `K` since 2023.
        let device = self.0.dev.extract(user_agent).map(|found| found.device.into_owned());
        let device = device.filter(|device| device != "K");
        let or_other = |family: Option<String>| family.unwrap_or_else(|| OTHER.to_owned());
        Agent { device: or_other(device), browser: or_other(browser), platform: or_other(platform) }
    }
}

/// What user agents say: a bounded cache, and behind it a thread that holds the rules while they are needed.
///
/// A login asks ahead ([`Agents::prepare`]), so that a list of sessions finds its answers in the cache. No worker
/// thread of the runtime ever makes or runs the rules.
pub(crate) struct Agents {
    make: Arc<MakeParser>,
    cache: moka::sync::Cache<String, Arc<Agent>>,
    /// To the thread; `None`, or closed, when none runs.
    thread: Mutex<Option<SyncSender<Question>>>,
    idle: Duration,
}

struct Question {
    user_agent: String,
    /// `None`: into the cache only.
    answer: Option<oneshot::Sender<Arc<Agent>>>,
}

impl Agents {
    /// With the rules of uap-core. One for all gateways of a process: tests start hundreds.
    pub(crate) fn of_process() -> Arc<Agents> {
        static SHARED: LazyLock<Arc<Agents>> =
            LazyLock::new(|| Arc::new(Agents::new(Box::new(|| Box::new(UapCore::new())))));
        Arc::clone(&SHARED)
    }

    pub(crate) fn new(make: MakeParser) -> Self {
        let cache = moka::sync::Cache::new(CACHE_MAX);
        Agents { make: Arc::new(make), cache, thread: Mutex::default(), idle: IDLE }
    }

    /// Reads a user agent ahead. Never waits: when too many wait already, the first list reads it.
    pub(crate) fn prepare(&self, user_agent: &str) {
        if !self.cache.contains_key(user_agent) {
            self.ask(Question { user_agent: user_agent.to_owned(), answer: None });
        }
    }

    /// What a user agent says. [`OTHER`] in every field when the rules cannot answer now.
    pub(crate) async fn get(&self, user_agent: &str) -> Arc<Agent> {
        if let Some(agent) = self.cache.get(user_agent) {
            return agent;
        }
        // A thread that ends just now leaves its last question unanswered; the second try begins another.
        for _ in 0..2 {
            let (sender, answer) = oneshot::channel();
            self.ask(Question { user_agent: user_agent.to_owned(), answer: Some(sender) });
            if let Ok(agent) = answer.await {
                return agent;
            }
        }
        Arc::new(Agent::unknown())
    }

    /// Hands a question to the thread; drops it when too many wait or no thread can be had.
    fn ask(&self, question: Question) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let question = match &*thread {
            None => question,
            Some(running) => match running.try_send(question) {
                Ok(()) | Err(TrySendError::Full(_)) => return,
                // It was idle for long and ended.
                Err(TrySendError::Disconnected(question)) => question,
            },
        };
        let (sender, questions) = sync_channel(QUESTIONS_MAX);
        // A new queue has room, and its other end is here.
        let _ = sender.try_send(question);
        let (make, cache, idle) = (Arc::clone(&self.make), self.cache.clone(), self.idle);
        let begun = std::thread::Builder::new()
            .name("user-agents".to_owned())
            .spawn(move || answer_all(make(), &cache, &questions, idle));
        match begun {
            Ok(_) => *thread = Some(sender),
            Err(error) => tracing::warn!(%error, "user agents cannot be read: no thread"),
        }
    }
}

/// Answers until no question came for `idle`, or the last asker is gone. The rules are dropped then.
fn answer_all(
    parser: Box<dyn UserAgentParser>,
    cache: &moka::sync::Cache<String, Arc<Agent>>,
    questions: &Receiver<Question>,
    idle: Duration,
) {
    while let Ok(Question { user_agent, answer }) = questions.recv_timeout(idle) {
        let agent = cache.get_with(user_agent.clone(), || Arc::new(parser.parse(&user_agent)));
        if let Some(answer) = answer {
            // The asker may have gone away.
            let _ = answer.send(agent);
        }
    }
}

impl fmt::Debug for Agents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agents").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

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
        ("okhttp/4.12.0", "Other", "okhttp", "Other"),
        ("Dart/3.2 (dart:io)", "Other", "Dart", "Other"),
        ("Dalvik/2.1.0 (Linux; U; Android 11; M2003J15SC Build/RP1A)", "M2003J15SC", "Android", "Android"),
    ];

    #[test]
    fn common_clients_are_recognised() {
        let rules = UapCore::new();
        for (user_agent, device, browser, platform) in CLIENTS {
            let agent = rules.parse(user_agent);
            let found = (&*agent.device, &*agent.browser, &*agent.platform);
            assert_eq!(found, (*device, *browser, *platform), "{user_agent}");
        }
    }

    #[test]
    fn anything_else_is_other() {
        let rules = UapCore::new();
        for text in ["", "x", "\u{feff}سلام", "K", ";;;)(;;("] {
            let agent = rules.parse(text);
            let found = [agent.device, agent.browser, agent.platform];
            assert_eq!(found, [OTHER, OTHER, OTHER], "{text:?}");
        }
    }

    /// Echoes the header, and counts how often it was made and asked.
    struct Echo(Arc<Counts>);

    #[derive(Default)]
    struct Counts {
        made: AtomicUsize,
        parsed: AtomicUsize,
    }

    impl UserAgentParser for Echo {
        fn parse(&self, user_agent: &str) -> Agent {
            self.0.parsed.fetch_add(1, Ordering::SeqCst);
            Agent { browser: user_agent.to_owned(), ..Agent::unknown() }
        }
    }

    fn agents(idle: Duration) -> (Agents, Arc<Counts>) {
        let counts = Arc::<Counts>::default();
        let shared = Arc::clone(&counts);
        let make = move || -> Box<dyn UserAgentParser> {
            shared.made.fetch_add(1, Ordering::SeqCst);
            Box::new(Echo(Arc::clone(&shared)))
        };
        (Agents { idle, ..Agents::new(Box::new(make)) }, counts)
    }

    #[tokio::test]
    async fn the_rules_are_made_at_the_first_question_and_answers_are_cached() {
        let (agents, counts) = agents(IDLE);
        assert_eq!(counts.made.load(Ordering::SeqCst), 0);
        for _ in 0..3 {
            assert_eq!(agents.get("curl/1").await.browser, "curl/1");
        }
        assert_eq!(agents.get("curl/2").await.browser, "curl/2");
        let made_and_parsed = (counts.made.load(Ordering::SeqCst), counts.parsed.load(Ordering::SeqCst));
        assert_eq!(made_and_parsed, (1, 2));
    }

    #[tokio::test]
    async fn what_was_asked_ahead_is_read_once() {
        let (agents, counts) = agents(IDLE);
        for _ in 0..10 {
            agents.prepare("curl/1");
        }
        // Questions are answered in their order.
        agents.get("curl/2").await;
        assert_eq!(agents.get("curl/1").await.browser, "curl/1");
        assert_eq!(counts.parsed.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn idle_rules_are_dropped_and_made_again() {
        let (agents, counts) = agents(Duration::ZERO);
        let mut asked = 0;
        // The question that finds the thread gone begins another.
        while counts.made.load(Ordering::SeqCst) < 3 {
            asked += 1;
            let text = format!("curl/{asked}");
            let browser = agents.get(&text).await.browser.clone();
            assert!(browser == text || browser == OTHER, "{browser}");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_cache_is_bounded() {
        let (agents, _) = agents(IDLE);
        for n in 0..2 * CACHE_MAX {
            agents.get(&format!("curl/{n}")).await;
        }
        agents.cache.run_pending_tasks();
        assert!(agents.cache.entry_count() <= CACHE_MAX);
        assert_eq!(agents.get("curl/1").await.browser, "curl/1");
    }
}
