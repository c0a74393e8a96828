//! A store that is opened beside other work: nothing happens to it before the start is decided.

use std::fs;
use std::time::Instant;

use chelseru_store::Opening;

use super::*;

fn begin(folder: &Path) -> Opening {
    Opening::begin(folder, StoreOptions::default())
}

#[tokio::test]
async fn what_was_answered_is_there() {
    let TestStore { store, folder, .. } = TestStore::new(Engine::Sled);
    store.probe_put(b"k", b"v").await.unwrap();
    drop(store);
    // Twice: the first one lets go of the folder.
    drop(begin(folder.path()));
    let store = begin(folder.path()).finish().unwrap();
    assert_eq!(store.probe_get(b"k").await.unwrap().as_deref(), Some(b"v".as_slice()));
    store.probe_put(b"k", b"w").await.unwrap();
}

#[tokio::test]
async fn nothing_is_made_converted_or_migrated_before_it_is_finished() {
    let parent = tempfile::tempdir().unwrap();
    let missing = parent.path().join("missing");
    drop(begin(&missing));
    assert!(!missing.exists());
    begin(&missing).finish().unwrap();
    assert!(missing.join("sled").exists());

    let older = parent.path().join("older");
    let raw = |segment_bytes: usize| {
        let config = sled::Config::new().path(older.join("sled")).segment_size(segment_bytes);
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            match config.open() {
                Err(_) if Instant::now() < until => std::thread::yield_now(),
                opened => return opened.unwrap(),
            }
        }
    };
    raw(SEGMENT_BYTES_BEFORE).insert("mformat", &3u64.to_be_bytes()).unwrap();
    let settings = || fs::read(older.join("sled/conf")).unwrap();
    let before = settings();
    drop(begin(&older));
    assert_eq!(settings(), before, "it was converted");
    drop(begin(&older).finish().unwrap());
    assert_ne!(settings(), before);

    raw(SEGMENT_BYTES).insert("mformat", &3u64.to_be_bytes()).unwrap();
    drop(begin(&older));
    let format = || raw(SEGMENT_BYTES).get("mformat").unwrap().unwrap().to_vec();
    assert_eq!(format(), 3u64.to_be_bytes(), "it was migrated");
    drop(begin(&older).finish().unwrap());
    assert_eq!(format(), 6u64.to_be_bytes());
}

#[tokio::test]
async fn somebody_who_holds_the_folder_is_waited_for_when_it_is_finished() {
    let TestStore { store, folder, .. } = TestStore::new(Engine::Sled);
    let started = Instant::now();
    drop(begin(folder.path()));
    assert!(started.elapsed() < Duration::from_secs(5), "dropping it waited for the other one");
    let opening = begin(folder.path());
    let until_closed = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        drop(store);
    });
    opening.finish().unwrap();
    until_closed.join().unwrap();
}

#[tokio::test]
async fn damage_is_told_when_it_is_finished() {
    let TestStore { store, folder, .. } = TestStore::new(Engine::Sled);
    store.probe_put(b"k", b"v").await.unwrap();
    drop(store);
    fs::write(folder.path().join("importing"), "").unwrap();
    let opening = begin(folder.path());
    assert!(matches!(opening.finish(), Err(chelseru_store::StoreError::HalfImported { .. })));
}
