//! Accounts: ids, names, flags, passwords, and the number that each logs in with.
//!
//! One number and group is one account here. Of several that the source has, one logs in by code: the one whose number
//! is stored in ASCII digits, then the one with the smallest id. The others stay as they are, or, with
//! `--merge-numbers`, become that one: their wallets, payments, rooms and messages are its own.

use std::collections::{BTreeMap, HashMap, HashSet};

use chelseru_domain::PhoneNumber;
use chelseru_domain::ids::UserId;
use chelseru_domain::login::account::{identity_of_name, look_alike, username_check};
use chelseru_domain::login::group::Group;
use chelseru_domain::login::password::django_hash;
use chelseru_store::{ImportedUser, User};

use super::reader::Reader;
use super::report::Report;
use super::source::{PROFILES, Row, USER_IDS, USERS};
use super::target::{Batch, Target};

/// The users of the source.
#[derive(Default)]
pub(super) struct People {
    /// Ascending.
    ids: Vec<u64>,
    /// Accounts that became another one.
    merged: HashMap<u64, u64>,
    pub(super) last_id: u64,
}

impl People {
    /// The account that a reference leads to.
    ///
    /// Errors: a text that names table, row and column, when there is no such user.
    pub(super) fn of(&self, row: &Row<'_>, column: &str) -> Result<UserId, String> {
        let id = row.id(column)?;
        self.find(id)
            .ok_or_else(|| format!("{}: {column} is {id}, but there is no user with this id", row.place()))
    }

    pub(super) fn find(&self, id: u64) -> Option<UserId> {
        self.ids.binary_search(&id).ok()?;
        Some(UserId(self.merged.get(&id).copied().unwrap_or(id)))
    }
}

/// What the package keeps of a code account.
struct Profile {
    number: Option<PhoneNumber>,
    /// As it is stored there.
    written: String,
    group: i64,
}

/// Imports all accounts.
///
/// Errors: a text that names table and row.
pub(super) fn import(
    reader: &Reader,
    target: &Target,
    report: &mut Report,
    merge_numbers: bool,
) -> Result<People, String> {
    let mut people = People { last_id: reader.source.last_id(USERS.table)?, ..People::default() };
    reader.source.each(&USER_IDS, &mut |row| {
        people.ids.push(row.id("id")?);
        Ok(())
    })?;
    let profiles = profiles(reader, report, &people)?;
    let owners = owners(&profiles);
    let owning: HashSet<u64> = owners.values().map(|users| users[0]).collect();
    let mut merged: HashMap<u64, Vec<UserId>> = HashMap::new();
    for users in owners.values().filter(|users| users.len() > 1) {
        let (first, others) = (users[0], &users[1..]);
        let names: Vec<String> =
            users.iter().map(|id| format!("user {id} ({})", masked(&profiles[id].written))).collect();
        let fate = if merge_numbers { "merged into" } else { "the code logs in to" };
        report.warn("accounts of one number and group", format!("{}: {fate} user {first}", names.join(", ")));
        if merge_numbers {
            people.merged.extend(others.iter().map(|other| (*other, first)));
            merged.insert(first, others.iter().map(|other| UserId(*other)).collect());
        }
    }
    let mut names = Names::default();
    let (mut batch, mut here) = (Batch::new(), 0);
    let there = reader.each(&USERS, |row| {
        let id = row.id("id")?;
        names.note(id, &row.text("username")?);
        if people.merged.contains_key(&id) {
            report.left_out(row.place(), format!("merged into user {}", people.merged[&id]));
            return Ok(());
        }
        let profile = profiles.get(&id);
        let mut imported = account(reader, report, row, profile, owning.contains(&id))?;
        imported.merged = merged.remove(&id).unwrap_or_default();
        here += 1;
        match batch.add(imported) {
            Some(users) => target.put(async |store| store.import_users(users).await),
            None => Ok(()),
        }
    })?;
    let rest = batch.rest();
    target.put(async |store| store.import_users(rest).await)?;
    report.table(USERS.table, there, here);
    names.report(report);
    Ok(people)
}

