//! User accounts: found by number and group, by id, or by name.
//!
//! An account made by a phone login is found by its identity, the pair (number, group), never by its user name:
//! who takes the name `G0-0912...` first gets neither that number's account nor in its way. Invariants: a user
//! name is held by one account; an identity leads to one account; switching an account off ends its sessions in
//! the same change.

use serde::{Deserialize, Serialize};

use crate::record::{Record, decode, decode_u64};
use crate::session::revoke_all;
use crate::txn::Txn;
use crate::{Store, StoreError, Timestamp, UserId, error, keys};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    /// An account that is not active can neither log in nor use its sessions.
    pub active: bool,
    pub username: String,
    /// Canonical phone number.
    pub number: String,
    pub group: u32,
    pub created_at: Timestamp,
    pub last_login_at: Option<Timestamp>,
}

impl Store {
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn user_get(&self, id: UserId) -> Result<Option<User>, StoreError> {
        let bytes = self.tree.get(keys::user(id)).map_err(error::read)?;
        bytes.map(|bytes| Ok(decode::<UserRecord>(&bytes)?.with_id(id))).transpose()
    }

    /// The account that holds a user name, which is compared byte by byte.
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
}

impl Record for UserRecord {
    const KIND: &'static str = "user";
    const SCHEMA: u8 = 1;
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
        }
    }
}

pub(crate) fn find_by_identity(txn: &Txn, group: u32, number: &str) -> Result<Option<User>, StoreError> {
    let Some(bytes) = txn.get(&keys::identity(group, number))? else { return Ok(None) };
    let id = UserId(decode_u64("identity", &bytes)?);
    Ok(txn.get_record::<UserRecord>(&keys::user(id))?.map(|record| record.with_id(id)))
}

/// Makes the account of an identity that has none. While the wished name is taken, `-2`, `-3` and so on is added.
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
    };
    txn.put(keys::user_name(&user.username), crate::record::encode_u64(id.0));
    txn.put(keys::identity(group, number), crate::record::encode_u64(id.0));
    put(txn, &user);
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
    };
    txn.put_record(keys::user(user.id), &record);
}
