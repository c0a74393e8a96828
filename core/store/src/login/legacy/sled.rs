//! Statements of sled.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::sled::record::{Record, decode, decode_head};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error, keys};
use crate::login::legacy::{LegacyDraft, LegacyOpened};
use crate::login::session::sled as session;
use crate::login::session::sled::SessionSeed;
use crate::login::sled::user;
use crate::{PurgeStep, SessionId, StoreError, Timestamp, UserId};

/// A token that was used.
#[derive(Serialize, Deserialize)]
pub(crate) struct LegacyRecord {
    /// First, because a purge reads it alone.
    pub(crate) token_expires_at: Timestamp,
    pub(crate) session: SessionId,
}

impl Record for LegacyRecord {
    const KIND: &'static str = "used token";
    const SCHEMA: u8 = 1;
}

impl Sled {
    pub(crate) fn legacy_session(&self, user: UserId, token: u128) -> Result<Option<SessionId>, StoreError> {
        let bytes = self.tree.get(keys::legacy(user, token)).map_err(error::read)?;
        bytes.map(|bytes| Ok(decode::<LegacyRecord>(&bytes)?.session)).transpose()
    }

    pub(crate) async fn legacy_session_open(&self, draft: LegacyDraft) -> Result<LegacyOpened, StoreError> {
        let seed = self.session_seed(draft.session.clone());
        let opened = self.change(move |txn| open(txn, &draft, seed)).await?;
        if let LegacyOpened::Opened(session, _) = &opened {
            self.agents.learn(Arc::clone(&session.user_agent), &self.committer);
        }
        Ok(opened)
    }

    pub(crate) async fn legacy_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        let due = move |bytes: &[u8]| Ok((decode_head::<LegacyRecord, Timestamp>(bytes)? <= now).into());
        self.purge_step(keys::LEGACY, &self.purge.legacy, limit, due).await
    }
}

fn open(txn: &mut Txn, draft: &LegacyDraft, seed: SessionSeed) -> Result<LegacyOpened, StoreError> {
    let LegacyDraft { user, token, token_expires_at, now, .. } = *draft;
    let Some(mut found) = user::get(txn, user)? else { return Ok(LegacyOpened::UserMissing) };
    if !found.active {
        return Ok(LegacyOpened::UserInactive);
    }
    let key = keys::legacy(user, token);
    if let Some(before) = txn.get_record::<LegacyRecord>(&key)? {
        return Ok(LegacyOpened::Before(before.session));
    }
    found.last_login_at = Some(now);
    user::put(txn, &found);
    let (session, ended) = session::create(txn, user, false, seed, now)?;
    txn.put_record(key, &LegacyRecord { token_expires_at, session: session.id });
    Ok(LegacyOpened::Opened(session, ended))
}
