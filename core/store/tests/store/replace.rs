//! A store that takes the place of another: whole or not at all.

use std::fs;
use std::path::Path;

use chelseru_store::{Store, StoreError, StoreOptions};

fn open(path: &Path) -> Store {
    loop {
        // The engine lets go of its lock a moment after its last handle is gone.
        match Store::open(path, StoreOptions::default()) {
            Err(StoreError::Locked { .. }) => std::thread::yield_now(),
            opened => break opened.unwrap(),
        }
    }
}

/// A store with some values under a name, closed.
async fn filled(path: &Path, name: &str, values: u64) {
    let store = open(path);
    for n in 0..values {
        store.probe_put(format!("{name}-{n}").as_bytes(), name.as_bytes()).await.unwrap();
    }
    store.close();
}

/// How many values of each name a store has.
async fn values(path: &Path) -> [usize; 2] {
    let store = open(path);
    let mut counts = [0, 0];
    for (count, name) in counts.iter_mut().zip(["old", "new"]) {
        for n in 0..100 {
            let value = store.probe_get(format!("{name}-{n}").as_bytes()).await.unwrap();
            *count += usize::from(value.is_some());
        }
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_takes_the_place_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let (own, other) = (dir.path().join("own"), dir.path().join("other"));
    // More batches than the one that takes its place has: their count must not matter.
    filled(&own, "old", 60).await;
    filled(&other, "new", 20).await;
    open(&own).replace(&own, &other).unwrap();
    assert_eq!(values(&own).await, [0, 20]);
    filled(&own, "old", 3).await;
    assert_eq!(values(&own).await, [3, 20]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_in_use_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (own, other) = (dir.path().join("own"), dir.path().join("other"));
    filled(&own, "old", 5).await;
    filled(&other, "new", 5).await;
    let store = open(&own);
    let again = store.clone();
    assert!(matches!(store.replace(&own, &other), Err(StoreError::Locked { .. })));
    assert!(again.probe_get(b"old-1").await.unwrap().is_some());
    drop(again);
    assert!(open(&own).replace(&own, &dir.path().join("missing")).is_err());
    assert_eq!(values(&own).await, [5, 0]);
    assert_eq!(values(&other).await, [0, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replacement_that_was_cut_off_leaves_one_of_the_two_whole() {
    let dir = tempfile::tempdir().unwrap();
    // The steps of `folder::replace`, as far as a power cut let them come.
    for (step, expected) in [(1, [9, 0]), (2, [9, 0]), (3, [0, 4]), (4, [0, 4])] {
        let (own, other) = (dir.path().join(format!("own-{step}")), dir.path().join(format!("other-{step}")));
        filled(&own, "old", 9).await;
        filled(&other, "new", 4).await;
        // Closed for certain, so that its files can move.
        drop((open(&own), open(&other)));
        fs::remove_file(own.join("acknowledged")).unwrap();
        if step >= 2 {
            fs::rename(other.join("sled"), own.join("sled.new")).unwrap();
        }
        if step >= 3 {
            fs::rename(own.join("sled"), own.join("sled.old")).unwrap();
        }
        if step >= 4 {
            fs::rename(own.join("sled.new"), own.join("sled")).unwrap();
        }
        assert_eq!(values(&own).await, expected, "step {step}");
        assert!(!own.join("sled.new").exists() && !own.join("sled.old").exists(), "step {step}");
    }
}
