//! The operations of this folder, in sled statements.

use crate::Rights;
use crate::engine::sled::record::{decode, decode_u64, encode_u64};
use crate::engine::sled::{Sled, error, keys};
use crate::login::challenge::code::Guess;
use crate::login::password::sled as password;
use crate::login::session::sled::revoke_all;
use crate::login::sled::contact::{Contact, guess};
use crate::login::sled::user;
use crate::login::sled::user::UserRecord;
use crate::login::user::{Look, LooksStep, NumberAdded, NumberDraft, User, UserChange, UserDraft, UserMade};
use crate::{StoreError, UserId};

impl Sled {
    pub(crate) fn user_get(&self, id: UserId) -> Result<Option<User>, StoreError> {
        let bytes = self.tree.get(keys::user(id)).map_err(error::read)?;
        bytes.map(|bytes| Ok(decode::<UserRecord>(&bytes)?.with_id(id))).transpose()
    }

    pub(crate) fn user_by_name(&self, name: &str) -> Result<Option<User>, StoreError> {
        match self.tree.get(keys::user_name(name)).map_err(error::read)? {
            Some(bytes) => self.user_get(UserId(decode_u64("user name", &bytes)?)),
            None => Ok(None),
        }
    }

    pub(crate) fn user_by_look(&self, look: &str) -> Result<Option<User>, StoreError> {
        match self.tree.get(keys::user_look(look)).map_err(error::read)? {
            Some(bytes) => self.user_get(UserId(decode_u64("user look", &bytes)?)),
            None => Ok(None),
        }
    }

    pub(crate) async fn looks_enter(&self, look: Look, limit: usize) -> Result<LooksStep, StoreError> {
        let position = self.tree.get(keys::LOOKS).map_err(error::read)?;
        let after = position.map(|bytes| decode_u64("look position", &bytes)).transpose()?;
        let users = self.users_list(after.map(UserId), limit)?;
        let Some(last) = users.last().map(|user| user.id) else {
            return Ok(LooksStep { read: 0, alike: Vec::new() });
        };
        self.change(move |txn| {
            let mut alike = Vec::new();
            for user in &users {
                // The name of a login by code has no entry: it is found by number and group.
                let named = txn.get(&keys::user_name(&user.username))?;
                let named = named.map(|bytes| decode_u64("user name", &bytes)).transpose()?;
                if named != Some(user.id.0) {
                    continue;
                }
                let key = keys::user_look(&look(&user.username));
                let older = txn.get(&key)?.map(|bytes| decode_u64("user look", &bytes)).transpose()?;
                match older {
                    Some(older) if older != user.id.0 => alike.push((user.id, UserId(older))),
                    Some(_) => {}
                    None => txn.put(key, encode_u64(user.id.0)),
                }
            }
            txn.put(keys::LOOKS.into(), encode_u64(last.0));
            Ok(LooksStep { read: users.len(), alike })
        })
        .await
    }

    pub(crate) fn user_by_identity(&self, group: u32, number: &str) -> Result<Option<User>, StoreError> {
        let get = |key: &[u8]| self.tree.get(key).map_err(error::read);
        match Contact::read(&self.tree, number)?.account(group, number, get)? {
            Some(id) => self.user_get(id),
            None => Ok(None),
        }
    }

    pub(crate) fn users_list(&self, after: Option<UserId>, limit: usize) -> Result<Vec<User>, StoreError> {
        let first = keys::user(UserId(after.map_or(0, |id| id.0.saturating_add(1))));
        let last = keys::user(UserId(u64::MAX));
        read_all(self.tree.range(first..=last).take(limit))
    }

    pub(crate) fn users_newest(&self, before: Option<UserId>, limit: usize) -> Result<Vec<User>, StoreError> {
        let end = keys::user(before.unwrap_or(UserId(u64::MAX)));
        read_all(self.tree.range(keys::user(UserId(0))..end).rev().take(limit))
    }

    pub(crate) async fn user_register(&self, draft: UserDraft) -> Result<UserMade, StoreError> {
        self.change(move |txn| {
            let look = keys::user_look(&draft.look);
            if txn.get(&keys::user_name(&draft.username))?.is_some() || txn.get(&look)?.is_some() {
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
                avatar: None,
            };
            txn.put(keys::user_name(&user.username), encode_u64(user.id.0));
            txn.put(look, encode_u64(user.id.0));
            user::put(txn, &user);
            password::put(txn, user.id, draft.password_hash, draft.now);
            Ok(UserMade::Made(user))
        })
        .await
    }

    pub(crate) async fn user_update(
        &self,
        id: UserId,
        change: UserChange,
    ) -> Result<Option<User>, StoreError> {
        self.change(move |txn| {
            let Some(record) = txn.get_record::<UserRecord>(&keys::user(id))? else { return Ok(None) };
            let mut user = record.with_id(id);
            let UserChange { first_name, last_name, email } = change;
            user.first_name = first_name.unwrap_or(user.first_name);
            user.last_name = last_name.unwrap_or(user.last_name);
            user.email = email.unwrap_or(user.email);
            user::put(txn, &user);
            Ok(Some(user))
        })
        .await
    }

    pub(crate) async fn number_add(&self, draft: NumberDraft) -> Result<NumberAdded, StoreError> {
        self.change(move |txn| {
            let NumberDraft { user, number, challenge, mac, guesser, now } = draft;
            let Some(mut user) = user::get(txn, user)?.filter(|user| user.active) else {
                return Ok(NumberAdded::Refused);
            };
            if !user.number.is_empty() {
                return Ok(NumberAdded::HasNumber);
            }
            let (guess, mut opened) = guess(txn, &challenge, &mac, guesser, now)?;
            match guess {
                Guess::Right => {}
                Guess::Burned => return Ok(NumberAdded::Exhausted),
                _ => return Ok(NumberAdded::Refused),
            }
            opened.challenge = None;
            opened.put(txn, &challenge);
            let mut contact = Contact::get(txn, &number)?;
            if contact.account(user.group, &number, |key| txn.get(key))?.is_some() {
                return Ok(NumberAdded::Taken);
            }
            contact.add_account(user.group, user.id);
            contact.put(txn, &number);
            user.number = number;
            user::put(txn, &user);
            Ok(NumberAdded::Added(user))
        })
        .await
    }

    pub(crate) async fn user_set_rights(
        &self,
        id: UserId,
        rights: Rights,
    ) -> Result<Option<User>, StoreError> {
        self.change(move |txn| {
            let Some(mut record) = txn.get_record::<UserRecord>(&keys::user(id))? else { return Ok(None) };
            record.staff = rights != Rights::None;
            record.superuser = rights == Rights::Superuser;
            txn.put_record(keys::user(id), &record);
            Ok(Some(record.with_id(id)))
        })
        .await
    }

    pub(crate) async fn user_set_active(&self, id: UserId, active: bool) -> Result<bool, StoreError> {
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

fn read_all(
    entries: impl Iterator<Item = Result<(sled::IVec, sled::IVec), sled::Error>>,
) -> Result<Vec<User>, StoreError> {
    let mut users = Vec::new();
    for entry in entries {
        let (key, value) = entry.map_err(error::read)?;
        if let Some(id) = keys::session_id(&key) {
            users.push(decode::<UserRecord>(&value)?.with_id(UserId(id.0)));
        }
    }
    Ok(users)
}
