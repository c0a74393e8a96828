//! User agents, each stored once, as on sled: the first session of a text stores the text itself, later ones its
//! number. Texts are learnt after a successful login, so failed guesses cannot fill the table. Past [`AGENTS_MAX`]
//! texts each session stores its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Postgres;
use super::value::{Columns, Text};

/// Different user agents stored once.
const AGENTS_MAX: i64 = 10_000;

/// A shorter text is about as long as its number.
const TEXT_BYTES_MIN: usize = 4;

/// How a session's row refers to its user agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AgentRef {
    Number(i64),
    Text,
}

/// The texts whose numbers this gateway knows; `None` while one is being learnt, or cannot be.
#[derive(Default)]
pub(super) struct Agents(Mutex<HashMap<Arc<str>, Option<i64>>>);

impl Postgres {
    /// How a new session refers to this text. The number stays good: no text is ever removed.
    pub(crate) fn agent(&self, text: &str) -> AgentRef {
        let known = self.shared.agents.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(text).copied().flatten().map_or(AgentRef::Text, AgentRef::Number)
    }

    /// Stores a user agent for later sessions, unless it is known. No caller waits for it, and a failure refuses no
    /// login.
    pub(crate) fn agent_learn(&self, text: &Arc<str>) {
        let mut known = self.shared.agents.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = known.len() as i64 >= AGENTS_MAX;
        if full || text.len() < TEXT_BYTES_MIN || known.contains_key(text) {
            return;
        }
        known.insert(Arc::clone(text), None);
        drop(known);
        let (shared, text) = (Arc::clone(&self.shared), Arc::clone(text));
        let learnt = self.change_then(
            Arc::clone(&text),
            |sql, text| {
                Box::pin(async move {
                    let add = "insert into user_agent (text)
                        select $1 where (select count(*) from user_agent) < $2 on conflict do nothing";
                    sql.run(add, &[&Text(text), &AGENTS_MAX]).await?;
                    let find = "select id from user_agent where md5(text) = md5($1) and text = $1";
                    Ok(sql.found(find, &[&Text(text)]).await?.map(|row| row.uint("id").cast_signed()))
                })
            },
            {
                let text = Arc::clone(&text);
                move |number| {
                    let mut known = shared.agents.0.lock().unwrap_or_else(PoisonError::into_inner);
                    match number {
                        Ok(number) => drop(known.insert(text, number)),
                        Err(error) => {
                            tracing::warn!(%error, "a user agent could not be stored");
                            known.remove(&text);
                        }
                    }
                }
            },
        );
        if learnt.is_err() {
            self.shared.agents.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&text);
        }
    }
}
