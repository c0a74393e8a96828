//! Last use of sessions: kept in memory and written every few seconds.
//!
//! A durable write per request would cost more than the request. Instants wait in a bounded map, and
//! [`LastSeen::flush`] writes them in steps, so that logins do not wait behind thousands of records. A crash loses only
//! how recently a session was used.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chelseru_store::{Store, StoreError};

use crate::Timestamp;
use crate::ids::{SessionId, UserId};

/// Sessions in the map between two flushes: about 3 MiB. Further sessions keep their old instant until the next flush.
const SESSIONS_MAX: usize = 65_536;

/// Records of one change: as many as some hundred logins write.
const CHANGE_MAX: usize = 512;

pub(crate) struct LastSeen {
    seen: Mutex<HashMap<SessionId, (UserId, Timestamp)>>,
    sessions_max: usize,
}

impl Default for LastSeen {
    fn default() -> Self {
        LastSeen { seen: Mutex::default(), sessions_max: SESSIONS_MAX }
    }
}

impl LastSeen {
    pub(crate) fn note(&self, user: UserId, session: SessionId, now: Timestamp) {
        let mut seen = self.lock();
        if seen.len() < self.sessions_max || seen.contains_key(&session) {
            let (_, at) = seen.entry(session).or_insert((user, now));
            *at = now.max(*at);
        }
    }

    pub(crate) fn get(&self, session: SessionId) -> Option<Timestamp> {
        self.lock().get(&session).map(|(_, at)| *at)
    }

    /// Writes the noted instants. Returns the number of sessions written. Instants that could not be written are noted
    /// again.
    pub(crate) async fn flush(&self, store: &Store) -> Result<usize, StoreError> {
        let noted: Vec<_> = self.lock().drain().map(|(session, (user, at))| (user, session, at)).collect();
        let mut written = 0;
        for (index, step) in noted.chunks(CHANGE_MAX).enumerate() {
            match store.session_touch_many(step.to_vec()).await {
                Ok(known) => written += known,
                Err(error) => {
                    for (user, session, at) in &noted[index * CHANGE_MAX..] {
                        self.note(*user, *session, *at);
                    }
                    return Err(error);
                }
            }
        }
        Ok(written)
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, (UserId, Timestamp)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_stops_growing_at_its_bound() {
        let seen = LastSeen { sessions_max: 2, ..LastSeen::default() };
        let at = Timestamp::from_secs;
        seen.note(UserId(1), SessionId(1), at(10));
        seen.note(UserId(1), SessionId(2), at(10));
        seen.note(UserId(1), SessionId(3), at(10));
        seen.note(UserId(1), SessionId(1), at(20));
        seen.note(UserId(1), SessionId(1), at(15));
        assert_eq!(seen.get(SessionId(1)), Some(at(20)));
        assert_eq!(seen.get(SessionId(2)), Some(at(10)));
        assert_eq!(seen.get(SessionId(3)), None);
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), chelseru_store::StoreOptions::default()).unwrap();
        store.close();
        let seen = LastSeen::default();
        for id in 0..1000 {
            seen.note(UserId(1), SessionId(id), Timestamp::from_secs(5));
        }
        assert!(seen.flush(&store).await.is_err());
        assert_eq!(seen.get(SessionId(999)), Some(Timestamp::from_secs(5)));
        assert_eq!(seen.lock().len(), 1000);
    }
}
