//! The operations of this folder, in PostgreSQL statements.

use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::{Lock, Sql};
use crate::engine::postgres::value::{Columns, Text};
use crate::operator::note::{NOTES_MAX, Note, NoteKind, NotePut, filters_of};
use crate::{StoreError, UserId};

impl NoteKind {
    pub(crate) fn column(self) -> &'static str {
        match self {
            NoteKind::PausedEndpoint => "paused_endpoint",
            NoteKind::Correction => "correction",
            NoteKind::Filter => "filter",
            NoteKind::Alone => "alone",
        }
    }
}

impl Postgres {
    pub(crate) async fn notes(&self, kind: NoteKind, prefix: &str) -> Result<Vec<Note>, StoreError> {
        let statement = "select name, value from operator_note where kind = $1 and starts_with(name, $2) \
                         order by name collate \"C\"";
        let rows = self.reader().await?.rows(statement, &[&kind.column(), &Text(prefix)]).await?;
        Ok(rows.iter().map(|row| Note { name: row.text("name"), value: row.text("value") }).collect())
    }

    /// Locks the notes of the kind, so that their number stays within its limit.
    pub(crate) async fn note_put(
        &self,
        kind: NoteKind,
        name: String,
        seen: Option<String>,
        value: Option<String>,
    ) -> Result<NotePut, StoreError> {
        self.change((name, seen, value), move |sql, (name, seen, value)| {
            Box::pin(async move {
                sql.lock(Lock::Notes, kind as u64).await?;
                let (column, name) = (kind.column(), Text(name));
                let found = "select value from operator_note where kind = $1 and name = $2";
                let stored = sql.found(found, &[&column, &name]).await?.map(|row| row.text("value"));
                if stored != *seen {
                    return Ok(NotePut::Changed);
                }
                let Some(value) = value else {
                    let statement = "delete from operator_note where kind = $1 and name = $2";
                    sql.run(statement, &[&column, &name]).await?;
                    return Ok(NotePut::Done);
                };
                let count = "select count(*) as notes from operator_note where kind = $1";
                if stored.is_none() && sql.row(count, &[&column]).await?.uint("notes") >= NOTES_MAX as u64 {
                    return Ok(NotePut::Full);
                }
                let put = "insert into operator_note (kind, name, value) values ($1, $2, $3) \
                           on conflict (kind, name) do update set value = excluded.value";
                sql.run(put, &[&column, &name, &Text(value)]).await?;
                Ok(NotePut::Done)
            })
        })
        .await
    }
}

/// Removes the saved filters of an account.
pub(crate) async fn remove_filters(sql: &Sql, user: UserId) -> Result<(), StoreError> {
    let statement = "delete from operator_note where kind = 'filter' and starts_with(name, $1)";
    sql.run(statement, &[&filters_of(user)]).await?;
    Ok(())
}
