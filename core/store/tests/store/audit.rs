//! The audit log: appended, paged in both directions, filtered, and within its limits.

use chelseru_store::{AuditDraft, AuditLog, AuditQuery, UserId};

use super::*;

fn draft(event: &str, user: u64, at_secs: u64) -> (AuditLog, AuditDraft) {
    let draft = AuditDraft {
        at: secs(at_secs),
        event: event.to_owned(),
        user: Some(UserId(user)),
        ..AuditDraft::default()
    };
    (AuditLog::Anyone, draft)
}

fn by_operator(event: &str, at_secs: u64) -> (AuditLog, AuditDraft) {
    (AuditLog::Operator, draft(event, 1, at_secs).1)
}

async fn page(store: &TestStore, query: AuditQuery) -> (Vec<u64>, Option<u64>) {
    let page = store.audit_page(&query).await.unwrap();
    (page.entries.iter().map(|entry| entry.id).collect(), page.more_at)
}

fn query() -> AuditQuery {
    AuditQuery { limit: 3, look_max: 100, ..AuditQuery::default() }
}

#[tokio::test]
async fn pages_are_newest_first_in_both_directions() {
    for engine in engines() {
        let store = TestStore::new(engine);
        assert_eq!(page(&store, query()).await, (vec![], None));
        for n in 0..7 {
            store.audit_append(vec![draft("login", 1, n)], 100).await.unwrap();
        }
        let store = store.reopened();
        assert_eq!(page(&store, query()).await, (vec![7, 6, 5], Some(5)));
        assert_eq!(page(&store, AuditQuery { before: Some(5), ..query() }).await, (vec![4, 3, 2], Some(2)));
        assert_eq!(page(&store, AuditQuery { before: Some(2), ..query() }).await, (vec![1], None));
        assert_eq!(page(&store, AuditQuery { before: Some(4), ..query() }).await, (vec![3, 2, 1], None));
        assert_eq!(page(&store, AuditQuery { after: Some(2), ..query() }).await, (vec![5, 4, 3], Some(5)));
        assert_eq!(page(&store, AuditQuery { after: Some(5), ..query() }).await, (vec![7, 6], None));
    }
}

#[tokio::test]
async fn entries_are_filtered_and_a_walk_is_bounded() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let drafts = (0..20).map(|n| draft(if n % 5 == 0 { "logout" } else { "login" }, n % 2, n)).collect();
        store.audit_append(drafts, 100).await.unwrap();
        let logouts = AuditQuery { event: Some("logout".to_owned()), ..query() };
        assert_eq!(page(&store, logouts.clone()).await, (vec![16, 11, 6], Some(6)));
        assert_eq!(
            page(&store, AuditQuery { user: Some(UserId(1)), ..logouts.clone() }).await,
            (vec![16, 6], None)
        );
        assert_eq!(page(&store, AuditQuery { look_max: 5, ..logouts }).await, (vec![16], Some(16)));
    }
}

#[tokio::test]
async fn the_oldest_go_when_the_log_is_full_and_when_its_bound_is_lowered() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let many = |n| (0..n).map(|n| draft("login", 1, n)).collect::<Vec<_>>();
        let kept = async |store: &TestStore| {
            page(store, AuditQuery { limit: 1000, look_max: 1000, ..query() }).await.0
        };
        store.audit_append(many(10), 10).await.unwrap();
        assert_eq!(kept(&store).await.len(), 10);
        store.audit_append(many(1), 10).await.unwrap();
        assert_eq!(kept(&store).await, (2..=11).rev().collect::<Vec<_>>());
        store.audit_append(many(2), 3).await.unwrap();
        assert_eq!(kept(&store).await, [13, 12, 11]);
    }
}

