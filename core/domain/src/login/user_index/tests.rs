//! Searches against a plain scan, pages, changes and the bound.

use chelseru_store::{ImportedUser, StoreOptions, UserDraft, UserMade};

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
    index.find(store, &query, None, 100).await.unwrap().ids.into_iter().map(|id| id.0).collect()
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
    assert_eq!(index.find(&store, &disabled, None, 9).await.unwrap().ids, [first]);
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
        let Candidates { ids, next, .. } = index.find(&store, &query, before, 10).await.unwrap();
        all.extend(ids);
        match next {
            Some(next) => before = Some(next),
            None => break,
        }
    }
    assert_eq!(all, (1..=25).rev().map(UserId).collect::<Vec<_>>());
}

/// Texts whose parts overlap a lot, so that words meet near misses.
fn piece(state: &mut u64, length: u64) -> String {
    const SIGNS: [char; 8] = ['a', 'b', '1', '2', 'ع', 'ل', 'ی', '.'];
    (0..length).map(|_| SIGNS[(random(state) % 8) as usize]).collect()
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 8
}

/// What the index answers, against a look at every account of the store.
async fn compare(index: &UserIndex, store: &Store, state: &mut u64, seed: u64) {
    let words = (0..random(state) % 3).map(|_| {
        let length = 1 + random(state) % 5;
        piece(state, length)
    });
    let text = words.collect::<Vec<_>>().join(" ");
    let active = [None, Some(true), Some(false)][(random(state) % 3) as usize];
    let query = UserQuery { text, active, ..UserQuery::default() };
    let before = random(state).is_multiple_of(2).then(|| UserId(1 + random(state) % 1100));
    let limit = 1 + (random(state) % 60) as usize;
    let all = store.users_list(None, 10_000).await.unwrap();
    let is_older = |user: &User| before.is_none_or(|before| user.id < before);
    let views = all.into_iter().filter(is_older).map(|user| UserView::new(user, false));
    let mut expected: Vec<UserId> = views.filter(|user| fits(&query, user)).map(|user| user.id).collect();
    expected.reverse();
    expected.truncate(limit);
    let found = index.find(store, &query, before, limit).await.unwrap();
    assert_eq!(found.ids, expected, "seed {seed}, {query:?}, before {before:?}, limit {limit}");
}

/// Stores accounts in one change.
async fn import(store: &Store, users: impl IntoIterator<Item = User>) {
    let whole = |user| ImportedUser {
        user,
        password_hash: None,
        owns_number: false,
        derived_name: true,
        merged: Vec::new(),
    };
    store.import_users(users.into_iter().map(whole).collect()).await.unwrap();
}

fn account(id: u64, username: String) -> User {
    User {
        id: UserId(id),
        active: true,
        username,
        number: String::new(),
        group: 0,
        created_at: Timestamp::from_secs(100),
        last_login_at: None,
        first_name: String::new(),
        last_name: String::new(),
        email: String::new(),
        staff: false,
        superuser: false,
        avatar: None,
    }
}

#[tokio::test]
async fn what_is_found_is_what_a_look_at_every_account_finds() {
    for seed in [3, 14, 159] {
        let (_folder, store) = store();
        let (index, mut state) = (UserIndex::default(), seed * 0x9e37_79b9);
        let mut made: Vec<u64> = Vec::new();
        for step in 0..20 {
            // New accounts, some of them below the newest, and changed ones.
            let mut users: Vec<User> = Vec::new();
            for _ in 0..60 {
                let id = match random(&mut state) % 4 {
                    0 if !made.is_empty() => made[random(&mut state) as usize % made.len()],
                    1 => 1 + random(&mut state) % 1000,
                    _ => 1 + step * 50 + random(&mut state) % 50,
                };
                let mut user = account(id, piece(&mut state, 6));
                user.email = piece(&mut state, 4);
                user.last_name = piece(&mut state, 3);
                user.active = random(&mut state).is_multiple_of(2);
                users.push(user);
                made.push(id);
            }
            let ids: Vec<UserId> = users.iter().map(|user| user.id).collect();
            import(&store, users).await;
            ids.into_iter().for_each(|id| index.changed(id));
            for _ in 0..20 {
                compare(&index, &store, &mut state, seed).await;
            }
        }
    }
}

#[tokio::test]
async fn an_account_that_is_made_below_the_newest_or_erased_is_taken_in() {
    let (_folder, store) = store();
    let index = UserIndex::default();
    import(&store, (0..600).map(|n| account(n + 1, format!("user{n}")))).await;
    assert_eq!(found(&index, &store, "user300").await, [301]);
    let mut held = index.table.lock().await;
    let table = held.as_mut().unwrap();
    // As when another gateway commits a smaller number later.
    let user = store.user_get(UserId(301)).await.unwrap();
    table.change(vec![(UserId(301), None)]);
    assert!(table.find(&Wanted::new(&text("user300")), None, 9).await.ids.is_empty());
    table.change(vec![(UserId(301), user)]);
    assert_eq!(table.find(&Wanted::new(&text("user300")), None, 9).await.ids, [UserId(301)]);
    table.change((1..=600).map(|id| (UserId(id), None)).collect());
    assert!(table.find(&Wanted::new(&text("")), None, 9).await.ids.is_empty());
    assert_eq!(table.last(), None);
}

fn text(text: &str) -> UserQuery {
    UserQuery { text: text.to_owned(), ..UserQuery::default() }
}

#[tokio::test]
async fn a_full_table_says_which_accounts_it_left_out() {
    let (_folder, store) = store();
    import(&store, (0..1000).map(|n| account(n + 1, format!("user{n}")))).await;
    let whole = UserIndex::default();
    assert_eq!(whole.find(&store, &text("user5"), None, 1).await.unwrap().unsearched, None);
    let bytes = whole.bytes().unwrap();
    assert!((1000 * 56..1000 * 120).contains(&bytes), "{bytes}");
    let half = UserIndex::bounded(bytes / 2);
    let found = half.find(&store, &text("user"), None, 1000).await.unwrap();
    let unsearched = found.unsearched.expect("accounts were left out");
    assert!(half.bytes().unwrap() <= bytes / 2);
    assert_eq!(found.ids.len() as u64 + unsearched.0, 1000);
    assert_eq!(found.ids.last(), Some(&UserId(unsearched.0 + 1)));
    // A change of an account outside stays outside.
    half.changed(UserId(1));
    assert_eq!(half.find(&store, &text("user"), None, 1000).await.unwrap(), found);
}

#[tokio::test]
async fn a_table_is_built_beforehand_and_kept_up() {
    let (_folder, store) = store();
    let index = UserIndex::default();
    add(&store, "one", "").await;
    index.tend(&store).await.unwrap();
    assert_eq!(index.bytes(), Some(0));
    index.warm(&store).await.unwrap();
    assert!(index.bytes() > Some(0));
    let second = add(&store, "two", "").await;
    index.changed(second);
    index.tend(&store).await.unwrap();
    assert_eq!(index.table.lock().await.as_ref().unwrap().last(), Some(second));
}
