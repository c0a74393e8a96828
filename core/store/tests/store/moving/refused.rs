//! What is not copied, and what an interrupted copy leaves.

use chelseru_store::StoreError;

use super::super::server::{opened, options};
use super::*;

async fn filled() -> TestStore {
    let store = TestStore::new(Engine::Sled);
    for n in 1..=3 {
        store.log_in(&number(n), 100 + n as u64).await;
    }
    store.key_mark_set([5; 16]).await.unwrap();
    store
}

/// The store with one more record, as it stands in the database.
fn with_record(store: TestStore, key: Vec<u8>, value: &[u8]) -> TestStore {
    let TestStore { store, folder, .. } = store;
    drop(store);
    let engine = open_engine(folder.path());
    engine.insert(key, value).unwrap();
    engine.flush().unwrap();
    drop(engine);
    let path = folder.path().to_owned();
    reopened(folder, path)
}

#[tokio::test]
async fn a_database_that_holds_anything_is_refused() {
    if !engines().contains(&Engine::Postgres) {
        return;
    }
    let source = filled().await;
    let used = TestStore::new(Engine::Postgres);
    used.log_in(NUMBER, 100).await;
    let marked = TestStore::new(Engine::Postgres);
    marked.key_mark_set([6; 16]).await.unwrap();
    for target in [used, marked] {
        let before = tables(&target).await;
        let refused = target.fill_from(&source, &|_, _| {}, Box::pin(async { Ok(()) })).await;
        assert!(
            matches!(&refused, Err(StoreError::Database { reason }) if reason.contains("empty")),
            "{refused:?}"
        );
        assert_eq!(tables(&target).await, before);
    }
}

#[tokio::test]
async fn a_copy_that_does_not_end_leaves_nothing() {
    if !engines().contains(&Engine::Postgres) {
        return;
    }
    let source = filled().await;
    let target = TestStore::new(Engine::Postgres);
    let cut = target.fill_from(&source, &|_, _| {}, Box::pin(async { Err(StoreError::Closed) })).await;
    assert!(matches!(cut, Err(StoreError::Closed)), "{cut:?}");
    assert!(target.is_empty().await.unwrap() && target.key_mark().await.unwrap().is_none());
    // And it can be filled after that.
    target.fill_from(&source, &|_, _| {}, Box::pin(async { Ok(()) })).await.unwrap();
    assert_eq!(target.users_list(None, 10).await.unwrap(), source.users_list(None, 10).await.unwrap());
}

#[tokio::test]
async fn a_database_that_another_gateway_took_over_is_not_filled() {
    if !engines().contains(&Engine::Postgres) {
        return;
    }
    let source = filled().await;
    let target = TestStore::new(Engine::Postgres);
    target.database.as_ref().unwrap().run("update gateway set term = term + 1").unwrap();
    let refused = target.fill_from(&source, &|_, _| {}, Box::pin(async { Ok(()) })).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    assert!(target.is_empty().await.unwrap() && target.key_mark().await.unwrap().is_none());
}

/// The lock is lost with its connection, and the copy has another one.
#[tokio::test]
async fn no_gateway_takes_over_a_database_that_is_being_filled() {
    if !engines().contains(&Engine::Postgres) {
        return;
    }
    let source = filled().await;
    let target = TestStore::new(Engine::Postgres);
    let database = target.database.as_ref().unwrap();
    let before_commit = Box::pin(async {
        let refused = follower(database.url()).await;
        assert!(matches!(refused, Err(StoreError::InUse { .. })), "{refused:?}");
        Ok(())
    });
    target.fill_from(&source, &|_, _| {}, before_commit).await.unwrap();
    assert_eq!(target.users_list(None, 10).await.unwrap(), source.users_list(None, 10).await.unwrap());
}

