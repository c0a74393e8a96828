//! The operations of this folder, in PostgreSQL statements.

use crate::StoreError;
use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::{Lock, Sql};
use crate::engine::postgres::value::{Columns, Text};
use crate::operator::note::{NOTES_MAX, Note, NoteKind, NotePut};

impl Postgres {
    pub(crate) async fn notes(&self, kind: NoteKind, prefix: &str) -> Result<Vec<Note>, StoreError> {
        let sql = self.reader().await?;
        let list = "select name, value from note where kind = $1 and starts_with(name, $2)
            order by name collate \"C\"";
        let rows = sql.rows(list, &[&kind_name(kind), &Text(prefix)]).await?;
        Ok(rows.iter().map(|row| Note { name: row.text("name"), value: row.text("value") }).collect())
    }

    /// Locks the kind: its notes are counted, and one may not exist yet.
    pub(crate) async fn note_put(
        &self,
        kind: NoteKind,
        name: String,
        seen: Option<String>,
        value: Option<String>,
    ) -> Result<NotePut, StoreError> {
        self.change((kind, name, seen, value), |sql, (kind, name, seen, value)| {
            Box::pin(async move {
                sql.lock(Lock::Notes, *kind as u64).await?;
                let kind = kind_name(*kind);
                let stored = "select value from note where kind = $1 and name = $2";
                let stored = sql.found(stored, &[&kind, &Text(name)]).await?.map(|row| row.text("value"));
                if stored != *seen {
                    return Ok(NotePut::Changed);
                }
                let Some(value) = value else {
                    sql.run("delete from note where kind = $1 and name = $2", &[&kind, &Text(name)]).await?;
                    return Ok(NotePut::Done);
                };
                if stored.is_none() {
                    let count = "select count(*) as notes from note where kind = $1";
                    if sql.row(count, &[&kind]).await?.uint("notes") >= NOTES_MAX as u64 {
                        return Ok(NotePut::Full);
                    }
                }
                let put = "insert into note (kind, name, value) values ($1, $2, $3)
                    on conflict (kind, name) do update set value = $3";
                sql.run(put, &[&kind, &Text(name), &Text(value)]).await?;
                Ok(NotePut::Done)
            })
        })
        .await
    }
}

fn kind_name(kind: NoteKind) -> &'static str {
    match kind {
        NoteKind::PausedEndpoint => "paused_endpoint",
        NoteKind::Correction => "correction",
        NoteKind::Filter => "filter",
    }
}

/// Removes the notes of a kind whose names begin so.
pub(crate) async fn remove(sql: &Sql, kind: NoteKind, prefix: &str) -> Result<(), StoreError> {
    sql.lock(Lock::Notes, kind as u64).await?;
    let remove = "delete from note where kind = $1 and starts_with(name, $2)";
    sql.run(remove, &[&kind_name(kind), &Text(prefix)]).await?;
    Ok(())
}
