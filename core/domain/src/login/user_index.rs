//! Finds accounts by a part of a number, a name or a mail address, for operators.
//!
//! The first search reads every account once into a table in memory, and later ones scan the table. What 1,000,000
//! accounts take is printed by `bench console`; no figure is recorded yet. Nothing is stored, so logins pay nothing and
//! older stores need no conversion. The table is dropped when nobody searched for [`IDLE_MAX`].
//!
//! Invariants: what is found is read from the store again and compared, so a stale row shows nothing wrong; an account
//! made or changed before a search is found by it, because whoever changes one says so ([`UserIndex::changed`]).

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chelseru_store::{Store, StoreError, User};
use memchr::memmem::Finder;

use crate::Timestamp;
use crate::ids::UserId;
use crate::login::account::{Rights, UserView, identity_of_name, look_alike};
use crate::phone::ascii_digit;

/// Without a search for this long, the table is dropped.
const IDLE_MAX: Duration = Duration::from_secs(15 * 60);
/// Accounts read from the store in one step, and rows scanned in one: other tasks run between.
const READ_STEP: usize = 500;
const SCAN_STEP: usize = 32_768;
/// Changed accounts beside the table; past it the table is built again.
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

/// The table, and the accounts that changed since it was built.
#[derive(Default)]
pub(crate) struct UserIndex {
    table: tokio::sync::Mutex<Option<Table>>,
    changed: Mutex<BTreeSet<UserId>>,
    /// A table exists or is being built, so changes are noted.
    listening: AtomicBool,
}

#[derive(Default)]
struct Table {
    rows: Vec<Row>,
    text: Vec<u8>,
    /// Rows that replace those of the table with the same number.
    newer: HashMap<UserId, (Row, Vec<u8>)>,
    used_at: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Row {
    id: UserId,
    /// Where the row's text ends; it begins where that of the row before ends.
    end: usize,
    joined_secs: u32,
    /// Bits 0 to 2: active, staff, superuser; from 3 on the group.
    facts: u32,
}

/// The words of a query as rows hold them, and its filters.
struct Wanted<'a> {
    words: Vec<Vec<u8>>,
    query: &'a UserQuery,
}

impl UserIndex {
    /// Notes that an account changed. Never waits.
    pub(crate) fn changed(&self, user: UserId) {
        if self.listening.load(Ordering::Acquire) {
            let mut changed = self.lock();
            if changed.len() <= CHANGED_MAX {
                changed.insert(user);
            }
        }
    }

    /// The newest accounts that may fit, older than `before`, at most `limit`; and the last one looked at when there
    /// may be more. The caller compares each with [`fits`].
    pub(crate) async fn find(
        &self,
        store: &Store,
        query: &UserQuery,
        before: Option<UserId>,
        limit: usize,
    ) -> Result<(Vec<UserId>, Option<UserId>), StoreError> {
        let mut held = self.table.lock().await;
        // Before the first account is read: what changes from here on is read again.
        self.listening.store(true, Ordering::Release);
        let changed = std::mem::take(&mut *self.lock());
        let mut table = held.take().unwrap_or_default();
        if changed.len() > CHANGED_MAX || table.newer.len() > CHANGED_MAX {
            table = Table::default();
        }
        for user in changed {
            match store.user_get(user).await? {
                Some(user) => table.replace(&user),
                None => table.forget(user),
            }
        }
        table.read_on(store).await?;
        table.used_at = Some(Instant::now());
        let wanted = Wanted::new(query);
        let found = table.find(&wanted, before, limit).await;
        *held = Some(table);
        Ok(found)
    }

