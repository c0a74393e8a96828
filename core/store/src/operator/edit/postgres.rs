//! The operations of this folder, in PostgreSQL statements.

use tokio_postgres::Row;

use crate::StoreError;
use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Lock;
use crate::engine::postgres::value::{At, Columns, Text, int};
use crate::operator::edit::{CONFIG_EDITS_MAX, Edit, EditDraft, EditOf};

const LAST: &str = "select coalesce(max(number), 0) as number from edit";

const AFTER: &str = "
    select number, component, sealed, made_by from edit where number > $1 order by number limit 1";

const ENTER: &str = "
    insert into edit (number, component, sealed, made_by, made_at) values ($1, $2, $3, $4, $5)";

const FORGET_CONFIG: &str = "
    delete from edit where component is null and number <= (
        select number from edit where component is null order by number desc offset $1 limit 1)";

impl Postgres {
    /// Locks all edits.
    pub(crate) async fn edit_enter(&self, after: u64, draft: EditDraft) -> Result<Option<u64>, StoreError> {
        self.change(draft, move |sql, draft| {
            Box::pin(async move {
                sql.lock(Lock::Edits, 0).await?;
                if sql.row(LAST, &[]).await?.uint("number") != after {
                    return Ok(None);
                }
                let EditDraft { of, sealed, made_at, now } = draft;
                let component = match of {
                    EditOf::Config => None,
                    EditOf::Component(name) => Some(Text(name)),
                };
                match &component {
                    Some(name) => sql.run("delete from edit where component = $1", &[name]).await?,
                    None => sql.run(FORGET_CONFIG, &[&int(CONFIG_EDITS_MAX - 1)]).await?,
                };
                let number = after + 1;
                sql.run(ENTER, &[&int(number), &component, sealed, &Text(made_at), &At(*now)]).await?;
                Ok(Some(number))
            })
        })
        .await
    }

    pub(crate) async fn edit_last(&self) -> Result<u64, StoreError> {
        Ok(self.reader().await?.row(LAST, &[]).await?.uint("number"))
    }

    pub(crate) async fn edit_after(&self, number: u64) -> Result<Option<Edit>, StoreError> {
        let found = self.reader().await?.found(AFTER, &[&int(number)]).await?;
        Ok(found.map(|row| edit(&row)))
    }
}

fn edit(row: &Row) -> Edit {
    Edit {
        number: row.uint("number"),
        of: row.text_opt("component").map_or(EditOf::Config, EditOf::Component),
        sealed: row.get("sealed"),
        made_at: row.text("made_by"),
    }
}