#[tokio::test]
async fn entries_go_by_age_and_the_numbers_go_on() {
    for engine in engines() {
        let store = TestStore::new(engine);
        for n in 0..6 {
            store.audit_append(vec![draft("login", 1, n * 10)], 100).await.unwrap();
        }
        store.audit_append(vec![by_operator("config_changed", 15)], 100).await.unwrap();
        assert_eq!(store.audit_purge(secs(0), 10).await.unwrap(), 0);
        assert_eq!(store.audit_purge(secs(20), 1).await.unwrap(), 2, "one chunk of each log");
        assert_eq!(store.audit_purge(secs(20), 10).await.unwrap(), 1);
        assert_eq!(store.audit_purge(secs(20), 10).await.unwrap(), 0);
        assert_eq!(page(&store, AuditQuery { limit: 9, ..query() }).await, (vec![6, 5, 4, 3], None));
        store.audit_append(vec![draft("login", 1, 99)], 2).await.unwrap();
        assert_eq!(page(&store, AuditQuery { limit: 9, ..query() }).await, (vec![8, 6], None));
    }
}

#[tokio::test]
async fn a_flood_in_one_log_leaves_the_other_and_pages_keep_their_order() {
    for engine in engines() {
        let store = TestStore::new(engine);
        for round in 0..30 {
            let mut drafts = vec![by_operator("key_created", round)];
            drafts.push((AuditLog::Account, draft("login", 1, round).1));
            drafts.extend((0..70).map(|n| draft("otp_failed", n, round)));
            store.audit_append(drafts, 100).await.unwrap();
        }
        let store = store.reopened();
        let all =
            store.audit_page(&AuditQuery { limit: 1000, look_max: 1000, ..query() }).await.unwrap().entries;
        let keys = all.iter().filter(|entry| entry.draft.event == "key_created").count();
        assert_eq!((all.len(), keys), (160, 30));
        assert!(all.is_sorted_by(|newer, older| newer.id > older.id));
        assert_eq!((all[0].id, all[159].id), (30 * 72, 1));

        // Both directions visit the same entries, in pages of any size.
        let ids: Vec<u64> = all.iter().map(|entry| entry.id).collect();
        for limit in [1, 7, 33, 64] {
            let (mut down, mut before) = (Vec::new(), None);
            loop {
                let (ids, more) = page(&store, AuditQuery { before, limit, look_max: 1000, ..query() }).await;
                down.extend(ids);
                before = more;
                if more.is_none() {
                    break;
                }
            }
            assert_eq!(down, ids, "{limit} at a time");
            let (mut up, mut after) = (Vec::new(), 0);
            loop {
                let query = AuditQuery { after: Some(after), limit, look_max: 1000, ..query() };
                let (ids, more) = page(&store, query).await;
                up.extend(ids.into_iter().rev());
                match more {
                    Some(last) => after = last,
                    None => break,
                }
            }
            up.reverse();
            assert_eq!(up, ids, "{limit} at a time");
        }
    }
}

/// As older versions stored them: one per key, all in one log.
#[tokio::test]
async fn entries_from_before_chunks_are_read_and_go_first() {
    let store = TestStore::new(Engine::Sled);
    store.audit_append((0..5).map(|n| draft("login", 1, n)).collect(), 100).await.unwrap();
    let TestStore { store, folder, .. } = store;
    store.close();
    drop(store);
    let db = open_engine(folder.path());
    let key = |id: u64| [b"a", id.to_be_bytes().as_slice()].concat();
    let chunk = db.remove(key(1)).unwrap().expect("the chunk is there");
    // Schema, entries before, number of entries; then each entry behind its number.
    let entry = (chunk.len() - 3) / 5;
    for n in 0..5 {
        let record = &chunk[3 + n * entry..][..entry];
        db.insert(key(n as u64 + 1), [&[1], &record[1..]].concat()).unwrap();
    }
    db.remove(b"maudit-anyone").unwrap();
    db.flush().unwrap();
    drop(db);
    let store = TestStore::open(folder);
    let all = AuditQuery { limit: 100, ..query() };
    assert_eq!(page(&store, all.clone()).await, (vec![5, 4, 3, 2, 1], None));
    store.audit_append(vec![draft("login", 1, 9), draft("login", 1, 9)], 4).await.unwrap();
    assert_eq!(page(&store, all).await, (vec![7, 6, 5, 4], None));
}
