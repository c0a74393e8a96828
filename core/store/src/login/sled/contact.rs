//! The record of a phone number: its pending code, and the accounts that log in with it.
//!
//! It is one record because a login consumes the code and finds or creates the account, and the engine's work is per
//! key. Codes for other purposes have names of their own, without accounts.

use serde::{Deserialize, Serialize};
use sled::IVec;

use crate::engine::sled::purge::Purge;
use crate::engine::sled::record::{Record, decode, decode_u64, encode};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{error, keys};
use crate::login::challenge::Guesser;
use crate::login::challenge::code::{Challenge, Guess};
use crate::{StoreError, Timestamp, UserId};

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Contact {
    pub(crate) challenge: Option<Challenge>,
    /// Group and account. Accounts of older versions have keys of their own, see [`keys::identity`].
    accounts: Vec<(u32, UserId)>,
}

impl Record for Contact {
    const KIND: &'static str = "challenge";
    const SCHEMA: u8 = 3;
    const SCHEMA_OLDEST: u8 = 1;

    /// 1: before accounts were kept beside the code. 2: before guesses were counted by address.
    fn decode_older(schema: u8, body: &[u8]) -> Result<Self, postcard::Error> {
        if schema == 1 {
            let challenge = postcard::from_bytes::<OlderChallenge>(body)?;
            return Ok(Contact { challenge: Some(challenge.into()), accounts: Vec::new() });
        }
        let (challenge, accounts): (Option<OlderChallenge>, _) = postcard::from_bytes(body)?;
        Ok(Contact { challenge: challenge.map(Challenge::from), accounts })
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

    /// The accounts that the record names, with their groups.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = (u32, UserId)> {
        self.accounts.iter().copied()
    }

    /// Forgets an account, and the number's pending code with it.
    pub(crate) fn remove_account(&mut self, user: UserId) {
        self.accounts.retain(|(_, known)| *known != user);
        self.challenge = None;
    }

    pub(crate) fn add_account(&mut self, group: u32, user: UserId) {
        self.accounts.push((group, user));
    }
}

/// A challenge of the versions before.
#[derive(Serialize, Deserialize)]
struct OlderChallenge {
    id: u64,
    mac: [u8; 32],
    created_at: Timestamp,
    expires_at: Timestamp,
    resend_at: Timestamp,
    attempts: u32,
    attempts_max: u32,
}

impl From<OlderChallenge> for Challenge {
    fn from(older: OlderChallenge) -> Challenge {
        let OlderChallenge { id, mac, created_at, expires_at, resend_at, attempts, attempts_max } = older;
        // Who guessed is not known, so the guesses are everybody's.
        let guesses = if attempts > 0 { vec![(0, attempts)] } else { Vec::new() };
        let (from, known) = (u64::MAX, 0);
        Challenge {
            id,
            mac,
            created_at,
            expires_at,
            resend_at,
            attempts_max,
            others_max: attempts_max,
            from,
            guesses,
            known,
        }
    }
}

/// [`Challenge::guess`] at the number's code. Also returns the number's record including the guess; after a right guess
/// the caller must store it.
pub(crate) fn guess(
    txn: &mut Txn,
    number: &str,
    mac: &[u8; 32],
    guesser: Guesser,
    now: Timestamp,
) -> Result<(Guess, Contact), StoreError> {
    let mut contact = Contact::get(txn, number)?;
    let Some(challenge) = &mut contact.challenge else { return Ok((Guess::Missing, contact)) };
    let guess = challenge.guess(mac, guesser, now);
    if matches!(guess, Guess::Wrong { .. }) {
        contact.put(txn, number);
    }
    Ok((guess, contact))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sled::record::encode_u64;
    use crate::{ChallengeDraft, Store, StoreOptions, Timestamp};

    impl Record for OlderChallenge {
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
            others_max: 5,
            from: 1,
        };
        store.challenge_open(draft).await.unwrap();
        let new = Contact::read(&store.sled().tree, number).unwrap().challenge.unwrap();
        let Challenge { id, mac, created_at, expires_at, resend_at, attempts_max, .. } = new;
        let old = OlderChallenge { id, mac, created_at, expires_at, resend_at, attempts: 3, attempts_max };
        store
            .sled()
            .change(move |txn| {
                txn.put(keys::contact(number), encode(&old));
                txn.put(keys::identity(3, number), encode_u64(77));
                Ok(())
            })
            .await
            .unwrap();
        assert!(store.challenge_pending(number, 1, Timestamp::from_secs(2)).await.unwrap());
        let mut contact = Contact::read(&store.sled().tree, number).unwrap();
        let challenge = contact.challenge.clone().unwrap();
        assert_eq!(challenge.left(Guesser { address: 4, known: false }), 2, "three guesses are used");
        let get = |key: &[u8]| store.sled().tree.get(key).map_err(error::read);
        assert_eq!(contact.account(3, number, get).unwrap(), Some(UserId(77)));
        assert_eq!(contact.account(4, number, get).unwrap(), None);
        contact.add_account(4, UserId(78));
        assert_eq!(contact.account(4, number, get).unwrap(), Some(UserId(78)));
        assert_eq!(contact.account(3, number, get).unwrap(), Some(UserId(77)));
    }
}
