//! Finding people by phone number or user name, and the contacts that decide who is found.
//!
//! `contacts` reveals nothing that the two do not know already: by number, a user finds those who have the user's own
//! number among their contacts; by name, also those who share a room with the user. Sharing a room is not enough for a
//! number, because chat shows no numbers and a guess must not confirm one. An unknown number and one that is not found
//! take the same reads. Numbers of contacts are kept as keyed marks. Invariants: only accounts of the caller's own
//! group are found; a user who blocks the caller is not.

use hmac::Mac;

use super::{ChatError, ChatService, Directory, PublicUser};
use crate::ids::UserId;
use crate::phone::PhoneNumber;

/// Numbers of one lookup.
pub const LOOKUP_MAX: usize = 500;

/// Contacts of one user.
pub const CONTACTS_MAX: usize = 5000;

/// Contacts that are forgotten in one change.
const FORGOTTEN_AT_ONCE: usize = 500;

/// What a user is looked up by, exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finder {
    Number(PhoneNumber),
    Username(String),
}

/// The caller's own account, as far as a search needs it.
struct Seeker {
    id: UserId,
    group: u32,
    number: String,
}

impl ChatService {
    /// The user that the caller may find by this.
    ///
    /// # Errors
    ///
    /// [`ChatError::DirectoryOff`], [`ChatError::Exhausted`], [`ChatError::Store`].
    pub async fn find(&self, caller: UserId, by: &Finder) -> Result<Option<PublicUser>, ChatError> {
        let seeker = self.seeker(caller, 1).await?;
        self.found(&seeker, by).await
    }

    /// The users that the caller may find by these numbers, each at its number's place. The numbers become the
    /// caller's contacts, while only people who know each other are found.
    ///
    /// # Errors
    ///
    /// [`ChatError::DirectoryOff`], [`ChatError::Full`], [`ChatError::Exhausted`], [`ChatError::Store`].
    pub async fn lookup(
        &self,
        caller: UserId,
        numbers: Vec<PhoneNumber>,
    ) -> Result<Vec<Option<PublicUser>>, ChatError> {
        let seeker = self.seeker(caller, numbers.len() as u64).await?;
        if self.rules().directory == Directory::Contacts {
            let marks = numbers.iter().map(|number| self.mark(number.e164())).collect();
            if !self.store.contacts_add(caller, marks, CONTACTS_MAX).await? {
                return Err(ChatError::Full("contacts"));
            }
        }
        let mut found = Vec::with_capacity(numbers.len());
        for number in numbers {
            found.push(self.found(&seeker, &Finder::Number(number)).await?);
        }
        Ok(found)
    }

    /// Forgets the caller's contacts: nobody finds the caller by them any more.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn contacts_forget(&self, caller: UserId) -> Result<(), ChatError> {
        while self.store.contacts_forget(caller, FORGOTTEN_AT_ONCE).await? > 0 {}
        Ok(())
    }

    /// Whether a reader may have a user's picture without having been shown it just now: the two share a room, or the
    /// reader's number is among the user's contacts.
    pub(crate) async fn is_acquainted(&self, reader: UserId, user: UserId) -> Result<bool, ChatError> {
        if self.store.chat_share_a_room(reader, user).await? {
            return Ok(true);
        }
        let Some(account) = self.store.user_get(reader).await? else { return Ok(false) };
        let seeker = Seeker { id: reader, group: account.group, number: account.number };
        self.knows(user, &seeker).await
    }

    async fn seeker(&self, caller: UserId, lookups: u64) -> Result<Seeker, ChatError> {
        if self.rules().directory == Directory::Off {
            return Err(ChatError::DirectoryOff);
        }
        self.charge_lookups(caller, lookups)?;
        let account = self.store.user_get(caller).await?.ok_or(ChatError::UserMissing)?;
        Ok(Seeker { id: caller, group: account.group, number: account.number })
    }

    async fn found(&self, seeker: &Seeker, by: &Finder) -> Result<Option<PublicUser>, ChatError> {
        let account = match by {
            Finder::Number(number) => self.store.user_by_identity(seeker.group, number.e164()).await?,
            Finder::Username(name) => self.store.user_by_name(name).await?,
        };
        // The name of an account with a number contains it: such an account is found by its number alone.
        let fits = |user: &chelseru_store::User| match by {
            Finder::Number(_) => true,
            Finder::Username(name) => user.group == seeker.group && PublicUser::of(user).username == *name,
        };
        let account = account.filter(|user| user.active && fits(user));
        let other = account.as_ref().map_or(seeker.id, |user| user.id);
        let knows = self.knows(other, seeker).await?;
        let Some(account) = account else { return Ok(None) };
        let user = PublicUser::of(&account);
        if other == seeker.id {
            return Ok(Some(user));
        }
        if self.store.chat_blocks(other, seeker.id, 1).await?.first() == Some(&seeker.id) {
            return Ok(None);
        }
        let acquainted = knows || self.store.chat_share_a_room(seeker.id, other).await?;
        let found = match (self.rules().directory, by) {
            (Directory::Off, _) => false,
            (Directory::Open, _) => true,
            (Directory::Contacts, Finder::Number(_)) => knows,
            (Directory::Contacts, Finder::Username(_)) => acquainted,
        };
        Ok(found.then(|| if acquainted { user } else { user.unnamed() }))
    }

    /// Whether the seeker's number is among a user's contacts.
    async fn knows(&self, user: UserId, seeker: &Seeker) -> Result<bool, ChatError> {
        let known = self.store.contacts_have(user, self.mark(&seeker.number)).await?;
        Ok(known && !seeker.number.is_empty())
    }

    /// Half of the MAC: numbers are few, and one that is wrong by chance reveals nothing.
    fn mark(&self, number: &str) -> [u8; 16] {
        let mut mac = self.contacts.begin();
        mac.update(number.as_bytes());
        let mac: [u8; 32] = mac.finalize().into_bytes().into();
        mac.first_chunk().copied().unwrap_or_default()
    }
}
