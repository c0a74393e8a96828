//! The operations of this folder, in PostgreSQL statements.
//!
//! Whoever opens a session, or ends all of a user's, locks the account first: no login under way outlives a new
//! password, and no two logins exceed the limit of sessions.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Row;

use crate::engine::postgres::agent;
use crate::engine::postgres::agent::AgentRef;
use crate::engine::postgres::gate::{Gate, GateSession};
use crate::engine::postgres::gather::Answers;
use crate::engine::postgres::sql::{Args, Sql};
use crate::engine::postgres::value::{At, Columns, Text, int};
use crate::engine::postgres::{Postgres, Shared};
use crate::login::postgres::account;
use crate::login::session::{
    Life, Refresh, RefreshDraft, RefreshOutcome, Session, SessionDraft, SessionGate, binding_of,
};
use crate::operator::console::postgres as console;
use crate::{PurgeStep, SessionId, StoreError, Timestamp, UserId};

macro_rules! sessions {
    ($rest:literal) => {
        concat!(
            "select s.id, s.account, s.key, coalesce(s.agent_text, g.text) as agent, s.ip_address, s.device_name,
               s.created_at, s.last_seen_at, s.rotated_at, s.expires_at, s.generation, s.unbound
             from session s left join user_agent g on g.id = s.agent ",
            $rest
        )
    };
}

/// What a check of a session reads, for several at once and in any order. `active` is null where there is no account.
/// The arrays are hidden in subqueries: the planner would count them, find a plan for few questions cheaper, and plan
/// the statement anew each time, which takes longer than its reads.
const GATES: &str = "select asked.account, asked.session, a.active, s.expires_at, s.key, s.unbound
    from unnest((select $1::bigint[]), (select $2::bigint[])) as asked (account, session)
    left join account a on a.id = asked.account and not a.erased
    left join session s on s.id = asked.session and s.account = asked.account";

const OPEN: &str = "
    select exists (
        select from session s join account a on a.id = s.account
        where s.id = asked.session and s.account = asked.account and s.expires_at > $3 and a.active and not a.erased
    ) as open
    from unnest((select $1::bigint[]), (select $2::bigint[])) with ordinality as asked (account, session, place)
    order by place";

/// Sessions that one login ends, so that a lowered limit is reached in steps.
const ENDED_MAX: u64 = 64;

