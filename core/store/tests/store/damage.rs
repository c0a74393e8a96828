//! Damage is detected: a flipped bit is refused on open, fails on read, or changes nothing.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;

use chelseru_store::{StoreError, UserId};

use super::*;

const FLIPS: usize = 200;
const RECORDS: u64 = 3000;

/// xorshift64*: fixed numbers for a fixed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound.max(1)
    }
}

/// Everything the store returns of what was put into it; an error is an answer, too.
async fn contents(store: &Store) -> Result<BTreeMap<u64, Option<Vec<u8>>>, StoreError> {
    let mut found = BTreeMap::new();
    for n in 0..RECORDS {
        found.insert(n, store.probe_get(&n.to_be_bytes()).await?);
    }
    for user in 1..=20 {
        store.user_get(UserId(user)).await?;
        store.wallet_balance(UserId(user)).await?;
    }
    store.ledger_verify().await?;
    Ok(found)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A store with a snapshot and a log behind it, as `kill -9` leaves it. Records are written, overwritten and removed.
async fn killed(folder: &Path) -> BTreeMap<u64, Option<Vec<u8>>> {
    let live = tempfile::tempdir().unwrap();
    let path = live.path().join("db");
    let mut random = Random(7);
    for run in 0..2_u64 {
        let store = Store::open(&path, StoreOptions::default()).unwrap();
        for batch in 0..30 {
            let puts = (0..100).map(|n| {
                let key = (batch * 100 + n) % RECORDS;
                let value = vec![run as u8 + 1; random.below(2000) as usize];
                let store = store.clone();
                async move { store.probe_put(&key.to_be_bytes(), &value).await.unwrap() }
            });
            futures_join(puts.collect()).await;
            store.ledger_probe(format!("{run}-{batch}"), UserId(batch % 20 + 1), 10, secs(1)).await.unwrap();
        }
        if run == 1 {
            // Copied while open and idle: the state that the end of the process leaves.
            copy(&path, &folder.join("db"));
            return contents(&store).await.unwrap();
        }
    }
    unreachable!("the second run returns")
}

async fn futures_join<F: Future<Output = ()> + Send + 'static>(all: Vec<F>) {
    let tasks: Vec<_> = all.into_iter().map(tokio::spawn).collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_is_refused_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let expected = killed(folder.path()).await;
    let whole = folder.path().join("db");
    let opened = folder.path().join("unflipped");
    copy(&whole, &opened);
    assert_eq!(contents(&Store::open(&opened, StoreOptions::default()).unwrap()).await.unwrap(), expected);

    let mut files = vec!["acknowledged".into(), "sled/conf".into()];
    for entry in std::fs::read_dir(whole.join("sled")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("snap.") {
            files.push(format!("sled/{name}"));
        }
    }
    let mut random = Random(20_261_126);
    let (mut refused, mut harmless) = (0, 0);
    for n in 0..FLIPS {
        // Nine of ten flips hit the log, which is nearly all of the store.
        let file = if n % 10 == 9 { files[n / 10 % files.len()].clone() } else { "sled/db".to_owned() };
        let path = folder.path().join(format!("flip-{n}"));
        copy(&whole, &path);
        let target = std::fs::OpenOptions::new().read(true).write(true).open(path.join(&file)).unwrap();
        let (at, bit) = (random.below(target.metadata().unwrap().len()), random.below(8));
        let mut byte = [0];
        target.read_exact_at(&mut byte, at).unwrap();
        target.write_all_at(&[byte[0] ^ 1 << bit], at).unwrap();
        let context = format!("bit {bit} of byte {at} of {file}");
        match is_refused(&path, &expected, &context).await {
            true => refused += 1,
            false => harmless += 1,
        }
        std::fs::remove_dir_all(&path).unwrap();
    }
    // Most of the log is still needed; flips that hit nothing would prove nothing.
    assert!(refused > FLIPS / 4, "{refused} refused, {harmless} harmless");
}

/// Whether a damaged store is refused, or says so when it is read. Otherwise everything is there.
async fn is_refused(path: &Path, expected: &BTreeMap<u64, Option<Vec<u8>>>, context: &str) -> bool {
    match Store::open(path, StoreOptions::default()) {
        Err(StoreError::Damaged { found, .. }) => {
            assert!(!found.contains("panicked") && !found.contains("unwrap"), "{context}: {found}");
            true
        }
        Err(error) => panic!("{context}: {error}"),
        Ok(store) => match contents(&store).await {
            Err(_) => true,
            Ok(found) => {
                assert!(found == *expected, "{context}: something else is there, and nothing said so");
                false
            }
        },
    }
}

