//! The operations of this folder, in PostgreSQL statements.

use uuid::Uuid;

use crate::engine::postgres::Postgres;
use crate::engine::postgres::agent::AgentRef;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, int};
use crate::login::legacy::{LegacyDraft, LegacyOpened};
use crate::login::postgres::account;
use crate::login::session::postgres as session;
use crate::{PurgeStep, SessionId, StoreError, Timestamp, UserId};

impl Postgres {
    pub(crate) async fn legacy_session(
        &self,
        user: UserId,
        token: u128,
    ) -> Result<Option<SessionId>, StoreError> {
        before(&self.reader().await?, user, token).await
    }

    /// Locks the account: of two uses of a token, the second finds the session of the first.
    pub(crate) async fn legacy_session_open(&self, draft: LegacyDraft) -> Result<LegacyOpened, StoreError> {
        let agent = self.agent(&draft.session.user_agent);
        let opened =
            self.change((draft, agent), |sql, (draft, agent)| Box::pin(open(sql, draft, agent))).await?;
        if let LegacyOpened::Opened(session, _) = &opened {
            self.agent_learn(&session.user_agent);
        }
        Ok(opened)
    }

    /// One statement.
    pub(crate) async fn legacy_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        let purge = "delete from used_token where (account, token) in
            (select account, token from used_token where token_expires_at <= $1 order by token_expires_at
             limit $2 for update skip locked)";
        self.purge(purge, now, limit).await
    }
}

async fn open(sql: &Sql, draft: &LegacyDraft, agent: &AgentRef) -> Result<LegacyOpened, StoreError> {
    let Some(user) = account::locked(sql, draft.user).await? else { return Ok(LegacyOpened::UserMissing) };
    if !user.active {
        return Ok(LegacyOpened::UserInactive);
    }
    if let Some(session) = before(sql, user.id, draft.token).await? {
        return Ok(LegacyOpened::Before(session));
    }
    account::logged_in(sql, user.id, draft.now).await?;
    let (session, ended) = session::create(sql, user.id, false, &draft.session, agent, draft.now).await?;
    let note = "insert into used_token (account, token, token_expires_at, session) values ($1, $2, $3, $4)";
    let token = Uuid::from_u128(draft.token);
    sql.run(note, &[&int(user.id.0), &token, &At(draft.token_expires_at), &int(session.id.0)]).await?;
    Ok(LegacyOpened::Opened(session, ended))
}

async fn before(sql: &Sql, user: UserId, token: u128) -> Result<Option<SessionId>, StoreError> {
    let before = "select session from used_token where account = $1 and token = $2";
    let row = sql.found(before, &[&int(user.0), &Uuid::from_u128(token)]).await?;
    Ok(row.map(|row| SessionId(row.uint("session"))))
}