impl Postgres {
    pub(crate) async fn session_gate(
        &self,
        user: UserId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<SessionGate, StoreError> {
        self.gate(user, session, now, |_| true).await
    }

    pub(crate) async fn session_gate_of_token(
        &self,
        user: UserId,
        session: SessionId,
        binding: Option<u64>,
        now: Timestamp,
    ) -> Result<SessionGate, StoreError> {
        self.gate(user, session, now, |session| session.opens(binding)).await
    }

    pub(crate) async fn sessions_open(
        &self,
        asked: &[(UserId, SessionId)],
        now: Timestamp,
    ) -> Result<Vec<bool>, StoreError> {
        let users: Vec<i64> = asked.iter().map(|(user, _)| int(user.0)).collect();
        let sessions: Vec<i64> = asked.iter().map(|(_, session)| int(session.0)).collect();
        let rows = self.reader().await?.rows(OPEN, &[&users, &sessions, &At(now)]).await?;
        Ok(rows.iter().map(|row| row.get("open")).collect())
    }

    /// How a session to open refers to its user agent.
    pub(crate) fn agent(&self, text: &str) -> AgentRef {
        self.shared.agents.name(text)
    }

    /// Stores a user agent for later sessions, unless it is known. No caller waits for it, and a failure refuses no
    /// login.
    pub(crate) fn agent_learn(&self, text: &Arc<str>) {
        if !self.shared.agents.begin(text) {
            return;
        }
        let (shared, learnt) = (Arc::clone(&self.shared), Arc::clone(text));
        let begun = self.change_then(
            Arc::clone(text),
            |sql, text| Box::pin(agent::store(sql, text)),
            Box::new(move |stored| shared.agents.end(&learnt, stored)),
        );
        if let Err(error) = begun {
            self.shared.agents.end(text, Err(error));
        }
    }

    async fn gate(
        &self,
        user: UserId,
        session: SessionId,
        now: Timestamp,
        opens: impl Fn(&GateSession) -> bool + Send,
    ) -> Result<SessionGate, StoreError> {
        let asked = (int(user.0), int(session.0));
        let shared = Arc::clone(&self.shared);
        let read = move |asked| -> Answers<Gate> { Box::pin(gates(Arc::clone(&shared), asked)) };
        let gate = match self.shared.gates.ask(&self.shared.runtime, asked, read).await? {
            Some(gate) => gate,
            None => gates(Arc::clone(&self.shared), vec![asked]).await?.pop().unwrap_or_default(),
        };
        match gate.active {
            None => return Ok(SessionGate::UserMissing),
            Some(false) => return Ok(SessionGate::UserInactive),
            Some(true) => {}
        }
        let open = gate.session.is_some_and(|session| now < session.expires_at && opens(&session));
        Ok(if open { SessionGate::Open } else { SessionGate::Ended })
    }

    pub(crate) async fn session_get(
        &self,
        user: UserId,
        id: SessionId,
    ) -> Result<Option<Session>, StoreError> {
        let sql = self.reader().await?;
        let get = sessions!("where s.account = $1 and s.id = $2");
        Ok(sql.found(get, &[&int(user.0), &int(id.0)]).await?.map(|row| read(&row)))
    }

    pub(crate) async fn sessions_of(
        &self,
        user: UserId,
        before: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        let sql = self.reader().await?;
        let list = sessions!("where s.account = $1 and s.id < $2 order by s.id desc limit $3");
        let before = before.map_or(i64::MAX, |before| int(before.0));
        let rows = sql.rows(list, &[&int(user.0), &before, &int(limit as u64)]).await?;
        Ok(rows.iter().map(read).collect())
    }

    pub(crate) async fn sessions_before(
        &self,
        before: Option<(UserId, SessionId)>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        let sql = self.reader().await?;
        let list =
            sessions!("where (s.account, s.id) < ($1, $2) order by s.account desc, s.id desc limit $3");
        let (user, session) =
            before.map_or((i64::MAX, i64::MAX), |(user, session)| (int(user.0), int(session.0)));
        let rows = sql.rows(list, &[&user, &session, &int(limit as u64)]).await?;
        Ok(rows.iter().map(read).collect())
    }

    /// One statement; locks the sessions in order of their numbers.
    pub(crate) async fn session_touch_many(
        &self,
        touches: Vec<(UserId, SessionId, Timestamp)>,
    ) -> Result<usize, StoreError> {
        let users: Vec<i64> = touches.iter().map(|(user, ..)| int(user.0)).collect();
        let sessions: Vec<i64> = touches.iter().map(|(_, session, _)| int(session.0)).collect();
        let instants: Vec<At> = touches.iter().map(|(.., at)| At(*at)).collect();
        self.change((users, sessions, instants), |sql, (users, sessions, instants)| {
            Box::pin(async move {
                let touch = "
                    with touch as (
                        select account, id, max(at) as at, count(*) as times
                        from unnest($1::bigint[], $2::bigint[], $3::timestamptz[]) t (account, id, at)
                        group by account, id
                    ), known as (
                        select s.id, t.at, t.times from session s join touch t on t.account = s.account and t.id = s.id
                        order by s.id for update of s
                    ), touched as (
                        update session s set last_seen_at = k.at from known k
                        where s.id = k.id and s.last_seen_at < k.at
                    )
                    select coalesce(sum(times), 0)::bigint as known from known";
                let row = sql.row(touch, &[users, sessions, instants]).await?;
                Ok(usize::try_from(row.uint("known")).unwrap_or(usize::MAX))
            })
        })
        .await
    }

    /// Locks the session: of two refreshes with one token, the second sees what the first made of it.
    pub(crate) async fn refresh_rotate(&self, draft: RefreshDraft) -> Result<RefreshOutcome, StoreError> {
        self.change(draft, |sql, draft| Box::pin(rotate(sql, draft))).await
    }

    /// One statement.
    pub(crate) async fn session_revoke(&self, user: UserId, id: SessionId) -> Result<bool, StoreError> {
        self.change((user, id), |sql, (user, id)| {
            Box::pin(async move {
                let revoke = "delete from session where account = $1 and id = $2";
                Ok(sql.run(revoke, &[&int(user.0), &int(id.0)]).await? > 0)
            })
        })
        .await
    }

    /// Locks the account.
    pub(crate) async fn sessions_revoke_all(
        &self,
        user: UserId,
        except: Option<SessionId>,
    ) -> Result<Vec<SessionId>, StoreError> {
        self.change((user, except), |sql, &(user, except)| {
            Box::pin(async move {
                account::locked(sql, user).await?;
                revoke_all(sql, user, except).await
            })
        })
        .await
    }

    /// One statement, which leaves out sessions that are being changed.
    pub(crate) async fn sessions_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        let purge = "delete from session where id in
            (select id from session where expires_at <= $1 order by expires_at limit $2 for update skip locked)";
        self.purge(purge, now, limit).await
    }
}

