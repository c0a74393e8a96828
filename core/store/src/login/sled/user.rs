//! The record of an account, and the steps shared by several operations inside a change.

use serde::{Deserialize, Serialize};

use crate::engine::sled::keys;
use crate::engine::sled::record::Record;
use crate::engine::sled::txn::Txn;
use crate::login::sled::contact::Contact;
use crate::login::user::{Avatar, User};
use crate::{StoreError, Timestamp, UserId};

#[derive(Serialize, Deserialize)]
pub(crate) struct UserRecord {
    /// First, because every request reads it alone.
    pub(crate) active: bool,
    username: String,
    number: String,
    group: u32,
    created_at: Timestamp,
    last_login_at: Option<Timestamp>,
    first_name: String,
    last_name: String,
    email: String,
    pub(crate) staff: bool,
    pub(crate) superuser: bool,
    avatar: Option<Avatar>,
}

/// The version before accounts had names, mail addresses and flags.
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
    const SCHEMA: u8 = 3;
    const SCHEMA_OLDEST: u8 = 1;

    fn decode_older(schema: u8, body: &[u8]) -> Result<Self, postcard::Error> {
        if schema == 2 {
            // Before accounts had pictures one field is missing at the end.
            return postcard::from_bytes(&[body, &[0]].concat());
        }
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
            avatar: None,
        })
    }
}

impl UserRecord {
    pub(crate) fn with_id(self, id: UserId) -> User {
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
            avatar: self.avatar,
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

/// Creates the account of a new identity. The caller stores the account and the identity.
///
/// The wished name is derived from the identity and nobody may choose it, so it needs no entry of its own. While the
/// wished name is taken, `-2`, `-3` and so on is appended.
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
        avatar: None,
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
        avatar: user.avatar.clone(),
    };
    txn.put_record(keys::user(user.id), &record);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::FileId;
    use crate::engine::sled::record::{decode, encode};

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

    #[test]
    fn a_user_of_the_version_before_pictures_has_none() {
        let avatar = Avatar { file: FileId(7), path: "/media/7.png".to_owned() };
        let mut record = UserRecord::decode_older(
            1,
            &postcard::to_allocvec(&UserRecord1 {
                active: true,
                username: "sara".to_owned(),
                number: String::new(),
                group: 0,
                created_at: Timestamp::from_secs(5),
                last_login_at: None,
            })
            .unwrap(),
        )
        .unwrap();
        record.superuser = true;
        let body = postcard::to_allocvec(&record).unwrap();
        let old = UserRecord::decode_older(2, &body[..body.len() - 1]).unwrap().with_id(UserId(3));
        assert!(old.superuser && old.avatar.is_none());
        record.avatar = Some(avatar.clone());
        assert_eq!(decode::<UserRecord>(&encode(&record)).unwrap().with_id(UserId(3)).avatar, Some(avatar));
    }
}
