//! User accounts: found by number and group, by id, or by name.
//!
//! An account made by a phone login is found by its identity, the pair (number, group), never by its user name:
//! who takes the name `G0-0912...` first (an older version let them) gets neither that number's account nor in its
//! way. Invariants: a user name is held by one account, as long as nobody registers names of that form; an identity leads to one account; switching an account off ends its sessions in
//! the same change.

use serde::{Deserialize, Serialize};

use crate::engine::sled::record::{Record, decode, decode_u64};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{error, keys};
use crate::login::contact::Contact;
use crate::login::session::revoke_all;
use crate::{Store, StoreError, Timestamp, UserId, login::password};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    /// An account that is not active can neither log in nor use its sessions.
    pub active: bool,
    pub username: String,
    /// Canonical phone number; empty when the account was made without one.
    pub number: String,
    pub group: u32,
    pub created_at: Timestamp,
    pub last_login_at: Option<Timestamp>,
    pub first_name: String,
    pub last_name: String,
    pub email: String,
    /// May use the routes for operators.
    pub staff: bool,
    /// May do everything.
    pub superuser: bool,
}

/// An account with a password and no phone number.
#[derive(Clone)]
pub struct UserDraft {
    pub username: String,
    pub email: String,
    /// What is kept of the password.
    pub password_hash: String,
    pub staff: bool,
    pub superuser: bool,
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserMade {
    Made(User),
    NameTaken,
}

/// What changes of a user; the rest stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserChange {
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub email: Option<String>,
}

impl Store {
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn user_get(&self, id: UserId) -> Result<Option<User>, StoreError> {
        let bytes = self.tree.get(keys::user(id)).map_err(error::read)?;
        bytes.map(|bytes| Ok(decode::<UserRecord>(&bytes)?.with_id(id))).transpose()
    }

    /// The account that holds a user name, which is compared byte by byte. One that a login made under the name it
    /// wished is not found: that name follows from number and group, by which [`Store::user_by_identity`] finds it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn user_by_name(&self, name: &str) -> Result<Option<User>, StoreError> {
        match self.tree.get(keys::user_name(name)).map_err(error::read)? {
            Some(bytes) => self.user_get(UserId(decode_u64("user name", &bytes)?)),
            None => Ok(None),
        }
    }

    /// The account of a phone number in a group.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn user_by_identity(&self, group: u32, number: &str) -> Result<Option<User>, StoreError> {
        let get = |key: &[u8]| self.tree.get(key).map_err(error::read);
        match Contact::read(&self.tree, number)?.account(group, number, get)? {
            Some(id) => self.user_get(id),
            None => Ok(None),
        }
    }

    /// Accounts by their numbers, at most `limit`; with `after`, those with a greater number.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn users_list(&self, after: Option<UserId>, limit: usize) -> Result<Vec<User>, StoreError> {
        let first = keys::user(UserId(after.map_or(0, |id| id.0.saturating_add(1))));
        let last = keys::user(UserId(u64::MAX));
        let mut users = Vec::new();
        for entry in self.tree.range(first..=last).take(limit) {
            let (key, value) = entry.map_err(error::read)?;
            if let Some(id) = keys::session_id(&key) {
                users.push(decode::<UserRecord>(&value)?.with_id(UserId(id.0)));
            }
        }
        Ok(users)
    }

    /// Makes an account with a password, unless the name is taken.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn user_register(&self, draft: UserDraft) -> Result<UserMade, StoreError> {
        self.change(move |txn| {
            if txn.get(&keys::user_name(&draft.username))?.is_some() {
                return Ok(UserMade::NameTaken);
            }
            let user = User {
                id: UserId(txn.next(keys::USER_SEQUENCE)?),
                active: true,
                username: draft.username,
                number: String::new(),
                group: 0,
                created_at: draft.now,
                last_login_at: None,
                first_name: String::new(),
                last_name: String::new(),
                email: draft.email,
                staff: draft.staff,
                superuser: draft.superuser,
            };
            txn.put(keys::user_name(&user.username), crate::engine::sled::record::encode_u64(user.id.0));
            put(txn, &user);
            password::put(txn, user.id, draft.password_hash, draft.now);
            Ok(UserMade::Made(user))
        })
        .await
    }

    /// Changes what a user tells of themselves; the user as it is then, or nothing when there is none.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn user_update(&self, id: UserId, change: UserChange) -> Result<Option<User>, StoreError> {
        self.change(move |txn| {
            let Some(record) = txn.get_record::<UserRecord>(&keys::user(id))? else { return Ok(None) };
            let mut user = record.with_id(id);
            let UserChange { first_name, last_name, email } = change;
            user.first_name = first_name.unwrap_or(user.first_name);
            user.last_name = last_name.unwrap_or(user.last_name);
            user.email = email.unwrap_or(user.email);
            put(txn, &user);
            Ok(Some(user))
        })
        .await
    }

    /// Gives an account rights or takes them; the user as it is then, or nothing when there is none.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn user_set_rights(
        &self,
        id: UserId,
        staff: bool,
        superuser: bool,
    ) -> Result<Option<User>, StoreError> {
        self.change(move |txn| {
            let Some(mut record) = txn.get_record::<UserRecord>(&keys::user(id))? else { return Ok(None) };
            (record.staff, record.superuser) = (staff, superuser);
            txn.put_record(keys::user(id), &record);
            Ok(Some(record.with_id(id)))
        })
        .await
    }

    /// Switches an account on or off; off ends all its sessions. False when there is no such account.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn user_set_active(&self, id: UserId, active: bool) -> Result<bool, StoreError> {
        self.change(move |txn| {
            let Some(mut record) = txn.get_record::<UserRecord>(&keys::user(id))? else {
                return Ok(false);
            };
            record.active = active;
            txn.put_record(keys::user(id), &record);
            if !active {
                revoke_all(txn, id, None)?;
            }
            Ok(true)
        })
        .await
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct UserRecord {
    /// First, because every request reads it alone.
    active: bool,
    username: String,
    number: String,
    group: u32,
    created_at: Timestamp,
    last_login_at: Option<Timestamp>,
    first_name: String,
    last_name: String,
    email: String,
    staff: bool,
    superuser: bool,
}

