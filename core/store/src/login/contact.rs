//! What is kept under a phone number: the code that is on its way to it, and the accounts that log in with it.
//!
//! One record, because a login uses the code up and finds or makes the account, and the engine's work is per key.
//! Codes for other purposes stand under names of their own, without accounts.

use serde::{Deserialize, Serialize};
use sled::IVec;

use crate::engine::sled::purge::Purge;
use crate::engine::sled::record::{Record, decode, decode_u64, encode};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{error, keys};
use crate::login::challenge::Challenge;
use crate::{StoreError, UserId};

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Contact {
    pub(crate) challenge: Option<Challenge>,
    /// Group and account. Those of older versions have keys of their own, see [`keys::identity`].
    accounts: Vec<(u32, UserId)>,
}

impl Record for Contact {
    const KIND: &'static str = "challenge";
    const SCHEMA: u8 = 2;
    const SCHEMA_OLDEST: u8 = 1;

    /// Before accounts were kept beside the code.
    fn decode_older(_schema: u8, body: &[u8]) -> Result<Self, postcard::Error> {
        Ok(Contact { challenge: Some(postcard::from_bytes(body)?), accounts: Vec::new() })
    }
}

impl Contact {
    pub(crate) fn get(txn: &Txn, name: &str) -> Result<Contact, StoreError> {
        Ok(txn.get_record(&keys::contact(name))?.unwrap_or_default())
    }

    /// Beside the writer.
    pub(crate) fn read(tree: &sled::Tree, name: &str) -> Result<Contact, StoreError> {
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

    /// What becomes of the record when its code is due to go: an account stays.
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
        let old = Contact::read(&store.tree, number).unwrap().challenge.unwrap();
        store
            .change(move |txn| {
                txn.put(keys::contact(number), encode(&old));
                txn.put(keys::identity(3, number), encode_u64(77));
                Ok(())
            })
            .await
            .unwrap();
        assert!(store.challenge_pending(number, Timestamp::from_secs(2)).unwrap());
        let mut contact = Contact::read(&store.tree, number).unwrap();
        let get = |key: &[u8]| store.tree.get(key).map_err(error::read);
        assert_eq!(contact.account(3, number, get).unwrap(), Some(UserId(77)));
        assert_eq!(contact.account(4, number, get).unwrap(), None);
        contact.add_account(4, UserId(78));
        assert_eq!(contact.account(4, number, get).unwrap(), Some(UserId(78)));
        assert_eq!(contact.account(3, number, get).unwrap(), Some(UserId(77)));
    }
}
