//! The operations of this folder, in PostgreSQL statements.
//!
//! Whoever judges a code locks its row. Locks are taken in this order: code, account, guards, sessions.

use crate::engine::postgres::Postgres;
use crate::engine::postgres::agent::AgentRef;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, Text, bits};
use crate::login::challenge::code::Guess;
use crate::login::challenge::{ChallengeDraft, ChallengeOpened, LoginDraft, LoginOutcome};
use crate::login::postgres::account;
use crate::login::postgres::code;
use crate::login::session::postgres as session;
use crate::{PurgeStep, StoreError, Timestamp, UserId};

impl Postgres {
    /// Locks the code. Without one, the key of the table decides between two that open one at once.
    pub(crate) async fn challenge_open(&self, draft: ChallengeDraft) -> Result<ChallengeOpened, StoreError> {
        self.change(draft, |sql, draft| {
            Box::pin(async move {
                let old = code::locked(sql, &draft.number).await?;
                if let Some(old) = old.as_ref().filter(|old| old.pending(draft.from, draft.created_at)) {
                    return Ok(ChallengeOpened::Pending { retry_at: old.resend_at.min(old.expires_at) });
                }
                if old.is_some() {
                    code::remove(sql, &draft.number).await?;
                }
                code::insert(sql, &draft.number, &draft.clone().into()).await?;
                Ok(ChallengeOpened::Opened)
            })
        })
        .await
    }

    pub(crate) async fn challenge_pending(
        &self,
        number: &str,
        from: u64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        Ok(code::found(&self.reader().await?, number).await?.is_some_and(|old| old.pending(from, now)))
    }

    pub(crate) async fn accounts_of_number(&self, number: &str) -> Result<Vec<UserId>, StoreError> {
        let sql = self.reader().await?;
        let accounts = "select account from account_number where number = $1 order by account";
        let rows = sql.rows(accounts, &[&Text(number)]).await?;
        Ok(rows.iter().map(|row| UserId(row.uint("account"))).collect())
    }

    /// One statement.
    pub(crate) async fn challenge_release(&self, number: &str, id: u64) -> Result<bool, StoreError> {
        self.change((number.to_owned(), id), |sql, (number, id)| {
            Box::pin(async move {
                let release = "delete from challenge where name = $1 and id = $2";
                Ok(sql.run(release, &[&Text(number), &bits(*id)]).await? > 0)
            })
        })
        .await
    }

    pub(crate) async fn challenge_resend_at(
        &self,
        number: &str,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let challenge = code::found(&self.reader().await?, number).await?;
        let pending = challenge.filter(|challenge| now < challenge.expires_at && now < challenge.resend_at);
        Ok(pending.map(|challenge| challenge.resend_at.min(challenge.expires_at)))
    }

    /// One statement.
    pub(crate) async fn challenge_forget(&self, number: &str) -> Result<bool, StoreError> {
        self.change(number.to_owned(), |sql, number| Box::pin(code::remove(sql, number))).await
    }

    /// One statement.
    pub(crate) async fn challenge_allow_resend(
        &self,
        number: &str,
        id: u64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.change((number.to_owned(), id, now), |sql, (number, id, now)| {
            Box::pin(async move {
                let allow =
                    "update challenge set resend_at = least(resend_at, $3) where name = $1 and id = $2";
                Ok(sql.run(allow, &[&Text(number), &bits(*id), &At(*now)]).await? > 0)
            })
        })
        .await
    }

    /// Locks the code, then the account. A new account has the number's key, so two groups of one number may be made
    /// at once and one group may not.
    pub(crate) async fn login_with_challenge(&self, draft: LoginDraft) -> Result<LoginOutcome, StoreError> {
        let agent = self.agent(&draft.session.user_agent);
        let outcome =
            self.change((draft, agent), |sql, (draft, agent)| Box::pin(login(sql, draft, agent))).await?;
        if let LoginOutcome::LoggedIn { session, .. } = &outcome {
            self.agent_learn(&session.user_agent);
        }
        Ok(outcome)
    }

    /// One statement, which leaves out codes that are being judged.
    pub(crate) async fn challenges_purge(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<PurgeStep, StoreError> {
        let purge = "delete from challenge where name in
            (select name from challenge where expires_at <= $1 order by expires_at limit $2 for update skip locked)";
        self.purge(purge, now, limit).await
    }
}

async fn login(sql: &Sql, draft: &LoginDraft, agent: &AgentRef) -> Result<LoginOutcome, StoreError> {
    let LoginDraft { number, mac, guesser, group, username, create, now, .. } = draft;
    let (judged, challenge) = code::guess(sql, number, mac, *guesser, *now).await?;
    match judged {
        Guess::Right => {}
        Guess::Wrong { attempts_left } => return Ok(LoginOutcome::Wrong { attempts_left }),
        Guess::Burned => return Ok(LoginOutcome::Burned),
        Guess::Expired => return Ok(LoginOutcome::Expired),
        Guess::Missing => return Ok(LoginOutcome::Missing),
    }
    let known = account::locked_by_identity(sql, *group, number).await?;
    let new_user = known.is_none();
    let mut user = match known {
        Some(user) => user,
        None if !create => {
            if let Some(challenge) = challenge {
                code::keep_guesses(sql, number, &challenge).await?;
            }
            return Ok(LoginOutcome::CreationRefused);
        }
        None => account::create(sql, number, *group, username, *now).await?,
    };
    code::remove(sql, number).await?;
    if !user.active {
        return Ok(LoginOutcome::UserInactive);
    }
    account::logged_in(sql, user.id, *now).await?;
    user.last_login_at = Some(*now);
    let (session, ended) = session::create(sql, user.id, new_user, &draft.session, agent, *now).await?;
    Ok(LoginOutcome::LoggedIn { user, session, new_user, ended })
}