/// Opens a session of a locked account, and ends the user's oldest ones beyond the draft's limit; returns those. A new
/// user has none.
pub(crate) async fn create(
    sql: &Sql,
    user: UserId,
    new_user: bool,
    draft: &SessionDraft,
    agent: &AgentRef,
    now: Timestamp,
) -> Result<(Session, Vec<SessionId>), StoreError> {
    let ended = match new_user {
        true => Vec::new(),
        false => {
            let others_max = draft.per_user_max.max(1) - 1;
            let end = "delete from session where id in (select id from
                (select id from session where account = $1 order by id desc offset $2) surplus
                order by id limit $3) returning id";
            numbers(&sql.rows(end, &[&int(user.0), &int(others_max as u64), &int(ENDED_MAX)]).await?)
        }
    };
    let insert =
        "insert into session (id, account, key, agent, agent_text, ip_address, device_name, created_at,
            last_seen_at, rotated_at, expires_at)
        values (nextval('session_id'), $1, $2, $3, $4, $5, $6, $7, $7, $7, $8) returning id";
    let (number, text) = match agent {
        AgentRef::Number(number) => (Some(*number), None),
        AgentRef::Text => (None, Some(Text(&draft.user_agent))),
    };
    let args: Args<'_> = &[
        &int(user.0),
        &draft.key,
        &number,
        &text,
        &draft.ip_address,
        &draft.device_name.as_deref().map(Text),
        &At(now),
        &At(draft.expires_at),
    ];
    let id = SessionId(sql.row(insert, args).await?.uint("id"));
    let session = Session {
        id,
        user,
        key: draft.key,
        user_agent: draft.user_agent.as_str().into(),
        ip_address: draft.ip_address,
        device_name: draft.device_name.clone(),
        created_at: now,
        last_seen_at: now,
        expires_at: draft.expires_at,
        generation: 0,
        rotated_at: now,
    };
    Ok((session, ended))
}

/// Ends the sessions of a locked account, those of the console included.
pub(crate) async fn revoke_all(
    sql: &Sql,
    user: UserId,
    except: Option<SessionId>,
) -> Result<Vec<SessionId>, StoreError> {
    let revoke = "delete from session where account = $1 and id is distinct from $2 returning id";
    let ended = sql.rows(revoke, &[&int(user.0), &except.map(|except| int(except.0))]).await?;
    // Whoever had the account may have had its console.
    console::end_all(sql, user).await?;
    Ok(numbers(&ended))
}

fn numbers(rows: &[Row]) -> Vec<SessionId> {
    let mut numbers: Vec<_> = rows.iter().map(|row| SessionId(row.uint("id"))).collect();
    numbers.sort_unstable();
    numbers
}

async fn rotate(sql: &Sql, draft: &RefreshDraft) -> Result<RefreshOutcome, StoreError> {
    let (user, id) = (int(draft.user.0), int(draft.session.0));
    let active = sql.found("select active from account where id = $1 and not erased", &[&user]).await?;
    match active.map(|row| row.get("active")) {
        None => return Ok(RefreshOutcome::UserMissing),
        Some(false) => return Ok(RefreshOutcome::UserInactive),
        Some(true) => {}
    }
    // Disabling the account removes the session, so what is locked below belongs to an active account.
    let locked = sessions!("where s.account = $1 and s.id = $2 for update of s");
    let Some(row) = sql.found(locked, &[&user, &id]).await? else { return Ok(RefreshOutcome::Ended) };
    if !gate_of(&row).is_some_and(|session| session.opens(draft.binding)) {
        return Ok(RefreshOutcome::Ended);
    }
    let session = read(&row);
    let mut life = Life {
        created_at: session.created_at,
        last_seen_at: session.last_seen_at,
        rotated_at: session.rotated_at,
        expires_at: session.expires_at,
        generation: session.generation,
    };
    match life.refresh(draft) {
        Refresh::Rotated => {
            let Life { last_seen_at, rotated_at, expires_at, generation, .. } = life;
            let next =
                "update session set last_seen_at = $2, rotated_at = $3, expires_at = $4, generation = $5
                where id = $1";
            let args: Args<'_> =
                &[&id, &At(last_seen_at), &At(rotated_at), &At(expires_at), &i64::from(generation)];
            sql.run(next, args).await?;
            Ok(RefreshOutcome::Rotated(Session {
                last_seen_at,
                rotated_at,
                expires_at,
                generation,
                ..session
            }))
        }
        Refresh::Repeated => Ok(RefreshOutcome::Repeated(session)),
        Refresh::Reused => {
            sql.run("delete from session where id = $1", &[&id]).await?;
            Ok(RefreshOutcome::Reused)
        }
        Refresh::Ended => Ok(RefreshOutcome::Ended),
    }
}