/// A block of a file system, which is what a disk loses at a time.
const BLOCK: usize = 4096;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_without_its_start_is_refused_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let expected = killed(folder.path()).await;
    let whole = folder.path().join("db");
    let log = std::fs::read(whole.join("sled/db")).unwrap();
    let mut random = Random(20_261_129);
    let garbage: Vec<u8> = (0..16 * BLOCK).map(|_| random.below(256) as u8).collect();
    let mut refused = 0;
    for (segment, content) in log.chunks(SEGMENT_BYTES).enumerate() {
        if content.iter().all(|byte| *byte == 0) {
            continue;
        }
        for blocks in [1, 16] {
            for start in [vec![0; blocks * BLOCK], garbage[..blocks * BLOCK].to_vec()] {
                let context = format!("segment {segment}, {blocks} blocks of {}", start[0]);
                let path = folder.path().join("damaged");
                copy(&whole, &path);
                let target = std::fs::OpenOptions::new().write(true).open(path.join("sled/db")).unwrap();
                target.write_all_at(&start, (segment * SEGMENT_BYTES) as u64).unwrap();
                refused += usize::from(is_refused(&path, &expected, &context).await);
                std::fs::remove_dir_all(&path).unwrap();
            }
        }
    }
    assert!(refused > 20, "{refused} refused of {} bytes", log.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_cut_is_refused_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let expected = killed(folder.path()).await;
    let whole = folder.path().join("db");
    let bytes = std::fs::metadata(whole.join("sled/db")).unwrap().len();
    let mut random = Random(20_261_129);
    let mut refused = 0;
    for cut in (0..bytes).step_by(SEGMENT_BYTES / 2) {
        // Anywhere, and where a file system would cut.
        for at in [cut + random.below(1 << 18), (cut + random.below(1 << 18)) & !4095] {
            let path = folder.path().join("cut");
            copy(&whole, &path);
            let target = std::fs::OpenOptions::new().write(true).open(path.join("sled/db")).unwrap();
            target.set_len(at.min(bytes)).unwrap();
            refused += usize::from(is_refused(&path, &expected, &format!("cut at {at} of {bytes}")).await);
            std::fs::remove_dir_all(&path).unwrap();
        }
    }
    assert!(refused > 20, "{refused} refused of {bytes} bytes");
}

#[tokio::test]
async fn a_store_that_lost_its_last_batches_is_refused_until_the_loss_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let store = Store::open(&path, StoreOptions::default()).unwrap();
    store.probe_put(b"early", b"1").await.unwrap();
    copy(&path.join("sled"), &folder.path().join("older"));
    store.probe_put(b"late", b"2").await.unwrap();
    drop(store);
    // An older copy of the database is put back by hand.
    std::fs::remove_dir_all(path.join("sled")).unwrap();
    copy(&folder.path().join("older"), &path.join("sled"));
    for _ in 0..2 {
        let Err(StoreError::Damaged { found, .. }) = Store::open(&path, StoreOptions::default()) else {
            panic!("the older database was opened")
        };
        assert!(found.starts_with("it ends with batch 2, but batch 3 was answered;"), "{found}");
    }
    std::fs::remove_file(path.join("acknowledged")).unwrap();
    let store = Store::open(&path, StoreOptions::default()).unwrap();
    assert_eq!(store.probe_get(b"early").await.unwrap().unwrap(), b"1");
    assert_eq!(store.probe_get(b"late").await.unwrap(), None);
}

#[tokio::test]
async fn a_snapshot_that_was_being_written_is_not_taken_for_one() {
    let store = TestStore::new(Engine::Sled);
    store.probe_put(b"k", b"v").await.unwrap();
    let store = store.reopened();
    let TestStore { store, folder, .. } = store;
    store.close();
    drop(store);
    for content in ["", "half a snapshot"] {
        let leftover = folder.path().join("sled/snap.7FFFFFFFFFFFFFFF.generating");
        std::fs::write(&leftover, content).unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        assert_eq!(store.probe_get(b"k").await.unwrap().unwrap(), b"v");
        assert!(!leftover.exists());
    }
}

#[tokio::test]
async fn a_record_that_is_too_long_is_refused_alone() {
    let store = TestStore::new(Engine::Sled);
    let most = 40 * 1024 - 1 - b"k".len();
    store.probe_put(b"k", &vec![1; most]).await.unwrap();
    let refused = store.probe_put(b"k", &vec![2; most + 1]).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { bytes: 40_961, max: 40_960 })), "{refused:?}");
    assert_eq!(store.probe_get(b"k").await.unwrap().unwrap(), vec![1; most]);
    store.probe_put(b"k", b"short").await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn what_the_operating_system_says_reaches_the_operator() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sled"), "somebody else's file").unwrap();
    let error = Store::open(folder.path(), StoreOptions::default()).unwrap_err();
    let StoreError::Open { source, .. } = &error else { panic!("{error}") };
    assert!(error.to_string().contains(&source.to_string()), "{error}");
    assert!(source.to_string().contains("directory"), "{source}");
}
