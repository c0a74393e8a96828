//! The operations of this folder, in PostgreSQL statements.

use tokio_postgres::Row;

use crate::chat::organization::{OrganizationChanged, OrganizationMade, OrganizationRemoved};
use crate::chat::postgres::room::lock_users;
use crate::chat::{Organization, OrganizationId};
use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, Text, int, size};
use crate::{StoreError, Timestamp, UserId};

const ONE: &str = "select id, name, uname, owner, created_at from organization where id = $1";

impl Postgres {
    /// Locks the owner, under whose row organisations are counted. A name that another node takes meanwhile is a
    /// duplicate key, and the change runs again.
    pub(crate) async fn chat_organization_create(
        &self,
        owner: UserId,
        name: String,
        uname: String,
        per_user_max: usize,
        now: Timestamp,
    ) -> Result<OrganizationMade, StoreError> {
        let draft = Organization { id: OrganizationId(0), name, uname, owner, created_at: now };
        self.change(draft, move |sql, draft| Box::pin(create(sql, draft, per_user_max))).await
    }

    /// Locks the organisation. A name that another node takes meanwhile is a duplicate key, and the change runs again.
    pub(crate) async fn chat_organization_update(
        &self,
        owner: UserId,
        id: OrganizationId,
        name: Option<String>,
        uname: Option<String>,
    ) -> Result<OrganizationChanged, StoreError> {
        self.change((name, uname), move |sql, (name, uname)| {
            Box::pin(async move {
                let Some(mut organization) = owned(sql, owner, id).await? else {
                    return Ok(OrganizationChanged::Missing);
                };
                if let Some(uname) = uname.as_ref().filter(|uname| **uname != organization.uname) {
                    if is_taken(sql, uname).await? {
                        return Ok(OrganizationChanged::NameTaken);
                    }
                    organization.uname.clone_from(uname);
                }
                organization.name = name.clone().unwrap_or(organization.name);
                let statement = "update organization set name = $2, uname = $3 where id = $1";
                let args = (Text(&organization.name), Text(&organization.uname));
                sql.run(statement, &[&int(id.0), &args.0, &args.1]).await?;
                Ok(OrganizationChanged::Changed(organization))
            })
        })
        .await
    }

    /// Locks the organisation, so that no room joins it.
    pub(crate) async fn chat_organization_remove(
        &self,
        owner: UserId,
        id: OrganizationId,
    ) -> Result<OrganizationRemoved, StoreError> {
        self.change((), move |sql, ()| {
            Box::pin(async move {
                if owned(sql, owner, id).await?.is_none() {
                    return Ok(OrganizationRemoved::Missing);
                }
                let statement = "select count(*) as rooms from room where organization = $1";
                let rooms = sql.row(statement, &[&int(id.0)]).await?.uint("rooms");
                if rooms > 0 {
                    return Ok(OrganizationRemoved::HasRooms(usize::try_from(rooms).unwrap_or(usize::MAX)));
                }
                sql.run("delete from organization where id = $1", &[&int(id.0)]).await?;
                Ok(OrganizationRemoved::Removed)
            })
        })
        .await
    }

    pub(crate) async fn chat_organization(
        &self,
        id: OrganizationId,
    ) -> Result<Option<Organization>, StoreError> {
        Ok(self.reader().await?.found(ONE, &[&int(id.0)]).await?.map(|row| organization(&row)))
    }

    pub(crate) async fn chat_organizations_before(
        &self,
        before: Option<OrganizationId>,
        limit: usize,
    ) -> Result<Vec<Organization>, StoreError> {
        let statement = "select id, name, uname, owner, created_at from organization where id < $1 \
                         order by id desc limit $2";
        let before = before.map_or(i64::MAX, |before| int(before.0));
        let rows = self.reader().await?.rows(statement, &[&before, &size(limit)]).await?;
        Ok(rows.iter().map(organization).collect())
    }

    pub(crate) async fn chat_organizations_of(
        &self,
        owner: UserId,
        limit: usize,
    ) -> Result<Vec<Organization>, StoreError> {
        let statement = "select id, name, uname, owner, created_at from organization where owner = $1 \
                         order by id limit $2";
        let rows = self.reader().await?.rows(statement, &[&int(owner.0), &size(limit)]).await?;
        Ok(rows.iter().map(organization).collect())
    }
}

async fn create(
    sql: &Sql,
    draft: &Organization,
    per_user_max: usize,
) -> Result<OrganizationMade, StoreError> {
    let owner = int(draft.owner.0);
    lock_users(sql, &[draft.owner]).await?;
    if is_taken(sql, &draft.uname).await? {
        return Ok(OrganizationMade::NameTaken);
    }
    let statement = "select count(*) as owned from organization where owner = $1";
    if sql.row(statement, &[&owner]).await?.uint("owned") >= per_user_max as u64 {
        return Ok(OrganizationMade::TooMany);
    }
    let statement = "insert into organization (id, name, uname, owner, created_at) \
                     values (nextval('organization_id'), $1, $2, $3, $4) \
                     returning id, name, uname, owner, created_at";
    let args = (Text(&draft.name), Text(&draft.uname), At(draft.created_at));
    let made = sql.row(statement, &[&args.0, &args.1, &owner, &args.2]).await?;
    Ok(OrganizationMade::New(organization(&made)))
}

fn organization(row: &Row) -> Organization {
    Organization {
        id: OrganizationId(row.uint("id")),
        name: row.text("name"),
        uname: row.text("uname"),
        owner: UserId(row.uint("owner")),
        created_at: row.at("created_at"),
    }
}

/// An organisation, if the user owns it, with its row locked.
async fn owned(sql: &Sql, owner: UserId, id: OrganizationId) -> Result<Option<Organization>, StoreError> {
    let statement = "select id, name, uname, owner, created_at from organization \
                     where id = $1 and owner = $2 for update";
    let found = sql.found(statement, &[&int(id.0), &int(owner.0)]).await?;
    Ok(found.map(|row| organization(&row)))
}

async fn is_taken(sql: &Sql, uname: &str) -> Result<bool, StoreError> {
    let statement = "select from organization where uname = $1";
    Ok(sql.found(statement, &[&Text(uname)]).await?.is_some())
}
