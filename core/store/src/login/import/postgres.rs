//! The operations of this folder, in PostgreSQL statements. The importer is alone, so nothing is locked.

use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{Columns, Text, int};
use crate::login::import::ImportedUser;
use crate::login::password::postgres as password;
use crate::login::postgres::account;
use crate::{StoreError, UserId};

impl Postgres {
    pub(crate) async fn import_users(&self, users: Vec<ImportedUser>) -> Result<(), StoreError> {
        self.change(users, |sql, users| {
            Box::pin(async move {
                for imported in users {
                    put(sql, imported).await?;
                }
                Ok(())
            })
        })
        .await
    }

    pub(crate) async fn user_merged_into(&self, old: UserId) -> Result<Option<UserId>, StoreError> {
        let sql = self.reader().await?;
        let row = sql.found("select account from account_merged where old = $1", &[&int(old.0)]).await?;
        Ok(row.map(|row| UserId(row.uint("account"))))
    }
}

async fn put(sql: &Sql, imported: &ImportedUser) -> Result<(), StoreError> {
    let ImportedUser { user, password_hash, owns_number, derived_name, merged } = imported;
    account::put(sql, user).await?;
    if !derived_name {
        let name = "insert into account_name (name, account) values ($1, $2)
            on conflict (name) do update set account = $2";
        sql.run(name, &[&Text(&user.username), &int(user.id.0)]).await?;
    }
    if *owns_number && !user.number.is_empty() {
        account::own_number(sql, &user.number, user.group, user.id).await?;
    }
    if let Some(hash) = password_hash {
        password::put(sql, user.id, hash, user.created_at).await?;
    }
    for old in merged {
        let merge = "insert into account_merged (old, account) values ($1, $2)
            on conflict (old) do update set account = $2";
        sql.run(merge, &[&int(old.0), &int(user.id.0)]).await?;
    }
    Ok(())
}
