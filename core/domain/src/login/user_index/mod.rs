//! Finds accounts by a part of a number, a name or a mail address, for operators.
//!
//! The first search reads every account once into a table in memory (`table`), and later ones look into the table.
//! Nothing is stored, so logins pay nothing and older stores need no conversion. The table is dropped when nobody
//! searched for [`IDLE_MAX`], and is built beforehand when an operator signs in ([`UserIndex::warm`]).
//!
//! Invariants: what is found is read from the store again and compared, so a stale row shows nothing wrong; an account
//! made or changed before a search is found by it, because whoever changes one says so ([`UserIndex::changed`]), to
//! other gateways by a note; the table has a bound ([`TABLE_BYTES_MAX`]), past which its oldest accounts leave it and a
//! search says so.

mod table;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use chelseru_store::{Store, StoreError, User};

use self::table::{Facts, Table, Wanted};
use crate::Timestamp;
use crate::ids::UserId;
use crate::login::account::{Rights, UserView, identity_of_name, look_alike};
use crate::phone::ascii_digit;

/// Without a search for this long, the table is dropped.
const IDLE_MAX: Duration = Duration::from_secs(15 * 60);
/// Bytes of the table. An account takes 56 bytes and its text, which has some 25 bytes with a number alone and 60 with
/// names and a mail address: 92 MiB for 1,000,000, half of each kind. So this is 2.7 million accounts.
pub const TABLE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Accounts read from the store in one step. Other tasks run between steps.
const READ_STEP: usize = 500;
/// Changed accounts that are read one by one; past it the table is built again.
const CHANGED_MAX: usize = 20_000;
/// Words of one search; the rest is ignored.
const WORDS_MAX: usize = 8;
/// Characters of one word.
const WORD_CHARS_MAX: usize = 100;

/// What an operator looks for. Everything given must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserQuery {
    /// Parts of a number, a name or a mail address, in any order.
    pub text: String,
    pub group: Option<u32>,
    pub active: Option<bool>,
    pub rights: Option<Rights>,
    /// Joined at this instant or later, and before that one.
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// Accounts that may fit a query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Candidates {
    /// Newest first. The caller compares each with [`fits`].
    pub(crate) ids: Vec<UserId>,
    /// The last one looked at, when there may be more.
    pub(crate) next: Option<UserId>,
    /// Accounts up to this one have no place in the table and were not looked at.
    pub(crate) unsearched: Option<UserId>,
}

/// The table, and the accounts that changed since it was built.
pub(crate) struct UserIndex {
    table: tokio::sync::Mutex<Option<Table>>,
    changed: Mutex<BTreeSet<UserId>>,
    /// A table exists or is being built, so changes are noted.
    listening: AtomicBool,
    bytes_max: usize,
    /// Tells other gateways of a changed account.
    told: OnceLock<Box<dyn Fn(UserId) + Send + Sync>>,
}

impl Default for UserIndex {
    fn default() -> UserIndex {
        UserIndex::bounded(TABLE_BYTES_MAX)
    }
}

impl UserQuery {
    /// Whether every account fits.
    pub(crate) fn is_empty(&self) -> bool {
        words(&self.text).is_empty() && *self == UserQuery { text: self.text.clone(), ..UserQuery::default() }
    }

    /// Whether everything but the text of an account fits.
    pub(crate) fn admits(&self, user: &UserView) -> bool {
        let UserQuery { group, active, rights, from, until, .. } = self;
        group.is_none_or(|group| group == user.group)
            && active.is_none_or(|active| active == user.active)
            && rights.is_none_or(|rights| rights == user.rights())
            && from.is_none_or(|from| from <= user.date_joined)
            && until.is_none_or(|until| user.date_joined < until)
    }
}

impl UserIndex {
    fn bounded(bytes_max: usize) -> UserIndex {
        let (table, changed, listening, told) = Default::default();
        UserIndex { table, changed, listening, bytes_max, told }
    }

    /// Calls the closure with each account that is made or changed here. Once.
    pub(crate) fn tell(&self, told: Box<dyn Fn(UserId) + Send + Sync>) {
        let _ = self.told.set(told);
    }

    /// Notes that an account was made or changed. Never waits.
    pub(crate) fn changed(&self, user: UserId) {
        if let Some(tell) = self.told.get() {
            tell(user);
        }
        self.changed_elsewhere(user);
    }

    /// The same for an account that another gateway made or changed.
    pub(crate) fn changed_elsewhere(&self, user: UserId) {
        if self.listening.load(Ordering::Acquire) {
            let mut changed = self.lock();
            if changed.len() <= CHANGED_MAX {
                changed.insert(user);
            }
        }
    }

    /// The newest accounts that may fit, older than `before`, at most `limit`.
    pub(crate) async fn find(
        &self,
        store: &Store,
        query: &UserQuery,
        before: Option<UserId>,
        limit: usize,
    ) -> Result<Candidates, StoreError> {
        let mut held = self.table.lock().await;
        let mut table = self.current(store, held.take().unwrap_or_default()).await?;
        table.used_at = Some(Instant::now());
        let found = table.find(&Wanted::new(query), before, limit).await;
        *held = Some(table);
        Ok(found)
    }

