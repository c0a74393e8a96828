//! The record of a phone number: its pending code, and the accounts that log in with it.
//!
//! It is one record because a login consumes the code and finds or creates the account, and the engine's work is per
//! key. Codes for other purposes have names of their own, without accounts.

use serde::{Deserialize, Serialize};
use sled::IVec;
use subtle::ConstantTimeEq;

use crate::engine::sled::purge::Purge;
use crate::engine::sled::record::{Record, decode, decode_u64, encode};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{error, keys};
use crate::{StoreError, Timestamp, UserId};

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Contact {
    pub(crate) challenge: Option<Challenge>,
    /// Group and account. Accounts of older versions have keys of their own, see [`keys::identity`].
    accounts: Vec<(u32, UserId)>,
}

impl Record for Contact {
    const KIND: &'static str = "challenge";
    const SCHEMA: u8 = 2;
    const SCHEMA_OLDEST: u8 = 1;

    /// The version before accounts were stored beside the code.
    fn decode_older(_schema: u8, body: &[u8]) -> Result<Self, postcard::Error> {
        Ok(Contact { challenge: Some(postcard::from_bytes(body)?), accounts: Vec::new() })
    }
}

impl Contact {
    pub(crate) fn get(txn: &Txn, name: &str) -> Result<Contact, StoreError> {
        Ok(txn.get_record(&keys::contact(name))?.unwrap_or_default())
    }

    /// Reads beside the writer.
    pub(crate) fn read(tree: &crate::engine::sled::tree::Tree, name: &str) -> Result<Contact, StoreError> {
        let bytes = tree.get(keys::contact(name)).map_err(error::read)?;
        bytes.map_or_else(|| Ok(Contact::default()), |bytes| decode(&bytes))
    }

    pub(crate) fn put(&self, txn: &mut Txn, name: &str) {
        let key = keys::contact(name);
        if self.challenge.is_none() && self.accounts.is_empty() {
            txn.delete(key);
        } else {
            txn.put_record(key, self);
        }
    }

    /// The record after its code is purged; accounts stay.
    pub(crate) fn purge(mut self, due: impl Fn(&Challenge) -> bool) -> Purge {
        if !self.challenge.as_ref().is_some_and(due) {
            return Purge::Keep;
        }
        self.challenge = None;
        if self.accounts.is_empty() { Purge::Remove } else { Purge::Replace(encode(&self)) }
    }

    /// The account of a number in a group.
    pub(crate) fn account(
        &self,
        group: u32,
        number: &str,
        get: impl Fn(&[u8]) -> Result<Option<IVec>, StoreError>,
    ) -> Result<Option<UserId>, StoreError> {
        if let Some((_, user)) = self.accounts.iter().find(|(known, _)| *known == group) {
            return Ok(Some(*user));
        }
        get(&keys::identity(group, number))?
            .map(|bytes| decode_u64("identity", &bytes).map(UserId))
            .transpose()
    }

    pub(crate) fn add_account(&mut self, group: u32, user: UserId) {
        self.accounts.push((group, user));
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Challenge {
    pub(crate) id: u64,
    pub(crate) mac: [u8; 32],
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) resend_at: Timestamp,
    /// Guesses so far.
    pub(crate) attempts: u32,
    pub(crate) attempts_max: u32,
}

impl Challenge {
    pub(crate) fn expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }

    pub(crate) fn pending(&self, now: Timestamp) -> bool {
        !self.expired(now) && !self.burned() && now < self.resend_at
    }

    pub(crate) fn burned(&self) -> bool {
        self.attempts >= self.attempts_max
    }
}

/// The result of a guess. A right one is counted, too, and does not consume the code by itself.
pub(crate) enum Guess {
    Right,
    Wrong { attempts_left: u32 },
    Burned,
    Expired,
    Missing,
}

/// Counts a guess, then compares it in constant time. Also returns the number's record including the guess; after a
/// right guess the caller must store it.
pub(crate) fn guess(
    txn: &mut Txn,
    number: &str,
    mac: &[u8; 32],
    now: Timestamp,
) -> Result<(Guess, Contact), StoreError> {
    let mut contact = Contact::get(txn, number)?;
    let Some(challenge) = &mut contact.challenge else { return Ok((Guess::Missing, contact)) };
    if challenge.expired(now) {
        return Ok((Guess::Expired, contact));
    }
    if challenge.burned() {
        return Ok((Guess::Burned, contact));
    }
    challenge.attempts += 1;
    let right = bool::from(challenge.mac.ct_eq(mac));
    let attempts_left = challenge.attempts_max - challenge.attempts;
    if right {
        return Ok((Guess::Right, contact));
    }
    contact.put(txn, number);
    Ok((Guess::Wrong { attempts_left }, contact))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sled::record::encode_u64;
    use crate::{ChallengeDraft, Store, StoreOptions, Timestamp};

    impl Record for Challenge {
        const KIND: &'static str = "challenge";
        const SCHEMA: u8 = 1;
    }

    #[tokio::test]
    async fn codes_and_accounts_of_the_version_before_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        let number = "+989120000001";
        let draft = ChallengeDraft {
            id: 9,
            number: number.to_owned(),
            mac: [7; 32],
            created_at: Timestamp::from_secs(1),
            expires_at: Timestamp::from_secs(100),
            resend_at: Timestamp::from_secs(50),
            attempts_max: 5,
        };
        store.challenge_open(draft).await.unwrap();
        let old = Contact::read(&store.sled().tree, number).unwrap().challenge.unwrap();
        store
            .sled()
            .change(move |txn| {
                txn.put(keys::contact(number), encode(&old));
                txn.put(keys::identity(3, number), encode_u64(77));
                Ok(())
            })
            .await
            .unwrap();
        assert!(store.challenge_pending(number, Timestamp::from_secs(2)).await.unwrap());
        let mut contact = Contact::read(&store.sled().tree, number).unwrap();
        let get = |key: &[u8]| store.sled().tree.get(key).map_err(error::read);
        assert_eq!(contact.account(3, number, get).unwrap(), Some(UserId(77)));
        assert_eq!(contact.account(4, number, get).unwrap(), None);
        contact.add_account(4, UserId(78));
        assert_eq!(contact.account(4, number, get).unwrap(), Some(UserId(78)));
        assert_eq!(contact.account(3, number, get).unwrap(), Some(UserId(77)));
    }
}
