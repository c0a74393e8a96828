//! Answered changes exist after reopening, after `kill -9`, and in an older format.

use std::path::Path;

use chelseru_store::{Health, SessionGate, StoreError};

use super::*;

/// The database as the engine sees it, in a folder whose store is closed; the engine's jobs may hold the lock a
/// moment longer.
fn raw(folder: &Path) -> sled::Db {
    raw_with(folder, SEGMENT_BYTES)
}

fn raw_with(folder: &Path, segment_bytes: usize) -> sled::Db {
    let start = std::time::Instant::now();
    loop {
        match sled::Config::new().path(folder.join("sled")).segment_size(segment_bytes).open() {
            Ok(db) => return db,
            Err(error) if start.elapsed() > Duration::from_secs(5) => panic!("{error}"),
            Err(_) => std::thread::yield_now(),
        }
    }
}

#[tokio::test]
async fn everything_answered_is_there_after_reopening() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (user, session) = store.log_in(NUMBER, 100).await;
        store.open_code(&number(1), 7, 100).await;
        store.probe_put(b"k", b"v").await.unwrap();
        let store = store.reopened();
        assert_eq!(store.user_get(user.id).await.unwrap(), Some(user.clone()));
        assert_eq!(store.session_gate(user.id, session.id, secs(101)).await.unwrap(), SessionGate::Open);
        assert_eq!(store.probe_get(b"k").await.unwrap().as_deref(), Some(b"v".as_slice()));
        assert!(matches!(store.open_code(&number(1), 8, 101).await, ChallengeOpened::Pending { .. }));
    }
}

#[tokio::test]
async fn a_second_handle_is_refused_while_the_first_is_open() {
    let quick = || StoreOptions { lock_wait: Duration::ZERO, ..StoreOptions::default() };
    let store = TestStore::new(Engine::Sled);
    let again = Store::open(store.folder.path(), quick());
    let Err(StoreError::Locked { path }) = again else { panic!("{again:?}") };
    assert_eq!(path, store.folder.path());
    let clone = store.store.clone();
    let TestStore { store, folder, .. } = store;
    drop(store);
    assert!(matches!(Store::open(folder.path(), quick()), Err(StoreError::Locked { .. })));
    drop(clone);
    Store::open(folder.path(), StoreOptions::default()).unwrap();
}

#[tokio::test]
async fn a_process_that_holds_the_folder_is_waited_for() {
    let TestStore { store, folder, .. } = TestStore::new(Engine::Sled);
    let until_closed = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        store.close();
    });
    Store::open(folder.path(), StoreOptions::default()).unwrap();
    until_closed.join().unwrap();
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let TestStore { store, folder, .. } = TestStore::new(Engine::Sled);
    drop(store);
    raw(folder.path()).insert("mformat", &7u64.to_be_bytes()).unwrap();
    let refused = Store::open(folder.path(), StoreOptions::default()).unwrap_err();
    assert!(matches!(refused, StoreError::FormatNewer { found: 7, supported: 6, .. }));
    assert!(refused.to_string().ends_with("has format 7; this program reads formats up to 6"), "{refused}");
    assert_eq!(raw(folder.path()).get("mformat").unwrap().unwrap(), 7u64.to_be_bytes());
}

#[tokio::test]
async fn somebody_elses_database_is_refused() {
    for segment_bytes in [SEGMENT_BYTES, SEGMENT_BYTES_BEFORE] {
        let folder = tempfile::tempdir().unwrap();
        raw_with(folder.path(), segment_bytes).insert("theirs", "data").unwrap();
        let refused = Store::open(folder.path(), StoreOptions::default()).unwrap_err();
        assert!(matches!(refused, StoreError::Foreign { .. }));
        assert_eq!(raw_with(folder.path(), segment_bytes).get("theirs").unwrap().unwrap(), "data");
    }
}

