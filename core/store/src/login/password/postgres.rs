//! The operations of this folder, in PostgreSQL statements.
//!
//! Whoever compares or sets a password locks the account first, and guards in order of their keys after it.

use crate::engine::postgres::Postgres;
use crate::engine::postgres::agent::AgentRef;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, Text, int};
use crate::login::challenge::code::Guess;
use crate::login::password::{
    Guard, GuardOutcome, GuardRecord, PasswordLogin, PasswordLoginDraft, PasswordSet, ResetDraft,
    ResetOutcome, ResetToken, count_all,
};
use crate::login::postgres::account;
use crate::login::postgres::code;
use crate::login::session::postgres as session;
use crate::login::session::postgres::revoke_all;
use crate::{PurgeStep, SessionId, StoreError, Timestamp, UserId};

impl Postgres {
    pub(crate) async fn password_of(&self, user: UserId) -> Result<Option<String>, StoreError> {
        kept(&self.reader().await?, user).await
    }

    /// Locks the guards in order of their keys.
    pub(crate) async fn password_guard(
        &self,
        guards: Vec<Guard>,
        now: Timestamp,
    ) -> Result<GuardOutcome, StoreError> {
        self.change((guards, now), |sql, (guards, now)| Box::pin(count(sql, guards, *now))).await
    }

    /// One statement.
    pub(crate) async fn guards_clear(&self, keys: Vec<[u8; 32]>) -> Result<(), StoreError> {
        self.change(keys, |sql, keys| {
            Box::pin(async move {
                let keys: Vec<&[u8]> = keys.iter().map(<[u8; 32]>::as_slice).collect();
                let clear = "delete from password_guard where key in
                    (select key from password_guard where key = any($1) order by key for update)";
                sql.run(clear, &[&keys]).await?;
                Ok(())
            })
        })
        .await
    }

    /// Locks the account, so that a session is never opened by a password that was replaced.
    pub(crate) async fn login_with_password(
        &self,
        draft: PasswordLoginDraft,
    ) -> Result<PasswordLogin, StoreError> {
        let agent = self.agent(&draft.session.user_agent);
        let login =
            self.change((draft, agent), |sql, (draft, agent)| Box::pin(login(sql, draft, agent))).await?;
        if let PasswordLogin::LoggedIn { session, .. } = &login {
            self.agent_learn(&session.user_agent);
        }
        Ok(login)
    }

    /// Locks the account.
    pub(crate) async fn password_set(
        &self,
        user: UserId,
        checked: Option<String>,
        hash: String,
        except: Option<SessionId>,
        now: Timestamp,
    ) -> Result<PasswordSet, StoreError> {
        self.change((user, checked, hash, except, now), |sql, (user, checked, hash, except, now)| {
            Box::pin(async move {
                if account::locked(sql, *user).await?.is_none()
                    || (checked.is_some() && kept(sql, *user).await? != *checked)
                {
                    return Ok(PasswordSet::Refused);
                }
                replace(sql, *user, hash, *now).await?;
                Ok(PasswordSet::Set(revoke_all(sql, *user, *except).await?))
            })
        })
        .await
    }

    /// Locks the code, then the account.
    pub(crate) async fn password_reset(&self, draft: ResetDraft) -> Result<ResetOutcome, StoreError> {
        self.change(draft, |sql, draft| {
            Box::pin(async move {
                let ResetDraft { number, group, challenge, mac, guesser, hash, now } = draft;
                match code::guess(sql, challenge, mac, *guesser, *now).await?.0 {
                    Guess::Right => {}
                    Guess::Wrong { attempts_left: 0 } => return Ok(ResetOutcome::Burned),
                    Guess::Burned => return Ok(ResetOutcome::Exhausted),
                    _ => return Ok(ResetOutcome::Refused),
                }
                code::remove(sql, challenge).await?;
                let user = account::locked_by_identity(sql, *group, number).await?;
                let Some(user) = user.filter(|user| user.active) else { return Ok(ResetOutcome::Refused) };
                replace(sql, user.id, hash, *now).await?;
                let ended = revoke_all(sql, user.id, None).await?;
                Ok(ResetOutcome::Reset(user, ended))
            })
        })
        .await
    }

    /// Locks the account.
    pub(crate) async fn reset_token_put(&self, user: UserId, token: ResetToken) -> Result<bool, StoreError> {
        self.change((user, token), |sql, &(user, token)| {
            Box::pin(async move {
                if account::locked(sql, user).await?.is_none_or(|user| !user.active) {
                    return Ok(false);
                }
                let put = "insert into password_token (account, mac, expires_at) values ($1, $2, $3)
                    on conflict (account) do update set mac = $2, expires_at = $3";
                sql.run(put, &[&int(user.0), &token.mac.as_slice(), &At(token.expires_at)]).await?;
                Ok(true)
            })
        })
        .await
    }

    pub(crate) async fn reset_token_fits(
        &self,
        user: UserId,
        mac: [u8; 32],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        fits(&self.reader().await?, user, &mac, now).await
    }