/// The code accounts by user.
fn profiles(reader: &Reader, report: &mut Report, people: &People) -> Result<HashMap<u64, Profile>, String> {
    let mut profiles = HashMap::new();
    let there = reader.each(&PROFILES, |row| {
        let user = people.of(row, "user_id")?;
        let (written, group) = (row.text("mobile")?, row.integer("group")?);
        let number = PhoneNumber::parse(&written).ok();
        if number.is_none() {
            let text = format!("{}: user {user} ({})", row.place(), masked(&written));
            report.warn("numbers that are no mobile number: no login by code", text);
        }
        if Group::from_number(group).is_err() {
            let text = format!("{}: user {user} has group {group}", row.place());
            report.warn("groups outside 0 to 2147483647: no login by code", text);
        }
        profiles.insert(user.0, Profile { number, written, group });
        Ok(())
    })?;
    report.table(PROFILES.table, there, profiles.len() as u64);
    Ok(profiles)
}

/// The users of each number and group, the one that logs in by code first.
fn owners(profiles: &HashMap<u64, Profile>) -> BTreeMap<(i64, String), Vec<u64>> {
    let mut owners: BTreeMap<(i64, String), Vec<u64>> = BTreeMap::new();
    for (user, profile) in profiles {
        if let Some(number) = &profile.number
            && Group::from_number(profile.group).is_ok()
        {
            owners.entry((profile.group, number.e164().to_owned())).or_default().push(*user);
        }
    }
    for users in owners.values_mut() {
        users.sort_unstable_by_key(|user| (!profiles[user].written.is_ascii(), *user));
    }
    owners
}

fn account(
    reader: &Reader,
    report: &mut Report,
    row: &Row<'_>,
    profile: Option<&Profile>,
    owns_number: bool,
) -> Result<ImportedUser, String> {
    let username = row.text("username")?;
    let password_hash = match django_hash(&row.text("password")?) {
        Ok(hash) => hash,
        Err(error) => {
            let text = format!("{}: the hash {error}; the user sets a new password by a reset", row.place());
            report.warn("passwords that cannot be verified here", text);
            None
        }
    };
    let group = profile.and_then(|profile| Group::from_number(profile.group).ok()).unwrap_or_default();
    let number = profile.and_then(|profile| profile.number.as_ref());
    let identity = number.filter(|_| owns_number).map(|number| (group, number.clone()));
    let derived_name = identity.is_some() && identity_of_name(&username) == identity;
    if !derived_name && username_check(&username).is_err() {
        let text = format!("{}: {}", row.place(), shown_name(&username));
        report.warn("user names that could not be registered here (they stay usable)", text);
    }
    let user = User {
        id: UserId(row.id("id")?),
        active: row.flag("is_active")?,
        username,
        number: number.map(|number| number.e164().to_owned()).unwrap_or_default(),
        group: group.number(),
        created_at: row.time("date_joined", &reader.zone)?,
        last_login_at: row.maybe_time("last_login", &reader.zone)?,
        first_name: row.text("first_name")?,
        last_name: row.text("last_name")?,
        email: row.text("email")?,
        staff: row.flag("is_staff")?,
        superuser: row.flag("is_superuser")?,
        avatar: None,
    };
    Ok(ImportedUser { user, password_hash, owns_number, derived_name, merged: Vec::new() })
}

/// User names by how they look, to find those that people take for one.
#[derive(Default)]
struct Names(HashMap<String, Vec<(u64, String)>>);

impl Names {
    fn note(&mut self, id: u64, name: &str) {
        self.0.entry(look_alike(name)).or_default().push((id, name.to_owned()));
    }

    fn report(self, report: &mut Report) {
        let mut alike: Vec<_> = self.0.into_values().filter(|names| names.len() > 1).collect();
        alike.sort_unstable();
        for names in alike {
            let names: Vec<String> =
                names.iter().map(|(id, name)| format!("user {id} ({})", shown_name(name))).collect();
            report.warn("user names that look alike (both stay usable)", names.join(", "));
        }
    }
}

/// A number that a report may show.
fn masked(written: &str) -> String {
    match PhoneNumber::parse(written) {
        Ok(number) if written.is_ascii() => number.masked(),
        Ok(number) => format!("{}, not in ASCII digits", number.masked()),
        Err(error) => error.to_string(),
    }
}

/// A user name that a report may show: the name of a code account contains its number.
fn shown_name(name: &str) -> String {
    match name.split_once('-').map(|(group, number)| (group, PhoneNumber::parse(number))) {
        Some((group, Ok(number))) => format!("{group}-{}", number.masked()),
        _ => format!("{name:?}"),
    }
}