#[tokio::test]
async fn a_database_with_the_segments_of_the_version_before_is_used_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let long = |seed: u8| vec![seed; 30_000];
    let before = raw_with(folder.path(), 4 * 1024 * 1024);
    before.insert("mformat", &4u64.to_be_bytes()).unwrap();
    before.insert("bkept", long(1)).unwrap();
    before.insert("bchanged", long(2)).unwrap();
    before.flush().unwrap();
    drop(before);
    let settings = || std::fs::read(folder.path().join("sled/conf")).unwrap();
    let settings_before = settings();
    for seed in [2, 3, 4] {
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        assert_eq!(store.probe_get(b"kept").await.unwrap().unwrap(), long(1));
        assert_eq!(store.probe_get(b"changed").await.unwrap().unwrap(), long(seed));
        store.probe_put(b"changed", &long(seed + 1)).await.unwrap();
    }
    assert_eq!(settings(), settings_before);
}

#[tokio::test]
async fn what_is_too_long_for_the_engine_is_refused_and_nothing_else_is() {
    let store = TestStore::new(Engine::Sled);
    // The key of a probe has one byte more.
    let (key, value) = (vec![1; 899], vec![2; 40 * 1024 - 900]);
    store.probe_put(&key, &value).await.unwrap();
    assert_eq!(store.probe_get(&key).await.unwrap().unwrap(), value);
    let longer = store.probe_put(&key, &[&value[..], &[2]].concat()).await;
    assert!(matches!(longer, Err(StoreError::TooLarge { bytes: 40_961, max: 40_960 })), "{longer:?}");
    let longer = store.probe_put(&[&key[..], &[1]].concat(), b"").await;
    assert!(matches!(longer, Err(StoreError::TooLarge { bytes: 901, max: 900 })), "{longer:?}");
    assert_eq!(store.probe_get(&key).await.unwrap().unwrap(), value);
}

#[tokio::test]
async fn a_record_of_a_newer_schema_is_an_error_and_not_a_guess() {
    let TestStore { store, folder, .. } = TestStore::new(Engine::Sled);
    drop(store);
    let mut key = vec![b'u'];
    key.extend_from_slice(&1u64.to_be_bytes());
    raw(folder.path()).insert(key, &[9, 1, 2, 3]).unwrap();
    let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
    let error = store.user_get(chelseru_store::UserId(1)).await.unwrap_err().to_string();
    assert_eq!(error, "user record is not readable: schema version 9; this program reads 3");
    let error = store.user_set_active(chelseru_store::UserId(1), false).await.unwrap_err();
    assert!(matches!(error, StoreError::Record { kind: "user", .. }));
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = Store::open(file.join("store"), StoreOptions::default()).unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }));
}

#[tokio::test]
async fn a_closed_store_refuses_changes_and_still_reads() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (user, _) = store.log_in(NUMBER, 100).await;
        assert_eq!(store.health(), Health::Serving);
        store.close();
        store.close();
        assert_eq!(store.health(), Health::Closed);
        assert!(matches!(store.probe_put(b"k", b"v").await, Err(StoreError::Closed)));
        assert!(store.user_get(user.id).await.unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_share_flushes() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let before = store.commit_stats();
        let callers: Vec<_> = (0..64u64)
            .map(|caller| {
                let store = store.store.clone();
                tokio::spawn(async move {
                    for n in 0..50u64 {
                        let key = (caller << 32 | n).to_be_bytes();
                        store.probe_put(&key, &key).await.unwrap();
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        let after = store.commit_stats();
        let (batches, changes) = (after.batches - before.batches, after.changes - before.changes);
        assert_eq!(changes, 3200);
        // 50 rounds of 64 would be 50 batches; one flush per change 3200. PostgreSQL shares flushes by itself.
        let most = if engine == Engine::Sled { 800 } else { changes };
        assert!(batches <= most, "{batches} batches for {changes} changes");
        for caller in 0..64u64 {
            let key = (caller << 32 | 49).to_be_bytes();
            assert_eq!(store.probe_get(&key).await.unwrap().as_deref(), Some(key.as_slice()));
        }
    }
}