    /// Builds the table unless there is one, before the first search needs it.
    pub(crate) async fn warm(&self, store: &Store) -> Result<(), StoreError> {
        // Somebody builds it or uses it.
        let Ok(mut held) = self.table.try_lock() else { return Ok(()) };
        if held.is_none() {
            let mut table = self.current(store, Table::default()).await?;
            table.used_at = Some(Instant::now());
            *held = Some(table);
        }
        Ok(())
    }

    /// Drops a table that nobody used lately, and takes into another one what changed meanwhile.
    pub(crate) async fn tend(&self, store: &Store) -> Result<(), StoreError> {
        let Ok(mut held) = self.table.try_lock() else { return Ok(()) };
        let Some(table) = held.take() else { return Ok(()) };
        if table.used_at.is_some_and(|at| at.elapsed() >= IDLE_MAX) {
            self.listening.store(false, Ordering::Release);
            self.lock().clear();
        } else {
            *held = Some(self.current(store, table).await?);
        }
        Ok(())
    }

    /// Bytes that the table takes; `None` while a search runs.
    pub(crate) fn bytes(&self) -> Option<usize> {
        let table = self.table.try_lock().ok()?;
        Some(table.as_ref().map_or(0, Table::bytes))
    }

    /// A table with everything that was made or changed until now.
    async fn current(&self, store: &Store, mut table: Table) -> Result<Table, StoreError> {
        // Before the first account is read: what changes from here on is read again.
        self.listening.store(true, Ordering::Release);
        let changed = std::mem::take(&mut *self.lock());
        if changed.len() > CHANGED_MAX {
            table = Table::default();
        } else if table.last().is_some() {
            let mut news = Vec::with_capacity(changed.len());
            for user in changed {
                news.push((user, store.user_get(user).await?));
            }
            table.change(news);
        }
        loop {
            let users = store.users_list(table.last(), READ_STEP).await?;
            users.iter().for_each(|user| table.append(user));
            table.shrink(self.bytes_max);
            if users.len() < READ_STEP {
                return Ok(table);
            }
            tokio::task::yield_now().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<UserId>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an account fits a query.
pub(crate) fn fits(query: &UserQuery, user: &UserView) -> bool {
    let text = joined_text(user.id, &user.mobile_number, &user.username, &names(user), &user.email);
    words(&query.text).iter().all(|word| text.contains(word.as_str())) && query.admits(user)
}

/// The facts of an account beside its text.
fn facts_of(user: &User) -> Facts {
    let bit = |is: bool, bit: u32| if is { bit } else { 0 };
    Facts {
        joined_secs: u32::try_from(user.created_at.as_secs()).unwrap_or(u32::MAX),
        bits: bit(user.active, Facts::ACTIVE)
            | bit(user.staff, Facts::STAFF)
            | bit(user.superuser, Facts::SUPERUSER)
            | user.group << Facts::GROUP.trailing_zeros(),
    }
}

fn names(user: &UserView) -> String {
    format!("{} {}", user.first_name, user.last_name)
}

/// What a search looks into: number, user name, names, mail address, each on a line of its own.
fn text_of(user: &User) -> String {
    let local = crate::PhoneNumber::parse(&user.number).map(|number| number.local());
    let number = local.unwrap_or_else(|_| user.number.clone());
    let names = format!("{} {}", user.first_name, user.last_name);
    joined_text(user.id, &number, &user.username, &names, &user.email)
}

fn joined_text(id: UserId, number: &str, username: &str, names: &str, email: &str) -> String {
    // The name of a login by code repeats the number.
    let username = if identity_of_name(username).is_some() { "" } else { username };
    let looks = [username, names, email].map(look_alike);
    let [username, names, email] = &looks;
    format!("#{id}\n{number}\n{username}\n{}\n{email}\n", names.trim())
}

/// The words of a typed text, as rows hold them: by their look, numbers in local form.
fn words(text: &str) -> Vec<String> {
    let word = |word: &str| {
        let short: String = word.chars().take(WORD_CHARS_MAX).collect();
        local_form(&look_alike(&short))
    };
    text.split_whitespace().map(word).filter(|word| !word.is_empty()).take(WORDS_MAX).collect()
}

/// A number without what a country code or a user name of a login by code puts before it.
fn local_form(word: &str) -> String {
    let plain: String = word.chars().map(|character| ascii_digit(character).unwrap_or(character)).collect();
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((group, number)) = plain.strip_prefix('g').and_then(|rest| rest.split_once('-'))
        && all_digits(group)
        && all_digits(number)
    {
        return number.to_owned();
    }
    for prefix in ["+98", "0098"] {
        if let Some(rest) = plain.strip_prefix(prefix).filter(|rest| all_digits(rest)) {
            return format!("0{rest}");
        }
    }
    match plain.strip_prefix("98") {
        Some(rest) if rest.len() == 10 && all_digits(rest) => format!("0{rest}"),
        _ => plain,
    }
}

#[cfg(test)]
mod tests;
