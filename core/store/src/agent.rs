//! User agents, each stored once: a session keeps the number of its user agent instead of a hundred bytes.
//!
//! All of them are in memory, a few megabytes at most. One that is new is made durable before a session refers to it;
//! past [`AGENTS_MAX`] different ones, which honest clients do not reach, a session keeps the text itself. Two logins
//! at once may store one text twice, which costs its bytes and nothing else. None is ever removed.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use sled::IVec;

use crate::{Store, StoreError, error, keys};

/// Different user agents that are stored once.
const AGENTS_MAX: usize = 10_000;

/// How a session's record names its user agent.
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
}

impl Agents {
    pub(crate) fn load(tree: &sled::Tree) -> Result<Agents, StoreError> {
        let mut known = Known::default();
        for entry in tree.scan_prefix(keys::AGENTS) {
            let (key, value) = entry.map_err(error::read)?;
            if let (Some(number), Ok(text)) = (keys::agent_number(&key), std::str::from_utf8(&value)) {
                known.add(number, text.into());
            }
        }
        Ok(Agents(RwLock::new(known)))
    }

    /// The text that a record names; empty when a damaged store has lost it.
    pub(crate) fn text(&self, agent: AgentRef) -> Arc<str> {
        match agent {
            AgentRef::Text(text) => text.into(),
            AgentRef::Number(number) => {
                let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
                known.texts.get(&number).cloned().unwrap_or_default()
            }
        }
    }

    /// How a record can name this text, unless it could be stored once and is not yet.
    fn known(&self, text: &str) -> Option<AgentRef> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match known.numbers.get(text) {
            Some(number) => Some(AgentRef::Number(*number)),
            None if known.texts.len() >= AGENTS_MAX || text.len() < 4 => Some(AgentRef::Text(text.into())),
            None => None,
        }
    }
}

impl Known {
    fn add(&mut self, number: u32, text: Arc<str>) {
        self.numbers.insert(Arc::clone(&text), number);
        self.texts.insert(number, text);
    }
}

impl Store {
    /// How a record names a user agent, which is durable then.
    pub(crate) async fn agent(&self, text: String) -> Result<AgentRef, StoreError> {
        if let Some(agent) = self.agents.known(&text) {
            return Ok(agent);
        }
        let value = IVec::from(text.as_bytes());
        let number = self
            .change(move |txn| {
                let number = u32::try_from(txn.next(keys::AGENT_SEQUENCE)?).unwrap_or(u32::MAX);
                txn.put(keys::agent(number), value);
                Ok(number)
            })
            .await?;
        self.agents.0.write().unwrap_or_else(PoisonError::into_inner).add(number, text.into());
        Ok(AgentRef::Number(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreOptions;

    #[tokio::test]
    async fn a_text_is_stored_once_and_found_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        let first = store.agent("curl/8".to_owned()).await.unwrap();
        assert_eq!(store.agent("curl/8".to_owned()).await.unwrap(), first);
        let other = store.agent("curl/9".to_owned()).await.unwrap();
        assert_eq!((&first, &other), (&AgentRef::Number(1), &AgentRef::Number(2)));
        // Hardly longer than its number would be.
        assert_eq!(store.agent("x".to_owned()).await.unwrap(), AgentRef::Text("x".into()));
        drop(store);
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        assert_eq!(store.agent("curl/8".to_owned()).await.unwrap(), first);
        assert_eq!((&*store.agents.text(first), &*store.agents.text(other)), ("curl/8", "curl/9"));
        assert_eq!(&*store.agents.text(AgentRef::Number(77)), "");
    }

    #[test]
    fn past_the_bound_a_session_keeps_its_text() {
        let agents = Agents::default();
        assert_eq!(agents.known("curl/8"), None);
        for number in 0..AGENTS_MAX {
            agents.0.write().unwrap().add(number as u32, format!("agent {number}").into());
        }
        assert_eq!(agents.known("curl/8"), Some(AgentRef::Text("curl/8".into())));
        assert_eq!(agents.known("agent 7"), Some(AgentRef::Number(7)));
    }
}