/// Opens a database in the moment in which its gateway has lost the lock, before that one takes it again.
async fn follower(url: String) -> Result<(), StoreError> {
    let lock: i64 = 0x6368_656c_7365_0002;
    let between = chelseru_postgres_server::connected(url.clone()).await.unwrap();
    // Who waits gets the lock as soon as it is free.
    let end = "select pg_terminate_backend(pid) from pg_locks
        where locktype = 'advisory' and granted and (classid::bigint << 32) | objid::bigint = $1 and objsubid = 1
            and database = (select oid from pg_database where datname = current_database())";
    let killer = chelseru_postgres_server::connected(url.clone()).await.unwrap();
    let waited = async { between.execute("select pg_advisory_lock($1)", &[&lock]).await };
    let killed = async {
        let waits = "select from pg_locks where locktype = 'advisory' and not granted
            and database = (select oid from pg_database where datname = current_database())";
        while killer.query_opt(waits, &[]).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        killer.execute(end, &[&lock]).await
    };
    let (waited, killed) = tokio::join!(waited, killed);
    waited.and(killed).unwrap();
    // It asks for the lock much more often than the gateway that has lost it.
    let opening = tokio::task::spawn_blocking(move || opened(&url, options()).map(drop));
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(between);
    opening.await.unwrap()
}

#[tokio::test]
async fn a_record_that_nothing_takes_ends_the_copy_before_it_begins() {
    if !engines().contains(&Engine::Postgres) {
        return;
    }
    let source = filled().await;
    let source = with_record(source, b"Cc newer".to_vec(), b"x");
    let target = TestStore::new(Engine::Postgres);
    let refused =
        target.fill_from(&source, &|_, _| {}, Box::pin(async { Ok(()) })).await.unwrap_err().to_string();
    assert!(refused.contains("begins with Cc"), "{refused}");
    assert!(target.is_empty().await.unwrap());
}

#[tokio::test]
async fn a_table_that_nothing_takes_ends_the_copy() {
    if !engines().contains(&Engine::Postgres) {
        return;
    }
    let source = filled().await;
    let target = TestStore::new(Engine::Postgres);
    target.database.as_ref().unwrap().run("create table newer (id bigint)").unwrap();
    let refused =
        target.fill_from(&source, &|_, _| {}, Box::pin(async { Ok(()) })).await.unwrap_err().to_string();
    assert!(refused.contains("newer"), "{refused}");
    let folder = tempfile::tempdir().unwrap();
    let file = File::create(folder.path().join("export")).unwrap();
    let refused = target.export(file, &folder.path().join("scratch")).await.unwrap_err().to_string();
    assert!(refused.contains("newer"), "{refused}");
    assert!(!folder.path().join("scratch").exists());
}

#[tokio::test]
async fn a_damaged_record_is_named_and_nothing_is_written() {
    if !engines().contains(&Engine::Postgres) {
        return;
    }
    let source = filled().await;
    let source = with_record(source, [b"u".as_slice(), &2_u64.to_be_bytes()].concat(), b"\x02");
    let target = TestStore::new(Engine::Postgres);
    let refused =
        target.fill_from(&source, &|_, _| {}, Box::pin(async { Ok(()) })).await.unwrap_err().to_string();
    assert!(refused.starts_with("accounts, record 2: user record is not readable"), "{refused}");
    assert!(target.is_empty().await.unwrap());
}

/// Changes go on while a store is exported, and the export is of one moment: money moves, and its sum stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_during_an_export_are_in_it_or_not() {
    if !engines().contains(&Engine::Postgres) {
        return;
    }
    let store = TestStore::new(Engine::Postgres);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mover = tokio::spawn({
        let (store, stop) = (store.store.clone(), stop.clone());
        async move {
            let mut moved = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                moved += 1;
                let user = chelseru_store::UserId(1 + moved % 5);
                store.ledger_probe(format!("move:{moved}"), user, 10, secs(moved)).await.unwrap();
            }
            moved
        }
    });
    while store.ledger_verify().await.unwrap().postings < 20 {
        tokio::task::yield_now().await;
    }
    let copy = into_sled(&store).await;
    let copied = copy.ledger_verify().await.unwrap();
    while store.ledger_verify().await.unwrap().postings <= copied.postings {
        tokio::task::yield_now().await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let moved = mover.await.unwrap();
    assert_eq!(copied.difference, None);
    assert!(copied.postings >= 20 && copied.postings < moved, "{} of {moved}", copied.postings);
    assert_eq!(copied.users_total, copied.postings.cast_signed() * 10, "a posting is there as a whole");
}
