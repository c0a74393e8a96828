//! The operations of this folder, in PostgreSQL statements.
//!
//! Whoever changes an account, its password or the set of its sessions locks its row first.

use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{Columns, Text, int};
use crate::login::challenge::code::Guess;
use crate::login::password::postgres as password;
use crate::login::postgres::account;
use crate::login::postgres::code;
use crate::login::session::postgres::revoke_all;
use crate::login::user::{Look, LooksStep, NumberAdded, NumberDraft, User, UserChange, UserDraft, UserMade};
use crate::{Rights, StoreError, UserId};

impl Postgres {
    pub(crate) async fn user_get(&self, id: UserId) -> Result<Option<User>, StoreError> {
        let by_id = concat!("select ", account::columns!(), " from account a where id = $1 and not erased");
        let sql = self.reader().await?;
        Ok(sql.found(by_id, &[&int(id.0)]).await?.map(|row| account::read(&row)))
    }

    pub(crate) async fn user_by_name(&self, name: &str) -> Result<Option<User>, StoreError> {
        let by_name = concat!(
            "select ",
            account::columns!(),
            " from account a join account_name n on n.account = a.id where n.name = $1 and not a.erased"
        );
        let sql = self.reader().await?;
        Ok(sql.found(by_name, &[&Text(name)]).await?.map(|row| account::read(&row)))
    }

    pub(crate) async fn user_by_look(&self, look: &str) -> Result<Option<User>, StoreError> {
        let by_look = concat!(
            "select ",
            account::columns!(),
            " from account a join account_look l on l.account = a.id where l.look = $1 and not a.erased"
        );
        let sql = self.reader().await?;
        Ok(sql.found(by_look, &[&Text(look)]).await?.map(|row| account::read(&row)))
    }

    /// Locks the position, so that gateways take turns.
    pub(crate) async fn looks_enter(&self, look: Look, limit: usize) -> Result<LooksStep, StoreError> {
        self.change((look, limit), |sql, &(look, limit)| Box::pin(enter_looks(sql, look, limit))).await
    }

    pub(crate) async fn user_by_identity(
        &self,
        group: u32,
        number: &str,
    ) -> Result<Option<User>, StoreError> {
        let by_identity = concat!(
            "select ",
            account::columns!(),
            " from account a join account_number n on n.account = a.id
              where n.number = $1 and n.group_number = $2"
        );
        let sql = self.reader().await?;
        let row = sql.found(by_identity, &[&Text(number), &i64::from(group)]).await?;
        Ok(row.map(|row| account::read(&row)))
    }

    pub(crate) async fn users_list(
        &self,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<User>, StoreError> {
        account::list(&self.reader().await?, after, limit).await
    }

    pub(crate) async fn users_newest(
        &self,
        before: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<User>, StoreError> {
        account::newest(&self.reader().await?, before, limit).await
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
                    account::columns!()
                );
                let UserChange { first_name, last_name, email } = change;
                let [first, last, email] =
                    [first_name, last_name, email].map(|text| text.as_deref().map(Text));
                let row = sql.found(update, &[&int(id.0), &first, &last, &email]).await?;
                Ok(row.map(|row| account::read(&row)))
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
                    account::columns!()
                );
                let (staff, superuser) = (rights != Rights::None, rights == Rights::Superuser);
                Ok(sql.found(update, &[&int(id.0), &staff, &superuser]).await?.map(|row| account::read(&row)))
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

async fn enter_looks(sql: &Sql, look: Look, limit: usize) -> Result<LooksStep, StoreError> {
    let begin = "insert into account_look_position (account) values (0) on conflict do nothing";
    sql.run(begin, &[]).await?;
    let position = sql.row("select account from account_look_position for update", &[]).await?;
    let users = account::list(sql, Some(UserId(position.uint("account"))), limit).await?;
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

async fn register(sql: &Sql, draft: &UserDraft) -> Result<UserMade, StoreError> {
    let taken = "select exists (select from account_name where name = $1)
        or exists (select from account_look where look = $2)";
    let taken = sql.row(taken, &[&Text(&draft.username), &Text(&draft.look)]).await?;
    if taken.get(0) {
        return Ok(UserMade::NameTaken);
    }
    let user = User {
        id: account::next_id(sql).await?,
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
        avatar: None,
    };
    account::put(sql, &user).await?;
    account::name(sql, &user.username, user.id).await?;
    let look = "insert into account_look (look, account) values ($1, $2)";
    sql.run(look, &[&Text(&draft.look), &int(user.id.0)]).await?;
    password::put(sql, user.id, &draft.password_hash, draft.now).await?;
    Ok(UserMade::Made(user))
}

async fn add_number(sql: &Sql, draft: &NumberDraft) -> Result<NumberAdded, StoreError> {
    code::lock(sql, &draft.challenge).await?;
    let Some(mut user) = account::locked(sql, draft.user).await?.filter(|user| user.active) else {
        return Ok(NumberAdded::Refused);
    };
    if !user.number.is_empty() {
        return Ok(NumberAdded::HasNumber);
    }
    match code::guess(sql, &draft.challenge, &draft.mac, draft.guesser, draft.now).await?.0 {
        Guess::Right => {}
        Guess::Burned => return Ok(NumberAdded::Exhausted),
        _ => return Ok(NumberAdded::Refused),
    }
    code::remove(sql, &draft.challenge).await?;
    // Waits for another account that takes the number right now.
    if !account::own_number(sql, &draft.number, user.group, user.id).await? {
        return Ok(NumberAdded::Taken);
    }
    let set = "update account set number = $2 where id = $1";
    sql.run(set, &[&int(user.id.0), &Text(&draft.number)]).await?;
    user.number.clone_from(&draft.number);
    Ok(NumberAdded::Added(user))
}