    /// Drops a table that nobody used lately.
    pub(crate) fn rest(&self) {
        let Ok(mut table) = self.table.try_lock() else { return };
        let is_idle = |table: &Table| table.used_at.is_some_and(|at| at.elapsed() >= IDLE_MAX);
        if table.as_ref().is_some_and(is_idle) {
            *table = None;
            self.listening.store(false, Ordering::Release);
            self.lock().clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<UserId>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Reads the accounts that are newer than the table.
    async fn read_on(&mut self, store: &Store) -> Result<(), StoreError> {
        loop {
            let after = self.rows.last().map(|row| row.id);
            let users = store.users_list(after, READ_STEP).await?;
            for user in &users {
                self.text.extend_from_slice(text_of(user).as_bytes());
                self.rows.push(row(user, self.text.len()));
            }
            if users.len() < READ_STEP {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    fn replace(&mut self, user: &User) {
        if self.rows.last().is_some_and(|last| user.id <= last.id) {
            self.newer.insert(user.id, (row(user, 0), text_of(user).into_bytes()));
        }
    }

    /// Overwrites what is known of an account that was erased.
    fn forget(&mut self, id: UserId) {
        let Ok(at) = self.rows.binary_search_by_key(&id, |row| row.id) else { return };
        let start = if at == 0 { 0 } else { self.rows[at - 1].end };
        self.text[start..self.rows[at].end].fill(b'\n');
        self.newer.remove(&id);
    }

    async fn find(
        &self,
        wanted: &Wanted<'_>,
        before: Option<UserId>,
        limit: usize,
    ) -> (Vec<UserId>, Option<UserId>) {
        let finders: Vec<Finder<'_>> = wanted.words.iter().map(Finder::new).collect();
        let mut at =
            before.map_or(self.rows.len(), |before| self.rows.partition_point(|row| row.id < before));
        let mut found = Vec::new();
        let mut looked = 0;
        while at > 0 {
            at -= 1;
            let start = if at == 0 { 0 } else { self.rows[at - 1].end };
            let own = self.rows[at];
            let (row, text) = match self.newer.get(&own.id) {
                Some((row, text)) => (row, text.as_slice()),
                None => (&own, &self.text[start..own.end]),
            };
            if wanted.admits(row) && finders.iter().all(|finder| finder.find(text).is_some()) {
                found.push(own.id);
                if found.len() == limit {
                    return (found, (at > 0).then_some(own.id));
                }
            }
            looked += 1;
            if looked % SCAN_STEP == 0 {
                tokio::task::yield_now().await;
            }
        }
        (found, None)
    }
}

impl Wanted<'_> {
    fn new(query: &UserQuery) -> Wanted<'_> {
        Wanted { words: words(&query.text).into_iter().map(String::into_bytes).collect(), query }
    }

    /// Everything but the text.
    fn admits(&self, row: &Row) -> bool {
        let UserQuery { group, active, rights, from, until, .. } = self.query;
        let bit = |bit: u32| row.facts & (1 << bit) != 0;
        let joined = u64::from(row.joined_secs);
        group.is_none_or(|group| group & (u32::MAX >> 3) == row.facts >> 3)
            && active.is_none_or(|active| active == bit(0))
            && rights.is_none_or(|rights| match rights {
                Rights::None => !bit(1) && !bit(2),
                Rights::Staff => bit(1) && !bit(2),
                Rights::Superuser => bit(2),
            })
            // Seconds are rounded down here; the account itself is compared exactly.
            && from.is_none_or(|from| from.as_secs() <= joined)
            && until.is_none_or(|until| joined <= until.as_secs())
    }
}

/// Whether an account fits a query.
pub(crate) fn fits(query: &UserQuery, user: &UserView) -> bool {
    let text = joined_text(user.id, &user.mobile_number, &user.username, &names(user), &user.email);
    words(&query.text).iter().all(|word| text.contains(word.as_str()))
        && query.group.is_none_or(|group| group == user.group)
        && query.active.is_none_or(|active| active == user.active)
        && query.rights.is_none_or(|rights| rights == user.rights())
        && query.from.is_none_or(|from| from <= user.date_joined)
        && query.until.is_none_or(|until| user.date_joined < until)
}

fn names(user: &UserView) -> String {
    format!("{} {}", user.first_name, user.last_name)
}

fn row(user: &User, end: usize) -> Row {
    let facts = u32::from(user.active) | u32::from(user.staff) << 1 | u32::from(user.superuser) << 2;
    Row {
        id: user.id,
        end,
        joined_secs: u32::try_from(user.created_at.as_secs()).unwrap_or(u32::MAX),
        facts: facts | user.group << 3,
    }
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
mod tests {
    use chelseru_store::{StoreOptions, UserDraft, UserMade};

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        (folder, store)
    }

    async fn add(store: &Store, name: &str, email: &str) -> UserId {
        let draft = UserDraft {
            username: name.to_owned(),
            look: look_alike(name),
            email: email.to_owned(),
            password_hash: String::new(),
            staff: false,
            superuser: false,
            now: Timestamp::from_secs(100),
        };
        match store.user_register(draft).await.unwrap() {
            UserMade::Made(user) => user.id,
            UserMade::NameTaken => panic!("{name} is taken"),
        }
    }

    async fn found(index: &UserIndex, store: &Store, text: &str) -> Vec<u64> {
        let query = UserQuery { text: text.to_owned(), ..UserQuery::default() };
        let (ids, _) = index.find(store, &query, None, 100).await.unwrap();
        ids.into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn a_typed_number_is_looked_for_in_its_local_form() {
        for (typed, word) in [
            ("+98912", "0912"),
            ("00989121234567", "09121234567"),
            ("989121234567", "09121234567"),
            ("98912", "98912"),
            ("\u{6f0}\u{6f9}\u{6f1}\u{6f2}", "0912"),
            ("G0-09121234567", "09121234567"),
            ("Ali", "ali"),
            ("عليرضا", "علیرضا"),
        ] {
            assert_eq!(words(typed), [word], "{typed}");
        }
        assert_eq!(words("  a  b "), ["a", "b"]);
        assert_eq!(words(&"x ".repeat(20)).len(), WORDS_MAX);
    }

    #[tokio::test]
    async fn parts_of_names_are_found_newest_first_and_by_all_words() {
        let (_folder, store) = store();
        let index = UserIndex::default();
        for (name, email) in [("alireza", "a@one.ir"), ("sara", "s@two.ir"), ("علیرضا", ""), ("realist", "")]
        {
            add(&store, name, email).await;
        }
        assert_eq!(found(&index, &store, "ALI").await, [4, 1]);
        assert_eq!(found(&index, &store, "رضا").await, [3]);
        assert_eq!(found(&index, &store, "عليرضا").await, [3]);
        assert_eq!(found(&index, &store, "ali one.ir").await, [1]);
        assert_eq!(found(&index, &store, "#2").await, [2]);
        assert_eq!(found(&index, &store, "nobody").await, [0; 0]);
        assert_eq!(found(&index, &store, "").await, [4, 3, 2, 1]);
    }

    #[tokio::test]
    async fn what_was_made_or_changed_before_a_search_is_found_by_it() {
        let (_folder, store) = store();
        let index = UserIndex::default();
        let first = add(&store, "one", "").await;
        assert_eq!(found(&index, &store, "one").await, [1]);
        add(&store, "one-more", "").await;
        assert_eq!(found(&index, &store, "one").await, [2, 1]);
        let change = chelseru_store::UserChange { last_name: Some("Karimi".into()), ..Default::default() };
        store.user_update(first, change).await.unwrap();
        index.changed(first);
        assert_eq!(found(&index, &store, "karimi").await, [1]);
        store.user_set_active(first, false).await.unwrap();
        index.changed(first);
        let disabled = UserQuery { active: Some(false), ..UserQuery::default() };
        assert_eq!(index.find(&store, &disabled, None, 9).await.unwrap().0, [first]);
    }

    #[tokio::test]
    async fn pages_follow_each_other_without_gap() {
        let (_folder, store) = store();
        let index = UserIndex::default();
        for n in 0..25 {
            add(&store, &format!("user{n}"), "").await;
        }
        let query = UserQuery { text: "user".into(), ..UserQuery::default() };
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let (ids, next) = index.find(&store, &query, before, 10).await.unwrap();
            all.extend(ids);
            match next {
                Some(next) => before = Some(next),
                None => break,
            }
        }
        assert_eq!(all, (1..=25).rev().map(UserId).collect::<Vec<_>>());
    }
}
