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
use crate::login::challenge::Guesser;
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

    /// The accounts that the record names.
    pub(crate) fn users(&self) -> impl Iterator<Item = UserId> {
        self.accounts.iter().map(|(_, user)| *user)
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

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Challenge {
    pub(crate) id: u64,
    pub(crate) mac: [u8; 32],
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) resend_at: Timestamp,
    /// Guesses of one address.
    pub(crate) attempts_max: u32,
    /// Guesses of all addresses but `from` and known ones.
    pub(crate) others_max: u32,
    /// Who asked for the code.
    pub(crate) from: u64,
    /// Guesses so far, by address; at most as many entries as there are guesses.
    pub(crate) guesses: Vec<(u64, u32)>,
    /// Guesses so far from addresses that the account was used from before.
    pub(crate) known: u32,
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

impl Challenge {
    pub(crate) fn expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }

    /// Whether another code has to wait, asked for by `from`.
    pub(crate) fn pending(&self, from: u64, now: Timestamp) -> bool {
        let own_used = self.guesses_of(self.from) >= self.attempts_max;
        let burned = own_used && (from == self.from || self.guesses_of_others() >= self.others_max);
        !self.expired(now) && !burned && now < self.resend_at
    }

    fn guesses_of(&self, address: u64) -> u32 {
        self.guesses.iter().find(|(known, _)| *known == address).map_or(0, |(_, count)| *count)
    }

    fn guesses_of_others(&self) -> u32 {
        self.guesses.iter().filter(|(address, _)| *address != self.from).map(|(_, count)| count).sum()
    }

    /// Guesses that a guesser has left.
    fn left(&self, guesser: Guesser) -> u32 {
        let own = self.attempts_max.saturating_sub(self.guesses_of(guesser.address));
        match guesser {
            Guesser { address, .. } if address == self.from => own,
            Guesser { known: true, .. } => self.attempts_max.saturating_sub(self.known),
            Guesser { .. } => own.min(self.others_max.saturating_sub(self.guesses_of_others())),
        }
    }

    fn count(&mut self, guesser: Guesser) {
        if guesser.known && guesser.address != self.from {
            self.known = self.known.saturating_add(1);
            return;
        }
        match self.guesses.iter_mut().find(|(address, _)| *address == guesser.address) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => self.guesses.push((guesser.address, 1)),
        }
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
    guesser: Guesser,
    now: Timestamp,
) -> Result<(Guess, Contact), StoreError> {
    let mut contact = Contact::get(txn, number)?;
    let Some(challenge) = &mut contact.challenge else { return Ok((Guess::Missing, contact)) };
    if challenge.expired(now) {
        return Ok((Guess::Expired, contact));
    }
    if challenge.left(guesser) == 0 {
        return Ok((Guess::Burned, contact));
    }
    challenge.count(guesser);
    let right = bool::from(challenge.mac.ct_eq(mac));
    let attempts_left = challenge.left(guesser);
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
