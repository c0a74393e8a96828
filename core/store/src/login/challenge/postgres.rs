//! The operations of this folder, in PostgreSQL statements.
//!
//! Whoever judges a code locks its row. Locks are taken in this order: code, account, guards, sessions.

use tokio_postgres::Row;

use crate::engine::postgres::Postgres;
use crate::engine::postgres::agent;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, Text, bits, unbits};
use crate::login::challenge::code::{Challenge, Guess};
use crate::login::challenge::{ChallengeDraft, ChallengeOpened, Guesser, LoginDraft, LoginOutcome};
use crate::login::session::postgres as session;
use crate::login::user::postgres as user;
use crate::{PurgeStep, StoreError, Timestamp, UserId};

macro_rules! columns {
    () => {
        "id, mac, created_at, expires_at, resend_at, attempts_max, others_max, asked_from, guess_addresses, \
         guess_counts, known_guesses"
    };
}

impl Postgres {
    /// Locks the code. Without one, the key of the table decides between two that open one at once.
    pub(crate) async fn challenge_open(&self, draft: ChallengeDraft) -> Result<ChallengeOpened, StoreError> {
        self.change(draft, |sql, draft| {
            Box::pin(async move {
                let old = locked(sql, &draft.number).await?;
                if let Some(old) = old.as_ref().filter(|old| old.pending(draft.from, draft.created_at)) {
                    return Ok(ChallengeOpened::Pending { retry_at: old.resend_at.min(old.expires_at) });
                }
                if old.is_some() {
                    remove(sql, &draft.number).await?;
                }
                insert(sql, &draft.number, &draft.clone().into()).await?;
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
        Ok(found(&self.reader().await?, number).await?.is_some_and(|old| old.pending(from, now)))
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
        let challenge = found(&self.reader().await?, number).await?;
        let pending = challenge.filter(|challenge| now < challenge.expires_at && now < challenge.resend_at);
        Ok(pending.map(|challenge| challenge.resend_at.min(challenge.expires_at)))
    }

    /// One statement.
    pub(crate) async fn challenge_forget(&self, number: &str) -> Result<bool, StoreError> {
        self.change(number.to_owned(), |sql, number| Box::pin(remove(sql, number))).await
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

async fn login(sql: &Sql, draft: &LoginDraft, agent: &agent::AgentRef) -> Result<LoginOutcome, StoreError> {
    let LoginDraft { number, mac, guesser, group, username, create, now, .. } = draft;
    let (judged, challenge) = guess(sql, number, mac, *guesser, *now).await?;
    match judged {
        Guess::Right => {}
        Guess::Wrong { attempts_left } => return Ok(LoginOutcome::Wrong { attempts_left }),
        Guess::Burned => return Ok(LoginOutcome::Burned),
        Guess::Expired => return Ok(LoginOutcome::Expired),
        Guess::Missing => return Ok(LoginOutcome::Missing),
    }
    let known = user::locked_by_identity(sql, *group, number).await?;
    let new_user = known.is_none();
    let mut user = match known {
        Some(user) => user,
        None if !create => {
            if let Some(challenge) = challenge {
                keep_guesses(sql, number, &challenge).await?;
            }
            return Ok(LoginOutcome::CreationRefused);
        }
        None => user::create(sql, number, *group, username, *now).await?,
    };
    remove(sql, number).await?;
    if !user.active {
        return Ok(LoginOutcome::UserInactive);
    }
    user::logged_in(sql, user.id, *now).await?;
    user.last_login_at = Some(*now);
    let (session, ended) = session::create(sql, user.id, new_user, &draft.session, agent, *now).await?;
    Ok(LoginOutcome::LoggedIn { user, session, new_user, ended })
}

/// Locks a code, and counts and compares a guess at it. A wrong guess is stored; after a right one the caller removes
/// the code, or stores the guess by [`keep_guesses`].
pub(crate) async fn guess(
    sql: &Sql,
    name: &str,
    mac: &[u8; 32],
    guesser: Guesser,
    now: Timestamp,
) -> Result<(Guess, Option<Challenge>), StoreError> {
    let Some(mut challenge) = locked(sql, name).await? else { return Ok((Guess::Missing, None)) };
    let guess = challenge.guess(mac, guesser, now);
    if matches!(guess, Guess::Wrong { .. }) {
        keep_guesses(sql, name, &challenge).await?;
    }
    Ok((guess, Some(challenge)))
}

/// Stores what was guessed so far.
pub(crate) async fn keep_guesses(sql: &Sql, name: &str, challenge: &Challenge) -> Result<(), StoreError> {
    let keep =
        "update challenge set guess_addresses = $2, guess_counts = $3, known_guesses = $4 where name = $1";
    let (addresses, counts) = guesses(challenge);
    sql.run(keep, &[&Text(name), &addresses, &counts, &i64::from(challenge.known)]).await?;
    Ok(())
}

/// Removes a name's code; false without one.
pub(crate) async fn remove(sql: &Sql, name: &str) -> Result<bool, StoreError> {
    Ok(sql.run("delete from challenge where name = $1", &[&Text(name)]).await? > 0)
}

/// Locks a name's code before other rows.
pub(crate) async fn lock(sql: &Sql, name: &str) -> Result<(), StoreError> {
    sql.run("select from challenge where name = $1 for update", &[&Text(name)]).await?;
    Ok(())
}

async fn locked(sql: &Sql, name: &str) -> Result<Option<Challenge>, StoreError> {
    let locked = concat!("select ", columns!(), " from challenge where name = $1 for update");
    Ok(sql.found(locked, &[&Text(name)]).await?.map(|row| read(&row)))
}

async fn found(sql: &Sql, name: &str) -> Result<Option<Challenge>, StoreError> {
    let found = concat!("select ", columns!(), " from challenge where name = $1");
    Ok(sql.found(found, &[&Text(name)]).await?.map(|row| read(&row)))
}

async fn insert(sql: &Sql, name: &str, challenge: &Challenge) -> Result<(), StoreError> {
    let insert = concat!(
        "insert into challenge (",
        columns!(),
        ", name) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
    );
    let (addresses, counts) = guesses(challenge);
    let args: crate::engine::postgres::sql::Args<'_> = &[
        &bits(challenge.id),
        &challenge.mac.as_slice(),
        &At(challenge.created_at),
        &At(challenge.expires_at),
        &At(challenge.resend_at),
        &i64::from(challenge.attempts_max),
        &i64::from(challenge.others_max),
        &bits(challenge.from),
        &addresses,
        &counts,
        &i64::from(challenge.known),
        &Text(name),
    ];
    sql.run(insert, args).await?;
    Ok(())
}

fn guesses(challenge: &Challenge) -> (Vec<i64>, Vec<i64>) {
    challenge.guesses.iter().map(|(address, count)| (bits(*address), i64::from(*count))).unzip()
}

fn read(row: &Row) -> Challenge {
    let addresses: Vec<i64> = row.get("guess_addresses");
    let counts: Vec<i64> = row.get("guess_counts");
    let count = |count: i64| u32::try_from(count).unwrap_or(u32::MAX);
    Challenge {
        id: row.bits("id"),
        mac: row.bytes("mac"),
        created_at: row.at("created_at"),
        expires_at: row.at("expires_at"),
        resend_at: row.at("resend_at"),
        attempts_max: row.uint32("attempts_max"),
        others_max: row.uint32("others_max"),
        from: row.bits("asked_from"),
        guesses: addresses.into_iter().map(unbits).zip(counts.into_iter().map(count)).collect(),
        known: row.uint32("known_guesses"),
    }
}