    /// Locks the account: of two uses of a token, the second finds none.
    pub(crate) async fn password_reset_by_token(
        &self,
        user: UserId,
        mac: [u8; 32],
        hash: String,
        now: Timestamp,
    ) -> Result<PasswordSet, StoreError> {
        self.change((user, mac, hash, now), |sql, (user, mac, hash, now)| {
            Box::pin(async move {
                let active = account::locked(sql, *user).await?.is_some_and(|user| user.active);
                if !active || !fits(sql, *user, mac, *now).await? {
                    return Ok(PasswordSet::Refused);
                }
                replace(sql, *user, hash, *now).await?;
                Ok(PasswordSet::Set(revoke_all(sql, *user, None).await?))
            })
        })
        .await
    }

    /// One statement, which leaves out guards that are being counted.
    pub(crate) async fn guards_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        let purge = "delete from password_guard where key in
            (select key from password_guard where forget_at <= $1 order by forget_at limit $2
             for update skip locked)";
        self.purge(purge, now, limit).await
    }
}

async fn count(sql: &Sql, guards: &[Guard], now: Timestamp) -> Result<GuardOutcome, StoreError> {
    let keys: Vec<&[u8]> = guards.iter().map(|guard| guard.key.as_slice()).collect();
    // A guard that has counted nothing is as good as none, so it may stay when another one waits.
    let make = "insert into password_guard (key, guesses, open_at, forget_at)
        select key, 0, $2, $2 from (select distinct unnest($1::bytea[]) as key) k order by key on conflict do nothing";
    let none = GuardRecord::default();
    sql.run(make, &[&keys, &At(none.forget_at)]).await?;
    let lock = "select key, guesses, open_at, forget_at from password_guard where key = any($1)
        order by key for update";
    let rows = sql.rows(lock, &[&keys]).await?;
    let mut records = Vec::with_capacity(guards.len());
    for guard in guards {
        let row = rows.iter().find(|row| row.get::<_, &[u8]>("key") == guard.key);
        records.push(row.map_or_else(GuardRecord::default, |row| GuardRecord {
            guesses: row.uint32("guesses"),
            open_at: row.at("open_at"),
            forget_at: row.at("forget_at"),
        }));
    }
    let outcome = count_all(guards, &mut records, now);
    if outcome == GuardOutcome::Open {
        let guesses: Vec<i64> = records.iter().map(|record| i64::from(record.guesses)).collect();
        let open: Vec<At> = records.iter().map(|record| At(record.open_at)).collect();
        let forget: Vec<At> = records.iter().map(|record| At(record.forget_at)).collect();
        let keep =
            "update password_guard g set guesses = n.guesses, open_at = n.open_at, forget_at = n.forget_at
            from unnest($1::bytea[], $2::bigint[], $3::timestamptz[], $4::timestamptz[])
                n (key, guesses, open_at, forget_at)
            where g.key = n.key";
        sql.run(keep, &[&keys, &guesses, &open, &forget]).await?;
    }
    Ok(outcome)
}

async fn login(sql: &Sql, draft: &PasswordLoginDraft, agent: &AgentRef) -> Result<PasswordLogin, StoreError> {
    let Some(mut user) = account::locked(sql, draft.user).await?.filter(|user| user.active) else {
        return Ok(PasswordLogin::Refused);
    };
    if kept(sql, user.id).await?.as_ref() != Some(&draft.checked) {
        return Ok(PasswordLogin::Refused);
    }
    let (guard, total) = (draft.guard.as_slice(), draft.total.as_slice());
    let lock = "select from password_guard where key in ($1, $2) order by key for update";
    sql.rows(lock, &[&guard, &total]).await?;
    sql.run("delete from password_guard where key = $1", &[&guard]).await?;
    let back = "update password_guard set guesses = greatest(guesses - 1, 0) where key = $1";
    sql.run(back, &[&total]).await?;
    if let Some(hash) = &draft.renewed {
        put(sql, user.id, hash, draft.now).await?;
    }
    account::logged_in(sql, user.id, draft.now).await?;
    user.last_login_at = Some(draft.now);
    let (session, ended) = session::create(sql, user.id, false, &draft.session, agent, draft.now).await?;
    Ok(PasswordLogin::LoggedIn { user, session, ended })
}

async fn fits(sql: &Sql, user: UserId, mac: &[u8; 32], now: Timestamp) -> Result<bool, StoreError> {
    let row =
        sql.found("select mac, expires_at from password_token where account = $1", &[&int(user.0)]).await?;
    let token = row.map(|row| ResetToken { mac: row.bytes("mac"), expires_at: row.at("expires_at") });
    Ok(token.is_some_and(|token| token.fits(mac, now)))
}

/// [`put`] in place of another password. An operator's token for the old one ends.
async fn replace(sql: &Sql, user: UserId, hash: &str, now: Timestamp) -> Result<(), StoreError> {
    put(sql, user, hash, now).await?;
    sql.run("delete from password_token where account = $1", &[&int(user.0)]).await?;
    Ok(())
}

pub(crate) async fn put(sql: &Sql, user: UserId, hash: &str, now: Timestamp) -> Result<(), StoreError> {
    let put = "insert into password (account, hash, changed_at) values ($1, $2, $3)
        on conflict (account) do update set hash = $2, changed_at = $3";
    sql.run(put, &[&int(user.0), &Text(hash), &At(now)]).await?;
    Ok(())
}

pub(crate) async fn kept(sql: &Sql, user: UserId) -> Result<Option<String>, StoreError> {
    let row = sql.found("select hash from password where account = $1", &[&int(user.0)]).await?;
    Ok(row.map(|row| row.text("hash")))
}
