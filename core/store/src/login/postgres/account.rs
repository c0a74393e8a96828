//! The row of an account, and the steps shared by several operations inside a change.
//!
//! Whoever changes an account, its password or the set of its sessions locks its row first.

use tokio_postgres::Row;

use crate::chat::FileId;
use crate::engine::postgres::sql::{Args, Sql};
use crate::engine::postgres::value::{At, Columns, Text, int};
use crate::login::user::{Avatar, User};
use crate::{StoreError, Timestamp, UserId};

macro_rules! columns {
    () => {
        "a.id, a.active, a.username, a.number, a.group_number, a.created_at, a.last_login_at, a.first_name, \
         a.last_name, a.email, a.staff, a.superuser, a.avatar, a.avatar_path"
    };
}

pub(crate) use columns;

/// Accounts in order of their numbers.
pub(crate) async fn list(sql: &Sql, after: Option<UserId>, limit: usize) -> Result<Vec<User>, StoreError> {
    let list =
        concat!("select ", columns!(), " from account a where id > $1 and not erased order by id limit $2");
    let after = after.map_or(-1, |after| int(after.0));
    Ok(sql.rows(list, &[&after, &int(limit as u64)]).await?.iter().map(read).collect())
}

/// Accounts in the other order.
pub(crate) async fn newest(sql: &Sql, before: Option<UserId>, limit: usize) -> Result<Vec<User>, StoreError> {
    let list = concat!(
        "select ",
        columns!(),
        " from account a where id < $1 and not erased order by id desc limit $2"
    );
    let before = before.map_or(i64::MAX, |before| int(before.0));
    Ok(sql.rows(list, &[&before, &int(limit as u64)]).await?.iter().map(read).collect())
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
        avatar: None,
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
pub(crate) async fn erase(sql: &Sql, user: &User) -> Result<(), StoreError> {
    let id = int(user.id.0);
    let empty = "update account set active = false, username = '', number = '', last_login_at = null,
        first_name = '', last_name = '', email = '', staff = false, superuser = false, avatar = null,
        avatar_path = null, erased = true
        where id = $1";
    sql.run(empty, &[&id]).await?;
    for table in [
        "delete from password where account = $1",
        "delete from password_token where account = $1",
        "delete from account_number where account = $1",
    ] {
        sql.run(table, &[&id]).await?;
    }
    let name = "delete from account_name where account = $1 and name = $2";
    sql.run(name, &[&id, &Text(&user.username)]).await?;
    erase_looks(sql, user.id).await
}

/// Removes what an account is found by, older versions' looks included.
pub(crate) async fn erase_looks(sql: &Sql, id: UserId) -> Result<(), StoreError> {
    sql.run("delete from account_look where account = $1", &[&int(id.0)]).await?;
    Ok(())
}

/// The number of a new account.
pub(crate) async fn next_id(sql: &Sql) -> Result<UserId, StoreError> {
    Ok(UserId(sql.row("select nextval('account_id')", &[]).await?.uint("nextval")))
}

/// Stores an account under its id, in place of another one.
pub(crate) async fn put(sql: &Sql, user: &User) -> Result<(), StoreError> {
    let put = "insert into account (id, active, username, number, group_number, created_at, last_login_at,
            first_name, last_name, email, staff, superuser, avatar, avatar_path)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
        on conflict (id) do update set (active, username, number, group_number, created_at, last_login_at,
            first_name, last_name, email, staff, superuser, avatar, avatar_path, erased)
        = (excluded.active, excluded.username, excluded.number, excluded.group_number, excluded.created_at,
            excluded.last_login_at, excluded.first_name, excluded.last_name, excluded.email, excluded.staff,
            excluded.superuser, excluded.avatar, excluded.avatar_path, false)";
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
        &user.avatar.as_ref().map(|avatar| int(avatar.file.0)),
        &user.avatar.as_ref().map(|avatar| Text(&avatar.path)),
    ];
    sql.run(put, args).await?;
    Ok(())
}

pub(crate) fn read(row: &Row) -> User {
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
        avatar: row
            .uint_opt("avatar")
            .map(|file| Avatar { file: FileId(file), path: row.text_opt("avatar_path").unwrap_or_default() }),
    }
}

/// Gives a locked account a picture, or takes it.
pub(crate) async fn set_avatar(sql: &Sql, id: UserId, avatar: Option<&Avatar>) -> Result<(), StoreError> {
    let set = "update account set avatar = $2, avatar_path = $3 where id = $1";
    let (file, path) = avatar.map(|avatar| (int(avatar.file.0), Text(&avatar.path))).unzip();
    sql.run(set, &[&int(id.0), &file, &path]).await?;
    Ok(())
}
