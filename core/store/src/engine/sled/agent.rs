//! User agents, each stored once: a session stores the number of its user agent instead of a hundred bytes.
//!
//! All of them are in memory, at most ten megabytes. The first session of a user agent stores the text itself. After
//! a successful login the text is stored for later sessions, so failed guesses cannot fill the list. Past
//! [`AGENTS_MAX`] different texts, which honest clients do not reach, each session stores its own text. No text is
//! ever removed.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use sled::IVec;

use crate::StoreError;
use crate::engine::sled::commit::Committer;
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{error, keys};

/// Different user agents stored once.
const AGENTS_MAX: usize = 10_000;

/// A shorter text is about as long as its number.
const TEXT_BYTES_MIN: usize = 4;

/// How a session's record refers to its user agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AgentRef {
    Number(u32),
    Text(Box<str>),
}

#[derive(Default)]
pub(crate) struct Agents(RwLock<Known>);

#[derive(Default)]
struct Known {
    numbers: HashMap<Arc<str>, u32>,
    texts: HashMap<u32, Arc<str>>,
    /// Texts being stored.
    pending: HashSet<Arc<str>>,
}

impl Agents {
    pub(crate) fn load(tree: &crate::engine::sled::tree::Tree) -> Result<Agents, StoreError> {
        let mut known = Known::default();
        for entry in tree.scan_prefix(keys::AGENTS) {
            let (key, value) = entry.map_err(error::read)?;
            if let (Some(number), Ok(text)) = (keys::agent_number(&key), std::str::from_utf8(&value)) {
                known.add(number, text.into());
            }
        }
        Ok(Agents(RwLock::new(known)))
    }

    /// The text a record refers to; empty when a damaged store has lost it.
    pub(crate) fn text(&self, agent: AgentRef) -> Arc<str> {
        match agent {
            AgentRef::Text(text) => text.into(),
            AgentRef::Number(number) => {
                let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
                known.texts.get(&number).cloned().unwrap_or_default()
            }
        }
    }

    /// How a record refers to this text, for as long as the record exists.
    pub(crate) fn name(&self, text: &str) -> AgentRef {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known
            .numbers
            .get(text)
            .map_or_else(|| AgentRef::Text(text.into()), |number| AgentRef::Number(*number))
    }

    /// Stores a user agent for later sessions, unless it is known. No caller waits for it, and a failure refuses no
    /// login.
    pub(crate) fn learn(self: &Arc<Self>, text: Arc<str>, committer: &Committer) {
        if !self.begin(&text) {
            return;
        }
        let (value, agents, learnt) = (IVec::from(text.as_bytes()), Arc::clone(self), Arc::clone(&text));
        let change = move |txn: &mut Txn| {
            let number = u32::try_from(txn.next(keys::AGENT_SEQUENCE)?).unwrap_or(u32::MAX);
            txn.put(keys::agent(number), value);
            Ok(number)
        };
        let submitted = committer.submit_with(change, move |stored| agents.end(&learnt, stored));
        if let Err(error) = submitted {
            self.end(&text, Err(error));
        }
    }

    /// Returns true when the caller is the one to store this text.
    fn begin(&self, text: &Arc<str>) -> bool {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let full = known.texts.len() + known.pending.len() >= AGENTS_MAX;
        if full || text.len() < TEXT_BYTES_MIN || known.numbers.contains_key(text) {
            return false;
        }
        known.pending.insert(Arc::clone(text))
    }

    /// Ends a storing attempt, successful or not.
    fn end(&self, text: &Arc<str>, stored: Result<u32, StoreError>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.pending.remove(text);
        match stored {
            Ok(number) => known.add(number, Arc::clone(text)),
            Err(error) => tracing::warn!(%error, "a user agent could not be stored"),
        }
    }
}

impl Known {
    fn add(&mut self, number: u32, text: Arc<str>) {
        self.numbers.insert(Arc::clone(&text), number);
        self.texts.insert(number, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Store, StoreOptions};

    fn learn(store: &Store, text: &str) {
        store.sled().agents.learn(text.into(), &store.sled().committer);
    }

    #[tokio::test]
    async fn a_text_is_stored_once_and_found_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        assert_eq!(store.sled().agents.name("curl/8"), AgentRef::Text("curl/8".into()));
        // Concurrent callers store it once; `x` is about as long as its number.
        for text in ["curl/8", "curl/8", "curl/8", "curl/9", "x"] {
            learn(&store, text);
        }
        // Changes are answered in order.
        store.probe_put(b"after", b"").await.unwrap();
        learn(&store, "curl/8");
        store.probe_put(b"after", b"").await.unwrap();
        let [first, other] = ["curl/8", "curl/9"].map(|text| store.sled().agents.name(text));
        assert_eq!((&first, &other), (&AgentRef::Number(1), &AgentRef::Number(2)));
        assert_eq!(store.sled().agents.name("x"), AgentRef::Text("x".into()));
        drop(store);
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        assert_eq!(store.sled().agents.name("curl/8"), first);
        assert_eq!(
            (&*store.sled().agents.text(first), &*store.sled().agents.text(other)),
            ("curl/8", "curl/9")
        );
        assert_eq!(&*store.sled().agents.text(AgentRef::Number(77)), "");
    }

    #[tokio::test]
    async fn past_the_bound_a_session_keeps_its_text() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        for number in 0..AGENTS_MAX {
            store.sled().agents.0.write().unwrap().add(number as u32, format!("agent {number}").into());
        }
        learn(&store, "curl/8");
        store.probe_put(b"after", b"").await.unwrap();
        assert_eq!(store.sled().agents.name("curl/8"), AgentRef::Text("curl/8".into()));
        assert_eq!(store.sled().agents.name("agent 7"), AgentRef::Number(7));
    }
}
