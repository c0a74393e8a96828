//! The operations of this folder, in PostgreSQL statements.
//!
//! Whoever changes an operator or the set of an operator's sessions first takes the operator's lock
//! ([`Lock::Console`]).

use tokio_postgres::Row;

use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::{Args, Lock, Sql};
use crate::engine::postgres::value::{At, Columns, Text, int};
use crate::operator::console::{
    CONSOLE_SESSIONS_MAX, ConsoleDraft, ConsoleProof, ConsoleSession, OperatorChange, OperatorRecord,
    OperatorRole, SecondFactor,
};
use crate::{StoreError, Timestamp, UserId};

pub(crate) const OPERATORS: &str =
    "select account, role, language, factor_sealed, factor_step, factor_since, factor_recovery
    from operator order by account";
const OPERATOR: &str =
    "select account, role, language, factor_sealed, factor_step, factor_since, factor_recovery
    from operator where account = $1";

macro_rules! columns {
    () => {
        "account, id, created_at, last_seen_at, expires_at, ip_address, user_agent, by_link"
    };
}

/// With the hashes of their tokens.
pub(crate) const SESSIONS: &str =
    concat!("select ", columns!(), ", hash from console_session order by account, id");

impl Postgres {
    pub(crate) async fn operator_get(&self, user: UserId) -> Result<Option<OperatorRecord>, StoreError> {
        get(&self.reader().await?, user).await
    }

    pub(crate) async fn operators(&self) -> Result<Vec<OperatorRecord>, StoreError> {
        self.reader().await?.rows(OPERATORS, &[]).await?.iter().map(read).collect()
    }

    /// Takes the operator's lock.
    pub(crate) async fn operator_change(
        &self,
        user: UserId,
        change: OperatorChange,
    ) -> Result<Option<OperatorRecord>, StoreError> {
        self.change((user, change), |sql, (user, change)| {
            Box::pin(async move {
                sql.lock(Lock::Console, user.0).await?;
                let before = get(sql, *user).await?;
                let mut record = before.clone().unwrap_or_else(|| OperatorRecord::new(*user));
                if record.change(change.clone()) {
                    remove_sessions(sql, *user).await?;
                }
                put(sql, &record).await?;
                Ok(before)
            })
        })
        .await
    }

    /// Takes the operator's lock.
    pub(crate) async fn console_link_put(
        &self,
        user: UserId,
        hash: [u8; 32],
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.change((user, hash, expires_at), |sql, (user, hash, expires_at)| {
            Box::pin(async move {
                sql.lock(Lock::Console, user.0).await?;
                let put = "insert into console_link (account, hash, expires_at) values ($1, $2, $3)
                    on conflict (account) do update set hash = $2, expires_at = $3";
                sql.run(put, &[&int(user.0), &hash.as_slice(), &At(*expires_at)]).await?;
                Ok(())
            })
        })
        .await
    }

    /// Takes the operator's lock: a proof opens one session, and the sessions stay within their limit.
    pub(crate) async fn console_open(
        &self,
        draft: ConsoleDraft,
    ) -> Result<Option<ConsoleSession>, StoreError> {
        self.change(draft, |sql, draft| Box::pin(open(sql, draft))).await
    }

    pub(crate) async fn console_session(
        &self,
        user: UserId,
        hash: [u8; 32],
    ) -> Result<Option<ConsoleSession>, StoreError> {
        let get = concat!("select ", columns!(), " from console_session where account = $1 and hash = $2");
        let sql = self.reader().await?;
        let row = sql.found(get, &[&int(user.0), &hash.as_slice()]).await?;
        Ok(row.map(|row| read_session(&row)))
    }

    /// One statement.
    pub(crate) async fn console_touch(
        &self,
        user: UserId,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.change((user, hash, now), |sql, (user, hash, now)| {
            Box::pin(async move {
                let touch = "update console_session set last_seen_at = greatest(last_seen_at, $3)
                    where account = $1 and hash = $2";
                sql.run(touch, &[&int(user.0), &hash.as_slice(), &At(*now)]).await?;
                Ok(())
            })
        })
        .await
    }

    pub(crate) async fn console_sessions(&self, user: UserId) -> Result<Vec<ConsoleSession>, StoreError> {
        let list = concat!("select ", columns!(), " from console_session where account = $1 order by id");
        let sql = self.reader().await?;
        Ok(sql.rows(list, &[&int(user.0)]).await?.iter().map(read_session).collect())
    }

    /// Takes the operator's lock.
    pub(crate) async fn console_end(
        &self,
        user: UserId,
        id: Option<u64>,
        except: Option<u64>,
    ) -> Result<usize, StoreError> {
        self.change((user, id, except), |sql, &(user, id, except)| {
            Box::pin(async move {
                sql.lock(Lock::Console, user.0).await?;
                let end = "delete from console_session
                    where account = $1 and id = coalesce($2, id) and id is distinct from $3";
                let ended = sql.run(end, &[&int(user.0), &id.map(int), &except.map(int)]).await?;
                Ok(usize::try_from(ended).unwrap_or(usize::MAX))
            })
        })
        .await
    }
}

