//! The operations of this folder, in PostgreSQL statements.
//!
//! Whoever changes an account, its password or the set of its sessions locks its row first.

use tokio_postgres::Row;

use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::{Args, Sql};
use crate::engine::postgres::value::{At, Columns, Text, int};
use crate::login::challenge::code::Guess;
use crate::login::challenge::postgres as challenge;
use crate::login::password::postgres as password;
use crate::login::session::postgres::revoke_all;
use crate::login::user::{LooksStep, NumberAdded, NumberDraft, User, UserChange, UserDraft, UserMade};
use crate::{Rights, StoreError, Timestamp, UserId};

macro_rules! columns {
    () => {
        "a.id, a.active, a.username, a.number, a.group_number, a.created_at, a.last_login_at, a.first_name, \
         a.last_name, a.email, a.staff, a.superuser"
    };
}

impl Postgres {
    pub(crate) async fn user_get(&self, id: UserId) -> Result<Option<User>, StoreError> {
        let by_id = concat!("select ", columns!(), " from account a where id = $1 and not erased");
        let sql = self.reader().await?;
        Ok(sql.found(by_id, &[&int(id.0)]).await?.map(|row| read(&row)))
    }

    pub(crate) async fn user_by_name(&self, name: &str) -> Result<Option<User>, StoreError> {
        let by_name = concat!(
            "select ",
            columns!(),
            " from account a join account_name n on n.account = a.id where n.name = $1 and not a.erased"
        );
        let sql = self.reader().await?;
        Ok(sql.found(by_name, &[&Text(name)]).await?.map(|row| read(&row)))
    }

    pub(crate) async fn user_by_look(&self, look: &str) -> Result<Option<User>, StoreError> {
        let by_look = concat!(
            "select ",
            columns!(),
            " from account a join account_look l on l.account = a.id where l.look = $1 and not a.erased"
        );
        let sql = self.reader().await?;
        Ok(sql.found(by_look, &[&Text(look)]).await?.map(|row| read(&row)))
    }

    /// Locks the position, so that gateways take turns.
    pub(crate) async fn looks_enter(
        &self,
        look: fn(&str) -> String,
        limit: usize,
    ) -> Result<LooksStep, StoreError> {
        self.change((look, limit), |sql, &(look, limit)| Box::pin(enter_looks(sql, look, limit))).await
    }

    pub(crate) async fn user_by_identity(
        &self,
        group: u32,
        number: &str,
    ) -> Result<Option<User>, StoreError> {
        let by_identity = concat!(
            "select ",
            columns!(),
            " from account a join account_number n on n.account = a.id
              where n.number = $1 and n.group_number = $2"
        );
        let sql = self.reader().await?;
        let row = sql.found(by_identity, &[&Text(number), &i64::from(group)]).await?;
        Ok(row.map(|row| read(&row)))
    }

