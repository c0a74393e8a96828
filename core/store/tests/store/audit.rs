//! The audit log: appended, paged in both directions, filtered, and never longer than it may be.

use chelseru_store::{AuditDraft, AuditQuery, UserId};

use super::*;

fn draft(event: &str, user: u64, at_secs: u64) -> AuditDraft {
    AuditDraft {
        at: secs(at_secs),
        event: event.to_owned(),
        user: Some(UserId(user)),
        ..AuditDraft::default()
    }
}

fn page(store: &TestStore, query: AuditQuery) -> (Vec<u64>, Option<u64>) {
    let page = store.audit_page(&query).unwrap();
    (page.entries.iter().map(|entry| entry.id).collect(), page.more_at)
}

fn query() -> AuditQuery {
    AuditQuery { limit: 3, look_max: 100, ..AuditQuery::default() }
}

#[tokio::test]
async fn pages_are_newest_first_in_both_directions() {
    let store = TestStore::new();
    assert_eq!(page(&store, query()), (vec![], None));
    for n in 0..7 {
        store.audit_append(vec![draft("login", 1, n)], 100).await.unwrap();
    }
    let store = store.reopened();
    assert_eq!(page(&store, query()), (vec![7, 6, 5], Some(5)));
    assert_eq!(page(&store, AuditQuery { before: Some(5), ..query() }), (vec![4, 3, 2], Some(2)));
    assert_eq!(page(&store, AuditQuery { before: Some(2), ..query() }), (vec![1], None));
    assert_eq!(page(&store, AuditQuery { before: Some(4), ..query() }), (vec![3, 2, 1], None));
    assert_eq!(page(&store, AuditQuery { after: Some(2), ..query() }), (vec![5, 4, 3], Some(5)));
    assert_eq!(page(&store, AuditQuery { after: Some(5), ..query() }), (vec![7, 6], None));
}

#[tokio::test]
async fn entries_are_filtered_and_a_walk_is_bounded() {
    let store = TestStore::new();
    let drafts = (0..20).map(|n| draft(if n % 5 == 0 { "logout" } else { "login" }, n % 2, n)).collect();
    store.audit_append(drafts, 100).await.unwrap();
    let logouts = AuditQuery { event: Some("logout".to_owned()), ..query() };
    assert_eq!(page(&store, logouts.clone()), (vec![16, 11, 6], Some(6)));
    assert_eq!(page(&store, AuditQuery { user: Some(UserId(1)), ..logouts.clone() }), (vec![16, 6], None));
    assert_eq!(page(&store, AuditQuery { look_max: 5, ..logouts }), (vec![16], Some(16)));
}

#[tokio::test]
async fn the_oldest_go_when_the_log_is_full_and_when_its_bound_is_lowered() {
    let store = TestStore::new();
    let many = |n| (0..n).map(|n| draft("login", 1, n)).collect::<Vec<_>>();
    let kept = |store: &TestStore| page(store, AuditQuery { limit: 1000, look_max: 1000, ..query() }).0;
    store.audit_append(many(10), 10).await.unwrap();
    assert_eq!(kept(&store).len(), 10);
    store.audit_append(many(1), 10).await.unwrap();
    assert_eq!(kept(&store), (2..=11).rev().collect::<Vec<_>>());
    store.audit_append(many(2), 3).await.unwrap();
    assert_eq!(kept(&store), [13, 12, 11]);
}