/// What checks of sessions read, in the order of the questions.
async fn gates(shared: Arc<Shared>, asked: Vec<(i64, i64)>) -> Result<Vec<Gate>, StoreError> {
    let mut distinct = asked.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let (users, sessions): (Vec<i64>, Vec<i64>) = distinct.into_iter().unzip();
    let rows = shared.reader().await?.rows(GATES, &[&users, &sessions]).await?;
    let gate = |row: &Row| {
        ((row.get("account"), row.get("session")), Gate { active: row.get("active"), session: gate_of(row) })
    };
    let found: HashMap<(i64, i64), Gate> = rows.iter().map(gate).collect();
    Ok(asked.iter().map(|asked| found.get(asked).copied().unwrap_or_default()).collect())
}

/// The session of a row, if it has one.
fn gate_of(row: &Row) -> Option<GateSession> {
    row.at_opt("expires_at").map(|expires_at| GateSession {
        expires_at,
        binding: binding_of(row.get::<_, uuid::Uuid>("key").as_u128()),
        unbound: row.get("unbound"),
    })
}

fn read(row: &Row) -> Session {
    Session {
        id: SessionId(row.uint("id")),
        user: UserId(row.uint("account")),
        key: row.get("key"),
        user_agent: row.text("agent").into(),
        ip_address: row.ip_opt("ip_address"),
        device_name: row.text_opt("device_name"),
        created_at: row.at("created_at"),
        last_seen_at: row.at("last_seen_at"),
        expires_at: row.at("expires_at"),
        generation: row.uint32("generation"),
        rotated_at: row.at("rotated_at"),
    }
}

#[cfg(test)]
mod tests {
    use chelseru_postgres_server::server;

    use super::*;
    use crate::StoreOptions;
    use crate::engine::postgres::server::{Database, opened, options};

    const ACCOUNTS: &str = "
        insert into account (id, active, username, number, group_number, created_at)
            select n, true, 'u' || n, '', 0, now() from generate_series(1, 2000) n;
        insert into user_agent (id, text) overriding system value values (1, '');
        insert into session (id, account, key, agent, created_at, last_seen_at, rotated_at, expires_at)
            select n, n, md5(n::text)::uuid, 1, now(), now(), now(), now() from generate_series(1, 2000) n;";

    /// The first five are: the server compares their plans with one for any questions.
    #[tokio::test]
    async fn a_check_of_sessions_is_not_planned_each_time() {
        if server().is_none() {
            return;
        }
        let database = Database::new();
        let store = opened(&database.url(), StoreOptions { connections_max: 1, ..options() }).unwrap();
        database.run(ACCOUNTS).unwrap();
        let sql = store.postgres().reader().await.unwrap();
        for n in 1..=10_i64 {
            let asked = vec![n, n + 1000];
            let rows = sql.rows(GATES, &[&asked, &asked]).await.unwrap();
            assert!(
                rows.len() == 2 && rows.iter().all(|row| row.get::<_, Option<bool>>("active") == Some(true))
            );
        }
        // The column came with PostgreSQL 14.
        let planned_once = "
            select coalesce(to_jsonb(p) ->> 'generic_plans', '5') as count from pg_prepared_statements p
            where statement like 'select asked.%'";
        let count: String = sql.row(planned_once, &[]).await.unwrap().get("count");
        assert_eq!(count, "5", "of 10 checks");
    }
}