async fn open(sql: &Sql, draft: &ConsoleDraft) -> Result<Option<ConsoleSession>, StoreError> {
    sql.lock(Lock::Console, draft.user.0).await?;
    if !use_up(sql, draft).await? {
        return Ok(None);
    }
    let user = int(draft.user.0);
    // Expired sessions make room first, then the oldest.
    let expired = "delete from console_session where account = $1 and (expires_at <= $2 or hash = $3)";
    sql.run(expired, &[&user, &At(draft.now), &draft.hash.as_slice()]).await?;
    let surplus = "delete from console_session where account = $1 and id in
        (select id from console_session where account = $1 order by id desc offset $2)";
    sql.run(surplus, &[&user, &int(CONSOLE_SESSIONS_MAX as u64 - 1)]).await?;
    let insert = concat!(
        "insert into console_session (id, account, hash, created_at, last_seen_at, expires_at, ip_address,
            user_agent, by_link)
         values (nextval('console_session_id'), $1, $2, $3, $3, $4, $5, $6, $7) returning ",
        columns!()
    );
    let by_link = matches!(draft.proof, ConsoleProof::Link(_));
    let args: Args<'_> = &[
        &user,
        &draft.hash.as_slice(),
        &At(draft.now),
        &At(draft.expires_at),
        &Text(&draft.ip_address),
        &Text(&draft.user_agent),
        &by_link,
    ];
    Ok(Some(read_session(&sql.row(insert, args).await?)))
}

/// Uses a proof up; false when it is wrong, expired or used.
async fn use_up(sql: &Sql, draft: &ConsoleDraft) -> Result<bool, StoreError> {
    if let ConsoleProof::Link(hash) = &draft.proof {
        let take = "delete from console_link where account = $1 and hash = $2 and $3 < expires_at";
        return Ok(sql.run(take, &[&int(draft.user.0), &hash.as_slice(), &At(draft.now)]).await? > 0);
    }
    let Some(mut record) = get(sql, draft.user).await? else { return Ok(false) };
    let fits = record.factor.as_mut().is_some_and(|factor| factor.use_up(&draft.proof));
    if fits {
        put(sql, &record).await?;
    }
    Ok(fits)
}

async fn get(sql: &Sql, user: UserId) -> Result<Option<OperatorRecord>, StoreError> {
    sql.found(OPERATOR, &[&int(user.0)]).await?.map(|row| read(&row)).transpose()
}

pub(crate) async fn put(sql: &Sql, record: &OperatorRecord) -> Result<(), StoreError> {
    let put = "insert into operator
            (account, role, language, factor_sealed, factor_step, factor_since, factor_recovery)
        values ($1, $2, $3, $4, $5, $6, $7)
        on conflict (account) do update set role = $2, language = $3, factor_sealed = $4, factor_step = $5,
            factor_since = $6, factor_recovery = $7";
    let factor = record.factor.as_ref();
    let recovery = factor.map(|factor| factor.recovery.iter().map(<[u8; 32]>::as_slice).collect::<Vec<_>>());
    let args: Args<'_> = &[
        &int(record.user.0),
        &record.role.map(role_name),
        &Text(&record.language),
        &factor.map(|factor| factor.sealed.as_slice()),
        &factor.map(|factor| int(factor.step)),
        &factor.map(|factor| At(factor.since)),
        &recovery,
    ];
    sql.run(put, args).await?;
    Ok(())
}

fn role_name(role: OperatorRole) -> &'static str {
    match role {
        OperatorRole::Viewer => "viewer",
        OperatorRole::Support => "support",
        OperatorRole::Finance => "finance",
        OperatorRole::Admin => "admin",
    }
}

pub(crate) fn read(row: &Row) -> Result<OperatorRecord, StoreError> {
    let damaged = |what: &str| StoreError::Record { kind: "operator", reason: what.to_owned() };
    let role = match row.get::<_, Option<&str>>("role") {
        None => None,
        Some("viewer") => Some(OperatorRole::Viewer),
        Some("support") => Some(OperatorRole::Support),
        Some("finance") => Some(OperatorRole::Finance),
        Some("admin") => Some(OperatorRole::Admin),
        Some(other) => return Err(damaged(&format!("unknown role {other:?}"))),
    };
    let factor = match row.get::<_, Option<Vec<u8>>>("factor_sealed") {
        None => None,
        Some(sealed) => {
            let codes: Vec<&[u8]> = row.get("factor_recovery");
            let codes: Result<_, _> = codes.into_iter().map(<[u8; 32]>::try_from).collect();
            let recovery = codes.map_err(|_| damaged("a recovery code without 32 bytes"))?;
            Some(SecondFactor {
                sealed,
                step: row.uint("factor_step"),
                recovery,
                since: row.at("factor_since"),
            })
        }
    };
    Ok(OperatorRecord { user: UserId(row.uint("account")), role, factor, language: row.text("language") })
}

pub(crate) fn read_session(row: &Row) -> ConsoleSession {
    ConsoleSession {
        user: UserId(row.uint("account")),
        id: row.uint("id"),
        created_at: row.at("created_at"),
        last_seen_at: row.at("last_seen_at"),
        expires_at: row.at("expires_at"),
        ip_address: row.text("ip_address"),
        user_agent: row.text("user_agent"),
        by_link: row.get("by_link"),
    }
}

/// Ends the sessions of an operator and forgets an unused link. Takes the operator's lock.
pub(crate) async fn end_all(sql: &Sql, user: UserId) -> Result<(), StoreError> {
    sql.lock(Lock::Console, user.0).await?;
    remove_sessions(sql, user).await
}

/// Forgets that an account is an operator. Takes the operator's lock.
pub(crate) async fn remove(sql: &Sql, user: UserId) -> Result<(), StoreError> {
    end_all(sql, user).await?;
    sql.run("delete from operator where account = $1", &[&int(user.0)]).await?;
    Ok(())
}

async fn remove_sessions(sql: &Sql, user: UserId) -> Result<(), StoreError> {
    sql.run("delete from console_session where account = $1", &[&int(user.0)]).await?;
    sql.run("delete from console_link where account = $1", &[&int(user.0)]).await?;
    Ok(())
}