    pub(crate) async fn users_list(
        &self,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<User>, StoreError> {
        list(&self.reader().await?, after, limit).await
    }

    /// The keys of the tables decide between two that register a name at once.
    pub(crate) async fn user_register(&self, draft: UserDraft) -> Result<UserMade, StoreError> {
        self.change(draft, |sql, draft| Box::pin(register(sql, draft))).await
    }

    /// One statement.
    pub(crate) async fn user_update(
        &self,
        id: UserId,
        change: UserChange,
    ) -> Result<Option<User>, StoreError> {
        self.change((id, change), |sql, (id, change)| {
            Box::pin(async move {
                let update = concat!(
                    "update account a set first_name = coalesce($2, first_name),
                     last_name = coalesce($3, last_name), email = coalesce($4, email)
                     where id = $1 and not erased returning ",
                    columns!()
                );
                let UserChange { first_name, last_name, email } = change;
                let [first, last, email] =
                    [first_name, last_name, email].map(|text| text.as_deref().map(Text));
                let row = sql.found(update, &[&int(id.0), &first, &last, &email]).await?;
                Ok(row.map(|row| read(&row)))
            })
        })
        .await
    }

    /// Locks the code, then the account. The key of the numbers decides between two accounts of a group.
    pub(crate) async fn number_add(&self, draft: NumberDraft) -> Result<NumberAdded, StoreError> {
        self.change(draft, |sql, draft| Box::pin(add_number(sql, draft))).await
    }

    /// One statement.
    pub(crate) async fn user_set_rights(
        &self,
        id: UserId,
        rights: Rights,
    ) -> Result<Option<User>, StoreError> {
        self.change((id, rights), |sql, &(id, rights)| {
            Box::pin(async move {
                let update = concat!(
                    "update account a set staff = $2, superuser = $3 where id = $1 and not erased returning ",
                    columns!()
                );
                let (staff, superuser) = (rights != Rights::None, rights == Rights::Superuser);
                Ok(sql.found(update, &[&int(id.0), &staff, &superuser]).await?.map(|row| read(&row)))
            })
        })
        .await
    }

    /// Locks the account, so that no login under way opens a session after its sessions were ended.
    pub(crate) async fn user_set_active(&self, id: UserId, active: bool) -> Result<bool, StoreError> {
        self.change((id, active), |sql, &(id, active)| {
            Box::pin(async move {
                let set = "update account set active = $2 where id = $1 and not erased";
                if sql.run(set, &[&int(id.0), &active]).await? == 0 {
                    return Ok(false);
                }
                if !active {
                    revoke_all(sql, id, None).await?;
                }
                Ok(true)
            })
        })
        .await
    }
}

async fn enter_looks(sql: &Sql, look: fn(&str) -> String, limit: usize) -> Result<LooksStep, StoreError> {
    let begin = "insert into account_look_position (account) values (0) on conflict do nothing";
    sql.run(begin, &[]).await?;
    let position = sql.row("select account from account_look_position for update", &[]).await?;
    let users = list(sql, Some(UserId(position.uint("account"))), limit).await?;
    let Some(last) = users.last().map(|user| user.id) else {
        return Ok(LooksStep { read: 0, alike: Vec::new() });
    };
    let mut alike = Vec::new();
    for user in &users {
        // The name of a login by code has no row: it is found by number and group.
        let named = "select from account_name where name = $1 and account = $2";
        if sql.found(named, &[&Text(&user.username), &int(user.id.0)]).await?.is_none() {
            continue;
        }
        let look = look(&user.username);
        let enter = "insert into account_look (look, account) values ($1, $2) on conflict do nothing";
        sql.run(enter, &[&Text(&look), &int(user.id.0)]).await?;
        let has = sql.row("select account from account_look where look = $1", &[&Text(&look)]).await?;
        let has = UserId(has.uint("account"));
        if has != user.id {
            alike.push((user.id, has));
        }
    }
    sql.run("update account_look_position set account = $1", &[&int(last.0)]).await?;
    Ok(LooksStep { read: users.len(), alike })
}

async fn list(sql: &Sql, after: Option<UserId>, limit: usize) -> Result<Vec<User>, StoreError> {
    let list =
        concat!("select ", columns!(), " from account a where id > $1 and not erased order by id limit $2");
    let after = after.map_or(-1, |after| int(after.0));
    Ok(sql.rows(list, &[&after, &int(limit as u64)]).await?.iter().map(read).collect())
}

async fn register(sql: &Sql, draft: &UserDraft) -> Result<UserMade, StoreError> {
    let taken = "select exists (select from account_name where name = $1)
        or exists (select from account_look where look = $2)";
    let taken = sql.row(taken, &[&Text(&draft.username), &Text(&draft.look)]).await?;
    if taken.get(0) {
        return Ok(UserMade::NameTaken);
    }
    let user = User {
        id: next_id(sql).await?,
        active: true,
        username: draft.username.clone(),
        number: String::new(),
        group: 0,
        created_at: draft.now,
        last_login_at: None,
        first_name: String::new(),
        last_name: String::new(),
        email: draft.email.clone(),
        staff: draft.staff,
        superuser: draft.superuser,
    };
    put(sql, &user).await?;
    name(sql, &user.username, user.id).await?;
    let look = "insert into account_look (look, account) values ($1, $2)";
    sql.run(look, &[&Text(&draft.look), &int(user.id.0)]).await?;
    password::put(sql, user.id, &draft.password_hash, draft.now).await?;
    Ok(UserMade::Made(user))
}

async fn add_number(sql: &Sql, draft: &NumberDraft) -> Result<NumberAdded, StoreError> {
    challenge::lock(sql, &draft.challenge).await?;
    let Some(mut user) = locked(sql, draft.user).await?.filter(|user| user.active) else {
        return Ok(NumberAdded::Refused);
    };
    if !user.number.is_empty() {
        return Ok(NumberAdded::HasNumber);
    }
    match challenge::guess(sql, &draft.challenge, &draft.mac, draft.guesser, draft.now).await?.0 {
        Guess::Right => {}
        Guess::Burned => return Ok(NumberAdded::Exhausted),
        _ => return Ok(NumberAdded::Refused),
    }
    challenge::remove(sql, &draft.challenge).await?;
    // Waits for another account that takes the number right now.
    if !own_number(sql, &draft.number, user.group, user.id).await? {
        return Ok(NumberAdded::Taken);
    }
    let set = "update account set number = $2 where id = $1";
    sql.run(set, &[&int(user.id.0), &Text(&draft.number)]).await?;
    user.number.clone_from(&draft.number);
    Ok(NumberAdded::Added(user))
}

/// Makes a number lead to an account; false when it leads to another one.
pub(crate) async fn own_number(
    sql: &Sql,
    number: &str,
    group: u32,
    user: UserId,
) -> Result<bool, StoreError> {
    let own = "insert into account_number (number, group_number, account) values ($1, $2, $3)
        on conflict do nothing";
    Ok(sql.run(own, &[&Text(number), &i64::from(group), &int(user.0)]).await? > 0)
}

/// Registers a name.
pub(crate) async fn name(sql: &Sql, name: &str, user: UserId) -> Result<(), StoreError> {
    let insert = "insert into account_name (name, account) values ($1, $2)";
    sql.run(insert, &[&Text(name), &int(user.0)]).await?;
    Ok(())
}

/// Locks an account.
pub(crate) async fn locked(sql: &Sql, id: UserId) -> Result<Option<User>, StoreError> {
    let locked =
        concat!("select ", columns!(), " from account a where id = $1 and not erased for no key update");
    Ok(sql.found(locked, &[&int(id.0)]).await?.map(|row| read(&row)))
}

/// Locks the account of a number in a group.
pub(crate) async fn locked_by_identity(
    sql: &Sql,
    group: u32,
    number: &str,
) -> Result<Option<User>, StoreError> {
    let locked = concat!(
        "select ",
        columns!(),
        " from account a join account_number n on n.account = a.id
          where n.number = $1 and n.group_number = $2 for no key update of a"
    );
    Ok(sql.found(locked, &[&Text(number), &i64::from(group)]).await?.map(|row| read(&row)))
}

/// Notes a login.
pub(crate) async fn logged_in(sql: &Sql, id: UserId, now: Timestamp) -> Result<(), StoreError> {
    sql.run("update account set last_login_at = $2 where id = $1", &[&int(id.0), &At(now)]).await?;
    Ok(())
}

/// Makes the account of a new identity.
///
/// The wished name is derived from the identity and nobody may choose it, so it needs no row of its own. While the
/// wished name is taken, `-2`, `-3` and so on is appended.
pub(crate) async fn create(
    sql: &Sql,
    number: &str,
    group: u32,
    wished: &str,
    now: Timestamp,
) -> Result<User, StoreError> {
    let mut username = wished.to_owned();
    let mut attempt = 1;
    while sql.found("select from account_name where name = $1", &[&Text(&username)]).await?.is_some() {
        attempt += 1;
        username = format!("{wished}-{attempt}");
    }
    let user = User {
        id: next_id(sql).await?,
        active: true,
        username,
        number: number.to_owned(),
        group,
        created_at: now,
        last_login_at: None,
        first_name: String::new(),
        last_name: String::new(),
        email: String::new(),
        staff: false,
        superuser: false,
    };
    put(sql, &user).await?;
    let own = "insert into account_number (number, group_number, account) values ($1, $2, $3)";
    sql.run(own, &[&Text(number), &i64::from(group), &int(user.id.0)]).await?;
    if attempt > 1 {
        name(sql, &user.username, user.id).await?;
    }
    Ok(user)
}

/// Empties a locked account and what makes it one; it is then as if it did not exist.
pub(crate) async fn erase(sql: &Sql, user: &User, look: &str) -> Result<(), StoreError> {
    let id = int(user.id.0);
    let empty = "update account set active = false, username = '', number = '', last_login_at = null,
        first_name = '', last_name = '', email = '', staff = false, superuser = false, erased = true
        where id = $1";
    sql.run(empty, &[&id]).await?;
    for table in [
        "delete from password where account = $1",
        "delete from password_token where account = $1",
        "delete from account_number where account = $1",
    ] {
        sql.run(table, &[&id]).await?;
    }
    // Another account may have the look.
    let name = "delete from account_name where account = $1 and name = $2";
    sql.run(name, &[&id, &Text(&user.username)]).await?;
    sql.run("delete from account_look where account = $1 and look = $2", &[&id, &Text(look)]).await?;
    Ok(())
}

async fn next_id(sql: &Sql) -> Result<UserId, StoreError> {
    Ok(UserId(sql.row("select nextval('account_id')", &[]).await?.uint("nextval")))
}

/// Stores an account under its id, in place of another one.
pub(crate) async fn put(sql: &Sql, user: &User) -> Result<(), StoreError> {
    let put = "insert into account (id, active, username, number, group_number, created_at, last_login_at,
            first_name, last_name, email, staff, superuser)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        on conflict (id) do update set (active, username, number, group_number, created_at, last_login_at,
            first_name, last_name, email, staff, superuser, erased)
        = (excluded.active, excluded.username, excluded.number, excluded.group_number, excluded.created_at,
            excluded.last_login_at, excluded.first_name, excluded.last_name, excluded.email, excluded.staff,
            excluded.superuser, false)";
    let args: Args<'_> = &[
        &int(user.id.0),
        &user.active,
        &Text(&user.username),
        &Text(&user.number),
        &i64::from(user.group),
        &At(user.created_at),
        &user.last_login_at.map(At),
        &Text(&user.first_name),
        &Text(&user.last_name),
        &Text(&user.email),
        &user.staff,
        &user.superuser,
    ];
    sql.run(put, args).await?;
    Ok(())
}

fn read(row: &Row) -> User {
    User {
        id: UserId(row.uint("id")),
        active: row.get("active"),
        username: row.text("username"),
        number: row.text("number"),
        group: row.uint32("group_number"),
        created_at: row.at("created_at"),
        last_login_at: row.at_opt("last_login_at"),
        first_name: row.text("first_name"),
        last_name: row.text("last_name"),
        email: row.text("email"),
        staff: row.get("staff"),
        superuser: row.get("superuser"),
    }
}