/// Before accounts had names, mail addresses and flags.
#[derive(Serialize, Deserialize)]
struct UserRecord1 {
    active: bool,
    username: String,
    number: String,
    group: u32,
    created_at: Timestamp,
    last_login_at: Option<Timestamp>,
}

impl Record for UserRecord {
    const KIND: &'static str = "user";
    const SCHEMA: u8 = 2;
    const SCHEMA_OLDEST: u8 = 1;

    fn decode_older(_schema: u8, body: &[u8]) -> Result<Self, postcard::Error> {
        let old: UserRecord1 = postcard::from_bytes(body)?;
        Ok(UserRecord {
            active: old.active,
            username: old.username,
            number: old.number,
            group: old.group,
            created_at: old.created_at,
            last_login_at: old.last_login_at,
            first_name: String::new(),
            last_name: String::new(),
            email: String::new(),
            staff: false,
            superuser: false,
        })
    }
}

impl UserRecord {
    fn with_id(self, id: UserId) -> User {
        User {
            id,
            active: self.active,
            username: self.username,
            number: self.number,
            group: self.group,
            created_at: self.created_at,
            last_login_at: self.last_login_at,
            first_name: self.first_name,
            last_name: self.last_name,
            email: self.email,
            staff: self.staff,
            superuser: self.superuser,
        }
    }
}

pub(crate) fn get(txn: &Txn, id: UserId) -> Result<Option<User>, StoreError> {
    Ok(txn.get_record::<UserRecord>(&keys::user(id))?.map(|record| record.with_id(id)))
}

pub(crate) fn find_by_identity(txn: &Txn, group: u32, number: &str) -> Result<Option<User>, StoreError> {
    match Contact::get(txn, number)?.account(group, number, |key| txn.get(key))? {
        Some(id) => get(txn, id),
        None => Ok(None),
    }
}

/// Makes the account of an identity that has none; it is the caller's to put it, and the identity. The wished name
/// belongs to the identity by its form, which nobody else may choose, so that it needs no entry of its own. While the wished name is taken, `-2`, `-3` and so on is added.
pub(crate) fn create(
    txn: &mut Txn,
    number: &str,
    group: u32,
    name: &str,
    now: Timestamp,
) -> Result<User, StoreError> {
    let mut username = name.to_owned();
    let mut attempt = 1;
    while txn.get(&keys::user_name(&username))?.is_some() {
        attempt += 1;
        username = format!("{name}-{attempt}");
    }
    let id = UserId(txn.next(keys::USER_SEQUENCE)?);
    let user = User {
        id,
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
    if attempt > 1 {
        txn.put(keys::user_name(&user.username), crate::engine::sled::record::encode_u64(id.0));
    }
    Ok(user)
}

pub(crate) fn put(txn: &mut Txn, user: &User) {
    let record = UserRecord {
        active: user.active,
        username: user.username.clone(),
        number: user.number.clone(),
        group: user.group,
        created_at: user.created_at,
        last_login_at: user.last_login_at,
        first_name: user.first_name.clone(),
        last_name: user.last_name.clone(),
        email: user.email.clone(),
        staff: user.staff,
        superuser: user.superuser,
    };
    txn.put_record(keys::user(user.id), &record);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sled::record::encode;

    impl Record for UserRecord1 {
        const KIND: &'static str = "user";
        const SCHEMA: u8 = 1;
    }

    #[test]
    fn a_user_of_the_version_before_has_no_rights_more() {
        let old = UserRecord1 {
            active: true,
            username: "G0-09120000000".to_owned(),
            number: "+989120000000".to_owned(),
            group: 7,
            created_at: Timestamp::from_secs(5),
            last_login_at: Some(Timestamp::from_secs(6)),
        };
        let user = decode::<UserRecord>(&encode(&old)).unwrap().with_id(UserId(3));
        assert_eq!((user.id, user.group, user.number.as_str()), (UserId(3), 7, "+989120000000"));
        assert_eq!(user.last_login_at, Some(Timestamp::from_secs(6)));
        assert!(user.active && !user.staff && !user.superuser && user.email.is_empty());
    }
}
