//! The operations of this folder, in PostgreSQL statements.
//!
//! Whoever appends locks the row of the counts, so numbers have no gaps and appear in their order: a page that ended
//! at a number never misses one below it.

use futures_util::future::try_join_all;
use tokio_postgres::Row;

use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::{Args, Sql};
use crate::engine::postgres::value::{At, Columns, Text, int};
use crate::operator::audit::{AuditDraft, AuditEntry, AuditLog, AuditPage, AuditQuery};
use crate::{SessionId, StoreError, Timestamp, UserId};

macro_rules! columns {
    () => {
        "id, at, event, account, session, ip_address, subject, detail, actor, before, after, reason"
    };
}

/// With log and place.
pub(crate) const ALL: &str = concat!("select ", columns!(), ", log, place from audit_entry order by id");

/// Entries that one statement reads, while it looks for those that a query wants.
const LOOK_STEP: usize = 500;

/// Entries that one change removes of a log beyond those it adds, after a limit was lowered.
const TRIM_STEP: u64 = 2048;

impl Postgres {
    /// Locks the counts.
    pub(crate) async fn audit_append(
        &self,
        drafts: Vec<(AuditLog, AuditDraft)>,
        keep: u64,
    ) -> Result<(), StoreError> {
        if drafts.is_empty() {
            return Ok(());
        }
        self.change((drafts, keep), |sql, (drafts, keep)| Box::pin(append(sql, drafts, *keep))).await
    }

    /// One statement for each log.
    pub(crate) async fn audit_purge(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.change((before, limit), |sql, &(before, limit)| {
            Box::pin(async move {
                let purge = "delete from audit_entry where id in
                    (select id from audit_entry where log = $1 and at < $2 order by id limit $3)";
                let mut removed = 0;
                for log in AuditLog::ALL {
                    removed += sql.run(purge, &[&name(log), &At(before), &int(limit as u64)]).await?;
                }
                Ok(usize::try_from(removed).unwrap_or(usize::MAX))
            })
        })
        .await
    }

    pub(crate) async fn audit_page(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        let sql = self.reader().await?;
        let ascending = query.after.is_some();
        let mut page = AuditPage { entries: Vec::new(), more_at: None };
        let (mut looked, mut looked_at) = (0, None);
        'pages: loop {
            let rows = step(&sql, query, looked_at).await?;
            for row in &rows {
                if page.entries.len() == query.limit || looked == query.look_max {
                    page.more_at = looked_at;
                    break 'pages;
                }
                let entry = read(row);
                looked_at = Some(entry.id);
                looked += 1;
                if query.wants(&entry.draft) {
                    page.entries.push(entry);
                }
            }
            if rows.len() < LOOK_STEP {
                break;
            }
        }
        if ascending {
            page.entries.reverse();
        }
        Ok(page)
    }
}

/// The next entries in the query's direction.
async fn step(sql: &Sql, query: &AuditQuery, looked_at: Option<u64>) -> Result<Vec<Row>, StoreError> {
    let down = concat!(
        "select ",
        columns!(),
        " from audit_entry where id > $1 and id < $2 order by id desc limit $3"
    );
    let up =
        concat!("select ", columns!(), " from audit_entry where id > $1 and id < $2 order by id limit $3");
    let limit = int(LOOK_STEP as u64);
    match query.after {
        Some(after) => {
            let (after, before) = (int(looked_at.unwrap_or(after)), query.before.map_or(i64::MAX, int));
            sql.rows(up, &[&after, &before, &limit]).await
        }
        None => {
            let before = looked_at.or(query.before).map_or(i64::MAX, int);
            sql.rows(down, &[&0i64, &before, &limit]).await
        }
    }
}

async fn append(sql: &Sql, drafts: &[(AuditLog, AuditDraft)], keep: u64) -> Result<(), StoreError> {
    let count = |log: AuditLog| int(drafts.iter().filter(|(of, _)| *of == log).count() as u64);
    let take = "update audit_count set entries = entries + $1 + $2 + $3, anyone = anyone + $1,
        account = account + $2, operator = operator + $3 returning entries, anyone, account, operator";
    let added = AuditLog::ALL.map(count);
    let row = sql.row(take, &[&added[0], &added[1], &added[2]]).await?;
    let mut id = row.get::<_, i64>("entries") - int(drafts.len() as u64);
    let counts = AuditLog::ALL.map(|log| row.get::<_, i64>(name(log)));
    let mut places = [0, 1, 2].map(|log| counts[log] - added[log]);
    // Sent together, without waiting for each other's answers.
    let mut inserts = Vec::with_capacity(drafts.len());
    for (log, draft) in drafts {
        id += 1;
        let place = &mut places[*log as usize];
        *place += 1;
        inserts.push(insert(sql, id, *log, *place, draft));
    }
    try_join_all(inserts).await?;
    let trim = "delete from audit_entry where id in
        (select id from audit_entry where log = $1 and place <= $2 order by place limit $3)";
    for (log, (count, added)) in AuditLog::ALL.into_iter().zip(counts.into_iter().zip(added)) {
        if added > 0 {
            let gone = count.saturating_sub(int(keep.max(1)));
            sql.run(trim, &[&name(log), &gone, &(added + int(TRIM_STEP))]).await?;
        }
    }
    Ok(())
}

pub(crate) async fn insert(
    sql: &Sql,
    id: i64,
    log: AuditLog,
    place: i64,
    draft: &AuditDraft,
) -> Result<(), StoreError> {
    let insert =
        "insert into audit_entry (id, log, place, at, event, account, session, ip_address, subject, detail,
            actor, before, after, reason)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
    let args: Args<'_> = &[
        &id,
        &name(log),
        &place,
        &At(draft.at),
        &Text(&draft.event),
        &draft.user.map(|user| int(user.0)),
        &draft.session.map(|session| int(session.0)),
        &Text(&draft.ip_address),
        &Text(&draft.subject),
        &Text(&draft.detail),
        &draft.actor.map(|actor| int(actor.0)),
        &Text(&draft.before),
        &Text(&draft.after),
        &Text(&draft.reason),
    ];
    sql.run(insert, args).await?;
    Ok(())
}

pub(crate) fn name(log: AuditLog) -> &'static str {
    match log {
        AuditLog::Anyone => "anyone",
        AuditLog::Account => "account",
        AuditLog::Operator => "operator",
    }
}

pub(crate) fn read(row: &Row) -> AuditEntry {
    let draft = AuditDraft {
        at: row.at("at"),
        event: row.text("event"),
        user: row.uint_opt("account").map(UserId),
        session: row.uint_opt("session").map(SessionId),
        ip_address: row.text("ip_address"),
        subject: row.text("subject"),
        detail: row.text("detail"),
        actor: row.uint_opt("actor").map(UserId),
        before: row.text("before"),
        after: row.text("after"),
        reason: row.text("reason"),
    };
    AuditEntry { id: row.uint("id"), draft }
}
