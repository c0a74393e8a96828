//! User agents, each stored once, as on sled: the first session of a text stores the text itself, later ones its
//! number. Texts are learnt after a successful login, so failed guesses cannot fill the table. Past [`AGENTS_MAX`]
//! texts each session stores its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::sql::Sql;
use super::value::{Text, int};
use crate::StoreError;

/// Different user agents stored once.
const AGENTS_MAX: usize = 10_000;

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
pub(crate) struct Agents(Mutex<HashMap<Arc<str>, Option<i64>>>);

impl Agents {
    /// How a new session refers to this text. The number stays good: no text is ever removed.
    pub(crate) fn name(&self, text: &str) -> AgentRef {
        self.known().get(text).copied().flatten().map_or(AgentRef::Text, AgentRef::Number)
    }

    /// Returns true when the caller is the one to store this text.
    pub(crate) fn begin(&self, text: &Arc<str>) -> bool {
        let mut known = self.known();
        if known.len() >= AGENTS_MAX || text.len() < TEXT_BYTES_MIN || known.contains_key(text) {
            return false;
        }
        known.insert(Arc::clone(text), None);
        true
    }

    /// Ends a storing attempt, successful or not. `None` when the table is full.
    pub(crate) fn end(&self, text: &Arc<str>, stored: Result<Option<i64>, StoreError>) {
        match stored {
            Ok(number) => drop(self.known().insert(Arc::clone(text), number)),
            Err(error) => {
                tracing::warn!(%error, "a user agent could not be stored");
                self.known().remove(text);
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Arc<str>, Option<i64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stores a text for later sessions, unless the table is full, and returns its number.
pub(crate) async fn store(sql: &Sql, text: &str) -> Result<Option<i64>, StoreError> {
    let add = "insert into user_agent (text)
        select $1 where (select count(*) from user_agent) < $2 on conflict do nothing";
    sql.run(add, &[&Text(text), &int(AGENTS_MAX as u64)]).await?;
    let find = "select id from user_agent where md5(text) = md5($1) and text = $1";
    Ok(sql.found(find, &[&Text(text)]).await?.map(|row| row.get("id")))
}
